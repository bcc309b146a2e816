//! Packets of 3.1 and 3.1.1 as the crate has them, to ours and back.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use rmqtt_codec::types::{MQTT_LEVEL_31, MQTT_LEVEL_311, Protocol, Publish as WirePublish};
use rmqtt_codec::v3::SubscribeReturnCode;
use rmqtt_codec::v3::{Connect as WireConnect, ConnectAck, ConnectAckReason, LastWill, Packet as Wire};

use super::{message, qos_in, qos_out};
use crate::message::QoS;
use crate::mqtt::{Ack, ConnAck, Connect, Packet, Publish, Reason, Subscribe, SubscribeOptions, Version, Will};

pub(super) fn decode(packet: Wire) -> Packet {
    match packet {
        Wire::Connect(c) => Packet::Connect(Box::new(connect(*c))),
        Wire::ConnectAck(c) => Packet::ConnAck(Box::new(ConnAck {
            session_present: c.session_present,
            ..ConnAck::new(match c.return_code {
                ConnectAckReason::ConnectionAccepted => Reason::SUCCESS,
                ConnectAckReason::UnacceptableProtocolVersion => Reason::UNSUPPORTED_VERSION,
                ConnectAckReason::IdentifierRejected => Reason::CLIENT_ID_NOT_VALID,
                ConnectAckReason::ServiceUnavailable | ConnectAckReason::Reserved => Reason::SERVER_UNAVAILABLE,
                ConnectAckReason::BadUserNameOrPassword => Reason::BAD_USER_OR_PASSWORD,
                ConnectAckReason::NotAuthorized => Reason::NOT_AUTHORIZED,
            })
        })),
        Wire::Publish(p) => Packet::Publish(Publish {
            id: p.packet_id,
            dup: p.dup,
            qos: qos_in(p.qos),
            retain: p.retain,
            message: Arc::new(message(&p.topic, p.payload, p.qos, p.retain)),
            topic_alias: None,
            subscription_ids: Vec::new(),
        }),
        Wire::PublishAck { packet_id } => Packet::PubAck(Ack::ok(packet_id)),
        Wire::PublishReceived { packet_id } => Packet::PubRec(Ack::ok(packet_id)),
        Wire::PublishRelease { packet_id } => Packet::PubRel(Ack::ok(packet_id)),
        Wire::PublishComplete { packet_id } => Packet::PubComp(Ack::ok(packet_id)),
        Wire::Subscribe { packet_id, topic_filters } => {
            let options = |qos| SubscribeOptions { qos: qos_in(qos), ..SubscribeOptions::default() };
            let filters = topic_filters.into_iter().map(|(filter, qos)| (Arc::from(&*filter), options(qos))).collect();
            Packet::Subscribe(Box::new(Subscribe { id: packet_id, filters, subscription_id: None }))
        }
        Wire::SubscribeAck { packet_id, status } => Packet::SubAck {
            id: packet_id,
            reasons: status
                .into_iter()
                .map(|code| match code {
                    SubscribeReturnCode::Success(qos) => Reason(qos.value()),
                    SubscribeReturnCode::Failure => Reason::UNSPECIFIED,
                })
                .collect(),
        },
        Wire::Unsubscribe { packet_id, topic_filters } => Packet::Unsubscribe {
            id: packet_id,
            filters: topic_filters.into_iter().map(|filter| Arc::from(&*filter)).collect(),
        },
        Wire::UnsubscribeAck { packet_id } => Packet::UnsubAck { id: packet_id, reasons: Vec::new() },
        Wire::PingRequest => Packet::PingReq,
        Wire::PingResponse => Packet::PingResp,
        Wire::Disconnect => Packet::Disconnect { reason: Reason::SUCCESS, expiry: None },
    }
}

fn connect(c: WireConnect) -> Connect {
    Connect {
        version: if c.protocol.level() == MQTT_LEVEL_31 { Version::V31 } else { Version::V311 },
        client_id: (&*c.client_id).into(),
        clean_start: c.clean_session,
        expiry: if c.clean_session { 0 } else { u32::MAX },
        keep_alive: Duration::from_secs(c.keep_alive.into()),
        user: c.username.map(|user| (&*user).into()),
        password: c.password,
        will: c.last_will.map(|will| Will {
            message: message(&will.topic, will.message, will.qos, will.retain),
            delay: Duration::ZERO,
        }),
        receive_maximum: NonZeroU16::MAX,
        maximum_packet_size: None,
        topic_alias_maximum: 0,
        authentication_method: None,
    }
}

/// `None` for what 3.1.1 does not have.
pub(super) fn encode(packet: &Packet) -> Option<Wire> {
    Some(match packet {
        Packet::Connect(c) => Wire::Connect(Box::new(WireConnect {
            // As a client we speak no 3.1; the crate would write its name with the level of 3.1.1.
            protocol: Protocol(MQTT_LEVEL_311),
            clean_session: c.clean_start,
            keep_alive: u16::try_from(c.keep_alive.as_secs()).unwrap_or(u16::MAX),
            last_will: c.will.as_ref().map(|will| LastWill {
                qos: qos_out(will.message.qos),
                retain: will.message.retain,
                topic: (&*will.message.topic).into(),
                message: will.message.payload.clone(),
            }),
            client_id: (&*c.client_id).into(),
            username: c.user.as_deref().map(Into::into),
            password: c.password.clone(),
            cert: None,
        })),
        Packet::ConnAck(c) => Wire::ConnectAck(ConnectAck {
            session_present: c.session_present,
            return_code: match c.reason {
                Reason::SUCCESS => ConnectAckReason::ConnectionAccepted,
                Reason::UNSUPPORTED_VERSION => ConnectAckReason::UnacceptableProtocolVersion,
                Reason::CLIENT_ID_NOT_VALID => ConnectAckReason::IdentifierRejected,
                Reason::BAD_USER_OR_PASSWORD => ConnectAckReason::BadUserNameOrPassword,
                Reason::NOT_AUTHORIZED => ConnectAckReason::NotAuthorized,
                _ => ConnectAckReason::ServiceUnavailable,
            },
        }),
        Packet::Publish(p) => Wire::Publish(Box::new(WirePublish {
            dup: p.dup,
            retain: p.retain,
            qos: qos_out(p.qos),
            topic: (&*p.message.topic).into(),
            packet_id: if p.qos == QoS::AtMostOnce { None } else { p.id },
            payload: p.message.payload.clone(),
            properties: None,
        })),
        Packet::PubAck(ack) => Wire::PublishAck { packet_id: ack.id },
        Packet::PubRec(ack) => Wire::PublishReceived { packet_id: ack.id },
        Packet::PubRel(ack) => Wire::PublishRelease { packet_id: ack.id },
        Packet::PubComp(ack) => Wire::PublishComplete { packet_id: ack.id },
        Packet::Subscribe(s) => Wire::Subscribe {
            packet_id: s.id,
            topic_filters: s.filters.iter().map(|(filter, o)| ((&**filter).into(), qos_out(o.qos))).collect(),
        },
        Packet::SubAck { id, reasons } => Wire::SubscribeAck {
            packet_id: *id,
            status: reasons
                .iter()
                .map(|reason| match QoS::try_from(reason.0) {
                    Ok(qos) => SubscribeReturnCode::Success(qos_out(qos)),
                    Err(_) => SubscribeReturnCode::Failure,
                })
                .collect(),
        },
        Packet::Unsubscribe { id, filters } => Wire::Unsubscribe {
            packet_id: *id,
            topic_filters: filters.iter().map(|filter| (&**filter).into()).collect(),
        },
        Packet::UnsubAck { id, .. } => Wire::UnsubscribeAck { packet_id: *id },
        Packet::PingReq => Wire::PingRequest,
        Packet::PingResp => Wire::PingResponse,
        Packet::Disconnect { reason: Reason::SUCCESS, .. } => Wire::Disconnect,
        Packet::Disconnect { .. } | Packet::Auth { .. } => return None,
    })
}
