//! Readers and writers on streams: fragments, memory, half-done writes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, duplex};

use super::*;

/// Gives out bytes in pieces of this size.
pub(super) struct Pieces<'a>(pub(super) &'a [u8], pub(super) usize);

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context, to: &mut ReadBuf) -> Poll<io::Result<()>> {
        let n = self.1.min(self.0.len()).min(to.remaining());
        let (now, later) = self.0.split_at(n);
        to.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

/// All packets up to the end of the stream, and the error that this is.
pub(super) async fn all<R: AsyncRead + Unpin>(reader: &mut Reader<R>) -> (Vec<Packet>, Error) {
    let mut packets = Vec::new();
    loop {
        match reader.recv().await {
            Ok(more) => packets.extend(more),
            Err(error) => return (packets, error),
        }
    }
}

/// The moment of arrival is the reader's own.
pub(super) fn timeless(packets: Vec<Packet>) -> Vec<Packet> {
    let timeless = |mut packet| {
        match &mut packet {
            Packet::Publish(p) => Arc::make_mut(&mut p.message).at = AT,
            Packet::Connect(c) => c.will.iter_mut().for_each(|will| will.message.at = AT),
            _ => {}
        }
        packet
    };
    packets.into_iter().map(timeless).collect()
}

#[tokio::test]
async fn however_the_bytes_come_the_packets_are_the_same() {
    let mut r = Rng::with_seed(3);
    for version in VERSIONS {
        let mut packets = vec![Packet::Connect(Box::new(random_connect(&mut r, version)))];
        while packets.len() < 300 {
            let packet = random_packet(&mut r, version, Peer::Client);
            // One CONNECT, and no end before the end.
            if !matches!(packet, Packet::Connect(_) | Packet::Disconnect { .. }) {
                packets.push(packet);
            }
        }
        let bytes: Vec<u8> = packets.iter().flat_map(|packet| encode(version, packet)).collect();
        for size in [1, 2, 3, 7, 100, 16 * 1024, 16 * 1024 + 1, usize::MAX] {
            let mut reader = Reader::server(Pieces(&bytes, size), 1 << 20);
            let (came, end) = all(&mut reader).await;
            assert!(matches!(end, Error::Closed), "{end}");
            assert!(timeless(came) == packets, "{version:?} in pieces of {size}");
            assert_eq!(reader.version(), Some(version));
        }
    }
}

#[tokio::test]
async fn packets_before_a_bad_one_are_not_lost_and_nothing_follows_it() {
    let mut bytes = encode(Version::V311, &Packet::Connect(Box::new(Connect::new(Version::V311, "c"))));
    bytes.extend(b"\xC0\x00\xF0\x00\xC0\x00");
    for size in [1, 100] {
        let mut reader = Reader::server(Pieces(&bytes, size), 1 << 20);
        let (seen, error) = all(&mut reader).await;
        assert!(matches!(&seen[..], [Packet::Connect(_), Packet::PingReq]), "{seen:?}");
        assert!(matches!(error, Error::Bad(Reason::PROTOCOL_ERROR, _)), "{error:?}");
        assert!(matches!(reader.recv().await, Err(Error::Closed)));
    }
}

#[tokio::test]
async fn memory_grows_with_what_has_come_and_not_with_what_is_announced() {
    let (ours, mut theirs) = duplex(1 << 20);
    let mut reader = Reader::client(ours, Version::V311, u32::MAX);
    assert_eq!(reader.held(), 0);
    // PUBLISH of 256 MB; only its first bytes come.
    theirs.write_all(b"\x30\xFF\xFF\xFF\x7F\x00\x01a").await.unwrap();
    assert!(waits(&mut reader).await);
    assert!(reader.held() <= 64, "{}", reader.held());
    for sent in 1..=20 {
        theirs.write_all(&[0; 10_000]).await.unwrap();
        assert!(waits(&mut reader).await);
        assert!(reader.held() <= 2 * (sent * 10_000 + 16 * 1024), "{} for {sent}", reader.held());
    }
}

/// Whether the reader still waits for more.
async fn waits<R: AsyncRead + Unpin>(reader: &mut Reader<R>) -> bool {
    tokio::select! {
        biased;
        packets = reader.recv() => packets.unwrap().is_empty(),
        () = tokio::task::yield_now() => true,
    }
}

#[tokio::test]
async fn large_packets_come_whole_and_leave_nothing_behind() {
    let payload: Bytes = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let message = Message { qos: QoS::AtMostOnce, at: AT, ..Message::new("large", payload.clone()) };
    let large = Packet::Publish(Publish {
        id: None,
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        message: Arc::new(message),
        topic_alias: None,
        subscription_ids: Vec::new(),
        place: None,
    });
    let bytes = [encode(Version::V5, &large), encode(Version::V5, &Packet::PingResp)].concat().repeat(2);
    for size in [999, 16 * 1024, 1 << 20] {
        let mut reader = Reader::client(Pieces(&bytes, size), Version::V5, u32::MAX);
        let (came, _) = all(&mut reader).await;
        assert!(timeless(came) == [large.clone(), Packet::PingResp, large.clone(), Packet::PingResp], "{size}");
        assert!(reader.held() <= 512, "{}", reader.held());
    }
}

#[tokio::test]
async fn an_idle_connection_costs_next_to_nothing() {
    let mut r = Rng::with_seed(8);
    let (ours, mut theirs) = duplex(1 << 20);
    let mut reader = Reader::server(ours, 1 << 20);
    let mut writer = Writer::new(tokio::io::sink(), Version::V5);
    theirs.write_all(&encode(Version::V5, &Packet::Connect(Box::new(Connect::new(Version::V5, "c"))))).await.unwrap();
    for _ in 0..500 {
        let packet = Packet::Publish(random_publish(&mut r, Version::V5, Peer::Client));
        theirs.write_all(&encode(Version::V5, &packet)).await.unwrap();
        writer.queue(&packet).unwrap();
    }
    writer.flush().await.unwrap();
    let half = encode(Version::V5, &Packet::Publish(random_publish(&mut r, Version::V5, Peer::Client)));
    theirs.write_all(&half[..1]).await.unwrap();
    while !waits(&mut reader).await {}
    let size = size_of_val(&reader) + size_of_val(&writer) + reader.held() + writer.held();
    assert!(size <= 2048, "{size} bytes");
}

/// Takes what it is given into a buffer of its own, and takes its time to pass it on.
#[derive(Default)]
struct Slow {
    taken: Vec<u8>,
    passed_on: usize,
    turns: usize,
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.turns += 1;
        if self.turns.is_multiple_of(3) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let n = bytes.len().min(1000);
        self.taken.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        self.turns += 1;
        if !self.turns.is_multiple_of(4) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.passed_on = self.taken.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_write_that_is_given_up_again_and_again_still_gets_through() {
    let mut r = Rng::with_seed(4);
    let mut slow = Slow::default();
    let mut expected = Vec::new();
    let mut writer = Writer::new(&mut slow, Version::V5);
    for _ in 0..200 {
        let packet = random_packet(&mut r, Version::V5, Peer::Server);
        expected.extend(encode(Version::V5, &packet));
        writer.queue(&packet).unwrap();
        while writer.pending() > 0 && r.u8(..5) > 0 {
            // What `select!` does when something else is ready first.
            tokio::select! {
                biased;
                written = writer.write_some() => written.unwrap(),
                () = std::future::ready(()) => {}
            }
        }
    }
    while writer.pending() > 0 {
        tokio::select! {
            biased;
            written = writer.write_some() => written.unwrap(),
            () = std::future::ready(()) => {}
        }
    }
    drop(writer);
    assert!(slow.taken == expected, "the same bytes, once");
    assert_eq!(slow.passed_on, expected.len(), "and none is left in the stream");
}
