//! What a bus reports of itself: who answers, how often not, how busy the line is.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::bus::{Bus, Device, link};
use crate::clock::Moment;
use crate::reading::Fault;
use crate::status::{self, State};

/// Keeps the status of one bus. Counts go out at most four times a second, states at once.
#[derive(Debug)]
pub(crate) struct Tally {
    status: status::Bus,
    out: watch::Sender<status::Bus>,
    /// The last round trips of each device.
    trips: Vec<VecDeque<Duration>>,
    busy: Busy,
    published: Instant,
    changed: bool,
}

/// How often counts go out.
const EVERY: Duration = Duration::from_millis(250);

/// The median is over so many round trips.
const TRIPS: usize = 15;

impl Tally {
    /// Nothing has happened yet; says so.
    pub(crate) fn new(bus: &Bus, out: watch::Sender<status::Bus>, now: Instant) -> Self {
        let addressed = !matches!(bus.link, link::Config::Uart(_));
        let device = |d: &Device| {
            let unit = addressed.then_some(d.unit);
            status::Device { name: d.name.clone(), unit, ..Default::default() }
        };
        let status = status::Bus {
            name: bus.name.clone(),
            link: bus.link.to_string(),
            devices: bus.devices.iter().map(device).collect(),
            ..Default::default()
        };
        let trips = vec![VecDeque::with_capacity(TRIPS); bus.devices.len()];
        let mut tally = Self { status, out, trips, busy: Busy::new(now), published: now, changed: true };
        tally.send(now);
        tally
    }

    /// A request went out.
    pub(crate) fn asked(&mut self, device: usize) {
        self.status.devices[device].counters.requests += 1;
        self.changed = true;
    }

    /// An answer came, after this round trip.
    pub(crate) fn answered(&mut self, device: usize, trip: Duration) {
        let status = &mut self.status.devices[device];
        status.counters.answers += 1;
        status.answered = Some(Moment::now());
        let trips = &mut self.trips[device];
        if trips.len() == TRIPS {
            trips.pop_front();
        }
        trips.push_back(trip);
        let mut sorted: Vec<_> = trips.iter().collect();
        sorted.sort_unstable();
        status.round_trip_us = u64::try_from(sorted[sorted.len() / 2].as_micros()).ok();
        self.changed = true;
    }

    /// A device spoke of its own accord.
    pub(crate) fn heard(&mut self, device: usize) {
        let status = &mut self.status.devices[device];
        status.counters.answers += 1;
        status.answered = Some(Moment::now());
        self.changed = true;
    }

    /// A request came to nothing, or to an exception.
    pub(crate) fn failed(&mut self, device: usize, fault: &Fault) {
        let counters = &mut self.status.devices[device].counters;
        match fault {
            Fault::Timeout => counters.timeouts += 1,
            Fault::Frame(_) => counters.bad_frames += 1,
            Fault::Exception(_) => counters.exceptions += 1,
            Fault::LinkDown(_) | Fault::Decode(_) => {}
        }
        self.changed = true;
    }

    /// The line was in use for this long until `now`.
    pub(crate) fn busy(&mut self, time: Duration, now: Instant) {
        self.busy.add(time, now);
    }

    /// The state of a device.
    pub(crate) fn device(&mut self, device: usize, state: State, now: Instant) {
        if self.status.devices[device].state != state {
            self.status.devices[device].state = state;
            self.send(now);
        }
    }

    /// The state of the link.
    pub(crate) fn link(&mut self, state: State, now: Instant) {
        if self.status.state != state {
            self.status.state = state;
            self.send(now);
        }
    }

    /// Sends what has changed, when the last time is long enough ago.
    pub(crate) fn publish(&mut self, now: Instant) {
        let utilisation = self.busy.part(now);
        let moved = (utilisation - self.status.utilisation).abs() >= 0.001;
        if (self.changed || moved) && now >= self.published + EVERY {
            self.send(now);
        }
    }

    fn send(&mut self, now: Instant) {
        self.status.utilisation = self.busy.part(now);
        self.published = now;
        self.changed = false;
        let status = &self.status;
        self.out.send_modify(|out| out.clone_from(status));
    }
}

/// How much of the last ten seconds the line was in use.
#[derive(Debug)]
struct Busy {
    start: Instant,
    /// One a second, the current one first; at most [`Busy::SECONDS`].
    seconds: VecDeque<Duration>,
    /// Which second since the start the first of them is.
    current: u64,
}

impl Busy {
    const SECONDS: usize = 10;

    fn new(start: Instant) -> Self {
        Self { start, seconds: VecDeque::from([Duration::ZERO]), current: 0 }
    }

    fn add(&mut self, time: Duration, now: Instant) {
        self.turn(now);
        self.seconds[0] += time;
    }

    fn part(&mut self, now: Instant) -> f64 {
        self.turn(now);
        let begun = (now - self.start).as_secs_f64() - self.current as f64;
        let span = (self.seconds.len() - 1) as f64 + begun;
        let busy: Duration = self.seconds.iter().sum();
        if span < 0.1 { 0.0 } else { (busy.as_secs_f64() / span).min(1.0) }
    }

    fn turn(&mut self, now: Instant) {
        let second = (now - self.start).as_secs();
        for _ in 0..(second - self.current).min(Self::SECONDS as u64) {
            self.seconds.push_front(Duration::ZERO);
        }
        self.seconds.truncate(Self::SECONDS);
        self.current = second;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::fixture;

    #[tokio::test(start_paused = true)]
    async fn counts_wait_and_states_do_not() {
        let bus = fixture::bus(vec![fixture::device("meter", 1, &[0])]);
        let (out, seen) = watch::channel(status::Bus::default());
        let start = Instant::now();
        let mut tally = Tally::new(&bus, out, start);
        assert_eq!(seen.borrow().link, "modbus-tcp test:502");
        tally.asked(0);
        tally.failed(0, &Fault::Timeout);
        tally.publish(start + EVERY / 2);
        assert_eq!(seen.borrow().devices[0].counters.requests, 0);
        tally.publish(start + EVERY);
        let counters = seen.borrow().devices[0].counters.clone();
        assert_eq!((counters.requests, counters.timeouts), (1, 1));
        tally.link(State::Down("gone".into()), start + EVERY);
        assert_eq!(seen.borrow().state, State::Down("gone".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn utilisation_is_of_the_last_ten_seconds() {
        let start = Instant::now();
        let mut busy = Busy::new(start);
        for second in 0..10 {
            busy.add(Duration::from_millis(300), start + Duration::from_secs(second));
        }
        assert!((busy.part(start + Duration::from_secs(10)) - 0.3).abs() < 0.01);
        assert!(busy.part(start + Duration::from_secs(30)) < 0.001);
    }

    #[tokio::test(start_paused = true)]
    async fn the_round_trip_is_the_median() {
        let bus = fixture::bus(vec![fixture::device("meter", 1, &[0])]);
        let (out, seen) = watch::channel(status::Bus::default());
        let start = Instant::now();
        let mut tally = Tally::new(&bus, out, start);
        for millis in [10, 10, 500, 20, 10] {
            tally.answered(0, Duration::from_millis(millis));
        }
        tally.publish(start + EVERY);
        assert_eq!(seen.borrow().devices[0].round_trip_us, Some(10_000));
    }
}
