//! What can still be read of a damaged store.
//!
//! A message and the runs that hold it are read independently, and either may be lost. An entry without its message is of no
//! use. A message that no run holds was either done with, or its run is among what cannot be read; when some runs cannot be
//! read, it is given to every session that is subscribed to its topic, whether that had it before or not: that it comes
//! twice is allowed at QoS 1, that it does not come is not.

mod found;

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Params, Result, Row, Statement, params_from_iter};

use super::rows::{LAST_ID, LAST_QUEUE};
use found::Found;

/// Rows asked for at once; behind a damaged place, how far to jump at first.
const STEP: i64 = 500;

/// A table and its columns, the first of which is its key in order.
struct Table {
    name: &'static str,
    columns: String,
}

/// How the columns of the old store are read that say by which clock a time is: earlier schemas have none, and the new
/// store may have clocks of its own.
struct ClockColumns {
    are_there: bool,
    own: i64,
}

impl ClockColumns {
    fn of(old: &Connection, new: &Connection) -> Result<Self> {
        let own = new.query_row("SELECT coalesce(max(id), 0) FROM clock", [], |row| row.get(0))?;
        Ok(Self { are_there: old.prepare("SELECT clock FROM message").is_ok(), own })
    }

    fn column(&self, name: &str) -> String {
        if !self.are_there {
            return format!("NULL AS {name}");
        }
        format!("iif({name} > 0, {name} + {}, {name}) AS {name}", self.own)
    }

    fn timed(&self) -> &'static str {
        if self.are_there { "timed" } else { "0 AS timed" }
    }

    fn table(&self) -> String {
        format!("SELECT id + {} AS id, boot, ahead, trusted FROM clock", self.own)
    }
}

/// Copies what can be read of the store at `from` into the one behind `to`, which is empty but for sessions.
///
/// # Errors
/// When the new store cannot be written. What cannot be read of the old one is skipped and reported in the log.
pub(super) fn carry_over(from: &Path, to: &mut Connection) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let old = match Connection::open_with_flags(from, flags) {
        Ok(old) => old,
        Err(e) => {
            tracing::error!("nothing can be read of the damaged store: {e}");
            return Ok(());
        }
    };
    let new = to.transaction()?;
    let mut damaged_places = 0;
    let clocks = ClockColumns::of(&old, &new)?;
    let [clock, left, due] = ["clock", "left_clock", "due_clock"].map(|column| clocks.column(column));
    let timed = clocks.timed();
    if clocks.are_there {
        damaged_places += copy_plain(&old, &new, &clocks.table())?;
    }
    // Ids go on from where the damaged one was, and not from those of a new one.
    new.execute("DELETE FROM meta", [])?;
    for sql in [
        "SELECT key, value FROM meta",
        &format!("SELECT queue, client_id, expiry, left_at, subscriptions, user, sent, {left} FROM session"),
        &format!("SELECT topic, payload, qos, at, properties, {clock}, {timed} FROM retained"),
        "SELECT queue, incoming, number FROM handshake",
        &format!("SELECT client_id, topic, payload, qos, retain, at, properties, delay, due_at, {due} FROM will"),
        "SELECT number, session, topic, payload, qos, retain, entered_at, properties, code, reason, at FROM aside",
    ] {
        damaged_places += copy_plain(&old, &new, sql)?;
    }
    let columns = format!("id, topic, payload, qos, retain, at, properties, {clock}, {timed}");
    let message = Table { name: "message", columns };
    damaged_places += copy_ranges(&old, &new, &message)?;
    let strange = remove_strange(&new)?;
    let Found { unreadable, given, .. } = found::carry_over(&old, &new)?;
    damaged_places += unreadable;
    let count = |sql: &str| new.query_row(sql, [], |row| row.get::<_, i64>(0));
    tracing::error!(
        "of the damaged store {} messages, {} sessions and {} retained messages were read; {damaged_places} places were \
         unreadable, and {strange} rows were left out that no fieldpost wrote",
        count("SELECT count(*) FROM message")?,
        count("SELECT count(*) FROM session")?,
        count("SELECT count(*) FROM retained")?,
    );
    if given > 0 {
        tracing::warn!(
            "for whom {given} of these messages were is not known: whoever is subscribed to them gets them, maybe again"
        );
    }
    new.commit()
}

/// Removes rows with a value that this program cannot have written, and could not read back. Returns how many.
fn remove_strange(new: &Connection) -> Result<usize> {
    let id = format!("BETWEEN 0 AND {LAST_ID}");
    let queue = format!("BETWEEN 0 AND {LAST_QUEUE}");
    let small = "BETWEEN 0 AND 255";
    let u32 = format!("BETWEEN 0 AND {}", u32::MAX);
    let any = format!("BETWEEN {} AND {}", i64::MIN, i64::MAX);
    let is = |column: &str, class: &str| format!("coalesce(typeof({column}) = '{class}', 0)");
    let number = |column: &str, range: &str| format!("({} AND {column} {range})", is(column, "integer"));
    let or_null = |column: &str, class: &str| format!("typeof({column}) IN ('null', '{class}')");
    let message = [is("topic", "text"), is("payload", "blob"), number("qos", small), number("at", &any)];
    let clock = [or_null("clock", "integer"), number("timed", "BETWEEN 0 AND 1")];
    let mut removed = 0;
    for (table, sound) in [
        // The two ids are counted anew from what is there.
        (
            "meta",
            vec![format!(
                "CASE key WHEN 'next-queue' THEN {} ELSE {} END",
                number("value", &queue),
                number("value", &id)
            )],
        ),
        (
            "session",
            vec![
                number("queue", &queue),
                is("client_id", "text"),
                number("expiry", &u32),
                or_null("left_at", "integer"),
                or_null("left_clock", "integer"),
                is("subscriptions", "text"),
                or_null("user", "text"),
                number("sent", &id),
            ],
        ),
        (
            "message",
            [&message[..], &clock, &[number("id", &id), number("retain", &any), or_null("properties", "text")]]
                .concat(),
        ),
        ("retained", [&message[..], &clock, &[or_null("properties", "text")]].concat()),
        (
            "clock",
            vec![number("id", &id), is("boot", "text"), number("ahead", &any), number("trusted", "BETWEEN 0 AND 1")],
        ),
        (
            "handshake",
            vec![
                number("queue", &queue),
                number("incoming", &any),
                number("number", &id),
                "(incoming = 0 OR number BETWEEN 1 AND 65535)".into(),
            ],
        ),
        (
            "will",
            [
                &message[..],
                &[
                    is("client_id", "text"),
                    number("retain", &any),
                    or_null("properties", "text"),
                    number("delay", &u32),
                    or_null("due_at", "integer"),
                    or_null("due_clock", "integer"),
                ],
            ]
            .concat(),
        ),
    ] {
        removed += new.execute(&format!("DELETE FROM {table} WHERE NOT ({})", sound.join(" AND ")), [])?;
    }
    // Earlier schemas kept a sum there.
    new.execute("DELETE FROM meta WHERE key NOT IN ('next-id', 'next-queue')", [])?;
    removed += new.execute("DELETE FROM handshake WHERE queue NOT IN (SELECT queue FROM session)", [])?;
    Ok(removed)
}

/// Copies the rows of `sql` up to the first that cannot be read. Returns how often reading failed.
fn copy_plain(old: &Connection, new: &Connection, sql: &str) -> Result<u32> {
    let Ok(mut select) = old.prepare(sql) else { return Ok(1) };
    let columns = select.column_names().collect::<Vec<_>>().join(", ");
    let table = sql.rsplit(' ').next().expect("a statement has a last word");
    let mut insert = prepare_insert(new, table, &columns)?;
    let width = select.column_count();
    let Ok(mut rows) = select.query([]) else { return Ok(1) };
    loop {
        match rows.next() {
            Ok(Some(row)) => {
                let Ok(values) = (0..width).map(|i| row.get(i)).collect::<Result<Vec<rusqlite::types::Value>>>() else {
                    continue;
                };
                insert_or_skip(&mut insert, values)?;
            }
            Ok(None) => return Ok(0),
            Err(_) => return Ok(1),
        }
    }
}

/// Copies rows in order of their key, as far as they can be read. Returns how often reading failed.
fn copy_ranges(old: &Connection, new: &Connection, table: &Table) -> Result<u32> {
    let Table { name, columns } = table;
    let sql = format!("SELECT {columns} FROM {name} WHERE id > ?1 ORDER BY id LIMIT {STEP}");
    let Ok(select) = old.prepare(&sql) else { return Ok(1) };
    let mut insert = prepare_insert(new, name, &select.column_names().collect::<Vec<_>>().join(", "))?;
    let width = select.column_count();
    read_ranges(
        select,
        |after| [after],
        |row| {
            let values = (0..width).map(|i| row.get(i)).collect::<Result<Vec<_>>>();
            values.map_or(Ok(()), |values| insert_or_skip(&mut insert, values))
        },
    )
}

/// Reads rows in order of their key, the first column, and jumps over what cannot be read: a little at first, then further
/// and further. `from` makes the parameters of the key behind which to go on. Returns how often reading failed.
fn read_ranges<P: Params>(
    mut select: Statement<'_>,
    from: impl Fn(i64) -> P,
    mut take: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<u32> {
    let (mut after, mut jump, mut failures) = (0_i64, STEP, 0);
    loop {
        let mut read = 0;
        let failed = {
            let mut rows = match select.query(from(after)) {
                Ok(rows) => rows,
                Err(_) => return Ok(failures + 1),
            };
            loop {
                match rows.next() {
                    Ok(Some(row)) => {
                        let Ok(id) = row.get::<_, i64>(0) else { break true };
                        (after, read) = (id, read + 1);
                        take(row)?;
                    }
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            }
        };
        if failed {
            failures += 1;
            jump = if read > 0 { STEP } else { jump.saturating_mul(2) };
            let Some(next) = after.checked_add(jump) else { return Ok(failures) };
            after = next;
        } else if read < STEP {
            return Ok(failures);
        }
    }
}

fn prepare_insert<'c>(new: &'c Connection, table: &str, columns: &str) -> Result<rusqlite::Statement<'c>> {
    let marks = vec!["?"; columns.split(',').count()].join(", ");
    new.prepare(&format!("INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})"))
}

/// A row that breaks a rule of the table is as unreadable as one that cannot be read.
fn insert_or_skip(insert: &mut rusqlite::Statement<'_>, values: Vec<rusqlite::types::Value>) -> Result<()> {
    match insert.execute(params_from_iter(values)) {
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => Ok(()),
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::TypeMismatch) => Ok(()),
        done => done.map(drop),
    }
}
