//! What an opened database holds, found by reading its runs but no message.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Result};

use super::books::{Books, Held};
use super::clocks::Clocks;
use super::removal::largest;
use super::rows::{entry_id, handshake, int, message, queue_id, session};
use super::runs::Run;
use super::{Depth, EntryId, QueueId, Recovered, Will, waste};
use crate::clock::{Moment, Timestamp};

/// How many ids are looked at together, where messages may be held by several queues.
const WINDOW: u64 = 1 << 16;

/// Behind all ids.
const NEVER: EntryId = EntryId(u64::MAX);

/// What is there, and how much of it, by these clocks.
pub(super) fn recover(c: &Connection, clocks: &Clocks) -> Result<(Recovered, Books)> {
    let largest = largest(c)?;
    let smallest: Option<i64> = c.query_row("SELECT min(id) FROM message", [], |row| row.get(0))?;
    smallest.map(entry_id).transpose()?;
    let noted = (meta(c, "next-id")?, queue_id(meta(c, "next-queue")?)?.0);
    let next_id = entry_id(noted.0.max(largest.map_or(1, |id| id.saturating_add(1))))?;
    let mut books = Books::new(int(next_id), noted, waste::is_there(c)?);
    let mut sessions = Vec::new();
    for row in c
        .prepare("SELECT queue, client_id, expiry, left_at, subscriptions, user, sent, left_clock FROM session")?
        .query_map([], |row| session(row, clocks))?
    {
        let session = row?;
        books.opened(session.queue, session.is_own());
        sessions.push((session, Depth::default()));
    }
    count(c, &mut books)?;
    for (session, depth) in &mut sessions {
        *depth = measure(c, &books, clocks, session.queue)?;
    }
    let mut retained = Vec::new();
    let mut statement = c.prepare("SELECT topic, payload, qos, 1, at, properties, clock, timed FROM retained")?;
    for row in statement.query_map([], |row| message(row, clocks))? {
        retained.push(Arc::new(row?));
    }
    let handshakes = c.prepare("SELECT queue, incoming, number FROM handshake")?;
    let handshakes = { handshakes }.query_map([], handshake)?.collect::<Result<_>>()?;
    let mut wills = Vec::new();
    let mut statement = c.prepare(
        "SELECT topic, payload, qos, retain, at, properties, NULL, 0, delay, due_at, due_clock, client_id FROM will",
    )?;
    for row in statement.query_map([], |row| {
        let (due, clock) = (row.get::<_, Option<i64>>(9)?.map(Timestamp), row.get(10)?);
        let due = due.map(|due| clocks.best(due, clock));
        let will = Will { message: message(row, clocks)?, delay: row.get(8)?, due };
        Ok((row.get(11)?, will))
    })? {
        wills.push(row?);
    }
    let recovered = Recovered {
        next_id: EntryId(books.next_id.unsigned_abs()),
        next_queue: books.next_queue,
        sessions,
        retained,
        handshakes,
        wills,
        clock: clocks.trusted(),
    };
    Ok((recovered, books))
}

/// When the message of the entry `first`, or the next one that there is, entered the broker.
pub(super) fn entered(c: &Connection, clocks: &Clocks, first: EntryId) -> Result<Option<Moment>> {
    let mut select = c.prepare_cached("SELECT at, clock FROM message WHERE id >= ?1 ORDER BY id LIMIT 1")?;
    select.query_row([int(first)], |row| Ok(clocks.best(Timestamp(row.get(0)?), row.get(1)?))).optional()
}

/// Counts what the queues of `books` hold.
fn count(c: &Connection, books: &mut Books) -> Result<()> {
    let mut shared = BTreeMap::new();
    let mut statement =
        c.prepare("SELECT queue, class, last, entries, bytes, list FROM run ORDER BY queue, class, last")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let run = Run::read(row)?;
        if !books.has(run.queue) {
            continue;
        }
        books.entered(run.queue, run.class, Held::of(&run.items));
        let alone: u64 = run.items.iter().filter(|item| item.alone).map(|item| item.size).sum();
        books.bytes = books.bytes.saturating_add(alone);
        if let Some(first) = run.items.iter().find(|item| !item.alone) {
            shared.entry((run.queue, run.class)).or_insert(first.id);
        }
    }
    books.bytes = books.bytes.saturating_add(count_shared(c, shared)?);
    Ok(())
}

/// What the messages count that more than one queue may hold, each of them once. `next` is where each queue and class has
/// its first.
fn count_shared(c: &Connection, mut next: BTreeMap<(QueueId, u8), EntryId>) -> Result<u64> {
    let mut bytes = 0_u64;
    let mut sizes = Vec::new();
    while let Some(start) = next.values().min().map(|first| first.0) {
        let end = start.saturating_add(WINDOW);
        sizes.clear();
        sizes.resize(WINDOW as usize, 0);
        for ((queue, class), first) in &mut next {
            while first.0 < end {
                let Some(run) = Run::at(c, *queue, *class, *first)? else {
                    *first = NEVER;
                    break;
                };
                for item in run.items.iter().filter(|item| !item.alone && (start..end).contains(&item.id.0)) {
                    sizes[(item.id.0 - start) as usize] = item.size;
                }
                let behind = run.items.iter().map(|item| item.id).find(|id| id.0 >= end);
                *first = behind.unwrap_or(EntryId(run.last.0 + 1));
            }
        }
        bytes = bytes.saturating_add(sizes.iter().sum());
        next.retain(|_, first| *first != NEVER);
    }
    Ok(bytes)
}

fn measure(c: &Connection, books: &Books, clocks: &Clocks, queue: QueueId) -> Result<Depth> {
    let total = books.total(queue);
    let mut depth = Depth { entries: total.entries, ..Depth::default() };
    let (mut first, mut oldest) = (None, None);
    for (class, _) in books.classes(queue) {
        if let Some(head) = Run::at(c, queue, class, EntryId(0))? {
            let item = &head.items[0];
            first = first.into_iter().chain([item.seq]).min();
            oldest = oldest.into_iter().chain([item.id]).min();
        }
        let last = Run::last(c, queue, class)?;
        depth.last = last.iter().flat_map(|run| run.items.iter().map(|item| item.seq)).fold(depth.last, u64::max);
    }
    depth.first = first.unwrap_or_default();
    depth.oldest = oldest.map(|id| entered(c, clocks, id)).transpose()?.flatten();
    Ok(depth)
}

fn meta(c: &Connection, key: &str) -> Result<i64> {
    Ok(c.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()?.unwrap_or(0))
}
