//! What was set aside: messages that a cloud will not have, with the reason. They are in no queue; a person looks at them.

use std::sync::Arc;

use rusqlite::{Connection, Error, Result, Row};

use super::EntryId;
use super::rows::{from_json, int, json, qos};
use crate::clock::{Moment, Timestamp};
use crate::message::{Message, QoS};
use crate::mqtt::Reason;

/// How many are kept, and how many bytes of them; the oldest go.
const MOST: usize = 1000;
const MOST_BYTES: i64 = 16 << 20;

/// A message that was set aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Aside {
    /// The client id of the session out of whose queue it was taken.
    pub session: Arc<str>,
    pub message: Arc<Message>,
    /// How it was to be delivered.
    pub qos: QoS,
    pub retain: bool,
    /// What the cloud says to it.
    pub reason: Reason,
    pub at: Moment,
}

/// Lets the oldest go of those that wait for the disk. Returns how many.
pub(super) fn shorten(waiting: &mut Vec<Aside>) -> u64 {
    let excess = waiting.len().saturating_sub(MOST);
    waiting.drain(..excess);
    excess as u64
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) kept: u64,
    /// Those that had to give way since the start.
    pub(super) gone: u64,
}

impl Count {
    /// Never more than a thousand, so that counting is quick.
    pub(super) fn new(c: &Connection) -> Result<Self> {
        let kept = c.query_row("SELECT count(*) FROM aside", [], |row| row.get::<_, i64>(0))?;
        Ok(Self { kept: kept.unsigned_abs(), gone: 0 })
    }
}

/// All that is set aside, in order, with the number of each.
pub(super) fn all(c: &Connection) -> Result<Vec<(u64, Aside)>> {
    let mut all = c.prepare(
        "SELECT number, session, topic, payload, qos, retain, entered_at, properties, code, at FROM aside ORDER BY number",
    )?;
    let moment = |row: &Row<'_>, column| Ok::<Moment, Error>(Timestamp(row.get(column)?).into());
    let rows = all.query_map([], |row| {
        let (number, qos) = (row.get::<_, i64>(0)?.unsigned_abs(), qos(row.get(4)?));
        let message = Message {
            topic: row.get(2)?,
            payload: row.get::<_, Vec<u8>>(3)?.into(),
            qos,
            retain: row.get(5)?,
            at: moment(row, 6)?,
            timed: false,
            properties: from_json(row.get(7)?),
        };
        let (session, reason, at) = (row.get(1)?, Reason(row.get(8)?), moment(row, 9)?);
        Ok((number, Aside { session, retain: message.retain, message: Arc::new(message), qos, reason, at }))
    })?;
    rows.collect()
}

/// Removes those of these numbers.
pub(super) fn remove(c: &Connection, count: &mut Count, numbers: &[u64]) -> Result<()> {
    let mut delete = c.prepare("DELETE FROM aside WHERE number = ?1")?;
    for number in numbers {
        let gone = delete.execute([int(EntryId(*number))])?;
        count.kept = count.kept.saturating_sub(gone as u64);
    }
    Ok(())
}

/// Writes them, and lets the oldest go.
pub(super) fn put(c: &Connection, count: &mut Count, asides: &[Aside]) -> Result<()> {
    if asides.is_empty() {
        return Ok(());
    }
    let mut insert = c.prepare(
        "INSERT INTO aside (session, topic, payload, qos, retain, entered_at, properties, code, reason, at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for Aside { session, message: m, qos, retain, reason, at } in asides {
        insert.execute((
            session,
            &m.topic,
            &m.payload[..],
            u8::from(*qos),
            retain,
            m.at.wall.0,
            m.properties.as_ref().map(json),
            reason.0,
            reason.text(),
            at.wall.0,
        ))?;
    }
    // From the newest on as far as there is room; the newest stays in any case.
    let gone = c.execute(
        "DELETE FROM aside WHERE number <= (SELECT max(number) FROM ( \
             SELECT number, row_number() OVER newest AS place, \
                    sum(octet_length(topic) + octet_length(payload)) OVER newest AS bytes \
             FROM aside WINDOW newest AS (ORDER BY number DESC)) \
         WHERE place > ?1 OR (bytes > ?2 AND place > 1))",
        (MOST as i64, MOST_BYTES),
    )?;
    count.gone += gone as u64;
    count.kept = (count.kept + asides.len() as u64).saturating_sub(gone as u64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aside(n: usize, bytes: usize) -> Aside {
        Aside {
            session: "$uplink/cloud".into(),
            message: Arc::new(Message::new(format!("plant/{n}"), vec![0; bytes])),
            qos: QoS::AtLeastOnce,
            retain: false,
            reason: Reason::NOT_AUTHORIZED,
            at: Moment::now(),
        }
    }

    fn topics(c: &Connection) -> Vec<String> {
        let mut all = c.prepare("SELECT topic FROM aside ORDER BY number").expect("the table");
        all.query_map([], |row| row.get(0)).expect("rows").collect::<Result<_>>().expect("texts")
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_too_much() {
        let c = Connection::open_in_memory().expect("it opens");
        c.execute_batch(include_str!("../../migrations/0004-aside.sql")).expect("the schema");
        let mut count = Count::new(&c).expect("counted");
        let mut put = |asides: &[Aside]| {
            put(&c, &mut count, asides).expect("written");
            assert_eq!(count.kept, Count::new(&c).expect("counted").kept);
            (count.kept, count.gone)
        };
        let most = MOST as u64;
        assert_eq!(put(&[aside(0, 10)]), (1, 0));
        let many: Vec<_> = (1..=MOST).map(|n| aside(n, 10)).collect();
        assert_eq!((put(&many), &*topics(&c)[0]), ((most, 1), "plant/1"));
        let half = usize::try_from(MOST_BYTES / 2).expect("small");
        assert_eq!(put(&[aside(1, half), aside(2, half)]), (1, most + 2));
        assert_eq!(topics(&c), ["plant/2"]);
        assert_eq!(put(&[aside(3, 3 * half)]), (1, most + 3));
        assert_eq!(topics(&c), ["plant/3"], "the newest stays, however large");
    }

    #[test]
    fn those_that_wait_for_the_disk_are_bounded_too() {
        let mut waiting: Vec<_> = (0..MOST + 3).map(|n| aside(n, 1)).collect();
        assert_eq!((shorten(&mut waiting), waiting.len()), (3, MOST));
        assert_eq!(&*waiting[0].message.topic, "plant/3");
    }
}
