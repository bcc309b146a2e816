//! How long to wait before the next try: doubling, bounded, with jitter.

use std::time::Duration;

/// Delays that double from `first` to `most`, each shortened at random by up to a quarter, so that many
/// gateways that lost the same server do not come back at the same instant.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Delays from `first` to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The delay before the next try.
    pub fn delay(&mut self) -> Duration {
        self.delay_within(self.most, 0.25)
    }

    /// The same, but of at most `most`, and shortened at random by up to this part of it, from 0 to 1.
    pub fn delay_within(&mut self, most: Duration, part: f64) -> Duration {
        let delay = self.next.min(most);
        self.next = (self.next * 2).min(self.most);
        delay.mul_f64(1.0 - part * fastrand::f64())
    }

    /// Begins again at `first`, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_bound_and_begins_again() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(1), seconds(5));
        for nominal in [1.0, 2.0, 4.0, 5.0, 5.0] {
            let delay = backoff.delay().as_secs_f64();
            assert!(delay <= nominal && delay >= 0.75 * nominal, "{delay} for {nominal}");
        }
        backoff.reset();
        assert!(backoff.delay() <= seconds(1));
    }
}
