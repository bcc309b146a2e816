//! SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK (MQTT 5.0, 3.8 to 3.11). Pure.
//!
//! Whether a filter is a good one is left to the router: it refuses the one, and the others stand.

use std::sync::Arc;

use super::acks::{known, read_explanation};
use super::connect::qos;
use super::header::Peer;
use super::properties::{self, Properties, Property, misplaced};
use super::read::Cursor;
use super::write::Put;
use super::{Error, bad};
use crate::mqtt::{Packet, PacketId, Reason, RetainHandling, Subscribe, SubscribeOptions, Version};

const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;

/// The reasons of SUBACK (MQTT 5.0, 3.9.3); 3.1.1 has the first four.
const GRANTED: &[u8] = &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
/// The reasons of UNSUBACK (MQTT 5.0, 3.11.3).
const ENDED: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];

pub(super) fn read(version: Version, from: &mut Cursor) -> Result<Subscribe, Error> {
    let id = from.id()?;
    let mut subscription_id = None;
    if version == Version::V5 {
        let mut properties = Properties::read(from)?;
        while let Some(property) = properties.next()? {
            match property {
                Property::SubscriptionId(_) if subscription_id.is_some() => {
                    return bad(Reason::PROTOCOL_ERROR, "a SUBSCRIBE with two subscription identifiers (3.8.2.1.2)");
                }
                Property::SubscriptionId(id) => subscription_id = Some(id),
                Property::User(..) => {}
                _ => return misplaced(),
            }
        }
    }
    if from.is_empty() {
        return bad(Reason::PROTOCOL_ERROR, "a SUBSCRIBE without a filter [MQTT-3.8.3-2]");
    }
    let mut filters = Vec::new();
    while !from.is_empty() {
        let filter = from.text()?;
        let options = if version == Version::V5 { read_options(from.u8()?, filter)? } else { read_qos(from.u8()?)? };
        filters.push((Arc::from(filter), options));
    }
    Ok(Subscribe { id, filters, subscription_id })
}

fn read_qos(byte: u8) -> Result<SubscribeOptions, Error> {
    match byte {
        0..=2 => Ok(SubscribeOptions { qos: qos(byte), ..SubscribeOptions::default() }),
        _ => bad(Reason::MALFORMED, "a requested QoS that is not 0, 1 or 2 (MQTT 3.1.1, [MQTT-3.8.3-4])"),
    }
}

fn read_options(byte: u8, filter: &str) -> Result<SubscribeOptions, Error> {
    if byte & 0xC0 != 0 {
        return bad(Reason::MALFORMED, "reserved bits of the subscription options are set [MQTT-3.8.3-5]");
    }
    if byte & 0x03 == 0x03 {
        return bad(Reason::PROTOCOL_ERROR, "a subscription with QoS 3 (3.8.3.1)");
    }
    let no_local = byte & NO_LOCAL != 0;
    if no_local && filter.starts_with("$share/") {
        return bad(Reason::PROTOCOL_ERROR, "No Local on a shared subscription [MQTT-3.8.3-4]");
    }
    Ok(SubscribeOptions {
        qos: qos(byte & 0x03),
        no_local,
        retain_as_published: byte & RETAIN_AS_PUBLISHED != 0,
        retain_handling: match byte >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return bad(Reason::PROTOCOL_ERROR, "retain handling 3 (3.8.3.1)"),
        },
    })
}

pub(super) fn write<P: Put>(subscribe: &Subscribe, version: Version, to: &mut P) {
    to.u16(subscribe.id.get());
    if version == Version::V5 {
        properties::write(to, || subscribe.subscription_id.map(Property::SubscriptionId).into_iter());
    }
    for (filter, options) in &subscribe.filters {
        to.text(filter);
        to.u8(if version == Version::V5 { options_byte(*options) } else { options.qos.into() });
    }
}

fn options_byte(options: SubscribeOptions) -> u8 {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let handling = match options.retain_handling {
        RetainHandling::Send => 0x00,
        RetainHandling::SendIfNew => 0x10,
        RetainHandling::DoNotSend => 0x20,
    };
    u8::from(options.qos)
        | flag(options.no_local, NO_LOCAL)
        | flag(options.retain_as_published, RETAIN_AS_PUBLISHED)
        | handling
}

pub(super) fn read_unsubscribe(version: Version, from: &mut Cursor) -> Result<Packet, Error> {
    let id = from.id()?;
    if version == Version::V5 {
        let mut properties = Properties::read(from)?;
        while let Some(property) = properties.next()? {
            if !matches!(property, Property::User(..)) {
                return misplaced();
            }
        }
    }
    if from.is_empty() {
        return bad(Reason::PROTOCOL_ERROR, "an UNSUBSCRIBE without a filter [MQTT-3.10.3-2]");
    }
    let mut filters = Vec::new();
    while !from.is_empty() {
        filters.push(Arc::from(from.text()?));
    }
    Ok(Packet::Unsubscribe { id, filters })
}

pub(super) fn write_unsubscribe<P: Put>(id: PacketId, filters: &[Arc<str>], version: Version, to: &mut P) {
    to.u16(id.get());
    if version == Version::V5 {
        to.u8(0);
    }
    filters.iter().for_each(|filter| to.text(filter));
}

pub(super) fn read_suback(version: Version, from: &mut Cursor) -> Result<Packet, Error> {
    let id = from.id()?;
    if version == Version::V5 {
        read_explanation(from)?;
        return Ok(Packet::SubAck { id, reasons: read_reasons(GRANTED, from)? });
    }
    let codes = from.take_rest();
    if codes.is_empty() || codes.iter().any(|code| !GRANTED[..4].contains(code)) {
        return bad(
            Reason::MALFORMED,
            "a SUBACK without return codes, or with one that it does not have [MQTT-3.9.3-2]",
        );
    }
    Ok(Packet::SubAck { id, reasons: codes.iter().map(|code| Reason(*code)).collect() })
}

pub(super) fn read_unsuback(version: Version, from: &mut Cursor) -> Result<Packet, Error> {
    let id = from.id()?;
    let mut reasons = Vec::new();
    if version == Version::V5 {
        read_explanation(from)?;
        reasons = read_reasons(ENDED, from)?;
    }
    Ok(Packet::UnsubAck { id, reasons })
}

fn read_reasons(codes: &[u8], from: &mut Cursor) -> Result<Vec<Reason>, Error> {
    if from.is_empty() {
        return bad(Reason::MALFORMED, "a SUBACK or UNSUBACK without a reason code [MQTT-3.9.3-1]");
    }
    from.take_rest().iter().map(|code| known(Peer::Server, *code, codes)).collect()
}

/// The body of a SUBACK; `text` is its reason string.
pub(super) fn write_suback<P: Put>(id: PacketId, reasons: &[Reason], version: Version, text: Option<&str>, to: &mut P) {
    to.u16(id.get());
    if version == Version::V5 {
        properties::write(to, || text.map(Property::ReasonString).into_iter());
    }
    for reason in reasons {
        // 3.1.1 has one failure [MQTT-3.9.3-2].
        to.u8(if version == Version::V5 { reason.0 } else { reason.0.min(Reason::UNSPECIFIED.0) });
    }
}

/// The body of an UNSUBACK; 3.1.1 has no reasons there.
pub(super) fn write_unsuback<P: Put>(
    id: PacketId,
    reasons: &[Reason],
    version: Version,
    text: Option<&str>,
    to: &mut P,
) {
    to.u16(id.get());
    if version == Version::V5 {
        properties::write(to, || text.map(Property::ReasonString).into_iter());
        reasons.iter().for_each(|reason| to.u8(reason.0));
    }
}
