//! How old messages are. Messages of earlier runs are told by the wall clock, those of this run by how long it lasts:
//! a computer without a battery begins with an old time, and when its clock is set, what it has just written is not old.

use std::collections::VecDeque;
use std::time::Duration;

use rusqlite::{Connection, Result};
use tokio::time::Instant;

use super::EntryId;
use super::rows::int;
use crate::clock::{Moment, Timestamp};

/// Such a clock may begin here; a time before it says nothing about age.
const FIRST_PLAUSIBLE: Timestamp = Timestamp(1_577_836_800_000); // 2020-01-01

/// How many marks are made in the time that a message may be kept; it may be kept longer by one part of that.
const MARKS: u32 = 64;

/// This run of the program, as messages see it.
#[derive(Debug)]
pub(super) struct Run {
    /// The first id of this run.
    first: i64,
    /// How long a message may be kept.
    age: Duration,
    /// All ids below this one are older than `age`.
    outlived: i64,
    /// When which id was the next, in order.
    marks: VecDeque<(Instant, i64)>,
}

/// What counts as too old at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    now: Moment,
    age: Duration,
    first: i64,
    outlived: i64,
}

impl Run {
    /// A run whose first entry will have the id `first`, and in which a message may be kept for `age`.
    pub(super) fn new(first: EntryId, age: Duration) -> Self {
        Self { first: int(first), age, outlived: 0, marks: VecDeque::new() }
    }

    /// Notes that at `now` the ids below `next` had been given out.
    pub(super) fn mark(&mut self, next: i64, now: Instant) {
        while let Some((_, below)) = self.marks.pop_front_if(|(at, _)| now.duration_since(*at) > self.age) {
            self.outlived = below;
        }
        if self.marks.back().is_none_or(|(at, _)| now.duration_since(*at) >= self.age / MARKS) {
            self.marks.push_back((now, next));
        }
    }

    /// What is too old when the wall clock shows `now`.
    pub(super) fn horizon(&self, now: Moment) -> Horizon {
        Horizon { now, age: self.age, first: self.first, outlived: self.outlived }
    }
}

impl Horizon {
    /// The last of the oldest messages that are all too old; of more than a thousand, the thousandth.
    pub(super) fn expired(&self, c: &Connection) -> Result<Option<i64>> {
        let mut statement = c.prepare_cached("SELECT id, at FROM message ORDER BY id LIMIT 1000")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, Timestamp(row.get(1)?))))?;
        let mut last = None;
        for row in rows {
            let (id, at) = row?;
            if id >= self.outlived {
                if id >= self.first {
                    break;
                }
                if at < FIRST_PLAUSIBLE {
                    continue; // as old as its neighbours
                }
                if Moment::from(at).age_at(self.now) <= self.age {
                    break;
                }
            }
            last = Some(id);
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const NOW: Timestamp = Timestamp(1_763_632_800_000);

    /// Messages 1 to 4: from earlier runs (a clock not set, long ago, just now), and of this run by a clock not set.
    fn messages() -> Connection {
        let c = Connection::open_in_memory().expect("it opens");
        c.execute_batch("CREATE TABLE message (id INTEGER PRIMARY KEY, at INTEGER)").expect("a table");
        for (id, at) in [(1, 1000), (2, NOW.0 - 90_000_000), (3, NOW.0 - 1000), (4, NOW.0 - 9_000_000_000)] {
            c.execute("INSERT INTO message VALUES (?1, ?2)", (id, at)).expect("inserted");
        }
        c
    }

    #[test]
    fn earlier_runs_go_by_the_wall_clock_and_this_one_by_its_own_time() {
        let (c, start) = (messages(), Instant::now());
        let mut run = Run::new(EntryId(4), DAY);
        let expired = |run: &Run| run.horizon(NOW.into()).expired(&c).expect("it is read");
        run.mark(4, start);
        run.mark(5, start + DAY / 64);
        assert_eq!(expired(&run), Some(2));
        run.mark(5, start + DAY + Duration::from_secs(1));
        assert_eq!(expired(&run), Some(3));
        run.mark(5, start + DAY + DAY / 32);
        assert_eq!(expired(&run), Some(4));
    }

    #[test]
    fn a_long_run_makes_few_marks() {
        let start = Instant::now();
        let mut run = Run::new(EntryId(1), DAY);
        (0..10_000).for_each(|n| run.mark(n, start + DAY * n as u32 / 1000));
        assert!(run.marks.len() <= MARKS as usize + 2, "{}", run.marks.len());
        // Of ten days, the entries of the first nine.
        assert!((8950..=9000).contains(&run.outlived), "{}", run.outlived);
    }
}
