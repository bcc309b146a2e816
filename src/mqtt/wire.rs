//! Packets on a stream: framing, the codec crate behind it, and what the crate does not check.
//!
//! [`Framed`] joins a stream to both halves; [`Reader`] yields all packets that one read brought, [`Writer`] gathers
//! packets and writes them at once. Both are cancel safe, so that one task can serve a connection with `select!`.

mod decoder;
mod v3;
mod v5;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::message::Message;
use crate::mqtt::{Packet, Reason, Version};
use decoder::{Decoder, Peer};

pub use decoder::TOPIC_ALIAS_MAXIMUM;

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
