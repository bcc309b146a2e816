//! Bytes to packets: the codec crate, and what it does not check. Pure.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::BytesMut;
use rmqtt_codec::error::DecodeError;

use super::{Codec, Error, READ, codec, v3, v5};
use crate::mqtt::{Packet, Publish, Reason, Version, topic};

/// Which side of the connection the peer is; what it may send follows from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Client,
    Server,
}

/// Reads packets out of a buffer.
#[derive(Debug)]
pub(super) struct Decoder {
    peer: Peer,
    max_packet: u32,
    pub(super) version: Option<Version>,
    codec: Option<Codec>,
    /// Topics by alias, of an MQTT 5 peer (MQTT 5.0, 3.3.2.3.4).
    aliases: HashMap<NonZeroU16, Arc<str>>,
    /// An error that stands behind packets already returned.
    failed: Option<Error>,
}

/// How many topic aliases a peer may set; announced in CONNACK and CONNECT.
pub const TOPIC_ALIAS_MAXIMUM: u16 = 64;

impl Decoder {
    pub(super) fn new(peer: Peer, max_packet: u32) -> Self {
        Self { peer, max_packet, version: None, codec: None, aliases: HashMap::new(), failed: None }
    }

    pub(super) fn set_version(&mut self, version: Version) {
        self.version = Some(version);
        self.codec = Some(codec(version));
    }

    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Vec<Packet>, Error> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut packets = Vec::new();
        loop {
            match self.next(buffer) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => return Ok(packets),
                Err(error) if packets.is_empty() => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    return Ok(packets);
                }
            }
        }
    }

    fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Packet>, Error> {
        use tokio_util::codec::Decoder as _;
        let Some(header) = Header::read(buffer)? else { return Ok(None) };
        header.check(self.peer, self.version.is_some(), self.max_packet)?;
        if self.version.is_none() {
            match version(&buffer[header.len..])? {
                Some(version) => self.set_version(version),
                None if buffer.len() >= header.len + header.remaining => {
                    return Err(Error::Bad(Reason::MALFORMED, "CONNECT ends before its protocol level"));
                }
                None => return Ok(None),
            }
        }
        if buffer.len() < header.len + header.remaining {
            buffer.reserve((header.len + header.remaining - buffer.len()).min(READ * 8));
            return Ok(None);
        }
        let packet = match self.codec.as_mut().expect("set with the version") {
            Codec::V3(codec) => codec.decode(buffer).map(|p| p.map(|(packet, _)| v3::decode(packet))),
            Codec::V5(codec) => codec.decode(buffer).map(|p| p.map(|(packet, _)| v5::decode(packet))),
        };
        match packet.map_err(explain)? {
            Some(packet) => self.check(packet).map(Some),
            None => Ok(None),
        }
    }

    /// What the crate lets pass: invalid names and filters, aliases, empty lists.
    fn check(&mut self, packet: Packet) -> Result<Packet, Error> {
        match packet {
            Packet::Publish(publish) => self.check_publish(publish).map(Packet::Publish),
            Packet::Connect(connect) => {
                if let Some(will) = &connect.will {
                    topic::check_name(&will.message.topic)
                        .map_err(|_| Error::Bad(Reason::TOPIC_NAME_INVALID, "the will's topic is not valid"))?;
                }
                Ok(Packet::Connect(connect))
            }
            Packet::Subscribe(subscribe) if subscribe.filters.is_empty() => {
                Err(Error::Bad(Reason::PROTOCOL_ERROR, "SUBSCRIBE without a filter"))
            }
            Packet::Unsubscribe { filters, .. } if filters.is_empty() => {
                Err(Error::Bad(Reason::PROTOCOL_ERROR, "UNSUBSCRIBE without a filter"))
            }
            packet => Ok(packet),
        }
    }

    fn check_publish(&mut self, mut publish: Publish) -> Result<Publish, Error> {
        if publish.qos == crate::message::QoS::AtMostOnce && publish.dup {
            return Err(Error::Bad(Reason::MALFORMED, "DUP set on a QoS 0 message"));
        }
        if let Some(alias) = publish.topic_alias.take() {
            if alias.get() > TOPIC_ALIAS_MAXIMUM {
                return Err(Error::Bad(Reason::TOPIC_ALIAS_INVALID, "topic alias above the maximum"));
            }
            if publish.message.topic.is_empty() {
                let topic = self.aliases.get(&alias).cloned();
                let topic = topic.ok_or(Error::Bad(Reason::PROTOCOL_ERROR, "topic alias used before it was set"))?;
                Arc::make_mut(&mut publish.message).topic = topic;
            } else {
                self.aliases.insert(alias, publish.message.topic.clone());
            }
        }
        topic::check_name(&publish.message.topic)
            .map_err(|_| Error::Bad(Reason::TOPIC_NAME_INVALID, "PUBLISH on a topic name that is not valid"))?;
        if self.peer == Peer::Client && !publish.subscription_ids.is_empty() {
            return Err(Error::Bad(Reason::PROTOCOL_ERROR, "PUBLISH from a client with a subscription identifier"));
        }
        Ok(publish)
    }
}

/// The fixed header of a packet (MQTT 5.0, 2.1).
struct Header {
    first: u8,
    /// Its own length in bytes.
    len: usize,
    /// The bytes that follow it.
    remaining: usize,
}

impl Header {
    fn read(buffer: &[u8]) -> Result<Option<Self>, Error> {
        let Some(&first) = buffer.first() else { return Ok(None) };
        let mut remaining = 0;
        for (i, byte) in buffer[1..].iter().take(4).enumerate() {
            remaining |= usize::from(byte & 0x7F) << (7 * i);
            if byte & 0x80 == 0 {
                return Ok(Some(Self { first, len: i + 2, remaining }));
            }
        }
        if buffer.len() > 4 { Err(Error::Bad(Reason::MALFORMED, "remaining length of five bytes")) } else { Ok(None) }
    }

    /// Refuses at once what would be refused after reading it all.
    fn check(&self, peer: Peer, connected: bool, max_packet: u32) -> Result<(), Error> {
        let bad = |reason, what| Err(Error::Bad(reason, what));
        let kind = self.first >> 4;
        if !connected && kind != 1 {
            return bad(Reason::PROTOCOL_ERROR, "the first packet is not CONNECT");
        }
        let allowed = match peer {
            Peer::Client => matches!(kind, 1 | 3 | 4 | 5 | 6 | 7 | 8 | 10 | 12 | 14 | 15),
            Peer::Server => matches!(kind, 2 | 3 | 4 | 5 | 6 | 7 | 9 | 11 | 13 | 14 | 15),
        };
        if !allowed {
            return bad(Reason::PROTOCOL_ERROR, "a packet type that this side may not send");
        }
        let flags = self.first & 0x0F;
        let expected = if matches!(kind, 6 | 8 | 10) { 2 } else { 0 };
        if kind != 3 && flags != expected {
            return bad(Reason::MALFORMED, "reserved flags of the fixed header are set");
        }
        if self.first & 0x06 == 0x06 && kind == 3 {
            return bad(Reason::MALFORMED, "QoS 3");
        }
        if matches!(kind, 12 | 13) && self.remaining != 0 {
            return bad(Reason::MALFORMED, "PINGREQ or PINGRESP with a body");
        }
        if self.len + self.remaining > max_packet as usize {
            return bad(Reason::PACKET_TOO_LARGE, "packet larger than the limit");
        }
        Ok(())
    }
}

/// The version that a CONNECT's body begins with; `None` while it is not all there.
fn version(body: &[u8]) -> Result<Option<Version>, Error> {
    let Some(length) = body.get(..2) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length != 4 && length != 6 {
        return Err(Error::Bad(Reason::UNSUPPORTED_VERSION, "not an MQTT protocol name"));
    }
    let (Some(name), Some(&level)) = (body.get(2..2 + length), body.get(2 + length)) else { return Ok(None) };
    match (name, level) {
        (b"MQIsdp", 3) => Ok(Some(Version::V31)),
        (b"MQTT", 4) => Ok(Some(Version::V311)),
        (b"MQTT", 5) => Ok(Some(Version::V5)),
        _ => Err(Error::Bad(Reason::UNSUPPORTED_VERSION, "a protocol version that is not 3.1, 3.1.1 or 5")),
    }
}

fn explain(error: DecodeError) -> Error {
    match error {
        DecodeError::InvalidClientId => Error::Bad(Reason::CLIENT_ID_NOT_VALID, "empty client id without clean start"),
        DecodeError::InvalidTopicFilter => Error::Bad(Reason::PROTOCOL_ERROR, "empty topic filter or none"),
        DecodeError::InvalidTopicName => Error::Bad(Reason::TOPIC_NAME_INVALID, "empty topic name"),
        DecodeError::Utf8Error => Error::Bad(Reason::MALFORMED, "text that is not UTF-8"),
        DecodeError::UnsupportedPacketType => Error::Bad(Reason::PROTOCOL_ERROR, "a packet type that does not exist"),
        _ => Error::Bad(Reason::MALFORMED, "malformed packet"),
    }
}
