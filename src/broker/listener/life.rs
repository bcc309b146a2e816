//! What a connection and the stream below it know of each other: when the client was last heard, and whether it is in.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// One client's; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Life(Arc<Signs>);

#[derive(Debug)]
struct Signs {
    began: Instant,
    /// Milliseconds after that.
    heard: AtomicU64,
    is_guest: AtomicBool,
}

impl Life {
    pub(super) fn new() -> Self {
        let (began, heard, is_guest) = (Instant::now(), AtomicU64::new(0), AtomicBool::new(false));
        Self(Arc::new(Signs { began, heard, is_guest }))
    }

    /// When bytes last came, be it within a packet.
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

    /// A stream that tells here when bytes come.
    pub(super) fn of<S>(&self, stream: S) -> Heard<S> {
        Heard { stream, life: self.clone(), bytes: 0 }
    }
}

/// So many bytes within a packet are a sign of life: who sends a large message over a slow line is not cut off, and who
/// drips is. (Whole packets are told by others.)
const SIGN: usize = 1000;

/// A stream whose bytes are signs of life.
#[derive(Debug)]
pub(super) struct Heard<S> {
    stream: S,
    life: Life,
    /// Bytes since the last sign.
    bytes: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.bytes += buf.filled().len() - before;
        if self.bytes >= SIGN {
            self.bytes = 0;
            let Signs { began, heard, .. } = &*self.life.0;
            heard.store(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
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
    async fn a_thousand_bytes_are_a_sign_of_life() {
        let (near, mut far) = tokio::io::duplex(8000);
        let life = Life::new();
        let mut near = life.of(near);
        let began = life.heard();
        tokio::time::advance(Duration::from_secs(7)).await;
        far.write_all(&[0; 999]).await.unwrap();
        near.read_exact(&mut [0; 999]).await.unwrap();
        assert_eq!(life.heard(), began);
        far.write_all(b"x").await.unwrap();
        near.read_u8().await.unwrap();
        assert_eq!(life.heard() - began, Duration::from_secs(7));
    }
}
