//! What a connection and the stream below it know of each other: when the client was last heard, and whether it is in.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// So many bytes within a packet are a sign of life, as with Mosquitto: a large packet may take longer than the keep alive,
/// but a byte now and then is no packet that comes.
const SIGN: usize = 1000;

/// One client's; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Life(Arc<Signs>);

#[derive(Debug)]
struct Signs {
    began: Instant,
    /// Milliseconds after that.
    heard: AtomicU64,
    /// Bytes that have come since.
    bytes: AtomicUsize,
    is_guest: AtomicBool,
}

impl Life {
    pub(super) fn new() -> Self {
        let (heard, bytes, is_guest) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        Self(Arc::new(Signs { began: Instant::now(), heard, bytes, is_guest }))
    }

    /// When [`SIGN`] bytes had come last, be it within a packet.
    pub(super) fn heard(&self) -> Instant {
        self.0.began + Duration::from_millis(self.0.heard.load(Ordering::Relaxed))
    }

    /// Whether the client has logged in.
    pub(super) fn is_guest(&self) -> bool {
        self.0.is_guest.load(Ordering::Relaxed)
    }

    /// It has.
    pub(super) fn let_in(&self) {
        self.0.is_guest.store(true, Ordering::Relaxed);
    }

    fn came(&self, n: usize) {
        let Signs { began, heard, bytes, .. } = &*self.0;
        // Only the task that reads writes here.
        let came = bytes.load(Ordering::Relaxed) + n;
        let is_sign = came >= SIGN;
        bytes.store(if is_sign { 0 } else { came }, Ordering::Relaxed);
        if is_sign {
            heard.store(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// A stream that tells here when bytes come.
    pub(super) fn of<S>(&self, stream: S) -> Heard<S> {
        Heard { stream, life: self.clone() }
    }
}

/// A stream whose bytes are signs of life.
#[derive(Debug)]
pub(super) struct Heard<S> {
    stream: S,
    life: Life,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.life.came(buf.filled().len() - before);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_bytes_are_a_sign_of_life() {
        let (near, mut far) = tokio::io::duplex(SIGN);
        let life = Life::new();
        let mut near = life.of(near);
        let began = life.heard();
        tokio::time::advance(Duration::from_secs(7)).await;
        for (more, after) in [(SIGN - 1, 0), (1, 7), (1, 7)] {
            far.write_all(&vec![0; more]).await.unwrap();
            near.read_exact(&mut vec![0; more]).await.unwrap();
            assert_eq!(life.heard() - began, Duration::from_secs(after));
        }
    }
}
