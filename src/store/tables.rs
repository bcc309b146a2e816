//! What stands in the database, and how a batch changes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Result, TransactionBehavior};

use super::age::Horizon;
use super::loss::Dropped;
use super::removal::{Removal, size};
use super::rows::{entry, entry_id, handshake, handshake_columns, int, json, message, queue_id, seq, session};
use super::{Append, Batch, Depth, Entry, EntryId, Handshake, Lost, QueueId, Recovered, Session, WhenFull, Will};
use crate::clock::{Moment, Timestamp};
use crate::message::Message;
use crate::status::Cause;

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
    /// Entries in the queue of one client.
    pub(super) per_client: u64,
    pub(super) when_full: WhenFull,
}

/// The counters, changed with the rows they count.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Books {
    pub(super) next_id: i64,
    pub(super) next_queue: u32,
    pub(super) bytes: u64,
    entries: BTreeMap<QueueId, u64>,
    /// The queues of the gateway's own parts.
    own: BTreeSet<QueueId>,
}

impl Books {
    /// Entries over all queues.
    pub(super) fn entries(&self) -> u64 {
        self.entries.values().fold(0, |sum, entries| sum.saturating_add(*entries))
    }

    pub(super) fn queues(&self) -> Vec<QueueId> {
        self.entries.keys().copied().collect()
    }

    /// The clients' queues that `appends` have made longer than `most`, and by how much.
    fn above(&self, most: u64, appends: &[Append]) -> Vec<(QueueId, u64)> {
        let longer = self.entries.iter().filter(|(queue, entries)| **entries > most && !self.own.contains(queue));
        let touched = |queue: &QueueId| appends.iter().any(|a| a.queues.iter().any(|(to, _)| to == queue));
        longer.filter(|(queue, _)| touched(queue)).map(|(queue, entries)| (*queue, entries - most)).collect()
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
            own: recovered.sessions.iter().filter(|(s, _)| s.is_own()).map(|(s, _)| s.queue).collect(),
        };
        Ok((Self { connection, books, bounds }, recovered))
    }

    /// Does all of `batch` in one transaction, and lets give way what is too old by `horizon`, or more than `limit` bytes
    /// in all.
    pub(super) fn apply(&mut self, batch: &Batch, horizon: Horizon, limit: u64) -> Result<Dropped> {
        let Bounds { bytes, per_client, when_full, .. } = self.bounds;
        let keep = if when_full == WhenFull::DropOldest { limit } else { u64::MAX };
        let cause = if limit < bytes { Cause::Disk } else { Cause::StoreSize };
        self.change(|c, books, removal| {
            let mut dropped = Dropped::default();
            // First, as a session with the same client id may begin in the same batch.
            for queue in &batch.ended {
                end(c, books, removal, *queue)?;
            }
            put_sessions(c, books, removal, &batch.sessions)?;
            for (queue, id) in &batch.acked {
                removal.take(books, *queue, 0, int(*id))?;
                books.seen(int(*id));
            }
            for (queue, id) in &batch.acked_single {
                removal.take(books, *queue, int(*id), int(*id))?;
                books.seen(int(*id));
            }
            // What goes, goes first: what comes takes its pages, and the file need not grow.
            let coming = batch.appends.iter().map(|a| size(&a.message, None)).sum();
            removal.expire(books, horizon.expired(c)?, &mut dropped)?;
            removal.drop_oldest(books, keep.saturating_sub(coming), cause, &mut dropped)?;
            append(c, books, &batch.appends, &mut dropped)?;
            retain(c, &batch.retained)?;
            shake_hands(c, books, &batch.handshakes)?;
            put_wills(c, &batch.wills)?;
            for (queue, excess) in books.above(per_client, &batch.appends) {
                removal.shorten(books, queue, excess, &mut dropped)?;
            }
            removal.drop_oldest(books, keep, cause, &mut dropped)?;
            Ok(dropped)
        })
    }

    /// Makes what was salvaged agree with what is known: the sessions are `sessions`, and ids go on from `before`.
    pub(super) fn reconcile(&mut self, sessions: &BTreeMap<QueueId, Session>, before: &Books) -> Result<()> {
        let sessions: Vec<_> = sessions.values().cloned().collect();
        self.change(|c, books, removal| {
            let strays = books.queues().into_iter().filter(|queue| !sessions.iter().any(|s| s.queue == *queue));
            for queue in strays.collect::<Vec<_>>() {
                end(c, books, removal, queue)?;
            }
            put_sessions(c, books, removal, &sessions)?;
            books.next_id = books.next_id.max(before.next_id);
            books.next_queue = books.next_queue.max(before.next_queue);
            Ok(())
        })
    }

    /// Does all of `change` in one transaction, or nothing.
    fn change<T>(&mut self, change: impl FnOnce(&Connection, &mut Books, &mut Removal<'_>) -> Result<T>) -> Result<T> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut books = self.books.clone();
        let done = change(&transaction, &mut books, &mut Removal::new(&transaction))?;
        write_books(&transaction, &self.books, &books)?;
        transaction.commit()?;
        self.books = books;
        Ok(done)
    }

    /// Whether something is too old: the next [`Self::apply`] lets it give way.
    pub(super) fn stale(&self, horizon: Horizon) -> Result<bool> {
        Ok(horizon.expired(&self.connection)?.is_some())
    }

    /// The queues that take no new entries, when `limit` bytes are all that may be held.
    pub(super) fn full(&self, limit: u64) -> Vec<QueueId> {
        let full = self.bounds.when_full == WhenFull::RefuseNew && self.books.bytes >= limit;
        if full { self.books.queues() } else { Vec::new() }
    }

    /// The bytes in the file that are not in use.
    pub(super) fn spare(&self) -> Result<u64> {
        let number = |pragma: &str| self.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let (pages, size) = (number("PRAGMA freelist_count")?, number("PRAGMA page_size")?);
        Ok(pages.unsigned_abs().saturating_mul(size.unsigned_abs()))
    }

    /// The bytes of the database, with what is still in its log.
    pub(super) fn size(&self) -> Result<u64> {
        let number = |pragma: &str| self.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        Ok(number("PRAGMA page_count")?.unsigned_abs().saturating_mul(number("PRAGMA page_size")?.unsigned_abs()))
    }

    /// Bounds the database to so many bytes: a transaction that needs more fails as on a full disk.
    pub(super) fn bound(&self, bytes: Option<u64>) -> Result<()> {
        let size: i64 = self.connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let pages =
            bytes.map_or(i64::from(u32::MAX - 1), |bytes| i64::try_from(bytes).unwrap_or(i64::MAX) / size.max(1));
        self.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
    }

    /// Puts what is in the log into the database, so that the log can begin anew within the blocks that it has.
    pub(super) fn checkpoint(&self) -> Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    /// When the oldest message entered the broker.
    pub(super) fn oldest(&self) -> Result<Option<Moment>> {
        let at = self.connection.query_row("SELECT at FROM message ORDER BY id LIMIT 1", [], |row| row.get(0));
        Ok(at.optional()?.map(|at| Timestamp(at).into()))
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
                    entry.id, entry.qos, entry.retain, subscription_ids, seq \
             FROM entry CROSS JOIN message ON message.id = entry.id \
             WHERE queue = ?1 AND entry.id > ?2 ORDER BY entry.id",
        )?;
        let mut rows = statement.query((queue.0, int(after)))?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let entry = entry(row)?;
            bytes += entry.message.topic.len() + entry.message.payload.len();
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
            "INSERT INTO session (queue, client_id, expiry, left_at, subscriptions, user, sent) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
             ON CONFLICT (queue) DO UPDATE SET client_id = excluded.client_id, expiry = excluded.expiry, \
             left_at = excluded.left_at, subscriptions = excluded.subscriptions, user = excluded.user, \
             sent = excluded.sent",
            (
                session.queue.0,
                &session.client_id,
                session.expiry,
                session.left.map(|at| at.wall.0),
                json(&session.subscriptions),
                &session.user,
                int(EntryId(session.sent)),
            ),
        )?;
        books.entries.entry(session.queue).or_insert(0);
        if session.is_own() {
            books.own.insert(session.queue);
        }
        books.next_queue = books.next_queue.max(session.queue.0.saturating_add(1));
    }
    Ok(())
}

fn append(c: &Connection, books: &mut Books, appends: &[Append], dropped: &mut Dropped) -> Result<()> {
    if appends.is_empty() {
        return Ok(());
    }
    let mut message = c.prepare(
        "INSERT OR IGNORE INTO message (id, topic, payload, qos, retain, at, properties) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let mut entry = c.prepare(
        "INSERT OR IGNORE INTO entry (queue, id, qos, retain, subscription_ids, seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for Append { id, message: m, queues } in appends {
        books.seen(int(*id));
        // A queue without a session has no reader. The broker appends to none; if it did, it is not to be a secret.
        for (queue, _) in queues.iter().filter(|(queue, _)| !books.entries.contains_key(queue)) {
            dropped.note(*queue, Lost { cause: Cause::Ended, entries: 1, until: *id, class: 0 });
        }
        if !queues.iter().any(|(queue, _)| books.entries.contains_key(queue)) {
            continue;
        }
        let properties = m.properties.as_ref().map(json);
        let size = size(m, properties.as_deref());
        let row = (int(*id), &m.topic, &m.payload[..], u8::from(m.qos), m.retain, m.at.wall.0, properties);
        if message.execute(row)? == 1 {
            books.bytes = books.bytes.saturating_add(size);
        }
        for (queue, delivery) in queues {
            let Some(count) = books.entries.get_mut(queue) else { continue };
            let ids = (!delivery.subscription_ids.is_empty()).then(|| json(&delivery.subscription_ids));
            let seq = int(EntryId(delivery.seq));
            let new = entry.execute((queue.0, int(*id), u8::from(delivery.qos), delivery.retain, ids, seq))?;
            *count = count.saturating_add(new as u64);
        }
    }
    Ok(())
}

fn end(c: &Connection, books: &mut Books, removal: &mut Removal<'_>, queue: QueueId) -> Result<()> {
    removal.take(books, queue, 0, i64::MAX)?;
    c.execute("DELETE FROM session WHERE queue = ?1", [queue.0])?;
    c.execute("DELETE FROM handshake WHERE queue = ?1", [queue.0])?;
    books.entries.remove(&queue);
    books.own.remove(&queue);
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
            set.execute((&m.topic, &m.payload[..], u8::from(m.qos), m.at.wall.0, properties))?;
        }
    }
    Ok(())
}

fn shake_hands(c: &Connection, books: &Books, handshakes: &[(QueueId, Handshake, bool)]) -> Result<()> {
    if handshakes.is_empty() {
        return Ok(());
    }
    let mut begin = c.prepare("INSERT OR IGNORE INTO handshake VALUES (?1, ?2, ?3)")?;
    let mut end = c.prepare("DELETE FROM handshake WHERE queue = ?1 AND incoming = ?2 AND number = ?3")?;
    for (queue, handshake, begun) in handshakes.iter().filter(|(queue, ..)| books.entries.contains_key(queue)) {
        let (incoming, number) = handshake_columns(*handshake);
        (if *begun { &mut begin } else { &mut end }).execute((queue.0, incoming, number))?;
    }
    Ok(())
}

fn put_wills(c: &Connection, wills: &[(Arc<str>, Option<Will>)]) -> Result<()> {
    for (client_id, will) in wills {
        let Some(Will { message: m, delay, due }) = will else {
            c.execute("DELETE FROM will WHERE client_id = ?1", [client_id])?;
            continue;
        };
        let properties = m.properties.as_ref().map(json);
        c.execute(
            "INSERT OR REPLACE INTO will VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            (
                client_id,
                &m.topic,
                &m.payload[..],
                u8::from(m.qos),
                m.retain,
                m.at.wall.0,
                properties,
                delay,
                due.map(|at| at.wall.0),
            ),
        )?;
    }
    Ok(())
}

fn write_books(c: &Connection, was: &Books, is: &Books) -> Result<()> {
    // Always, as they may be known from rows that go.
    let mut set = c.prepare("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?;
    set.execute(("next-id", is.next_id))?;
    set.execute(("next-queue", is.next_queue))?;
    set.execute(("bytes", i64::try_from(is.bytes).unwrap_or(i64::MAX)))?;
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
    let mut firsts = c.prepare(
        "SELECT at, seq FROM entry CROSS JOIN message ON message.id = entry.id WHERE queue = ?1 \
         ORDER BY entry.id LIMIT 1",
    )?;
    let mut lasts = c.prepare("SELECT seq FROM entry WHERE queue = ?1 ORDER BY id DESC LIMIT 1")?;
    let mut sessions = Vec::new();
    for row in c
        .prepare("SELECT queue, client_id, expiry, left_at, subscriptions, user, sent, entries FROM session")?
        .query_map([], |row| Ok((session(row)?, row.get::<_, i64>(7)?)))?
    {
        let (session, entries) = row?;
        let first =
            firsts.query_row([session.queue.0], |row| Ok((Moment::from(Timestamp(row.get(0)?)), seq(row.get(1)?)?)));
        let (oldest, first) = first.optional()?.unzip();
        let last = lasts.query_row([session.queue.0], |row| seq(row.get(0)?)).optional()?;
        let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
        sessions.push((session, Depth { entries: entries.unsigned_abs(), oldest, first, last }));
    }
    let largest = sessions.iter().map(|(session, _)| session.queue.0.saturating_add(1)).max();
    let next_queue = queue_id(meta(c, "next-queue")?)?.0.max(largest.unwrap_or(1));
    let mut retained = Vec::new();
    let mut statement = c.prepare("SELECT topic, payload, qos, 1, at, properties FROM retained")?;
    for row in statement.query_map([], message)? {
        retained.push(Arc::new(row?));
    }
    let handshakes = c.prepare("SELECT queue, incoming, number FROM handshake")?;
    let handshakes = { handshakes }.query_map([], handshake)?.collect::<Result<_>>()?;
    let mut wills = Vec::new();
    let mut statement =
        c.prepare("SELECT topic, payload, qos, retain, at, properties, delay, due_at, client_id FROM will")?;
    for row in statement.query_map([], |row| {
        let will = Will {
            message: message(row)?,
            delay: row.get(6)?,
            due: row.get::<_, Option<i64>>(7)?.map(|at| Timestamp(at).into()),
        };
        Ok((row.get(8)?, will))
    })? {
        wills.push(row?);
    }
    Ok(Recovered { next_id, next_queue, sessions, retained, handshakes, wills })
}

fn meta(c: &Connection, key: &str) -> Result<i64> {
    Ok(c.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()?.unwrap_or(0))
}
