//! Files that are not as this program wrote them.

use super::*;

#[test]
fn a_running_store_that_loses_its_sessions_to_damage_gets_them_back() {
    let place = Place::new();
    let (mut store, _) = place.open();
    commit(&mut store, filled(1..=3));
    let other = QueueId(2);
    commit(&mut store, Batch { sessions: vec![session(other, "b")], ..Batch::default() });
    commit(&mut store, Batch { sessions: vec![session(QueueId(3), "c")], ..Batch::default() });
    commit(&mut store, Batch { ended: vec![QueueId(3)], ..Batch::default() });
    let crafted = rusqlite::Connection::open(place.path()).expect("a database");
    let damage = "DELETE FROM session; DELETE FROM meta; INSERT INTO session VALUES (3, 'c', 1, 1, '[]', NULL, 0, NULL); \
                  UPDATE message SET topic = x'00' WHERE id = 2";
    crafted.execute_batch(damage).expect("changed");
    drop(crafted);
    // It is noticed where it is read.
    assert_eq!(ids(&mut store, QUEUE), [1, 3]);
    assert_eq!(place.aside().len(), 1);
    let appends = vec![append(4, b"x", &[QUEUE, other])];
    assert_eq!(commit(&mut store, Batch { appends, ..Batch::default() }), (vec![], false));
    assert_eq!((ids(&mut store, QUEUE), ids(&mut store, other)), (vec![1, 3, 4], vec![4]));
    store.close();
    let (_, recovered) = place.open();
    let sessions: Vec<_> = recovered.sessions.iter().map(|(s, depth)| (s.queue, depth.entries)).collect();
    assert_eq!((sessions, recovered.next_queue), (vec![(QUEUE, 3), (other, 1)], 4));
}

#[test]
fn a_file_that_is_no_database_is_moved_aside() {
    let place = Place::new();
    fs::create_dir_all(place.path().parent().expect("a folder")).expect("a folder");
    fs::write(place.path(), "not a database at all, but some text that somebody may want back").expect("written");
    let (mut store, recovered) = place.open();
    assert!(recovered.sessions.is_empty());
    commit(&mut store, filled(1..=3));
    let aside = place.aside();
    assert_eq!(aside.len(), 1);
    assert!(fs::read_to_string(&aside[0]).expect("kept").starts_with("not a database"));
}

#[test]
fn the_database_of_another_program_and_of_a_later_version_are_left_alone() {
    let place = Place::new();
    fs::create_dir_all(place.path().parent().expect("a folder")).expect("a folder");
    let other = rusqlite::Connection::open(place.path()).expect("a database");
    other.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").expect("a table");
    drop(other);
    let refused = Store::open(&place.config).expect_err("not ours");
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");

    fs::remove_file(place.path()).expect("removed");
    place.open().0.close();
    let later = rusqlite::Connection::open(place.path()).expect("a database");
    later.pragma_update(None, "user_version", 99).expect("set");
    drop(later);
    let refused = Store::open(&place.config).expect_err("too new");
    assert!(matches!(refused, OpenError::Newer { found: 99, .. }), "{refused}");
    assert!(refused.to_string().contains("newer fieldpost"), "{refused}");
    assert!(place.aside().is_empty());
}

#[test]
fn a_damaged_store_stays_in_its_place_until_the_new_one_is_complete() {
    let place = Place::new();
    fs::create_dir_all(place.path().parent().expect("a folder")).expect("a folder");
    fs::write(place.path(), "damaged, but somebody's backlog").expect("written");
    // The new one cannot be made: as on a full disk.
    let in_the_way = place.path().with_file_name("store.db.new");
    fs::create_dir(&in_the_way).expect("a folder");
    let refused = Store::open(&place.config).expect_err("it cannot be repaired");
    assert!(refused.to_string().contains("cannot open the store"), "{refused}");
    assert!(fs::read_to_string(place.path()).expect("still there").starts_with("damaged"));
    assert!(place.aside().is_empty());
    fs::remove_dir(&in_the_way).expect("removed");
    place.open();
    assert_eq!(place.aside().len(), 1);
}

#[test]
fn a_repair_that_was_cut_off_is_finished_at_the_next_start() {
    let place = Place::new();
    let (mut store, _) = place.open();
    commit(&mut store, filled(1..=3));
    store.close();
    fs::rename(place.path(), place.path().with_file_name("store.db.salvaged")).expect("renamed");
    fs::write(place.path(), "the damaged one, not moved yet").expect("written");
    let (mut store, _) = place.open();
    assert_eq!(ids(&mut store, QUEUE), [1, 2, 3]);
    assert_eq!(place.aside().len(), 1);
}

#[test]
fn numbers_that_no_fieldpost_wrote_cost_their_rows_and_not_the_store() {
    let none = [0_u64; 0];
    for (what, left) in [
        ("UPDATE session SET queue = 1099511627776", &none[..]),
        ("UPDATE session SET queue = 4294967295", &none[..]),
        ("INSERT INTO session VALUES (4294967296, 'b', 1, 1, '[]', NULL, 0, NULL)", &[1, 2, 3]),
        ("INSERT INTO session VALUES (7, 'b', -1, 1, '[]', NULL, 0, NULL)", &[1, 2, 3]),
        ("INSERT INTO handshake VALUES (1, 1, 70000)", &[1, 2, 3]),
        ("UPDATE run SET list = x'00'", &none[..]),
        ("UPDATE run SET entries = 7", &none[..]),
        ("UPDATE run SET last = 2", &none[..]),
        ("INSERT INTO will VALUES ('c', 't', x'00', 1, 0, 0, NULL, -1, NULL, NULL)", &[1, 2, 3]),
        ("UPDATE session SET client_id = x'ff'", &none[..]),
        ("UPDATE message SET id = 9223372036854775807 WHERE id = 3", &[1, 2]),
        ("UPDATE meta SET value = 9223372036854775807", &[1, 2, 3]),
        ("UPDATE meta SET value = -1", &[1, 2, 3]),
        ("INSERT INTO message (id, topic, payload, qos, retain, at) VALUES (-9, 't', x'00', 1, 0, 1)", &[1, 2, 3]),
        ("INSERT INTO waste VALUES (5, 9223372036854775807)", &[1, 2, 3]),
        ("INSERT INTO clock VALUES (9223372036854775807, 'b', 0, 1)", &[1, 2, 3]),
        ("UPDATE message SET topic = x'00' WHERE id = 2", &[1, 3]),
        ("INSERT INTO retained VALUES ('r', x'00', 4096, 0, NULL, NULL, 0)", &[1, 2, 3]),
    ] {
        let place = Place::new();
        let (mut store, _) = place.open();
        commit(&mut store, filled(1..=3));
        store.close();
        let crafted = rusqlite::Connection::open(place.path()).expect("a database");
        crafted.execute(what, []).expect(what);
        drop(crafted);
        let (mut store, recovered) = place.open();
        let next = (recovered.next_id.0, recovered.next_queue);
        assert!((1..1 << 62).contains(&next.0) && (1..1 << 31).contains(&next.1), "{what}: {next:?}");
        let had: &[u64] = if recovered.sessions.is_empty() { &[] } else { &ids(&mut store, QUEUE) };
        assert_eq!(had, left, "{what}");
        assert_eq!(place.aside().len(), 1, "{what}");
        commit(&mut store, filled(10..=10));
        wait_for(&store, |s| s.state == State::Up);
        assert!(ids(&mut store, QUEUE).contains(&10), "{what}");
    }
}

#[test]
fn a_repaired_store_goes_on_with_its_ids_though_nothing_is_in_it() {
    let place = Place::new();
    let (mut store, _) = place.open();
    commit(&mut store, filled(1..=3));
    commit(&mut store, Batch { acked: vec![(QUEUE, EntryId(3))], ..Batch::default() });
    store.close();
    let crafted = rusqlite::Connection::open(place.path()).expect("a database");
    crafted.execute("INSERT INTO waste VALUES (5, 9223372036854775807)", []).expect("inserted");
    drop(crafted);
    let (_store, recovered) = place.open();
    assert_eq!((recovered.next_id, place.aside().len()), (EntryId(4), 1));
}

#[test]
fn a_session_whose_subscriptions_cannot_be_read_keeps_its_queue() {
    let place = Place::new();
    let (mut store, _) = place.open();
    commit(&mut store, filled(1..=3));
    store.close();
    let crafted = rusqlite::Connection::open(place.path()).expect("a database");
    crafted.execute("UPDATE session SET subscriptions = '[{'", []).expect("changed");
    drop(crafted);
    let (mut store, recovered) = place.open();
    assert!(recovered.sessions[0].0.subscriptions.is_empty());
    assert_eq!(ids(&mut store, QUEUE), [1, 2, 3]);
}

/// Overwrites a third of the pages in the middle of the store.
fn damage(path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("the file opens");
    let pages = file.metadata().expect("its size").len() / 4096;
    assert!(pages > 100, "{pages}");
    for page in pages / 3..2 * pages / 3 {
        file.write_all_at(&[0xA5; 4096], page * 4096).expect("overwritten");
    }
}

#[test]
fn what_can_be_read_of_a_damaged_store_is_carried_over() {
    let place = Place::new();
    let (mut store, _) = place.open();
    let mut batch = filled(1..=4000);
    batch.appends.iter_mut().for_each(|a| {
        a.message = Arc::new(Message::new("plant/level", [&a.message.payload[..], &[b' '; 300]].concat()));
    });
    commit(&mut store, batch);
    store.close();
    damage(place.path());

    // The damage is not seen before its place is read: in the running store.
    let (mut store, _) = place.open();
    let (entries, complete) = load(&mut store, QUEUE, 0, usize::MAX, usize::MAX);
    assert!(complete);
    let left: Vec<u64> = entries.iter().map(|entry| entry.id.0).collect();
    assert!(left.len() > 1000 && left.len() < 4000, "{}", left.len());
    assert!(left.is_sorted());
    for entry in &entries {
        assert!(entry.message.payload.starts_with(format!("{} ", entry.id.0).as_bytes()));
    }
    assert_eq!(place.aside().len(), 1);
    commit(&mut store, Batch { appends: vec![append(4001, b"x", &[QUEUE])], ..Batch::default() });
    assert_eq!(wait_for(&store, |s| s.state == State::Up).entries, left.len() as u64 + 1);
    store.close();
    let (_, recovered) = place.open();
    assert_eq!((recovered.next_id, recovered.sessions[0].1.entries), (EntryId(4002), left.len() as u64 + 1));
}
