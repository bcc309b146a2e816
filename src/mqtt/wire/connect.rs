//! CONNECT (MQTT 5.0, 3.1; MQTT 3.1.1, 3.1). Pure.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::properties::{self, Properties, Property, misplaced};
use super::publish::Forwarded;
use super::read::Cursor;
use super::write::Put;
use super::{Error, bad};
use crate::clock::Moment;
use crate::message::{Message, QoS};
use crate::mqtt::{Connect, Reason, Version, Will, topic};

/// The memory that the user properties of a will may take, each with that of its place and its two texts: a property of
/// five bytes takes twenty times as much, and may come from somebody who is not known yet.
const MOST_USER_PROPERTIES: usize = 256 * 1024;
const USER_PROPERTY: usize = 128;

const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER: u8 = 0x80;

/// What Mosquitto adds to the version when it comes as a bridge, before MQTT 5 (its `try_private`).
const BRIDGE: u8 = 0x80;

/// The version that the body of a CONNECT begins with [MQTT-3.1.2-1], [MQTT-3.1.2-2], and whether it is a bridge's.
pub(super) fn version(from: &mut Cursor) -> Result<(Version, bool), Error> {
    let (name, level) = (from.binary()?, from.u8()?);
    let bridge = level & BRIDGE != 0;
    match (name, level & !BRIDGE) {
        (b"MQIsdp", 3) => Ok((Version::V31, bridge)),
        (b"MQTT", 4) => Ok((Version::V311, bridge)),
        (b"MQTT", 5) if !bridge => Ok((Version::V5, false)),
        (b"MQTT" | b"MQIsdp", _) => {
            bad(Reason::UNSUPPORTED_VERSION, "a protocol version that is not 3.1, 3.1.1 or 5 [MQTT-3.1.2-2]")
        }
        _ => bad(Reason::UNSUPPORTED_VERSION, "not the protocol name of MQTT [MQTT-3.1.2-1]"),
    }
}

/// What stands behind the version.
pub(super) fn read(version: Version, from: &mut Cursor, at: Moment) -> Result<Connect, Error> {
    let v5 = version == Version::V5;
    let flags = from.u8()?;
    check_flags(flags, v5)?;
    let mut connect = Connect::new(version, "");
    connect.clean_start = flags & CLEAN_START != 0;
    connect.expiry = if v5 || connect.clean_start { 0 } else { u32::MAX };
    connect.keep_alive = Duration::from_secs(from.u16()?.into());
    if v5 {
        read_properties(&mut connect, from)?;
    }
    connect.client_id = from.text()?.into();
    // 3.1 has no empty client identifier; 3.1.1 has one only for a session that ends [MQTT-3.1.3-8].
    let may_be_empty = v5 || version == Version::V311 && connect.clean_start;
    if connect.client_id.is_empty() && !may_be_empty {
        return bad(Reason::CLIENT_ID_NOT_VALID, "an empty client identifier without a clean session [MQTT-3.1.3-8]");
    }
    if flags & WILL != 0 {
        connect.will = Some(read_will(flags, v5, from, at)?);
    }
    if flags & USER != 0 {
        connect.user = Some(from.text()?.into());
    }
    if flags & PASSWORD != 0 {
        connect.password = Some(Bytes::copy_from_slice(from.binary()?));
    }
    Ok(connect)
}

fn check_flags(flags: u8, v5: bool) -> Result<(), Error> {
    if flags & 0x01 != 0 {
        return bad(Reason::MALFORMED, "the reserved flag of CONNECT is set [MQTT-3.1.2-3]");
    }
    if flags & 0x18 == 0x18 {
        return bad(Reason::MALFORMED, "a will of QoS 3 [MQTT-3.1.2-12]");
    }
    if flags & WILL == 0 && flags & 0x38 != 0 {
        return bad(Reason::MALFORMED, "flags of a will without a will [MQTT-3.1.2-11]");
    }
    if !v5 && flags & (USER | PASSWORD) == PASSWORD {
        return bad(Reason::MALFORMED, "a password without a user name (MQTT 3.1.1, [MQTT-3.1.2-22])");
    }
    Ok(())
}

fn read_properties(connect: &mut Connect, from: &mut Cursor) -> Result<(), Error> {
    let mut properties = Properties::read(from)?;
    let mut data = false;
    while let Some(property) = properties.next()? {
        match property {
            Property::SessionExpiry(seconds) => connect.expiry = seconds,
            Property::ReceiveMaximum(n) => connect.receive_maximum = n,
            Property::MaximumPacketSize(size) => connect.maximum_packet_size = Some(size),
            Property::TopicAliasMaximum(n) => connect.topic_alias_maximum = n,
            Property::RequestProblemInfo(wanted) => connect.problem_info = wanted,
            Property::AuthenticationMethod(method) => connect.authentication_method = Some(method.into()),
            Property::AuthenticationData(_) => data = true,
            Property::RequestResponseInfo(_) | Property::User(..) => {}
            _ => return misplaced(),
        }
    }
    if data && connect.authentication_method.is_none() {
        return bad(Reason::PROTOCOL_ERROR, "authentication data without a method (3.1.2.11.10)");
    }
    Ok(())
}

fn read_will(flags: u8, v5: bool, from: &mut Cursor, at: Moment) -> Result<Will, Error> {
    let mut delay = Duration::ZERO;
    let mut forwarded = Forwarded::default();
    if v5 {
        let (mut properties, mut taken) = (Properties::read(from)?, 0);
        while let Some(property) = properties.next()? {
            if let Property::User(name, value) = property {
                taken += USER_PROPERTY + name.len() + value.len();
                if taken > MOST_USER_PROPERTIES {
                    return bad(Reason::PACKET_TOO_LARGE, "a will with more user properties than there is room for");
                }
            }
            match property {
                Property::WillDelay(seconds) => delay = Duration::from_secs(seconds.into()),
                property if forwarded.take(&property) => {}
                _ => return misplaced(),
            }
        }
    }
    let topic = from.text()?;
    if topic::check_name(topic).is_err() {
        return bad(Reason::TOPIC_NAME_INVALID, "the will's topic is no topic name [MQTT-4.7.0-1]");
    }
    let message = Message {
        topic: topic.into(),
        payload: Bytes::copy_from_slice(from.binary()?),
        qos: qos(flags >> 3 & 3),
        retain: flags & WILL_RETAIN != 0,
        at,
        timed: false,
        properties: forwarded.into_properties(),
    };
    Ok(Will { message, delay })
}

/// Of two bits that are not 3.
pub(super) fn qos(bits: u8) -> QoS {
    QoS::try_from(bits).unwrap_or_default()
}

/// The body of a CONNECT.
pub(super) fn write<P: Put>(connect: &Connect, to: &mut P) {
    let (name, level) = match connect.version {
        Version::V31 => ("MQIsdp", 3),
        Version::V311 => ("MQTT", 4),
        Version::V5 => ("MQTT", 5),
    };
    let v5 = connect.version == Version::V5;
    to.text(name);
    to.u8(level | if connect.bridge && connect.version != Version::V5 { BRIDGE } else { 0 });
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let will = connect
        .will
        .as_ref()
        .map_or(0, |will| WILL | u8::from(will.message.qos) << 3 | flag(will.message.retain, WILL_RETAIN));
    to.u8(flag(connect.clean_start, CLEAN_START)
        | will
        | flag(connect.password.is_some(), PASSWORD)
        | flag(connect.user.is_some(), USER));
    to.u16(u16::try_from(connect.keep_alive.as_secs()).unwrap_or(u16::MAX));
    if v5 {
        properties::write(to, || connect_properties(connect));
    }
    to.text(&connect.client_id);
    if let Some(Will { message, delay }) = &connect.will {
        if v5 {
            let delay = u32::try_from(delay.as_secs()).unwrap_or(u32::MAX);
            let delay = (delay > 0).then_some(Property::WillDelay(delay));
            let expiry = message.properties.as_ref().and_then(|p| p.expiry);
            properties::write(to, || delay.into_iter().chain(super::publish::forwarded(message, expiry)));
        }
        to.text(&message.topic);
        to.binary(&message.payload);
    }
    if let Some(user) = &connect.user {
        to.text(user);
    }
    if let Some(password) = &connect.password {
        to.binary(password);
    }
}

fn connect_properties(c: &Connect) -> impl Iterator<Item = Property<'_>> {
    [
        (c.expiry != 0).then_some(Property::SessionExpiry(c.expiry)),
        (c.receive_maximum != NonZeroU16::MAX).then_some(Property::ReceiveMaximum(c.receive_maximum)),
        c.maximum_packet_size.map(Property::MaximumPacketSize),
        (c.topic_alias_maximum != 0).then_some(Property::TopicAliasMaximum(c.topic_alias_maximum)),
        (!c.problem_info).then_some(Property::RequestProblemInfo(false)),
        c.authentication_method.as_ref().map(|method: &Arc<str>| Property::AuthenticationMethod(method)),
    ]
    .into_iter()
    .flatten()
}
