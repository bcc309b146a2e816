//! PUBACK, PUBREC, PUBREL, PUBCOMP (MQTT 5.0, 3.4 to 3.7), DISCONNECT (3.14): packets whose body is a reason, and may be
//! left out in part. Pure.

use super::header::{Kind, Peer};
use super::properties::{self, Properties, Property, misplaced};
use super::read::Cursor;
use super::write::Put;
use super::{Error, bad};
use crate::mqtt::{Ack, Packet, Reason, Version};

/// The reasons of PUBACK and PUBREC (MQTT 5.0, tables 3-4 and 3-5).
const RECEIVED: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
/// The reasons of PUBREL and PUBCOMP (MQTT 5.0, tables 3-6 and 3-7).
const RELEASED: &[u8] = &[0x00, 0x92];
/// The reasons that a client has for DISCONNECT (MQTT 5.0, table 3-10); a server has no others below 0x80.
const LEFT: &[u8] = &[0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];

/// A reason code out of those that the packet has. From a server any failure is taken: a cloud that is ahead of the
/// specification by a code is still to be understood, and its codes are no way to harm us.
pub(super) fn known(peer: Peer, code: u8, codes: &[u8]) -> Result<Reason, Error> {
    if codes.contains(&code) || peer == Peer::Server && code >= 0x80 {
        Ok(Reason(code))
    } else {
        bad(Reason::PROTOCOL_ERROR, "a reason code that this packet does not have (2.4)")
    }
}

/// The body of an acknowledgement of this kind.
pub(super) fn read(kind: Kind, (version, peer): (Version, Peer), from: &mut Cursor) -> Result<Ack, Error> {
    let id = from.id()?;
    let mut ack = Ack::ok(id);
    // Without a reason it is success, without properties it has none (MQTT 5.0, 3.4.2.1, 3.4.2.2).
    if version == Version::V5 && !from.is_empty() {
        let codes = if matches!(kind, Kind::PubAck | Kind::PubRec) { RECEIVED } else { RELEASED };
        ack.reason = known(peer, from.u8()?, codes)?;
        if !from.is_empty() {
            read_explanation(from)?;
        }
    }
    Ok(ack)
}

/// The properties of a packet that can have a reason string and user properties, and nothing else.
pub(super) fn read_explanation(from: &mut Cursor) -> Result<(), Error> {
    let mut properties = Properties::read(from)?;
    while let Some(property) = properties.next()? {
        if !matches!(property, Property::ReasonString(_) | Property::User(..)) {
            return misplaced();
        }
    }
    Ok(())
}

/// The body of an acknowledgement; `text` is its reason string.
pub(super) fn write<P: Put>(ack: Ack, version: Version, text: Option<&str>, to: &mut P) {
    to.u16(ack.id.get());
    if version == Version::V5 {
        write_reason(ack.reason.0, || text.map(Property::ReasonString).into_iter(), to);
    }
}

/// The body of a DISCONNECT.
pub(super) fn read_disconnect(version: Version, peer: Peer, from: &mut Cursor) -> Result<Packet, Error> {
    let (mut reason, mut expiry) = (Reason::SUCCESS, None);
    if version == Version::V5 && !from.is_empty() {
        reason = known(peer, from.u8()?, if peer == Peer::Client { LEFT } else { &[0x00] })?;
        if !from.is_empty() {
            let mut properties = Properties::read(from)?;
            while let Some(property) = properties.next()? {
                match property {
                    Property::SessionExpiry(seconds) if peer == Peer::Client => expiry = Some(seconds),
                    Property::SessionExpiry(_) => {
                        return bad(
                            Reason::PROTOCOL_ERROR,
                            "a DISCONNECT from a server with a session expiry [MQTT-3.14.2-2]",
                        );
                    }
                    Property::ReasonString(_) | Property::User(..) => {}
                    Property::ServerReference(_) if peer == Peer::Server => {}
                    _ => return misplaced(),
                }
            }
        }
    }
    Ok(Packet::Disconnect { reason, expiry })
}

/// The body of a DISCONNECT; 3.1 and 3.1.1 have none.
pub(super) fn write_disconnect<P: Put>(
    reason: Reason,
    expiry: Option<u32>,
    version: Version,
    text: Option<&str>,
    to: &mut P,
) {
    if version == Version::V5 {
        let list = || [expiry.map(Property::SessionExpiry), text.map(Property::ReasonString)].into_iter().flatten();
        write_reason(reason.0, list, to);
    }
}

/// A reason and properties, as far as they say anything (MQTT 5.0, 3.4.2.1, 3.14.2.1).
fn write_reason<'a, P: Put, I: Iterator<Item = Property<'a>>>(reason: u8, list: impl Fn() -> I, to: &mut P) {
    let properties = list().next().is_some();
    if properties || reason != 0 {
        to.u8(reason);
    }
    if properties {
        properties::write(to, list);
    }
}
