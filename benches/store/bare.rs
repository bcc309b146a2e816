//! The floor: one table, one INSERT a message, one transaction a batch.

use std::path::Path;

use fieldpost::message::Message;
use rusqlite::{Connection, Result};

/// A table with id, topic and payload.
pub struct Bare(Connection);

impl Bare {
    /// Opens the database at `path`, with the pragmas of the store.
    pub fn new(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 4194304; \
             CREATE TABLE IF NOT EXISTS message (id INTEGER PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL)",
        )?;
        Ok(Self(connection))
    }

    /// Inserts a batch.
    pub fn insert<'m>(&mut self, batch: impl Iterator<Item = (u64, &'m Message)>) -> Result<()> {
        let transaction = self.0.transaction()?;
        let mut insert = transaction.prepare("INSERT INTO message VALUES (?1, ?2, ?3)")?;
        for (id, message) in batch {
            insert.execute((id as i64, &message.topic, &message.payload[..]))?;
        }
        drop(insert);
        transaction.commit()
    }

    /// Reads everything back; how many there are.
    pub fn select(&self) -> Result<u64> {
        let mut select = self.0.prepare("SELECT id, topic, payload FROM message ORDER BY id")?;
        let rows = select
            .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?)))?;
        let mut read = 0;
        for row in rows {
            std::hint::black_box(row?);
            read += 1;
        }
        Ok(read)
    }
}
