//! The newest entries, in RAM: not yet on disk, and who waits until they are. Pure.
//!
//! An entry leaves the tail when every queue that it entered has acknowledged it (it is *elided*: the disk never sees
//! it) or when the batch that holds it is committed. Either way it is durable, and its publisher may be told.
//!
//! Batches are prefixes of the tail: what is committed is always everything up to some id.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Append, Batch, Delivery, EntryId, QueueId, Session};
use crate::message::Message;

/// The tail. `W` is who waits for an entry to be durable.
#[derive(Debug)]
pub struct Tail<W> {
    entries: VecDeque<Pending<W>>,
    /// The bytes of `entries`.
    bytes: usize,
    /// The batch being written ends with this id; 0 when it has no entries.
    writing: Option<EntryId>,
    /// For the next batch.
    sessions: BTreeMap<QueueId, Session>,
    ended: Vec<QueueId>,
    acked: BTreeMap<QueueId, EntryId>,
    acked_single: Vec<(QueueId, EntryId)>,
    retained: BTreeMap<Arc<str>, Arc<Message>>,
}

#[derive(Debug)]
struct Pending<W> {
    id: EntryId,
    message: Arc<Message>,
    /// The queues that have not acknowledged it.
    open: Vec<(QueueId, Delivery)>,
    /// It is to be kept as its topic's retained message as well.
    retain: bool,
    entered: Instant,
    waiter: Option<W>,
}

impl<W> Default for Tail<W> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            writing: None,
            sessions: BTreeMap::new(),
            ended: Vec::new(),
            acked: BTreeMap::new(),
            acked_single: Vec::new(),
            retained: BTreeMap::new(),
        }
    }
}

impl<W> Tail<W> {
    /// Adds an entry that entered `queues`, or is to be kept as retained, or both; ids must grow.
    pub fn append(
        &mut self,
        id: EntryId,
        message: Arc<Message>,
        queues: Vec<(QueueId, Delivery)>,
        retain: bool,
        waiter: Option<W>,
        now: Instant,
    ) {
        debug_assert!(self.entries.back().is_none_or(|last| last.id < id) && (retain || !queues.is_empty()));
        self.bytes += message.size();
        self.entries.push_back(Pending { id, message, open: queues, retain, entered: now, waiter });
    }

    /// Notes that the reader of `queue` is done with entry `id`; `oldest` when no older entry of that queue is open.
    /// Returns whom to tell.
    pub fn ack(&mut self, queue: QueueId, id: EntryId, oldest: bool) -> Option<W> {
        let mut released = None;
        let place = self.entries.partition_point(|e| e.id < id);
        let in_tail = self.entries.get(place).is_some_and(|e| e.id == id);
        if in_tail {
            let entry = &mut self.entries[place];
            entry.open.retain(|(open, _)| *open != queue);
            if entry.is_elided() {
                released = entry.waiter.take();
            }
        }
        // What is on disk, or on its way there, has to be deleted there.
        if !in_tail || self.writing.is_some_and(|until| id <= until) {
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
        let place = self.entries.partition_point(|e| e.id < id);
        self.entries.get(place).filter(|e| e.id == id)?.waiter.as_ref()
    }

    /// Notes a session that is to be kept, as it is now.
    pub fn save(&mut self, session: Session) {
        self.sessions.insert(session.queue, session);
    }

    /// Notes that a kept session ended; its queue goes with it. Returns whom to tell.
    pub fn end(&mut self, queue: QueueId) -> Vec<W> {
        self.sessions.remove(&queue);
        self.acked.remove(&queue);
        self.acked_single.retain(|(of, _)| *of != queue);
        self.ended.push(queue);
        let mut released = Vec::new();
        for entry in &mut self.entries {
            entry.open.retain(|(open, _)| *open != queue);
            if entry.is_elided() {
                released.extend(entry.waiter.take());
            }
        }
        self.forget_elided();
        released
    }

    /// Notes a retained message that is cleared (its payload is empty), with nobody waiting for it.
    pub fn clear_retained(&mut self, message: Arc<Message>) {
        self.retained.insert(message.topic.clone(), message);
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
    pub fn oldest(&self, queue: QueueId) -> Option<crate::clock::Timestamp> {
        self.entries.iter().find(|e| e.open.iter().any(|(open, _)| *open == queue)).map(|e| e.message.at)
    }

    /// The batch that is due: every entry up to the last one that has waited for `window`, that a queue without a reader
    /// wants (`reading` says which have one) or that is to be kept as retained, and all other changes. `None` while one is being written, or
    /// when there is nothing to write.
    pub fn take(&mut self, window: Duration, now: Instant, reading: impl Fn(QueueId) -> bool) -> Option<Batch> {
        if self.writing.is_some() {
            return None;
        }
        let due = |e: &Pending<W>| {
            let waits = !e.open.is_empty() && now - e.entered >= window;
            e.retain || waits || e.open.iter().any(|(queue, _)| !reading(*queue))
        };
        let until = self.entries.iter().rposition(due).map(|last| self.entries[last].id).unwrap_or_default();
        for entry in self.entries.iter().take_while(|e| e.id <= until).filter(|e| e.retain) {
            self.retained.insert(entry.message.topic.clone(), entry.message.clone());
        }
        let batch = Batch {
            ended: std::mem::take(&mut self.ended),
            sessions: std::mem::take(&mut self.sessions).into_values().collect(),
            appends: (self.entries.iter().take_while(|e| e.id <= until).filter(|e| !e.open.is_empty()))
                .map(|e| Append { id: e.id, message: e.message.clone(), queues: e.open.clone() })
                .collect(),
            acked: std::mem::take(&mut self.acked).into_iter().collect(),
            acked_single: std::mem::take(&mut self.acked_single),
            retained: std::mem::take(&mut self.retained).into_values().collect(),
        };
        if batch.is_empty() {
            return None;
        }
        self.writing = Some(until);
        Some(batch)
    }

    /// The batch is on disk: its entries leave the tail. Returns whom to tell, and the id it went up to.
    pub fn committed(&mut self) -> (Vec<W>, Option<EntryId>) {
        let until = self.writing.take();
        let mut released = Vec::new();
        while let Some(entry) = self.entries.pop_front_if(|e| until.is_some_and(|until| e.id <= until)) {
            self.bytes -= entry.message.size();
            released.extend(entry.waiter);
        }
        (released, until.filter(|id| *id > EntryId(0)))
    }

    fn forget_elided(&mut self) {
        // Entries being written stay until the commit: it ends at their id.
        let writing = self.writing.unwrap_or_default();
        while let Some(entry) = self.entries.pop_front_if(|e| e.is_elided() && e.id > writing) {
            self.bytes -= entry.message.size();
        }
    }
}

impl<W> Pending<W> {
    /// Whether nothing of it needs the disk any more.
    fn is_elided(&self) -> bool {
        self.open.is_empty() && !self.retain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::QoS;

    const WINDOW: Duration = Duration::from_millis(200);
    const Q1: QueueId = QueueId(1);
    const Q2: QueueId = QueueId(2);

    fn append(tail: &mut Tail<u64>, id: u64, queues: &[QueueId], now: Instant) {
        let delivery = Delivery { qos: QoS::AtLeastOnce, retain: false, subscription_ids: Vec::new(), share: None };
        let queues = queues.iter().map(|q| (*q, delivery.clone())).collect();
        tail.append(EntryId(id), Arc::new(Message::new("t", "12345")), queues, false, Some(id), now);
    }

    fn ids(batch: &Batch) -> Vec<u64> {
        batch.appends.iter().map(|a| a.id.0).collect()
    }

    #[test]
    fn what_all_readers_acknowledge_in_time_is_never_written() {
        let (mut tail, now) = (Tail::default(), Instant::now());
        append(&mut tail, 1, &[Q1, Q2], now);
        assert_eq!(tail.ack(Q1, EntryId(1), true), None);
        assert_eq!(tail.ack(Q2, EntryId(1), true), Some(1));
        assert!(tail.take(WINDOW, now + WINDOW, |_| true).is_none());
        assert_eq!(tail.bytes(), 0);
    }

    #[test]
    fn what_waits_a_window_is_written_and_younger_entries_are_not() {
        let (mut tail, now) = (Tail::default(), Instant::now());
        append(&mut tail, 1, &[Q1], now);
        append(&mut tail, 2, &[Q1], now + WINDOW / 2);
        assert!(tail.take(WINDOW, now + WINDOW / 2, |_| true).is_none());
        let batch = tail.take(WINDOW, now + WINDOW, |_| true).unwrap();
        assert_eq!(ids(&batch), [1]);
        assert!(tail.take(WINDOW, now + 2 * WINDOW, |_| true).is_none(), "one batch at a time");
        assert_eq!(tail.committed(), (vec![1], Some(EntryId(1))));
        assert_eq!(ids(&tail.take(WINDOW, now + 2 * WINDOW, |_| true).unwrap()), [2]);
    }

    #[test]
    fn a_queue_without_a_reader_does_not_wait_for_the_window() {
        let (mut tail, now) = (Tail::default(), Instant::now());
        append(&mut tail, 1, &[Q1], now);
        append(&mut tail, 2, &[Q2], now);
        append(&mut tail, 3, &[Q1], now);
        assert_eq!(ids(&tail.take(WINDOW, now, |q| q == Q1).unwrap()), [1, 2], "a prefix");
    }

    #[test]
    fn an_acknowledgement_during_the_write_releases_at_once_and_deletes_later() {
        let (mut tail, now) = (Tail::default(), Instant::now());
        append(&mut tail, 1, &[Q1], now);
        append(&mut tail, 2, &[Q1], now);
        assert!(tail.take(WINDOW, now + WINDOW, |_| true).is_some());
        assert_eq!(tail.ack(Q1, EntryId(1), true), Some(1));
        assert_eq!(tail.committed(), (vec![2], Some(EntryId(2))));
        assert_eq!(tail.ack(Q1, EntryId(2), true), None, "told by the commit");
        let batch = tail.take(WINDOW, now + WINDOW, |_| true).unwrap();
        assert_eq!((ids(&batch), batch.acked), (vec![], vec![(Q1, EntryId(2))]));
        assert_eq!(tail.committed(), (vec![], None));
    }

    #[test]
    fn acknowledgements_out_of_order_are_single() {
        let (mut tail, now) = (Tail::<u64>::default(), Instant::now());
        tail.ack(Q1, EntryId(7), false);
        tail.ack(Q1, EntryId(6), true);
        let batch = tail.take(WINDOW, now, |_| true).unwrap();
        assert_eq!((batch.acked, batch.acked_single), (vec![(Q1, EntryId(6))], vec![(Q1, EntryId(7))]));
    }

    #[test]
    fn an_ended_queue_holds_nobody() {
        let (mut tail, now) = (Tail::default(), Instant::now());
        append(&mut tail, 1, &[Q1], now);
        append(&mut tail, 2, &[Q1, Q2], now);
        assert_eq!(tail.end(Q1), [1]);
        let batch = tail.take(WINDOW, now + WINDOW, |_| true).unwrap();
        assert_eq!((ids(&batch), batch.ended), (vec![2], vec![Q1]));
        assert_eq!(batch.appends[0].queues.len(), 1);
    }

    #[test]
    fn a_retained_message_is_durable_when_it_is_written_whoever_has_acknowledged_it() {
        let (mut tail, now) = (Tail::default(), Instant::now());
        let delivery = Delivery { qos: QoS::AtLeastOnce, retain: false, subscription_ids: Vec::new(), share: None };
        let message = |payload: &str| Arc::new(Message::retained("t", payload.to_owned()));
        tail.append(EntryId(1), message("old"), vec![(Q1, delivery)], true, Some(1), now);
        tail.append(EntryId(2), message("new"), Vec::new(), true, Some(2), now);
        assert_eq!(tail.ack(Q1, EntryId(1), true), None);
        let batch = tail.take(WINDOW, now, |_| true).unwrap();
        assert_eq!((ids(&batch), batch.retained), (vec![], vec![message("new")]));
        assert_eq!(tail.committed(), (vec![1, 2], Some(EntryId(2))));
        assert_eq!(tail.bytes(), 0);
    }

    /// Every waiter is told exactly once, whatever the interleaving, and what is never acknowledged is written.
    #[test]
    fn every_waiter_is_told_once_in_any_interleaving() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut tail, mut now) = (Tail::default(), Instant::now());
            let (mut told, mut next, mut open, mut written) = (Vec::new(), 1, Vec::new(), Vec::new());
            for _ in 0..300 {
                match random.u8(..5) {
                    0 | 1 => {
                        append(&mut tail, next, &[Q1], now);
                        open.push(next);
                        next += 1;
                    }
                    2 if !open.is_empty() => {
                        let i = random.usize(..open.len());
                        let id = open.remove(i);
                        told.extend(tail.ack(Q1, EntryId(id), i == 0));
                    }
                    3 => {
                        if let Some(batch) = tail.take(WINDOW, now, |_| true) {
                            written.extend(ids(&batch));
                        }
                    }
                    _ => told.extend(tail.committed().0),
                }
                now += WINDOW / 7;
            }
            told.extend(tail.committed().0);
            if let Some(batch) = tail.take(WINDOW, now + WINDOW, |_| true) {
                written.extend(ids(&batch));
                told.extend(tail.committed().0);
            }
            told.sort_unstable();
            assert_eq!(told, (1..next).collect::<Vec<_>>(), "seed {seed}");
            assert!(open.iter().all(|id| written.contains(id)), "seed {seed}");
        }
    }
}
