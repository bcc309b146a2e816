//! Packets to a stream: gathered, and written at once.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::Error;
use super::encoder::{Encoder, Limits};
use super::outbox::Outbox;
use crate::mqtt::{Packet, Version};

/// Writes packets to a stream.
#[derive(Debug)]
pub struct Writer<W> {
    io: W,
    encoder: Encoder,
    outbox: Outbox,
    /// The stream has taken bytes that it may still hold: TLS and WebSocket have buffers of their own.
    unflushed: bool,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes packets of this version.
    pub fn new(io: W, version: Version) -> Self {
        Self { io, encoder: Encoder::new(version), outbox: Outbox::default(), unflushed: false }
    }

    /// What the peer takes, from its CONNECT or CONNACK: the largest packet, topic aliases, reason strings.
    pub fn set_limits(&mut self, limits: impl Into<Limits>) {
        self.encoder.set_limits(limits.into());
    }

    /// The largest packet that the peer takes, in bytes, and nothing else of [`Writer::set_limits`].
    pub fn set_max_packet(&mut self, bytes: Option<u32>) {
        self.encoder.set_max_packet(bytes);
    }

    /// Gathers a packet for the next [`Writer::flush`]. In MQTT 5 a failure explains itself by a reason string.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the peer does not take a packet of this size, or MQTT has none: it is left out.
    pub fn queue(&mut self, packet: &Packet) -> Result<(), Error> {
        self.encoder.encode(packet, None, &mut self.outbox)
    }

    /// The same, and `why` is the reason string if the packet has a failure to explain.
    ///
    /// # Errors
    /// As [`Writer::queue`].
    pub fn queue_because(&mut self, packet: &Packet, why: &str) -> Result<(), Error> {
        self.encoder.encode(packet, Some(why), &mut self.outbox)
    }

    /// How many bytes wait to be written; at least 1 until the stream has passed on the last of them.
    pub fn pending(&self) -> usize {
        self.outbox.len().max(self.unflushed.into())
    }

    /// The memory that is kept.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.outbox.held()
    }

    /// Writes what is gathered. Cancel safe: what was written is not written again.
    ///
    /// # Errors
    /// When the stream fails.
    pub async fn flush(&mut self) -> io::Result<()> {
        while self.pending() > 0 {
            self.write_some().await?;
        }
        Ok(())
    }

    /// Writes as much of it as the stream takes at once, for whoever has other things to do meanwhile. Cancel safe: to be
    /// called again while [`Writer::pending`] is not 0.
    ///
    /// # Errors
    /// When the stream fails.
    pub async fn write_some(&mut self) -> io::Result<()> {
        if self.outbox.len() > 0 {
            let written = self.io.write(self.outbox.front()).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.outbox.advance(written);
            self.unflushed = true;
        }
        if self.outbox.len() == 0 && self.unflushed {
            self.io.flush().await?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// Ends the stream in this direction.
    ///
    /// # Errors
    /// When the stream fails.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }
}
