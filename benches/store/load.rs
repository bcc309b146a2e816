//! Batches as the gateway makes them, and a store that takes them or is full of them.

use std::error::Error;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fieldpost::message::{Message, QoS};
use fieldpost::store::{Append, Batch, Config, Delivery, EntryId, Event, NO_CLASS, QueueId, Session, Store};

use super::bare::Bare;

/// Queues that want each message, when there is more than one.
pub const QUEUES: u32 = 3;
/// The session that is drained.
pub const CLIENT: &str = "$uplink/cloud";

/// The bytes of a payload.
const SIZE: usize = 100;
/// How many are read back at once.
const PAGE: usize = 2048;

/// Messages with these ids, for so many queues each, in batches of `size`.
pub fn batches(ids: RangeInclusive<u64>, size: u64, queues: u32) -> Vec<Batch> {
    let ids: Vec<_> = ids.collect();
    let append = |id: &u64| {
        let payload = format!("{id:<SIZE$}");
        let message = Arc::new(Message::new(format!("plant/line{}/temperature", id % 10), payload));
        let queues = (1..=queues).map(|queue| (QueueId(queue), delivery(*id))).collect();
        Append { id: EntryId(*id), message, queues }
    };
    let batch = |ids: &[u64]| Batch { appends: ids.iter().map(append).collect(), ..Batch::default() };
    ids.chunks(size as usize).map(batch).collect()
}

fn delivery(seq: u64) -> Delivery {
    Delivery { qos: QoS::AtLeastOnce, retain: false, subscription_ids: Vec::new(), seq, class: NO_CLASS, share: None }
}

fn sessions(queues: u32) -> Vec<Session> {
    let client = |queue| if queue == 1 { CLIENT.into() } else { format!("client-{queue}").into() };
    let session = |queue| Session {
        client_id: client(queue),
        user: None,
        queue: QueueId(queue),
        expiry: u32::MAX,
        left: None,
        sent: 0,
        subscriptions: Vec::new(),
    };
    (1..=queues).map(session).collect()
}

/// A store with nothing in the way: no bound is met.
pub fn config(path: &Path) -> Config {
    let mut config = Config { path: path.into(), max_per_client: u64::MAX, ..Config::default() };
    config.max_size.0 = 4 << 30;
    config
}

/// A store that takes one batch after the other, as the router hands them over.
pub struct Ingest(Store);

impl Ingest {
    /// A new store with `queues` sessions.
    pub fn new(path: &Path, queues: u32) -> Result<Self, Box<dyn Error>> {
        let (store, _) = Store::open(&config(path))?;
        let mut ingest = Self(store);
        ingest.commit(Batch { sessions: sessions(queues), ..Batch::default() });
        Ok(ingest)
    }

    /// Writes a batch and waits for it.
    pub fn commit(&mut self, batch: Batch) {
        self.0.commit(batch);
        let event = self.0.events().blocking_recv();
        assert!(matches!(event, Some(Event::Committed { .. })), "{event:?}");
    }

    /// Ends it.
    pub fn close(self) {
        assert!(self.0.close(), "everything is written");
    }

    /// Reads the first queue from its beginning to its end; how many there are.
    pub fn read_all(&mut self) -> u64 {
        let (mut after, mut read) = (EntryId(0), 0);
        loop {
            self.0.load(QueueId(1), after, PAGE, 1 << 20);
            let Some(Event::Loaded { entries, complete, .. }) = self.0.events().blocking_recv() else { return read };
            read += entries.len() as u64;
            after = entries.last().map_or(after, |last| last.id);
            if complete {
                return read;
            }
        }
    }
}

/// A store that is full, and a bare table with the same in it.
pub struct Full {
    path: PathBuf,
    bare: PathBuf,
}

impl Full {
    /// Fills both with so many entries.
    pub fn make(folder: &Path, entries: u64) -> Result<Self, Box<dyn Error>> {
        let full = Self { path: folder.join("store.db"), bare: folder.join("bare.db") };
        let mut store = Ingest::new(&full.path, 1)?;
        let mut bare = Bare::new(&full.bare)?;
        // In slices, so that what has not been written yet is no memory.
        for first in (1..=entries).step_by(100_000) {
            for batch in batches(first..=entries.min(first + 99_999), 1000, 1) {
                bare.insert(batch.appends.iter().map(|a| (a.id.0, &*a.message)))?;
                store.commit(batch);
            }
        }
        store.close();
        Ok(full)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the store.
    pub fn open(&self) -> Result<Ingest, Box<dyn Error>> {
        Ok(Ingest(Store::open(&config(&self.path))?.0))
    }

    /// Opens the bare table.
    pub fn bare(&self) -> rusqlite::Result<Bare> {
        Bare::new(&self.bare)
    }
}
