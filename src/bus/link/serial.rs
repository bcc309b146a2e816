//! A serial port: raw, exclusive, never waited for.
//!
//! Nothing here drains or flushes the port on the runtime: the kernel's `tcdrain` blocks a whole thread until the last
//! bit has left. Whoever needs the time of the last bit reckons it from the baud rate.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{ControlModes, InputModes, OptionalActions, QueueSelector};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A serial port and its line settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serial {
    /// Preferably a stable path such as `/dev/serial/by-id/…`.
    pub port: PathBuf,
    pub baud: u32,
    pub parity: Parity,
    /// 5 to 8.
    pub data_bits: u8,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// The parity bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parity {
    #[default]
    None,
    Even,
    Odd,
}

impl Serial {
    /// How many bits a character takes on the line, start, parity and stop bits among them.
    pub fn bits(&self) -> u8 {
        1 + self.data_bits + u8::from(self.parity != Parity::None) + self.stop_bits
    }
}

/// An open serial port. A read of nothing, and any error, mean that it is unplugged.
#[derive(Debug)]
pub struct Port {
    io: AsyncFd<OwnedFd>,
}

impl Port {
    /// Opens the port for this program alone, raw, with the line set as configured and old input thrown away.
    ///
    /// # Errors
    /// Why it cannot be used, and what may help.
    pub async fn open(serial: &Serial) -> Result<Port, String> {
        let serial = serial.clone();
        // A USB adapter takes its time to open and to set its line.
        let opened = tokio::task::spawn_blocking(move || open(&serial)).await;
        let fd = opened.map_err(|e| format!("cannot open the port: {e}"))??;
        Port::over(fd).map_err(|e| format!("cannot watch the port: {e}"))
    }

    /// The port behind an open, non-blocking descriptor, as it is.
    pub(crate) fn over(fd: OwnedFd) -> io::Result<Port> {
        Ok(Port { io: watched(fd)? })
    }
}

/// Puts a descriptor under the runtime's eyes. It must be non-blocking.
#[expect(unsafe_code, reason = "tokio's safe constructor is deprecated; an owned descriptor keeps its contract")]
pub(crate) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open for as long as it lives, always names the same file, and is lent out only shared.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

fn open(serial: &Serial) -> Result<OwnedFd, String> {
    let path = serial.port.display();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&serial.port, flags, Mode::empty()).map_err(|e| match e {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => format!("{path} is not there (unplugged?)"),
        Errno::ACCESS => format!("{path} may not be opened by this user; the group `dialout` may"),
        Errno::BUSY => format!("{path} is in use by another program"),
        e => format!("cannot open {path}: {e}"),
    })?;
    rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
        Errno::WOULDBLOCK => format!("{path} is in use by another program"),
        e => format!("cannot lock {path}: {e}"),
    })?;
    set_line(&fd, serial).map_err(|e| match e.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOTTY) => format!("{path} is not a serial port"),
        _ => format!("cannot set {path} to {} baud with this frame: {e}", serial.baud),
    })?;
    Ok(fd)
}

fn set_line(fd: &OwnedFd, serial: &Serial) -> io::Result<()> {
    let mut line = rustix::termios::tcgetattr(fd)?;
    rustix::termios::ioctl_tiocexcl(fd)?;
    line.make_raw();
    line.input_modes.remove(InputModes::IXOFF | InputModes::INPCK);
    line.control_modes.remove(
        ControlModes::CSIZE
            | ControlModes::CSTOPB
            | ControlModes::PARENB
            | ControlModes::PARODD
            | ControlModes::CRTSCTS,
    );
    line.control_modes |= ControlModes::CREAD | ControlModes::CLOCAL;
    line.control_modes |= match serial.data_bits {
        5 => ControlModes::CS5,
        6 => ControlModes::CS6,
        7 => ControlModes::CS7,
        _ => ControlModes::CS8,
    };
    line.control_modes |= match serial.parity {
        Parity::None => ControlModes::empty(),
        Parity::Even => ControlModes::PARENB,
        Parity::Odd => ControlModes::PARENB | ControlModes::PARODD,
    };
    if serial.stop_bits == 2 {
        line.control_modes |= ControlModes::CSTOPB;
    }
    line.set_speed(serial.baud)?;
    rustix::termios::tcsetattr(fd, OptionalActions::Now, &line)?;
    // A driver that cannot do a speed takes another one and says nothing.
    let set = rustix::termios::tcgetattr(fd)?.output_speed();
    if set.abs_diff(serial.baud) > serial.baud / 33 {
        return Err(io::Error::other(format!("the port makes it {set} baud")));
    }
    Ok(rustix::termios::tcflush(fd, QueueSelector::IFlush)?)
}

impl Drop for Port {
    /// Throws away what is unsent: closing would wait for it, for up to 30 s on a line that is held. And gives up the
    /// exclusive use, which lasts as long as anybody has the port open. Neither matters when the port is gone.
    fn drop(&mut self) {
        let _ = rustix::termios::tcflush(&self.io, QueueSelector::OFlush);
        let _ = rustix::termios::ioctl_tiocnxcl(&self.io);
    }
}

impl AsyncRead for Port {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            // Read first and ask for readiness after: what the kernel holds is seen at once, even when the
            // runtime has not heard of it yet.
            match rustix::io::read(&self.io, buf.initialize_unfilled()) {
                Ok(n) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::AGAIN) => ready!(self.io.poll_read_ready(cx))?.clear_ready(),
                Err(Errno::INTR) => {}
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match rustix::io::write(&self.io, bytes) {
                Ok(n) => return Poll::Ready(Ok(n)),
                Err(Errno::AGAIN) => ready!(self.io.poll_write_ready(cx))?.clear_ready(),
                Err(Errno::INTR) => {}
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }

    /// Nothing is held back here, and the kernel's buffer is left to the kernel.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::fixture::pty;
    use std::path::PathBuf;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn at(port: PathBuf, baud: u32) -> Serial {
        Serial { port, baud, parity: Parity::None, data_bits: 8, stop_bits: 1 }
    }

    #[tokio::test]
    async fn every_byte_passes_both_ways_unchanged() {
        let (mut end, path) = pty();
        let mut port = Port::open(&at(path, 9600)).await.unwrap();
        let all: Vec<u8> = (0..=255).collect();
        let mut read = vec![0; 256];
        end.write_all(&all).await.unwrap();
        port.read_exact(&mut read).await.unwrap();
        assert_eq!(read, all);
        read.fill(0);
        port.write_all(&all).await.unwrap();
        end.read_exact(&mut read).await.unwrap();
        assert_eq!(read, all);
    }

    #[tokio::test]
    async fn a_speed_that_is_no_standard_is_set() {
        let (end, path) = pty();
        let _port = Port::open(&at(path, 250_000)).await.unwrap();
        assert_eq!(rustix::termios::tcgetattr(&end.io).unwrap().output_speed(), 250_000);
    }

    #[tokio::test]
    async fn belongs_to_one_program_alone() {
        let (_end, path) = pty();
        let first = Port::open(&at(path.clone(), 9600)).await.unwrap();
        let why = Port::open(&at(path.clone(), 9600)).await.unwrap_err();
        assert!(why.ends_with("is in use by another program"), "{why}");
        drop(first);
        Port::open(&at(path, 9600)).await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_opened_says_why() {
        let why = |path: &str| {
            let serial = at(path.into(), 9600);
            async move { Port::open(&serial).await.unwrap_err() }
        };
        assert_eq!(why("/dev/serial/by-id/none").await, "/dev/serial/by-id/none is not there (unplugged?)");
        assert_eq!(why("/dev/null").await, "/dev/null is not a serial port");
    }

    #[tokio::test]
    async fn unplugging_ends_a_read() {
        let (end, path) = pty();
        let mut port = Port::open(&at(path, 9600)).await.unwrap();
        let reading = tokio::spawn(async move { port.read(&mut [0; 8]).await });
        tokio::task::yield_now().await;
        drop(end);
        assert!(matches!(reading.await.unwrap(), Ok(0) | Err(_)));
    }
}
