//! The thread that owns the connection: what waits, and what happens when the disk takes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::ErrorCode;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::Instant;

use super::age::Horizon;
use super::answer::Answer;
use super::books::Books;
use super::file::{Owned, damaged, explain};
use super::loss::Dropped;
use super::page::Page;
use super::space::Space;
use super::tables::{Bounds, Tables};
use super::wear::{Wear, Written};
use super::{Batch, EntryId, Event, QueueId, Recovered, Session};
use crate::backoff::Backoff;
use crate::clock::Moment;
use crate::status::{self, State};
use crate::units::Size;

/// How often old messages are looked for when nothing else happens.
const SWEEP: Duration = Duration::from_secs(60);

/// How often the disk is looked at while it has too little left, or somebody waits for the store to take something.
const LOOK: Duration = Duration::from_secs(1);

/// How much more than it needs gives way for a batch when there are not enough pages all the same.
const MORE: u64 = 1 << 20;

/// How long a store that cannot write is given to end.
const LAST_TRIES: Duration = Duration::from_secs(5);

pub(super) enum Request {
    Commit(Box<Batch>),
    Load(Page),
    #[cfg(test)]
    LimitPages(u32),
    #[cfg(test)]
    WaitForLock(Duration),
}

pub(super) struct Writer {
    /// None while a damaged database is gone and a new one could not be made.
    tables: Option<Tables>,
    /// The counters of the last tables; only looked at while there are none.
    books: Books,
    /// The sessions after it: what a damaged database may have lost of them is put back.
    sessions: BTreeMap<QueueId, Session>,
    owned: Owned,
    bounds: Bounds,
    inbox: Receiver<Request>,
    outbox: UnboundedSender<Event>,
    reporter: watch::Sender<status::Store>,
    answer: Answer,
    /// Batches that are not on the disk yet, in order.
    batches: VecDeque<Batch>,
    /// Loads that are not answered yet.
    loads: VecDeque<Page>,
    /// What gave way, and the broker has not been told.
    dropped: Dropped,
    /// The room on the disk.
    space: Space,
    /// What the database was told not to outgrow.
    bound: Option<u64>,
    /// What is written to it.
    wear: Wear,
    /// The queues of which the broker was told that they take nothing new.
    full: Vec<QueueId>,
    /// When to try again, after a failure.
    retry: Option<Instant>,
    backoff: Backoff,
    /// A disk that damages its second database in one run will damage the third as well.
    renewed: bool,
    /// When drops were last logged.
    warned: Option<Instant>,
}

/// Why something did not work.
struct Trouble {
    damaged: bool,
    /// The disk is full.
    full: bool,
    why: String,
}

impl From<rusqlite::Error> for Trouble {
    fn from(e: rusqlite::Error) -> Self {
        Self { damaged: damaged(&e), full: e.sqlite_error_code() == Some(ErrorCode::DiskFull), why: explain(&e) }
    }
}

impl Writer {
    pub(super) fn new(
        owned: Owned,
        (tables, recovered): (Tables, &Recovered),
        bounds: Bounds,
        (inbox, outbox): (Receiver<Request>, UnboundedSender<Event>),
        (reporter, answer): (watch::Sender<status::Store>, Answer),
        space: Space,
    ) -> Self {
        let mut writer = Self {
            sessions: recovered.sessions.iter().map(|(session, _)| (session.queue, session.clone())).collect(),
            books: Books::default(),
            tables: Some(tables),
            owned,
            bounds,
            inbox,
            outbox,
            reporter,
            answer,
            batches: VecDeque::new(),
            loads: VecDeque::new(),
            dropped: Dropped::default(),
            space,
            bound: None,
            wear: Wear::default(),
            full: Vec::new(),
            retry: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            renewed: false,
            warned: None,
        };
        writer.look();
        writer.report(|_| {});
        writer
    }

    /// Runs until the last [`super::Store`] handle is gone. Returns whether everything was written.
    pub(super) fn run(mut self) -> bool {
        let mut sweep = Instant::now() + SWEEP;
        loop {
            let mut wake = self.retry.map_or(sweep, |retry| retry.min(sweep));
            if self.space.is_short() || !self.full.is_empty() {
                wake = wake.min(Instant::now() + LOOK);
            }
            if self.retry.is_none() && self.has_waste() {
                // Whatever comes goes first.
                wake = Instant::now();
            }
            let mut idle = false;
            match self.inbox.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok(Request::Commit(batch)) => self.batches.push_back(*batch),
                Ok(Request::Load(load)) => self.loads.push_back(load),
                #[cfg(test)]
                Ok(Request::LimitPages(pages)) => self.limit_pages(pages),
                #[cfg(test)]
                Ok(Request::WaitForLock(time)) => self.wait_for_lock(time),
                Err(RecvTimeoutError::Timeout) => idle = true,
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
            if self.retry.is_none_or(|retry| Instant::now() >= retry) {
                let mut done = self.commit();
                if Instant::now() >= sweep {
                    sweep = Instant::now() + SWEEP;
                    done = done.and_then(|()| self.expire());
                    self.shrink();
                }
                let read = self.load();
                let cleaned = if idle { self.clean() } else { Ok(()) };
                self.judge(done.and(read).and(cleaned));
                self.tell_room();
            } else {
                // Reading may go on where writing does not; a failure shows at the next try.
                let _ = self.load();
            }
        }
    }

    fn commit(&mut self) -> Result<(), Trouble> {
        self.look();
        while let Some(mut batch) = self.batches.pop_front() {
            let written = self.write(&batch, 0).or_else(|trouble| self.relieve(trouble, &mut batch));
            if let Err(trouble) = written {
                self.batches.push_front(batch);
                return Err(trouble);
            }
            batch.ended.iter().for_each(|queue| drop(self.sessions.remove(queue)));
            for session in batch.sessions {
                self.sessions.retain(|_, had| had.client_id != session.client_id);
                self.sessions.insert(session.queue, session);
            }
            self.full = self.full();
            self.report(|status| status.commits += 1);
            let dropped = std::mem::take(&mut self.dropped).into_iter().collect();
            // While the store ends, nobody may be left to hear it.
            let _ = self.outbox.send(Event::Committed { dropped, full: self.full.clone() });
        }
        Ok(())
    }

    /// In a transaction of its own: what is tried again finds the rest.
    fn purge(&mut self, purged: &[(QueueId, EntryId)]) -> Result<(), Trouble> {
        for (queue, until) in purged {
            let lost = self.tables()?.purge(*queue, *until)?;
            let _ = self.outbox.send(Event::Purged { queue: *queue, lost });
        }
        Ok(())
    }

    /// Writes a batch, and counts what gives way for it. The store is to hold `less` bytes less than it might.
    fn write(&mut self, batch: &Batch, less: u64) -> Result<(), Trouble> {
        let (horizon, limit) = (self.horizon(), self.limit().saturating_sub(less));
        let owed = self.answer.owed();
        self.purge(&batch.purged)?;
        let dropped = self.tables().and_then(|tables| Ok(tables.apply(batch, horizon, limit)?));
        drop(owed);
        self.count(dropped?);
        Ok(())
    }

    /// Tries again what failed because the disk is full, within what the database has already: see [`super::space`].
    fn relieve(&mut self, trouble: Trouble, batch: &mut Batch) -> Result<(), Trouble> {
        if !trouble.full {
            return Err(trouble);
        }
        let owed = self.answer.owed();
        self.space.release();
        self.tables()?.checkpoint()?;
        drop(owed);
        self.look();
        // What makes room goes first, and alone if need be.
        let mut done = batch.take_done();
        if let Err(trouble) = self.write(&done, 0) {
            batch.acked.append(&mut done.acked);
            batch.acked_single.append(&mut done.acked_single);
            return Err(trouble);
        }
        self.write(batch, 0).or_else(|trouble| if trouble.full { self.write(batch, MORE) } else { Err(trouble) })
    }

    /// Looks how much room the disk has.
    fn look(&mut self) {
        let was_short = self.space.is_short();
        let size = self.tables.as_ref().and_then(|tables| tables.size().ok()).unwrap_or(0);
        let Some(seen) = self.space.look(size) else { return };
        let short = self.space.is_short();
        let (free, reserve) = (Size(seen.free), Size(seen.reserve));
        let bound = self.space.bound();
        if let Some(tables) = self.tables.as_ref().filter(|_| bound != self.bound) {
            match tables.bound(bound) {
                Ok(()) => self.bound = bound,
                Err(e) => tracing::warn!("the store cannot be kept from growing: {}", explain(&e)),
            }
        }
        if short && !was_short {
            tracing::error!(
                "the disk of the store has {free} left, and {reserve} are to stay free: the store does not grow any \
                 more, and goes on within its file. Make room on the disk, or see `reserve` in [store]"
            );
        } else if was_short && !short {
            tracing::info!("the disk of the store has room again: {free}");
        }
        // Only what is worth a report: the free bytes of a disk change all the time.
        self.reporter.send_if_modified(|status| {
            let changed = status.short != short || status.free.unwrap_or(0).abs_diff(seen.free) > seen.reserve / 64;
            if changed {
                (status.free, status.reserve, status.short) = (Some(seen.free), seen.reserve, short);
            }
            changed
        });
    }

    /// How many bytes of messages may be held now.
    fn limit(&self) -> u64 {
        let max = self.bounds.bytes;
        match &self.tables {
            // What cannot be told is not there.
            Some(tables) if self.space.is_short() => {
                self.space.limit(max, tables.books.bytes, tables.spare().unwrap_or(0))
            }
            _ => max,
        }
    }

    /// The queues that take nothing new.
    fn full(&self) -> Vec<QueueId> {
        self.tables.as_ref().map(|tables| tables.full(self.limit())).unwrap_or_default()
    }

    /// Tells the broker what has changed with no batch to tell it with.
    fn tell_room(&mut self) {
        let full = self.full();
        if full != self.full || !self.dropped.is_empty() {
            self.full = full;
            let dropped = std::mem::take(&mut self.dropped).into_iter().collect();
            let _ = self.outbox.send(Event::Room { dropped, full: self.full.clone() });
            self.report(|_| {});
        }
    }

    fn load(&mut self) -> Result<(), Trouble> {
        while let Some(page) = self.loads.front().copied() {
            let owed = self.answer.owed();
            let (entries, complete) = self.tables()?.load(page)?;
            drop(owed);
            self.loads.pop_front();
            let _ = self.outbox.send(Event::Loaded { queue: page.queue, entries, complete });
        }
        Ok(())
    }

    fn expire(&mut self) -> Result<(), Trouble> {
        let horizon = self.horizon();
        while self.tables()?.stale(horizon)? {
            self.write(&Batch::default(), 0)?;
            self.report(|_| {});
        }
        Ok(())
    }

    /// Deletes some of what nobody wants any more.
    fn clean(&mut self) -> Result<(), Trouble> {
        if self.has_waste() {
            let owed = self.answer.owed();
            self.tables()?.clean()?;
            drop(owed);
        }
        Ok(())
    }

    /// Gives the disk back what a long outage has taken. That it cannot be done now is no trouble.
    fn shrink(&mut self) {
        if self.has_waste() || self.space.is_short() {
            return;
        }
        let owed = self.answer.owed();
        match self.tables.as_ref().map(Tables::shrink) {
            Some(Ok(bytes)) if bytes > 0 => tracing::info!("the store's file is {} smaller", Size(bytes)),
            Some(Err(e)) => tracing::debug!("the store's file cannot be made smaller now: {}", explain(&e)),
            _ => {}
        }
        drop(owed);
    }

    fn has_waste(&self) -> bool {
        self.tables.as_ref().is_some_and(|tables| tables.books.waste)
    }

    fn horizon(&self) -> Horizon {
        Horizon { now: Moment::now(), age: self.bounds.age }
    }

    /// Tries the rest until it is written, or for a while if the disk takes nothing.
    fn finish(mut self) -> bool {
        let end = Instant::now() + LAST_TRIES;
        let written = loop {
            let done = self.commit();
            self.judge(done);
            match self.retry {
                None => break true,
                Some(retry) if retry > end => break false,
                Some(retry) => std::thread::sleep(retry.saturating_duration_since(Instant::now())),
            }
        };
        if !written {
            let lost: usize = self.batches.iter().map(|batch| batch.appends.len()).sum();
            tracing::error!("the store ends with {lost} messages that it could not write; none was acknowledged");
        }
        // SQLite writes its log into the database when the last connection closes.
        if let Some(tables) = self.tables.take()
            && let Err((_, e)) = tables.connection.close()
        {
            tracing::warn!("cannot close the store: {}", explain(&e));
        }
        written
    }

    fn tables(&mut self) -> Result<&mut Tables, Trouble> {
        if self.tables.is_none() {
            let opened = self.owned.open(&self.bounds, &self.sessions);
            let (tables, _) = opened.map_err(|e| Trouble { damaged: false, full: false, why: e.to_string() })?;
            self.adopt(tables)?;
        }
        Ok(self.tables.as_mut().expect("there are some, or they were just opened"))
    }

    /// Goes on with tables that were opened anew: they may have lost sessions, whose queues would take no entries, and
    /// an id is not to be used again.
    fn adopt(&mut self, mut tables: Tables) -> Result<(), Trouble> {
        tables.reconcile(&self.sessions, &self.books)?;
        self.tables = Some(tables);
        Ok(())
    }

    /// Reports how the last try went, and sets the time of the next one.
    fn judge(&mut self, done: Result<(), Trouble>) {
        match done {
            Ok(()) => {
                self.backoff.reset();
                self.retry = None;
                if self.reporter.borrow().state != State::Up {
                    tracing::info!("the store writes again");
                    self.report(|status| status.state = State::Up);
                }
            }
            Err(trouble) => {
                self.retry = Some(Instant::now() + self.backoff.delay());
                let state = State::Down(trouble.why.clone());
                if self.reporter.borrow().state != state {
                    tracing::error!(
                        "the store cannot write {}: {}. Messages wait in memory, and it is tried again until it works",
                        self.reporter.borrow().path,
                        trouble.why
                    );
                    self.report(|status| status.state = state);
                }
                if trouble.damaged && !self.renewed {
                    // Closes the file before it is moved.
                    if let Some(tables) = self.tables.take() {
                        self.books = tables.books;
                    }
                    let renewed = self.owned.renew(&self.bounds, &self.sessions, &trouble.why);
                    match renewed.map_err(|e| e.to_string()).and_then(|(t, _)| self.adopt(t).map_err(|t| t.why)) {
                        Ok(()) => {
                            self.renewed = true;
                            self.retry = Some(Instant::now());
                        }
                        Err(why) => tracing::error!("{why}"),
                    }
                }
            }
        }
    }

    fn count(&mut self, dropped: Dropped) {
        let causes = dropped.causes();
        self.dropped.append(dropped);
        if causes.total() > 0 {
            self.reporter.send_modify(|status| {
                status.dropped += causes.total();
                causes.iter().for_each(|(cause, n)| status.causes.add(cause, n));
            });
            // A store that stays full drops with every batch; once a minute tells it as well.
            if self.warned.is_none_or(|at| at.elapsed() >= SWEEP) {
                self.warned = Some(Instant::now());
                let so_far = self.reporter.borrow().causes.to_string();
                tracing::warn!("the store drops messages; so far: {so_far}");
            }
        }
    }

    fn report(&mut self, change: impl FnOnce(&mut status::Store)) {
        let written = self.wear.look(Instant::now());
        let oldest = self.tables.as_ref().and_then(|tables| tables.oldest().ok().flatten());
        self.reporter.send_modify(|status| {
            if let Some(tables) = &self.tables {
                status.entries = tables.books.entries();
                status.bytes = tables.books.bytes;
                status.aside = tables.books.aside.kept;
                status.aside_dropped = tables.books.aside.gone;
                status.oldest = oldest;
            }
            status.refusing = self.full.len();
            if let Some(Written { bytes, per_day }) = written {
                (status.written, status.written_per_day) = (Some(bytes), per_day);
            }
            change(status);
        });
    }

    #[cfg(test)]
    fn wait_for_lock(&mut self, time: Duration) {
        if let Some(tables) = &self.tables {
            tables.connection.busy_timeout(time).expect("it is set");
        }
    }

    #[cfg(test)]
    fn limit_pages(&mut self, pages: u32) {
        if let Some(tables) = &self.tables {
            let set = format!("PRAGMA max_page_count = {pages}");
            tables.connection.query_row(&set, [], |_| Ok(())).expect("the pragma answers");
        }
    }
}
