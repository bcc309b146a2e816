//! What waits for one session: a queue, and beside it a lane for what overtakes it. Pure.
//!
//! Read in order, everything is in the queue. Read live first ([`Precedence::LiveFirst`]), what comes while the reader is
//! connected waits in `live`, in RAM, and goes before the queue, which is then the *backlog*. When `live` has grown to
//! its bound, and when the reader leaves, its oldest join the backlog at its end: so ids ascend within each lane, and all
//! of the backlog are older than all of `live`. What was sent and finds no window at the next connection waits before
//! all, in `again`.
//!
//! Entries of `live` may be on the disk as well. Reading the backlog from there ends before the first that still waits in
//! `live`, and passes over those that have gone, which are [`Overtaken`].

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::overtaken::Overtaken;
use super::queue::{Bound, Queue, QueueFull, Queued};
use super::replay::Precedence;
use crate::message::{Message, QoS};
use crate::store::{EntryId, Lost};

/// Topics remembered as cleared at most.
const CLEARED: usize = 10_000;

/// The lanes.
#[derive(Debug, Default)]
pub struct Lanes {
    order: Precedence,
    connected: bool,
    /// Entries before this one had entered when the reader connected.
    since: EntryId,
    again: VecDeque<Queued>,
    backlog: Queue,
    live: VecDeque<Queued>,
    /// The bytes of `live` and of `again`.
    live_bytes: usize,
    again_bytes: usize,
    overtaken: Overtaken,
    cleared: Cleared,
    /// Entries up to this one are on disk, unless they are done.
    durable: EntryId,
}

/// The retained messages that live ones have cleared while there is a backlog, by topic.
#[derive(Debug, Default)]
struct Cleared {
    topics: HashSet<Arc<str>>,
    /// There were more than are remembered.
    more: bool,
}

/// From where an entry comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Live,
    Backlog,
}

impl Lanes {
    /// Those of a session with `spilled` entries on disk from an earlier run.
    pub fn recovered(spilled: u64) -> Self {
        Self { backlog: Queue::recovered(spilled), ..Self::default() }
    }

    /// A reader is there, and wants what waits in this order. `next` is the entry that will enter next.
    pub fn connected(&mut self, order: Precedence, next: EntryId) {
        (self.order, self.since, self.connected) = (order, next, true);
    }

    /// The reader has left: what was live waits with the rest. Returns how many entries that live in RAM only found no
    /// room.
    pub fn disconnected(&mut self, bound: Bound) -> u64 {
        self.connected = false;
        let mut lost = 0;
        while let Some(entry) = self.pop_live() {
            lost += self.recede(entry, bound);
        }
        lost
    }

    /// Adds a durable entry at the end. Returns how many that live in RAM only had to go.
    pub fn push_durable(&mut self, entry: Queued, bound: Bound) -> u64 {
        if !self.overtakes() {
            self.backlog.push_durable(entry, bound);
            return 0;
        }
        let mut lost = 0;
        let full = self.overtaken.is_full();
        while full || self.is_live_full(bound) {
            let Some(oldest) = self.pop_live() else { break };
            lost += self.recede(oldest, bound);
        }
        if full {
            self.backlog.push_durable(entry, bound)
        } else {
            self.push_live(entry)
        }
        lost
    }

    /// Adds an entry that lives in RAM only; false when there is no room, and the entry is dropped.
    pub fn push(&mut self, entry: Queued, bound: Bound) -> bool {
        if !self.overtakes() {
            return self.backlog.push(entry, bound);
        }
        let room = !self.is_live_full(bound);
        if room {
            self.push_live(entry);
        }
        room
    }

    /// What goes next, as far as it is in RAM.
    pub fn front(&self) -> Option<(Lane, &Queued)> {
        let lane = |entry: &Queued| if entry.historical { Lane::Backlog } else { Lane::Live };
        let again = self.again.front().map(|entry| (lane(entry), entry));
        let live = || self.live.front().map(|entry| (Lane::Live, entry));
        again.or_else(live).or_else(|| self.backlog.front().map(|entry| (Lane::Backlog, entry)))
    }

    /// Takes what [`Lanes::front`] shows.
    pub fn pop(&mut self) -> Option<Queued> {
        if let Some(entry) = self.again.pop_front() {
            self.again_bytes -= entry.message.size();
            return Some(entry);
        }
        if let Some(entry) = self.pop_live() {
            if entry.delivery.seq > 0 {
                self.overtaken.add(entry.delivery.seq);
            }
            if self.backlog.is_idle() {
                self.cleared = Cleared::default();
            } else {
                self.note_cleared(&entry);
            }
            return Some(entry);
        }
        let mut entry = self.backlog.pop()?;
        entry.historical = self.order == Precedence::LiveFirst || entry.id < self.since;
        if entry.delivery.seq > 0 {
            self.overtaken.passed(entry.delivery.seq);
        }
        Some(entry)
    }

    /// Puts an entry back that [`Lanes::pop`] took, the newest first.
    pub fn put_back(&mut self, entry: Queued) {
        if self.order == Precedence::InOrder {
            return self.backlog.put_back(entry);
        }
        self.again_bytes += entry.message.size();
        self.again.push_front(entry);
    }

    /// Whether an entry that is older than this one waits.
    pub fn has_before(&self, id: EntryId) -> bool {
        let ends = [self.again.front(), self.live.front()];
        self.backlog.has_before(id) || ends.into_iter().flatten().any(|entry| entry.id < id)
    }

    /// Whether what is live goes first.
    pub fn is_live_first(&self) -> bool {
        self.order == Precedence::LiveFirst
    }

    /// How many entries wait that were not sent when they were fresh.
    pub fn backlog(&self) -> u64 {
        let fresh =
            if self.connected && self.order == Precedence::InOrder { self.backlog.newer_than(self.since) } else { 0 };
        self.backlog.len().saturating_sub(fresh)
    }

    /// Whether a live message has cleared the retained one of this topic, or may have.
    pub fn has_cleared(&self, topic: &str) -> bool {
        self.cleared.more || self.cleared.topics.contains(topic)
    }

    /// Entries up to `until` are on disk.
    pub fn committed(&mut self, until: EntryId) {
        self.durable = until;
        self.backlog.committed(until);
    }

    /// See [`Queue::unload`].
    pub fn unload(&mut self, durable: EntryId) {
        self.backlog.unload(durable);
    }

    /// Behind which entry to read on from the disk, when that is what has to be done now.
    pub fn wants_load(&mut self) -> Option<EntryId> {
        self.backlog.wants_load()
    }

    /// Takes what was read from the disk; `complete` when nothing more is there.
    pub fn loaded(&mut self, entries: Vec<Queued>, complete: bool) {
        // A live one that entered the disk: all behind it are live as well.
        let live = self.live.iter().find(|entry| entry.delivery.seq > 0).map(|entry| entry.id);
        let end = live.map_or(entries.len(), |live| entries.partition_point(|entry| entry.id < live));
        let complete = complete || end < entries.len();
        if let Some(last) = end.checked_sub(1).map(|last| entries[last].id) {
            let overtaken = &self.overtaken;
            let own = entries.into_iter().take(end).filter(|entry| !overtaken.contains(entry.delivery.seq));
            self.backlog.loaded(own, last, complete);
        } else {
            self.backlog.loaded([], EntryId(0), complete);
        }
    }

    /// Entries on disk are gone: see [`Queue::dropped`].
    pub fn dropped(&mut self, lost: Lost) {
        let gone = self.keep(|entry| !entry.is_lost(lost));
        self.backlog.dropped(Lost { entries: lost.entries.saturating_sub(gone), ..lost });
    }

    /// Lets go of entries that never came to the disk: see [`Queue::give_up`].
    pub fn give_up(&mut self, ids: &[EntryId]) -> u64 {
        self.keep(|entry| ids.binary_search(&entry.id).is_err()) + self.backlog.give_up(ids)
    }

    /// Whether new entries have to wait for some that are, or may be, on disk only.
    pub fn is_spilling(&self) -> bool {
        self.backlog.is_spilling()
    }

    /// Whether some of it is on disk only.
    pub fn has_spilled(&self) -> bool {
        self.backlog.has_spilled()
    }

    /// The oldest entry, if it is in RAM.
    pub fn oldest(&self) -> Option<&Queued> {
        self.again.front().or_else(|| self.backlog.front()).or_else(|| self.live.front())
    }

    /// Takes everything that is in RAM, in order; nothing is used any more.
    pub fn drain(&mut self) -> impl Iterator<Item = Queued> {
        self.again.drain(..).chain(self.backlog.drain()).chain(self.live.drain(..))
    }

    /// Lets entries that live in RAM only go until there is room for one more: see [`Queue::shorten`].
    pub fn shorten(&mut self, bound: Bound, policy: QueueFull) -> u64 {
        self.backlog.shorten(bound, policy)
    }

    /// Gives back the memory of a burst that is over.
    pub fn shrink(&mut self) {
        self.backlog.shrink();
        for lane in [&mut self.again, &mut self.live] {
            if lane.capacity() > 4 * (lane.len() + 16) {
                lane.shrink_to_fit();
            }
        }
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.backlog.capacity() + self.live.capacity()
    }

    /// The bytes of what is in RAM and waits to be sent.
    pub fn bytes(&self) -> usize {
        self.backlog.bytes() + self.again_bytes + self.live_bytes
    }

    /// Whether one more entry that lives in RAM only finds room.
    pub fn has_room(&self, bound: Bound) -> bool {
        if self.overtakes() { !self.is_live_full(bound) } else { self.backlog.has_room(bound) }
    }

    /// How many entries wait.
    pub fn len(&self) -> u64 {
        self.backlog.len() + (self.again.len() + self.live.len()) as u64
    }

    /// Whether what comes now goes before what waits.
    fn overtakes(&self) -> bool {
        self.connected && self.order == Precedence::LiveFirst
    }

    /// Lets go of what is not to stay beside the backlog. Returns how many went.
    fn keep(&mut self, stays: impl Fn(&Queued) -> bool) -> u64 {
        let before = self.again.len() + self.live.len();
        let lanes = [(&mut self.again, &mut self.again_bytes), (&mut self.live, &mut self.live_bytes)];
        for (lane, bytes) in lanes {
            lane.retain(|entry| {
                *bytes -= if stays(entry) { 0 } else { entry.message.size() };
                stays(entry)
            });
        }
        (before - self.again.len() - self.live.len()) as u64
    }

    fn is_live_full(&self, bound: Bound) -> bool {
        self.live.len() >= bound.entries || self.live_bytes >= bound.bytes
    }

    fn push_live(&mut self, entry: Queued) {
        self.live_bytes += entry.message.size();
        self.live.push_back(entry);
    }

    fn pop_live(&mut self) -> Option<Queued> {
        let entry = self.live.pop_front()?;
        self.live_bytes -= entry.message.size();
        Some(entry)
    }

    /// The oldest live entry joins the backlog; 1 when it lives in RAM only, and there is no room.
    fn recede(&mut self, entry: Queued, bound: Bound) -> u64 {
        if entry.delivery.qos == QoS::AtMostOnce {
            return u64::from(!self.backlog.push(entry, bound));
        }
        self.backlog.push_durable(entry, bound);
        // It may be on disk already.
        self.backlog.committed(self.durable);
        0
    }

    fn note_cleared(&mut self, Queued { message, delivery, .. }: &Queued) {
        let Message { topic, payload, .. } = &**message;
        if !delivery.retain || self.cleared.more {
            return;
        }
        if !payload.is_empty() {
            self.cleared.topics.remove(topic);
        } else if self.cleared.topics.len() < CLEARED {
            self.cleared.topics.insert(topic.clone());
        } else {
            self.cleared = Cleared { topics: HashSet::new(), more: true };
        }
    }
}

#[cfg(test)]
mod tests;
