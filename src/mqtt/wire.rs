//! Packets on a stream: our own codec for MQTT 3.1, 3.1.1 and 5.0, without a socket or a clock to wait for inside.
//!
//! [`Framed`] joins a stream to both halves; [`Reader`] yields all packets that one read brought, [`Writer`] gathers
//! packets and writes them at once. Both are cancel safe, so that one task can serve a connection with `select!`.
//!
//! A packet is a fixed header (`header`) and a body. `decoder` and `encoder` know which body belongs to which header and
//! remember what a connection remembers; a body is read and written in one file:
//!
//! | type | packet | sent by | body |
//! |---|---|---|---|
//! | 1 | CONNECT | client | `connect` |
//! | 2 | CONNACK | server | `connack` |
//! | 3 | PUBLISH | both | `publish`, with its topics in `alias` |
//! | 4 to 7 | PUBACK, PUBREC, PUBREL, PUBCOMP | both | `acks` |
//! | 8, 9 | SUBSCRIBE, SUBACK | client, server | `subscribe` |
//! | 10, 11 | UNSUBSCRIBE, UNSUBACK | client, server | `subscribe` |
//! | 12, 13 | PINGREQ, PINGRESP | client, server | none |
//! | 14 | DISCONNECT | both (3.1.1: client) | `acks` |
//! | 15 | AUTH | nobody: we offer no authentication method | none |
//!
//! Below them, `properties` is what MQTT 5 has in every body, and `read` and `write` are the data types. What a peer may
//! not send is refused where it is read, with the reason code that it is to be told; section numbers in the texts are
//! those of MQTT 5.0 unless they say otherwise.

mod header;
mod decoder;
mod encoder;
mod connect;
mod connack;
mod publish;
mod alias;
mod acks;
mod subscribe;
mod properties;
mod read;
mod write;
mod outbox;
mod reader;
mod writer;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};

use crate::mqtt::{Packet, Reason, Version};

pub use alias::TOPIC_ALIAS_MAXIMUM;
pub use decoder::MOST_CONNECT;
pub use encoder::Limits;
pub use reader::Reader;
pub use writer::Writer;

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

/// Refuses what the peer sent.
fn bad<T>(reason: Reason, what: &'static str) -> Result<T, Error> {
    Err(Error::Bad(reason, what))
}

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
