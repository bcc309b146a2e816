//! The store: a thread that owns the one connection to SQLite, and what is handed to it.

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

use super::answer::Answer;
use super::class::Classes;
use super::file::Owned;
use super::page::Page;
use super::space::Space;
use super::tables::Bounds;
use super::writer::{Request, Writer};
use super::{Batch, Config, EntryId, Event, OpenError, QueueId, Recovered};
use crate::status::{self, State};

/// How long the disk may owe an answer. An SD card that tidies itself up may take a second or two.
const PATIENCE: Duration = Duration::from_secs(10);

/// The store. Nothing here waits for the disk but [`Store::open`] and [`Store::close`].
#[derive(Debug)]
pub struct Store {
    requests: Sender<Request>,
    events: UnboundedReceiver<Event>,
    status: watch::Receiver<status::Store>,
    classes: Classes,
    thread: JoinHandle<bool>,
}

impl Store {
    /// Opens the store and its thread; blocks while it reads.
    ///
    /// # Errors
    /// When it cannot be used as it is. One that is damaged is moved aside and does not count as such.
    pub fn open(config: &Config) -> Result<(Self, Recovered), OpenError> {
        Self::open_patient(config, PATIENCE)
    }

    /// The same, with the time after which a disk that owes an answer is reported.
    pub(super) fn open_patient(config: &Config, patience: Duration) -> Result<(Self, Recovered), OpenError> {
        let bounds = Bounds {
            bytes: config.max_size.0,
            age: config.max_age.0,
            per_client: config.max_per_client.max(1),
            when_full: config.when_full,
            queues: config.queues.clone().into(),
        };
        let owned = Owned::take(&config.path)?;
        let (tables, recovered) = owned.open(&bounds, &BTreeMap::new())?;
        let first = status::Store {
            path: config.path.display().to_string(),
            state: State::Up,
            max_bytes: config.max_size.0,
            ..status::Store::default()
        };
        let (requests, inbox) = channel();
        let (outbox, events) = unbounded_channel();
        let (reporter, status) = watch::channel(first);
        let io = |e: std::io::Error| OpenError::Io {
            path: config.path.clone(),
            what: format!("cannot start its threads: {e}"),
        };
        let answer = Answer::new(reporter.clone(), patience).map_err(io)?;
        let space = Space::new(&config.path, config.reserve.0);
        let writer = Writer::new(owned, (tables, &recovered), bounds, (inbox, outbox), (reporter, answer), space);
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || writer.run()).map_err(io)?;
        let classes = Classes::new(config.classes.clone());
        Ok((Self { requests, events, status, classes, thread }, recovered))
    }

    /// Hands over a batch; [`Event::Committed`] says when it is on the disk.
    pub fn commit(&self, batch: Batch) {
        self.ask(Request::Commit(Box::new(batch)));
    }

    /// Asks for the entries of `queue` after `after`: at most `limit`, and no more than `max_bytes` unless the first
    /// alone has more. [`Event::Loaded`] brings them.
    pub fn load(&self, queue: QueueId, after: EntryId, limit: usize, max_bytes: usize) {
        self.ask(Request::Load(Page { queue, after, limit, max_bytes }));
    }

    /// Where answers come.
    pub fn events(&mut self) -> &mut UnboundedReceiver<Event> {
        &mut self.events
    }

    /// What the store reports of itself.
    pub fn status(&self) -> watch::Receiver<status::Store> {
        self.status.clone()
    }

    /// Which messages outlive others: [`super::Delivery::class`] of what is handed over goes by it.
    pub fn classes(&self) -> Classes {
        self.classes.clone()
    }

    /// Waits until all that was handed over is on the disk; blocks. A disk that takes nothing is given a few seconds.
    /// Returns whether everything was written.
    pub fn close(self) -> bool {
        drop(self.requests);
        self.thread.join().unwrap_or(false)
    }

    /// Bounds the database file, in pages, as a full disk would; for tests.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        self.ask(Request::LimitPages(pages));
    }

    /// Waits for `time` where another connection holds the database locked, as for a disk that hangs; for tests.
    #[cfg(test)]
    pub(super) fn wait_for_lock(&self, time: Duration) {
        self.ask(Request::WaitForLock(time));
    }

    fn ask(&self, request: Request) {
        if self.requests.send(request).is_err() {
            tracing::error!("the store's thread is gone: nothing more is written");
        }
    }
}
