//! Packets of 5.0 as the crate has them, to ours and back.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use rmqtt_codec::types::Publish as WirePublish;
use rmqtt_codec::v5::{
    Auth, AuthReasonCode, Connect as WireConnect, ConnectAck, ConnectAckReason, Disconnect, DisconnectReasonCode,
    LastWill, Packet as Wire, PublishAck, PublishAck2, PublishAck2Reason, PublishAckReason, PublishProperties,
    RetainHandling as WireRetainHandling, Subscribe as WireSubscribe, SubscribeAck, SubscribeAckReason,
    SubscriptionOptions, Unsubscribe, UnsubscribeAck, UnsubscribeAckReason, UserProperties,
};

use super::{message, qos_in, qos_out};
use crate::clock::Timestamp;
use crate::message::{Message, Properties, QoS};
use crate::mqtt::{
    Ack, ConnAck, Connect, Packet, Publish, Reason, RetainHandling, Subscribe, SubscribeOptions, Version, Will,
};

pub(super) fn decode(packet: Wire) -> Packet {
    match packet {
        Wire::Connect(c) => Packet::Connect(Box::new(connect_in(*c))),
        Wire::ConnectAck(c) => Packet::ConnAck(Box::new(connack_in(*c))),
        Wire::Publish(p) => Packet::Publish(publish_in(*p)),
        Wire::PublishAck(a) => Packet::PubAck(Ack { id: a.packet_id, reason: Reason(a.reason_code.into()) }),
        Wire::PublishReceived(a) => Packet::PubRec(Ack { id: a.packet_id, reason: Reason(a.reason_code.into()) }),
        Wire::PublishRelease(a) => Packet::PubRel(Ack { id: a.packet_id, reason: Reason(a.reason_code.into()) }),
        Wire::PublishComplete(a) => Packet::PubComp(Ack { id: a.packet_id, reason: Reason(a.reason_code.into()) }),
        Wire::Subscribe(s) => Packet::Subscribe(Box::new(Subscribe {
            id: s.packet_id,
            filters: s.topic_filters.into_iter().map(|(filter, o)| (Arc::from(&*filter), options_in(o))).collect(),
            subscription_id: s.id.map(NonZeroU32::get),
        })),
        Wire::SubscribeAck(s) => {
            Packet::SubAck { id: s.packet_id, reasons: s.status.into_iter().map(|code| Reason(code.into())).collect() }
        }
        Wire::Unsubscribe(u) => Packet::Unsubscribe {
            id: u.packet_id,
            filters: u.topic_filters.into_iter().map(|filter| Arc::from(&*filter)).collect(),
        },
        Wire::UnsubscribeAck(u) => Packet::UnsubAck {
            id: u.packet_id,
            reasons: u.status.into_iter().map(|code| Reason(code.into())).collect(),
        },
        Wire::PingRequest => Packet::PingReq,
        Wire::PingResponse => Packet::PingResp,
        Wire::Disconnect(d) => {
            Packet::Disconnect { reason: Reason(d.reason_code.into()), expiry: d.session_expiry_interval_secs }
        }
        Wire::Auth(a) => Packet::Auth { reason: a.reason_code.into() },
    }
}

fn connect_in(c: WireConnect) -> Connect {
    Connect {
        version: Version::V5,
        client_id: (&*c.client_id).into(),
        clean_start: c.clean_start,
        expiry: c.session_expiry_interval_secs,
        keep_alive: Duration::from_secs(c.keep_alive.into()),
        user: c.username.map(|user| (&*user).into()),
        password: c.password,
        will: c.last_will.map(|w| Will {
            delay: Duration::from_secs(w.will_delay_interval_sec.unwrap_or(0).into()),
            message: Message {
                properties: properties(Properties {
                    utf8: w.is_utf8_payload.unwrap_or(false),
                    expiry: w.message_expiry_interval.map(NonZeroU32::get),
                    content_type: w.content_type.map(|text| (&*text).into()),
                    response_topic: w.response_topic.map(|text| (&*text).into()),
                    correlation: w.correlation_data.map(|bytes| bytes.to_vec()),
                    user: user_in(&w.user_properties),
                }),
                ..message(&w.topic, w.message, w.qos, w.retain)
            },
        }),
        receive_maximum: c.receive_max.unwrap_or(NonZeroU16::MAX),
        maximum_packet_size: c.max_packet_size.map(NonZeroU32::get),
        topic_alias_maximum: c.topic_alias_max,
        authentication_method: c.auth_method.map(|method| (&*method).into()),
    }
}

fn connack_in(c: ConnectAck) -> ConnAck {
    ConnAck {
        reason: Reason(c.reason_code.into()),
        session_present: c.session_present,
        assigned_client_id: c.assigned_client_id.map(|id| (&*id).into()),
        receive_maximum: c.receive_max,
        maximum_packet_size: c.max_packet_size,
        topic_alias_maximum: c.topic_alias_max,
        maximum_qos: qos_in(c.max_qos),
        retain_available: c.retain_available,
        server_keep_alive: c.server_keepalive_sec,
        expiry: c.session_expiry_interval_secs,
        shared_available: c.shared_subscription_available,
        reason_string: c.reason_string.map(|text| (&*text).into()),
    }
}

fn publish_in(p: WirePublish) -> Publish {
    let mut message = message(&p.topic, p.payload, p.qos, p.retain);
    let (mut topic_alias, mut subscription_ids) = (None, Vec::new());
    if let Some(wire) = p.properties {
        topic_alias = wire.topic_alias;
        subscription_ids = wire.subscription_ids.into_iter().map(NonZeroU32::get).collect();
        message.properties = properties(Properties {
            utf8: wire.is_utf8_payload,
            expiry: wire.message_expiry_interval.map(NonZeroU32::get),
            content_type: wire.content_type.map(|text| (&*text).into()),
            response_topic: wire.response_topic.map(|text| (&*text).into()),
            correlation: wire.correlation_data.map(|bytes| bytes.to_vec()),
            user: user_in(&wire.user_properties),
        });
    }
    Publish {
        id: p.packet_id,
        dup: p.dup,
        qos: qos_in(p.qos),
        retain: p.retain,
        message: Arc::new(message),
        topic_alias,
        subscription_ids,
    }
}

fn properties(properties: Properties) -> Option<Box<Properties>> {
    (properties != Properties::default()).then(|| Box::new(properties))
}

fn user_in(properties: &UserProperties) -> Vec<(Arc<str>, Arc<str>)> {
    properties.iter().map(|(name, value)| (Arc::from(&**name), Arc::from(&**value))).collect()
}

fn options_in(o: SubscriptionOptions) -> SubscribeOptions {
    SubscribeOptions {
        qos: qos_in(o.qos),
        no_local: o.no_local,
        retain_as_published: o.retain_as_published,
        retain_handling: match o.retain_handling {
            WireRetainHandling::AtSubscribe => RetainHandling::Send,
            WireRetainHandling::AtSubscribeNew => RetainHandling::SendIfNew,
            WireRetainHandling::NoAtSubscribe => RetainHandling::DoNotSend,
        },
    }
}

pub(super) fn encode(packet: &Packet) -> Wire {
    match packet {
        Packet::Connect(c) => Wire::Connect(Box::new(connect_out(c))),
        Packet::ConnAck(c) => Wire::ConnectAck(Box::new(connack_out(c))),
        Packet::Publish(p) => Wire::Publish(Box::new(publish_out(p))),
        Packet::PubAck(a) => Wire::PublishAck(ack_out(*a)),
        Packet::PubRec(a) => Wire::PublishReceived(ack_out(*a)),
        Packet::PubRel(a) => Wire::PublishRelease(ack2_out(*a)),
        Packet::PubComp(a) => Wire::PublishComplete(ack2_out(*a)),
        Packet::Subscribe(s) => Wire::Subscribe(WireSubscribe {
            packet_id: s.id,
            id: s.subscription_id.and_then(NonZeroU32::new),
            user_properties: UserProperties::new(),
            topic_filters: s.filters.iter().map(|(filter, o)| ((&**filter).into(), options_out(*o))).collect(),
        }),
        Packet::SubAck { id, reasons } => Wire::SubscribeAck(SubscribeAck {
            packet_id: *id,
            properties: UserProperties::new(),
            reason_string: None,
            status: codes(reasons, SubscribeAckReason::UnspecifiedError),
        }),
        Packet::Unsubscribe { id, filters } => Wire::Unsubscribe(Unsubscribe {
            packet_id: *id,
            user_properties: UserProperties::new(),
            topic_filters: filters.iter().map(|filter| (&**filter).into()).collect(),
        }),
        Packet::UnsubAck { id, reasons } => Wire::UnsubscribeAck(UnsubscribeAck {
            packet_id: *id,
            properties: UserProperties::new(),
            reason_string: None,
            status: codes(reasons, UnsubscribeAckReason::UnspecifiedError),
        }),
        Packet::PingReq => Wire::PingRequest,
        Packet::PingResp => Wire::PingResponse,
        Packet::Disconnect { reason, expiry } => Wire::Disconnect(Disconnect {
            reason_code: DisconnectReasonCode::try_from(reason.0).unwrap_or(DisconnectReasonCode::UnspecifiedError),
            session_expiry_interval_secs: *expiry,
            server_reference: None,
            reason_string: None,
            user_properties: UserProperties::new(),
        }),
        Packet::Auth { reason } => Wire::Auth(Auth {
            reason_code: AuthReasonCode::try_from(*reason).unwrap_or(AuthReasonCode::Success),
            auth_method: None,
            auth_data: None,
            reason_string: None,
            user_properties: UserProperties::new(),
        }),
    }
}

fn connect_out(c: &Connect) -> WireConnect {
    WireConnect {
        clean_start: c.clean_start,
        keep_alive: u16::try_from(c.keep_alive.as_secs()).unwrap_or(u16::MAX),
        session_expiry_interval_secs: c.expiry,
        receive_max: Some(c.receive_maximum),
        topic_alias_max: c.topic_alias_maximum,
        max_packet_size: c.maximum_packet_size.and_then(NonZeroU32::new),
        auth_method: c.authentication_method.as_deref().map(Into::into),
        last_will: c.will.as_ref().map(|will| {
            let properties = will.message.properties.as_deref().cloned().unwrap_or_default();
            LastWill {
                qos: qos_out(will.message.qos),
                retain: will.message.retain,
                topic: (&*will.message.topic).into(),
                message: will.message.payload.clone(),
                will_delay_interval_sec: (!will.delay.is_zero())
                    .then(|| u32::try_from(will.delay.as_secs()).unwrap_or(u32::MAX)),
                correlation_data: properties.correlation.map(Into::into),
                message_expiry_interval: properties.expiry.and_then(NonZeroU32::new),
                content_type: properties.content_type.as_deref().map(Into::into),
                user_properties: user_out(&properties.user),
                is_utf8_payload: properties.utf8.then_some(true),
                response_topic: properties.response_topic.as_deref().map(Into::into),
            }
        }),
        client_id: (&*c.client_id).into(),
        username: c.user.as_deref().map(Into::into),
        password: c.password.clone(),
        ..WireConnect::default()
    }
}

fn connack_out(c: &ConnAck) -> ConnectAck {
    ConnectAck {
        session_present: c.session_present,
        reason_code: ConnectAckReason::try_from(c.reason.0).unwrap_or(ConnectAckReason::UnspecifiedError),
        session_expiry_interval_secs: c.expiry,
        receive_max: c.receive_maximum,
        max_qos: qos_out(c.maximum_qos),
        max_packet_size: c.maximum_packet_size,
        assigned_client_id: c.assigned_client_id.as_deref().map(Into::into),
        topic_alias_max: c.topic_alias_maximum,
        retain_available: c.retain_available,
        wildcard_subscription_available: true,
        subscription_identifiers_available: true,
        shared_subscription_available: c.shared_available,
        server_keepalive_sec: c.server_keep_alive,
        response_info: None,
        server_reference: None,
        auth_method: None,
        auth_data: None,
        reason_string: c.reason_string.as_deref().map(Into::into),
        user_properties: UserProperties::new(),
    }
}

fn publish_out(p: &Publish) -> WirePublish {
    let mut wire = PublishProperties {
        topic_alias: p.topic_alias,
        subscription_ids: p.subscription_ids.iter().filter_map(|id| NonZeroU32::new(*id)).collect(),
        ..PublishProperties::default()
    };
    if let Some(properties) = &p.message.properties {
        wire.is_utf8_payload = properties.utf8;
        // The time a message has waited here is taken off (MQTT-3.3.2-6); an expired one is not sent at all.
        let waited = p.message.at.age_at(Timestamp::now()).as_secs();
        wire.message_expiry_interval = properties.expiry.and_then(|seconds| {
            NonZeroU32::new(seconds.saturating_sub(u32::try_from(waited).unwrap_or(u32::MAX)).max(1))
        });
        wire.content_type = properties.content_type.as_deref().map(Into::into);
        wire.response_topic = properties.response_topic.as_deref().map(Into::into);
        wire.correlation_data = properties.correlation.clone().map(Into::into);
        wire.user_properties = user_out(&properties.user);
    }
    WirePublish {
        dup: p.dup,
        retain: p.retain,
        qos: qos_out(p.qos),
        topic: (&*p.message.topic).into(),
        packet_id: if p.qos == QoS::AtMostOnce { None } else { p.id },
        payload: p.message.payload.clone(),
        properties: Some(wire),
    }
}

fn ack_out(ack: Ack) -> PublishAck {
    PublishAck {
        packet_id: ack.id,
        reason_code: PublishAckReason::try_from(ack.reason.0).unwrap_or(PublishAckReason::UnspecifiedError),
        properties: UserProperties::new(),
        reason_string: None,
    }
}

fn ack2_out(ack: Ack) -> PublishAck2 {
    PublishAck2 {
        packet_id: ack.id,
        reason_code: PublishAck2Reason::try_from(ack.reason.0).unwrap_or(PublishAck2Reason::PacketIdNotFound),
        properties: UserProperties::new(),
        reason_string: None,
    }
}

fn user_out(user: &[(Arc<str>, Arc<str>)]) -> UserProperties {
    user.iter().map(|(name, value)| ((&**name).into(), (&**value).into())).collect()
}

fn options_out(o: SubscribeOptions) -> SubscriptionOptions {
    SubscriptionOptions {
        qos: qos_out(o.qos),
        no_local: o.no_local,
        retain_as_published: o.retain_as_published,
        retain_handling: match o.retain_handling {
            RetainHandling::Send => WireRetainHandling::AtSubscribe,
            RetainHandling::SendIfNew => WireRetainHandling::AtSubscribeNew,
            RetainHandling::DoNotSend => WireRetainHandling::NoAtSubscribe,
        },
    }
}

fn codes<T: TryFrom<u8> + Copy>(reasons: &[Reason], otherwise: T) -> Vec<T> {
    reasons.iter().map(|reason| T::try_from(reason.0).unwrap_or(otherwise)).collect()
}
