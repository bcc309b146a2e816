//! The silence between two RTU frames, and a clock fine enough to keep it.
//!
//! Tokio's timers tick in milliseconds; at 115200 baud that would cost a tenth of the bus. A timerfd does not.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::bus::link::Serial;
use crate::bus::link::serial::watched;

/// How long bytes take on a line, and how long it must be still between frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// The time of one character; zero where no line is known.
    pub character: Duration,
    /// The silence before a frame (t3.5).
    pub silence: Duration,
}

impl Pace {
    /// The pace of a serial line.
    pub fn of(serial: &Serial) -> Self {
        let baud = f64::from(serial.baud.max(1));
        let character = Duration::from_secs_f64(f64::from(serial.bits()) / baud);
        Self { character, silence: silence(character) }
    }

    /// How long `bytes` take on the line.
    pub fn time_of(&self, bytes: usize) -> Duration {
        self.character * u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// The silence between two frames, t3.5: 3.5 characters, but never below 1.75 ms, which is what counts above
/// 19200 baud (Modbus over serial line V1.02, 2.5.1.1).
pub(crate) fn silence(character: Duration) -> Duration {
    (character * 7 / 2).max(Duration::from_micros(1750))
}

/// Waits for moments that are a few hundred microseconds away.
#[derive(Debug)]
pub struct Stillness {
    timer: Option<AsyncFd<OwnedFd>>,
}

impl Stillness {
    /// By a timer of the kernel's, to some ten microseconds; by tokio's when the kernel gives none.
    pub fn precise() -> Self {
        let timer =
            rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC);
        Self { timer: timer.ok().and_then(|fd| watched(fd).ok()) }
    }

    /// By tokio's timer: to a millisecond, and able to follow paused time.
    pub fn coarse() -> Self {
        Self { timer: None }
    }

    /// Waits until `moment`; returns at once when it has passed.
    pub async fn until(&mut self, moment: Instant) {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let waited = match &self.timer {
            Some(timer) => expire(timer, left).await,
            None => Err(io::ErrorKind::Unsupported.into()),
        };
        if waited.is_err() {
            tokio::time::sleep_until(moment).await;
        }
    }
}

async fn expire(timer: &AsyncFd<OwnedFd>, after: Duration) -> io::Result<()> {
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let once = Itimerspec { it_interval: zero, it_value: after.try_into().map_err(io::Error::other)? };
    rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)?;
    loop {
        // An earlier wait that was cancelled may have left the timer marked ready: only its read tells.
        let mut ready = timer.readable().await?;
        if let Ok(read) = ready.try_io(|fd| Ok(rustix::io::read(fd, &mut [0u8; 8])?)) {
            return read.map(drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::link::Parity;

    fn serial(baud: u32, parity: Parity) -> Serial {
        Serial { port: "/dev/null".into(), baud, parity, data_bits: 8, stop_bits: 1 }
    }

    #[test]
    fn pace_follows_the_specification() {
        let slow = Pace::of(&serial(9600, Parity::None));
        assert_eq!(slow.silence.as_micros(), 3645);
        assert_eq!(Pace::of(&serial(9600, Parity::Even)).silence.as_micros(), 4010);
        assert_eq!(slow.time_of(8).as_micros(), 8333);
        assert_eq!(Pace::of(&serial(9600, Parity::Even)).time_of(8).as_micros(), 9166);
        assert_eq!(Pace::of(&serial(19200, Parity::Even)).silence.as_micros(), 2005);
        assert_eq!(Pace::of(&serial(115_200, Parity::None)).silence.as_micros(), 1750);
    }

    #[tokio::test]
    async fn never_waits_too_short_and_again_after_a_cancelled_wait() {
        let mut stillness = Stillness::precise();
        assert!(stillness.timer.is_some());
        for _ in 0..20 {
            let cancelled = stillness.until(Instant::now() + Duration::from_millis(1));
            let _ = tokio::time::timeout(Duration::ZERO, cancelled).await;
            let moment = Instant::now() + Duration::from_micros(1750);
            stillness.until(moment).await;
            assert!(Instant::now() >= moment);
        }
    }
}
