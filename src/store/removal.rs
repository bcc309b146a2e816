//! Taking entries out, and the messages that nobody wants any more with them.

use rusqlite::{Connection, OptionalExtension, Result, Statement};

use super::loss::Dropped;
use super::tables::Books;
use super::{EntryId, Lost, QueueId};
use crate::message::Message;
use crate::status::Cause;

/// Rows looked at in one step, which bounds memory.
const CHUNK: i64 = 1000;

/// What [`size`] is of the row of a message.
const SIZE: &str = "(octet_length(topic) + octet_length(payload) + coalesce(octet_length(properties), 0) + 48)";

/// What a message counts: its bytes, and about what its rows need beside them.
pub(super) fn size(message: &Message, properties: Option<&str>) -> u64 {
    (message.topic.len() + message.payload.len() + properties.map_or(0, str::len) + 48) as u64
}

/// The bytes of all messages there are; reads them all.
pub(super) fn total(connection: &Connection) -> Result<i64> {
    connection.query_row(&format!("SELECT coalesce(sum({SIZE}), 0) FROM message"), [], |row| row.get(0))
}

/// What takes rows out within a transaction. Most transactions take nothing out, so statements are made when needed.
pub(super) struct Removal<'t> {
    connection: &'t Connection,
    statements: Option<Statements<'t>>,
}

struct Statements<'t> {
    next_ids: Statement<'t>,
    entries: Statement<'t>,
    orphans: Statement<'t>,
    oldest: Statement<'t>,
    messages: Statement<'t>,
}

impl<'t> Statements<'t> {
    fn new(connection: &'t Connection) -> Result<Self> {
        let orphans = format!(
            "DELETE FROM message WHERE id BETWEEN ?1 AND ?2 AND NOT EXISTS \
             (SELECT 1 FROM session CROSS JOIN entry ON entry.queue = session.queue AND entry.id = message.id) \
             RETURNING {SIZE}"
        );
        Ok(Self {
            next_ids: connection
                .prepare("SELECT id FROM entry WHERE queue = ?1 AND id BETWEEN ?2 AND ?3 ORDER BY id LIMIT ?4")?,
            entries: connection.prepare("DELETE FROM entry WHERE queue = ?1 AND id BETWEEN ?2 AND ?3")?,
            orphans: connection.prepare(&orphans)?,
            oldest: connection
                .prepare(&format!("SELECT id, {SIZE} FROM message WHERE id <= ?1 ORDER BY id LIMIT ?2"))?,
            messages: connection.prepare("DELETE FROM message WHERE id <= ?1")?,
        })
    }
}

impl<'t> Removal<'t> {
    pub(super) fn new(connection: &'t Connection) -> Self {
        Self { connection, statements: None }
    }

    fn statements(&mut self) -> Result<&mut Statements<'t>> {
        if self.statements.is_none() {
            self.statements = Some(Statements::new(self.connection)?);
        }
        Ok(self.statements.as_mut().expect("they were just made"))
    }

    /// Takes the entries `from` to `to`, both included, out of `queue`; messages that no queue holds any more go too.
    pub(super) fn take(&mut self, books: &mut Books, queue: QueueId, from: i64, to: i64) -> Result<()> {
        let mut from = from;
        let statements = self.statements()?;
        loop {
            let ids = statements.next_ids.query_map((queue.0, from, to, CHUNK), |row| row.get(0))?;
            let ids: Vec<i64> = ids.collect::<Result<_>>()?;
            let (Some(&first), Some(&last)) = (ids.first(), ids.last()) else { return Ok(()) };
            let gone = statements.entries.execute((queue.0, first, last))?;
            books.left(queue, gone as u64);
            for (first, last) in runs(&ids) {
                let sizes = statements.orphans.query_map((first, last), |row| row.get::<_, i64>(0))?;
                for size in sizes {
                    books.freed(size?);
                }
            }
            if ids.len() < CHUNK as usize || last == to {
                return Ok(());
            }
            from = last.saturating_add(1);
        }
    }

    /// Drops the oldest `excess` entries of one queue. Adds to `dropped` what it lost.
    pub(super) fn shorten(
        &mut self,
        books: &mut Books,
        queue: QueueId,
        excess: u64,
        dropped: &mut Dropped,
    ) -> Result<()> {
        let nth = "SELECT id FROM entry WHERE queue = ?1 ORDER BY id LIMIT 1 OFFSET ?2";
        let offset = i64::try_from(excess.saturating_sub(1)).unwrap_or(i64::MAX);
        let last: Option<i64> = self.connection.query_row(nth, (queue.0, offset), |row| row.get(0)).optional()?;
        let Some(last) = last else { return Ok(()) };
        self.take(books, queue, 0, last)?;
        let until = EntryId(last.unsigned_abs());
        dropped.note(queue, Lost { cause: Cause::PerClient, entries: excess, until, class: 0 });
        Ok(())
    }

    /// Drops the messages up to the id `expired`, in all queues. Adds to `dropped` what each queue lost.
    pub(super) fn expire(&mut self, books: &mut Books, expired: Option<i64>, dropped: &mut Dropped) -> Result<()> {
        self.drop_front(books, u64::MAX, expired, Cause::Age, dropped)
    }

    /// Drops the oldest messages, in all queues, for as long as more than `keep` bytes are held. Adds to `dropped` what
    /// each queue lost.
    pub(super) fn drop_oldest(
        &mut self,
        books: &mut Books,
        keep: u64,
        cause: Cause,
        dropped: &mut Dropped,
    ) -> Result<()> {
        self.drop_front(books, keep, None, cause, dropped)
    }

    fn drop_front(
        &mut self,
        books: &mut Books,
        keep: u64,
        expired: Option<i64>,
        cause: Cause,
        dropped: &mut Dropped,
    ) -> Result<()> {
        if books.bytes <= keep && expired.is_none() {
            return Ok(());
        }
        let statements = self.statements()?;
        loop {
            let most = if books.bytes > keep { i64::MAX } else { expired.unwrap_or(-1) };
            let rows = statements.oldest.query_map((most, CHUNK), |row| Ok((row.get(0)?, row.get(1)?)))?;
            let mut last = None;
            for row in rows {
                let (id, size): (i64, i64) = row?;
                if books.bytes <= keep && expired.is_none_or(|expired| id > expired) {
                    break;
                }
                books.freed(size);
                last = Some(id);
            }
            let Some(last) = last else { return Ok(()) };
            for queue in books.queues() {
                let gone = statements.entries.execute((queue.0, 0, last))? as u64;
                if gone > 0 {
                    books.left(queue, gone);
                    let until = EntryId(last.unsigned_abs());
                    dropped.note(queue, Lost { cause, entries: gone, until, class: 0 });
                }
            }
            statements.messages.execute([last])?;
        }
    }
}

/// The runs of consecutive numbers in ascending `ids`, as first and last.
fn runs(ids: &[i64]) -> impl Iterator<Item = (i64, i64)> {
    ids.chunk_by(|a, b| a.checked_add(1) == Some(*b)).map(|run| (run[0], run[run.len() - 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_runs() {
        assert_eq!(runs(&[1, 2, 3, 7, 9, 10]).collect::<Vec<_>>(), [(1, 3), (7, 7), (9, 10)]);
        assert_eq!(runs(&[]).count(), 0);
    }
}
