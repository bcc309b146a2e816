//! So much a second: a bound on messages, on bytes or on both, and how much of it is left. Pure.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

use crate::units::Size;

/// So many messages and bytes a second at most: `{ messages = 100, bytes = "10KiB" }`, either or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub messages: Option<u32>,
    /// Of topics and payloads.
    pub bytes: Option<Size>,
}

/// What is left of a [`Rate`]: it fills as time goes by, up to what one second brings, and empties as messages pass.
///
/// A message larger than all it can hold passes when it is full, and what it took too much is waited for afterwards: over
/// some seconds the rate holds whatever the sizes.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    messages: Option<Level>,
    bytes: Option<Level>,
}

/// One quantity of a bucket.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// What a second brings, and the most that it holds.
    full: f64,
    /// Below 0 after a message that was larger than `full`.
    left: f64,
    /// When `left` was right.
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate, now: Instant) -> Self {
        let level = |full: f64| Level { full, left: full, at: now };
        Self { messages: rate.messages.map(|n| level(n.into())), bytes: rate.bytes.map(|size| level(size.0 as f64)) }
    }

    /// Lets a message of this many bytes pass.
    ///
    /// # Errors
    /// When there is not enough left for it; the time says when there is.
    pub fn take(&mut self, bytes: usize, now: Instant) -> Result<(), Instant> {
        let mut levels = [(&mut self.messages, 1.0), (&mut self.bytes, bytes as f64)];
        let wait = levels.iter_mut().filter_map(|(level, n)| Some(level.as_mut()?.wait(*n, now))).max();
        match wait {
            Some(wait) if !wait.is_zero() => Err(now + wait),
            _ => {
                levels.into_iter().filter_map(|(level, n)| Some((level.as_mut()?, n))).for_each(|(l, n)| l.left -= n);
                Ok(())
            }
        }
    }
}

impl Level {
    /// How long until `n` may be taken.
    fn wait(&mut self, n: f64, now: Instant) -> Duration {
        self.left = (self.left + self.full * (now - self.at).as_secs_f64()).min(self.full);
        self.at = now;
        let missing = n.min(self.full) - self.left;
        // A timer counts milliseconds: less than that is nothing to wait for.
        let millis = (missing / self.full * 1000.0).ceil();
        if missing * 1000.0 < self.full { Duration::ZERO } else { Duration::from_millis(millis as u64) }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            messages: Option<u32>,
            bytes: Option<Size>,
        }
        let Table { messages, bytes } = Table::deserialize(deserializer)?;
        if messages.is_none() && bytes.is_none() {
            return Err(D::Error::custom("a rate has `messages` or `bytes` a second, or both"));
        }
        if messages == Some(0) || bytes == Some(Size(0)) {
            return Err(D::Error::custom("a rate is at least 1 a second: with 0 nothing would ever be sent"));
        }
        Ok(Self { messages, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How many messages of `bytes` pass within `seconds`, taken as soon as they may be.
    fn passed(rate: &str, bytes: usize, seconds: u32) -> usize {
        let start = Instant::now();
        let (mut bucket, mut now, mut passed) = (Bucket::new(read(rate).expect(rate), start), start, 0);
        while now <= start + seconds * SECOND {
            match bucket.take(bytes, now) {
                Ok(()) => passed += 1,
                Err(at) => {
                    assert!(at > now, "a wait that ends at once is a busy one");
                    now = at;
                }
            }
        }
        passed
    }

    fn read(text: &str) -> Result<Rate, String> {
        #[derive(Debug, Deserialize)]
        struct Config {
            rate: Rate,
        }
        toml::from_str(&format!("rate = {text}")).map(|c: Config| c.rate).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn a_full_one_gives_a_second_at_once_and_then_the_rate() {
        for (rate, bytes, expected) in [
            ("{ messages = 100 }", 10, 100 + 1000),
            ("{ bytes = \"10KiB\" }", 1024, 10 + 100),
            ("{ messages = 5, bytes = \"10KiB\" }", 1024, 5 + 50),
            ("{ messages = 1000, bytes = \"10KiB\" }", 1024, 10 + 100),
            ("{ messages = 1 }", 10, 1 + 10),
        ] {
            let passed = passed(rate, bytes, 10);
            assert!(passed.abs_diff(expected) <= expected / 50 + 1, "{rate}: {passed}, not {expected}");
        }
    }

    #[test]
    fn a_message_larger_than_a_second_brings_passes_alone_and_is_paid_for() {
        // The first at once, each of the others when the 40 s that it takes are over, and the bucket is full again.
        assert_eq!(passed("{ bytes = \"1KiB\" }", 40 << 10, 39), 1);
        assert_eq!(passed("{ bytes = \"1KiB\" }", 40 << 10, 81), 3);
    }

    #[test]
    fn a_time_without_messages_is_not_saved_up() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { messages: Some(2), bytes: None }, start);
        let later = start + 100 * SECOND;
        assert_eq!([1, 2, 3].map(|_| bucket.take(1, later).is_ok()), [true, true, false]);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, part) in [
            ("{}", "`messages` or `bytes`"),
            ("{ messages = 0 }", "at least 1 a second"),
            ("{ bytes = \"0B\" }", "at least 1 a second"),
            ("{ bytes = 100 }", "string"),
            ("{ mesages = 1 }", "unknown field `mesages`"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
