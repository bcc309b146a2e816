//! What gives way when there is no room.

use super::*;

#[test]
fn a_full_store_drops_the_oldest_and_counts_them_by_queue() {
    let mut place = Place::new();
    place.config.max_size = Size(10 * 1024);
    let (mut store, _) = place.open();
    let other = QueueId(2);
    let sessions = vec![session(QUEUE, "a"), session(other, "b")];
    let appends = (1..=5).map(|id| append(id, &[0; 1500], &[QUEUE, other])).collect();
    assert_eq!(commit(&mut store, Batch { sessions, appends, ..Batch::default() }), (vec![], false));
    let appends = (6..=8).map(|id| append(id, &[0; 1500], &[QUEUE])).collect();
    let lost = Lost { cause: Cause::StoreSize, class: NO_CLASS, entries: 2, until: EntryId(2) };
    assert_eq!(commit(&mut store, Batch { appends, ..Batch::default() }), (vec![(QUEUE, lost), (other, lost)], false));
    assert_eq!(ids(&mut store, QUEUE), [3, 4, 5, 6, 7, 8]);
    assert_eq!(ids(&mut store, other), [3, 4, 5]);
    let status = wait_for(&store, |s| s.commits == 2);
    assert_eq!((status.dropped, status.entries), (4, 9));
    assert!(status.bytes <= 10 * 1024 && status.bytes > 8 * 1024, "{}", status.bytes);
}

#[test]
fn a_full_store_that_refuses_says_so_until_there_is_room() {
    let mut place = Place::new();
    place.config.max_size = Size(4000);
    place.config.when_full = WhenFull::RefuseNew;
    let (mut store, _) = place.open();
    let big = |id| append(id, &[0; 1500], &[QUEUE]);
    let sessions = vec![session(QUEUE, "a")];
    assert!(!commit(&mut store, Batch { sessions, appends: vec![big(1), big(2)], ..Batch::default() }).1);
    assert!(commit(&mut store, Batch { appends: vec![big(3)], ..Batch::default() }).1);
    assert_eq!(ids(&mut store, QUEUE), [1, 2, 3]);
    assert!(!commit(&mut store, Batch { acked: vec![(QUEUE, EntryId(1))], ..Batch::default() }).1);
}

#[test]
fn one_client_that_never_comes_back_costs_the_others_nothing() {
    let mut place = Place::new();
    place.config.max_per_client = 5;
    let (mut store, _) = place.open();
    let uplink = QueueId(2);
    let sessions = vec![session(QUEUE, "away"), session(uplink, "$uplink/cloud")];
    commit(&mut store, Batch { sessions, ..Batch::default() });
    let appends: Vec<_> = (1..=12).map(|id| append(id, b"x", &[QUEUE, uplink])).collect();
    let (dropped, _) = commit(&mut store, Batch { appends, ..Batch::default() });
    assert_eq!(dropped, [(QUEUE, Lost { cause: Cause::PerClient, class: NO_CLASS, entries: 7, until: EntryId(7) })]);
    assert_eq!(ids(&mut store, QUEUE), [8, 9, 10, 11, 12]);
    assert_eq!(ids(&mut store, uplink).len(), 12);
    store.close();
    let (mut store, _) = place.open();
    let (dropped, _) =
        commit(&mut store, Batch { appends: vec![append(13, b"x", &[QUEUE, uplink])], ..Batch::default() });
    assert_eq!(dropped, [(QUEUE, Lost { cause: Cause::PerClient, class: NO_CLASS, entries: 1, until: EntryId(8) })]);
}

/// As [`append`], of a class.
fn classed(id: u64, class: u8, queues: &[QueueId]) -> Append {
    let mut append = append(id, &[0; 1000], queues);
    append.queues.iter_mut().for_each(|(_, delivery)| delivery.class = class);
    append
}

#[test]
fn each_queue_has_its_own_size_and_its_own_way_to_be_full() {
    let mut place = Place::new();
    let (short, firm) = (QueueId(2), QueueId(3));
    let bound = |when_full| QueueBound { max_size: Some(Size(5000)), when_full: Some(when_full) };
    place.config.queues = vec![
        ("$uplink/short".into(), bound(WhenFull::DropOldest)),
        ("$uplink/firm".into(), bound(WhenFull::RefuseNew)),
    ];
    let (mut store, _) = place.open();
    let sessions = vec![session(QUEUE, "a"), session(short, "$uplink/short"), session(firm, "$uplink/firm")];
    let appends = (1..=4).map(|id| classed(id, NO_CLASS, &[QUEUE, short, firm])).collect();
    assert_eq!(commit(&mut store, Batch { sessions, appends, ..Batch::default() }), (vec![], false));
    let appends = (5..=6).map(|id| classed(id, NO_CLASS, &[QUEUE, short, firm])).collect();
    store.commit(Batch { appends, ..Batch::default() });
    let Some(Event::Committed { dropped, full }) = store.events().blocking_recv() else { panic!("no commit") };
    let lost = Lost { cause: Cause::QueueSize, entries: 2, until: EntryId(2), class: NO_CLASS };
    assert_eq!((dropped, full), (vec![(short, lost)], vec![firm]));
    assert_eq!(ids(&mut store, QUEUE), [1, 2, 3, 4, 5, 6]);
    assert_eq!(ids(&mut store, short), [3, 4, 5, 6]);
    // It holds over a restart, and ends when there is room again.
    store.close();
    let (mut store, _) = place.open();
    assert!(commit(&mut store, Batch { acked: vec![(QUEUE, EntryId(6))], ..Batch::default() }).1);
    assert!(!commit(&mut store, Batch { acked: vec![(firm, EntryId(4))], ..Batch::default() }).1);
    assert_eq!(wait_for(&store, |status| status.commits == 2).refusing, 0);
}

#[test]
fn alarms_outlive_telemetry() {
    let mut place = Place::new();
    place.config.max_size = Size(5500);
    let (mut store, _) = place.open();
    let sessions = vec![session(QUEUE, "a")];
    let class = |id: u64| [0, NO_CLASS, 1][id as usize % 3];
    let batch = |ids: std::ops::RangeInclusive<u64>| ids.map(|id| classed(id, class(id), &[QUEUE])).collect();
    commit(&mut store, Batch { sessions, appends: batch(1..=5), ..Batch::default() });
    let (dropped, _) = commit(&mut store, Batch { appends: batch(6..=9), ..Batch::default() });
    let lost = |class, entries, until| (QUEUE, Lost { cause: Cause::StoreSize, entries, until: EntryId(until), class });
    assert_eq!(dropped, [lost(1, 1, 2), lost(NO_CLASS, 3, 7)]);
    assert_eq!(ids(&mut store, QUEUE), [3, 5, 6, 8, 9]);
    assert_eq!(
        wait_for(&store, |status| status.commits == 2).causes.to_string(),
        "4 (the store is full: see max-size)"
    );
}

#[test]
fn a_queue_that_gives_nothing_away_does_not_cost_the_others_all_they_have() {
    let mut place = Place::new();
    place.config.max_size = Size(100_000);
    let firm = QueueId(2);
    let refuses = QueueBound { max_size: None, when_full: Some(WhenFull::RefuseNew) };
    place.config.queues = vec![("$uplink/firm".into(), refuses)];
    let (mut store, _) = place.open();
    let sessions = vec![session(QUEUE, "a"), session(firm, "$uplink/firm")];
    let appends = (1..=200).map(|id| classed(id, NO_CLASS, &[QUEUE, firm])).collect();
    store.commit(Batch { sessions, appends, ..Batch::default() });
    let Some(Event::Committed { full, .. }) = store.events().blocking_recv() else { panic!("no commit") };
    assert_eq!(full, [firm]);
    assert_eq!(ids(&mut store, firm).len(), 200);
    assert_eq!(ids(&mut store, QUEUE).len(), 200, "what is gone for one only makes no room");
}
