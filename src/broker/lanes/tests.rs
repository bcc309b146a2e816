use std::collections::BTreeSet;

use super::*;
use crate::status::Cause;
use crate::store::{Delivery, NO_CLASS};

const BOUND: Bound = Bound { entries: 4, bytes: 1 << 20 };
const WINDOW: usize = 3;
/// Entries read back from the disk at once.
const LOAD: usize = 3;

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

fn push(lanes: &mut Lanes, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        lanes.push_durable(entry(id), BOUND);
    }
}

fn ids(entries: impl IntoIterator<Item = Queued>) -> Vec<u64> {
    entries.into_iter().map(|entry| entry.id.0).collect()
}

fn popped(lanes: &mut Lanes) -> Vec<u64> {
    ids(std::iter::from_fn(|| lanes.pop()))
}

#[test]
fn what_comes_now_goes_before_what_waited() {
    let mut lanes = Lanes::default();
    push(&mut lanes, 1..=3);
    lanes.connected(Precedence::LiveFirst, EntryId(4));
    assert_eq!(lanes.pop().map(|e| (e.id.0, e.historical)), Some((1, true)));
    push(&mut lanes, 4..=5);
    assert_eq!(lanes.pop().map(|e| (e.id.0, e.historical)), Some((4, false)));
    assert_eq!((popped(&mut lanes), lanes.len()), (vec![5, 2, 3], 0));
}

#[test]
fn in_order_is_in_order_and_tells_what_waited_for_a_connection() {
    let mut lanes = Lanes::default();
    push(&mut lanes, 1..=2);
    lanes.connected(Precedence::InOrder, EntryId(3));
    lanes.push_durable(entry(3), BOUND);
    assert_eq!((lanes.len(), lanes.backlog()), (3, 2));
    let marks: Vec<_> = std::iter::from_fn(|| lanes.pop()).map(|e| (e.id.0, e.historical)).collect();
    assert_eq!(marks, [(1, true), (2, true), (3, false)]);
}

#[test]
fn when_live_is_full_its_oldest_join_the_backlog() {
    let mut lanes = Lanes::default();
    lanes.push_durable(entry(1), BOUND);
    lanes.connected(Precedence::LiveFirst, EntryId(2));
    push(&mut lanes, 2..=7);
    assert_eq!((lanes.len(), lanes.backlog()), (6 + 1, 3));
    assert_eq!(popped(&mut lanes), [4, 5, 6, 7, 1, 2, 3]);
}

#[test]
fn what_finds_no_window_any_more_waits_before_all() {
    let mut lanes = Lanes::default();
    lanes.push_durable(entry(1), BOUND);
    lanes.connected(Precedence::LiveFirst, EntryId(2));
    push(&mut lanes, 2..=4);
    let sent = [lanes.pop().unwrap(), lanes.pop().unwrap()];
    lanes.disconnected(BOUND);
    lanes.connected(Precedence::LiveFirst, EntryId(5));
    let [_, last] = sent;
    lanes.put_back(last);
    lanes.push_durable(entry(5), BOUND);
    assert!(lanes.has_before(EntryId(5)) && lanes.has_before(EntryId(2)));
    assert_eq!(popped(&mut lanes), [3, 5, 1, 4]);
}

#[test]
fn what_the_disk_dropped_does_not_come_out_of_any_lane() {
    let mut lanes = Lanes::recovered(0);
    lanes.push_durable(entry(1), BOUND);
    lanes.connected(Precedence::LiveFirst, EntryId(2));
    push(&mut lanes, 2..=4);
    lanes.committed(EntryId(4));
    lanes.dropped(Lost { cause: Cause::Age, entries: 3, until: EntryId(3), class: 0 });
    assert_eq!((lanes.len(), lanes.bytes() > 0), (1, true));
    assert_eq!((popped(&mut lanes), lanes.bytes()), (vec![4], 0));
}

#[test]
fn a_cleared_topic_is_remembered_while_there_is_a_backlog() {
    let clears = |id, topic: &str| {
        let mut entry = entry(id);
        entry.message = Arc::new(Message::retained(topic, ""));
        entry.delivery.retain = true;
        entry
    };
    let mut lanes = Lanes::default();
    lanes.push_durable(entry(1), BOUND);
    lanes.connected(Precedence::LiveFirst, EntryId(2));
    lanes.push_durable(clears(2, "a"), BOUND);
    assert!(!lanes.has_cleared("a"), "not before it goes");
    lanes.pop();
    assert!(lanes.has_cleared("a") && !lanes.has_cleared("b"));
    lanes.pop();
    lanes.push_durable(clears(3, "b"), BOUND);
    lanes.pop();
    assert!(!lanes.has_cleared("a") && !lanes.has_cleared("b"), "nothing waits that could bring it back");
}

#[test]
fn memory_stays_flat_while_a_million_drain_and_others_overtake_them() {
    const STORED: u64 = 1_000_000;
    let mut lanes = Lanes::recovered(STORED);
    lanes.connected(Precedence::LiveFirst, EntryId(STORED + 1));
    let (mut next, mut held, mut backlog) = (STORED + 1, 0, 0);
    for step in 0_u64.. {
        if backlog == STORED {
            break;
        }
        if let Some(after) = lanes.wants_load() {
            let ids = after.0 + 1..=STORED.min(after.0 + 512);
            let complete = *ids.end() == STORED;
            lanes.loaded(ids.map(entry).collect(), complete);
        }
        if step.is_multiple_of(3) {
            lanes.push_durable(entry(next), BOUND);
            next += 1;
        }
        held = held.max(lanes.bytes());
        let sent = lanes.pop().expect("there is more");
        backlog += u64::from(sent.historical);
    }
    let each = entry(1).message.size();
    // One load, and what was left when it was asked for.
    assert!(held <= (3 * 512 + BOUND.entries) * each, "{held} bytes");
    assert!(lanes.capacity() < 4096 && !lanes.overtaken.is_full(), "{} entries", lanes.capacity());
}

/// Against a disk with its tail: whatever the order of pushes, commits, loads, acknowledgements, reconnects and kills,
/// what was promised arrives, in order within each class, and twice only what was under way.
#[test]
fn everything_arrives_and_in_order_within_its_class() {
    let (mut lived, mut late) = (0, 0);
    for seed in 0..1500 {
        let mut world = World::new(seed);
        for _ in 0..world.random.u32(50..600) {
            world.step();
        }
        world.finish();
        lived += world.seen.iter().filter(|(_, historical)| !historical).count();
        late += world.seen.iter().filter(|(_, historical)| *historical).count();
    }
    assert!(lived > 1000 && late > 1000, "{lived} live, {late} late: one of the two is not tested");
}

/// A router, a store and a reader, as far as they matter here.
struct World {
    seed: u64,
    random: fastrand::Rng,
    order: Precedence,
    lanes: Lanes,
    next: u64,
    connected: bool,
    inflight: Vec<Queued>,
    /// In RAM only so far; and up to where a batch is being written.
    tail: BTreeSet<u64>,
    writing: Option<u64>,
    acked: Option<u64>,
    acked_single: Vec<u64>,
    durable: u64,
    disk: BTreeSet<u64>,
    /// Asked of the store and not done; done and not told.
    asked: VecDeque<Asked>,
    told: VecDeque<Told>,
    /// What its publisher was told is safe.
    promised: BTreeSet<u64>,
    arrived: BTreeSet<u64>,
    /// What was sent for the first time since the last kill: with whether it was late.
    seen: Vec<(u64, bool)>,
    sent: BTreeSet<u64>,
    /// What was put back, and may be sent again.
    back: BTreeSet<u64>,
}

enum Asked {
    Commit { entries: Vec<u64>, until: u64, acked: Option<u64>, single: Vec<u64> },
    Load { after: u64 },
}

enum Told {
    Committed { until: u64 },
    Loaded { ids: Vec<u64>, complete: bool },
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            random: fastrand::Rng::with_seed(seed),
            order: if seed.is_multiple_of(4) { Precedence::InOrder } else { Precedence::LiveFirst },
            lanes: Lanes::default(),
            next: 1,
            connected: false,
            inflight: Vec::new(),
            tail: BTreeSet::new(),
            writing: None,
            acked: None,
            acked_single: Vec::new(),
            durable: 0,
            disk: BTreeSet::new(),
            asked: VecDeque::new(),
            told: VecDeque::new(),
            promised: BTreeSet::new(),
            arrived: BTreeSet::new(),
            seen: Vec::new(),
            sent: BTreeSet::new(),
            back: BTreeSet::new(),
        }
    }

    fn step(&mut self) {
        match self.random.u8(..64) {
            0..16 => self.push(),
            16..22 => self.commit(),
            22..32 => self.store(),
            32..40 => self.tell(),
            40..50 => self.send(),
            50..58 => self.ack(),
            58..60 => self.disconnect(),
            60..63 => self.connect(),
            _ if self.random.u8(..4) == 0 => self.kill(),
            _ if !self.connected => self.lanes.unload(EntryId(self.durable)),
            _ => {}
        }
    }

    fn push(&mut self) {
        self.lanes.push_durable(entry(self.next), BOUND);
        self.tail.insert(self.next);
        self.next += 1;
    }

    fn commit(&mut self) {
        if self.writing.is_some() {
            return;
        }
        let entries: Vec<_> = self.tail.iter().copied().take(self.random.usize(..20)).collect();
        let until = entries.last().copied().unwrap_or(0);
        self.writing = Some(until);
        let (acked, single) = (self.acked.take(), std::mem::take(&mut self.acked_single));
        self.asked.push_back(Asked::Commit { entries, until, acked, single });
    }

    fn store(&mut self) {
        let told = match self.asked.pop_front() {
            None => return,
            Some(Asked::Commit { entries, until, acked, single }) => {
                self.disk.extend(entries);
                self.disk.retain(|id| acked.is_none_or(|acked| *id > acked) && !single.contains(id));
                Told::Committed { until }
            }
            Some(Asked::Load { after }) => {
                let ids: Vec<_> = self.disk.range(after + 1..).copied().take(LOAD).collect();
                let complete = ids.last().is_none_or(|last| self.disk.range(last + 1..).next().is_none());
                Told::Loaded { ids, complete }
            }
        };
        self.told.push_back(told);
    }

    fn tell(&mut self) {
        match self.told.pop_front() {
            None => {}
            Some(Told::Committed { until }) => {
                self.writing = None;
                if until > 0 {
                    self.promised.extend(self.tail.range(..=until));
                    self.tail.retain(|id| *id > until);
                    self.durable = until;
                    self.lanes.committed(EntryId(until));
                }
            }
            Some(Told::Loaded { ids, complete }) => {
                self.lanes.loaded(ids.into_iter().map(entry).collect(), complete);
            }
        }
    }

    fn send(&mut self) {
        if !self.connected || self.inflight.len() >= WINDOW {
            return;
        }
        // It may be read from the disk while live ones wait as well.
        if let Some(after) = self.lanes.wants_load() {
            self.asked.push_back(Asked::Load { after: after.0 });
        }
        let Some(entry) = self.lanes.pop() else { return };
        if self.sent.insert(entry.id.0) {
            let last = self.seen.iter().rev().find(|(_, historical)| *historical == entry.historical);
            assert!(last.is_none_or(|(last, _)| *last < entry.id.0), "seed {}: {last:?}, {entry:?}", self.seed);
            if self.order == Precedence::InOrder {
                let last = self.seen.last();
                assert!(last.is_none_or(|(last, _)| *last < entry.id.0), "seed {}: {last:?}, {entry:?}", self.seed);
            }
            self.seen.push((entry.id.0, entry.historical));
        } else {
            assert!(self.back.remove(&entry.id.0), "seed {}: {entry:?} comes twice", self.seed);
        }
        let place = self.inflight.partition_point(|before| before.id < entry.id);
        assert!(
            self.inflight.get(place).is_none_or(|same| same.id != entry.id),
            "seed {}: {entry:?} is under way twice",
            self.seed
        );
        self.inflight.insert(place, entry);
    }

    fn ack(&mut self) {
        if !self.connected || self.inflight.is_empty() {
            return;
        }
        let place = self.random.usize(..self.inflight.len());
        let id = self.inflight.remove(place).id.0;
        let oldest = place == 0 && !self.lanes.has_before(EntryId(id));
        self.arrived.insert(id);
        let written = self.writing.is_some_and(|until| id <= until);
        if !self.tail.contains(&id) || written {
            if oldest { self.acked = Some(id) } else { self.acked_single.push(id) }
        }
        if !written {
            self.tail.remove(&id);
        }
    }

    fn disconnect(&mut self) {
        if std::mem::take(&mut self.connected) {
            self.lanes.disconnected(BOUND);
        }
    }

    fn connect(&mut self) {
        self.disconnect();
        self.connected = true;
        self.lanes.connected(self.order, EntryId(self.next));
        // With a smaller window than last time.
        let window = if self.random.bool() { WINDOW } else { 1 };
        while self.inflight.len() > window {
            let last = self.inflight.pop().expect("there is one");
            self.back.insert(last.id.0);
            self.lanes.put_back(last);
        }
    }

    /// What was not written is lost, with what was acknowledged and not yet forgotten.
    fn kill(&mut self) {
        for _ in 0..self.random.usize(..3) {
            self.store();
        }
        self.lanes = Lanes::recovered(self.disk.len() as u64);
        (self.connected, self.writing, self.acked) = (false, None, None);
        self.inflight.clear();
        self.tail.clear();
        self.acked_single.clear();
        self.asked.clear();
        self.told.clear();
        self.durable = self.next - 1;
        self.lanes.committed(EntryId(self.durable));
        self.sent.clear();
        self.back.clear();
        self.seen.clear();
    }

    fn finish(&mut self) {
        self.connect();
        for _ in 0..4 * self.next + 100 {
            self.commit();
            (0..3).for_each(|_| self.store());
            (0..3).for_each(|_| self.tell());
            (0..2).for_each(|_| self.send());
            (0..2).for_each(|_| self.ack());
        }
        let lost: Vec<_> = self.promised.difference(&self.arrived).collect();
        assert!(lost.is_empty(), "seed {}: {lost:?} are lost", self.seed);
        assert_eq!((self.lanes.len(), self.lanes.bytes()), (0, 0), "seed {}", self.seed);
        assert!(self.disk.is_empty(), "seed {}: {:?} stay for ever", self.seed, self.disk);
    }
}
