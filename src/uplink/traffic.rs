//! What moves on the connection to the cloud, in bytes, whether or not it completes a packet: on a slow way a large packet
//! takes minutes, and all that time the connection lives.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout};

/// The slowest way that is one, in bytes a second: a poor radio link.
pub(super) const SLOWEST: u64 = 1024;

/// For no longer than this is something waited for only because other bytes come.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

/// The bytes of one connection so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    sent: AtomicU64,
}

/// A stream whose bytes are counted.
#[derive(Debug)]
pub(super) struct Counted<S> {
    io: S,
    traffic: Traffic,
}

impl Traffic {
    /// Bytes that came.
    pub(super) fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }

    /// Bytes that the stream took.
    pub(super) fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// So many came and went.
    #[cfg(test)]
    pub(super) fn add(&self, received: u64, sent: u64) {
        self.0.received.fetch_add(received, Ordering::Relaxed);
        self.0.sent.fetch_add(sent, Ordering::Relaxed);
    }

    /// Waits for `future`: for `patience`, and on as long as bytes come. None when it has not come about.
    pub(super) async fn wait_for<F: Future>(&self, patience: Duration, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        let start = Instant::now();
        loop {
            let (before, since) = (self.received(), Instant::now());
            if let Ok(done) = timeout(patience, &mut future).await {
                return Some(done);
            }
            if !flows(self.received() - before, since.elapsed()) || start.elapsed() >= LONGEST {
                return None;
            }
        }
    }
}

/// Whether so many bytes in that time are a flow: more than an answer to a ping, or a command now and then.
pub(super) fn flows(bytes: u64, time: Duration) -> bool {
    bytes > 0 && u128::from(bytes) * 1000 >= u128::from(SLOWEST) * time.as_millis()
}

impl<S> Counted<S> {
    /// Counts from 0.
    pub(super) fn new(io: S) -> Self {
        Self { io, traffic: Traffic::default() }
    }

    /// The counts, which go on.
    pub(super) fn traffic(&self) -> Traffic {
        self.traffic.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context, into: &mut ReadBuf) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, into))?;
        self.traffic.0.received.fetch_add((into.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.traffic.0.sent.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context,
        bytes: &[io::IoSlice],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bytes))?;
        self.traffic.0.sent.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Waits for 100 kB of a peer that sends `bytes` each second; how long that took.
    async fn wait(bytes: usize, seconds: usize) -> (bool, u64) {
        let (ours, mut theirs) = duplex(1 << 20);
        let mut ours = Counted::new(ours);
        let peer = async {
            for _ in 0..seconds {
                theirs.write_all(&vec![0; bytes]).await.expect("room");
                sleep(SECOND).await;
            }
            std::future::pending::<()>().await;
        };
        let (start, traffic) = (Instant::now(), ours.traffic());
        let mut all = vec![0; 100_000];
        let done = tokio::select! {
            done = traffic.wait_for(10 * SECOND, ours.read_exact(&mut all)) => done.is_some(),
            () = peer => false,
        };
        (done, start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn what_flows_is_waited_for_and_what_stands_or_drips_is_not() {
        assert_eq!(wait(2_000, 50).await, (true, 49));
        assert_eq!(wait(0, 0).await, (false, 10));
        assert_eq!(wait(20, 5000).await, (false, 10));
        // It stops after 25 s: in the third span something has come, in the fourth nothing.
        assert_eq!(wait(2_000, 25).await, (false, 30));
    }
}
