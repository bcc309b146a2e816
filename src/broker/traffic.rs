//! What goes over the wires to clients, counted where it does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::mqtt::Packet;

/// The counters that all connections share.
#[derive(Debug, Default)]
pub struct Traffic {
    sockets: AtomicU64,
    connects: AtomicU64,
    received: Way,
    sent: Way,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    bytes: AtomicU64,
    packets: AtomicU64,
    publishes: AtomicU64,
    payload: AtomicU64,
}

/// The counters as they are, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sockets opened, and CONNECTs among them.
    pub sockets: u64,
    pub connects: u64,
    pub received: WayCounts,
    pub sent: WayCounts,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WayCounts {
    /// Bytes on the wire.
    pub bytes: u64,
    /// Packets of any kind.
    pub packets: u64,
    /// PUBLISHes, and the bytes of their payloads.
    pub publishes: u64,
    pub payload: u64,
}

impl Traffic {
    /// A client opened a socket.
    pub(super) fn opened(&self) {
        self.sockets.fetch_add(1, Ordering::Relaxed);
    }

    /// A socket, or a half of one, whose bytes are counted.
    pub(super) fn meter<S>(self: &Arc<Self>, socket: S) -> Metered<S> {
        Metered { socket, traffic: self.clone() }
    }

    /// Packets came from a client.
    pub(super) fn came(&self, packets: &[Packet]) {
        self.received.count(packets);
        let connects = packets.iter().filter(|packet| matches!(packet, Packet::Connect(_))).count();
        if connects > 0 {
            self.connects.fetch_add(connects as u64, Ordering::Relaxed);
        }
    }

    /// Packets go to a client.
    pub(super) fn went(&self, packets: &[Packet]) {
        self.sent.count(packets);
    }

    /// The counters as they are.
    pub fn counts(&self) -> Counts {
        Counts {
            sockets: self.sockets.load(Ordering::Relaxed),
            connects: self.connects.load(Ordering::Relaxed),
            received: self.received.counts(),
            sent: self.sent.counts(),
        }
    }
}

impl Way {
    fn count(&self, packets: &[Packet]) {
        let payloads =
            packets.iter().filter_map(|p| if let Packet::Publish(p) = p { Some(&p.message.payload) } else { None });
        let (publishes, payload) = payloads.fold((0, 0), |(n, bytes), payload| (n + 1, bytes + payload.len() as u64));
        self.packets.fetch_add(packets.len() as u64, Ordering::Relaxed);
        if publishes > 0 {
            self.publishes.fetch_add(publishes, Ordering::Relaxed);
            self.payload.fetch_add(payload, Ordering::Relaxed);
        }
    }

    fn counts(&self) -> WayCounts {
        WayCounts {
            bytes: self.bytes.load(Ordering::Relaxed),
            packets: self.packets.load(Ordering::Relaxed),
            publishes: self.publishes.load(Ordering::Relaxed),
            payload: self.payload.load(Ordering::Relaxed),
        }
    }
}

/// A socket whose bytes are counted.
#[derive(Debug)]
pub struct Metered<S> {
    socket: S,
    traffic: Arc<Traffic>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        let n = buffer.filled().len() - before;
        if n > 0 {
            self.traffic.received.bytes.fetch_add(n as u64, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        if let Poll::Ready(Ok(n)) = &written {
            self.traffic.sent.bytes.fetch_add(*n as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::message::{Message, QoS};
    use crate::mqtt::{Connect, Publish, Version};

    #[tokio::test]
    async fn bytes_are_counted_both_ways() {
        let traffic = Arc::<Traffic>::default();
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = traffic.meter(near);
        traffic.opened();
        far.write_all(b"hello").await.unwrap();
        near.read_exact(&mut [0; 5]).await.unwrap();
        near.write_all(b"good-bye").await.unwrap();
        let counts = traffic.counts();
        assert_eq!((counts.received.bytes, counts.sent.bytes, counts.sockets), (5, 8, 1));
    }

    #[test]
    fn packets_publishes_and_payloads_are_counted() {
        let traffic = Traffic::default();
        let message = Arc::new(Message::new("t", "four"));
        let (id, dup, qos, retain, topic_alias) = (None, false, QoS::AtMostOnce, false, None);
        let publish = Publish { id, dup, qos, retain, message, topic_alias, subscription_ids: Vec::new(), place: None };
        let publish = Packet::Publish(publish);
        traffic.came(&[Packet::Connect(Box::new(Connect::new(Version::V5, "c"))), publish.clone()]);
        traffic.went(&[publish.clone(), publish, Packet::PingResp]);
        let Counts { received, sent, connects, .. } = traffic.counts();
        assert_eq!((received.packets, received.publishes, received.payload, connects), (2, 1, 4, 1));
        assert_eq!((sent.packets, sent.publishes, sent.payload), (3, 2, 8));
    }
}
