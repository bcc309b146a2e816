//! The newest entries, in RAM: not yet on disk, and who waits until they are. Pure.
//!
//! An entry leaves the tail when every queue that it entered has acknowledged it (it is *elided*: the disk never sees
//! it) or when the batch that holds it is committed. Either way it is durable, and its publisher may be told.
//!
//! Some changes of a session's state have to be durable before its client may be told, too: [`Tail::shake_hands`].
//!
//! Batches are prefixes of the tail: what is committed is always everything up to some id.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::aside::{self, Aside};
use super::{Append, Batch, Delivery, EntryId, Handshake, QueueId, Session, Will};
use crate::message::Message;

/// The bytes of messages in one batch, of which the last one may be too many.
const BATCH: usize = 1 << 20;

/// So many elided entries in the midst of others are worth the work of letting them go.
const MANY: usize = 64;

/// What was acknowledged and is still on the disk is sent again when the gateway is killed: no more than this of a fast
/// reader, besides what it acknowledges during one write.
const MOST_UNWRITTEN: usize = 500;

/// The tail. `W` is who waits for an entry to be durable.
#[derive(Debug)]
pub struct Tail<W> {
    /// Those of the batch that is being written, and those behind it.
    written: VecDeque<Entering<W>>,
    entries: VecDeque<Entering<W>>,
    /// How many of `entries` need the disk no more, and are still there.
    elided: usize,
    /// The bytes of both.
    bytes: usize,
    /// The batch being written ends with this id; 0 when it has no entries.
    writing: Option<EntryId>,
    /// For the next batch.
    sessions: BTreeMap<QueueId, Session>,
    ended: Vec<QueueId>,
    /// See [`Tail::keep_together`].
    together: Option<EntryId>,
    acked: BTreeMap<QueueId, EntryId>,
    acked_single: Vec<(QueueId, EntryId)>,
    retained: BTreeMap<Arc<str>, Arc<Message>>,
    handshakes: BTreeMap<(QueueId, Handshake), bool>,
    wills: BTreeMap<Arc<str>, Option<Will>>,
    aside: Vec<Aside>,
    /// With the entry that has to be on the disk before.
    aside_done: Vec<(EntryId, u64)>,
    purged: Vec<(QueueId, EntryId)>,
    /// Who waits for the next batch, and for the one being written.
    waiting: Vec<W>,
    waiting_written: Vec<W>,
    /// Entries with a will.
    wills_entered: usize,
    /// See [`Tail::urgent_at`].
    urgent: bool,
    /// Acknowledgements that the disk does not know of.
    unwritten: usize,
    /// When the last batch was taken.
    taken: Option<Instant>,
}

/// A message that enters the tail.
#[derive(Debug)]
pub struct Entering<W> {
    /// Larger than that of all before.
    pub id: EntryId,
    pub message: Arc<Message>,
    /// The queues that have not acknowledged it.
    pub open: Vec<(QueueId, Delivery)>,
    /// It is to be kept as its topic's retained message as well.
    pub retain: bool,
    pub entered: Instant,
    pub waiter: Option<W>,
    /// What the same transaction is to record.
    pub with: Option<With>,
    /// A reader waits for it to be durable: an acknowledgement cannot spare the writing.
    pub urgent: bool,
    /// It may go when the disk takes nothing: a reading, or of a client that does not wait. That nobody waits for it now
    /// says nothing: of what moves from one queue to another, or comes by an order, somebody may have been told already.
    pub may_go: bool,
}

/// What is recorded with an entry: neither without the other survives.
#[derive(Debug)]
pub enum With {
    /// Its publisher sent it at QoS 2.
    Received(QueueId, Handshake),
    /// It was the will of this client.
    Will(Arc<str>),
}

impl<W> Default for Tail<W> {
    fn default() -> Self {
        Self {
            written: VecDeque::new(),
            entries: VecDeque::new(),
            elided: 0,
            bytes: 0,
            writing: None,
            sessions: BTreeMap::new(),
            ended: Vec::new(),
            together: None,
            acked: BTreeMap::new(),
            acked_single: Vec::new(),
            retained: BTreeMap::new(),
            handshakes: BTreeMap::new(),
            wills: BTreeMap::new(),
            aside: Vec::new(),
            aside_done: Vec::new(),
            purged: Vec::new(),
            waiting: Vec::new(),
            waiting_written: Vec::new(),
            wills_entered: 0,
            urgent: false,
            unwritten: 0,
            taken: None,
        }
    }
}

impl<W> Tail<W> {
    /// Adds an entry that entered queues, or is to be kept as retained, or both.
    pub fn append(&mut self, entry: Entering<W>) {
        debug_assert!(self.entries.back().is_none_or(|last| last.id < entry.id) && !entry.is_elided());
        self.bytes += entry.message.size();
        self.urgent |= entry.urgent;
        self.wills_entered += usize::from(matches!(entry.with, Some(With::Will(_))));
        self.entries.push_back(entry);
    }

    /// Notes that the reader of `queue` is done with entry `id`; `oldest` when no older entry of that queue is open.
    /// Returns whom to tell.
    pub fn ack(&mut self, queue: QueueId, id: EntryId, oldest: bool) -> Option<W> {
        let written = self.writing.is_some_and(|until| id <= until);
        let mut released = None;
        let entries = if written { &mut self.written } else { &mut self.entries };
        let place = entries.partition_point(|e| e.id < id);
        let entry = entries.get_mut(place).filter(|e| e.id == id);
        let in_tail = entry.is_some();
        if let Some(entry) = entry {
            let was_open = !entry.is_elided();
            if let Some(place) = entry.open.iter().position(|(open, _)| *open == queue) {
                entry.open.swap_remove(place);
            }
            if entry.is_elided() {
                released = entry.elide(written, &mut self.handshakes, &mut self.waiting);
                self.urgent |= !self.waiting.is_empty();
                self.elided += usize::from(was_open && !written);
            }
        }
        // What is on disk, or on its way there, has to be deleted there.
        if !in_tail || written {
            self.unwritten += 1;
            if oldest {
                self.acked.insert(queue, id);
            } else {
                self.acked_single.push((queue, id));
            }
        }
        self.forget_elided();
        released
    }

    /// Who waits for this entry, while it is not durable.
    pub fn waiter(&self, id: EntryId) -> Option<&W> {
        let entries = if self.writing.is_some_and(|until| id <= until) { &self.written } else { &self.entries };
        let place = entries.partition_point(|e| e.id < id);
        entries.get(place).filter(|e| e.id == id)?.waiter.as_ref()
    }

    /// Notes a session that is to be kept, as it is now.
    pub fn save(&mut self, session: Session) {
        self.sessions.insert(session.queue, session);
    }

    /// Asks for the next batch at once, as far as that spares the disk: see [`Tail::urgent_at`].
    pub fn hurry(&mut self) {
        self.urgent = true;
    }

    /// Notes that an exchange of a kept session begins or ends; `waiter` is told when that is on the disk.
    pub fn shake_hands(&mut self, queue: QueueId, handshake: Handshake, begins: bool, waiter: Option<W>) {
        self.handshakes.insert((queue, handshake), begins);
        self.urgent |= waiter.is_some();
        self.waiting.extend(waiter);
    }

    /// Notes the will of a client, or that it is no longer wanted.
    pub fn set_will(&mut self, client_id: Arc<str>, will: Option<Will>) {
        // The entry of an earlier will takes no later one with it.
        let of_client = |e: &&mut Entering<W>| matches!(&e.with, Some(With::Will(id)) if *id == client_id);
        if self.wills_entered > 0 {
            for entry in self.written.iter_mut().chain(&mut self.entries).filter(of_client) {
                entry.with = None;
                self.wills_entered -= 1;
            }
        }
        self.wills.insert(client_id, will);
    }

    /// Notes a message that leaves a queue without having arrived. `waiter` waited for its entry, and is told when this is
    /// on the disk. Returns how many of earlier ones had to give way.
    pub fn set_aside(&mut self, aside: Aside, waiter: Option<W>) -> u64 {
        self.aside.push(aside);
        self.urgent |= waiter.is_some();
        self.waiting.extend(waiter);
        aside::shorten(&mut self.aside)
    }

    /// Notes that those of these numbers, as the store has them, need not be set aside any more: once all that has been
    /// appended before is on the disk, as they may be among it.
    pub fn forget_aside(&mut self, numbers: Vec<u64>) {
        let last = self.last();
        self.aside_done.extend(numbers.into_iter().map(|number| (last, number)));
    }

    /// When the next batch should be taken because somebody waits for it who cannot be served otherwise, as no
    /// acknowledgement will spare it: at once, but a quarter of the window after the last, to spare the disk.
    pub fn urgent_at(&self, window: Duration, now: Instant) -> Option<Instant> {
        if self.is_writing() {
            return None;
        }
        // Not sparing the disk here spares the line after a kill.
        if self.unwritten >= MOST_UNWRITTEN {
            return Some(now);
        }
        self.urgent.then(|| self.taken.map_or(now, |taken| taken + window / 4))
    }

    /// Notes that a kept session ended; its queue goes with it. Returns whom to tell.
    pub fn end(&mut self, queue: QueueId) -> Vec<W> {
        self.sessions.remove(&queue);
        self.acked.remove(&queue);
        self.acked_single.retain(|(of, _)| *of != queue);
        self.purged.retain(|(of, _)| *of != queue);
        self.handshakes.retain(|(of, _), _| *of != queue);
        self.ended.push(queue);
        let mut released = Vec::new();
        for (written, entries) in [(true, &mut self.written), (false, &mut self.entries)] {
            for entry in entries.iter_mut().filter(|e| e.open.iter().any(|(open, _)| *open == queue)) {
                entry.open.retain(|(open, _)| *open != queue);
                if entry.is_elided() {
                    released.extend(entry.elide(written, &mut self.handshakes, &mut self.waiting));
                    self.urgent |= !self.waiting.is_empty();
                    self.elided += usize::from(!written);
                }
            }
        }
        self.forget_elided();
        released
    }

    /// Notes that the next batch has to go as far as the newest entry, however large it becomes: a queue is about to end,
    /// and what it leaves to others has been appended for them. A batch without the one or the other would lose messages.
    pub fn keep_together(&mut self) {
        self.together = self.entries.back().map(|last| last.id).or(self.together);
    }

    /// Notes a retained message that is cleared (its payload is empty), with nobody waiting for it. What was to be kept
    /// for its topic before is not any more; who waits for that alone is told when this is on the disk.
    pub fn clear_retained(&mut self, message: Arc<Message>) {
        // A batch that is being written is on the disk before this.
        for entry in self.entries.iter_mut().filter(|e| e.retain && e.message.topic == message.topic) {
            entry.retain = false;
            if entry.is_elided() {
                let waiter = entry.elide(false, &mut self.handshakes, &mut self.waiting);
                self.waiting.extend(waiter);
                self.urgent |= !self.waiting.is_empty();
                self.elided += 1;
            }
        }
        self.retained.insert(message.topic.clone(), message);
        self.forget_elided();
    }

    /// Notes that what `queue` has on the disk, up to and with this entry, is to go unread.
    pub fn purge(&mut self, queue: QueueId, until: EntryId) {
        self.purged.push((queue, until));
    }

    /// The newest entry that is in no batch yet; 0 when there is none.
    pub fn last(&self) -> EntryId {
        self.entries.back().map(|last| last.id).unwrap_or_default()
    }

    /// The oldest entry that is in no batch yet, and needs the disk.
    pub fn left(&self) -> Option<EntryId> {
        self.entries.iter().find(|e| !e.is_elided()).map(|e| e.id)
    }

    /// How many entries are held.
    pub fn held(&self) -> usize {
        self.written.len() + self.entries.len()
    }

    /// The bytes of the entries held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a batch is being written.
    pub fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// When the oldest entry of `queue` in the tail entered the broker.
    pub fn oldest(&self, queue: QueueId) -> Option<crate::clock::Moment> {
        let mut entries = self.written.iter().chain(&self.entries);
        entries.find(|e| e.open.iter().any(|(open, _)| *open == queue)).map(|e| e.message.at)
    }

    /// Gives up entries that may go, such as readings, until `bytes` of them are gone or there are none: the least
    /// important first, of these the oldest. Returns which were given up, by queue. What is being written stays.
    pub fn give_up(&mut self, bytes: usize) -> Vec<(QueueId, EntryId)> {
        let may_go =
            |e: &Entering<W>| e.may_go && e.waiter.is_none() && e.with.is_none() && !e.retain && !e.open.is_empty();
        let class = |e: &Entering<W>| e.open.iter().map(|(_, delivery)| delivery.class).min();
        let mut places: Vec<_> = (self.entries.iter().enumerate().filter(|(_, e)| may_go(e)))
            .map(|(place, e)| (std::cmp::Reverse(class(e)), place))
            .collect();
        places.sort_unstable();
        let (mut given_up, mut freed) = (Vec::new(), 0);
        for (_, place) in places {
            if freed >= bytes {
                break;
            }
            let entry = &mut self.entries[place];
            freed += entry.message.size();
            given_up.extend(entry.open.drain(..).map(|(queue, _)| (queue, entry.id)));
            self.elided += 1;
        }
        // Wherever they are: behind others that stay, they would hold the room that they were to make.
        self.forget_all_elided();
        given_up
    }

    /// The batch that is due: every entry up to the last one that has waited for `window`, that a queue without a reader
    /// wants (`reading` says which have one) or that is to be kept as retained, and all other changes. `None` while one is being written, or
    /// when there is nothing to write.
    pub fn take(&mut self, window: Duration, now: Instant, reading: impl Fn(QueueId) -> bool) -> Option<Batch> {
        if self.writing.is_some() {
            return None;
        }
        let due = |e: &Entering<W>| {
            let waits = !e.open.is_empty() && now - e.entered >= window;
            e.retain || waits || e.urgent || e.open.iter().any(|(queue, _)| !reading(*queue))
        };
        let due = self.entries.iter().rposition(due).map_or(0, |last| last + 1);
        let (end, more) = self.cut(due);
        self.together = None;
        let rest = self.entries.split_off(end);
        self.written = std::mem::replace(&mut self.entries, rest);
        self.elided -= self.written.iter().filter(|e| e.is_elided()).count();
        let until = self.written.back().map(|last| last.id).unwrap_or_default();
        let left = self.left();
        let aside_done = self.aside_done.extract_if(.., |(after, _)| left.is_none_or(|left| *after < left));
        let aside_done = aside_done.map(|(_, number)| number).collect();
        for entry in &self.written {
            if entry.retain {
                self.retained.insert(entry.message.topic.clone(), entry.message.clone());
            }
            match &entry.with {
                Some(With::Received(queue, handshake)) => {
                    self.handshakes.insert((*queue, *handshake), true);
                }
                Some(With::Will(client_id)) => drop(self.wills.entry(client_id.clone()).or_default()),
                None => {}
            }
        }
        let batch = Batch {
            ended: std::mem::take(&mut self.ended),
            sessions: std::mem::take(&mut self.sessions).into_values().collect(),
            appends: (self.written.iter().filter(|e| !e.open.is_empty()))
                .map(|e| Append { id: e.id, message: e.message.clone(), queues: e.open.clone() })
                .collect(),
            acked: std::mem::take(&mut self.acked).into_iter().collect(),
            acked_single: std::mem::take(&mut self.acked_single),
            retained: std::mem::take(&mut self.retained).into_values().collect(),
            handshakes: std::mem::take(&mut self.handshakes).into_iter().map(|((q, h), begun)| (q, h, begun)).collect(),
            wills: std::mem::take(&mut self.wills).into_iter().collect(),
            aside: std::mem::take(&mut self.aside),
            aside_done,
            purged: std::mem::take(&mut self.purged),
        };
        // What is due and had no room in this batch follows at once.
        (self.urgent, self.unwritten) = (more, 0);
        self.taken = (!more).then_some(now);
        if batch.is_empty() {
            debug_assert!(self.written.is_empty(), "the first entry is never elided");
            return None;
        }
        self.waiting_written = std::mem::take(&mut self.waiting);
        self.writing = Some(until);
        Some(batch)
    }

    /// The batch is on disk: its entries leave the tail. Returns whom to tell, and the id it went up to.
    pub fn committed(&mut self) -> (Vec<W>, Option<EntryId>) {
        let until = self.writing.take();
        let mut released = std::mem::take(&mut self.waiting_written);
        for entry in std::mem::take(&mut self.written) {
            self.forget(&entry);
            released.extend(entry.waiter);
        }
        (released, until.filter(|id| *id > EntryId(0)))
    }

    /// How many of the first `due` entries go into one batch, and whether others are left: a transaction has to find room
    /// in the log that the database has already, should the disk be full.
    fn cut(&self, due: usize) -> (usize, bool) {
        let mut bytes = 0;
        for (place, entry) in self.entries.iter().take(due).enumerate() {
            // The entries of one message stay together: what is recorded with one of them holds for all.
            let same = place > 0 && Arc::ptr_eq(&entry.message, &self.entries[place - 1].message);
            let has_to = self.together.is_some_and(|until| entry.id <= until);
            if bytes >= BATCH && !same && !has_to {
                return (place, true);
            }
            bytes += entry.message.size();
        }
        (due, false)
    }

    /// Lets go of entries that need the disk no more: at the front, and when they are many, wherever they are. While a disk
    /// takes nothing, readers that keep up cost no memory.
    fn forget_elided(&mut self) {
        while let Some(entry) = self.entries.pop_front_if(|e| e.is_elided()) {
            self.let_go(entry);
        }
        if self.elided > MANY && self.elided > self.entries.len() / 2 {
            self.forget_all_elided();
        }
    }

    fn forget_all_elided(&mut self) {
        if self.elided > 0 {
            let (elided, open) = std::mem::take(&mut self.entries).into_iter().partition(Entering::is_elided);
            self.entries = open;
            let elided: VecDeque<_> = elided;
            elided.into_iter().for_each(|entry| self.let_go(entry));
        }
    }

    fn let_go(&mut self, entry: Entering<W>) {
        self.elided -= 1;
        self.forget(&entry);
        if let Some(With::Will(client_id)) = entry.with {
            self.wills.entry(client_id).or_default();
        }
    }

    fn forget(&mut self, entry: &Entering<W>) {
        self.bytes -= entry.message.size();
        self.wills_entered -= usize::from(matches!(entry.with, Some(With::Will(_))));
    }
}

impl<W> Entering<W> {
    /// All queues have acknowledged it. Returns whom to tell; but an exchange that is to be recorded with it is recorded
    /// without it, and who waits goes on waiting for that.
    fn elide(
        &mut self,
        written: bool,
        handshakes: &mut BTreeMap<(QueueId, Handshake), bool>,
        waiting: &mut Vec<W>,
    ) -> Option<W> {
        match self.with {
            Some(With::Received(..)) if written => None,
            Some(With::Received(queue, handshake)) => {
                self.with = None;
                handshakes.insert((queue, handshake), true);
                waiting.extend(self.waiter.take());
                None
            }
            _ => self.waiter.take(),
        }
    }

    /// Whether nothing of it needs the disk any more.
    fn is_elided(&self) -> bool {
        self.open.is_empty() && !self.retain
    }
}

#[cfg(test)]
mod tests;
