//! How fast a queue gets shorter. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// How often is looked, and over how long is averaged.
const LOOK: Duration = Duration::from_secs(1);
const OVER: Duration = Duration::from_secs(10);

/// A moving average of what a queue has lost a second, beyond what it has gained.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drain {
    last: Option<(Instant, u64)>,
    rate: Option<f64>,
}

impl Drain {
    /// Looks at how much is left; to be called now and then, while the queue is read.
    pub fn look(&mut self, left: u64, now: Instant) {
        let Some((at, before)) = self.last else {
            self.last = Some((now, left));
            return;
        };
        let time = now - at;
        if time < LOOK {
            return;
        }
        self.last = Some((now, left));
        let speed = (before as f64 - left as f64) / time.as_secs_f64();
        let weight = 1.0 - (-time.as_secs_f64() / OVER.as_secs_f64()).exp();
        self.rate = Some(self.rate.map_or(speed, |rate| rate + (speed - rate) * weight));
    }

    /// Entries a second; 0 when it does not get shorter.
    pub fn rate(&self) -> f64 {
        self.rate.unwrap_or_default().max(0.0)
    }

    /// How long until nothing of `left` is left, if it goes on like that; none when it does not get shorter.
    pub fn expected(&self, left: u64) -> Option<Duration> {
        // Slower than an entry in a quarter of an hour is no rate to count on.
        let rate = Some(self.rate()).filter(|rate| *rate > 0.001)?;
        Duration::try_from_secs_f64(left as f64 / rate).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_the_queue_does_and_tells_when_it_will_be_empty() {
        let (mut drain, start) = (Drain::default(), Instant::now());
        assert_eq!((drain.rate(), drain.expected(100)), (0.0, None));
        let at = |s: u64| start + LOOK.mul_f64(s as f64);
        for s in 0..=10 {
            drain.look(10_000 - 100 * s, at(s));
            drain.look(0, at(s) + LOOK / 3); // too soon to be looked at
        }
        assert!((drain.rate() - 100.0).abs() < 0.01, "{drain:?}");
        assert_eq!(drain.expected(9000).map(|d| d.as_secs()), Some(90));
        for s in 11..60 {
            drain.look(9000 - 20 * (s - 10), at(s));
        }
        assert!((20.0..21.0).contains(&drain.rate()), "{drain:?}");
        for s in 60..120 {
            drain.look(9000 + s, at(s));
        }
        assert_eq!((drain.rate(), drain.expected(9000)), (0.0, None), "it grows");
    }
}
