//! How an uplink is sent what waits for it.

use super::*;
use crate::broker::replay::Precedence;
use crate::broker::session::packet_id;
use crate::rate::Rate;

const LIVE_FIRST: Replay =
    Replay { order: Precedence::LiveFirst, backlog_rate: None, numbered: false, window_bytes: usize::MAX };
const UPLINK: u64 = 1;

/// A world with an uplink that was there once, and is away.
fn world(window: usize) -> World {
    let mut world = World::new();
    let Limits { queue, tail, outstanding, .. } = &mut world.router.limits;
    (*queue, *tail, *outstanding) = (Bound { entries: 5000, bytes: 1 << 24 }, 1 << 24, 1 << 24);
    world.router.measure();
    uplink(&mut world, LIVE_FIRST, window);
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, retain_as_published: true, ..SubscribeOptions::default() };
    world.subscribe_with(UPLINK, "#", options, None);
    world.commit();
    world.gone(UPLINK);
    world
}

fn uplink(world: &mut World, replay: Replay, window: usize) {
    let receive_maximum = NonZeroU16::new(u16::try_from(window).unwrap()).unwrap();
    world.apply(Event::Opened { link: LinkId(UPLINK), own: Some(replay) });
    let connect = Connect { receive_maximum, ..connect("$uplink/cloud", u32::MAX) };
    world.packet(UPLINK, Packet::Connect(Box::new(connect)));
    world.effects.packets.get_mut(&LinkId(UPLINK)).unwrap().remove(0);
}

fn reading(world: &mut World, topic: &str, payload: impl Into<bytes::Bytes>) {
    world.apply(Event::Publish(Message { at: Timestamp(1_000_000).into(), ..Message::new(topic, payload) }));
}

/// What was sent, as `payload/seq`, with a `!` when it is historical and an `r` when it is to be retained.
fn sent(world: &mut World) -> Vec<String> {
    let show = |packet: Packet| {
        let Packet::Publish(p) = packet else { return None };
        let place = p.place.expect("an uplink is told the place");
        let payload = String::from_utf8_lossy(&p.message.payload).into_owned();
        let marks = [(place.historical, "!"), (p.retain, "r")].map(|(is, mark)| if is { mark } else { "" });
        Some(format!("{payload}/{}{}", place.seq, marks.concat()))
    };
    world.sent(UPLINK).into_iter().filter_map(show).collect()
}

fn ack(world: &mut World, seq: u64) {
    world.packet(UPLINK, Packet::PubAck(Ack::ok(packet_id(seq))));
}

#[test]
fn live_first_sends_what_comes_before_what_waited() {
    let mut world = world(8);
    (1..=12).for_each(|n| reading(&mut world, "t", format!("b{n}")));
    uplink(&mut world, LIVE_FIRST, 8);
    // A quarter of the window stays for those to come.
    assert_eq!(sent(&mut world), ["b1/1!", "b2/2!", "b3/3!", "b4/4!", "b5/5!", "b6/6!"]);
    (1..=3).for_each(|n| reading(&mut world, "t", format!("n{n}")));
    assert_eq!(sent(&mut world), ["n1/13", "n2/14"]);
    ack(&mut world, 2);
    assert_eq!(sent(&mut world), ["n3/15"], "as soon as there is room at all");
    (13..=15).for_each(|seq| ack(&mut world, seq));
    assert_eq!(sent(&mut world), ["b7/7!"]);
}

#[test]
fn in_order_sends_what_waited_first_and_marks_it() {
    let mut world = world(8);
    (1..=2).for_each(|n| reading(&mut world, "t", format!("b{n}")));
    uplink(&mut world, Replay::default(), 8);
    reading(&mut world, "t", "n1");
    assert_eq!(sent(&mut world), ["b1/1!", "b2/2!", "n1/3"]);
    world.gone(UPLINK);
    uplink(&mut world, Replay::default(), 8);
    assert_eq!(sent(&mut world), ["b1/1!", "b2/2!", "n1/3"], "a repetition is what it was");
}

#[test]
fn an_acknowledgement_of_what_overtook_leaves_what_it_overtook_on_the_disk() {
    let mut world = world(4);
    (1..=9).for_each(|n| reading(&mut world, "t", format!("b{n}")));
    world.commit();
    uplink(&mut world, LIVE_FIRST, 4);
    reading(&mut world, "t", "n1");
    world.commit();
    world.commit();
    ack(&mut world, 10);
    world.commit();
    assert_eq!(world.disk.len(), 9, "all but the live one");
    // What is gone is gone in a new life, too, and the rest comes.
    let mut came = sent(&mut world);
    (1..=3).for_each(|seq| ack(&mut world, seq));
    world.commit();
    let mut world = world.crash();
    uplink(&mut world, LIVE_FIRST, 4);
    reading(&mut world, "t", "n2");
    for _ in 0..20 {
        let next = sent(&mut world);
        for seq in next.iter().filter_map(|s| s.split('/').nth(1)?.trim_end_matches('!').parse().ok()) {
            ack(&mut world, seq);
        }
        came.extend(next);
    }
    came.sort();
    came.dedup();
    assert_eq!(came.len(), 11, "{came:?}");
    world.commit();
    world.commit();
    assert!(world.disk.is_empty());
}

#[test]
fn an_older_value_does_not_become_the_retained_one() {
    let mut world = world(8);
    let keep = |world: &mut World, topic: &str, payload: &'static str| {
        world.apply(Event::Publish(Message { at: Timestamp(1_000_000).into(), ..Message::retained(topic, payload) }));
    };
    (0..6).for_each(|_| reading(&mut world, "x", "x"));
    for (topic, payload) in [("a", "a1"), ("b", "b1"), ("c", "c1"), ("c", "c2")] {
        keep(&mut world, topic, payload);
    }
    uplink(&mut world, LIVE_FIRST, 8);
    assert_eq!(sent(&mut world).len(), 6);
    keep(&mut world, "a", "a2");
    keep(&mut world, "b", "");
    let live = sent(&mut world);
    assert!(live[0].starts_with("a2/") && live[1].starts_with('/'), "{live:?}");
    (1..=6).for_each(|seq| ack(&mut world, seq));
    let sent = sent(&mut world);
    let retained: Vec<_> = sent.iter().filter(|s| s.ends_with('r')).cloned().collect();
    assert_eq!((sent.len(), retained.len()), (4, 1), "{sent:?}");
    assert!(retained[0].starts_with("c2/"), "it is the newest of its topic: {sent:?}");
}

#[test]
fn a_packet_id_that_has_gone_round_waits() {
    let mut world = world(8);
    reading(&mut world, "t", "b1");
    uplink(&mut world, LIVE_FIRST, 8);
    assert_eq!(sent(&mut world), ["b1/1!"]);
    for seq in 2..=65_535 {
        reading(&mut world, "t", "n");
        ack(&mut world, seq);
    }
    sent(&mut world);
    reading(&mut world, "t", "late");
    reading(&mut world, "t", "later");
    assert_eq!(sent(&mut world), [""; 0], "its id is that of b1");
    ack(&mut world, 1);
    assert_eq!(sent(&mut world), ["late/65536", "later/65537"]);
    assert!(world.closed.is_empty(), "an uplink is not cut off for it");
    // And those in flight are found by their ids, far apart as they are.
    ack(&mut world, 65_537);
    ack(&mut world, 65_536);
    assert_eq!(world.router.status().queues[0].entries, 0);
}

#[test]
fn the_backlog_goes_at_its_rate_and_what_is_live_at_once() {
    let mut world = world(100);
    (1..=20).for_each(|n| reading(&mut world, "t", format!("b{n}")));
    let backlog_rate = Some(Rate { messages: Some(2), bytes: None });
    uplink(&mut world, Replay { backlog_rate, ..LIVE_FIRST }, 100);
    assert_eq!(sent(&mut world), ["b1/1!", "b2/2!"]);
    reading(&mut world, "t", "n1");
    assert_eq!(sent(&mut world), ["n1/21"]);
    for n in 3..=20 {
        let at = world.router.hurry(world.now, &mut world.effects).expect("the backlog waits for its time");
        assert_eq!((at - world.now.instant).as_millis(), 500);
        world.now.instant = at;
        world.apply(Event::Store(store::Event::Committed { dropped: Vec::new(), full: Vec::new() }));
        assert_eq!(sent(&mut world), [format!("b{n}/{n}!")]);
    }
}

#[test]
fn while_a_long_backlog_drains_each_live_message_waits_for_no_more_than_what_is_under_way() {
    let mut world = world(16);
    (0..3000).for_each(|n| reading(&mut world, "t", format!("b{n}")));
    uplink(&mut world, LIVE_FIRST, 16);
    let (mut under_way, mut live_sent) = (std::collections::VecDeque::from(sent(&mut world)), 0);
    let mut backlog_sent = 0;
    for round in 0..4000 {
        if round % 4 == 0 {
            reading(&mut world, "t", "n");
            let now = sent(&mut world);
            assert!(now.iter().any(|s| s.starts_with('n')), "round {round}: it waits: {now:?}");
            under_way.extend(now);
        }
        let Some(first) = under_way.pop_front() else { break };
        if first.starts_with('n') {
            live_sent += 1
        } else {
            backlog_sent += 1
        }
        ack(&mut world, first.split('/').nth(1).unwrap().trim_end_matches('!').parse().unwrap());
        under_way.extend(sent(&mut world));
    }
    assert!(live_sent > 900 && backlog_sent == 3000, "{live_sent} live, {backlog_sent} of the backlog");
}

#[test]
fn numbers_go_on_after_a_kill_even_when_nothing_was_left_on_the_disk() {
    let mut world = World::new();
    let numbered = Replay { numbered: true, ..Replay::default() };
    uplink(&mut world, numbered, 8);
    world.subscribe(UPLINK, "#", QoS::AtLeastOnce);
    world.commit();
    reading(&mut world, "t", "a");
    assert_eq!(sent(&mut world), ["a/1"]);
    ack(&mut world, 1);
    world.window();
    assert!(world.committing.is_none(), "an ordinary message writes nothing");
    let mut world = world.crash();
    uplink(&mut world, numbered, 8);
    reading(&mut world, "t", "b");
    assert_eq!(sent(&mut world), ["b/100001"], "it is not 1 again");
    ack(&mut world, 100_001);
    world.commit();
    // An end in peace leaves no gap.
    world.apply(Event::Stop);
    world.committed();
    let mut world = world.crash();
    uplink(&mut world, numbered, 8);
    reading(&mut world, "t", "c");
    assert_eq!(sent(&mut world), ["c/100002"]);
    ack(&mut world, 100_002);
}

#[test]
fn the_status_tells_the_backlog_and_when_it_will_be_gone() {
    let mut world = world(8);
    (1..=200).for_each(|n| reading(&mut world, "t", format!("b{n}")));
    let backlog = |world: &World| world.router.status().queues[0].backlog;
    assert_eq!(backlog(&world), 200);
    uplink(&mut world, LIVE_FIRST, 8);
    reading(&mut world, "t", "n");
    assert_eq!((backlog(&world), world.router.status().queues[0].entries), (200, 201));
    for second in 0..10 {
        world.now.instant += Duration::from_secs(1);
        world.apply(Event::Tick);
        world.committed();
        (second * 10 + 1..=second * 10 + 10).for_each(|seq| ack(&mut world, seq));
    }
    let queue = &world.router.status().queues[0];
    assert_eq!((queue.backlog, queue.drain.round()), (100, 10.0));
    assert_eq!(queue.catch_up.map(|left| left.as_secs()), Some(10));
}
