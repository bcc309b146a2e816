//! What is no longer needed is freed: nothing of what comes and goes is left in the router.

use super::*;

/// A router as an idle gateway has it.
fn world() -> World {
    let mut world = World::new();
    world.router.limits =
        Limits { sessions: 40_000, subscriptions: 30_000, retained: 300_000, retained_bytes: 1 << 30, ..LIMITS };
    world
}

/// Lets the router tidy up, and counts what it holds.
fn rest(world: &mut World) -> [usize; 10] {
    for _ in 0..3 {
        world.now.instant += SWEEP_EVERY;
        world.commit();
    }
    world.effects = Effects::default();
    let router = &world.router;
    let capacities = [router.sessions.capacity(), router.links.capacity(), router.by_client.capacity()];
    assert!(capacities.iter().all(|capacity| *capacity < 200), "{capacities:?}");
    [
        router.links.len(),
        router.sessions.len(),
        router.by_client.len(),
        router.by_queue.len(),
        router.topics.nodes(),
        router.retained.len() + router.retained.bytes(),
        router.tail.bytes(),
        router.deadlines.len(),
        router.owing.len(),
        router.gates.len(),
    ]
}

#[test]
fn messages_that_nobody_wants() {
    let mut world = world();
    world.open(1, connect("publisher", 0));
    let before = rest(&mut world);
    for n in 0..2_000_000u32 {
        world.packet(1, publish(None, QoS::AtMostOnce, if n % 2 == 0 { "a" } else { "b" }));
    }
    for n in 0..200_000 {
        world.publish(1, 1 + (n % 1000) as u16, &format!("t/{n}/{n}"));
    }
    assert_eq!(rest(&mut world), before);
}

#[test]
fn filters_subscribed_to_and_left() {
    let mut world = world();
    world.open(1, connect("c", 0));
    let before = rest(&mut world);
    for n in 0..20_000 {
        let filter = Arc::from(match n % 3 {
            0 => format!("a/{n}/+/b"),
            1 => format!("$share/g{n}/x/{n}"),
            _ => format!("{n}/#"),
        });
        let filters = vec![(Arc::clone(&filter), SubscribeOptions::default())];
        world.packet(1, Packet::Subscribe(Box::new(Subscribe { id: pid(1), filters, subscription_id: None })));
        if n % 2 == 0 {
            world.packet(1, Packet::Unsubscribe { id: pid(2), filters: vec![filter] });
        }
    }
    assert_eq!(world.router.topics.len(), 10_000);
    world.router.unsubscribe_all("c");
    assert_eq!(rest(&mut world), before);
}

#[test]
fn sessions_that_come_and_go() {
    let mut world = world();
    let before = rest(&mut world);
    let mut link = 0;
    // Kept ones, others, and some that come back; all at the same time.
    for (n, expiry) in (0..30_000).map(|n| (n, [0, 60, 3600][n % 3])) {
        link += 1;
        let will = Will { message: Message::new("will", "x"), delay: Duration::from_secs(5) };
        world.open(link, Connect { will: Some(will), ..connect(&format!("c{n}"), expiry) });
        world.subscribe(link, &format!("$share/g{}/t", n / 100), QoS::AtLeastOnce);
        world.subscribe(link, &format!("own/{n}"), QoS::AtLeastOnce);
        world.packet(link, publish(Some(7), QoS::ExactlyOnce, &format!("own/{n}")));
    }
    for _ in 0..20 {
        world.apply(Event::Publish(Message::new("t", "x")));
    }
    world.commit();
    assert_eq!((world.router.sessions.len(), world.router.topics.shared()), (30_000, 30_000));
    for link in 1..=link {
        world.gone(link);
        if link % 500 == 0 {
            world.commit();
        }
    }
    assert_eq!(world.router.sessions.len(), 20_000);
    world.now.instant += Duration::from_secs(3600);
    assert_eq!(rest(&mut world), before);
    assert_eq!(world.sessions.len() + world.disk.len(), 0, "on disk neither");
}

#[test]
fn retained_topics_set_and_cleared() {
    let mut world = world();
    let before = rest(&mut world);
    for payload in ["x", ""] {
        for n in 0..200_000 {
            world.apply(Event::Publish(Message::retained(format!("r/{n}"), payload)));
        }
    }
    assert_eq!(rest(&mut world), before);
}

#[test]
fn the_burst_that_a_queue_once_held() {
    let mut world = world();
    world.router.limits.queue = Bound { entries: 100_000, bytes: 64 << 20 };
    world.router.limits.total = 1 << 30;
    world.router.measure();
    world.open(1, connect("slow", 0));
    world.subscribe(1, "t", QoS::AtLeastOnce);
    for _ in 0..50_000 {
        world.apply(Event::Publish(Message::new("t", "x")));
    }
    let key = world.router.by_client["slow"];
    while world.router.sessions[&key].depth() > 0 {
        for packet in world.sent(1) {
            if let Packet::Publish(publish) = packet {
                world.packet(1, Packet::PubAck(Ack::ok(publish.id.expect("QoS 1"))));
                world.apply(Event::Drained { link: LinkId(1), bytes: publish.message.size() });
            }
        }
    }
    rest(&mut world);
    assert!(world.router.sessions[&key].queue.capacity() < 200);
}
