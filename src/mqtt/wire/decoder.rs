//! Bytes to packets: which packet it is, and what a connection remembers from one to the next. Pure.

use bytes::Bytes;

use super::alias::Topics;
use super::header::{Header, Kind, Peer};
use super::read::Cursor;
use super::{Error, acks, bad, connack, connect, publish, subscribe};
use crate::clock::Moment;
use crate::mqtt::{Connect, Packet, Reason, Version};

/// The largest CONNECT taken, in bytes, whatever other packets may be: it comes from somebody who is not known yet.
pub const MOST_CONNECT: usize = 256 * 1024;

/// Reads the packets of one connection.
#[derive(Debug)]
pub(super) struct Decoder {
    peer: Peer,
    max_packet: u32,
    /// Known from the start at a client, from CONNECT at a server.
    version: Option<Version>,
    topics: Topics,
    /// A bridge that cannot ask for No Local and Retain As Published, and needs them: else what goes both ways would go in
    /// circles, and nothing would stay retained.
    bridge: bool,
    /// The session was to end with the connection: DISCONNECT cannot change that.
    ends: bool,
}

/// What stands at the front of some bytes.
#[derive(Debug)]
pub(super) enum Next {
    /// A packet, and its length.
    Packet(Packet, usize),
    /// The beginning of a packet; so many bytes from its first are needed to go on.
    Needs(usize),
}

impl Decoder {
    /// Reads what `peer` sends; no version means that it follows from a CONNECT.
    pub(super) fn new(peer: Peer, version: Option<Version>, max_packet: u32) -> Self {
        Self { peer, max_packet, version, topics: Topics::default(), bridge: false, ends: false }
    }

    pub(super) fn version(&self) -> Option<Version> {
        self.version
    }

    fn max_packet(&self) -> u32 {
        let most = if self.version.is_none() { MOST_CONNECT as u32 } else { u32::MAX };
        self.max_packet.min(most)
    }

    /// The packet that `bytes` begin with, or how much of it is missing. What is wrong with its header is told at once.
    pub(super) fn next(&mut self, bytes: &[u8], at: Moment) -> Result<Next, Error> {
        let Some(header) = Header::read(bytes)? else { return Ok(Next::Needs(bytes.len() + 1)) };
        let kind = header.check(self.peer, self.version, self.max_packet())?;
        let Some(body) = bytes.get(header.len..header.total()) else { return Ok(Next::Needs(header.total())) };
        let packet = self.packet(header, kind, Cursor::new(body), at)?;
        Ok(Next::Packet(packet, header.total()))
    }

    /// The packet that `memory` is, from its first byte to its last; a large payload stays in it.
    pub(super) fn whole(&mut self, memory: &Bytes, at: Moment) -> Result<Packet, Error> {
        let Some(header) = Header::read(memory)?.filter(|header| header.total() == memory.len()) else {
            return bad(Reason::MALFORMED, "a packet of another length than it says");
        };
        let kind = header.check(self.peer, self.version, self.max_packet())?;
        self.packet(header, kind, Cursor::sharing(memory, header.len), at)
    }

    fn packet(&mut self, header: Header, kind: Kind, mut body: Cursor, at: Moment) -> Result<Packet, Error> {
        let from = &mut body;
        let version = match self.version {
            Some(version) => version,
            None => {
                let (version, bridge) = connect::version(from)?;
                self.bridge = bridge;
                *self.version.insert(version)
            }
        };
        let packet = match kind {
            Kind::Connect if version == Version::V5 && header.padded() => {
                return bad(Reason::MALFORMED, "a remaining length in more bytes than it needs [MQTT-1.5.5-1]");
            }
            Kind::Connect => {
                let connect = Connect { bridge: self.bridge, ..connect::read(version, from, at)? };
                self.ends = connect.expiry == 0;
                Packet::Connect(Box::new(connect))
            }
            Kind::ConnAck => Packet::ConnAck(Box::new(connack::read(version, from)?)),
            Kind::Publish => {
                let publish = publish::read(header.first, (version, self.peer), from, &mut self.topics, at)?;
                return Ok(Packet::Publish(publish)); // its payload has no end but that of the packet
            }
            Kind::PubAck => Packet::PubAck(acks::read(kind, (version, self.peer), from)?),
            Kind::PubRec => Packet::PubRec(acks::read(kind, (version, self.peer), from)?),
            Kind::PubRel => Packet::PubRel(acks::read(kind, (version, self.peer), from)?),
            Kind::PubComp => Packet::PubComp(acks::read(kind, (version, self.peer), from)?),
            Kind::Subscribe => {
                let mut subscribe = subscribe::read(version, from)?;
                for (filter, options) in subscribe.filters.iter_mut().filter(|_| self.bridge) {
                    options.no_local = !filter.starts_with("$share/");
                    options.retain_as_published = true;
                }
                Packet::Subscribe(Box::new(subscribe))
            }
            Kind::SubAck => subscribe::read_suback(version, from)?,
            Kind::Unsubscribe => subscribe::read_unsubscribe(version, from)?,
            Kind::UnsubAck => subscribe::read_unsuback(version, from)?,
            Kind::PingReq => Packet::PingReq,
            Kind::PingResp => Packet::PingResp,
            Kind::Disconnect => acks::read_disconnect(version, self.peer, from)?,
            Kind::Auth => return bad(Reason::PROTOCOL_ERROR, "AUTH without an authentication method"),
        };
        from.end()?;
        if let Packet::Disconnect { expiry: Some(1..), .. } = packet
            && self.ends
        {
            return bad(Reason::PROTOCOL_ERROR, "a DISCONNECT that gives a session an expiry too late (3.14.2.2.2)");
        }
        Ok(packet)
    }
}
