//! CONNACK (MQTT 5.0, 3.2; MQTT 3.1.1, 3.2). Pure.

use std::num::NonZeroU16;

use super::acks::known;
use super::header::Peer;
use super::properties::{self, Properties, Property, misplaced};
use super::read::Cursor;
use super::write::Put;
use super::{Error, bad};
use crate::message::QoS;
use crate::mqtt::{ConnAck, Reason, Version};

pub(super) fn read(version: Version, from: &mut Cursor) -> Result<ConnAck, Error> {
    // 3.1 has a reserved byte where 3.1.1 has the flags.
    let flags = if version == Version::V31 { from.u8().map(|_| 0)? } else { from.u8()? };
    if flags & 0xFE != 0 {
        return bad(Reason::MALFORMED, "reserved flags of CONNACK are set [MQTT-3.2.2-1]");
    }
    let code = from.u8()?;
    let mut ack = ConnAck::new(match version {
        Version::V5 => known(Peer::Server, code, &[0x00])?,
        _ => match code {
            0 => Reason::SUCCESS,
            1 => Reason::UNSUPPORTED_VERSION,
            2 => Reason::CLIENT_ID_NOT_VALID,
            3 => Reason::SERVER_UNAVAILABLE,
            4 => Reason::BAD_USER_OR_PASSWORD,
            5 => Reason::NOT_AUTHORIZED,
            _ => return bad(Reason::MALFORMED, "a return code that CONNACK does not have (MQTT 3.1.1, 3.2.2.3)"),
        },
    });
    ack.session_present = flags != 0;
    if ack.session_present && ack.reason.is_error() {
        return bad(Reason::PROTOCOL_ERROR, "a session is present in a CONNACK that refuses [MQTT-3.2.2-6]");
    }
    if version == Version::V5 {
        read_properties(&mut ack, from)?;
    }
    Ok(ack)
}

fn read_properties(ack: &mut ConnAck, from: &mut Cursor) -> Result<(), Error> {
    let mut properties = Properties::read(from)?;
    while let Some(property) = properties.next()? {
        match property {
            Property::SessionExpiry(seconds) => ack.expiry = Some(seconds),
            Property::ReceiveMaximum(n) => ack.receive_maximum = n,
            Property::MaximumQos(one) => ack.maximum_qos = if one { QoS::AtLeastOnce } else { QoS::AtMostOnce },
            Property::RetainAvailable(it) => ack.retain_available = it,
            Property::MaximumPacketSize(size) => ack.maximum_packet_size = Some(size),
            Property::AssignedClientId(id) => ack.assigned_client_id = Some(id.into()),
            Property::TopicAliasMaximum(n) => ack.topic_alias_maximum = n,
            Property::ReasonString(text) => ack.reason_string = Some(text.into()),
            Property::ServerReference(text) => ack.server_reference = Some(text.into()),
            Property::SharedAvailable(it) => ack.shared_available = it,
            Property::ServerKeepAlive(seconds) => ack.server_keep_alive = Some(seconds),
            Property::WildcardsAvailable(_)
            | Property::SubscriptionIdsAvailable(_)
            | Property::ResponseInfo(_)
            | Property::AuthenticationMethod(_)
            | Property::AuthenticationData(_)
            | Property::User(..) => {}
            _ => return misplaced(),
        }
    }
    Ok(())
}

/// The body of a CONNACK; `text` is the reason string of MQTT 5.
pub(super) fn write<P: Put>(ack: &ConnAck, version: Version, text: Option<&str>, to: &mut P) {
    // 3.1 has a reserved byte there; and nobody is told of a session that he does not get [MQTT-3.2.2-6].
    to.u8((ack.session_present && version != Version::V31 && !ack.reason.is_error()).into());
    if version == Version::V5 {
        to.u8(ack.reason.0);
        properties::write(to, || connack_properties(ack, text));
        return;
    }
    to.u8(match ack.reason {
        Reason::SUCCESS => 0,
        Reason::UNSUPPORTED_VERSION => 1,
        Reason::CLIENT_ID_NOT_VALID => 2,
        Reason::BAD_USER_OR_PASSWORD => 4,
        Reason::NOT_AUTHORIZED => 5,
        _ => 3,
    });
}

fn connack_properties<'a>(ack: &'a ConnAck, text: Option<&'a str>) -> impl Iterator<Item = Property<'a>> {
    [
        ack.expiry.map(Property::SessionExpiry),
        (ack.receive_maximum != NonZeroU16::MAX).then_some(Property::ReceiveMaximum(ack.receive_maximum)),
        (ack.maximum_qos != QoS::ExactlyOnce).then_some(Property::MaximumQos(ack.maximum_qos == QoS::AtLeastOnce)),
        (!ack.retain_available).then_some(Property::RetainAvailable(false)),
        ack.maximum_packet_size.map(Property::MaximumPacketSize),
        ack.assigned_client_id.as_deref().map(Property::AssignedClientId),
        ack.server_reference.as_deref().map(Property::ServerReference),
        (ack.topic_alias_maximum != 0).then_some(Property::TopicAliasMaximum(ack.topic_alias_maximum)),
        text.map(Property::ReasonString),
        (!ack.shared_available).then_some(Property::SharedAvailable(false)),
        ack.server_keep_alive.map(Property::ServerKeepAlive),
    ]
    .into_iter()
    .flatten()
}
