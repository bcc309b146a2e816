//! A look into the database file from outside: beside the gateway that has it, or without one. Changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::aside::{self, Aside};
use super::file::{connect_to_read, unreadable};
use super::page::Page;
use super::tables::{Bounds, Tables};
use super::{Entry, EntryId, NO_CLASS, OpenError, QueueId, Recovered, WhenFull};
use crate::clock::Timestamp;

/// Entries and bytes read at once.
const PAGE: usize = 512;
const PAGE_BYTES: usize = 1 << 20;

/// An open look. It sees what is in the file: what a running gateway still has in RAM, it does not.
#[derive(Debug)]
pub struct Inspect {
    tables: Tables,
    path: PathBuf,
    /// What had entered when the look began ends before this.
    end: EntryId,
}

/// How much there is of something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub entries: u64,
    /// The bytes of their topics and payloads.
    pub bytes: u64,
    /// When the first and the last of them entered the broker, by that one's clock.
    pub oldest: Option<Timestamp>,
    pub newest: Option<Timestamp>,
    /// The last of them.
    pub until: EntryId,
    /// How many are of each class, if any is of one.
    pub classes: BTreeMap<u8, u64>,
}

impl Inspect {
    /// Opens the store at `path`, and says what it holds beside its entries.
    ///
    /// # Errors
    /// When there is none, it is not ours to read, or it cannot be read as it is.
    pub fn open(path: &Path) -> Result<(Self, Recovered), OpenError> {
        let connection = connect_to_read(path)?;
        // Nothing is written: no bound is ever looked at.
        let all = Bounds {
            bytes: u64::MAX,
            age: std::time::Duration::MAX,
            per_client: u64::MAX,
            when_full: WhenFull::RefuseNew,
            queues: [].into(),
        };
        let (tables, recovered) = Tables::new(connection, &all).map_err(|e| unreadable(path, &e))?;
        Ok((Self { tables, path: path.into(), end: recovered.next_id }, recovered))
    }

    /// The schema's number.
    pub fn schema(&self) -> Result<i64, OpenError> {
        let version = self.tables.connection.query_row("PRAGMA user_version", [], |row| row.get(0));
        version.map_err(|e| self.unreadable(&e))
    }

    /// The sizes of the database and of its log of changes (WAL), in bytes.
    pub fn sizes(&self) -> (u64, u64) {
        let size = |path: &Path| path.metadata().map_or(0, |file| file.len());
        (size(&self.path), size(&super::renewal::beside(&self.path, "-wal")))
    }

    /// Shows the entries of `queue` in order, as long as `each` wants more of them. Only a page is held in memory, and no
    /// view of the database kept open between two: the gateway is not held up. What is acknowledged meanwhile is not
    /// shown, nor what has entered since [`Inspect::open`].
    pub fn entries<E: From<OpenError>>(
        &self,
        queue: QueueId,
        mut each: impl FnMut(Entry) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut after = EntryId(0);
        loop {
            let page = self.tables.load(Page { queue, after, limit: PAGE, max_bytes: PAGE_BYTES });
            let (entries, complete) = page.map_err(|e| E::from(self.unreadable(&e)))?;
            for entry in entries {
                after = entry.id;
                if entry.id >= self.end || !each(entry)? {
                    return Ok(());
                }
            }
            if complete {
                return Ok(());
            }
        }
    }

    /// How much `queue` holds; of what entered before a time only, if one is given: its first entries, up to the first
    /// that is not older.
    pub fn usage(&self, queue: QueueId, before: Option<Timestamp>) -> Result<Usage, OpenError> {
        let mut usage = Usage::default();
        self.entries(queue, |entry| {
            let message = &entry.message;
            if before.is_some_and(|before| message.at.wall >= before) {
                return Ok::<_, OpenError>(false);
            }
            usage.entries += 1;
            usage.bytes += (message.topic.len() + message.payload.len()) as u64;
            usage.oldest.get_or_insert(message.at.wall);
            usage.newest = Some(message.at.wall);
            usage.until = entry.id;
            if entry.delivery.class != NO_CLASS {
                *usage.classes.entry(entry.delivery.class).or_default() += 1;
            }
            Ok(true)
        })?;
        Ok(usage)
    }

    /// What was set aside, in order, each with its number in the store: a thousand at most.
    pub fn aside(&self) -> Result<Vec<(u64, Aside)>, OpenError> {
        aside::all(&self.tables.connection).map_err(|e| self.unreadable(&e))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn connection(&self) -> &rusqlite::Connection {
        &self.tables.connection
    }

    pub(super) fn unreadable(&self, error: &rusqlite::Error) -> OpenError {
        unreadable(&self.path, error)
    }
}
