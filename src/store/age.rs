//! How old messages are: see [`Moment::age_at`]. What nobody knows the age of is as old as its neighbours, and no clock that
//! is not trusted makes a message too old.

use std::time::Duration;

use rusqlite::{Connection, Result};

use super::clocks::Clocks;
use super::rows::{entry_id, int};
use crate::clock::{Moment, Timestamp};

/// What counts as too old at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    pub(super) now: Moment,
    /// How long a message may be kept.
    pub(super) age: Duration,
}

impl Horizon {
    /// The last of the oldest messages that are all too old; of more than a thousand, the thousandth.
    pub(super) fn expired(&self, c: &Connection, clocks: &Clocks) -> Result<Option<i64>> {
        let mut statement = c.prepare_cached("SELECT id, at, clock FROM message ORDER BY id LIMIT 1000")?;
        let mut rows = statement.query([])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            // No fieldpost wrote another: as much would be deleted as it says.
            let id = int(entry_id(row.get(0)?)?);
            let entered = clocks.best(Timestamp(row.get(1)?), row.get(2)?);
            let is_known = entered.uptime.is_some() || entered.trusted;
            if entered.age_at(self.now) > self.age {
                last = Some(id);
            } else if is_known {
                break;
            }
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Uptime;
    use crate::clock::boot::Boot;

    const DAY: i64 = 24 * 3_600_000;
    const NOW: Timestamp = Timestamp(1_795_176_000_000);

    fn boot(id: &str) -> Boot {
        Boot::from(id.to_owned())
    }

    fn moment(wall: i64, uptime: i64, trusted: bool) -> Moment {
        Moment { wall: Timestamp(wall), uptime: Some(Uptime::of(uptime)), trusted }
    }

    /// Messages 1 to 4: of an earlier start (a clock not set, long ago, a while ago), and of this start by a clock not set.
    fn messages() -> (Connection, Clocks) {
        let c = Connection::open_in_memory().expect("it opens");
        c.execute_batch(
            "CREATE TABLE clock (id INTEGER PRIMARY KEY, boot, ahead, trusted); \
             CREATE TABLE message (id INTEGER PRIMARY KEY, at INTEGER, clock INTEGER)",
        )
        .expect("tables");
        let mut id = 0;
        let mut put = |clocks: &mut Clocks, moment| {
            id += 1;
            let clock = clocks.of(&c, moment).expect("it is remembered");
            c.execute("INSERT INTO message VALUES (?1, ?2, ?3)", (id, moment.wall.0, clock)).expect("inserted");
        };
        let mut earlier = Clocks::read(&c, boot("one")).expect("it is read");
        put(&mut earlier, Moment { uptime: None, ..moment(1000, 0, false) });
        put(&mut earlier, moment(NOW.0 - 2 * DAY, 1000, true));
        put(&mut earlier, moment(NOW.0 - DAY / 2, 1000 + DAY + DAY / 2, true));
        let mut clocks = Clocks::read(&c, boot("two")).expect("it is read");
        put(&mut clocks, moment(5000, 1000, false));
        (c, clocks)
    }

    #[test]
    fn each_message_goes_when_it_is_known_to_be_too_old() {
        let (c, clocks) = messages();
        let age = Duration::from_millis(DAY.unsigned_abs());
        let expired = |now| Horizon { now, age }.expired(&c, &clocks).expect("it is read");
        assert_eq!(expired(moment(9000, 5000, false)), None, "by a clock that is not trusted");
        assert_eq!(expired(moment(NOW.0, 5000, true)), Some(2));
        assert_eq!(expired(moment(NOW.0 + 10 * DAY, 5000, true)), Some(3), "that of this start is not old");
        assert_eq!(expired(moment(NOW.0 - 10 * DAY, 1000 + DAY, false)), Some(3), "the computer runs for a day");
        assert_eq!(expired(moment(NOW.0 - 10 * DAY, 1001 + DAY, false)), Some(4));
    }
}
