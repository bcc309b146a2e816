//! The clocks by which times in the database are told. A clock is a stretch of time in which nobody set the wall clock: then
//! it keeps its distance to the time since the computer was started. So a time and its clock are a [`Moment`], over a
//! restart of the gateway as well; and when a clock is trusted, those before it since the same start can be corrected.

use rusqlite::{Connection, Result};

use super::rows::{entry_id, int};
use crate::clock::boot::Boot;
use crate::clock::{Moment, Timestamp, Uptime};

/// A time before this is by a clock that nobody had set.
const FIRST_PLAUSIBLE: Timestamp = Timestamp(1_577_836_800_000); // 2020-01-01

/// As near as this, in milliseconds, two readings are of the same clock.
const SAME: u64 = 100;

/// How many clocks are remembered: of one that is set all the time, the last ones.
const MOST: i64 = 1000;

/// The clock of a time that is known to be wrong, and nobody knows by how much.
const UNKNOWN: i64 = 0;

/// All that are remembered, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Clocks {
    boot: Boot,
    all: Vec<Clock>,
}

#[derive(Clone, Debug, PartialEq)]
struct Clock {
    id: i64,
    boot: Boot,
    ahead: i64,
    trusted: bool,
}

impl Clocks {
    /// What the database remembers, seen since this start of the computer.
    pub(super) fn read(c: &Connection, boot: Boot) -> Result<Self> {
        let mut statement = c.prepare("SELECT id, boot, ahead, trusted FROM clock ORDER BY id")?;
        let rows = statement.query_map([], |row| {
            let boot = Boot::from(row.get::<_, String>(1)?);
            Ok(Clock { id: int(entry_id(row.get(0)?)?), boot, ahead: row.get(2)?, trusted: row.get(3)? })
        })?;
        Ok(Self { boot, all: rows.collect::<Result<_>>()? })
    }

    /// The clock of a moment that is to be kept; it is remembered from now on.
    pub(super) fn of(&mut self, c: &Connection, moment: Moment) -> Result<Option<i64>> {
        match moment.uptime {
            Some(uptime) => self.id(c, moment.wall.0.saturating_sub(uptime.millis()), moment.trusted).map(Some),
            None => Ok((!moment.trusted).then_some(UNKNOWN)),
        }
    }

    /// The moment of a time that was kept.
    pub(super) fn moment(&self, at: Timestamp, clock: Option<i64>) -> Moment {
        let unknown = Moment { wall: at, uptime: None, trusted: false };
        let Some(id) = clock else { return Moment { trusted: at >= FIRST_PLAUSIBLE, ..unknown } };
        let Ok(place) = self.all.binary_search_by_key(&id, |clock| clock.id) else { return unknown };
        let clock = &self.all[place];
        if clock.boot == self.boot {
            let uptime = Some(Uptime::of(at.0.saturating_sub(clock.ahead)));
            return Moment { wall: at, uptime, trusted: clock.trusted };
        }
        Moment { trusted: clock.trusted, ..unknown }
    }

    /// The same, with what is known by now of earlier starts of the computer.
    pub(super) fn best(&self, at: Timestamp, clock: Option<i64>) -> Moment {
        self.correction(at, clock).unwrap_or_else(|| self.moment(at, clock))
    }

    /// The right moment of a time by a clock that was set only later, and before the computer was started anew.
    pub(super) fn correction(&self, at: Timestamp, clock: Option<i64>) -> Option<Moment> {
        let place = self.all.binary_search_by_key(&clock?, |clock| clock.id).ok()?;
        let wrong = self.all.get(place).filter(|clock| !clock.trusted && clock.boot != self.boot)?;
        let right = self.all.iter().rfind(|clock| clock.trusted && clock.boot == wrong.boot)?;
        Some(Moment::from(at.plus(right.ahead.saturating_sub(wrong.ahead))))
    }

    /// Remembers the clock as it is `now`, if that is of use.
    pub(super) fn note(&mut self, c: &Connection, now: Moment) -> Result<()> {
        if self.is_news(now) { self.of(c, now).map(drop) } else { Ok(()) }
    }

    /// Whether the clock, as it is `now`, is one to remember: it is trusted, and not known to be. Then times by other
    /// clocks can be corrected, after the next start of the computer as well.
    pub(super) fn is_news(&self, now: Moment) -> bool {
        now.trusted && now.uptime.is_some_and(|uptime| self.find(now.wall.0 - uptime.millis(), true).is_none())
    }

    /// How far the last trusted clock since this start was ahead of the time since then, in milliseconds.
    pub(super) fn trusted(&self) -> Option<i64> {
        self.all.iter().rfind(|clock| clock.trusted && clock.boot == self.boot).map(|clock| clock.ahead)
    }

    fn find(&self, ahead: i64, trusted: bool) -> Option<i64> {
        let same =
            |clock: &&Clock| clock.trusted == trusted && clock.ahead.abs_diff(ahead) < SAME && clock.boot == self.boot;
        self.all.iter().rev().find(same).map(|clock| clock.id)
    }

    fn id(&mut self, c: &Connection, ahead: i64, trusted: bool) -> Result<i64> {
        if let Some(id) = self.find(ahead, trusted) {
            return Ok(id);
        }
        let id = self.all.last().map_or(1, |last| last.id.saturating_add(1));
        c.execute(
            "INSERT INTO clock (id, boot, ahead, trusted) VALUES (?1, ?2, ?3, ?4)",
            (id, self.boot.to_string(), ahead, trusted),
        )?;
        self.all.push(Clock { id, boot: self.boot.clone(), ahead, trusted });
        let forgotten = id.saturating_sub(MOST);
        if self.all[0].id <= forgotten {
            c.execute("DELETE FROM clock WHERE id <= ?1", [forgotten])?;
            self.all.retain(|clock| clock.id > forgotten);
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_795_176_000_000;

    fn database() -> Connection {
        let c = Connection::open_in_memory().unwrap();
        c.execute_batch("CREATE TABLE clock (id INTEGER PRIMARY KEY, boot TEXT, ahead INTEGER, trusted INTEGER)")
            .unwrap();
        c
    }

    fn moment(wall: i64, uptime: i64, trusted: bool) -> Moment {
        Moment { wall: Timestamp(wall), uptime: Some(Uptime::of(uptime * 1000)), trusted }
    }

    fn boot(id: &str) -> Boot {
        Boot::from(id.to_owned())
    }

    #[test]
    fn a_moment_is_the_same_after_a_restart_of_the_gateway() {
        let c = database();
        let mut clocks = Clocks::read(&c, boot("one")).unwrap();
        let (before, after) = (moment(5000, 60, false), moment(NOON, 70, true));
        assert_eq!((clocks.trusted(), clocks.is_news(before), clocks.is_news(after)), (None, false, true));
        let ids = [before, after].map(|moment| clocks.of(&c, moment).unwrap());
        // A millisecond or two between two readings of two clocks are no other clock.
        assert_eq!(clocks.of(&c, moment(NOON + 60_002, 130, true)).unwrap(), ids[1]);
        let again = Clocks::read(&c, boot("one")).unwrap();
        assert_eq!(again, clocks);
        assert_eq!(again.moment(before.wall, ids[0]), before);
        assert_eq!(again.moment(after.wall, ids[1]), after);
        assert_eq!((again.trusted(), again.is_news(after)), (Some(NOON - 70_000), false));
        assert_eq!(again.correction(before.wall, ids[0]), None, "it is corrected when it is told");
    }

    #[test]
    fn after_a_new_start_what_was_corrected_in_time_is_right_and_the_rest_is_not_trusted() {
        let c = database();
        let mut clocks = Clocks::read(&c, boot("one")).unwrap();
        let before = clocks.of(&c, moment(5000, 60, false)).unwrap();
        let other = Clocks::read(&c, boot("two")).unwrap();
        let lost = Moment { uptime: None, ..moment(5000, 60, false) };
        assert_eq!(other.best(Timestamp(5000), before), lost);
        clocks.of(&c, moment(NOON, 160, true)).unwrap();
        let other = Clocks::read(&c, boot("two")).unwrap();
        assert_eq!(other.best(Timestamp(5000), before), Timestamp(NOON - 100_000).into());
    }

    #[test]
    fn what_is_kept_again_after_a_new_start_is_as_little_trusted() {
        let c = database();
        let mut clocks = Clocks::read(&c, boot("two")).unwrap();
        for (wall, trusted) in [(5000, false), (NOON, false), (NOON, true)] {
            let moment = Moment { uptime: None, ..moment(wall, 0, trusted) };
            let id = clocks.of(&c, moment).unwrap();
            assert_eq!(clocks.moment(moment.wall, id), moment);
        }
        assert!(!clocks.moment(Timestamp(5000), None).trusted, "of a version that knew no clocks");
    }

    #[test]
    fn a_clock_that_is_set_all_the_time_costs_little() {
        let c = database();
        let mut clocks = Clocks::read(&c, boot("one")).unwrap();
        for n in 0..1500 {
            clocks.of(&c, moment(NOON + n * 1000, 60, true)).unwrap();
        }
        let kept: i64 = c.query_row("SELECT count(*) FROM clock", [], |row| row.get(0)).unwrap();
        assert_eq!((kept, clocks.all.len()), (MOST, MOST as usize));
        assert_eq!(Clocks::read(&c, boot("one")).unwrap(), clocks);
        let first = Some(1);
        assert!(!clocks.moment(Timestamp(NOON), first).trusted);
    }
}
