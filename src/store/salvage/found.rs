//! The entries that can be read of a damaged store, and the messages of which it is not known whose they were.

use rusqlite::{Connection, OptionalExtension, Result};

use super::read_ranges;
use crate::clock::boot::Boot;
use crate::message::QoS;
use crate::mqtt::topic;
use crate::store::clocks::Clocks;
use crate::store::list::Item;
use crate::store::migration::item;
use crate::store::removal::SIZE;
use crate::store::rows::{int, qos, session};
use crate::store::runs::{self, Run};
use crate::store::{EntryId, QueueId, Session};

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Places that cannot be read.
    pub(super) unreadable: u32,
    /// Messages that were given to those who are subscribed to them.
    pub(super) given: u64,
}

/// Copies the entries of the sessions in `new`, whose messages are there already, and deletes the messages of nobody.
pub(super) fn carry_over(old: &Connection, new: &Connection) -> Result<Found> {
    let mut found = Found::default();
    new.execute_batch("CREATE TEMP TABLE held (id INTEGER PRIMARY KEY)")?;
    let clocks = Clocks::read(new, Boot::current())?;
    let sessions: Vec<Session> = new
        .prepare("SELECT queue, client_id, expiry, left_at, subscriptions, user, sent, left_clock FROM session")?
        .query_map([], |row| session(row, &clocks))?
        .collect::<Result<_>>()?;
    let has_runs = old.prepare("SELECT queue FROM run").is_ok();
    for Session { queue, .. } in &sessions {
        found.unreadable += if has_runs { copy_runs(old, new, *queue)? } else { copy_entries(old, new, *queue)? };
    }
    if has_runs {
        found.unreadable += delete_waste(old, new)?;
    }
    if found.unreadable > 0 {
        let orphans: Vec<EntryId> = new
            .prepare("SELECT id FROM message WHERE id NOT IN (SELECT id FROM held) ORDER BY id")?
            .query_map([], |row| row.get::<_, i64>(0).map(|id| EntryId(id.unsigned_abs())))?
            .collect::<Result<_>>()?;
        for session in &sessions {
            found.given += give(new, session, &orphans)?;
        }
    }
    new.execute_batch("DELETE FROM message WHERE id NOT IN (SELECT id FROM held); DROP TABLE held")?;
    Ok(found)
}

/// Copies the runs of a queue. Returns how many places could not be read.
fn copy_runs(old: &Connection, new: &Connection, queue: QueueId) -> Result<u32> {
    let mut unreadable = 0;
    for class in 0..=u8::MAX {
        let select = old.prepare(
            "SELECT last, class, queue, entries, bytes, list FROM run WHERE queue = ?1 AND class = ?2 AND last > ?3 \
             ORDER BY last LIMIT 500",
        );
        let Ok(select) = select else { return Ok(1) };
        let mut strange = 0;
        let failures = read_ranges(
            select,
            |after| (queue.0, class, after),
            |row| match Run::read_as(row, [2, 1, 0]) {
                Ok(run) => copy(new, queue, class, run.items),
                Err(_) => {
                    strange += 1;
                    Ok(())
                }
            },
        )?;
        unreadable += failures + strange;
    }
    Ok(unreadable)
}

/// The same of an earlier schema, where each entry was a row.
fn copy_entries(old: &Connection, new: &Connection, queue: QueueId) -> Result<u32> {
    let select = old.prepare(
        "SELECT id, qos, retain, subscription_ids, seq, 0 FROM entry WHERE queue = ?1 AND id > ?2 ORDER BY id LIMIT 500",
    );
    let Ok(select) = select else { return Ok(1) };
    let mut items = Vec::new();
    let failures = read_ranges(
        select,
        |after| (queue.0, after),
        |row| {
            items.extend(item(row));
            if items.len() < runs::MOST {
                return Ok(());
            }
            copy(new, queue, u8::MAX, std::mem::take(&mut items))
        },
    )?;
    copy(new, queue, u8::MAX, items)?;
    Ok(failures)
}

/// Adds entries whose messages are there.
fn copy(new: &Connection, queue: QueueId, class: u8, items: Vec<Item>) -> Result<()> {
    let mut size = new.prepare_cached(&format!("SELECT {SIZE} FROM message WHERE id = ?1"))?;
    let mut sound = Vec::with_capacity(items.len());
    for item in items {
        let size: Option<i64> = size.query_row([int(item.id)], |row| row.get(0)).optional()?;
        let Some(size) = size else { continue };
        hold(new, item.id)?;
        sound.push(Item { size: size.unsigned_abs(), ..item });
    }
    runs::append(new, queue, class, sound)
}

/// Notes that somebody holds a message; false when that is known.
fn hold(new: &Connection, id: EntryId) -> Result<bool> {
    Ok(new.prepare_cached("INSERT OR IGNORE INTO held VALUES (?1)")?.execute([int(id)])? > 0)
}

/// Deletes the messages that the old store was about to delete. Returns how many places could not be read.
fn delete_waste(old: &Connection, new: &Connection) -> Result<u32> {
    let Ok(select) = old.prepare("SELECT first, last FROM waste WHERE first > ?1 ORDER BY first LIMIT 500") else {
        return Ok(1);
    };
    let mut delete =
        new.prepare("DELETE FROM message WHERE id BETWEEN ?1 AND ?2 AND id NOT IN (SELECT id FROM held)")?;
    read_ranges(
        select,
        |after| [after],
        |row| {
            if let (Ok(first), Ok(last)) = (row.get::<_, i64>(0), row.get::<_, i64>(1)) {
                delete.execute((first, last))?;
            }
            Ok(())
        },
    )
}

/// Gives a session those of the messages `orphans`, in order, that it is subscribed to. Returns to how many nobody had been
/// given before.
fn give(new: &Connection, session: &Session, orphans: &[EntryId]) -> Result<u64> {
    let queue = session.queue;
    let mut message = new.prepare(&format!("SELECT topic, qos, {SIZE} FROM message WHERE id = ?1"))?;
    let mut wanted = Vec::new();
    for id in orphans {
        let (topic, of, size): (String, u8, i64) =
            message.query_row([int(*id)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let matching = session.subscriptions.iter().filter(|s| topic::matches(topic::unshared(&s.filter), &topic));
        let Some(best) = matching.map(|s| s.options.qos).max().map(|best| best.min(qos(of))) else { continue };
        if best > QoS::AtMostOnce {
            wanted.push(Item {
                id: *id,
                seq: 0,
                qos: best,
                retain: false,
                subscription_ids: Vec::new(),
                size: size.unsigned_abs(),
                alone: false,
            });
        }
    }
    let known: Vec<u8> = new
        .prepare("SELECT DISTINCT class FROM run WHERE queue = ?1")?
        .query_map([queue.0], |row| row.get(0))?
        .collect::<Result<_>>()?;
    // A class of their own: of what importance they were is not known either.
    let Some(class) = (0..u8::MAX).rev().find(|class| !known.contains(class)) else { return Ok(0) };
    let mut given = 0;
    for items in between(wanted, session.sent, |id| neighbours(new, queue, &known, id))? {
        for item in &items {
            given += u64::from(hold(new, item.id)?);
        }
        runs::append(new, queue, class, items)?;
    }
    Ok(given)
}

/// An entry, and its place.
type Place = (EntryId, u64);

/// The places of lost entries are those that are missing between their neighbours' places: a place leads to a packet id, and
/// no two may be alike. `neighbours` tells the known entries before and behind an id. Entries for which there is no place
/// left cannot have been in this queue.
fn between(
    wanted: Vec<Item>,
    sent: u64,
    mut neighbours: impl FnMut(EntryId) -> Result<(Option<Place>, Option<Place>)>,
) -> Result<Vec<Vec<Item>>> {
    let mut placed = Vec::new();
    let mut wanted = wanted.into_iter().peekable();
    while let Some(first) = wanted.peek().map(|item| item.id) {
        let (before, behind) = neighbours(first)?;
        let mut gap = Vec::new();
        while let Some(item) = wanted.next_if(|item| behind.is_none_or(|(id, _)| item.id < id)) {
            gap.push(item);
        }
        let end = behind.map_or(u64::MAX, |(_, seq)| seq);
        let start = match (before, behind) {
            (Some((_, seq)), _) => seq,
            // The first ones come right before the first that is known.
            (None, Some(_)) => end.saturating_sub(gap.len() as u64 + 1),
            (None, None) => sent,
        };
        let places = start.saturating_add(1)..end;
        placed.push(places.zip(gap).map(|(seq, item)| Item { seq, ..item }).collect());
    }
    Ok(placed)
}

/// The entries of `queue` before and behind `id`, which it has not.
fn neighbours(new: &Connection, queue: QueueId, classes: &[u8], id: EntryId) -> Result<(Option<Place>, Option<Place>)> {
    let (mut before, mut behind) = (None, None);
    for class in classes {
        let runs = [Run::before(new, queue, *class, id)?, Run::at(new, queue, *class, id)?];
        for (item, seq) in runs.iter().flatten().flat_map(|run| &run.items).map(|item| (item.id, item.seq)) {
            if item < id {
                before = before.max(Some((item, seq)));
            } else {
                behind = behind.into_iter().chain([(item, seq)]).min();
            }
        }
    }
    Ok((before, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: u64) -> Item {
        let subscription_ids = Vec::new();
        Item { id: EntryId(id), seq: 0, qos: QoS::AtLeastOnce, retain: false, subscription_ids, size: 1, alone: false }
    }

    fn places(ids: &[u64], known: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let known: Vec<Place> = known.iter().map(|(id, seq)| (EntryId(*id), *seq)).collect();
        let around = |id| {
            let behind = known.partition_point(|(known, _)| *known < id);
            Ok((behind.checked_sub(1).map(|before| known[before]), known.get(behind).copied()))
        };
        let placed = between(ids.iter().map(|id| item(*id)).collect(), 40, around).expect("it works");
        placed.into_iter().flatten().map(|item| (item.id.0, item.seq)).collect()
    }

    #[test]
    fn lost_places_are_found_again() {
        assert_eq!(places(&[5, 6], &[(7, 103)]), [(5, 101), (6, 102)], "before the first");
        assert_eq!(places(&[5, 9], &[(4, 100), (7, 102), (8, 103)]), [(5, 101), (9, 104)], "between and behind");
        assert_eq!(places(&[5, 6], &[(4, 100), (7, 102)]), [(5, 101)], "there is no more room than there was");
        assert_eq!(places(&[5, 6], &[]), [(5, 41), (6, 42)], "nothing is known");
    }
}
