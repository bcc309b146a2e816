//! Shared subscriptions, and what members leave behind.

use super::*;

/// Members `m1`, `m2`, … on links 1, 2, … of `$share/g/t/#`, and a publisher on link 9.
fn world(expiries: &[u32], qos: QoS) -> World {
    let mut world = World::new();
    for (n, expiry) in (1..).zip(expiries) {
        world.open(n, connect(&format!("m{n}"), *expiry));
        world.subscribe(n, "$share/g/t/#", qos);
    }
    world.open(9, connect("publisher", 0));
    world.commit();
    world
}

fn publish_all(world: &mut World, topics: &[&str]) {
    for (id, topic) in (100..).zip(topics) {
        world.publish(9, id, topic);
    }
}

#[test]
fn each_message_goes_to_one_member_in_turn() {
    let mut world = world(&[0, 0], QoS::AtLeastOnce);
    publish_all(&mut world, &["t/a", "t/b", "t/c"]);
    assert_eq!(publishes(&world.sent(1)), ["t/a/1", "t/c/2"]);
    assert_eq!(publishes(&world.sent(2)), ["t/b/1"]);
}

#[test]
fn a_member_with_a_full_window_is_passed_over() {
    let mut world = World::new();
    world.open(1, Connect { receive_maximum: NonZeroU16::MIN, ..connect("slow", 0) });
    world.open(2, connect("fast", 0));
    world.subscribe(1, "$share/g/t", QoS::AtLeastOnce);
    world.subscribe(2, "$share/g/t", QoS::AtLeastOnce);
    world.open(9, connect("publisher", 0));
    publish_all(&mut world, &["t"; 6]);
    assert_eq!((publishes(&world.sent(1)).len(), publishes(&world.sent(2)).len()), (1, 5));
}

#[test]
fn who_is_away_gets_only_what_nobody_there_can_take_and_it_is_kept() {
    let mut world = world(&[60, 0], QoS::AtLeastOnce);
    world.gone(1);
    publish_all(&mut world, &["t/a", "t/b"]);
    assert_eq!(publishes(&world.sent(2)), ["t/a/1", "t/b/2"]);
    world.packet(2, Packet::Unsubscribe { id: pid(1), filters: vec!["$share/g/t/#".into()] });
    assert_eq!(world.publish(9, 200, "t/c"), [], "it has to be durable");
    world.packet(9, publish(None, QoS::AtMostOnce, "t/lost"));
    world.commit();
    assert_eq!(world.sent(9), [Packet::PubAck(ok(200))]);
    world.open(3, connect("m1", 60));
    assert_eq!(publishes(&world.sent(3)), ["t/c/1"]);
}

#[test]
fn a_filter_of_its_own_brings_a_member_the_message_once_more() {
    let mut world = world(&[60], QoS::AtLeastOnce);
    world.subscribe_with(1, "t/#", SubscribeOptions::default(), Some(7));
    let shared = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    world.subscribe_with(1, "$share/g/t/#", shared, Some(8));
    world.commit();
    assert_eq!(world.publish(9, 5, "t/a"), [], "the shared one has to be acknowledged");
    let sent = world.sent(1);
    let ids: Vec<_> = sent
        .iter()
        .map(|p| if let Packet::Publish(p) = p { (p.qos, p.subscription_ids.clone()) } else { panic!() })
        .collect();
    assert_eq!(ids, [(QoS::AtMostOnce, vec![7]), (QoS::AtLeastOnce, vec![8])]);
    world.packet(1, Packet::PubAck(ok(1)));
    assert_eq!(world.sent(9), [Packet::PubAck(ok(5))]);
    // Both at QoS 1: the publisher waits for both.
    world.subscribe_with(1, "t/#", shared, Some(7));
    world.commit();
    assert_eq!(world.publish(9, 6, "t/a"), []);
    world.packet(1, Packet::PubAck(ok(2)));
    assert_eq!(world.sent(9), []);
    world.packet(1, Packet::PubAck(ok(3)));
    assert_eq!(world.sent(9), [Packet::PubAck(ok(6))]);
    assert_eq!(world.router.gates.len(), 0);
}

#[test]
fn what_a_member_leaves_behind_goes_to_the_others_in_order() {
    let mut world = World::new();
    world.open(1, Connect { receive_maximum: NonZeroU16::new(2).unwrap(), ..connect("m1", 0) });
    world.subscribe(1, "$share/g/t/#", QoS::AtLeastOnce);
    world.subscribe(1, "own", QoS::AtLeastOnce);
    world.open(9, connect("publisher", 0));
    publish_all(&mut world, &["t/a", "own", "t/b", "t/c"]);
    assert_eq!(publishes(&world.sent(1)), ["t/a/1", "own/2"], "two in flight, two wait");
    world.open(2, connect("m2", 0));
    world.subscribe(2, "$share/g/t/#", QoS::AtLeastOnce);
    world.gone(1);
    assert_eq!(publishes(&world.sent(2)), ["t/a/1", "t/b/2", "t/c/3"]);
}

#[test]
fn a_qos_2_message_that_was_sent_goes_to_nobody_else() {
    let mut world = World::new();
    world.open(1, Connect { receive_maximum: NonZeroU16::MIN, ..connect("m1", 0) });
    world.subscribe(1, "$share/g/t/#", QoS::ExactlyOnce);
    world.open(9, connect("publisher", 0));
    for (id, topic) in [(1, "t/sent"), (2, "t/waiting")] {
        world.packet(9, publish(Some(id), QoS::ExactlyOnce, topic));
    }
    assert_eq!(publishes(&world.sent(1)), ["t/sent/1"]);
    world.open(2, connect("m2", 0));
    world.subscribe(2, "$share/g/t/#", QoS::ExactlyOnce);
    world.gone(1);
    assert_eq!(publishes(&world.sent(2)), ["t/waiting/1"]);
}

#[test]
fn what_a_durable_member_leaves_to_another_stays_durable() {
    let mut world = world(&[60], QoS::AtLeastOnce);
    assert_eq!(world.publish(9, 5, "t/a"), []);
    assert_eq!(publishes(&world.sent(1)), ["t/a/1"]);
    world.open(2, connect("m2", 60));
    world.subscribe(2, "$share/g/t/#", QoS::AtLeastOnce);
    // A clean start ends the old session.
    world.open(3, Connect { clean_start: true, ..connect("m1", 60) });
    assert_eq!(publishes(&world.sent(2)), ["t/a/1"]);
    assert_eq!(world.sent(9), [], "it has moved, and is not durable yet");
    world.apply(Event::Tick);
    let batch = world.committing.as_ref().unwrap();
    assert_eq!((batch.ended.len(), batch.appends.len()), (1, 1), "one transaction");
    world.committed();
    assert_eq!(world.sent(9), [Packet::PubAck(ok(5))]);
    assert_eq!(world.disk.len(), 1);
    world.packet(2, Packet::PubAck(ok(1)));
    world.commit();
    assert_eq!((world.disk.len(), world.router.gates.len()), (0, 0));
}

#[test]
fn what_a_durable_member_leaves_moves_in_one_transaction_however_much_is_before_it() {
    let mut world = world(&[60], QoS::AtLeastOnce);
    world.open(4, connect("other", 60));
    world.gone(4);
    world.publish(9, 5, "t/a");
    world.commit();
    world.open(2, connect("m2", 60));
    world.subscribe(2, "$share/g/t/#", QoS::AtLeastOnce);
    world.commit();
    let messages: Vec<_> = (0..3).map(|_| Message::new("own", vec![0; 1 << 20])).collect();
    world.router.apply(
        Event::Order(Ticket(1), Order::Put { queue: "other".into(), messages, aside: Vec::new() }),
        world.now,
        &mut world.effects,
    );
    world.router.apply(Event::Opened { link: LinkId(3), own: None }, world.now, &mut world.effects);
    world.packet(3, Packet::Connect(Box::new(Connect { clean_start: true, ..connect("m1", 60) })));
    let batch = world.committing.as_ref().unwrap();
    assert_eq!((batch.ended.len(), batch.appends.len()), (1, 4));
    world.committed();
    assert_eq!(world.disk.len(), 4);
}

#[test]
fn a_share_gets_no_retained_messages_and_no_other_s_topics() {
    let mut world = World::new();
    world.apply(Event::Publish(Message::retained("t", "x")));
    world.open(1, connect("c", 0));
    world.subscribe(1, "$share/g/#", QoS::AtMostOnce);
    assert_eq!(world.sent(1), []);
    world.apply(Event::Publish(Message::new("$SYS/x", "x")));
    assert_eq!(world.sent(1), []);
}

#[test]
fn a_bad_share_is_refused_and_no_local_on_one_is_an_error() {
    let mut world = World::new();
    world.open(1, connect("c", 0));
    let filters = ["$share//x", "$share/+/x", "$share/a", "$share/a/", "$share/a/b#", "$share/a/b"];
    let filters = filters.map(|f| (Arc::from(f), SubscribeOptions::default())).to_vec();
    world.packet(1, Packet::Subscribe(Box::new(Subscribe { id: pid(1), filters, subscription_id: None })));
    let invalid = Reason::TOPIC_FILTER_INVALID;
    let reasons = vec![invalid, invalid, invalid, invalid, invalid, Reason::SUCCESS];
    assert_eq!(world.sent(1), [Packet::SubAck { id: pid(1), reasons }]);
    let options = SubscribeOptions { no_local: true, ..SubscribeOptions::default() };
    let filters = vec![("$share/a/b".into(), options)];
    world.packet(1, Packet::Subscribe(Box::new(Subscribe { id: pid(2), filters, subscription_id: None })));
    assert_eq!(world.sent(1), [Packet::Disconnect { reason: Reason::PROTOCOL_ERROR, expiry: None }]);
    assert_eq!(world.closed, [LinkId(1)]);
}

#[test]
fn a_share_is_there_again_after_a_restart() {
    let session = |n: u32| store::Session {
        client_id: format!("m{n}").into(),
        user: None,
        sent: 0,
        queue: QueueId(n),
        expiry: u32::MAX,
        left: None,
        subscriptions: vec![store::Subscription {
            filter: "$share/g/t".into(),
            options: SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() },
            id: None,
        }],
    };
    let sessions = vec![(session(1), Depth::default()), (session(2), Depth::default())];
    let mut world = World::recovered(Recovered { sessions, ..Recovered::default() }, Access::default());
    world.open(2, connect("m2", u32::MAX));
    world.apply(Event::Publish(Message::new("t", "x")));
    assert_eq!(publishes(&world.sent(2)), ["t/1"], "m1 is away");
}
