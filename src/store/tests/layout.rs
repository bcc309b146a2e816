//! What stands where: queues of several classes, messages of several queues, what is deleted and what is given back.

use super::*;

const OTHER: QueueId = QueueId(2);

fn of_class(mut append: Append, class: u8) -> Append {
    append.queues.iter_mut().for_each(|(_, delivery)| delivery.class = class);
    append
}

fn subscribed(queue: QueueId, client_id: &str, filter: &str) -> Session {
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    let subscriptions = vec![Subscription { filter: filter.into(), options, id: None }];
    Session { subscriptions, ..session(queue, client_id) }
}

fn count(place: &Place, table: &str) -> i64 {
    let connection = rusqlite::Connection::open(place.path()).expect("a database");
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("counted")
}

#[test]
fn a_store_of_the_second_schema_is_taken_over_with_everything_in_it() {
    let place = Place::new();
    fs::create_dir(place.path().parent().expect("a folder")).expect("made");
    let old = rusqlite::Connection::open(place.path()).expect("a database");
    for schema in [
        include_str!("../../../migrations/0001-queues-sessions-retained.sql"),
        include_str!("../../../migrations/0002-handshakes-wills.sql"),
    ] {
        old.execute_batch(schema).expect("the second schema");
    }
    old.execute_batch(
        "PRAGMA user_version = 2;
         INSERT INTO meta VALUES ('next-id', 9000), ('next-queue', 5), ('bytes', 0);
         INSERT INTO session VALUES (1, 'a', 60, 7, '[]', 3000, 'me', 9), (2, '$uplink/cloud', 60, NULL, '[]', 1500, NULL, 0);
         INSERT INTO handshake VALUES (1, 0, 8);
         INSERT INTO will VALUES ('a', 'w', x'77', 1, 0, 5, NULL, 3, NULL);
         INSERT INTO retained VALUES ('r', x'72', 1, 5, NULL);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
             INSERT INTO message SELECT i, 't', CAST(i AS BLOB), 2, 0, 1000 + i, NULL FROM n;
         INSERT INTO entry SELECT 1, id, 1, id = 2000, CASE id WHEN 2000 THEN '[3,70000]' END, id + 10 FROM message;
         INSERT INTO entry SELECT 2, id, 2, 0, NULL, id / 2 FROM message WHERE id % 2 = 0;
         -- What nobody holds, and what is of nobody.
         INSERT INTO message VALUES (8000, 't', x'00', 1, 0, 0, NULL);
         INSERT INTO entry VALUES (4, 1, 1, 0, NULL, 1);",
    )
    .expect("filled");
    drop(old);

    let (mut store, recovered) = place.open();
    let depths: Vec<_> = recovered.sessions.iter().map(|(s, depth)| (&*s.client_id, s.sent, *depth)).collect();
    let oldest = |at| Some(Moment { trusted: false, ..Timestamp(at).into() });
    let a = Depth { entries: 3000, oldest: oldest(1001), first: 11, last: 3010 };
    let cloud = Depth { entries: 1500, oldest: oldest(1002), first: 1, last: 1500 };
    assert_eq!(depths, [("a", 9, a), ("$uplink/cloud", 0, cloud)]);
    assert_eq!((recovered.next_id, recovered.next_queue), (EntryId(9000), 5));
    assert_eq!((recovered.retained.len(), recovered.wills.len(), recovered.handshakes.len()), (1, 1, 1));
    let (entries, complete) = load(&mut store, QUEUE, 0, usize::MAX, usize::MAX);
    assert!(complete && entries.iter().map(|e| e.id.0).eq(1..=3000));
    assert!(entries.iter().all(|e| *e.message.payload == *e.id.0.to_string().as_bytes()));
    let odd = Delivery { subscription_ids: vec![3, 70_000], retain: true, ..entries[1].delivery.clone() };
    assert_eq!(entries[1999].delivery, Delivery { seq: 2010, ..odd });
    let bytes = wait_for(&store, |_| true).bytes;
    assert_eq!(bytes, entries.iter().map(|e| 49 + e.message.payload.len() as u64).sum::<u64>(), "each message once");
    // And everything goes on.
    commit(&mut store, Batch { acked: vec![(QUEUE, EntryId(3000)), (OTHER, EntryId(2998))], ..Batch::default() });
    assert_eq!((ids(&mut store, QUEUE).len(), ids(&mut store, OTHER)), (0, vec![3000]));
    assert_eq!(wait_for(&store, |s| s.commits == 1).bytes, 49 + 4);
}

#[test]
fn classes_are_read_in_one_order_and_the_least_important_goes_first() {
    let mut place = Place::new();
    place.config.max_per_client = 6;
    let (mut store, _) = place.open();
    let appends = |ids: std::ops::RangeInclusive<u64>| -> Vec<Append> {
        ids.map(|id| of_class(append(id, b"x", &[QUEUE]), if id % 3 == 0 { 0 } else { 9 })).collect()
    };
    commit(&mut store, Batch { sessions: vec![session(QUEUE, "a")], appends: appends(1..=6), ..Batch::default() });
    let (entries, _) = load(&mut store, QUEUE, 1, 4, usize::MAX);
    let read: Vec<_> = entries.iter().map(|e| (e.id.0, e.delivery.class)).collect();
    assert_eq!(read, [(2, 9), (3, 0), (4, 9), (5, 9)]);
    let (dropped, _) = commit(&mut store, Batch { appends: appends(7..=9), ..Batch::default() });
    assert_eq!(dropped, [(QUEUE, Lost { cause: Cause::PerClient, entries: 3, until: EntryId(4), class: 9 })]);
    assert_eq!(ids(&mut store, QUEUE), [3, 5, 6, 7, 8, 9]);
    // When nothing else is left, the important ones go.
    let appends: Vec<_> = (10..=14).map(|id| of_class(append(id, b"x", &[QUEUE]), 0)).collect();
    let (dropped, _) = commit(&mut store, Batch { appends, ..Batch::default() });
    let lost = |entries, until, class| (QUEUE, Lost { cause: Cause::PerClient, entries, until: EntryId(until), class });
    assert_eq!(dropped, [lost(2, 6, 0), lost(3, 8, 9)]);
    assert_eq!(ids(&mut store, QUEUE), [9, 10, 11, 12, 13, 14]);
}

#[test]
fn a_full_store_drops_what_is_least_important_in_all_queues() {
    let mut place = Place::new();
    place.config.max_size = Size(10 * 1024);
    let (mut store, _) = place.open();
    let sessions = vec![session(QUEUE, "a"), session(OTHER, "b")];
    let both = |id, class| of_class(append(id, &[0; 1500], &[QUEUE, OTHER]), class);
    let appends = vec![both(1, 0), both(2, 5), both(3, 0), both(4, 5)];
    commit(&mut store, Batch { sessions, appends, ..Batch::default() });
    let appends = (5..=8).map(|id| both(id, 0)).collect();
    let lost = Lost { cause: Cause::StoreSize, entries: 2, until: EntryId(4), class: 5 };
    assert_eq!(commit(&mut store, Batch { appends, ..Batch::default() }).0, [(QUEUE, lost), (OTHER, lost)]);
    assert_eq!((ids(&mut store, QUEUE), ids(&mut store, OTHER)), (vec![1, 3, 5, 6, 7, 8], vec![1, 3, 5, 6, 7, 8]));
}

#[test]
fn what_is_acknowledged_in_any_order_goes_and_what_is_not_stays_also_over_a_restart() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let place = Place::new();
        let (mut store, _) = place.open();
        commit(&mut store, Batch { sessions: vec![session(QUEUE, "a"), session(OTHER, "b")], ..Batch::default() });
        let (mut next, mut open) = (1_u64, [Vec::new(), Vec::new()]);
        for _ in 0..30 {
            let mut batch = Batch::default();
            for _ in 0..random.usize(..200) {
                let queues: &[QueueId] = [&[QUEUE][..], &[OTHER], &[QUEUE, OTHER]][random.usize(..3)];
                // Some ids are never written.
                next += u64::from(random.u8(..10) == 0) * random.u64(..100);
                batch.appends.push(of_class(append(next, b"12345", queues), random.u8(..2)));
                queues.iter().for_each(|queue| open[queue.0 as usize - 1].push(next));
                next += 1;
            }
            commit(&mut store, batch);
            let mut batch = Batch::default();
            for (queue, open) in [QUEUE, OTHER].into_iter().zip(&mut open) {
                for _ in 0..random.usize(..40).min(open.len()) {
                    let id = open.remove(random.usize(..open.len()));
                    batch.acked_single.push((queue, EntryId(id)));
                }
                if !open.is_empty() && random.bool() {
                    let rest = open.split_off(random.usize(..open.len()));
                    batch.acked.extend(open.last().map(|last| (queue, EntryId(*last))));
                    *open = rest;
                }
            }
            commit(&mut store, batch);
            if random.u8(..10) == 0 {
                store.close();
                store = place.open().0;
            }
        }
        assert_eq!([ids(&mut store, QUEUE), ids(&mut store, OTHER)], open, "seed {seed}");
        let mut held = open.concat();
        held.sort_unstable();
        held.dedup();
        let sum = held.len() as u64 * ("plant/level".len() + 5 + 48) as u64;
        store.close();
        let (store, recovered) = place.open();
        assert_eq!(wait_for(&store, |_| true).bytes, sum, "seed {seed}");
        let depths: Vec<_> = recovered.sessions.iter().map(|(_, depth)| depth.entries as usize).collect();
        assert_eq!(depths, [open[0].len(), open[1].len()], "seed {seed}");
        store.close();
        assert_eq!(count(&place, "message") as usize, held.len(), "seed {seed}");
    }
}

#[test]
fn a_long_queue_that_ends_is_gone_at_once_and_its_messages_a_little_later() {
    let place = Place::new();
    let (mut store, _) = place.open();
    commit(&mut store, filled(1..=20_000));
    commit(&mut store, Batch { acked: vec![(QUEUE, EntryId(20_000))], ..Batch::default() });
    let status = wait_for(&store, |s| s.commits == 2);
    assert_eq!((status.entries, status.bytes), (0, 0));
    assert!(count(&place, "message") > 0, "not all of them in one transaction");
    // Cut off here, the next run goes on with it; ids go on where they were.
    store.close();
    let (mut store, recovered) = place.open();
    assert_eq!(recovered.next_id, EntryId(20_001));
    while count(&place, "message") > 0 {
        std::thread::yield_now();
    }
    commit(&mut store, Batch::default());
    store.close();
    assert_eq!((count(&place, "waste"), place.open().1.next_id), (0, EntryId(20_001)));
}

#[test]
fn runs_are_few_however_small_batches_are() {
    let place = Place::new();
    let (mut store, _) = place.open();
    (1..=600).for_each(|id| drop(commit(&mut store, filled(id..=id))));
    assert!(ids(&mut store, QUEUE).into_iter().eq(1..=600));
    assert!(count(&place, "run") <= 5, "{}", count(&place, "run"));
}

#[test]
fn messages_whose_runs_are_damaged_go_to_who_is_subscribed_to_them() {
    let place = Place::new();
    let (mut store, _) = place.open();
    let sessions = vec![
        subscribed(QUEUE, "$uplink/cloud", "plant/#"),
        subscribed(OTHER, "b", "$share/both/+/level"),
        subscribed(QueueId(3), "c", "plant/pressure"),
    ];
    // Place 2 of the uplink is long done; the second run cannot be read.
    let appends = (3..=2500).map(|id| append(id, b"x", &[QUEUE])).collect();
    commit(&mut store, Batch { sessions, appends, ..Batch::default() });
    store.close();
    let crafted = rusqlite::Connection::open(place.path()).expect("a database");
    let changed = crafted.execute("UPDATE run SET list = x'ff' WHERE first > 3 AND last < 2500", []).expect("changed");
    assert_eq!(changed, 1);
    drop(crafted);
    let (mut store, _) = place.open();
    let (entries, _) = load(&mut store, QUEUE, 0, usize::MAX, usize::MAX);
    // In order, each with the place that it had.
    assert!(entries.iter().map(|e| e.id.0).eq(3..=2500) && entries.iter().all(|e| e.delivery.seq == e.id.0));
    assert_eq!(ids(&mut store, OTHER), (1027..=2050).collect::<Vec<_>>(), "perhaps they were for this one");
    assert_eq!(ids(&mut store, QueueId(3)), [0; 0]);
    assert_eq!(place.aside().len(), 1);
}

#[test]
fn a_file_that_a_long_outage_made_large_is_small_again_when_its_queue_is_empty() {
    let place = Place::new();
    let connection = super::super::file::Owned::take(place.path()).expect("its folder");
    let (mut tables, _) = connection.open(&bounds(), &Default::default()).expect("it opens");
    let horizon = super::super::age::Horizon { now: crate::clock::Moment::now(), age: Duration::MAX };
    let appends: Vec<_> = (1..=6000).map(|id| append(id, &[7; 4000], &[QUEUE])).collect();
    for appends in appends.chunks(500) {
        let batch = Batch { sessions: vec![session(QUEUE, "a")], appends: appends.to_vec(), ..Batch::default() };
        tables.apply(&batch, horizon, u64::MAX).expect("written");
    }
    assert_eq!(tables.shrink().expect("looked"), 0, "it is full");
    // The log stays small as well.
    let log = fs::metadata(place.path().with_file_name("store.db-wal")).expect("it is there").len();
    assert!(log < 8 << 20, "{log}");
    let acked = vec![(QUEUE, EntryId(5999))];
    tables.apply(&Batch { acked, ..Batch::default() }, horizon, u64::MAX).expect("written");
    assert!(!tables.books.waste && tables.shrink().expect("shrunk") > 20 << 20);
    let size = fs::metadata(place.path()).expect("it is there").len();
    assert!(size < 1 << 20, "{size}");
    drop(tables);
    let (tables, recovered) = connection.open(&bounds(), &Default::default()).expect("it opens");
    assert_eq!((recovered.sessions[0].1.entries, tables.books.bytes), (1, 4000 + 11 + 48));
}

fn bounds() -> super::super::tables::Bounds {
    super::super::tables::Bounds {
        bytes: u64::MAX,
        age: Duration::MAX,
        per_client: u64::MAX,
        when_full: WhenFull::DropOldest,
        queues: [].into(),
    }
}
