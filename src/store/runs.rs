//! Rows of the table `run`: entries of one queue and class that follow each other.
//!
//! What a batch brings is added to the last run while that is short: it is written anew with the same page. So runs are
//! few, whatever the window is, and a store with a million entries is opened by reading some thousand rows.

use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Result, Row};

use super::books::Held;
use super::list::{Item, decode, encode};
use super::rows::{entry_id, int, queue_id};
use super::{EntryId, QueueId};

/// The most entries of one run.
pub(super) const MOST: usize = 1024;

/// A run is made longer as long as it has no more entries than that, which are read and written anew for it, and its list
/// fits into its page.
const SHORT: usize = 128;
const SHORT_LIST: i64 = 512;

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    pub(super) queue: QueueId,
    pub(super) class: u8,
    /// No entry of it has a larger id. Its key.
    pub(super) last: EntryId,
    /// At least one, in order.
    pub(super) items: Vec<Item>,
}

impl Run {
    /// A run of the columns queue, class, last, entries, bytes, list.
    ///
    /// # Errors
    /// When it is not as this program writes it.
    pub(super) fn read(row: &Row<'_>) -> Result<Self> {
        Self::read_as(row, [0, 1, 2])
    }

    /// The same, with queue, class and last in these columns.
    pub(super) fn read_as(row: &Row<'_>, [queue, class, last]: [usize; 3]) -> Result<Self> {
        let (entries, bytes): (i64, i64) = (row.get(3)?, row.get(4)?);
        let list = row.get_ref(5)?;
        let items = list.as_blob().ok().and_then(decode);
        let wrong = || Error::InvalidColumnType(5, "list".into(), Type::Blob);
        let items = items.ok_or_else(wrong)?;
        let (held, last) = (Held::of(&items), entry_id(row.get(last)?)?);
        let counted = (i64::try_from(held.entries), i64::try_from(held.bytes)) == (Ok(entries), Ok(bytes));
        if !counted || held.last > last {
            return Err(wrong());
        }
        Ok(Self { queue: queue_id(row.get(queue)?)?, class: row.get(class)?, last, items })
    }

    /// The first run of a queue and class that ends at `from` or behind it.
    pub(super) fn at(c: &Connection, queue: QueueId, class: u8, from: EntryId) -> Result<Option<Self>> {
        let mut select = c.prepare_cached(
            "SELECT queue, class, last, entries, bytes, list FROM run \
             WHERE queue = ?1 AND class = ?2 AND last >= ?3 ORDER BY last LIMIT 1",
        )?;
        select.query_row((queue.0, class, int(from)), Self::read).optional()
    }

    /// The last run of a queue and class that ends before `id`.
    pub(super) fn before(c: &Connection, queue: QueueId, class: u8, id: EntryId) -> Result<Option<Self>> {
        let mut select = c.prepare_cached(
            "SELECT queue, class, last, entries, bytes, list FROM run \
             WHERE queue = ?1 AND class = ?2 AND last < ?3 ORDER BY last DESC LIMIT 1",
        )?;
        select.query_row((queue.0, class, int(id)), Self::read).optional()
    }

    /// The last run of a queue and class.
    pub(super) fn last(c: &Connection, queue: QueueId, class: u8) -> Result<Option<Self>> {
        Self::before(c, queue, class, EntryId(u64::MAX))
    }

    /// Writes it, in place of the one with the same key if there is one.
    pub(super) fn write(&self, c: &Connection) -> Result<()> {
        put(c, self.queue, self.class, self.last, &self.items)
    }

    /// Deletes it.
    pub(super) fn delete(&self, c: &Connection) -> Result<()> {
        let mut delete = c.prepare_cached("DELETE FROM run WHERE queue = ?1 AND class = ?2 AND last = ?3")?;
        delete.execute((self.queue.0, self.class, int(self.last))).map(drop)
    }
}

/// Adds entries behind all others of a queue and class.
pub(super) fn append(c: &Connection, queue: QueueId, class: u8, mut items: Vec<Item>) -> Result<()> {
    if items.len() < SHORT {
        let mut short = c.prepare_cached(
            "SELECT last FROM (SELECT last, entries, length(list) AS length FROM run \
             WHERE queue = ?1 AND class = ?2 ORDER BY last DESC LIMIT 1) WHERE entries <= ?3 AND length <= ?4",
        )?;
        let room = i64::try_from(SHORT - items.len()).unwrap_or(0);
        let short: Option<i64> = short.query_row((queue.0, class, room, SHORT_LIST), |row| row.get(0)).optional()?;
        if short.is_some()
            && let Some(mut run) = Run::last(c, queue, class)?
        {
            run.delete(c)?;
            run.items.append(&mut items);
            items = run.items;
        }
    }
    for items in items.chunks(MOST) {
        put(c, queue, class, items[items.len() - 1].id, items)?;
    }
    Ok(())
}

fn put(c: &Connection, queue: QueueId, class: u8, last: EntryId, items: &[Item]) -> Result<()> {
    let held = Held::of(items);
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    c.prepare_cached(
        "INSERT OR REPLACE INTO run (queue, class, last, first, entries, bytes, list) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((
        queue.0,
        class,
        int(last),
        int(held.first),
        number(held.entries),
        number(held.bytes),
        encode(items),
    ))?;
    Ok(())
}
