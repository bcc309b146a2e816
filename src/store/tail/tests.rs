//! The tail, entry by entry.

use super::*;
use crate::message::QoS;
use crate::store::NO_CLASS;

const WINDOW: Duration = Duration::from_millis(200);
const Q1: QueueId = QueueId(1);
const Q2: QueueId = QueueId(2);

fn append(tail: &mut Tail<u64>, id: u64, queues: &[QueueId], now: Instant) {
    let open = queues.iter().map(|q| (*q, delivery())).collect();
    tail.append(Entering { open, ..entering(id, Message::new("t", "12345"), now) });
}

fn delivery() -> Delivery {
    Delivery {
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: Vec::new(),
        seq: 0,
        class: NO_CLASS,
        share: None,
    }
}

fn entering(id: u64, message: Message, entered: Instant) -> Entering<u64> {
    let (message, retain) = (Arc::new(message), false);
    Entering {
        id: EntryId(id),
        message,
        open: Vec::new(),
        retain,
        entered,
        waiter: Some(id),
        with: None,
        urgent: false,
        may_go: false,
    }
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
fn many_acknowledgements_do_not_wait_for_the_window() {
    let (mut tail, now) = (Tail::<u64>::default(), Instant::now());
    tail.take(WINDOW, now, |_| true);
    for id in 1..500 {
        tail.ack(Q1, EntryId(id), true);
    }
    assert_eq!(tail.urgent_at(WINDOW, now), None);
    tail.ack(Q1, EntryId(500), true);
    assert_eq!(tail.urgent_at(WINDOW, now), Some(now));
    assert_eq!(tail.take(WINDOW, now, |_| true).unwrap().acked, [(Q1, EntryId(500))]);
    assert_eq!(tail.urgent_at(WINDOW, now), None);
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
    let [old, new] = ["old", "new"].map(|payload| Message::retained("t", payload));
    tail.append(Entering { open: vec![(Q1, delivery())], retain: true, ..entering(1, old, now) });
    tail.append(Entering { retain: true, ..entering(2, new.clone(), now) });
    assert_eq!(tail.ack(Q1, EntryId(1), true), None);
    let batch = tail.take(WINDOW, now, |_| true).unwrap();
    assert_eq!((ids(&batch), batch.retained), (vec![], vec![Arc::new(new)]));
    assert_eq!(tail.committed(), (vec![1, 2], Some(EntryId(2))));
    assert_eq!(tail.bytes(), 0);
}

#[test]
fn a_retained_message_that_is_cleared_on_its_way_to_the_disk_does_not_come_back() {
    let (mut tail, now) = (Tail::default(), Instant::now());
    let retained = |topic: &str, payload: &str| Message::retained(topic, payload.to_owned());
    let cleared = Arc::new(retained("t", ""));
    tail.append(Entering { open: vec![(Q1, delivery())], retain: true, ..entering(1, retained("t", "a"), now) });
    tail.append(Entering { retain: true, ..entering(2, retained("t", "b"), now) });
    tail.append(Entering { retain: true, ..entering(3, retained("u", "c"), now) });
    tail.clear_retained(cleared.clone());
    let batch = tail.take(WINDOW, now, |_| true).unwrap();
    assert_eq!((ids(&batch), batch.retained), (vec![1], vec![cleared.clone(), Arc::new(retained("u", "c"))]));
    assert_eq!(tail.committed(), (vec![2, 1, 3], Some(EntryId(3))));
    assert_eq!((tail.bytes(), tail.held()), (0, 0));
    tail.append(Entering { retain: true, ..entering(4, retained("t", "d"), now) });
    tail.clear_retained(cleared.clone());
    assert_eq!(tail.urgent_at(WINDOW, now), Some(now + WINDOW / 4), "who waits for it is told soon");
    assert_eq!(tail.take(WINDOW, now, |_| true).unwrap().retained, std::slice::from_ref(&cleared));
    assert_eq!(tail.committed().0, [4]);
    tail.clear_retained(cleared);
    tail.append(Entering { retain: true, ..entering(5, retained("t", "e"), now) });
    let batch = tail.take(WINDOW, now, |_| true).unwrap();
    assert_eq!(batch.retained, [Arc::new(retained("t", "e"))], "what comes later stays");
}

#[test]
fn a_disk_that_takes_nothing_costs_readers_that_keep_up_no_memory() {
    let (mut tail, now) = (Tail::default(), Instant::now());
    append(&mut tail, 1, &[Q1], now);
    assert!(tail.take(WINDOW, now + WINDOW, |_| true).is_some());
    append(&mut tail, 2, &[Q2], now);
    for id in 3..10_000 {
        append(&mut tail, id, &[Q1], now);
        assert_eq!(tail.ack(Q1, EntryId(id), true), Some(id));
        assert!(tail.held() <= 3 + MANY && tail.bytes() < 100_000, "{} held", tail.held());
    }
    assert_eq!(tail.committed(), (vec![1], Some(EntryId(1))));
    assert_eq!(ids(&tail.take(WINDOW, now + WINDOW, |_| true).unwrap()), [2]);
}

#[test]
fn a_batch_is_bounded_and_the_rest_follows_at_once() {
    let (mut tail, now) = (Tail::default(), Instant::now());
    let large = || Message::new("t", vec![0; BATCH / 2 + 1]);
    let twice = Arc::new(large());
    for (id, message) in [(1, Arc::new(large())), (2, twice.clone()), (3, twice), (4, Arc::new(large()))] {
        tail.append(Entering { message, open: vec![(Q1, delivery())], ..entering(id, Message::new("t", ""), now) });
    }
    assert_eq!(ids(&tail.take(WINDOW, now + WINDOW, |_| true).unwrap()), [1, 2, 3], "what belongs together stays so");
    assert_eq!(tail.committed(), (vec![1, 2, 3], Some(EntryId(3))));
    assert_eq!(tail.urgent_at(WINDOW, now + WINDOW), Some(now + WINDOW));
    assert_eq!(ids(&tail.take(WINDOW, now + WINDOW, |_| true).unwrap()), [4]);
    assert_eq!((tail.committed().0, tail.bytes()), (vec![4], 0));
}

#[test]
fn a_queue_ends_in_the_batch_that_has_what_it_leaves_to_others() {
    let (mut tail, now) = (Tail::default(), Instant::now());
    let large = |id| Entering { open: vec![(Q2, delivery())], ..entering(id, Message::new("t", vec![0; BATCH]), now) };
    for id in 1..4 {
        tail.append(large(id));
    }
    tail.keep_together();
    tail.end(Q1);
    tail.append(large(4));
    let batch = tail.take(WINDOW, now + WINDOW, |_| true).unwrap();
    assert_eq!((ids(&batch), batch.ended), (vec![1, 2, 3], vec![Q1]), "however large");
    tail.committed();
    tail.append(large(5));
    assert_eq!(ids(&tail.take(WINDOW, now + WINDOW, |_| true).unwrap()), [4], "the next is bounded again");
}

#[test]
fn the_least_important_and_oldest_that_may_go_is_given_up() {
    let (mut tail, now) = (Tail::default(), Instant::now());
    let size = Message::new("t", "12345").size();
    let reading = |id: u64, class| Entering {
        waiter: None,
        may_go: true,
        open: vec![(Q1, Delivery { class, ..delivery() }), (Q2, Delivery { class, ..delivery() })],
        ..entering(id, Message::new("t", "12345"), now)
    };
    tail.append(reading(1, NO_CLASS));
    assert!(tail.take(WINDOW, now + WINDOW, |_| true).is_some());
    append(&mut tail, 2, &[Q1], now);
    for (id, class) in [(3, 0), (4, NO_CLASS), (5, NO_CLASS), (6, 1)] {
        tail.append(reading(id, class));
    }
    tail.append(Entering { may_go: false, ..reading(7, NO_CLASS) });
    let gone = |ids: &[u64]| ids.iter().flat_map(|id| [(Q1, EntryId(*id)), (Q2, EntryId(*id))]).collect::<Vec<_>>();
    assert_eq!(tail.give_up(size), gone(&[4]));
    assert_eq!(tail.give_up(2 * size), gone(&[5, 6]));
    assert_eq!(tail.give_up(9 * size), gone(&[3]));
    assert_eq!(tail.give_up(size), [], "the others are waited for, were acknowledged, or are on their way");
    tail.committed();
    assert_eq!(ids(&tail.take(WINDOW, now + WINDOW, |_| true).unwrap()), [2, 7]);
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
