mod damage;
mod layout;
mod room;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::clock::Timestamp;
use crate::message::Properties;
use crate::status::State;
use crate::units::{Period, Size};

const QUEUE: QueueId = QueueId(1);

/// A folder with a store in it.
struct Place {
    folder: TempDir,
    config: Config,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = Config { path: folder.path().join("deep/store.db"), ..Config::default() };
        Self { folder, config }
    }

    fn path(&self) -> &Path {
        &self.config.path
    }

    fn open(&self) -> (Store, Recovered) {
        Store::open(&self.config).expect("the store opens")
    }

    fn aside(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("deep")).expect("the folder is there");
        let mut found: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        found.retain(|path| path.to_string_lossy().contains(".damaged-") && !path.to_string_lossy().ends_with("-wal"));
        found
    }
}

fn session(queue: QueueId, client_id: &str) -> Session {
    Session {
        client_id: client_id.into(),
        queue,
        user: None,
        expiry: 60,
        left: None,
        sent: 0,
        subscriptions: Vec::new(),
    }
}

fn append(id: u64, payload: &[u8], queues: &[QueueId]) -> Append {
    let message = Arc::new(Message::new("plant/level", payload.to_vec()));
    let delivery = Delivery {
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: Vec::new(),
        seq: id,
        class: NO_CLASS,
        share: None,
    };
    Append { id: EntryId(id), message, queues: queues.iter().map(|queue| (*queue, delivery.clone())).collect() }
}

/// A session with `ids` in its queue, each with its own number as payload.
fn filled(ids: std::ops::RangeInclusive<u64>) -> Batch {
    let appends = ids.map(|id| append(id, id.to_string().as_bytes(), &[QUEUE])).collect();
    Batch { sessions: vec![session(QUEUE, "a")], appends, ..Batch::default() }
}

fn commit(store: &mut Store, batch: Batch) -> (Vec<(QueueId, Lost)>, bool) {
    store.commit(batch);
    match store.events().blocking_recv() {
        Some(Event::Committed { dropped, full }) => (dropped, !full.is_empty()),
        other => panic!("{other:?} instead of a commit"),
    }
}

fn load(store: &mut Store, queue: QueueId, after: u64, limit: usize, max_bytes: usize) -> (Vec<Entry>, bool) {
    store.load(queue, EntryId(after), limit, max_bytes);
    match store.events().blocking_recv() {
        Some(Event::Loaded { queue: of, entries, complete }) if of == queue => (entries, complete),
        other => panic!("{other:?} instead of a load"),
    }
}

fn ids(store: &mut Store, queue: QueueId) -> Vec<u64> {
    let (entries, complete) = load(store, queue, 0, usize::MAX, usize::MAX);
    assert!(complete);
    entries.iter().map(|entry| entry.id.0).collect()
}

fn wait_for(store: &Store, what: impl FnMut(&crate::status::Store) -> bool) -> crate::status::Store {
    let mut status = store.status();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async { status.wait_for(what).await.expect("the store lives").clone() })
}

#[test]
fn keeps_everything_of_a_message_and_its_delivery() {
    let place = Place::new();
    let (mut store, recovered) = place.open();
    assert!(recovered.sessions.is_empty() && recovered.retained.is_empty());
    let message = Message {
        topic: "πlant/level".into(),
        payload: vec![0, 255, 10].into(),
        qos: QoS::ExactlyOnce,
        retain: true,
        at: Moment::from(Timestamp::now()),
        timed: true,
        properties: Some(Box::new(Properties {
            expiry: Some(9),
            user: vec![("k".into(), "v".into()), ("k".into(), "w".into())],
            ..Properties::default()
        })),
    };
    let delivery = Delivery {
        qos: QoS::AtLeastOnce,
        retain: true,
        subscription_ids: vec![3, 70_000],
        seq: 7,
        class: NO_CLASS,
        share: None,
    };
    let mut kept = session(QUEUE, "a");
    kept.left = Some(message.at);
    kept.subscriptions =
        vec![Subscription { filter: "πlant/#".into(), options: SubscribeOptions::default(), id: Some(3) }];
    let appends =
        vec![Append { id: EntryId(5), message: Arc::new(message.clone()), queues: vec![(QUEUE, delivery.clone())] }];
    commit(
        &mut store,
        Batch { sessions: vec![kept.clone()], appends, retained: vec![Arc::new(message.clone())], ..Batch::default() },
    );
    assert!(store.close());

    let (mut store, recovered) = place.open();
    assert_eq!(recovered.sessions, [(kept, Depth { entries: 1, oldest: Some(message.at), first: 7, last: 7 })]);
    assert_eq!(recovered.retained, [Arc::new(message.clone())]);
    let (entries, _) = load(&mut store, QUEUE, 0, 10, 1000);
    assert_eq!((entries[0].id, &*entries[0].message, &entries[0].delivery), (EntryId(5), &message, &delivery));
}

#[test]
fn pages_by_number_and_by_bytes() {
    let place = Place::new();
    let (mut store, _) = place.open();
    commit(&mut store, filled(1..=10));
    let page = |store: &mut Store, after, limit, bytes| {
        let (entries, complete) = load(store, QUEUE, after, limit, bytes);
        (entries.iter().map(|entry| entry.id.0).collect::<Vec<_>>(), complete)
    };
    assert_eq!(page(&mut store, 0, 4, 1000), (vec![1, 2, 3, 4], false));
    assert_eq!(page(&mut store, 4, 6, 1000), (vec![5, 6, 7, 8, 9, 10], true));
    assert_eq!(page(&mut store, 10, 6, 1000), (vec![], true));
    let size = "plant/level".len() + 1;
    assert_eq!(page(&mut store, 0, 100, 3 * size), (vec![1, 2, 3], false));
    assert_eq!(page(&mut store, 0, 100, 1), (vec![1], false));
    assert_eq!(page(&mut store, 9, 100, 1), (vec![10], true));
}

#[test]
fn acknowledged_entries_go_and_their_ids_never_come_back() {
    let place = Place::new();
    let (mut store, _) = place.open();
    commit(&mut store, filled(1..=2500));
    let acked = vec![(QUEUE, EntryId(2400))];
    let acked_single = vec![(QUEUE, EntryId(2450)), (QUEUE, EntryId(2452))];
    commit(&mut store, Batch { acked, acked_single, ..Batch::default() });
    let left = ids(&mut store, QUEUE);
    assert_eq!((left.len(), left[0]), (98, 2401));
    assert!(!left.contains(&2450) && left.contains(&2451) && !left.contains(&2452));
    assert_eq!(wait_for(&store, |s| s.commits == 2).entries, 98);
    // Ids that were acknowledged in memory and never written count as well.
    commit(&mut store, Batch { acked: vec![(QUEUE, EntryId(9000))], ..Batch::default() });
    let status = wait_for(&store, |s| s.commits == 3);
    assert_eq!((status.entries, status.bytes, status.oldest), (0, 0, None));
    store.close();
    let (_, recovered) = place.open();
    assert_eq!(recovered.next_id, EntryId(9001));
    assert_eq!(recovered.sessions[0].1, Depth::default());
}

#[test]
fn an_acknowledgement_costs_no_older_entries_that_are_still_to_come() {
    let place = Place::new();
    let (mut store, _) = place.open();
    // One entry was given up in RAM while it was on its way to a reader, who acknowledges it before the older ones.
    let acked_single = vec![(QUEUE, EntryId(9))];
    let (dropped, _) = commit(&mut store, Batch { acked_single, ..filled(1..=3) });
    assert_eq!((dropped, ids(&mut store, QUEUE)), (vec![], vec![1, 2, 3]));
    let crafted = rusqlite::Connection::open(place.path()).expect("a database");
    crafted.execute_batch("UPDATE message SET topic = x'00' WHERE id = 2").expect("changed");
    drop(crafted);
    assert_eq!(ids(&mut store, QUEUE), [1, 3], "a store that was repaired on the way goes on in the same way");
    let (dropped, _) = commit(&mut store, filled(4..=8));
    assert_eq!((dropped, ids(&mut store, QUEUE)), (vec![], vec![1, 3, 4, 5, 6, 7, 8]));
    // What came once is not to come again.
    let (dropped, _) = commit(&mut store, filled(8..=8));
    assert_eq!((dropped[0].1.cause, ids(&mut store, QUEUE).len()), (Cause::Ended, 7));
    store.close();
    assert_eq!(place.open().1.next_id, EntryId(10));
}

#[test]
fn a_message_stays_until_its_last_queue_is_done() {
    let place = Place::new();
    let (mut store, _) = place.open();
    let other = QueueId(2);
    let sessions = vec![session(QUEUE, "a"), session(other, "b")];
    let both = [QUEUE, other];
    let appends = (1..=5).map(|id| append(id, b"x", if id == 3 { &both[..1] } else { &both })).collect();
    commit(&mut store, Batch { sessions, appends, ..Batch::default() });
    let all = wait_for(&store, |s| s.commits == 1);
    assert_eq!(all.entries, 9);
    commit(&mut store, Batch { acked: vec![(QUEUE, EntryId(5))], ..Batch::default() });
    assert_eq!(ids(&mut store, other), [1, 2, 4, 5]);
    assert_eq!(wait_for(&store, |s| s.commits == 2).bytes, all.bytes / 5 * 4);
    commit(&mut store, Batch { ended: vec![other], ..Batch::default() });
    assert_eq!(wait_for(&store, |s| s.commits == 3).bytes, 0);
    store.close();
    let (_, recovered) = place.open();
    assert_eq!((recovered.sessions.len(), recovered.next_queue), (1, 3));
}

#[test]
fn sessions_change_in_place_and_a_new_one_of_the_same_client_ends_the_old() {
    let place = Place::new();
    let (mut store, _) = place.open();
    commit(&mut store, filled(1..=3));
    let mut changed = session(QUEUE, "a");
    changed.expiry = 7;
    commit(&mut store, Batch { sessions: vec![changed], ..Batch::default() });
    assert_eq!(ids(&mut store, QUEUE), [1, 2, 3]);
    let sessions = vec![session(QueueId(8), "a")];
    commit(&mut store, Batch { sessions, ended: vec![QUEUE], ..Batch::default() });
    assert_eq!(ids(&mut store, QUEUE), [0; 0]);
    // Nobody reads a queue without a session; what was meant for one is not lost in silence.
    let (dropped, _) = commit(&mut store, Batch { appends: vec![append(4, b"x", &[QUEUE])], ..Batch::default() });
    assert_eq!(dropped, [(QUEUE, Lost { cause: Cause::Ended, class: NO_CLASS, entries: 1, until: EntryId(4) })]);
    let status = wait_for(&store, |s| s.commits == 4);
    assert_eq!((status.bytes, status.dropped), (0, 1));
    store.close();
    let (_, recovered) = place.open();
    let clients: Vec<_> = recovered.sessions.iter().map(|(s, depth)| (s.queue.0, s.expiry, depth.entries)).collect();
    assert_eq!((clients, recovered.next_queue, recovered.next_id), (vec![(8, 60, 0)], 9, EntryId(5)));
}

#[test]
fn a_session_ends_and_one_of_the_same_client_begins_with_entries_in_one_batch() {
    let place = Place::new();
    let (mut store, _) = place.open();
    commit(&mut store, filled(1..=3));
    let new = QueueId(2);
    let (ended, sessions) = (vec![QUEUE], vec![session(new, "a")]);
    let appends = vec![append(4, b"x", &[new])];
    assert_eq!(commit(&mut store, Batch { ended, sessions, appends, ..Batch::default() }), (vec![], false));
    assert_eq!((ids(&mut store, QUEUE), ids(&mut store, new)), (vec![], vec![4]));
    store.close();
    let (_, recovered) = place.open();
    let sessions: Vec<_> = recovered.sessions.iter().map(|(s, depth)| (s.queue, depth.entries)).collect();
    assert_eq!(sessions, [(new, 1)]);
}

#[test]
fn retained_messages_are_set_and_cleared() {
    let place = Place::new();
    let (mut store, _) = place.open();
    let set = |topic: &str, payload: &str| Arc::new(Message::retained(topic, payload.to_owned()));
    commit(&mut store, Batch { retained: vec![set("a", "1"), set("b", "1"), set("a", "2")], ..Batch::default() });
    commit(&mut store, Batch { retained: vec![set("b", ""), set("c", "")], ..Batch::default() });
    store.close();
    let (_, recovered) = place.open();
    assert_eq!(recovered.retained.len(), 1);
    assert_eq!((&*recovered.retained[0].topic, &recovered.retained[0].payload[..]), ("a", &b"2"[..]));
    assert!(recovered.retained[0].retain);
}

#[test]
fn what_is_too_old_goes_but_a_clock_that_is_set_after_the_start_makes_nothing_old() {
    let mut place = Place::new();
    let day = Duration::from_secs(24 * 3600);
    place.config.max_age = Period(day);
    let (mut store, _) = place.open();
    let aged = |id, at| {
        let mut append = append(id, b"x", &[QUEUE]);
        append.message = Arc::new(Message { at, ..(*append.message).clone() });
        append
    };
    let now = Moment::now();
    // Of an earlier start of the computer; and of this one, by a clock that was days behind.
    let earlier = |days| Moment { uptime: None, ..now.before(day * days) };
    let behind = |wall| Moment { wall, trusted: false, ..now };
    let appends = vec![aged(1, earlier(31)), aged(2, earlier(2)), aged(3, behind(Timestamp(1000)))];
    let (dropped, _) = commit(&mut store, Batch { sessions: vec![session(QUEUE, "a")], appends, ..Batch::default() });
    assert_eq!(dropped, [(QUEUE, Lost { cause: Cause::Age, class: 0, entries: 2, until: EntryId(2) })]);
    commit(&mut store, Batch { appends: vec![aged(4, behind(now.before(day * 40).wall))], ..Batch::default() });
    assert_eq!(ids(&mut store, QUEUE), [3, 4]);
    store.close();
    // A restart of the gateway is none of the computer.
    let (mut store, _) = place.open();
    assert_eq!(commit(&mut store, Batch { appends: vec![aged(5, now)], ..Batch::default() }).0, []);
    assert_eq!(ids(&mut store, QUEUE), [3, 4, 5]);
}

#[test]
fn the_file_is_for_its_owner_only_and_for_one_process() {
    let place = Place::new();
    let (store, _) = place.open();
    let mode = fs::metadata(place.path()).expect("the file is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let refused = Store::open(&place.config).expect_err("a second owner");
    assert!(matches!(refused, OpenError::Locked { .. }));
    assert!(refused.to_string().contains("in use by another fieldpost"), "{refused}");
    store.close();
    place.open();
}

#[test]
fn nothing_is_kept_in_memory_and_no_file_is_made() {
    let config = Config { path: ":memory:".into(), ..Config::default() };
    let (mut store, _) = Store::open(&config).expect("it opens");
    commit(&mut store, filled(1..=3));
    assert_eq!(ids(&mut store, QUEUE), [1, 2, 3]);
    assert!(store.close());
    assert!(!Path::new(":memory:").exists());
}

#[test]
fn a_full_disk_loses_nothing_and_the_store_recovers_by_itself() {
    let place = Place::new();
    let (mut store, _) = place.open();
    commit(&mut store, filled(1..=3));
    store.limit_pages(1);
    store.commit(Batch { appends: vec![append(4, &[7; 100_000], &[QUEUE])], ..Batch::default() });
    store.commit(Batch { acked: vec![(QUEUE, EntryId(1))], ..Batch::default() });
    let status = wait_for(&store, |s| s.state != State::Up);
    assert!(matches!(&status.state, State::Down(why) if why.contains("disk full")), "{:?}", status.state);
    assert_eq!((status.commits, status.entries), (1, 3));
    // What is on the disk can still be read.
    assert_eq!(ids(&mut store, QUEUE), [1, 2, 3]);
    store.limit_pages(1 << 20);
    assert!(matches!(store.events().blocking_recv(), Some(Event::Committed { .. })));
    assert!(matches!(store.events().blocking_recv(), Some(Event::Committed { .. })));
    wait_for(&store, |s| s.state == State::Up);
    assert_eq!(ids(&mut store, QUEUE), [2, 3, 4]);
}

#[test]
fn a_disk_that_does_not_answer_is_reported_until_it_does() {
    let place = Place::new();
    let patience = Duration::from_millis(50);
    let (mut store, _) = Store::open_patient(&place.config, patience).expect("the store opens");
    commit(&mut store, filled(1..=3));
    wait_for(&store, |s| s.state == State::Up);
    store.wait_for_lock(Duration::from_secs(60));
    let hang = rusqlite::Connection::open(place.path()).expect("a database");
    hang.execute_batch("BEGIN IMMEDIATE").expect("locked");
    store.commit(Batch { appends: vec![append(4, b"x", &[QUEUE])], ..Batch::default() });
    let status = wait_for(&store, |s| s.state != State::Up);
    assert_eq!((status.state, status.commits), (State::Down("the disk does not answer".into()), 1));
    hang.execute_batch("ROLLBACK").expect("unlocked");
    wait_for(&store, |s| s.state == State::Up && s.commits == 2);
    assert!(matches!(store.events().blocking_recv(), Some(Event::Committed { .. })));
}

#[test]
fn what_is_committed_survives_kill() {
    // It starts itself as the process that is killed.
    if let Some(path) = std::env::var_os("STORE_UNDER_TEST") {
        return commit_for_ever(path.as_ref());
    }
    let place = Place::new();
    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "--nocapture", "store::tests::what_is_committed_survives_kill"])
            .env("STORE_UNDER_TEST", place.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut committed = 0;
        for line in lines {
            if let Some(id) = line.expect("text").strip_prefix("committed ") {
                committed = id.parse().expect("a number");
                if committed % 100 >= 40 {
                    child.kill().expect("it is running");
                    break;
                }
            }
        }
        child.wait().expect("it ended");
        assert!(committed > 0);
        let (mut store, recovered) = place.open();
        let kept = ids(&mut store, QUEUE);
        assert!(kept.iter().copied().eq(1..=kept.len() as u64), "{kept:?}");
        assert!(kept.len() as u64 >= committed, "{} of {committed}", kept.len());
        assert_eq!(recovered.sessions[0].1.entries, kept.len() as u64);
        assert_eq!(recovered.next_id, EntryId(kept.len() as u64 + 1));
        store.close();
    }
}

/// One by one, until somebody ends it.
fn commit_for_ever(path: &Path) {
    let config = Config { path: path.into(), ..Config::default() };
    let (mut store, recovered) = Store::open(&config).expect("the store opens");
    for id in recovered.next_id.0.. {
        commit(&mut store, filled(id..=id));
        println!("committed {id}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_store_of_the_first_schema_is_taken_over_with_its_queue() {
    let place = Place::new();
    fs::create_dir(place.path().parent().expect("a folder")).expect("made");
    let old = rusqlite::Connection::open(place.path()).expect("a database");
    old.execute_batch(include_str!("../../migrations/0001-queues-sessions-retained.sql")).expect("the first schema");
    old.execute_batch(
        "PRAGMA user_version = 1;
         INSERT INTO meta VALUES ('next-id', 70008), ('next-queue', 2), ('bytes', 200);
         INSERT INTO session VALUES (1, 'a', 60, NULL, '[]', 2);
         INSERT INTO message VALUES (70002, 't', x'61', 1, 0, 0, NULL), (70007, 't', x'62', 1, 0, 0, NULL);
         INSERT INTO entry VALUES (1, 70002, 1, 0, NULL), (1, 70007, 1, 0, NULL);",
    )
    .expect("filled");
    drop(old);
    let (mut store, recovered) = place.open();
    let (session, depth) = &recovered.sessions[0];
    assert_eq!((&*session.client_id, depth.entries, depth.first, depth.last), ("a", 2, 70_002, 70_007));
    assert_eq!(ids(&mut store, QUEUE), [70_002, 70_007]);
    commit(&mut store, filled(70_008..=70_008));
    assert_eq!(ids(&mut store, QUEUE), [70_002, 70_007, 70_008]);
}
