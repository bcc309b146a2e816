//! What stands in the database, and how a batch changes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Result, TransactionBehavior};

use super::removal::{Removal, size};
use super::rows::{entry, entry_id, int, json, message, queue_id, session};
use super::{Append, Batch, Depth, Entry, EntryId, Lost, QueueId, Recovered, Session, WhenFull};
use crate::clock::Timestamp;
use crate::message::Message;

/// The clock of a computer without a battery may begin here; such a time says nothing about age.
const FIRST_PLAUSIBLE: Timestamp = Timestamp(1_577_836_800_000); // 2020-01-01

/// The open database and its counters.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) connection: Connection,
    pub(super) books: Books,
    bounds: Bounds,
}

/// What the store may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) bytes: u64,
    pub(super) age: std::time::Duration,
    pub(super) when_full: WhenFull,
}

/// Entries that gave way, by queue.
pub(super) type Dropped = BTreeMap<QueueId, Lost>;

/// The counters, changed with the rows they count.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Books {
    pub(super) next_id: i64,
    pub(super) next_queue: u32,
    pub(super) bytes: u64,
    entries: BTreeMap<QueueId, u64>,
}

impl Books {
    /// Entries over all queues.
    pub(super) fn entries(&self) -> u64 {
        self.entries.values().fold(0, |sum, entries| sum.saturating_add(*entries))
    }

    pub(super) fn queues(&self) -> Vec<QueueId> {
        self.entries.keys().copied().collect()
    }

    /// Entries left `queue`.
    pub(super) fn left(&mut self, queue: QueueId, entries: u64) {
        if let Some(n) = self.entries.get_mut(&queue) {
            *n = n.saturating_sub(entries);
        }
    }

    /// A message of this size went.
    pub(super) fn freed(&mut self, size: i64) {
        self.bytes = self.bytes.saturating_sub(size.unsigned_abs());
    }

    fn seen(&mut self, id: i64) {
        self.next_id = self.next_id.max(id.saturating_add(1));
    }
}

impl Tables {
    /// The tables behind a connection whose schema is in place, and what they hold.
    pub(super) fn new(connection: Connection, bounds: Bounds) -> Result<(Self, Recovered)> {
        let recovered = recover(&connection)?;
        let books = Books {
            next_id: int(recovered.next_id),
            next_queue: recovered.next_queue,
            bytes: u64::try_from(meta(&connection, "bytes")?).unwrap_or(0),
            entries: recovered.sessions.iter().map(|(session, depth)| (session.queue, depth.entries)).collect(),
        };
        Ok((Self { connection, books, bounds }, recovered))
    }

    /// Does all of `batch` in one transaction, and lets give way what is too old or too much at `now`.
    pub(super) fn apply(&mut self, batch: &Batch, now: Timestamp) -> Result<Dropped> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut books = self.books.clone();
        let mut dropped = Dropped::new();
        {
            let mut removal = Removal::new(&transaction);
            put_sessions(&transaction, &mut books, &mut removal, &batch.sessions)?;
            append(&transaction, &mut books, &batch.appends)?;
            for (queue, id) in &batch.acked {
                removal.take(&mut books, *queue, 0, int(*id))?;
                books.seen(int(*id));
            }
            for (queue, id) in &batch.acked_single {
                removal.take(&mut books, *queue, int(*id), int(*id))?;
                books.seen(int(*id));
            }
            for queue in &batch.ended {
                end(&transaction, &mut books, &mut removal, *queue)?;
            }
            retain(&transaction, &batch.retained)?;
            let keep = if self.bounds.when_full == WhenFull::DropOldest { self.bounds.bytes } else { u64::MAX };
            let expired = expired(&transaction, self.bounds.age, now)?;
            removal.drop_oldest(&mut books, keep, expired, &mut dropped)?;
        }
        write_books(&transaction, &self.books, &books)?;
        transaction.commit()?;
        self.books = books;
        Ok(dropped)
    }

    /// Whether something is too old at `now`: the next [`Self::apply`] lets it give way.
    pub(super) fn stale(&self, now: Timestamp) -> Result<bool> {
        Ok(expired(&self.connection, self.bounds.age, now)?.is_some())
    }

    /// Whether new entries are to be refused.
    pub(super) fn full(&self) -> bool {
        self.bounds.when_full == WhenFull::RefuseNew && self.books.bytes >= self.bounds.bytes
    }

    /// When the oldest message entered the broker.
    pub(super) fn oldest(&self) -> Result<Option<Timestamp>> {
        let at = self.connection.query_row("SELECT at FROM message ORDER BY id LIMIT 1", [], |row| row.get(0));
        Ok(at.optional()?.map(Timestamp))
    }

    /// The entries of `queue` after `after`, in order: at most `limit`, and no more than `max_bytes` unless the first
    /// alone has more. True when they are the last.
    pub(super) fn load(
        &self,
        queue: QueueId,
        after: EntryId,
        limit: usize,
        max_bytes: usize,
    ) -> Result<(Vec<Entry>, bool)> {
        let mut statement = self.connection.prepare(
            "SELECT topic, payload, message.qos, message.retain, at, properties, \
                    entry.id, entry.qos, entry.retain, subscription_ids \
             FROM entry CROSS JOIN message ON message.id = entry.id \
             WHERE queue = ?1 AND entry.id > ?2 ORDER BY entry.id",
        )?;
        let mut rows = statement.query((queue.0, int(after)))?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let entry = entry(row)?;
            bytes += entry.message.size();
            if entries.len() >= limit || (bytes > max_bytes && !entries.is_empty()) {
                return Ok((entries, false));
            }
            entries.push(entry);
        }
        Ok((entries, true))
    }
}

fn put_sessions(c: &Connection, books: &mut Books, removal: &mut Removal<'_>, sessions: &[Session]) -> Result<()> {
    for session in sessions {
        // A client that begins anew gets a new queue; the one it had ends with this.
        let had: Option<u32> = c
            .query_row(
                "SELECT queue FROM session WHERE client_id = ?1 AND queue <> ?2",
                (&session.client_id, session.queue.0),
                |row| row.get(0),
            )
            .optional()?;
        if let Some(had) = had {
            end(c, books, removal, QueueId(had))?;
        }
        c.execute(
            "INSERT INTO session (queue, client_id, expiry, left_at, subscriptions) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (queue) DO UPDATE SET client_id = excluded.client_id, expiry = excluded.expiry, \
             left_at = excluded.left_at, subscriptions = excluded.subscriptions",
            (
                session.queue.0,
                &session.client_id,
                session.expiry,
                session.left.map(|at| at.0),
                json(&session.subscriptions),
            ),
        )?;
        books.entries.entry(session.queue).or_insert(0);
        books.next_queue = books.next_queue.max(session.queue.0.saturating_add(1));
    }
    Ok(())
}

fn append(c: &Connection, books: &mut Books, appends: &[Append]) -> Result<()> {
    if appends.is_empty() {
        return Ok(());
    }
    let mut message = c.prepare(
        "INSERT OR IGNORE INTO message (id, topic, payload, qos, retain, at, properties) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let mut entry = c.prepare("INSERT OR IGNORE INTO entry VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for Append { id, message: m, queues } in appends {
        books.seen(int(*id));
        // A queue whose session has ended has no reader any more.
        if !queues.iter().any(|(queue, _)| books.entries.contains_key(queue)) {
            continue;
        }
        let properties = m.properties.as_ref().map(json);
        let size = size(m, properties.as_deref());
        let row = (int(*id), &m.topic, &m.payload[..], u8::from(m.qos), m.retain, m.at.0, properties);
        if message.execute(row)? == 1 {
            books.bytes = books.bytes.saturating_add(size);
        }
        for (queue, delivery) in queues {
            let Some(count) = books.entries.get_mut(queue) else { continue };
            let ids = (!delivery.subscription_ids.is_empty()).then(|| json(&delivery.subscription_ids));
            let new = entry.execute((queue.0, int(*id), u8::from(delivery.qos), delivery.retain, ids))?;
            *count = count.saturating_add(new as u64);
        }
    }
    Ok(())
}

fn end(c: &Connection, books: &mut Books, removal: &mut Removal<'_>, queue: QueueId) -> Result<()> {
    removal.take(books, queue, 0, i64::MAX)?;
    c.execute("DELETE FROM session WHERE queue = ?1", [queue.0])?;
    books.entries.remove(&queue);
    books.next_queue = books.next_queue.max(queue.0.saturating_add(1));
    Ok(())
}

fn retain(c: &Connection, messages: &[Arc<Message>]) -> Result<()> {
    let mut set = c.prepare("INSERT OR REPLACE INTO retained VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let mut clear = c.prepare("DELETE FROM retained WHERE topic = ?1")?;
    for m in messages {
        if m.payload.is_empty() {
            clear.execute([&m.topic])?;
        } else {
            let properties = m.properties.as_ref().map(json);
            set.execute((&m.topic, &m.payload[..], u8::from(m.qos), m.at.0, properties))?;
        }
    }
    Ok(())
}

/// The last of the oldest messages that are all too old; of more than a thousand, the thousandth.
fn expired(c: &Connection, age: std::time::Duration, now: Timestamp) -> Result<Option<i64>> {
    let mut statement = c.prepare("SELECT id, at FROM message ORDER BY id LIMIT 1000")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, Timestamp(row.get(1)?))))?;
    let mut last = None;
    for row in rows {
        let (id, at) = row?;
        if at < FIRST_PLAUSIBLE {
            continue; // as old as its neighbours
        }
        if at.age_at(now) <= age {
            break;
        }
        last = Some(id);
    }
    Ok(last)
}

fn write_books(c: &Connection, was: &Books, is: &Books) -> Result<()> {
    let counters = |b: &Books| {
        [
            ("next-id", b.next_id),
            ("next-queue", i64::from(b.next_queue)),
            ("bytes", i64::try_from(b.bytes).unwrap_or(i64::MAX)),
        ]
    };
    for (was, (key, value)) in counters(was).into_iter().zip(counters(is)) {
        if was.1 != value {
            c.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", (key, value))?;
        }
    }
    let mut count = c.prepare("UPDATE session SET entries = ?2 WHERE queue = ?1")?;
    for (queue, entries) in &is.entries {
        if was.entries.get(queue).copied().unwrap_or(0) != *entries {
            count.execute((queue.0, i64::try_from(*entries).unwrap_or(i64::MAX)))?;
        }
    }
    Ok(())
}

fn recover(c: &Connection) -> Result<Recovered> {
    let largest: Option<i64> = c.query_row("SELECT max(id) FROM message", [], |row| row.get(0))?;
    let next_id = entry_id(meta(c, "next-id")?.max(largest.map_or(1, |id| id.saturating_add(1))))?;
    let mut depths = c.prepare(
        "SELECT at FROM entry CROSS JOIN message ON message.id = entry.id WHERE queue = ?1 ORDER BY entry.id LIMIT 1",
    )?;
    let mut sessions = Vec::new();
    for row in c
        .prepare("SELECT queue, client_id, expiry, left_at, subscriptions, entries FROM session")?
        .query_map([], |row| Ok((session(row)?, row.get::<_, i64>(5)?)))?
    {
        let (session, entries) = row?;
        let oldest = depths.query_row([session.queue.0], |row| row.get(0)).optional()?.map(Timestamp);
        sessions.push((session, Depth { entries: entries.unsigned_abs(), oldest }));
    }
    let largest = sessions.iter().map(|(session, _)| session.queue.0.saturating_add(1)).max();
    let next_queue = queue_id(meta(c, "next-queue")?)?.0.max(largest.unwrap_or(1));
    let mut retained = Vec::new();
    let mut statement = c.prepare("SELECT topic, payload, qos, 1, at, properties FROM retained")?;
    for row in statement.query_map([], message)? {
        retained.push(Arc::new(row?));
    }
    Ok(Recovered { next_id, next_queue, sessions, retained })
}

fn meta(c: &Connection, key: &str) -> Result<i64> {
    Ok(c.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()?.unwrap_or(0))
}
