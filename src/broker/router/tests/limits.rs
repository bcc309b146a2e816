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
