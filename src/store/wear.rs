//! How much is written to the disk, as the kernel counts it for the thread that does: by pages, with those of the log and of
//! the file system. That is what a card wears out by; the bytes of the messages are a small part of it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);

/// The time whose rate is told, and how often a mark is made in it.
const SPAN: Duration = Duration::from_secs(3600);
const MARK: Duration = Duration::from_secs(60);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What was written, over time.
#[derive(Debug, Default)]
pub(super) struct Wear {
    looked: Option<Instant>,
    /// How much had been written when, in order; not much older than [`SPAN`].
    marks: VecDeque<(Instant, u64)>,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Since the thread began.
    pub(super) bytes: u64,
    /// In a day, at the rate of the last hour; none in the first minute.
    pub(super) per_day: Option<u64>,
}

impl Wear {
    /// Looks what this thread has written; none when it has just been looked, or the system does not tell.
    pub(super) fn look(&mut self, now: Instant) -> Option<Written> {
        if self.looked.is_some_and(|looked| now - looked < LOOK) {
            return None;
        }
        self.looked = Some(now);
        let bytes = count(&std::fs::read_to_string("/proc/thread-self/io").ok()?)?;
        Some(self.note(bytes, now))
    }

    fn note(&mut self, bytes: u64, now: Instant) -> Written {
        if self.marks.back().is_none_or(|(at, _)| now - *at >= MARK) {
            self.marks.push_back((now, bytes));
        }
        while self.marks.len() > 1 && now - self.marks[1].0 >= SPAN {
            self.marks.pop_front();
        }
        let rate = |(at, had): &(Instant, u64)| {
            let time = now - *at;
            let of_a_day = DAY.as_secs_f64() / time.as_secs_f64();
            (time >= MARK).then(|| (bytes.saturating_sub(*had) as f64 * of_a_day) as u64)
        };
        Written { bytes, per_day: self.marks.front().and_then(rate) }
    }
}

/// The bytes in what `/proc` tells of a task (proc(5), `/proc/pid/io`).
fn count(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("write_bytes:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_s_count_is_read() {
        assert_eq!(count("rchar: 1\nwchar: 2\nwrite_bytes: 4096\ncancelled_write_bytes: 8\n"), Some(4096));
        assert_eq!(count("rchar: 1\n"), None);
    }

    #[test]
    fn a_day_is_told_by_the_last_hour() {
        let (mut wear, start) = (Wear::default(), Instant::now());
        assert_eq!(wear.note(1000, start), Written { bytes: 1000, per_day: None });
        assert_eq!(wear.note(1000, start + MARK / 2).per_day, None);
        // 1000 bytes a minute, and nothing any more after two hours.
        let minute = |n: u32| start + MARK * n;
        let days: Vec<_> =
            (1..=180).map(|n| wear.note(1000 + u64::from(n.min(120)) * 1000, minute(n)).per_day).collect();
        assert_eq!([days[0], days[119], days[149], days[179]], [1_440_000, 1_440_000, 720_000, 0].map(Some));
        assert!(wear.marks.len() <= 62, "{}", wear.marks.len());
    }
}
