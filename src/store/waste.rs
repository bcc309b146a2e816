//! Messages that no queue holds any more and that are still to be deleted.
//!
//! A run is gone at once, however many entries it has; its messages go a few thousand at a time, in transactions for
//! which nobody waits.

use rusqlite::{Connection, OptionalExtension, Result};

use super::rows::entry_id;

/// Deletes the messages from `first` to `last`.
pub(super) fn delete(c: &Connection, first: u64, last: u64) -> Result<()> {
    c.prepare_cached("DELETE FROM message WHERE id BETWEEN ?1 AND ?2")?.execute((int(first), int(last))).map(drop)
}

/// Notes that the messages from `first` to `last` are to be deleted.
pub(super) fn add(c: &Connection, first: u64, last: u64) -> Result<()> {
    let mut insert = c.prepare_cached("INSERT OR REPLACE INTO waste (first, last) VALUES (?1, ?2)")?;
    insert.execute((int(first), int(last))).map(drop)
}

/// Deletes as many as `most` of the messages that are to be. Returns whether there are more.
pub(super) fn clean(c: &Connection, most: u64) -> Result<bool> {
    let mut most = int(most);
    while let Some((first, last)) = next(c)? {
        if most == 0 {
            return Ok(true);
        }
        let now = last.saturating_sub(first).saturating_add(1).clamp(1, most);
        most -= now;
        c.prepare_cached("DELETE FROM message WHERE id BETWEEN ?1 AND ?2")?.execute((first, first + now - 1))?;
        c.prepare_cached("DELETE FROM waste WHERE first = ?1")?.execute([first])?;
        if first + now <= last {
            c.prepare_cached("INSERT INTO waste (first, last) VALUES (?1, ?2)")?.execute((first + now, last))?;
        }
    }
    Ok(false)
}

/// Whether there is any.
pub(super) fn is_there(c: &Connection) -> Result<bool> {
    Ok(next(c)?.is_some())
}

fn next(c: &Connection) -> Result<Option<(i64, i64)>> {
    let mut select = c.prepare_cached("SELECT first, last FROM waste ORDER BY first LIMIT 1")?;
    let id = |n: i64| entry_id(n).map(super::rows::int);
    select.query_row([], |row| Ok((id(row.get(0)?)?, id(row.get(1)?)?))).optional()
}

fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
