//! How much every queue holds, and what was counted last: in RAM, changed with the rows that it counts. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::aside;
use super::list::Item;
use super::{Append, EntryId, QueueBound, QueueId, WhenFull};

/// The counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Books {
    /// Larger than every id of an entry used before.
    pub(super) next_id: i64,
    /// Larger than every id of an entry that came to be appended. Acknowledgements leave it as it is: one may be of an
    /// entry that was given up in RAM while older ones are still on their way to the disk.
    pub(super) next_append: i64,
    /// Larger than every id of a queue used before.
    pub(super) next_queue: u32,
    /// What all messages that some queue holds count, each of them once.
    pub(super) bytes: u64,
    /// What the table `meta` says of the first two.
    pub(super) noted: (i64, u32),
    /// There are messages still to be deleted.
    pub(super) waste: bool,
    /// Messages that are set aside.
    pub(super) aside: aside::Count,
    /// The queues that there are.
    queues: BTreeSet<QueueId>,
    /// Those of the gateway's own parts.
    own: BTreeSet<QueueId>,
    /// Those for which something else holds than for all.
    bounds: BTreeMap<QueueId, QueueBound>,
    /// What they hold, by class; nothing where there is nothing.
    held: BTreeMap<(QueueId, u8), Held>,
}

/// What a queue holds of one class, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) entries: u64,
    /// What their messages count.
    pub(super) bytes: u64,
    /// No entry of it has a smaller id,
    pub(super) first: EntryId,
    /// or a larger one.
    pub(super) last: EntryId,
}

impl Books {
    /// The books of nothing, with the last ids as they are and as they are noted.
    pub(super) fn new(next_id: i64, noted: (i64, u32), waste: bool) -> Self {
        Self { next_id, next_append: next_id, next_queue: noted.1.max(1), noted, waste, ..Self::default() }
    }

    /// Entries over all queues.
    pub(super) fn entries(&self) -> u64 {
        self.held.values().fold(0, |sum, held| sum.saturating_add(held.entries))
    }

    /// The queues that there are.
    pub(super) fn queues(&self) -> impl Iterator<Item = QueueId> {
        self.queues.iter().copied()
    }

    pub(super) fn has(&self, queue: QueueId) -> bool {
        self.queues.contains(&queue)
    }

    /// What is held, by queue and class.
    pub(super) fn held(&self) -> impl Iterator<Item = (QueueId, u8, Held)> {
        self.held.iter().map(|((queue, class), held)| (*queue, *class, *held))
    }

    /// What `queue` holds, by class, the most important first.
    pub(super) fn classes(&self, queue: QueueId) -> impl DoubleEndedIterator<Item = (u8, Held)> {
        self.held.range((queue, 0)..=(queue, u8::MAX)).map(|((_, class), held)| (*class, *held))
    }

    /// What `queue` holds of all classes.
    pub(super) fn total(&self, queue: QueueId) -> Held {
        self.classes(queue).map(|(_, held)| held).reduce(Held::and).unwrap_or_default()
    }

    /// The oldest entry there may be.
    pub(super) fn first(&self) -> Option<EntryId> {
        self.held.values().map(|held| held.first).min()
    }

    /// The clients' queues that `appends` have made longer than `most`, and by how much.
    pub(super) fn above(&self, most: u64, appends: &[Append]) -> Vec<(QueueId, u64)> {
        let touched: BTreeSet<_> = appends.iter().flat_map(|a| a.queues.iter().map(|(queue, _)| *queue)).collect();
        let clients = touched.into_iter().filter(|queue| !self.own.contains(queue));
        let excess = clients.map(|queue| (queue, self.total(queue).entries.saturating_sub(most)));
        excess.filter(|(_, excess)| *excess > 0).collect()
    }

    /// There is a queue; `own` when it is one of the gateway's own parts'.
    pub(super) fn opened(&mut self, queue: QueueId, own: bool) {
        self.queues.insert(queue);
        if own {
            self.own.insert(queue);
        }
        self.next_queue = self.next_queue.max(queue.0.saturating_add(1));
    }

    /// What holds for `queue`, when that is something else than for all.
    pub(super) fn bound(&mut self, queue: QueueId, bound: QueueBound) {
        self.bounds.insert(queue, bound);
    }

    /// What gives way in `queue`, when `all` is what does elsewhere.
    pub(super) fn when_full(&self, queue: QueueId, all: WhenFull) -> WhenFull {
        self.bounds.get(&queue).and_then(|bound| bound.when_full).unwrap_or(all)
    }

    /// The queues with a size of their own that hold as much or more, and by how much.
    pub(super) fn beyond(&self) -> Vec<(QueueId, u64)> {
        let sized = self.bounds.iter().filter_map(|(queue, bound)| Some((*queue, bound.max_size?.0)));
        let excess = sized.map(|(queue, size)| (queue, self.total(queue).bytes.checked_sub(size)));
        excess.filter_map(|(queue, excess)| Some((queue, excess?))).collect()
    }

    /// A queue, which is empty, is gone.
    pub(super) fn closed(&mut self, queue: QueueId) {
        self.queues.remove(&queue);
        self.own.remove(&queue);
        self.bounds.remove(&queue);
        self.next_queue = self.next_queue.max(queue.0.saturating_add(1));
    }

    /// Entries stand in `queue`; behind all others of their class there.
    pub(super) fn entered(&mut self, queue: QueueId, class: u8, held: Held) {
        self.held.entry((queue, class)).and_modify(|had| *had = had.and(held)).or_insert(held);
    }

    /// Entries left `queue`.
    pub(super) fn left(&mut self, queue: QueueId, class: u8, gone: Held) {
        if let Some(held) = self.held.get_mut(&(queue, class)) {
            held.entries = held.entries.saturating_sub(gone.entries);
            held.bytes = held.bytes.saturating_sub(gone.bytes);
            if held.entries == 0 {
                self.held.remove(&(queue, class));
            }
        }
    }

    /// No entry of this class in `queue` has a smaller id.
    pub(super) fn begins(&mut self, queue: QueueId, class: u8, first: EntryId) {
        if let Some(held) = self.held.get_mut(&(queue, class)) {
            held.first = held.first.max(first);
        }
    }

    /// No queue holds a message of this size any more.
    pub(super) fn freed(&mut self, size: u64) {
        self.bytes = self.bytes.saturating_sub(size);
    }

    /// This id of an entry is used.
    pub(super) fn seen(&mut self, id: i64) {
        self.next_id = self.next_id.max(id.saturating_add(1));
    }

    /// An entry with this id comes to be appended; false when that cannot be, as one with it or a larger id came before.
    pub(super) fn appended(&mut self, id: i64) -> bool {
        let is_new = id >= self.next_append;
        self.next_append = self.next_append.max(id.saturating_add(1));
        self.seen(id);
        is_new
    }
}

impl Held {
    /// What these entries are, their ids ascending.
    pub(super) fn of(items: &[Item]) -> Self {
        Self {
            entries: items.len() as u64,
            bytes: items.iter().map(|item| item.size).sum(),
            first: items.first().map_or(EntryId(0), |item| item.id),
            last: items.last().map_or(EntryId(0), |item| item.id),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_add(other.entries),
            bytes: self.bytes.saturating_add(other.bytes),
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}
