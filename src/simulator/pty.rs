//! A serial port without hardware: a pseudoterminal pair. We hold one end as the devices on the line do; a client
//! opens the other by its path, as it would a USB adapter.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, QueueSelector};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::bus::link::serial::watched;

/// The devices' end of the line. Reads give what the client wrote; when nobody reads what is written, the kernel keeps
/// some kilobytes and further writes wait. Dropping it unplugs the adapter: the client's next read or write fails.
#[derive(Debug)]
pub struct Pty {
    end: AsyncFd<OwnedFd>,
    /// The client's end, held open so that a client that closes does not hang up the line for the next one.
    port: OwnedFd,
    path: PathBuf,
}

impl Pty {
    /// Makes a pair in raw mode. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the system has no pseudoterminal to give (pty(7)).
    pub fn open() -> io::Result<Self> {
        let end = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::grantpt(&end)?;
        rustix::pty::unlockpt(&end)?;
        let name = rustix::pty::ptsname(&end, Vec::new())?;
        let path = PathBuf::from(OsStr::from_bytes(name.to_bytes()));

        let port = rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let mut line = rustix::termios::tcgetattr(&port)?;
        line.make_raw();
        rustix::termios::tcsetattr(&port, OptionalActions::Now, &line)?;

        rustix::fs::fcntl_setfl(&end, OFlags::RDWR | OFlags::NONBLOCK)?;
        Ok(Self { end: watched(end)?, port, path })
    }

    /// The port that a client opens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Throws away what was written and no client has read yet.
    ///
    /// # Errors
    /// Those of tcflush(3).
    pub fn discard_unread(&self) -> io::Result<()> {
        Ok(rustix::termios::tcflush(&self.port, QueueSelector::IFlush)?)
    }
}

impl AsyncRead for Pty {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.end.poll_read_ready(cx))?;
            let read = ready.try_io(|end| Ok(rustix::io::read(end.as_fd(), buf.initialize_unfilled())?));
            if let Ok(read) = read {
                buf.advance(read?);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Pty {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.end.poll_write_ready(cx))?;
            if let Ok(written) = ready.try_io(|end| Ok(rustix::io::write(end.as_fd(), bytes)?)) {
                return Poll::Ready(written);
            }
        }
    }

    /// Nothing is held back, so nothing waits.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::{Read, Write};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn client(pty: &Pty) -> File {
        OpenOptions::new().read(true).write(true).open(pty.path()).unwrap()
    }

    #[tokio::test]
    async fn every_byte_passes_both_ways_unchanged() {
        let mut pty = Pty::open().unwrap();
        let mut client = client(&pty);
        let all: Vec<u8> = (0..=255).collect();

        client.write_all(&all).unwrap();
        let mut seen = [0; 256];
        pty.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen.to_vec(), all);

        pty.write_all(&all).await.unwrap();
        client.read_exact(&mut seen).unwrap();
        assert_eq!(seen.to_vec(), all);
    }

    #[tokio::test]
    async fn a_client_may_go_and_another_come() {
        let mut pty = Pty::open().unwrap();
        for _ in 0..2 {
            client(&pty).write_all(b"hello").unwrap();
            let mut seen = [0; 5];
            pty.read_exact(&mut seen).await.unwrap();
            assert_eq!(&seen, b"hello");
        }
    }

    #[tokio::test]
    async fn what_is_discarded_does_not_arrive() {
        let mut pty = Pty::open().unwrap();
        let mut client = client(&pty);
        pty.write_all(b"old").await.unwrap();
        // The kernel passes bytes on in the background: wait until they are there to be thrown away.
        while rustix::io::ioctl_fionread(&client).unwrap() < 3 {
            tokio::task::yield_now().await;
        }
        pty.discard_unread().unwrap();
        pty.write_all(b"new").await.unwrap();
        let mut seen = [0; 3];
        client.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"new");
    }

    #[tokio::test]
    async fn dropping_it_unplugs_the_port() {
        let pty = Pty::open().unwrap();
        let mut client = client(&pty);
        drop(pty);
        assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
        assert!(client.write_all(b"x").is_err());
    }
}
