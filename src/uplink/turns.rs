//! Whose turn it is: the addresses of one cloud, each with its own memory of failure. Pure.
//!
//! After a connection the next address is tried, and so on round the list; but one that has failed is left alone for a
//! while that doubles from failure to failure, shortened at random so that gateways that lost the same cloud do not
//! come back at the same instant. How long at most depends on how it failed ([`Failure`]).

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// The first wait, and how much of any wait is left to chance.
const FIRST: Duration = Duration::from_secs(1);
const CHANCE: f64 = 0.9;

/// How an address failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It was connected, but nothing came of it. There is a cloud: it is not left alone for long.
    Lost,
    /// It was not reached, or had no time.
    Unreached,
    /// It knows us, and does not want us: a wrong password does not become right soon.
    Refused,
}

impl Failure {
    /// The longest wait after it.
    fn longest(self) -> Duration {
        Duration::from_secs(match self {
            Failure::Lost => 5,
            Failure::Unreached => 30,
            Failure::Refused => 60,
        })
    }
}

/// The addresses, by their number in the list.
#[derive(Debug)]
pub(super) struct Turns {
    places: Vec<Place>,
    last: usize,
}

#[derive(Debug)]
struct Place {
    backoff: Backoff,
    /// When it may be tried.
    ready: Instant,
}

impl Turns {
    /// The turns of so many addresses, at least one.
    pub(super) fn new(count: usize) -> Self {
        let place = || Place { backoff: Backoff::new(FIRST, Failure::Refused.longest()), ready: Instant::now() };
        Self { places: (0..count.max(1)).map(|_| place()).collect(), last: count.max(1) - 1 }
    }

    /// The next address, and when it may be tried: the next in turn that is ready, or the first to be.
    pub(super) fn next(&mut self) -> (usize, Instant) {
        let (count, now) = (self.places.len(), Instant::now());
        let in_turn = (1..=count).map(|step| (self.last + step) % count);
        let first = in_turn.min_by_key(|place| self.places[*place].ready.max(now)).unwrap_or(0);
        self.last = first;
        (first, self.places[first].ready.max(now))
    }

    /// A connection to this address has proved good, and is over.
    pub(super) fn was_good(&mut self, place: usize) {
        self.places[place].backoff.reset();
        self.failed(place, Failure::Lost);
        self.places[place].backoff.reset();
    }

    /// This address has failed.
    pub(super) fn failed(&mut self, place: usize, failure: Failure) {
        let place = &mut self.places[place];
        place.ready = Instant::now() + place.backoff.delay_within(failure.longest(), CHANCE);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep_until;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How often one address is tried while it fails so for `time`, and how long it is left alone after that.
    async fn storm(time: Duration, failure: Option<Failure>) -> (u32, Duration) {
        let (mut turns, end, mut tries) = (Turns::new(1), Instant::now() + time, 0);
        loop {
            let (place, at) = turns.next();
            sleep_until(at).await;
            if at >= end {
                return (tries, at - end);
            }
            tries += 1;
            match failure {
                None => turns.was_good(place),
                Some(failure) => turns.failed(place, failure),
            }
        }
    }

    /// 10 s of connections that are reset at once: neither a tight loop, nor silence for long when it is over.
    #[tokio::test(start_paused = true)]
    async fn a_storm_is_no_tight_loop_and_is_soon_forgotten() {
        for _ in 0..200 {
            let (tries, silence) = storm(10 * SECOND, Some(Failure::Lost)).await;
            assert!((3..=40).contains(&tries) && silence <= 5 * SECOND, "{tries} tries, then {silence:?}");
            let (tries, silence) = storm(10 * SECOND, None).await;
            assert!((9..=100).contains(&tries) && silence <= SECOND, "good in between: {tries}, {silence:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cloud_that_refuses_is_tried_less_often_and_never_given_up() {
        for (failure, tries_at_least, silence) in [(Failure::Unreached, 120, 30), (Failure::Refused, 60, 60)] {
            let (tries, left) = storm(3600 * SECOND, Some(failure)).await;
            assert!(tries >= tries_at_least && tries < 1000 && left <= silence * SECOND, "{tries}, {left:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_take_turns_and_one_that_fails_holds_up_no_other() {
        let mut turns = Turns::new(3);
        let now = Instant::now();
        for expected in [0, 1, 2] {
            let (place, at) = turns.next();
            assert_eq!((place, at), (expected, now), "all are tried before any is waited for");
            turns.failed(place, Failure::Unreached);
        }
        // Where a connection was good, and ended, the others come first.
        let (good, at) = turns.next();
        assert!(at > now && at <= now + SECOND);
        tokio::time::advance(60 * SECOND).await;
        turns.was_good(good);
        let (others, now) = ([turns.next().0, turns.next().0], Instant::now());
        assert!(!others.contains(&good) && others[0] != others[1]);
        others.into_iter().for_each(|place| turns.failed(place, Failure::Refused));
        assert!(turns.next().1 > now);
    }
}
