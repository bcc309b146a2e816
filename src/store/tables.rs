//! What stands in the database, and how a batch changes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Result, TransactionBehavior};

use super::age::Horizon;
use super::aside;
use super::books::{Books, Held};
use super::clocks::Clocks;
use super::list::Item;
use super::loss::Dropped;
use super::page::Page;
use super::recovery::{entered, recover};
use super::removal::{Removal, largest, size};
use super::rows::{handshake_columns, int, json};
use super::{
    Append, Batch, Entry, EntryId, Handshake, Lost, QueueBound, QueueId, Recovered, Session, WhenFull, Will, runs,
};
use crate::clock::Moment;
use crate::clock::boot::Boot;
use crate::message::Message;
use crate::status::Cause;

/// A file with so many bytes that are not in use is made smaller, when there are no more in use than that.
const MUCH: u64 = 16 << 20;
const LITTLE: u64 = 4 << 20;

/// Statements that are kept ready.
const STATEMENTS: usize = 64;

/// The open database and its counters.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) connection: Connection,
    pub(super) books: Books,
    clocks: Clocks,
    bounds: Bounds,
}

/// What the store may hold.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) bytes: u64,
    pub(super) age: std::time::Duration,
    /// Entries in the queue of one client.
    pub(super) per_client: u64,
    pub(super) when_full: WhenFull,
    /// What holds for single queues instead, by client id.
    pub(super) queues: Arc<[(Arc<str>, QueueBound)]>,
}

impl Bounds {
    /// Notes what holds for the queues of `sessions` alone.
    fn note<'a>(&self, books: &mut Books, sessions: impl IntoIterator<Item = &'a Session>) {
        for session in sessions {
            let own = self.queues.iter().find(|(client_id, _)| *client_id == session.client_id);
            own.into_iter().for_each(|(_, bound)| books.bound(session.queue, *bound));
        }
    }
}

/// Messages deleted at once, however few came: behind a batch somebody waits for its end.
const DELETIONS: u64 = 1000;

/// Messages deleted at once when nobody waits.
const IDLE_DELETIONS: u64 = 8192;

impl Tables {
    /// The tables behind a connection whose schema is in place, and what they hold.
    pub(super) fn new(connection: Connection, bounds: &Bounds) -> Result<(Self, Recovered)> {
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let clocks = Clocks::read(&connection, Boot::current())?;
        let (recovered, mut books) = recover(&connection, &clocks)?;
        books.aside = aside::Count::new(&connection)?;
        bounds.note(&mut books, recovered.sessions.iter().map(|(session, _)| session));
        Ok((Self { connection, books, clocks, bounds: bounds.clone() }, recovered))
    }

    /// Does all of `batch` in one transaction, and lets give way what is too old by `horizon`, or more than `limit` bytes
    /// in all.
    pub(super) fn apply(&mut self, batch: &Batch, horizon: Horizon, limit: u64) -> Result<Dropped> {
        let bounds = self.bounds.clone();
        let Bounds { bytes, per_client, when_full, .. } = bounds;
        let cause = if limit < bytes { Cause::Disk } else { Cause::StoreSize };
        let most = match batch.appends.len() as u64 {
            0 => IDLE_DELETIONS,
            // A store that is full loses as much as it gets.
            appends => DELETIONS + 2 * appends,
        };
        let mut clocks = self.clocks.clone();
        let dropped = self.change(most, |c, books, removal| {
            let mut dropped = Dropped::default();
            clocks.note(c, horizon.now)?;
            // First, as a session with the same client id may begin in the same batch.
            for queue in &batch.ended {
                end(c, books, removal, *queue)?;
            }
            put_sessions(c, books, &mut clocks, removal, &batch.sessions)?;
            bounds.note(books, &batch.sessions);
            for (queue, id) in &batch.acked {
                removal.take_up_to(books, *queue, *id)?;
                books.seen(int(*id));
            }
            let mut single = BTreeMap::<_, Vec<_>>::new();
            for (queue, id) in &batch.acked_single {
                single.entry(*queue).or_default().push(*id);
                books.seen(int(*id));
            }
            for (queue, ids) in single {
                removal.take_each(books, queue, &ids)?;
            }
            if limit < bytes {
                // What goes, goes first: what comes takes its pages, and the file need not grow.
                let coming = batch.appends.iter().map(|a| size(&a.message, None)).sum();
                removal.drop_oldest(books, limit.saturating_sub(coming), (when_full, cause), &mut dropped)?;
                removal.finish(books, most)?;
            }
            append(c, books, &mut clocks, &batch.appends, &mut dropped)?;
            retain(c, &mut clocks, &batch.retained)?;
            shake_hands(c, books, &batch.handshakes)?;
            put_wills(c, &mut clocks, &batch.wills)?;
            aside::remove(c, &mut books.aside, &batch.aside_done)?;
            aside::put(c, &mut books.aside, &batch.aside)?;
            for (queue, entries) in books.above(per_client, &batch.appends) {
                let excess = Held { entries, ..Held::default() };
                removal.shorten(books, queue, excess, Cause::PerClient, &mut dropped)?;
            }
            if let Some(last) = horizon.expired(c, &clocks)? {
                removal.expire(books, EntryId(last.unsigned_abs()), &mut dropped)?;
            }
            for (queue, bytes) in books.beyond() {
                if bytes > 0 && books.when_full(queue, when_full) == WhenFull::DropOldest {
                    let excess = Held { bytes, ..Held::default() };
                    removal.shorten(books, queue, excess, Cause::QueueSize, &mut dropped)?;
                }
            }
            removal.drop_oldest(books, limit, (when_full, cause), &mut dropped)?;
            Ok(dropped)
        })?;
        self.clocks = clocks;
        Ok(dropped)
    }

    /// Takes the entries of `queue` up to and with `until` out. Returns what it lost.
    pub(super) fn purge(&mut self, queue: QueueId, until: EntryId) -> Result<Lost> {
        let before = self.books.total(queue).entries;
        self.change(IDLE_DELETIONS, |_, books, removal| removal.take_up_to(books, queue, until))?;
        let entries = before.saturating_sub(self.books.total(queue).entries);
        Ok(Lost { cause: Cause::Purged, entries, until, class: 0 })
    }

    /// Deletes some of the messages that no queue holds any more.
    pub(super) fn clean(&mut self) -> Result<()> {
        self.change(IDLE_DELETIONS, |_, _, _| Ok(()))
    }

    /// Makes what was salvaged agree with what is known: the sessions are `sessions`, and ids go on from `before`.
    pub(super) fn reconcile(&mut self, sessions: &BTreeMap<QueueId, Session>, before: &Books) -> Result<()> {
        let sessions: Vec<_> = sessions.values().cloned().collect();
        let bounds = self.bounds.clone();
        let mut clocks = self.clocks.clone();
        self.change(DELETIONS, |c, books, removal| {
            let strays = books.queues().filter(|queue| !sessions.iter().any(|s| s.queue == *queue));
            for queue in strays.collect::<Vec<_>>() {
                end(c, books, removal, queue)?;
            }
            put_sessions(c, books, &mut clocks, removal, &sessions)?;
            bounds.note(books, &sessions);
            books.next_id = books.next_id.max(before.next_id);
            // Not as noted: that counts acknowledgements, and older entries may be still to come.
            books.next_append = largest(c)?.map_or(0, |id| id.saturating_add(1)).max(before.next_append);
            books.next_queue = books.next_queue.max(before.next_queue);
            Ok(())
        })?;
        self.clocks = clocks;
        Ok(())
    }

    /// Does all of `change` in one transaction, or nothing; of the messages that nobody wants any more, so many go now.
    fn change<T>(
        &mut self,
        deletions: u64,
        change: impl FnOnce(&Connection, &mut Books, &mut Removal<'_>) -> Result<T>,
    ) -> Result<T> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut books = self.books.clone();
        let mut removal = Removal::new(&transaction);
        let done = change(&transaction, &mut books, &mut removal)?;
        removal.finish(&mut books, deletions)?;
        note(&transaction, &mut books)?;
        transaction.commit()?;
        self.books = books;
        Ok(done)
    }

    /// Whether something is too old, or the clock is one to remember: the next [`Self::apply`] sees to it.
    pub(super) fn stale(&self, horizon: Horizon) -> Result<bool> {
        Ok(self.clocks.is_news(horizon.now) || horizon.expired(&self.connection, &self.clocks)?.is_some())
    }

    /// The queues that take no new entries, when `limit` bytes are all that may be held.
    pub(super) fn full(&self, limit: u64) -> Vec<QueueId> {
        let mut full: Vec<_> = match self.books.bytes >= limit {
            true => self.books.queues().collect(),
            false => self.books.beyond().into_iter().map(|(queue, _)| queue).collect(),
        };
        full.retain(|queue| self.books.when_full(*queue, self.bounds.when_full) == WhenFull::RefuseNew);
        full
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

    /// Makes the file as small as what is in it, if it is almost empty and was large: what is in it is written anew, which
    /// then takes no time. Returns the bytes that went.
    ///
    /// Pages that can be moved (`auto_vacuum`) would let any file shrink, and cost a page more in every commit.
    pub(super) fn shrink(&self) -> Result<u64> {
        let number = |pragma: &str| self.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let (pages, size) = (number("PRAGMA page_count")?.unsigned_abs(), number("PRAGMA page_size")?.unsigned_abs());
        let spare = self.spare()?;
        if spare < MUCH || (pages * size).saturating_sub(spare) > LITTLE {
            return Ok(0);
        }
        self.connection.execute_batch("VACUUM")?;
        self.checkpoint()?;
        Ok((pages * size).saturating_sub(number("PRAGMA page_count")?.unsigned_abs() * size))
    }

    /// When the oldest message entered the broker.
    pub(super) fn oldest(&self) -> Result<Option<Moment>> {
        self.books.first().map(|first| entered(&self.connection, &self.clocks, first)).transpose().map(Option::flatten)
    }

    /// The entries of a page, in order. True when they are the last.
    pub(super) fn load(&self, page: Page) -> Result<(Vec<Entry>, bool)> {
        page.read(&self.connection, &self.books, &self.clocks)
    }
}

fn put_sessions(
    c: &Connection,
    books: &mut Books,
    clocks: &mut Clocks,
    removal: &mut Removal<'_>,
    sessions: &[Session],
) -> Result<()> {
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
            "INSERT INTO session (queue, client_id, expiry, left_at, subscriptions, user, sent, left_clock) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
             ON CONFLICT (queue) DO UPDATE SET client_id = excluded.client_id, expiry = excluded.expiry, \
             left_at = excluded.left_at, subscriptions = excluded.subscriptions, user = excluded.user, \
             sent = excluded.sent, left_clock = excluded.left_clock",
            (
                session.queue.0,
                &session.client_id,
                session.expiry,
                session.left.map(|at| at.wall.0),
                json(&session.subscriptions),
                &session.user,
                int(EntryId(session.sent)),
                clock_of(c, clocks, session.left)?,
            ),
        )?;
        books.opened(session.queue, session.is_own());
    }
    Ok(())
}

/// By which clock a moment is that is to be kept, if there is one.
fn clock_of(c: &Connection, clocks: &mut Clocks, moment: Option<Moment>) -> Result<Option<i64>> {
    Ok(moment.map(|moment| clocks.of(c, moment)).transpose()?.flatten())
}

fn append(
    c: &Connection,
    books: &mut Books,
    clocks: &mut Clocks,
    appends: &[Append],
    dropped: &mut Dropped,
) -> Result<()> {
    let mut message = c.prepare_cached(
        "INSERT INTO message (id, topic, payload, qos, retain, at, properties, clock, timed) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let mut runs = BTreeMap::<_, Vec<_>>::new();
    for Append { id, message: m, queues } in appends {
        // A queue without a session has no reader, and an id is used once. The broker appends nothing else; if it did, that
        // is not to be a secret.
        let used = !books.appended(int(*id));
        let mut wanted = 0;
        for (queue, delivery) in queues {
            if used || !books.has(*queue) {
                let lost = Lost { cause: Cause::Ended, entries: 1, until: *id, class: delivery.class };
                dropped.note(*queue, lost);
            } else {
                wanted += 1;
            }
        }
        if wanted == 0 {
            continue;
        }
        let properties = m.properties.as_ref().map(json);
        let size = size(m, properties.as_deref());
        let clock = clocks.of(c, m.at)?;
        let (qos, at) = (u8::from(m.qos), m.at.wall.0);
        message.execute((int(*id), &m.topic, &m.payload[..], qos, m.retain, at, properties, clock, m.timed))?;
        books.bytes = books.bytes.saturating_add(size);
        for (queue, delivery) in queues.iter().filter(|(queue, _)| books.has(*queue)) {
            let item = Item {
                id: *id,
                seq: delivery.seq,
                qos: delivery.qos,
                retain: delivery.retain,
                subscription_ids: delivery.subscription_ids.clone(),
                size,
                alone: wanted == 1,
            };
            runs.entry((*queue, delivery.class)).or_default().push(item);
        }
    }
    for ((queue, class), items) in runs {
        books.entered(queue, class, Held::of(&items));
        runs::append(c, queue, class, items)?;
    }
    Ok(())
}

fn end(c: &Connection, books: &mut Books, removal: &mut Removal<'_>, queue: QueueId) -> Result<()> {
    removal.take_up_to(books, queue, EntryId(u64::MAX))?;
    c.execute("DELETE FROM session WHERE queue = ?1", [queue.0])?;
    c.execute("DELETE FROM handshake WHERE queue = ?1", [queue.0])?;
    books.closed(queue);
    Ok(())
}

fn retain(c: &Connection, clocks: &mut Clocks, messages: &[Arc<Message>]) -> Result<()> {
    let mut set = c.prepare_cached(
        "INSERT OR REPLACE INTO retained (topic, payload, qos, at, properties, clock, timed) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let mut clear = c.prepare_cached("DELETE FROM retained WHERE topic = ?1")?;
    for m in messages {
        if m.payload.is_empty() {
            clear.execute([&m.topic])?;
        } else {
            let properties = m.properties.as_ref().map(json);
            let clock = clocks.of(c, m.at)?;
            set.execute((&m.topic, &m.payload[..], u8::from(m.qos), m.at.wall.0, properties, clock, m.timed))?;
        }
    }
    Ok(())
}

fn shake_hands(c: &Connection, books: &Books, handshakes: &[(QueueId, Handshake, bool)]) -> Result<()> {
    if handshakes.is_empty() {
        return Ok(());
    }
    let mut begin = c.prepare_cached("INSERT OR IGNORE INTO handshake VALUES (?1, ?2, ?3)")?;
    let mut end = c.prepare_cached("DELETE FROM handshake WHERE queue = ?1 AND incoming = ?2 AND number = ?3")?;
    for (queue, handshake, begun) in handshakes.iter().filter(|(queue, ..)| books.has(*queue)) {
        let (incoming, number) = handshake_columns(*handshake);
        (if *begun { &mut begin } else { &mut end }).execute((queue.0, incoming, number))?;
    }
    Ok(())
}

fn put_wills(c: &Connection, clocks: &mut Clocks, wills: &[(Arc<str>, Option<Will>)]) -> Result<()> {
    for (client_id, will) in wills {
        let Some(Will { message: m, delay, due }) = will else {
            c.execute("DELETE FROM will WHERE client_id = ?1", [client_id])?;
            continue;
        };
        let properties = m.properties.as_ref().map(json);
        c.execute(
            "INSERT OR REPLACE INTO will \
             (client_id, topic, payload, qos, retain, at, properties, delay, due_at, due_clock) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
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
                clock_of(c, clocks, *due)?,
            ),
        )?;
    }
    Ok(())
}

/// Notes the last ids, as far as no row tells them: a row of its own in each transaction would be a page of its own.
fn note(c: &Connection, books: &mut Books) -> Result<()> {
    let (next_id, next_queue) = books.noted;
    let mut set = c.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?;
    if books.next_id > next_id && largest(c)?.is_none_or(|largest| largest.saturating_add(1) < books.next_id) {
        set.execute(("next-id", books.next_id))?;
        books.noted.0 = books.next_id;
    }
    if books.next_queue != next_queue {
        set.execute(("next-queue", books.next_queue))?;
        books.noted.1 = books.next_queue;
    }
    Ok(())
}
