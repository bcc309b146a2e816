//! What is known of each point, and when it is too old to be true. Pure.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::bus::Bus;
use crate::clock::Moment;
use crate::reading::{Fault, Quality, Reading, Value};

/// The last word on every point of a bus. Devices and points go by their index in [`Bus`].
#[derive(Debug)]
pub(crate) struct Freshness {
    devices: Vec<Vec<Known>>,
    /// No point goes stale before this moment.
    next: Instant,
}

#[derive(Debug)]
struct Known {
    device: Arc<str>,
    point: Arc<str>,
    stale_after: Duration,
    /// The last good value.
    good: Option<(Value, Moment)>,
    /// Without another answer it is overdue from here on.
    until: Instant,
    told: Told,
}

/// What was last told of a point, so that a fault is told once.
#[derive(Debug, PartialEq)]
enum Told {
    Nothing,
    Good,
    Bad(Fault),
    Overdue,
}

impl Freshness {
    /// Nothing is known yet; what is not read within its `stale_after` from `now` is overdue.
    pub(crate) fn new(bus: &Bus, now: Instant) -> Self {
        let known = |device: &Arc<str>, point: &crate::bus::Point| Known {
            device: device.clone(),
            point: point.name.clone(),
            stale_after: point.stale_after,
            good: None,
            until: now + point.stale_after,
            told: Told::Nothing,
        };
        let devices = bus.devices.iter().map(|d| d.points.iter().map(|p| known(&d.name, p)).collect()).collect();
        Self { devices, next: now }
    }

    /// The device gave a value.
    pub(crate) fn good(&mut self, device: usize, point: usize, value: Value, at: Moment, now: Instant) -> Reading {
        let known = &mut self.devices[device][point];
        known.until = now + known.stale_after;
        known.good = Some((value.clone(), at));
        known.told = Told::Good;
        known.reading(value, Quality::Good, at, None)
    }

    /// The device answered, but with no value. None when that was told before.
    pub(crate) fn bad(
        &mut self,
        device: usize,
        point: usize,
        fault: Fault,
        at: Moment,
        now: Instant,
    ) -> Option<Reading> {
        let known = &mut self.devices[device][point];
        known.until = now + known.stale_after;
        let told = Told::Bad(fault.clone());
        if known.told == told {
            return None;
        }
        known.told = told;
        Some(known.reading(Value::Null, Quality::Bad, at, Some(fault)))
    }

    /// The points that have become overdue, each told once: the last good value as stale, or bad when there is none.
    pub(crate) fn overdue(&mut self, at: Moment, now: Instant, fault: impl Fn(usize) -> Fault) -> Vec<Reading> {
        let mut readings = Vec::new();
        if now < self.next {
            return readings;
        }
        // Far enough when nothing waits; every later answer only moves a point's moment further away.
        self.next = now + Duration::from_secs(3600);
        for (device, points) in self.devices.iter_mut().enumerate() {
            for known in points.iter_mut() {
                if known.told != Told::Overdue && known.until <= now {
                    known.told = Told::Overdue;
                    let (value, quality, at) = match &known.good {
                        Some((value, at)) => (value.clone(), Quality::Stale, *at),
                        None => (Value::Null, Quality::Bad, at),
                    };
                    readings.push(known.reading(value, quality, at, Some(fault(device))));
                }
                // A point that comes back after this scan is due no sooner than its `stale_after` from here.
                let due = if known.told == Told::Overdue { now + known.stale_after } else { known.until };
                self.next = self.next.min(due);
            }
        }
        readings
    }

    /// Whether the point was told to be overdue, with nothing heard of it since.
    pub(crate) fn is_overdue(&self, device: usize, point: usize) -> bool {
        self.devices[device][point].told == Told::Overdue
    }

    /// When to look for overdue points again.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }
}

impl Known {
    fn reading(&self, value: Value, quality: Quality, at: Moment, fault: Option<Fault>) -> Reading {
        Reading { device: self.device.clone(), point: self.point.clone(), value, quality, at, fault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::fixture;
    use crate::clock::Timestamp;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: i64) -> Moment {
        Timestamp(millis).into()
    }

    fn fresh(now: Instant) -> Freshness {
        let mut bus = fixture::bus(vec![fixture::device("meter", 1, &[0, 1])]);
        bus.devices[0].points[1].stale_after = 10 * SECOND;
        Freshness::new(&bus, now)
    }

    #[tokio::test(start_paused = true)]
    async fn an_overdue_point_is_told_once_with_its_last_good_value() {
        let start = Instant::now();
        let mut fresh = fresh(start);
        fresh.good(0, 0, Value::Int(5), at(100), start + SECOND);
        let timeout = |_| Fault::Timeout;
        assert_eq!(fresh.overdue(at(200), start + 3 * SECOND, timeout), []);
        let overdue = fresh.overdue(at(300), start + 4 * SECOND, timeout);
        assert_eq!(overdue.len(), 1);
        let stale = &overdue[0];
        assert_eq!((&stale.value, stale.quality, stale.at), (&Value::Int(5), Quality::Stale, at(100)));
        assert_eq!(stale.fault, Some(Fault::Timeout));
        assert_eq!(fresh.overdue(at(400), start + 9 * SECOND, timeout), []);
        let never = fresh.overdue(at(500), start + 10 * SECOND, timeout);
        assert_eq!((&never[0].value, never[0].quality, never[0].at), (&Value::Null, Quality::Bad, at(500)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_point_that_came_back_is_told_when_it_goes_again() {
        let start = Instant::now();
        let mut fresh = fresh(start);
        let timeout = |_| Fault::Timeout;
        assert_eq!(fresh.overdue(at(0), start + 20 * SECOND, timeout).len(), 2);
        fresh.good(0, 0, Value::Int(5), at(100), start + 20 * SECOND);
        assert!(fresh.next() <= start + 23 * SECOND);
        assert_eq!(fresh.overdue(at(0), start + 23 * SECOND, timeout).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_once_until_it_changes() {
        let start = Instant::now();
        let mut fresh = fresh(start);
        let mut bad = |code| fresh.bad(0, 0, Fault::Exception(code), at(0), start).is_some();
        assert_eq!([bad(2), bad(2), bad(4), bad(2)], [true, false, true, true]);
    }
}
