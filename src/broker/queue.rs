//! What waits for one session, in order, as far as it is in RAM. Pure.
//!
//! A queue is three stretches, oldest first: `ready`, in RAM; `spilled`, on disk only; `fresh`, newer than what is
//! spilled and not yet committed. A queue that keeps up is `ready` alone. When `ready` has grown to its bound the rest
//! spills: it is forgotten here once it is on disk, and read back when `ready` runs low.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Deserialize;

use super::session::packet_id;
use crate::clock::Moment;
use crate::message::{Message, QoS};
use crate::mqtt::{Place, Publish};
use crate::store::{Delivery, EntryId, Lost};

/// When so few are ready, the next are read from the disk: they come before these have run out.
const LOW: usize = 512;

/// An entry on its way to a session.
#[derive(Clone, Debug)]
pub struct Queued {
    pub id: EntryId,
    pub message: Arc<Message>,
    pub delivery: Delivery,
    /// It was not sent when it was fresh. Known once it leaves its queue.
    pub historical: bool,
    /// It is on its way, and was counted as dropped on the disk.
    pub gone: bool,
}

impl Queued {
    /// The packet that delivers it `now`, for the first time; with its place for one of the gateway's own parts.
    pub fn publish(&self, now: Moment, trusted: bool) -> Publish {
        let Delivery { qos, retain, ref subscription_ids, seq, .. } = self.delivery;
        Publish {
            id: (qos > QoS::AtMostOnce).then(|| packet_id(seq)),
            dup: false,
            qos,
            retain,
            message: self.message.told(now),
            topic_alias: None,
            subscription_ids: subscription_ids.clone(),
            place: trusted.then_some(Place { seq, historical: self.historical }),
        }
    }

    /// Whether it is among those that the disk lost.
    pub fn is_lost(&self, lost: Lost) -> bool {
        self.id <= lost.until && self.delivery.class >= lost.class && self.delivery.qos > QoS::AtMostOnce
    }
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    ready: VecDeque<Queued>,
    /// The bytes of `ready`.
    bytes: usize,
    /// Entries between `ready` and `fresh` that are on disk only, and whether there may be any.
    spilled: u64,
    spilling: bool,
    fresh: VecDeque<Queued>,
    /// The newest entry that was ever ready: reading from the disk goes on behind it.
    read: EntryId,
    loading: bool,
}

/// How much of a queue stays in RAM.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    pub entries: usize,
    pub bytes: usize,
}

/// What gives way when a queue in RAM is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueFull {
    /// The message that comes.
    #[default]
    DropNewest,
    /// Those that have waited longest.
    DropOldest,
}

impl Queue {
    /// A queue with `spilled` entries on disk from an earlier run.
    pub fn recovered(spilled: u64) -> Self {
        Self { spilled, spilling: spilled > 0, ..Self::default() }
    }

    /// Adds a durable entry at the end.
    pub fn push_durable(&mut self, entry: Queued, bound: Bound) {
        self.spilling |= self.is_full(bound);
        if self.spilling { self.fresh.push_back(entry) } else { self.push_ready(entry) }
    }

    /// Adds an entry that lives in RAM only; false when there is no room, and the entry is dropped.
    pub fn push(&mut self, entry: Queued, bound: Bound) -> bool {
        let room = self.has_room(bound);
        if room {
            self.push_ready(entry);
        }
        room
    }

    /// Takes the oldest entry, if it is in RAM.
    pub fn pop(&mut self) -> Option<Queued> {
        let entry = self.ready.pop_front()?;
        self.bytes -= entry.message.size();
        Some(entry)
    }

    /// The oldest entry, if it is in RAM.
    pub fn front(&self) -> Option<&Queued> {
        self.ready.front()
    }

    /// Puts an entry back that [`Queue::pop`] took.
    pub fn put_back(&mut self, entry: Queued) {
        self.bytes += entry.message.size();
        self.ready.push_front(entry);
    }

    /// Entries up to `until` are on disk: those behind the spilled ones need no RAM any more.
    pub fn committed(&mut self, until: EntryId) {
        while self.fresh.pop_front_if(|e| e.id <= until).is_some() {
            self.spilled += 1;
        }
    }

    /// Lets go of what is in RAM and, as everything up to `durable`, on disk as well: it is read back when somebody wants
    /// it. For a queue without a reader.
    pub fn unload(&mut self, durable: EntryId) {
        if self.loading || self.ready.back().is_none_or(|last| last.id > durable) {
            return;
        }
        // Those of QoS 0 are not on disk, and not kept for those who are away.
        self.ready.retain(|e| e.delivery.qos > QoS::AtMostOnce);
        if let Some(first) = self.ready.front() {
            self.read = EntryId(first.id.0.saturating_sub(1));
            self.spilled += self.ready.len() as u64;
            self.spilling = true;
        }
        (self.ready, self.bytes) = (VecDeque::new(), 0);
    }

    /// Behind which entry to read on from the disk, when that is what has to be done now.
    pub fn wants_load(&mut self) -> Option<EntryId> {
        let wants = self.spilling && self.ready.len() < LOW && !self.loading;
        self.loading |= wants;
        wants.then_some(self.read)
    }

    /// Takes what was read from the disk up to `last`; `complete` when nothing more is there.
    pub fn loaded(&mut self, entries: impl IntoIterator<Item = Queued>, last: EntryId, complete: bool) {
        self.loading = false;
        self.read = self.read.max(last);
        for entry in entries {
            self.spilled = self.spilled.saturating_sub(1);
            self.push_ready(entry);
        }
        if complete {
            self.spilled = 0;
            self.spilling = false;
            for entry in std::mem::take(&mut self.fresh) {
                self.push_ready(entry);
            }
        }
    }

    /// Entries on disk are gone: too old, or no room for them. Those that are in RAM as well go with them, so that what
    /// was counted as dropped does not arrive after all.
    pub fn dropped(&mut self, lost: Lost) {
        let (before, bytes) = (self.ready.len(), &mut self.bytes);
        self.ready.retain(|e| {
            let stays = !e.is_lost(lost);
            if !stays {
                *bytes -= e.message.size();
            }
            stays
        });
        let in_ram = (before - self.ready.len()) as u64;
        self.spilled = self.spilled.saturating_sub(lost.entries.saturating_sub(in_ram));
    }

    /// Lets go of entries that are not on the disk and never will be, `ids` ascending. Returns how many there were: those
    /// on their way are not here.
    pub fn give_up(&mut self, ids: &[EntryId]) -> u64 {
        let (before, bytes) = (self.ready.len() + self.fresh.len(), &mut self.bytes);
        let stays = |e: &Queued| ids.binary_search(&e.id).is_err();
        self.ready.retain(|e| {
            *bytes -= if stays(e) { 0 } else { e.message.size() };
            stays(e)
        });
        self.fresh.retain(stays);
        (before - self.ready.len() - self.fresh.len()) as u64
    }

    /// Whether new entries have to wait for some that are, or may be, on disk only.
    pub fn is_spilling(&self) -> bool {
        self.spilling
    }

    /// Whether some of it is on disk only.
    pub fn has_spilled(&self) -> bool {
        self.spilled > 0
    }

    /// Whether an entry that is older than this one waits, or may.
    pub fn has_before(&self, id: EntryId) -> bool {
        self.spilling && self.read < id || self.ready.front().is_some_and(|first| first.id < id)
    }

    /// Whether nothing waits.
    pub fn is_idle(&self) -> bool {
        !self.spilling && self.ready.is_empty()
    }

    /// How many of those in RAM are not older than `since`.
    pub fn newer_than(&self, since: EntryId) -> u64 {
        let newer = |stretch: &VecDeque<Queued>| stretch.len() - stretch.partition_point(|e| e.id < since);
        (newer(&self.ready) + newer(&self.fresh)) as u64
    }

    /// Takes everything that is in RAM, in order; the queue is not used any more.
    pub fn drain(&mut self) -> impl Iterator<Item = Queued> {
        self.ready.drain(..).chain(self.fresh.drain(..))
    }

    /// Lets entries that live in RAM only go until there is room for one more; how many.
    pub fn shorten(&mut self, bound: Bound, policy: QueueFull) -> u64 {
        let before = self.ready.len();
        while self.is_full(bound) {
            let gone = match policy {
                QueueFull::DropOldest => self.ready.pop_front(),
                QueueFull::DropNewest => self.ready.pop_back(),
            };
            let Some(gone) = gone else { break };
            self.bytes -= gone.message.size();
        }
        (before - self.ready.len()) as u64
    }

    /// Gives back the memory of a burst that is over.
    pub fn shrink(&mut self) {
        for stretch in [&mut self.ready, &mut self.fresh] {
            if stretch.capacity() > 4 * (stretch.len() + 16) {
                stretch.shrink_to_fit();
            }
        }
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.ready.capacity() + self.fresh.capacity()
    }

    /// The bytes of what is in RAM and waits to be sent.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether one more entry that lives in RAM only finds room.
    pub fn has_room(&self, bound: Bound) -> bool {
        !self.spilling && !self.is_full(bound)
    }

    /// How many entries wait.
    pub fn len(&self) -> u64 {
        self.ready.len() as u64 + self.spilled + self.fresh.len() as u64
    }

    fn push_ready(&mut self, entry: Queued) {
        self.bytes += entry.message.size();
        self.read = self.read.max(entry.id);
        self.ready.push_back(entry);
    }

    fn is_full(&self, bound: Bound) -> bool {
        self.ready.len() >= bound.entries || self.bytes >= bound.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Cause;
    use crate::store::NO_CLASS;

    const BOUND: Bound = Bound { entries: 4, bytes: 1 << 20 };

    fn entry(id: u64) -> Queued {
        let delivery = Delivery {
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: Vec::new(),
            seq: id,
            class: NO_CLASS,
            share: None,
        };
        Queued { id: EntryId(id), message: Arc::new(Message::new("t", "x")), delivery, historical: false, gone: false }
    }

    #[test]
    fn what_the_disk_dropped_does_not_come_out() {
        let mut queue = Queue::default();
        (1..=10).for_each(|id| queue.push_durable(entry(id), BOUND));
        queue.committed(EntryId(10));
        let lost = |entries, until| Lost { cause: Cause::Age, entries, until: EntryId(until), class: 0 };
        queue.dropped(lost(2, 2));
        assert_eq!((queue.len(), queue.front().map(|e| e.id)), (8, Some(EntryId(3))));
        queue.dropped(lost(5, 7));
        assert_eq!((queue.len(), queue.bytes), (3, 0));
        assert!(queue.pop().is_none(), "the rest is on disk");
        assert!(queue.wants_load().is_some());
        queue.loaded((8..=10).map(entry), EntryId(10), true);
        assert_eq!((queue.len(), queue.pop().map(|e| e.id)), (3, Some(EntryId(8))));
    }

    /// Against a disk that keeps all: whatever the order of commits, loads and reads, entries come out once, in order.
    #[test]
    fn entries_come_out_once_and_in_order() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut queue, mut next, mut committed, mut out) = (Queue::default(), 1, 0, Vec::new());
            let mut pending_load: Option<(EntryId, u64)> = None;
            let mut step = |queue: &mut Queue, action: u8, out: &mut Vec<u64>, pour: bool| match action {
                0 | 1 if !pour => {
                    queue.push_durable(entry(next), BOUND);
                    next += 1;
                }
                2 => {
                    committed = next - 1;
                    queue.committed(EntryId(committed));
                }
                3 => {
                    if let Some(after) = queue.wants_load() {
                        pending_load = Some((after, committed));
                    }
                }
                4 => {
                    if let Some((after, _)) = pending_load.take() {
                        let ids: Vec<_> = (after.0 + 1..=committed).take(3).collect();
                        let complete = ids.last().is_none_or(|last| *last == committed);
                        let last = EntryId(ids.last().copied().unwrap_or_default());
                        queue.loaded(ids.into_iter().map(entry), last, complete);
                    }
                }
                5 => queue.unload(EntryId(committed)),
                _ => out.extend(queue.pop().map(|e| e.id.0)),
            };
            for _ in 0..400 {
                step(&mut queue, random.u8(..8), &mut out, false);
            }
            for i in 0..4000 {
                step(&mut queue, [2, 3, 4, 6][i % 4], &mut out, true);
            }
            assert_eq!(out, (1..next).collect::<Vec<_>>(), "seed {seed}");
            assert_eq!(queue.len(), 0, "seed {seed}");
        }
    }
}
