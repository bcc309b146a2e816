//! A moment as it can be compared with another, whatever became of the wall clock in between. Pure but for `now`.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Serialize, Serializer};

use super::{RELEASED, Timestamp};

/// Whether the wall clock is trusted: as [`super::observer`] found, and until it has looked.
static TRUSTED: AtomicBool = AtomicBool::new(true);

/// How long this computer has been running, in whole milliseconds and at least one: a clock that no setting of the time
/// moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(NonZeroU64);

/// When something was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What the wall clock showed.
    pub wall: Timestamp,
    /// How long the computer had been running; none when that was another start of it.
    pub uptime: Option<Uptime>,
    /// Whether the wall clock was to be trusted.
    pub trusted: bool,
}

impl Uptime {
    /// The time since this computer was started, with the time that it slept.
    pub fn now() -> Self {
        let since = Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default();
        Self::of(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// So many milliseconds.
    pub fn of(millis: i64) -> Self {
        Self(u64::try_from(millis).ok().and_then(NonZeroU64::new).unwrap_or(NonZeroU64::MIN))
    }

    /// In milliseconds.
    pub fn millis(self) -> i64 {
        i64::try_from(self.0.get()).unwrap_or(i64::MAX)
    }

    /// How long that is.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0.get())
    }
}

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        let wall = Timestamp::now();
        let trusted = TRUSTED.load(Ordering::Relaxed) && wall >= RELEASED.1;
        Self { wall, uptime: Some(Uptime::now()), trusted }
    }

    /// How long before `later` this was, as far as that is known: never more. Two moments since the computer was started
    /// are compared by that; others by the wall clock if it was trusted at both. Otherwise it is known only that this
    /// one was before the start.
    pub fn age_at(self, later: Moment) -> Duration {
        match (self.uptime, later.uptime) {
            (Some(then), Some(now)) => now.duration().saturating_sub(then.duration()),
            _ if self.trusted && later.trusted => self.wall.age_at(later.wall),
            (None, Some(now)) => now.duration(),
            _ => Duration::ZERO,
        }
    }

    /// The same moment by the clock as it is `now`: when it was not trusted at one of the two, by how long ago it was.
    #[must_use]
    pub fn corrected(self, now: Moment) -> Moment {
        match (self.uptime, now.uptime) {
            (Some(_), Some(_)) if !(self.trusted && now.trusted) => {
                Self { wall: self.back_from(now), trusted: now.trusted, ..self }
            }
            _ => self,
        }
    }

    /// The time that stands beside this moment where it is shown `now`, so that its age is right: it follows the wall
    /// clock.
    pub fn shown_at(self, now: Moment) -> Timestamp {
        if self.uptime.is_none() || now.uptime.is_none() {
            return self.wall;
        }
        let shown = self.back_from(now);
        // Two clocks cannot be read at once; a time that was told is not to waver.
        if shown.0.abs_diff(self.wall.0) < 500 { self.wall } else { shown }
    }

    /// This much later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Moment {
        self.plus(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX))
    }

    /// This much earlier.
    #[must_use]
    pub fn before(self, delay: Duration) -> Moment {
        self.plus(i64::try_from(delay.as_millis()).map_or(i64::MIN, |millis| -millis))
    }

    fn plus(self, millis: i64) -> Moment {
        let uptime = self.uptime.map(|uptime| Uptime::of(uptime.millis().saturating_add(millis)));
        Self { wall: self.wall.plus(millis), uptime, ..self }
    }

    fn back_from(self, now: Moment) -> Timestamp {
        let millis = |moment: Moment| moment.uptime.map_or(0, Uptime::millis);
        now.wall.plus(millis(self) - millis(now))
    }
}

/// A moment of which nothing is known but the time, which is taken for right.
impl From<Timestamp> for Moment {
    fn from(wall: Timestamp) -> Self {
        Self { wall, uptime: None, trusted: true }
    }
}

/// As it is shown at the moment of writing: see [`Moment::shown_at`].
impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown_at(Moment::now()).serialize(serializer)
    }
}

/// Whether moments are to be trusted from now on.
pub(super) fn trust(trusted: bool) {
    TRUSTED.store(trusted, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn moment(wall: i64, uptime: Option<i64>, trusted: bool) -> Moment {
        Moment { wall: Timestamp(wall), uptime: uptime.map(|s| Uptime::of(s * 1000)), trusted }
    }

    #[test]
    fn since_the_start_no_step_makes_anything_older_or_younger() {
        let then = moment(10 * HOUR, Some(100), true);
        for step in [-5 * HOUR, 0, 5 * HOUR] {
            let now = moment(10 * HOUR + step + 60_000, Some(160), true);
            assert_eq!(then.age_at(now), Duration::from_secs(60));
            assert_eq!(then.shown_at(now), Timestamp(10 * HOUR + step));
        }
    }

    #[test]
    fn of_another_start_the_wall_clock_tells_if_it_may() {
        let now = |trusted| moment(10 * HOUR, Some(30), trusted);
        let then = |trusted| moment(9 * HOUR, None, trusted);
        assert_eq!(then(true).age_at(now(true)), Duration::from_secs(3600));
        for (then, now) in [(then(false), now(true)), (then(true), now(false)), (then(false), now(false))] {
            assert_eq!(then.age_at(now), Duration::from_secs(30), "at least since the start");
        }
        assert_eq!(then(true).shown_at(now(true)), Timestamp(9 * HOUR));
    }

    #[test]
    fn a_clock_that_was_set_corrects_what_was_before_and_leaves_the_rest() {
        let set = moment(10 * HOUR, Some(200), true);
        let before = moment(5000, Some(140), false);
        assert_eq!(before.corrected(set), moment(10 * HOUR - 60_000, Some(140), true));
        assert_eq!(before.corrected(moment(65_000, Some(200), false)), before);
        let (trusted, other) = (moment(9 * HOUR, Some(140), true), moment(5000, None, false));
        assert_eq!(trusted.corrected(set), trusted, "what was told stands");
        assert_eq!(other.corrected(set), other, "nobody knows how long the power was off");
        // A clock that went wrong: what was right is told by the wrong one, to be corrected with it.
        let wrong = moment(7000, Some(200), false);
        assert_eq!(trusted.corrected(wrong), moment(7000 - 60_000, Some(140), false));
    }

    #[test]
    fn two_readings_of_two_clocks_do_not_waver() {
        let then = moment(10 * HOUR, Some(100), true);
        assert_eq!(then.shown_at(moment(10 * HOUR + 60_003, Some(160), true)), Timestamp(10 * HOUR));
    }
}
