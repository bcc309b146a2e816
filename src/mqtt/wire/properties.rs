//! The properties of MQTT 5 (2.2.2): one enum for both directions, and the list that they stand in. Pure.

use std::num::NonZeroU16;

use super::read::Cursor;
use super::write::{Count, Put};
use super::{Error, bad};
use crate::mqtt::{Reason, topic};

/// One property (MQTT 5.0, table 2-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Property<'a> {
    /// The payload is UTF-8.
    PayloadFormat(bool),
    MessageExpiry(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    Correlation(&'a [u8]),
    SubscriptionId(u32),
    SessionExpiry(u32),
    AssignedClientId(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInfo(bool),
    WillDelay(u32),
    RequestResponseInfo(bool),
    ResponseInfo(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(NonZeroU16),
    TopicAliasMaximum(u16),
    TopicAlias(NonZeroU16),
    /// QoS 1 at most when true, QoS 0 when false; QoS 2 is said by leaving it out.
    MaximumQos(bool),
    RetainAvailable(bool),
    User(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardsAvailable(bool),
    SubscriptionIdsAvailable(bool),
    SharedAvailable(bool),
}

impl<'a> Property<'a> {
    fn read(id: u8, from: &mut Cursor<'a>) -> Result<Self, Error> {
        Ok(match id {
            0x01 => Self::PayloadFormat(flag(from)?),
            0x02 => Self::MessageExpiry(from.u32()?),
            0x03 => Self::ContentType(from.text()?),
            0x08 => Self::ResponseTopic(response_topic(from)?),
            0x09 => Self::Correlation(from.binary()?),
            0x0B => match from.var()? {
                0 => return bad(Reason::PROTOCOL_ERROR, "subscription identifier 0 (3.8.2.1.2)"),
                id => Self::SubscriptionId(id),
            },
            0x11 => Self::SessionExpiry(from.u32()?),
            0x12 => Self::AssignedClientId(from.text()?),
            0x13 => Self::ServerKeepAlive(from.u16()?),
            0x15 => Self::AuthenticationMethod(from.text()?),
            0x16 => Self::AuthenticationData(from.binary()?),
            0x17 => Self::RequestProblemInfo(flag(from)?),
            0x18 => Self::WillDelay(from.u32()?),
            0x19 => Self::RequestResponseInfo(flag(from)?),
            0x1A => Self::ResponseInfo(from.text()?),
            0x1C => Self::ServerReference(from.text()?),
            0x1F => Self::ReasonString(from.text()?),
            0x21 => match NonZeroU16::new(from.u16()?) {
                Some(n) => Self::ReceiveMaximum(n),
                None => return bad(Reason::PROTOCOL_ERROR, "receive maximum 0 (3.1.2.11.3)"),
            },
            0x22 => Self::TopicAliasMaximum(from.u16()?),
            0x23 => match NonZeroU16::new(from.u16()?) {
                Some(alias) => Self::TopicAlias(alias),
                None => return bad(Reason::TOPIC_ALIAS_INVALID, "topic alias 0 [MQTT-3.3.2-8]"),
            },
            0x24 => Self::MaximumQos(flag(from)?),
            0x25 => Self::RetainAvailable(flag(from)?),
            0x26 => Self::User(from.text()?, from.text()?),
            0x27 => match from.u32()? {
                0 => return bad(Reason::PROTOCOL_ERROR, "maximum packet size 0 (3.1.2.11.4)"),
                size => Self::MaximumPacketSize(size),
            },
            0x28 => Self::WildcardsAvailable(flag(from)?),
            0x29 => Self::SubscriptionIdsAvailable(flag(from)?),
            0x2A => Self::SharedAvailable(flag(from)?),
            _ => return bad(Reason::MALFORMED, "a property that does not exist (2.2.2.2)"),
        })
    }

    fn write<P: Put>(&self, to: &mut P) {
        match *self {
            Self::PayloadFormat(it) => to.put(&[0x01, it.into()]),
            Self::MessageExpiry(it) => number(to, 0x02, it),
            Self::ContentType(it) => text(to, 0x03, it),
            Self::ResponseTopic(it) => text(to, 0x08, it),
            Self::Correlation(it) => binary(to, 0x09, it),
            Self::SubscriptionId(it) => {
                to.u8(0x0B);
                to.var(it as usize);
            }
            Self::SessionExpiry(it) => number(to, 0x11, it),
            Self::AssignedClientId(it) => text(to, 0x12, it),
            Self::ServerKeepAlive(it) => short(to, 0x13, it),
            Self::AuthenticationMethod(it) => text(to, 0x15, it),
            Self::AuthenticationData(it) => binary(to, 0x16, it),
            Self::RequestProblemInfo(it) => to.put(&[0x17, it.into()]),
            Self::WillDelay(it) => number(to, 0x18, it),
            Self::RequestResponseInfo(it) => to.put(&[0x19, it.into()]),
            Self::ResponseInfo(it) => text(to, 0x1A, it),
            Self::ServerReference(it) => text(to, 0x1C, it),
            Self::ReasonString(it) => text(to, 0x1F, it),
            Self::ReceiveMaximum(it) => short(to, 0x21, it.get()),
            Self::TopicAliasMaximum(it) => short(to, 0x22, it),
            Self::TopicAlias(it) => short(to, 0x23, it.get()),
            Self::MaximumQos(it) => to.put(&[0x24, it.into()]),
            Self::RetainAvailable(it) => to.put(&[0x25, it.into()]),
            Self::User(name, value) => {
                text(to, 0x26, name);
                to.text(value);
            }
            Self::MaximumPacketSize(it) => number(to, 0x27, it),
            Self::WildcardsAvailable(it) => to.put(&[0x28, it.into()]),
            Self::SubscriptionIdsAvailable(it) => to.put(&[0x29, it.into()]),
            Self::SharedAvailable(it) => to.put(&[0x2A, it.into()]),
        }
    }
}

/// The properties of one packet, as they are read.
#[derive(Debug)]
pub(super) struct Properties<'a> {
    rest: Cursor<'a>,
    /// One bit for each identifier that came.
    seen: u64,
}

impl<'a> Properties<'a> {
    /// The list that stands at `from`, which goes on behind it.
    pub(super) fn read(from: &mut Cursor<'a>) -> Result<Self, Error> {
        let length = from.var()?;
        Ok(Self { rest: from.part(length as usize)?, seen: 0 })
    }

    /// The next property; none may come twice but user properties and, where they may stand at all in this number,
    /// subscription identifiers.
    pub(super) fn next(&mut self) -> Result<Option<Property<'a>>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        // An identifier is a variable byte integer as well; all there are have one byte.
        let id = self.rest.u8()?;
        let property = Property::read(id, &mut self.rest)?;
        let bit = 1 << id;
        if self.seen & bit != 0 && !matches!(property, Property::User(..) | Property::SubscriptionId(_)) {
            return bad(Reason::PROTOCOL_ERROR, "a property that may come once came twice (2.2.2.2)");
        }
        self.seen |= bit;
        Ok(Some(property))
    }
}

/// Refuses a property in a packet that it does not belong to.
pub(super) fn misplaced<T>() -> Result<T, Error> {
    bad(Reason::MALFORMED, "a property that this packet cannot have (2.2.2.2)")
}

/// Writes the properties that `list` yields each time, with their length before them.
pub(super) fn write<'a, P: Put, I: Iterator<Item = Property<'a>>>(to: &mut P, list: impl Fn() -> I) {
    let mut count = Count::default();
    list().for_each(|property| property.write(&mut count));
    to.var(count.bytes);
    list().for_each(|property| property.write(to));
}

fn flag(from: &mut Cursor) -> Result<bool, Error> {
    match from.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => bad(Reason::PROTOCOL_ERROR, "a property that is 0 or 1 is something else"),
    }
}

/// Where an answer is wanted: a topic name [MQTT-3.3.2-14].
fn response_topic<'a>(from: &mut Cursor<'a>) -> Result<&'a str, Error> {
    let name = from.text()?;
    match topic::check_name(name) {
        Ok(()) | Err(topic::Invalid::TooDeep) => Ok(name),
        Err(_) => bad(Reason::PROTOCOL_ERROR, "a response topic that is no topic name [MQTT-3.3.2-14]"),
    }
}

fn short<P: Put>(to: &mut P, id: u8, n: u16) {
    to.u8(id);
    to.u16(n);
}

fn number<P: Put>(to: &mut P, id: u8, n: u32) {
    to.u8(id);
    to.u32(n);
}

fn binary<P: Put>(to: &mut P, id: u8, bytes: &[u8]) {
    to.u8(id);
    to.binary(bytes);
}

fn text<P: Put>(to: &mut P, id: u8, text: &str) {
    to.u8(id);
    to.text(text);
}
