//! Packets on a stream: framing, the codec crate behind it, and what the crate does not check.
//!
//! [`Framed`] joins a stream to both halves; [`Reader`] yields all packets that one read brought, [`Writer`] gathers
//! packets and writes them at once. Both are cancel safe, so that one task can serve a connection with `select!`.

mod v3;
mod v5;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use rmqtt_codec::error::DecodeError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::message::Message;
use crate::mqtt::{Packet, Publish, Reason, Version, topic};

/// Why a connection cannot go on, and what to tell the peer.
#[derive(Debug)]
pub enum Error {
    /// The peer closed the connection.
    Closed,
    /// The stream failed.
    Io(io::Error),
    /// The peer sent what no peer may send; the code goes into CONNACK or DISCONNECT where the version has it.
    Bad(Reason, &'static str),
    /// A packet of ours is larger than the peer takes; it was not sent, and the connection is usable.
    TooLarge,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Closed => f.write_str("the connection was closed"),
            Error::Io(e) => e.fmt(f),
            Error::Bad(reason, what) => write!(f, "{what} (reason code {:#04x})", reason.0),
            Error::TooLarge => f.write_str("the packet is larger than the peer takes"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Error::Io(e)
    }
}

/// A stream that carries MQTT packets.
#[derive(Debug)]
pub struct Framed<S> {
    reader: Reader<ReadHalf<S>>,
    writer: Writer<WriteHalf<S>>,
}

impl<S: AsyncRead + AsyncWrite> Framed<S> {
    /// A client's side: the version is known; packets above `max_packet` bytes are refused.
    pub fn client(stream: S, version: Version, max_packet: u32) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { reader: Reader::client(read, version, max_packet), writer: Writer::new(write, version) }
    }

    /// The next packets; see [`Reader::recv`].
    ///
    /// # Errors
    /// As [`Reader::recv`].
    pub async fn recv(&mut self) -> Result<Vec<Packet>, Error> {
        self.reader.recv().await
    }

    /// Gathers a packet; see [`Writer::queue`].
    ///
    /// # Errors
    /// As [`Writer::queue`].
    pub fn queue(&mut self, packet: &Packet) -> Result<(), Error> {
        self.writer.queue(packet)
    }

    /// Writes what is gathered; see [`Writer::flush`].
    ///
    /// # Errors
    /// When the stream fails.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().await
    }

    /// The two halves, to be used at the same time.
    pub fn split(self) -> (Reader<ReadHalf<S>>, Writer<WriteHalf<S>>) {
        (self.reader, self.writer)
    }
}

/// Which side of the connection the peer is; what it may send follows from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Client,
    Server,
}

#[derive(Debug)]
enum Codec {
    V3(rmqtt_codec::v3::Codec),
    V5(rmqtt_codec::v5::Codec),
}

/// How many bytes one read asks for at least.
const READ: usize = 8 * 1024;
/// Larger payloads keep their place in the read buffer; smaller ones are copied out, so that a message that is kept
/// for long does not keep a whole read buffer with it.
const SHARE_PAYLOAD_FROM: usize = 16 * 1024;

/// Reads packets from a stream.
#[derive(Debug)]
pub struct Reader<R> {
    io: R,
    buffer: BytesMut,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads what a server sends.
    pub fn client(io: R, version: Version, max_packet: u32) -> Self {
        let mut decoder = Decoder::new(Peer::Server, max_packet);
        decoder.set_version(version);
        Self { io, buffer: BytesMut::new(), decoder }
    }

    /// Reads what a client sends; the version follows from its CONNECT.
    pub fn server(io: R, max_packet: u32) -> Self {
        Self { io, buffer: BytesMut::new(), decoder: Decoder::new(Peer::Client, max_packet) }
    }

    /// The version of the connection, once known.
    pub fn version(&self) -> Option<Version> {
        self.decoder.version
    }

    /// Reads to the end of the stream and forgets what comes.
    pub async fn discard(&mut self) {
        loop {
            self.buffer.clear();
            self.buffer.reserve(READ);
            if !matches!(self.io.read_buf(&mut self.buffer).await, Ok(1..)) {
                return;
            }
        }
    }

    /// Waits for at least one packet and returns all that have arrived whole. Cancel safe.
    ///
    /// # Errors
    /// When the stream ends, fails or brings what the peer may not send. Packets before a bad one are returned first.
    pub async fn recv(&mut self) -> Result<Vec<Packet>, Error> {
        loop {
            let packets = self.decoder.decode(&mut self.buffer)?;
            if !packets.is_empty() {
                return Ok(packets);
            }
            if self.buffer.capacity() - self.buffer.len() < READ {
                self.buffer.reserve(READ);
            }
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                return Err(Error::Closed);
            }
        }
    }
}

/// Writes packets to a stream.
#[derive(Debug)]
pub struct Writer<W> {
    io: W,
    buffer: BytesMut,
    codec: Codec,
    max_packet: Option<u32>,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes packets of this version.
    pub fn new(io: W, version: Version) -> Self {
        Self { io, buffer: BytesMut::new(), codec: codec(version), max_packet: None }
    }

    /// The largest packet that the peer takes, in bytes.
    pub fn set_max_packet(&mut self, bytes: Option<u32>) {
        self.max_packet = bytes;
    }

    /// Gathers a packet for the next [`Writer::flush`].
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the peer does not take a packet of this size, or MQTT has none: it is left out.
    pub fn queue(&mut self, packet: &Packet) -> Result<(), Error> {
        use tokio_util::codec::Encoder;
        let before = self.buffer.len();
        let encoded = match &mut self.codec {
            Codec::V3(codec) => match v3::encode(packet) {
                Some(packet) => codec.encode(packet, &mut self.buffer),
                None => return Ok(()), // 3.1.1 has no such packet: DISCONNECT from a server, AUTH
            },
            Codec::V5(codec) => codec.encode(v5::encode(packet), &mut self.buffer),
        };
        let size = self.buffer.len() - before;
        if encoded.is_err() || self.max_packet.is_some_and(|max| size > max as usize) {
            self.buffer.truncate(before);
            return Err(Error::TooLarge);
        }
        Ok(())
    }

    /// How many bytes wait to be written.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Writes what is gathered. Cancel safe: what was written is not written again.
    ///
    /// # Errors
    /// When the stream fails.
    pub async fn flush(&mut self) -> io::Result<()> {
        while self.buffer.has_remaining() {
            self.write_some().await?;
        }
        self.io.flush().await
    }

    /// Writes as much of it as the stream takes at once, for whoever has other things to do meanwhile. Cancel safe.
    ///
    /// # Errors
    /// When the stream fails.
    pub async fn write_some(&mut self) -> io::Result<()> {
        if self.io.write_buf(&mut self.buffer).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        // A burst may have grown the buffer; a quiet connection should not keep it.
        if self.buffer.is_empty() && self.buffer.capacity() > 8 * READ {
            self.buffer = BytesMut::new();
        }
        if self.buffer.is_empty() { self.io.flush().await } else { Ok(()) }
    }

    /// Ends the stream in this direction.
    ///
    /// # Errors
    /// When the stream fails.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }
}

fn codec(version: Version) -> Codec {
    match version {
        // Sizes are checked here, on the whole packet; 0 is "no limit" to the crate.
        Version::V31 | Version::V311 => Codec::V3(rmqtt_codec::v3::Codec::new(0)),
        Version::V5 => Codec::V5(rmqtt_codec::v5::Codec::new(0, 0)),
    }
}

/// Bytes to packets, with all checks. Pure.
#[derive(Debug)]
struct Decoder {
    peer: Peer,
    max_packet: u32,
    version: Option<Version>,
    codec: Option<Codec>,
    /// Topics by alias, of an MQTT 5 peer (MQTT 5.0, 3.3.2.3.4).
    aliases: HashMap<NonZeroU16, Arc<str>>,
    /// An error that stands behind packets already returned.
    failed: Option<Error>,
}

/// How many topic aliases a peer may set; announced in CONNACK and CONNECT.
pub const TOPIC_ALIAS_MAXIMUM: u16 = 64;

impl Decoder {
    fn new(peer: Peer, max_packet: u32) -> Self {
        Self { peer, max_packet, version: None, codec: None, aliases: HashMap::new(), failed: None }
    }

    fn set_version(&mut self, version: Version) {
        self.version = Some(version);
        self.codec = Some(codec(version));
    }

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Vec<Packet>, Error> {
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

/// A payload that may be kept: see [`SHARE_PAYLOAD_FROM`].
fn payload(bytes: Bytes) -> Bytes {
    if bytes.len() < SHARE_PAYLOAD_FROM { Bytes::copy_from_slice(&bytes) } else { bytes }
}

/// The QoS of the crate as ours, and back.
fn qos_in(qos: rmqtt_codec::types::QoS) -> crate::message::QoS {
    match qos {
        rmqtt_codec::types::QoS::AtMostOnce => crate::message::QoS::AtMostOnce,
        rmqtt_codec::types::QoS::AtLeastOnce => crate::message::QoS::AtLeastOnce,
        rmqtt_codec::types::QoS::ExactlyOnce => crate::message::QoS::ExactlyOnce,
    }
}

fn qos_out(qos: crate::message::QoS) -> rmqtt_codec::types::QoS {
    match qos {
        crate::message::QoS::AtMostOnce => rmqtt_codec::types::QoS::AtMostOnce,
        crate::message::QoS::AtLeastOnce => rmqtt_codec::types::QoS::AtLeastOnce,
        crate::message::QoS::ExactlyOnce => rmqtt_codec::types::QoS::ExactlyOnce,
    }
}

/// A message as it came, before it is anybody's.
fn message(topic: &str, bytes: Bytes, qos: rmqtt_codec::types::QoS, retain: bool) -> Message {
    Message {
        topic: topic.into(),
        payload: payload(bytes),
        qos: qos_in(qos),
        retain,
        at: crate::clock::Timestamp::now(),
        properties: None,
    }
}
