//! The thread that owns the connection: what waits, and what happens when the disk takes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::Instant;

use super::age::{Horizon, Run};
use super::answer::Answer;
use super::books::Books;
use super::file::{Owned, damaged, explain};
use super::page::Page;
use super::tables::{Bounds, Dropped, Tables};
use super::{Batch, Event, Lost, QueueId, Recovered, Session};
use crate::backoff::Backoff;
use crate::clock::Timestamp;
use crate::status::{self, State};

/// How often old messages are looked for when nothing else happens.
const SWEEP: Duration = Duration::from_secs(60);

/// How long a store that cannot write is given to end.
const LAST_TRIES: Duration = Duration::from_secs(5);

pub(super) enum Request {
    Commit(Batch),
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
    run: Run,
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
    /// What gave way since the last batch.
    dropped: Dropped,
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
    why: String,
}

impl From<rusqlite::Error> for Trouble {
    fn from(e: rusqlite::Error) -> Self {
        Self { damaged: damaged(&e), why: explain(&e) }
    }
}

impl Writer {
    pub(super) fn new(
        owned: Owned,
        (tables, recovered): (Tables, &Recovered),
        bounds: Bounds,
        inbox: Receiver<Request>,
        outbox: UnboundedSender<Event>,
        (reporter, answer): (watch::Sender<status::Store>, Answer),
    ) -> Self {
        let writer = Self {
            sessions: recovered.sessions.iter().map(|(session, _)| (session.queue, session.clone())).collect(),
            run: Run::new(recovered.next_id, bounds.age),
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
            dropped: Dropped::new(),
            retry: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            renewed: false,
            warned: None,
        };
        writer.report(|_| {});
        writer
    }

    /// Runs until the last [`super::Store`] handle is gone. Returns whether everything was written.
    pub(super) fn run(mut self) -> bool {
        let mut sweep = Instant::now() + SWEEP;
        loop {
            let wake = match self.retry {
                Some(retry) => retry.min(sweep),
                // Whatever comes goes first.
                None if self.has_waste() => Instant::now(),
                None => sweep,
            };
            let mut idle = false;
            match self.inbox.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok(Request::Commit(batch)) => self.batches.push_back(batch),
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
                }
                let read = self.load();
                let cleaned = if idle { self.clean() } else { Ok(()) };
                self.judge(done.and(read).and(cleaned));
            } else {
                // Reading may go on where writing does not; a failure shows at the next try.
                let _ = self.load();
            }
        }
    }

    fn commit(&mut self) -> Result<(), Trouble> {
        while let Some(batch) = self.batches.pop_front() {
            let horizon = self.horizon();
            let owed = self.answer.owed();
            let written = self.tables().and_then(|tables| Ok((tables.apply(&batch, horizon)?, tables.full())));
            drop(owed);
            let (dropped, full) = match written {
                Ok(written) => written,
                Err(trouble) => {
                    self.batches.push_front(batch);
                    return Err(trouble);
                }
            };
            batch.ended.iter().for_each(|queue| drop(self.sessions.remove(queue)));
            for session in batch.sessions {
                self.sessions.retain(|_, had| had.client_id != session.client_id);
                self.sessions.insert(session.queue, session);
            }
            self.count(dropped);
            self.report(|status| status.commits += 1);
            let dropped =
                std::mem::take(&mut self.dropped).into_iter().map(|((queue, _), lost)| (queue, lost)).collect();
            // While the store ends, nobody may be left to hear it.
            let _ = self.outbox.send(Event::Committed { dropped, full });
        }
        Ok(())
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
            let owed = self.answer.owed();
            let dropped = self.tables()?.apply(&Batch::default(), horizon)?;
            drop(owed);
            self.count(dropped);
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

    fn has_waste(&self) -> bool {
        self.tables.as_ref().is_some_and(|tables| tables.books.waste)
    }

    fn horizon(&mut self) -> Horizon {
        let books = self.tables.as_ref().map_or(&self.books, |tables| &tables.books);
        self.run.mark(books.next_id, Instant::now());
        self.run.horizon(Timestamp::now())
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
            let opened = self.owned.open(self.bounds, &self.sessions);
            let (tables, _) = opened.map_err(|e| Trouble { damaged: false, why: e.to_string() })?;
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
                    let renewed = self.owned.renew(self.bounds, &self.sessions, &trouble.why);
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
        let lost: u64 = dropped.values().map(|lost| lost.entries).sum();
        for (of, Lost { entries, until, class }) in dropped {
            let lost = self.dropped.entry(of).or_default();
            lost.entries += entries;
            lost.until = lost.until.max(until);
            lost.class = class;
        }
        if lost > 0 {
            self.reporter.send_modify(|status| status.dropped += lost);
            // A store that stays full drops with every batch; once a minute tells it as well.
            if self.warned.is_none_or(|at| at.elapsed() >= SWEEP) {
                self.warned = Some(Instant::now());
                let total = self.reporter.borrow().dropped;
                tracing::warn!("the store drops messages, for their age or for want of room: {total} so far");
            }
        }
    }

    fn report(&self, change: impl FnOnce(&mut status::Store)) {
        let oldest = self.tables.as_ref().and_then(|tables| tables.oldest().ok().flatten());
        self.reporter.send_modify(|status| {
            if let Some(tables) = &self.tables {
                status.entries = tables.books.entries();
                status.bytes = tables.books.bytes;
                status.oldest = oldest;
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
