//! The router, fed with events: no socket, no disk, no time but what is said.

mod exactly_once;
mod fuzz;
mod lasting;
mod leaks;
mod limits;
mod owed;
mod replay;
mod shares;

use std::collections::HashMap;
use std::num::NonZeroU16;

use super::*;
use crate::clock::Timestamp;
use crate::mqtt::{Ack, ConnAck, Connect, Publish, RetainHandling, Subscribe, SubscribeOptions, Version, Will};
use crate::store::{Delivery, Depth, Entry, Handshake, NO_CLASS};

const LIMITS: Limits = Limits {
    commit: Duration::from_millis(200),
    window: 10,
    receive_maximum: NonZeroU16::MAX,
    queue: Bound { entries: 5, bytes: 1 << 20 },
    total: 64 << 20,
    queue_full: QueueFull::DropNewest,
    tail: 10_000,
    outstanding: 100_000,
    max_packet: 1 << 20,
    sessions: 10,
    subscriptions: 20,
    retained: 8,
    retained_bytes: 64 << 20,
};

/// A router, and a disk that holds what was committed.
struct World {
    router: Router,
    now: Now,
    effects: Effects,
    closed: Vec<LinkId>,
    committing: Option<Batch>,
    disk: Vec<(QueueId, Entry)>,
    sessions: HashMap<QueueId, store::Session>,
    handshakes: BTreeSet<(QueueId, Handshake)>,
    wills: BTreeMap<Arc<str>, store::Will>,
    next_id: EntryId,
}

impl World {
    fn new() -> Self {
        Self::recovered(Recovered::default(), Access::default())
    }

    fn recovered(recovered: Recovered, access: Access) -> Self {
        Self::at(Now { instant: Instant::now(), wall: Timestamp(1_000_000).into() }, recovered, access)
    }

    fn at(now: Now, recovered: Recovered, access: Access) -> Self {
        Self {
            router: Router::new(LIMITS, Arc::new(access), recovered, now),
            now,
            effects: Effects::default(),
            closed: Vec::new(),
            committing: None,
            disk: Vec::new(),
            sessions: HashMap::new(),
            handshakes: BTreeSet::new(),
            wills: BTreeMap::new(),
            next_id: EntryId(1),
        }
    }

    /// The gateway ends without a word and starts again, with what is on the disk.
    fn crash(self) -> Self {
        let sessions = self.sessions.iter().map(|(queue, session)| {
            let seqs: Vec<_> = self.disk.iter().filter(|(q, _)| q == queue).map(|(_, e)| e.delivery.seq).collect();
            let (first, last) = (seqs.first().copied().unwrap_or(0), seqs.last().copied().unwrap_or(0));
            (session.clone(), Depth { entries: seqs.len() as u64, oldest: None, first, last })
        });
        let recovered = Recovered {
            next_id: self.next_id,
            next_queue: 1,
            sessions: sessions.collect(),
            retained: Vec::new(),
            handshakes: self.handshakes.iter().copied().collect(),
            wills: self.wills.clone().into_iter().collect(),
            clock: None,
        };
        let Self { disk, sessions, handshakes, wills, next_id, now, .. } = self;
        let mut again = Self::at(now, recovered, Access::default());
        (again.disk, again.sessions, again.handshakes, again.wills) = (disk, sessions, handshakes, wills);
        again.next_id = next_id;
        again.apply(Event::Tick);
        again
    }

    fn apply(&mut self, event: Event) {
        self.router.apply(event, self.now, &mut self.effects);
        self.router.hurry(self.now, &mut self.effects);
        self.closed.append(&mut self.effects.close);
        if let Some(batch) = self.effects.commit.take() {
            assert!(self.committing.replace(batch).is_none(), "one batch at a time");
        }
        for (queue, after) in std::mem::take(&mut self.effects.loads) {
            let of_queue = self.disk.iter().filter(|(q, e)| *q == queue && e.id > after);
            let entries: Vec<_> = of_queue.map(|(_, e)| e.clone()).take(3).collect();
            let more = self.disk.iter().any(|(q, e)| *q == queue && Some(e.id) > entries.last().map(|e| e.id));
            let complete = entries.is_empty() || !more;
            self.apply(Event::Store(store::Event::Loaded { queue, entries, complete }));
        }
    }

    /// Lets time pass and hands the due batch to the disk, without finishing it.
    fn window(&mut self) {
        self.now.instant += LIMITS.commit;
        self.now.wall.wall.0 += 200;
        self.apply(Event::Tick);
    }

    /// The disk is done.
    fn committed(&mut self) {
        let Some(batch) = self.committing.take() else { return };
        for queue in batch.ended {
            self.sessions.remove(&queue);
            self.disk.retain(|(q, _)| *q != queue);
            self.handshakes.retain(|(q, _)| *q != queue);
        }
        self.sessions.extend(batch.sessions.into_iter().map(|s| (s.queue, s)));
        for append in batch.appends {
            self.next_id = EntryId(append.id.0 + 1);
            for (queue, delivery) in append.queues {
                self.disk.push((queue, Entry { id: append.id, message: append.message.clone(), delivery }));
            }
        }
        for (queue, until) in batch.acked {
            self.disk.retain(|(q, e)| *q != queue || e.id > until);
        }
        for single in batch.acked_single {
            self.disk.retain(|(q, e)| (*q, e.id) != single);
        }
        for (queue, handshake, begins) in batch.handshakes {
            let rows = &mut self.handshakes;
            if begins {
                rows.insert((queue, handshake))
            } else {
                rows.remove(&(queue, handshake))
            };
        }
        for (client_id, will) in batch.wills {
            match will {
                Some(will) => self.wills.insert(client_id, will),
                None => self.wills.remove(&client_id),
            };
        }
        self.apply(Event::Store(store::Event::Committed { dropped: Vec::new(), full: Vec::new() }));
    }

    fn commit(&mut self) {
        self.window();
        self.committed();
    }

    fn packet(&mut self, link: u64, packet: Packet) {
        self.apply(Event::Packet { link: LinkId(link), packet });
    }

    fn sent(&mut self, link: u64) -> Vec<Packet> {
        self.effects.packets.remove(&LinkId(link)).unwrap_or_default()
    }

    fn open(&mut self, link: u64, connect: Connect) -> ConnAck {
        self.apply(Event::Opened { link: LinkId(link), own: None });
        self.packet(link, Packet::Connect(Box::new(connect)));
        let mut packets = self.sent(link);
        let Packet::ConnAck(ack) = packets.remove(0) else { panic!("{packets:?}") };
        self.effects.packets.insert(LinkId(link), packets);
        *ack
    }

    /// Publishes at QoS 1 with the id, and returns what came back at once.
    fn publish(&mut self, link: u64, id: u16, topic: &str) -> Vec<Packet> {
        self.packet(link, publish(Some(id), QoS::AtLeastOnce, topic));
        self.sent(link)
    }

    fn subscribe(&mut self, link: u64, filter: &str, qos: QoS) {
        self.subscribe_with(link, filter, SubscribeOptions { qos, ..SubscribeOptions::default() }, None);
    }

    fn subscribe_with(&mut self, link: u64, filter: &str, options: SubscribeOptions, id: Option<u32>) {
        let filters = vec![(filter.into(), options)];
        self.packet(link, Packet::Subscribe(Box::new(Subscribe { id: pid(1), filters, subscription_id: id })));
        let packets = self.effects.packets.get_mut(&LinkId(link)).unwrap();
        let Packet::SubAck { reasons, .. } = packets.remove(0) else { panic!("{packets:?}") };
        assert_eq!(reasons, [Reason(options.qos.into())]);
        // A new subscription of a kept session is written at once.
        self.committed();
    }

    fn gone(&mut self, link: u64) {
        self.apply(Event::Gone { link: LinkId(link) });
    }
}

fn pid(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn ok(id: u16) -> Ack {
    Ack::ok(pid(id))
}

fn connect(client_id: &str, expiry: u32) -> Connect {
    Connect { clean_start: false, expiry, ..Connect::new(Version::V5, client_id) }
}

fn publish(id: Option<u16>, qos: QoS, topic: &str) -> Packet {
    let message = Message { qos, at: Timestamp(1_000_000).into(), ..Message::new(topic, "x") };
    packet_of(id, message)
}

fn packet_of(id: Option<u16>, message: Message) -> Packet {
    Packet::Publish(Publish {
        id: id.map(pid),
        dup: false,
        qos: message.qos,
        retain: message.retain,
        message: Arc::new(message),
        topic_alias: None,
        subscription_ids: Vec::new(),
        place: None,
    })
}

/// Publishes as `topic/id/dup`.
fn publishes(packets: &[Packet]) -> Vec<String> {
    let show = |packet: &Packet| match packet {
        Packet::Publish(p) => {
            let id = p.id.map_or(0, PacketId::get);
            Some(format!("{}/{id}{}", p.message.topic, if p.dup { "/dup" } else { "" }))
        }
        _ => None,
    };
    packets.iter().filter_map(show).collect()
}

#[test]
fn an_acknowledgement_waits_until_the_message_is_on_disk() {
    let mut world = World::new();
    world.open(1, connect("reader", 60));
    world.subscribe(1, "t", QoS::AtLeastOnce);
    world.gone(1);
    world.open(2, connect("publisher", 0));
    assert_eq!(world.publish(2, 7, "t"), []);
    world.window();
    assert_eq!(world.sent(2), [], "being written is not written");
    world.committed();
    assert_eq!(world.sent(2), [Packet::PubAck(ok(7))]);
    assert_eq!(world.disk.len(), 1);
}

#[test]
fn an_acknowledgement_comes_at_once_when_the_reader_acknowledges_and_nothing_is_written() {
    let mut world = World::new();
    world.open(1, connect("reader", 60));
    world.subscribe(1, "t", QoS::AtLeastOnce);
    world.open(2, connect("publisher", 0));
    world.commit(); // the session itself
    assert_eq!(world.publish(2, 7, "t"), []);
    assert_eq!(publishes(&world.sent(1)), ["t/1"]);
    world.packet(1, Packet::PubAck(ok(1)));
    assert_eq!(world.sent(2), [Packet::PubAck(ok(7))]);
    world.window();
    assert!(world.committing.is_none());
}

#[test]
fn nobody_to_keep_it_for_means_acknowledged_at_once() {
    let mut world = World::new();
    world.open(2, connect("publisher", 0));
    let reason = Reason::NO_MATCHING_SUBSCRIBERS;
    assert_eq!(world.publish(2, 7, "t"), [Packet::PubAck(Ack { id: pid(7), reason })]);
    world.open(1, connect("live", 0));
    world.subscribe(1, "t", QoS::AtLeastOnce);
    assert_eq!(world.publish(2, 8, "t"), [Packet::PubAck(ok(8))]);
}

#[test]
fn a_session_goes_on_with_duplicates_in_order_and_then_what_came_meanwhile() {
    let mut world = World::new();
    world.open(1, connect("reader", 60));
    world.subscribe(1, "#", QoS::ExactlyOnce);
    world.open(2, connect("publisher", 0));
    for (id, topic) in [(1, "a"), (2, "b")] {
        world.publish(2, id, topic);
    }
    world.packet(2, publish(Some(3), QoS::ExactlyOnce, "c"));
    assert_eq!(publishes(&world.sent(1)), ["a/1", "b/2"], "the third waits for the disk");
    world.commit();
    assert_eq!(publishes(&world.sent(1)), ["c/3"]);
    world.packet(1, Packet::PubRec(ok(3)));
    assert_eq!(world.sent(1), [], "so does the next step");
    world.commit();
    assert_eq!(world.sent(1), [Packet::PubRel(ok(3))]);
    world.packet(1, Packet::PubAck(ok(1)));
    world.gone(1);
    world.publish(2, 4, "d");
    assert!(world.open(3, connect("reader", 60)).session_present);
    let sent = world.sent(3);
    assert_eq!(publishes(&sent), ["b/2/dup", "d/4"]);
    assert!(sent.contains(&Packet::PubRel(ok(3))));
}

#[test]
fn an_incoming_qos_2_message_is_routed_once() {
    let mut world = World::new();
    world.open(1, connect("reader", 0));
    world.subscribe(1, "t", QoS::AtMostOnce);
    world.open(2, connect("publisher", 0));
    world.packet(2, publish(Some(5), QoS::ExactlyOnce, "t"));
    world.packet(2, publish(Some(5), QoS::ExactlyOnce, "t"));
    assert_eq!(world.sent(2), [Packet::PubRec(ok(5)), Packet::PubRec(ok(5))]);
    assert_eq!(publishes(&world.sent(1)), ["t/0"]);
    world.packet(2, Packet::PubRel(ok(5)));
    world.packet(2, Packet::PubRel(ok(5)));
    let unknown = Ack { id: pid(5), reason: Reason::PACKET_ID_NOT_FOUND };
    assert_eq!(world.sent(2), [Packet::PubComp(ok(5)), Packet::PubComp(unknown)]);
}

#[test]
fn the_window_bounds_what_is_in_flight() {
    let mut world = World::new();
    world.open(1, Connect { receive_maximum: NonZeroU16::new(2).unwrap(), ..connect("reader", 0) });
    world.subscribe(1, "t", QoS::AtLeastOnce);
    world.open(2, connect("publisher", 0));
    for id in 1..=4 {
        world.publish(2, id, "t");
    }
    assert_eq!(publishes(&world.sent(1)), ["t/1", "t/2"]);
    world.packet(1, Packet::PubAck(ok(2)));
    assert_eq!(publishes(&world.sent(1)), ["t/3"]);
}

#[test]
fn a_long_queue_goes_through_the_disk_and_comes_back_whole() {
    let mut world = World::new();
    world.open(1, connect("reader", 60));
    world.subscribe(1, "#", QoS::AtLeastOnce);
    world.gone(1);
    world.open(2, connect("publisher", 0));
    for id in 1..=40u16 {
        world.publish(2, id, &format!("{id}"));
        if id % 3 == 0 {
            world.commit();
        }
    }
    world.commit();
    assert_eq!(world.disk.len(), 40);
    let key = world.router.by_client["reader"];
    assert_eq!(world.router.sessions[&key].depth(), 40);
    world.open(3, connect("reader", 60));
    let mut seen = Vec::new();
    for round in 0..200 {
        for packet in world.sent(3) {
            let Packet::Publish(p) = packet else { continue };
            seen.push(p.message.topic.parse::<u16>().unwrap());
            world.packet(3, Packet::PubAck(Ack::ok(p.id.unwrap())));
        }
        if round % 5 == 0 {
            world.commit();
        }
    }
    assert_eq!(seen, (1..=40).collect::<Vec<_>>());
    world.commit();
    assert_eq!(world.disk.len(), 0);
    assert_eq!(world.router.sessions[&key].depth(), 0);
}

#[test]
fn a_client_that_subscribes_to_the_same_again_writes_nothing() {
    let mut world = World::new();
    world.open(1, connect("reader", u32::MAX));
    world.subscribe(1, "a/#", QoS::AtLeastOnce);
    world.commit();
    world.gone(1);
    world.open(2, connect("reader", u32::MAX));
    world.subscribe(2, "a/#", QoS::AtLeastOnce);
    world.window();
    assert!(world.committing.is_none());
    world.subscribe(2, "a/#", QoS::ExactlyOnce);
    world.window();
    assert!(world.committing.is_some(), "a change is kept");
}

#[test]
fn the_store_s_sessions_come_back_after_a_restart() {
    let saved = store::Session {
        client_id: "reader".into(),
        user: None,
        queue: QueueId(4),
        expiry: u32::MAX,
        left: None,
        sent: 0,
        subscriptions: vec![store::Subscription {
            filter: "t".into(),
            options: SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() },
            id: None,
        }],
    };
    let depth = Depth { entries: 1, oldest: None, first: 7, last: 7 };
    let recovered = Recovered { next_id: EntryId(50), sessions: vec![(saved, depth)], ..Recovered::default() };
    let mut world = World::recovered(recovered, Access::default());
    let delivery = Delivery {
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: Vec::new(),
        seq: 7,
        class: NO_CLASS,
        share: None,
    };
    let old = Entry { id: EntryId(49), message: Arc::new(Message::new("old", "x")), delivery };
    world.disk.push((QueueId(4), old));
    world.apply(Event::Publish(Message::new("t", "x")));
    world.commit();
    assert!(world.open(1, connect("reader", u32::MAX)).session_present);
    assert_eq!(publishes(&world.sent(1)), ["old/7/dup", "t/8"]);
}

#[test]
fn a_second_connection_takes_the_session_over() {
    let mut world = World::new();
    let will = Will { message: Message::new("will", "x"), delay: Duration::ZERO };
    world.open(1, Connect { will: Some(will), ..connect("same", 60) });
    world.open(9, connect("watcher", 0));
    world.subscribe(9, "will", QoS::AtMostOnce);
    assert!(world.open(2, connect("same", 60)).session_present);
    assert_eq!(world.sent(1), [Packet::Disconnect { reason: Reason::SESSION_TAKEN_OVER, expiry: None }]);
    assert_eq!(world.closed, [LinkId(1)]);
    assert_eq!(publishes(&world.sent(9)), ["will/0"]);
    world.gone(1);
    world.subscribe(2, "t", QoS::AtMostOnce);
    world.apply(Event::Publish(Message::new("t", "x")));
    assert_eq!(publishes(&world.sent(2)), ["t/0"], "the old connection's end does not touch the new one");
}

#[test]
fn a_session_without_an_expiry_gets_none_at_its_end() {
    let mut world = World::new();
    world.open(9, connect("watcher", 0));
    world.subscribe(9, "will", QoS::AtMostOnce);
    let will = || Some(Will { message: Message::new("will", "x"), delay: Duration::ZERO });
    world.open(1, Connect { will: will(), ..connect("c", 0) });
    world.packet(1, Packet::Disconnect { reason: Reason::SUCCESS, expiry: Some(60) });
    assert_eq!(world.sent(1), [Packet::Disconnect { reason: Reason::PROTOCOL_ERROR, expiry: None }]);
    assert_eq!(publishes(&world.sent(9)), ["will/0"], "that was no good-bye");
    assert!(!world.open(2, connect("c", 0)).session_present);
    world.packet(2, Packet::Disconnect { reason: Reason::SUCCESS, expiry: Some(0) });
    assert_eq!(world.sent(2), []);
    // From some to another, and to none.
    world.open(3, connect("c", 60));
    world.packet(3, Packet::Disconnect { reason: Reason::SUCCESS, expiry: Some(90) });
    assert!(world.open(4, connect("c", 60)).session_present);
    world.packet(4, Packet::Disconnect { reason: Reason::SUCCESS, expiry: Some(0) });
    assert!(!world.open(5, connect("c", 60)).session_present);
}

#[test]
fn a_client_of_version_3_1_is_not_told_of_its_session() {
    let mut world = World::new();
    for (version, told) in [(Version::V31, false), (Version::V31, false), (Version::V311, true)] {
        let ack = world.open(1, Connect { version, ..connect("old", 60) });
        assert_eq!(ack.session_present, told, "{version:?}: the byte is reserved in 3.1");
        world.gone(1);
    }
}

#[test]
fn a_will_follows_a_lost_connection_and_not_a_good_bye() {
    let mut world = World::new();
    world.open(9, connect("watcher", 0));
    world.subscribe(9, "will/#", QoS::AtMostOnce);
    let will = |topic: &str, delay| Some(Will { message: Message::new(topic, "x"), delay: Duration::from_secs(delay) });
    world.open(1, Connect { will: will("will/lost", 0), ..connect("a", 0) });
    world.gone(1);
    assert_eq!(publishes(&world.sent(9)), ["will/lost/0"]);
    world.open(2, Connect { will: will("will/bye", 0), ..connect("b", 0) });
    world.packet(2, Packet::Disconnect { reason: Reason::SUCCESS, expiry: None });
    assert_eq!(publishes(&world.sent(9)), [""; 0]);
    world.open(3, Connect { will: will("will/late", 5), ..connect("c", 60) });
    world.gone(3);
    assert_eq!(publishes(&world.sent(9)), [""; 0]);
    world.now.instant += Duration::from_secs(5);
    world.apply(Event::Tick);
    assert_eq!(publishes(&world.sent(9)), ["will/late/0"]);
}

#[test]
fn a_session_ends_when_it_expires() {
    let mut world = World::new();
    world.open(1, connect("reader", 60));
    world.subscribe(1, "t", QoS::AtLeastOnce);
    world.gone(1);
    world.apply(Event::Publish(Message::new("t", "x")));
    world.commit();
    assert_eq!((world.disk.len(), world.sessions.len()), (1, 1));
    world.now.instant += Duration::from_secs(60);
    world.commit();
    assert_eq!((world.disk.len(), world.sessions.len()), (0, 0));
    assert!(!world.open(2, connect("reader", 60)).session_present);
    assert_eq!(world.router.topics.len(), 0);
}

#[test]
fn retained_messages_reach_new_subscriptions() {
    let mut world = World::new();
    world.apply(Event::Publish(Message::retained("a", "1")));
    world.open(1, connect("c", 0));
    let once = SubscribeOptions { retain_handling: RetainHandling::SendIfNew, ..SubscribeOptions::default() };
    world.subscribe_with(1, "a", once, None);
    let sent = world.sent(1);
    assert!(matches!(&sent[..], [Packet::Publish(p)] if p.retain), "{sent:?}");
    world.subscribe_with(1, "a", once, None);
    assert_eq!(world.sent(1), []);
    world.apply(Event::Publish(Message::retained("a", "2")));
    assert!(matches!(&world.sent(1)[..], [Packet::Publish(p)] if !p.retain), "live, not retained");
}

#[test]
fn overlapping_filters_deliver_once_with_the_highest_qos_and_all_ids() {
    let mut world = World::new();
    world.open(1, connect("c", 0));
    world.subscribe_with(1, "a/#", SubscribeOptions::default(), Some(3));
    let high = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    world.subscribe_with(1, "a/+", high, Some(4));
    world.apply(Event::Publish(Message::new("a/b", "x")));
    let sent = world.sent(1);
    let [Packet::Publish(p)] = &sent[..] else { panic!("{sent:?}") };
    let mut ids = p.subscription_ids.clone();
    ids.sort_unstable();
    assert_eq!((p.qos, ids), (QoS::AtLeastOnce, vec![3, 4]));
}

#[test]
fn no_local_keeps_ones_own_messages_away() {
    let mut world = World::new();
    world.open(1, connect("c", 0));
    world.subscribe_with(1, "t", SubscribeOptions { no_local: true, ..SubscribeOptions::default() }, None);
    world.packet(1, publish(None, QoS::AtMostOnce, "t"));
    assert_eq!(world.sent(1), []);
}

#[test]
fn a_full_store_refuses_and_nothing_is_acknowledged() {
    let mut world = World::new();
    world.open(1, connect("reader", 60));
    world.subscribe(1, "t", QoS::AtLeastOnce);
    world.gone(1);
    world.open(2, connect("five", 0));
    world.open(3, Connect { version: Version::V311, ..connect("three", 0) });
    world.apply(Event::Store(store::Event::Committed { dropped: Vec::new(), full: vec![QueueId(1)] }));
    let refused = Ack { id: pid(7), reason: Reason::QUOTA_EXCEEDED };
    assert_eq!(world.publish(2, 7, "t"), [Packet::PubAck(refused)]);
    world.apply(Event::Publish(Message::new("t", "x")));
    assert_eq!(world.router.status().queues[0].causes.to_string(), "1 (a full queue takes nothing new: see when-full)");
    // 3.1.1 has no word for it: the client waits, and what it sends meanwhile does not overtake.
    assert_eq!(world.publish(3, 7, "t"), []);
    assert_eq!(world.publish(3, 8, "other"), []);
    world.window();
    assert_eq!((world.sent(3), &world.closed[..]), (vec![], &[][..]));
    world.apply(Event::Store(store::Event::Room { dropped: Vec::new(), full: Vec::new() }));
    world.committed();
    world.commit();
    let nobody = Ack { id: pid(8), reason: Reason::NO_MATCHING_SUBSCRIBERS };
    assert_eq!(world.sent(3), [Packet::PubAck(nobody), Packet::PubAck(ok(7))]);
    assert_eq!(world.disk.len(), 1);
}

#[test]
fn a_client_that_cannot_be_refused_is_closed_when_it_has_waited_for_long_enough() {
    let mut world = World::new();
    world.open(1, connect("reader", 60));
    world.subscribe(1, "t", QoS::AtLeastOnce);
    world.gone(1);
    for link in [2, 3] {
        world.open(link, Connect { version: Version::V311, ..connect(&format!("c{link}"), 0) });
    }
    world.apply(Event::Store(store::Event::Room { dropped: Vec::new(), full: vec![QueueId(1)] }));
    world.publish(2, 7, "t");
    (0..49).for_each(|_| world.window());
    assert_eq!(world.closed, []);
    world.window();
    assert_eq!(world.closed, [LinkId(2)]);
    // One that does not wait at all is closed sooner.
    for n in 0..=1000 {
        world.packet(3, publish(Some(n % 1000 + 1), QoS::AtLeastOnce, "t"));
    }
    assert_eq!(world.closed, [LinkId(2), LinkId(3)]);
    assert_eq!(world.router.held.len(), 0);
}

#[test]
fn the_tail_is_bounded_when_the_disk_takes_nothing() {
    let mut world = World::new();
    world.open(1, connect("reader", 60));
    world.subscribe(1, "t", QoS::AtLeastOnce);
    world.gone(1);
    for _ in 0..10 {
        world.apply(Event::Publish(Message::new("t", vec![0; 2000 - 129])));
    }
    assert_eq!(world.router.status().dropped, 5, "ten kilobytes are held, and no more");
}

#[test]
fn what_an_order_puts_into_a_queue_does_not_make_room_for_readings() {
    let mut world = World::new();
    world.open(1, connect("reader", 60));
    world.subscribe(1, "t", QoS::AtLeastOnce);
    world.gone(1);
    let reading = || Event::Publish(Message::new("t", vec![0; 2000 - 129]));
    world.apply(reading());
    world.window();
    assert!(world.committing.is_some(), "the disk takes nothing more until this one is there");
    let messages = (0..3).map(|_| Message::new("put", vec![0; 2000 - 131])).collect();
    let order = Order::Put { queue: "reader".into(), messages, aside: Vec::new() };
    world.apply(Event::Order(Ticket(1), order));
    for _ in 0..10 {
        world.apply(reading());
    }
    assert_eq!(world.router.status().dropped, 9, "readings go");
    world.committed();
    world.commit();
    world.commit();
    let kept: Vec<_> = world.disk.iter().map(|(_, entry)| &*entry.message.topic).collect();
    assert_eq!(kept, ["t", "put", "put", "put", "t"]);
}

#[test]
fn a_slow_reader_without_a_queue_on_disk_loses_and_it_is_counted() {
    let mut world = World::new();
    world.open(1, connect("slow", 0));
    world.subscribe(1, "t", QoS::AtMostOnce);
    for _ in 0..12 {
        world.apply(Event::Publish(Message::new("t", vec![0; 20_000 - 129])));
    }
    assert_eq!(world.sent(1).len(), 5, "100 000 bytes outstanding");
    assert_eq!(world.router.status().dropped, 2, "and five more wait");
    world.apply(Event::Drained { link: LinkId(1), bytes: 100_000 });
    assert_eq!(world.sent(1).len(), 5);
}

#[test]
fn rules_hold_for_publish_subscribe_and_will() {
    let rule = super::super::access::Rule { read: vec!["r/#".into()], write: vec!["w/#".into()], ..Default::default() };
    let mut world = World::recovered(Recovered::default(), Access::new(None, vec![rule]));
    world.open(1, connect("c", 0));
    let refused = Ack { id: pid(7), reason: Reason::NOT_AUTHORIZED };
    assert_eq!(world.publish(1, 7, "r/a"), [Packet::PubAck(refused)]);
    let filters = ["r/+", "w/a"].map(|f| (f.into(), SubscribeOptions::default())).to_vec();
    world.packet(1, Packet::Subscribe(Box::new(Subscribe { id: pid(1), filters, subscription_id: None })));
    let reasons = vec![Reason(0), Reason::NOT_AUTHORIZED];
    assert_eq!(world.sent(1), [Packet::SubAck { id: pid(1), reasons }]);
    let will = Some(Will { message: Message::new("r/a", "x"), delay: Duration::ZERO });
    assert_eq!(world.open(2, Connect { will, ..connect("d", 0) }).reason, Reason::NOT_AUTHORIZED);
    assert_eq!(world.open(3, connect("$uplink/cloud", 0)).reason, Reason::CLIENT_ID_NOT_VALID);
}

#[test]
fn rights_that_go_take_subscriptions_and_wills_with_them() {
    let rule = |read: &str, write: &str| {
        let (read, write) = (vec![read.into()], vec![write.into()]);
        vec![super::super::access::Rule { read, write, ..Default::default() }]
    };
    let mut world = World::recovered(Recovered::default(), Access::new(None, rule("#", "#")));
    let will = |topic: &str| Some(Will { message: Message::new(topic, "x"), delay: Duration::ZERO });
    world.open(1, Connect { will: will("will/a"), ..connect("a", 60) });
    world.open(2, Connect { will: will("r/b"), ..connect("b", 60) });
    for filter in ["r/x", "will/+"] {
        world.subscribe(1, filter, QoS::AtMostOnce);
        world.subscribe(2, filter, QoS::AtMostOnce);
    }
    world.apply(Event::Access(Arc::new(Access::new(None, rule("r/#", "r/#")))));
    world.apply(Event::Publish(Message::new("will/x", "x")));
    world.apply(Event::Publish(Message::new("r/x", "x")));
    assert_eq!(world.sent(1).len(), 1, "what it may read still");
    world.sent(2);
    assert_eq!(world.router.subscriptions("a"), ["r/x".into()]);
    world.subscribe(2, "r/b", QoS::AtMostOnce);
    world.gone(1);
    assert_eq!(world.sent(2), [], "the will is not allowed any more");
    let refused = Ack { id: pid(7), reason: Reason::NOT_AUTHORIZED };
    assert_eq!(world.publish(2, 7, "will/a"), [Packet::PubAck(refused)]);
    assert_eq!(world.router.status().refused, 1);
}

#[test]
fn stopping_tells_everybody_and_writes_what_is_open() {
    let mut world = World::new();
    world.open(1, connect("reader", 60));
    world.subscribe(1, "t", QoS::AtLeastOnce);
    world.apply(Event::Publish(Message::new("t", "x")));
    world.sent(1);
    world.apply(Event::Stop);
    assert_eq!(world.sent(1), [Packet::Disconnect { reason: Reason::SERVER_SHUTTING_DOWN, expiry: None }]);
    assert!(!world.router.is_drained());
    world.committed();
    assert!(world.router.is_drained());
    assert_eq!(world.disk.len(), 1);
}

#[test]
fn a_qos_2_publish_is_acknowledged_on_the_connection_that_there_is_when_it_is_durable() {
    let mut world = World::new();
    world.open(1, connect("reader", 60));
    world.subscribe(1, "t", QoS::ExactlyOnce);
    world.gone(1);
    world.open(2, connect("publisher", 60));
    world.packet(2, publish(Some(5), QoS::ExactlyOnce, "t"));
    world.window();
    world.gone(2);
    world.open(3, connect("publisher", 60));
    world.packet(3, publish(Some(5), QoS::ExactlyOnce, "t"));
    assert_eq!(world.sent(3), [], "it is still being written");
    world.committed();
    assert_eq!(world.sent(3), [Packet::PubRec(ok(5))]);
    world.packet(3, Packet::PubRel(ok(5)));
    assert_eq!(world.sent(3), [], "the id is not free before the disk has forgotten it");
    world.commit();
    assert_eq!(world.sent(3), [Packet::PubComp(ok(5))]);
    assert_eq!(world.disk.len(), 1, "routed once");
}

#[test]
fn a_session_is_not_inherited_by_another_user_nor_with_rights_that_are_gone() {
    let rule = |user: &str, read: &str| super::super::access::Rule {
        user: Some(user.into()),
        read: vec![read.into()],
        ..Default::default()
    };
    let rules = vec![rule("op", "#"), rule("dashboard", "plant/#")];
    let mut world = World::recovered(Recovered::default(), Access::new(None, rules));
    let as_user = |user: &str| Connect { user: Some(user.into()), ..connect("same", 60) };
    world.open(1, as_user("op"));
    world.subscribe(1, "secret", QoS::AtLeastOnce);
    world.gone(1);
    world.apply(Event::Publish(Message::new("secret", "x")));
    assert!(!world.open(2, as_user("dashboard")).session_present);
    assert_eq!(publishes(&world.sent(2)), [""; 0]);
    world.apply(Event::Publish(Message::new("secret", "x")));
    assert_eq!(publishes(&world.sent(2)), [""; 0]);
}

#[test]
fn sessions_and_subscriptions_are_bounded() {
    let mut world = World::new();
    for n in 0..10 {
        assert_eq!(world.open(n, connect(&format!("c{n}"), 60)).reason, Reason::SUCCESS);
    }
    assert_eq!(world.open(10, connect("c10", 60)).reason, Reason::QUOTA_EXCEEDED);
    assert_eq!(world.open(11, connect("c9", 60)).reason, Reason::SUCCESS, "who is there already stays");
    let filters = (0..21).map(|n| (Arc::from(format!("f/{n}")), SubscribeOptions::default())).collect();
    world.packet(11, Packet::Subscribe(Box::new(Subscribe { id: pid(1), filters, subscription_id: None })));
    let sent = world.sent(11);
    let [Packet::SubAck { reasons, .. }] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((reasons[19], reasons[20]), (Reason::SUCCESS, Reason::QUOTA_EXCEEDED));
}

#[test]
fn time_away_before_a_restart_counts_for_a_session_s_end() {
    let saved = store::Session {
        client_id: "reader".into(),
        user: None,
        queue: QueueId(1),
        expiry: 60,
        left: Some(Timestamp(1_000_000 - 50_000).into()),
        sent: 0,
        subscriptions: Vec::new(),
    };
    let recovered = Recovered { sessions: vec![(saved, Depth::default())], ..Recovered::default() };
    let mut world = World::recovered(recovered, Access::default());
    world.now.instant += Duration::from_secs(9);
    world.apply(Event::Tick);
    assert_eq!(world.router.sessions.len(), 1);
    world.now.instant += Duration::from_secs(1);
    world.apply(Event::Tick);
    assert_eq!(world.router.sessions.len(), 0);
}

#[test]
fn a_retained_message_is_acknowledged_when_it_is_on_disk() {
    let mut world = World::new();
    world.open(2, connect("publisher", 0));
    let message = Message { qos: QoS::AtLeastOnce, ..Message::retained("t", "x") };
    world.packet(2, packet_of(Some(7), message));
    assert_eq!(world.sent(2), []);
    world.window();
    assert_eq!(world.committing.as_ref().map(|batch| batch.retained.len()), Some(1));
    world.committed();
    assert_eq!(world.sent(2), [Packet::PubAck(ok(7))]);
}
