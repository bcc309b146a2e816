//! What queues in RAM may hold, and who loses what.

use super::*;

/// A client on `link` that takes nothing off its wire, subscribed to `topic`.
fn stalled(world: &mut World, link: u64, topic: &str) {
    world.open(link, connect(&format!("c{link}"), 0));
    world.subscribe(link, topic, QoS::AtMostOnce);
    let bytes = LIMITS.outstanding - 129;
    world.apply(Event::Publish(Message { qos: QoS::AtMostOnce, ..Message::new(topic, vec![0; bytes]) }));
    world.sent(link);
}

fn payloads(packets: &[Packet]) -> Vec<u8> {
    packets.iter().filter_map(|p| if let Packet::Publish(p) = p { Some(p.message.payload[0]) } else { None }).collect()
}

#[test]
fn the_oldest_or_the_newest_give_way() {
    for (policy, expected) in [(QueueFull::DropNewest, [0, 1, 2, 3, 4]), (QueueFull::DropOldest, [7, 8, 9, 10, 11])] {
        let mut world = World::new();
        world.router.limits.queue_full = policy;
        stalled(&mut world, 1, "t");
        for n in 0..12 {
            world.apply(Event::Publish(Message::new("t", vec![n])));
        }
        world.apply(Event::Drained { link: LinkId(1), bytes: LIMITS.outstanding });
        assert_eq!(payloads(&world.sent(1)), expected);
        let status = world.router.status();
        assert_eq!((status.dropped, status.queues.len()), (7, 1));
        assert_eq!((&*status.queues[0].session, status.queues[0].dropped), ("c1", 7), "who loses is named");
    }
}

#[test]
fn one_large_message_may_cost_many_small_ones_but_never_more_than_needed() {
    let mut world = World::new();
    world.router.limits.queue_full = QueueFull::DropOldest;
    world.router.limits.queue = Bound { entries: 100, bytes: 1000 };
    world.router.measure();
    stalled(&mut world, 1, "t");
    for n in 0..20 {
        world.apply(Event::Publish(Message::new("t", vec![n; 71]))); // 200 bytes each
    }
    world.apply(Event::Drained { link: LinkId(1), bytes: LIMITS.outstanding });
    assert_eq!(payloads(&world.sent(1)), [15, 16, 17, 18, 19]);
}

#[test]
fn queues_that_are_kept_lose_nothing_to_the_policy() {
    let mut world = World::new();
    world.router.limits.queue_full = QueueFull::DropOldest;
    world.open(1, connect("keeper", 60));
    world.subscribe(1, "t", QoS::AtLeastOnce);
    world.gone(1);
    for _ in 0..12 {
        world.apply(Event::Publish(Message::new("t", "x")));
    }
    world.commit();
    assert_eq!((world.disk.len(), world.router.status().dropped), (12, 0));
}

#[test]
fn all_queues_together_are_bounded_and_the_short_ones_go_on() {
    let mut world = World::new();
    world.router.limits.queue = Bound { entries: 1000, bytes: 1 << 20 };
    world.router.limits.total = 200_000;
    world.router.room = room::Room::new(world.router.limits.queue, 200_000);
    for link in 1..=4 {
        stalled(&mut world, link, &format!("t/{link}"));
    }
    let flood = |world: &mut World, link: u64, n: usize| {
        for _ in 0..n {
            world.apply(Event::Publish(Message::new(format!("t/{link}"), vec![0; 1000 - 131])));
        }
        let key = world.router.by_client[&*format!("c{link}")];
        world.router.sessions[&key].queue.len()
    };
    let held = |world: &World| world.router.sessions.values().map(|s| s.queue.bytes()).sum::<usize>();
    let long = flood(&mut world, 1, 500);
    assert!((100..120).contains(&long), "half of all, and what it takes to see that: {long}");
    for round in 0..3 {
        for link in 2..=4 {
            let short = flood(&mut world, link, 50);
            assert!((20..=60).contains(&short), "{round}: {link} has {short}");
            assert!(held(&world) <= 215_000, "{}", held(&world));
        }
    }
    assert!(flood(&mut world, 1, 10) <= 30, "the longest queue gave way");
    for link in 1..=4 {
        while !world.sent(link).is_empty() {
            world.apply(Event::Drained { link: LinkId(link), bytes: LIMITS.outstanding });
        }
        world.apply(Event::Drained { link: LinkId(link), bytes: LIMITS.outstanding });
        world.sent(link);
    }
    world.apply(Event::Tick);
    assert_eq!(world.router.room.held(), 0);
    assert_eq!(world.router.room.bound().bytes, 1 << 20);
}

#[test]
fn what_is_in_flight_is_bounded_in_bytes_and_one_message_always_goes() {
    let mut world = World::new();
    world.router.limits.queue = Bound { entries: 100, bytes: 10_000 };
    world.router.measure();
    world.open(1, connect("c", 0));
    world.subscribe(1, "t", QoS::AtLeastOnce);
    for n in 0..12 {
        world.apply(Event::Publish(Message::new("t", vec![n; 3000])));
    }
    assert_eq!(payloads(&world.sent(1)), [0, 1, 2, 3], "the window has room for ten, the bytes for four");
    world.packet(1, Packet::PubAck(ok(1)));
    world.packet(1, Packet::PubAck(ok(2)));
    assert_eq!(payloads(&world.sent(1)), [4, 5]);
    for id in 3..=6 {
        world.packet(1, Packet::PubAck(ok(id)));
    }
    let key = world.router.by_client["c"];
    while let [_, ..] = &payloads(&world.sent(1))[..] {
        (7..=8).for_each(|id| world.packet(1, Packet::PubAck(ok(id))));
    }
    // One that is larger than all of that is sent when it is alone.
    world.apply(Event::Publish(Message::new("t", vec![9; 50_000])));
    let session = &world.router.sessions[&key];
    assert_eq!((session.inflight.len(), session.inflight_bytes > 50_000), (1, true));
}

#[test]
fn what_nobody_acknowledges_counts_as_what_waits() {
    let mut world = World::new();
    world.router.limits.queue = Bound { entries: 1000, bytes: 1 << 20 };
    world.router.limits.total = 200_000;
    world.router.measure();
    for link in 1..=4 {
        world.open(link, connect(&format!("c{link}"), 0));
        world.subscribe(link, &format!("t/{link}"), QoS::AtLeastOnce);
    }
    let send = |world: &mut World, link: u64| {
        world.apply(Event::Publish(Message::new(format!("t/{link}"), vec![0; 30_000 - 131])));
        world.sent(link).len()
    };
    // Three take what comes and acknowledge nothing.
    let sent: usize = (0..30).map(|n| send(&mut world, 1 + n % 3)).sum();
    assert!((3..=8).contains(&sent), "{sent} are in flight");
    let held: usize = world.router.sessions.values().map(|s| s.queue.bytes() + s.inflight_bytes).sum();
    assert!(held <= 300_000, "{held}");
    // The fourth, which does, is served all the same.
    for n in 1..=20 {
        assert_eq!(send(&mut world, 4), 1, "{n}");
        world.packet(4, Packet::PubAck(ok(n)));
        world.apply(Event::Drained { link: LinkId(4), bytes: 30_000 });
    }
}

#[test]
fn retained_messages_are_bounded_in_number_and_bytes_and_none_is_an_old_one() {
    let mut world = World::new();
    world.router.limits.retained_bytes = 5000;
    world.open(1, connect("c", 0));
    let retain = |world: &mut World, topic: &str, size: usize| {
        let message = Message { qos: QoS::AtLeastOnce, ..Message::retained(topic.to_owned(), vec![0; size]) };
        world.packet(1, packet_of(Some(1), message));
        world.commit();
        let acked = matches!(world.sent(1)[..], [Packet::PubAck(ack)] if !ack.reason.is_error());
        (acked, world.router.retained.len())
    };
    for n in 1..=10 {
        assert_eq!(retain(&mut world, &format!("t/{n}"), 1), (true, n.min(8)), "eight at most");
    }
    assert_eq!(world.router.status().dropped, 2);
    assert_eq!(retain(&mut world, "t/1", 2000), (true, 8), "a larger one in place of another");
    assert_eq!(retain(&mut world, "t/2", 4000), (true, 7), "too large; and the old one is not the last any more");
    assert_eq!(world.router.status().dropped, 3);
    assert!(world.router.retained.bytes() <= 5000);
    assert_eq!(retain(&mut world, "t/2", 0), (true, 7));
    assert_eq!(retain(&mut world, "t/1", 0), (true, 6));
    assert_eq!(retain(&mut world, "t/2", 3000), (true, 7), "there is room again");
}

#[test]
fn a_session_that_changes_often_is_written_once() {
    let mut world = World::new();
    world.router.limits.subscriptions = 3000;
    world.open(1, connect("keeper", 60));
    for n in 0..3000 {
        world.subscribe(1, &format!("f/{n}"), QoS::AtLeastOnce);
    }
    world.window();
    let batch = world.committing.as_ref().expect("it has changed");
    assert_eq!((batch.sessions.len(), batch.sessions[0].subscriptions.len()), (1, 3000));
    world.committed();
    world.window();
    assert!(world.committing.is_none());
}

#[test]
fn an_order_is_done_when_all_its_messages_are_on_the_disk_in_however_many_batches() {
    let mut world = World::new();
    world.open(1, connect("m", 60));
    world.gone(1);
    world.commit();
    let messages: Vec<_> = (0..3).map(|_| Message::new("t", vec![0; 600 << 10])).collect();
    world.apply(Event::Order(Ticket(1), Order::Put { queue: "m".into(), messages, aside: vec![7] }));
    world.apply(Event::Order(Ticket(2), Order::WriteOut));
    let batch = world.committing.as_ref().unwrap();
    assert_eq!(
        (batch.appends.len(), batch.aside_done.as_slice()),
        (2, [].as_slice()),
        "what is tried again stays aside"
    );
    world.committed();
    assert_eq!(world.effects.outcomes, [], "one is left");
    let batch = world.committing.as_ref().unwrap();
    assert_eq!((batch.appends.len(), batch.aside_done.as_slice()), (1, [7].as_slice()));
    world.committed();
    assert_eq!(std::mem::take(&mut world.effects.outcomes), [(Ticket(1), Ok(3)), (Ticket(2), Ok(0))]);
    assert_eq!(world.disk.len(), 3);
}
