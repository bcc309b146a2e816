//! Retained messages for new subscriptions, many of them, to readers that are slow.

use super::*;

/// A world with `n` retained messages on `r/00000` and so on.
fn world(n: usize, qos: QoS) -> World {
    let mut world = World::new();
    world.router.limits.retained = n;
    for n in 0..n {
        let message = Message { qos, ..Message::retained(format!("r/{n:05}"), vec![b'x'; 100]) };
        world.apply(Event::Publish(message));
    }
    world
}

/// Takes everything that comes, acknowledges it and reports it as taken, until nothing comes; what came.
fn drain(world: &mut World, link: u64) -> Vec<Publish> {
    let mut came = Vec::new();
    loop {
        let mut bytes = 0;
        let packets = world.sent(link);
        for packet in &packets {
            if let Packet::PubRel(ack) = packet {
                world.packet(link, Packet::PubComp(*ack));
            }
            let Packet::Publish(publish) = packet else { continue };
            bytes += publish.message.size();
            match publish.qos {
                QoS::AtMostOnce => {}
                QoS::AtLeastOnce => world.packet(link, Packet::PubAck(Ack::ok(publish.id.unwrap()))),
                QoS::ExactlyOnce => world.packet(link, Packet::PubRec(Ack::ok(publish.id.unwrap()))),
            }
            came.push(publish.clone());
        }
        world.apply(Event::Drained { link: LinkId(link), bytes });
        world.commit();
        if packets.is_empty() && world.router.sessions.values().all(|s| s.depth() == 0 && s.owed.is_empty()) {
            return came;
        }
    }
}

fn topics(came: &[Publish]) -> Vec<String> {
    came.iter().map(|p| p.message.topic.to_string()).collect()
}

#[test]
fn a_new_subscriber_gets_every_retained_message_and_no_more_are_retained() {
    let mut world = world(8, QoS::AtLeastOnce);
    world.open(1, connect("c", 0));
    world.subscribe(1, "r/#", QoS::AtMostOnce);
    assert_eq!(world.sent(1).len(), 8, "the queue takes five, and these beside");
    world.apply(Event::Publish(Message::retained("r/one-more", "x")));
    assert_eq!(world.router.status().retained, 8);
    world.apply(Event::Publish(Message::retained("$SYS/x", "x")));
    assert_eq!((world.router.status().retained, world.router.retained.len()), (8, 9), "but for the gateway's own");
}

#[test]
fn a_slow_reader_gets_all_of_them_once_and_few_wait_at_a_time() {
    for (qos, expiry) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 0), (QoS::AtLeastOnce, 60), (QoS::ExactlyOnce, 60)] {
        let mut world = world(3000, qos);
        world.open(1, connect("slow", expiry));
        world.subscribe_with(1, "r/#", SubscribeOptions { qos, ..SubscribeOptions::default() }, Some(7));
        let key = world.router.by_client["slow"];
        assert!(world.router.sessions[&key].depth() < 300, "{}", world.router.sessions[&key].depth());
        assert!(world.sent(1).len() < 500, "{qos:?}");
        world.gone(1);
        if expiry == 0 {
            assert_eq!(world.router.owing.len(), 0);
            world.open(1, connect("slow", 0));
            world.subscribe_with(1, "r/#", SubscribeOptions { qos, ..SubscribeOptions::default() }, Some(7));
        } else {
            world.open(1, connect("slow", expiry));
        }
        let came = drain(&mut world, 1);
        assert!(came.iter().all(|p| p.retain && p.qos == qos && p.subscription_ids == [7]));
        assert_eq!(topics(&came), (0..3000).map(|n| format!("r/{n:05}")).collect::<Vec<_>>(), "{qos:?} {expiry}");
        assert_eq!((world.router.status().dropped, world.router.owing.len()), (0, 0));
    }
}

#[test]
fn the_newest_of_a_topic_comes_last_and_live_messages_do_not_wait_for_all() {
    let mut world = world(2000, QoS::AtLeastOnce);
    world.router.limits.queue = Bound { entries: 1000, bytes: 1 << 20 };
    world.router.measure();
    world.open(1, connect("slow", 0));
    world.subscribe(1, "r/#", QoS::AtLeastOnce);
    world.apply(Event::Publish(Message::retained("r/01500", "replaced")));
    world.apply(Event::Publish(Message::new("r/01600", "live")));
    world.apply(Event::Publish(Message::retained("r/01700", "")));
    let came = drain(&mut world, 1);
    let of = |topic: &str| {
        let of = came.iter().filter(|p| *p.message.topic == *topic);
        of.map(|p| (p.message.payload.clone(), p.retain)).collect::<Vec<_>>()
    };
    assert_eq!(of("r/01500"), [("replaced".into(), false)]);
    assert_eq!(of("r/01600"), [(vec![b'x'; 100].into(), true), ("live".into(), false)]);
    assert_eq!(of("r/01700"), [("".into(), false)]);
    assert_eq!(came.len(), 2001);
    let place = topics(&came).iter().position(|topic| topic == "r/01500").unwrap();
    assert!(place < 300, "it came {place}th");
}

#[test]
fn a_live_message_that_is_lost_does_not_take_the_retained_one_with_it() {
    let mut world = world(2000, QoS::AtLeastOnce);
    world.open(1, connect("slow", 0));
    world.subscribe(1, "r/#", QoS::AtLeastOnce);
    world.apply(Event::Publish(Message::retained("r/01500", "replaced")));
    assert_eq!(world.router.status().dropped, 1, "the slice fills the queue");
    let came = drain(&mut world, 1);
    let last = came.iter().rfind(|p| *p.message.topic == *"r/01500").unwrap();
    assert_eq!((&last.message.payload[..], last.retain, came.len()), (&b"replaced"[..], true, 2000));
}

#[test]
fn a_sparse_filter_is_searched_for_in_steps() {
    let mut world = world(20_000, QoS::AtMostOnce);
    world.router.limits.retained += 1;
    world.apply(Event::Publish(Message::retained("s/rare", "x")));
    world.open(1, connect("c", 0));
    world.subscribe(1, "+/rare", QoS::AtMostOnce);
    let mut steps = 0;
    while world.router.has_more() {
        world.apply(Event::Continue);
        steps += 1;
    }
    assert_eq!((steps, publishes(&world.sent(1))), (2, vec!["s/rare/0".to_owned()]));
}

#[test]
fn a_subscription_that_ends_is_owed_nothing() {
    let mut world = world(2000, QoS::AtMostOnce);
    world.open(1, connect("c", 0));
    world.subscribe(1, "r/#", QoS::AtMostOnce);
    world.packet(1, Packet::Unsubscribe { id: pid(2), filters: vec!["r/#".into()] });
    assert!(drain(&mut world, 1).len() < 1000);
}
