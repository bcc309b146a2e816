//! What lasts beyond a connection, a reload or the gateway's end, and what does not.

use super::*;

#[test]
fn a_will_outlives_the_gateway() {
    let mut world = World::new();
    world.open(1, connect("reader", u32::MAX));
    world.subscribe(1, "will/#", QoS::AtLeastOnce);
    world.gone(1);
    let will = |topic: &str, delay: u64| {
        let message = Message::new(format!("will/{topic}"), "x");
        Some(Will { message, delay: Duration::from_secs(delay) })
    };
    world.open(2, Connect { will: will("online", 0), ..connect("a", 0) });
    world.open(3, Connect { will: will("late", 60), ..connect("b", 3600) });
    world.open(4, Connect { will: will("left", 0), ..connect("c", 0) });
    world.packet(4, Packet::Disconnect { reason: Reason::SUCCESS, expiry: None });
    world.open(5, Connect { will: will("back", 60), ..connect("d", 3600) });
    world.open(6, Connect { will: will("gone", 60), ..connect("e", 3600) });
    world.commit();
    world.gone(6);
    world.commit();
    world.now.instant += Duration::from_secs(50);
    world.now.wall.wall.0 += 50_000;

    let mut world = world.crash();
    world.open(10, connect("reader", u32::MAX));
    assert_eq!(publishes(&world.sent(10)), ["will/online/1"]);
    world.open(11, connect("d", 3600));
    world.now.instant += Duration::from_secs(10);
    world.apply(Event::Tick);
    assert_eq!(publishes(&world.sent(10)), ["will/gone/2"]);
    world.now.instant += Duration::from_secs(50);
    world.now.wall.wall.0 += 60_000;
    world.apply(Event::Tick);
    assert_eq!(publishes(&world.sent(10)), ["will/late/3"]);
    (1..=3).for_each(|id| world.packet(10, Packet::PubAck(ok(id))));
    world.commit();
    world.commit();
    assert_eq!(world.wills.keys().collect::<Vec<_>>(), Vec::<&Arc<str>>::new());
}

#[test]
fn the_will_of_a_client_that_came_back_is_not_lost_with_its_earlier_one() {
    let mut world = World::new();
    world.open(1, connect("reader", u32::MAX));
    world.subscribe(1, "will", QoS::AtLeastOnce);
    let will = || Some(Will { message: Message::new("will", "x"), delay: Duration::ZERO });
    world.open(2, Connect { will: will(), ..connect("a", 0) });
    world.commit();
    world.gone(2);
    world.apply(Event::Tick);
    world.committed();
    world.open(3, Connect { will: will(), ..connect("a", 0) });
    world.apply(Event::Tick);
    world.committed();
    world.commit();
    assert_eq!((world.wills.len(), world.disk.len()), (1, 1), "the new will, and the entry of the old one");
}

#[test]
fn a_session_that_ended_leaves_no_deadline() {
    let mut world = World::new();
    let month = 30 * 24 * 3600;
    for link in 0..20 {
        let will = Some(Will { message: Message::new("w", "x"), delay: Duration::from_secs(60) });
        world.open(link, Connect { clean_start: true, will, ..connect("flaps", month) });
        world.gone(link);
    }
    assert_eq!(world.router.deadlines.len(), 2, "of the last one: its will, and its end");
}

#[test]
fn an_uplink_s_exchanges_are_not_recorded() {
    let mut world = World::new();
    world.open(1, connect("reader", 60));
    world.subscribe(1, "t", QoS::ExactlyOnce);
    world.commit();
    world.gone(1);
    world.apply(Event::Opened { link: LinkId(2), own: Some(Replay::default()) });
    world.packet(2, Packet::Connect(Box::new(connect("$uplink/cloud", u32::MAX))));
    world.sent(2);
    world.packet(2, publish(Some(1), QoS::ExactlyOnce, "t"));
    world.commit();
    assert_eq!(world.sent(2), [Packet::PubRec(ok(1))]);
    assert!(world.handshakes.is_empty());
    world.packet(2, Packet::PubRel(ok(1)));
    assert_eq!(world.sent(2), [Packet::PubComp(ok(1))], "at once: the cloud may use the id again");
}

#[test]
fn a_client_that_comes_back_with_a_smaller_window_gets_no_more_than_that() {
    let mut world = World::new();
    world.open(1, connect("reader", 60));
    world.subscribe(1, "#", QoS::ExactlyOnce);
    world.open(2, connect("publisher", 0));
    (1..=3).for_each(|id| drop(world.publish(2, id, "a")));
    world.packet(2, publish(Some(4), QoS::ExactlyOnce, "b"));
    world.commit();
    world.packet(1, Packet::PubRec(ok(4)));
    world.commit();
    world.gone(1);
    world.sent(1);
    let receive_maximum = NonZeroU16::new(2).unwrap();
    world.open(3, Connect { receive_maximum, ..connect("reader", 60) });
    let sent = world.sent(3);
    assert_eq!((publishes(&sent), sent.len()), (vec!["a/1/dup".to_owned()], 2), "{sent:?}");
    world.packet(3, Packet::PubAck(ok(1)));
    assert_eq!(publishes(&world.sent(3)), ["a/2/dup"]);
}

#[test]
fn what_a_reload_forbids_does_not_come_after_all() {
    let mut world = World::new();
    world.router.limits.retained = 1000;
    for n in 0..300 {
        world.apply(Event::Publish(Message::retained(format!("secret/{n:03}"), vec![b'x'; 1000])));
    }
    let will = Some(Will { message: Message::new("secret/will", "x"), delay: Duration::ZERO });
    world.open(1, Connect { user: Some("ada".into()), will, ..connect("c", 60) });
    world.subscribe(1, "secret/#", QoS::AtMostOnce);
    world.commit();
    let came = publishes(&world.sent(1)).len();
    assert!(came < 300 && world.wills.len() == 1, "{came}");
    let rule = |filter: &str| crate::broker::access::Rule {
        read: vec![filter.into()],
        write: vec![filter.into()],
        ..Default::default()
    };
    world.apply(Event::Access(Arc::new(Access::new(None, vec![rule("open/#")]))));
    world.apply(Event::Drained { link: LinkId(1), bytes: 1_000_000 });
    let rest = publishes(&world.sent(1)).len();
    assert!(came + rest <= 128, "what waited for it still goes out, and no more: {came} + {rest}");
    world.commit();
    assert!(world.wills.is_empty());
}

#[test]
fn what_a_cloud_will_not_have_is_set_aside_and_its_publisher_waits_until_that_is_written() {
    for (own, aside) in [(Some(Replay::default()), true), (None, false)] {
        let mut world = World::new();
        world.apply(Event::Opened { link: LinkId(1), own });
        let client_id = if own.is_some() { "$uplink/cloud" } else { "client" };
        world.packet(1, Packet::Connect(Box::new(connect(client_id, u32::MAX))));
        world.sent(1);
        world.subscribe(1, "t", QoS::AtLeastOnce);
        world.open(2, connect("publisher", 0));
        world.commit();
        world.sent(1);
        world.sent(2);
        world.packet(2, publish(Some(7), QoS::AtLeastOnce, "t"));
        let sent = world.sent(1);
        let [Packet::Publish(Publish { id: Some(id), .. })] = &sent[..] else { panic!("{sent:?}") };
        world.packet(1, Packet::PubAck(Ack { id: *id, reason: Reason::NOT_AUTHORIZED }));
        assert_eq!(world.sent(2).is_empty(), aside, "a refusal by a client is an acknowledgement");
        if aside {
            world.window();
            let batch = world.committing.clone().expect("it is due");
            let [kept] = &batch.aside[..] else { panic!("{batch:?}") };
            assert_eq!((&*kept.session, &*kept.message.topic, kept.reason), (client_id, "t", Reason::NOT_AUTHORIZED));
            assert!(batch.appends.is_empty(), "it is in no queue");
            world.committed();
            assert_eq!(world.sent(2), [Packet::PubAck(ok(7))]);
        }
    }
}

#[test]
fn an_own_part_gets_no_more_bytes_than_it_takes_but_always_one_message() {
    let mut world = World::new();
    world.apply(Event::Opened { link: LinkId(1), own: Some(Replay { window_bytes: 250, ..Replay::default() }) });
    world.packet(1, Packet::Connect(Box::new(connect("$uplink/cloud", u32::MAX))));
    world.sent(1);
    world.subscribe(1, "#", QoS::AtLeastOnce);
    world.sent(1);
    for payload in [300, 100, 100, 100] {
        world.apply(Event::Publish(Message::new("t", vec![0; payload])));
    }
    assert_eq!(publishes(&world.sent(1)).len(), 1);
    world.packet(1, Packet::PubAck(ok(1)));
    assert_eq!(publishes(&world.sent(1)).len(), 2, "the last one is over the bound");
}
