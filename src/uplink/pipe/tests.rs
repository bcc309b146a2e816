//! The pipe, packet by packet.

use std::sync::Arc;

use super::*;
use crate::uplink::rename::Rename;
use crate::uplink::rules::{Carry, Rule};
use crate::uplink::way::Trail;

fn id(n: u16) -> PacketId {
    PacketId::new(n).expect("not 0")
}

fn ack(n: u16, reason: Reason) -> Ack {
    Ack { id: id(n), reason }
}

fn publish(n: u16, qos: QoS, topic: &str) -> Publish {
    Publish {
        id: PacketId::new(n),
        dup: false,
        qos,
        retain: true,
        message: Arc::new(Message::retained(topic, "1")),
        topic_alias: None,
        subscription_ids: vec![9],
        place: None,
    }
}

fn rule(filter: &str, prefix: &str) -> Rule {
    let rename = Rename::Affix { strip: String::new(), prefix: prefix.into() };
    let carry = Carry { rename, qos: QoS::ExactlyOnce, retain: Retain::Keep, max_age: None };
    Rule { filter: filter.into(), carry: Some(carry) }
}

fn way(up: Rule, down: Rule, echoes: bool) -> Way {
    Way {
        gateway: "plant7".into(),
        uplink: "cloud".into(),
        siblings: [].into(),
        up: [up].into(),
        down: [down].into(),
        trail: Trail::Never,
        five: !echoes,
        echoes,
    }
}

fn pipe() -> Pipe {
    Pipe::new(way(rule("plant/#", "up/"), rule("cmd/#", ""), false))
}

fn local(pipe: &mut Pipe, packet: Packet) -> Out {
    let mut out = Out::default();
    pipe.local_sent(packet, &mut out).expect("the connection goes on");
    out
}

fn cloud(pipe: &mut Pipe, packet: Packet) -> Out {
    let mut out = Out::default();
    pipe.cloud_sent(packet, &mut out).expect("the connection goes on");
    out
}

fn nothing() -> Out {
    Out::default()
}

fn to_local(packet: Packet) -> Out {
    Out { local: vec![packet], ..nothing() }
}

fn to_cloud(packet: Packet) -> Out {
    Out { cloud: vec![packet], ..nothing() }
}

#[test]
fn a_publish_goes_up_under_its_new_name_and_is_done_at_puback() {
    let mut pipe = pipe();
    let out = local(&mut pipe, Packet::Publish(publish(7, QoS::AtLeastOnce, "plant/a")));
    let [Packet::Publish(sent)] = &out.cloud[..] else { panic!("{out:?}") };
    assert_eq!((&*sent.message.topic, sent.id, sent.retain), ("up/plant/a", Some(id(7)), true));
    assert!(sent.subscription_ids.is_empty() && out.local.is_empty() && !pipe.flight().is_empty());
    let done = cloud(&mut pipe, Packet::PubAck(ack(7, Reason::NO_MATCHING_SUBSCRIBERS)));
    assert_eq!(done, to_local(Packet::PubAck(Ack::ok(id(7)))));
    assert_eq!((pipe.tally.sent, !pipe.flight().is_empty()), (1, false));
    // A second acknowledgement is of nothing.
    assert_eq!(cloud(&mut pipe, Packet::PubAck(ack(7, Reason::SUCCESS))), nothing());
    assert_eq!(pipe.tally.sent, 1);
}

#[test]
fn what_an_echoing_cloud_would_send_back_does_not_go_up() {
    let way = |echoes| way(rule("plant/#", ""), rule("plant/+/set", ""), echoes);
    let command = || Packet::Publish(publish(7, QoS::AtLeastOnce, "plant/pump/set"));
    let mut echoing = Pipe::new(way(true));
    // It is not lost without a word: nobody else has it.
    assert_eq!(local(&mut echoing, command()), to_local(Packet::PubAck(ack(7, Reason::WOULD_COME_BACK))));
    assert_eq!(echoing.tally.aside, BTreeMap::from([("would-come-back", 1)]));
    let reading = local(&mut echoing, Packet::Publish(publish(8, QoS::AtLeastOnce, "plant/pump")));
    assert_eq!(reading.cloud.len(), 1);
    let mut other = Pipe::new(way(false));
    assert_eq!(local(&mut other, command()).cloud.len(), 1);
}

#[test]
fn a_qos_2_publish_stays_in_the_queue_until_the_cloud_has_completed_it() {
    let mut pipe = pipe();
    local(&mut pipe, Packet::Publish(publish(7, QoS::ExactlyOnce, "plant/a")));
    let released = cloud(&mut pipe, Packet::PubRec(ack(7, Reason::SUCCESS)));
    assert_eq!(released, to_cloud(Packet::PubRel(Ack::ok(id(7)))));
    let completed = cloud(&mut pipe, Packet::PubComp(ack(7, Reason::SUCCESS)));
    assert_eq!(completed, to_local(Packet::PubRec(Ack::ok(id(7)))));
    let end = local(&mut pipe, Packet::PubRel(Ack::ok(id(7))));
    assert_eq!(end, to_local(Packet::PubComp(Ack::ok(id(7)))));
}

#[test]
fn a_cloud_with_less_gets_less_and_the_local_session_gets_its_own_acknowledgement() {
    let mut pipe = pipe();
    let limits = ConnAck { maximum_qos: QoS::AtLeastOnce, retain_available: false, ..ConnAck::new(Reason::SUCCESS) };
    pipe.connected(&limits, false, &mut nothing());
    let out = local(&mut pipe, Packet::Publish(publish(7, QoS::ExactlyOnce, "plant/a")));
    let [Packet::Publish(sent)] = &out.cloud[..] else { panic!("{out:?}") };
    assert_eq!((sent.qos, sent.retain), (QoS::AtLeastOnce, false));
    let done = cloud(&mut pipe, Packet::PubAck(ack(7, Reason::SUCCESS)));
    assert_eq!(done, to_local(Packet::PubRec(Ack::ok(id(7)))));

    pipe.connected(&ConnAck { maximum_qos: QoS::AtMostOnce, ..limits }, false, &mut nothing());
    let out = local(&mut pipe, Packet::Publish(publish(8, QoS::AtLeastOnce, "plant/a")));
    let [Packet::Publish(sent)] = &out.cloud[..] else { panic!("{out:?}") };
    assert_eq!((sent.qos, sent.id), (QoS::AtMostOnce, None));
    assert_eq!(out.local, [Packet::PubAck(Ack::ok(id(8)))]);
}

#[test]
fn what_the_cloud_refuses_is_counted_and_the_queue_goes_on() {
    let mut pipe = pipe();
    local(&mut pipe, Packet::Publish(publish(1, QoS::AtLeastOnce, "plant/a")));
    local(&mut pipe, Packet::Publish(publish(2, QoS::ExactlyOnce, "plant/a")));
    let large = local(&mut pipe, Packet::Publish(publish(3, QoS::AtLeastOnce, "plant/a")));
    let refused = cloud(&mut pipe, Packet::PubAck(ack(1, Reason::NOT_AUTHORIZED)));
    assert_eq!(refused, to_local(Packet::PubAck(ack(1, Reason::NOT_AUTHORIZED))));
    let refused = cloud(&mut pipe, Packet::PubRec(ack(2, Reason::TOPIC_NAME_INVALID)));
    assert_eq!(refused, to_local(Packet::PubRec(ack(2, Reason::TOPIC_NAME_INVALID))));
    let [Packet::Publish(large)] = &large.cloud[..] else { panic!("{large:?}") };
    let mut out = nothing();
    pipe.too_large(large, &mut out);
    assert_eq!(out, to_local(Packet::PubAck(ack(3, Reason::PACKET_TOO_LARGE))));
    let aside = BTreeMap::from([("not-authorised", 1), ("too-large", 1), ("topic", 1)]);
    assert_eq!((&pipe.tally.aside, pipe.tally.sent, pipe.flight().is_empty()), (&aside, 0, true));
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_is_full_for_now_gets_the_same_again_after_a_while_and_in_order() {
    let mut pipe = pipe();
    let first = local(&mut pipe, Packet::Publish(publish(1, QoS::AtLeastOnce, "plant/a")));
    let second = local(&mut pipe, Packet::Publish(publish(2, QoS::ExactlyOnce, "plant/a")));
    assert_eq!(cloud(&mut pipe, Packet::PubAck(ack(1, Reason::QUOTA_EXCEEDED))), nothing());
    assert_eq!(cloud(&mut pipe, Packet::PubRec(ack(2, Reason::QUOTA_EXCEEDED))), nothing());
    assert!(pipe.flight().is_empty(), "nothing is owed");
    // What comes meanwhile waits behind it.
    assert_eq!(local(&mut pipe, Packet::Publish(publish(3, QoS::AtLeastOnce, "plant/a"))), nothing());
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let mut out = nothing();
    pipe.flow(&mut out);
    assert_eq!(out.cloud[..2], [&first.cloud[..], &second.cloud[..]].concat());
    assert_eq!((out.cloud.len(), pipe.tally.pauses, pipe.tally.aside.len()), (3, 1, 0));
}

/// What goes up when the local session sends these again, over a connection to a cloud that keeps sessions.
fn again(pipe: &mut Pipe, present: bool, ids: &[u16]) -> Vec<Packet> {
    pipe.connected(&ConnAck { session_present: present, ..ConnAck::new(Reason::SUCCESS) }, false, &mut nothing());
    let mut sent = Vec::new();
    for n in ids {
        let publish = Publish { dup: true, ..publish(*n, QoS::ExactlyOnce, "plant/a") };
        sent.extend(local(pipe, Packet::Publish(publish)).cloud);
    }
    sent
}

#[test]
fn an_exchange_at_qos_2_is_finished_if_the_cloud_has_kept_the_session_and_begun_anew_if_not() {
    for present in [true, false] {
        let mut pipe = pipe();
        again(&mut pipe, false, &[1, 2]);
        cloud(&mut pipe, Packet::PubRec(ack(1, Reason::SUCCESS)));
        assert_ne!(pipe.free_id(), id(1));
        let sent = again(&mut pipe, present, &[1, 2]);
        let [first, Packet::Publish(second)] = &sent[..] else { panic!("{sent:?}") };
        assert!(second.dup && second.id == Some(id(2)));
        assert_eq!(matches!(first, Packet::PubRel(ack) if ack.id == id(1)), present, "{first:?}");
        if present {
            let done = cloud(&mut pipe, Packet::PubComp(ack(1, Reason::SUCCESS)));
            assert_eq!(done, to_local(Packet::PubRec(Ack::ok(id(1)))));
        }
    }
}

#[test]
fn a_message_at_qos_2_that_the_cloud_had_and_has_forgotten_is_sent_again_once() {
    let mut pipe = pipe();
    again(&mut pipe, false, &[1]);
    cloud(&mut pipe, Packet::PubRec(ack(1, Reason::SUCCESS)));
    assert!(matches!(&again(&mut pipe, true, &[1])[..], [Packet::PubRel(_)]));
    let unknown = || Packet::PubComp(ack(1, Reason::PACKET_ID_NOT_FOUND));
    let sent = cloud(&mut pipe, unknown());
    assert!(matches!(&sent.cloud[..], [Packet::Publish(publish)] if publish.id == Some(id(1))), "{sent:?}");
    assert!(sent.local.is_empty() && pipe.tally.sent == 0);
    cloud(&mut pipe, Packet::PubRec(ack(1, Reason::SUCCESS)));
    // It has just said to have it: it is not asked for ever.
    assert_eq!(cloud(&mut pipe, unknown()), to_local(Packet::PubRec(Ack::ok(id(1)))));
}

#[test]
fn a_cloud_before_mqtt_5_is_sent_a_message_at_qos_2_again_after_each_connection() {
    let mut pipe = Pipe::new(Way { five: false, ..way(rule("plant/#", ""), rule("cmd/#", ""), false) });
    again(&mut pipe, false, &[1]);
    cloud(&mut pipe, Packet::PubRec(ack(1, Reason::SUCCESS)));
    let sent = again(&mut pipe, true, &[1]);
    assert!(matches!(&sent[..], [Packet::Publish(publish)] if publish.dup), "{sent:?}");
    cloud(&mut pipe, Packet::PubRec(ack(1, Reason::SUCCESS)));
    assert_eq!(cloud(&mut pipe, Packet::PubComp(Ack::ok(id(1)))), to_local(Packet::PubRec(Ack::ok(id(1)))));
}

#[test]
fn another_address_is_not_taken_to_have_what_the_last_one_had() {
    let mut pipe = pipe();
    pipe.heads_for(&"mqtt://a".parse().expect("valid"), false);
    again(&mut pipe, false, &[1]);
    cloud(&mut pipe, Packet::PubRec(ack(1, Reason::SUCCESS)));
    pipe.heads_for(&"mqtt://b".parse().expect("valid"), false);
    let sent = again(&mut pipe, true, &[1]);
    assert!(matches!(&sent[..], [Packet::PubRel(_), Packet::Publish(_)]), "{sent:?}");
}

#[test]
fn an_id_that_the_cloud_may_have_from_an_earlier_run_is_released_before_it_is_used() {
    let mut pipe = pipe();
    let sent = again(&mut pipe, true, &[1]);
    assert!(matches!(&sent[..], [Packet::PubRel(_), Packet::Publish(_)]), "{sent:?}");
    // The answer to that is not the end of the new one.
    assert_eq!(cloud(&mut pipe, Packet::PubComp(ack(1, Reason::PACKET_ID_NOT_FOUND))), nothing());
    assert_eq!(cloud(&mut pipe, Packet::PubRec(ack(1, Reason::SUCCESS))).cloud.len(), 1);
    assert_eq!(cloud(&mut pipe, Packet::PubComp(ack(1, Reason::SUCCESS))).local.len(), 1);
}

#[test]
fn a_command_at_qos_2_goes_on_where_it_was_cut_off() {
    let mut pipe = pipe();
    cloud(&mut pipe, Packet::Publish(publish(5, QoS::ExactlyOnce, "cmd/pump")));
    local(&mut pipe, Packet::PubRec(Ack::ok(id(5))));
    let mut out = nothing();
    pipe.connected(&ConnAck { session_present: true, ..ConnAck::new(Reason::SUCCESS) }, false, &mut out);
    assert_eq!(out, nothing());
    let released = Packet::PubRel(Ack::ok(id(5)));
    assert_eq!(cloud(&mut pipe, released.clone()), to_local(released));
    let completed = Packet::PubComp(Ack::ok(id(5)));
    assert_eq!(local(&mut pipe, completed.clone()), to_cloud(completed));
}

/// A cloud of 3.1.1 hangs up on message 1, each time. The others get through, and 1 is set aside.
#[tokio::test(start_paused = true)]
async fn a_message_on_which_the_cloud_hangs_up_each_time_is_set_aside() {
    let (mut pipe, mut waiting, mut aside) = (pipe(), vec![1, 2, 3], Vec::new());
    for connection in 0.. {
        assert!(connection < 6, "it goes on for ever");
        let mut out = nothing();
        pipe.connected(&ConnAck::new(Reason::SUCCESS), false, &mut out);
        for n in &waiting {
            pipe.local_sent(Packet::Publish(publish(*n, QoS::AtLeastOnce, "plant/a")), &mut out).expect("it goes on");
        }
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        pipe.flow(&mut out);
        let mut hung_up = false;
        while !out.cloud.is_empty() || !out.local.is_empty() {
            for packet in std::mem::take(&mut out.local) {
                let Packet::PubAck(ack) = packet else { continue };
                waiting.retain(|n| *n != ack.id.get());
                aside.extend(ack.reason.is_error().then_some((ack.id.get(), ack.reason)));
            }
            for packet in std::mem::take(&mut out.cloud) {
                let Packet::Publish(Publish { id: Some(sent), .. }) = packet else { continue };
                hung_up |= sent.get() == 1;
                if !hung_up {
                    pipe.cloud_sent(Packet::PubAck(Ack::ok(sent)), &mut out).expect("it goes on");
                }
            }
        }
        if !hung_up {
            break;
        }
        pipe.ended(&End { why: String::new(), hung_up: Some(Reason::UNSPECIFIED) });
    }
    assert_eq!((aside, waiting), (vec![(1, Reason::ENDED_CONNECTIONS)], vec![]));
    assert_eq!(pipe.tally.sent, 2);
}

/// A cloud of 3.1.1 swallows what it is sent at QoS 2. It answers pings.
#[tokio::test(start_paused = true)]
async fn a_message_that_the_cloud_never_acknowledges_is_set_aside_and_the_next_go_on() {
    let stuck = Duration::from_secs(20);
    let mut pipe = pipe().patient(stuck);
    let mut out = nothing();
    for connection in 0.. {
        assert!(connection < 6, "it goes on for ever");
        pipe.connected(&ConnAck::new(Reason::SUCCESS), false, &mut out);
        for (n, qos) in [(1, QoS::ExactlyOnce), (2, QoS::AtLeastOnce)] {
            pipe.local_sent(Packet::Publish(publish(n, qos, "plant/a")), &mut out).expect("it goes on");
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        pipe.flow(&mut out);
        if !out.local.is_empty() {
            break;
        }
        let sent = std::mem::take(&mut out).cloud;
        assert!(connection == 0 || matches!(&sent[..], [Packet::Publish(_), Packet::PingReq]), "{sent:?}");
        pipe.cloud_sent(Packet::PingResp, &mut out).expect("it goes on");
        tokio::time::advance(stuck).await;
        pipe.ended(&"the cloud acknowledges nothing".to_owned().into());
    }
    assert_eq!(out.local, [Packet::PubRec(ack(1, Reason::NEVER_ACKNOWLEDGED))]);
    assert!(matches!(&out.cloud[..], [Packet::Publish(next)] if next.id == Some(id(2))), "{out:?}");
    assert_eq!(pipe.tally.aside, BTreeMap::from([("never-acknowledged", 1)]));
}

#[test]
fn what_no_rule_wants_any_more_leaves_the_queue() {
    let mut pipe = pipe();
    let out = local(&mut pipe, Packet::Publish(publish(1, QoS::AtLeastOnce, "old/a")));
    assert_eq!(out, to_local(Packet::PubAck(Ack::ok(id(1)))));
    assert!(pipe.flight().is_empty());
}

#[test]
fn commands_come_down_and_are_acknowledged_when_the_router_says_so() {
    let mut pipe = pipe();
    let out = cloud(&mut pipe, Packet::Publish(publish(5, QoS::ExactlyOnce, "cmd/pump")));
    let [Packet::Publish(command)] = &out.local[..] else { panic!("{out:?}") };
    assert_eq!((command.id, command.retain, out.cloud.len()), (Some(id(5)), true, 0));
    for (from_router, packet) in [
        (true, Packet::PubRec(Ack::ok(id(5)))),
        (false, Packet::PubRel(Ack::ok(id(5)))),
        (true, Packet::PubComp(Ack::ok(id(5)))),
    ] {
        if from_router {
            assert_eq!(local(&mut pipe, packet.clone()), to_cloud(packet));
        } else {
            assert_eq!(cloud(&mut pipe, packet.clone()), to_local(packet));
        }
    }
    assert_eq!(pipe.tally.received, 1);
    // What was not asked for is taken and goes nowhere.
    let out = cloud(&mut pipe, Packet::Publish(publish(6, QoS::ExactlyOnce, "other")));
    assert_eq!(out, to_cloud(Packet::PubRec(Ack::ok(id(6)))));
    let out = cloud(&mut pipe, Packet::PubRel(Ack::ok(id(6))));
    assert_eq!(out, to_cloud(Packet::PubComp(Ack::ok(id(6)))));
}

#[test]
fn a_topic_with_too_many_levels_is_acknowledged_and_goes_nowhere() {
    let mut pipe = pipe();
    let deep = format!("cmd{}", "/x".repeat(200));
    assert_eq!(cloud(&mut pipe, Packet::Publish(publish(0, QoS::AtMostOnce, &deep))), nothing());
    let came = cloud(&mut pipe, Packet::Publish(publish(1, QoS::AtLeastOnce, &deep)));
    assert_eq!(came, to_cloud(Packet::PubAck(Ack::ok(id(1)))));
    let came = cloud(&mut pipe, Packet::Publish(publish(2, QoS::ExactlyOnce, &deep)));
    assert_eq!(came, to_cloud(Packet::PubRec(Ack::ok(id(2)))));
    let came = cloud(&mut pipe, Packet::PubRel(Ack::ok(id(2))));
    assert_eq!(came, to_cloud(Packet::PubComp(Ack::ok(id(2)))));
}

#[test]
fn what_the_router_has_no_room_for_waits_unacknowledged_and_is_offered_again() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let answer = |reason| match qos {
            QoS::ExactlyOnce => Packet::PubRec(ack(5, reason)),
            _ => Packet::PubAck(ack(5, reason)),
        };
        let mut pipe = pipe();
        let offered = cloud(&mut pipe, Packet::Publish(publish(5, qos, "cmd/pump")));
        let again = |pipe: &mut Pipe| {
            let mut out = nothing();
            pipe.offer_again(&mut out);
            out
        };
        assert_eq!(again(&mut pipe), nothing());
        for _ in 0..2 {
            assert_eq!(local(&mut pipe, answer(Reason::QUOTA_EXCEEDED)), nothing());
            assert_eq!(again(&mut pipe), offered);
            // While the router has it, it is not offered twice.
            assert_eq!(again(&mut pipe), nothing());
        }
        // Room at last.
        assert_eq!(local(&mut pipe, answer(Reason::SUCCESS)), to_cloud(answer(Reason::SUCCESS)));
        assert_eq!((again(&mut pipe), pipe.tally.received), (nothing(), 1));
        // Any other refusal is final.
        cloud(&mut pipe, Packet::Publish(publish(5, qos, "cmd/pump")));
        let refusal = answer(Reason::NOT_AUTHORIZED);
        assert_eq!(local(&mut pipe, refusal.clone()), to_cloud(refusal));
        assert_eq!(again(&mut pipe), nothing());
    }
}

#[test]
fn what_waits_for_the_router_is_bounded() {
    let mut pipe = pipe();
    let mut refused = |n| {
        let message = Arc::new(Message::new("cmd/pump", vec![0; 4 << 20]));
        let publish = Publish { message, ..publish(n, QoS::AtLeastOnce, "cmd/pump") };
        cloud(&mut pipe, Packet::Publish(publish));
        pipe.local_sent(Packet::PubAck(ack(n, Reason::QUOTA_EXCEEDED)), &mut nothing())
    };
    assert!((1..=3).all(|n| refused(n).is_ok()));
    assert!(refused(4).expect_err("too much").contains("full"));
}

#[test]
fn a_command_cut_off_does_not_make_the_next_one_look_like_a_repetition() {
    let mut pipe = pipe();
    cloud(&mut pipe, Packet::Publish(publish(5, QoS::ExactlyOnce, "cmd/pump")));
    let mut out = nothing();
    pipe.connected(&ConnAck::new(Reason::SUCCESS), false, &mut out);
    assert_eq!(out, to_local(Packet::PubRel(Ack::ok(id(5)))));
    // The answer to that is not the cloud's, which uses the id anew.
    cloud(&mut pipe, Packet::Publish(publish(5, QoS::ExactlyOnce, "cmd/pump")));
    assert_eq!(local(&mut pipe, Packet::PubComp(Ack::ok(id(5)))), nothing());
    let released = cloud(&mut pipe, Packet::PubRel(Ack::ok(id(5))));
    assert_eq!(released, to_local(Packet::PubRel(Ack::ok(id(5)))));
}

#[test]
fn while_ending_nothing_new_goes_up_but_what_is_under_way_is_finished() {
    let mut pipe = pipe();
    local(&mut pipe, Packet::Publish(publish(1, QoS::AtLeastOnce, "plant/a")));
    pipe.drain();
    assert_eq!(local(&mut pipe, Packet::Publish(publish(2, QoS::AtLeastOnce, "plant/a"))), nothing());
    assert_ne!(pipe.free_id(), id(1));
    cloud(&mut pipe, Packet::PubAck(ack(1, Reason::SUCCESS)));
    assert!(pipe.flight().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_flood_at_qos_0_above_the_rate_is_dropped_and_holds_up_nothing_else() {
    let mut pipe = pipe().with(Mark::None, Some(Rate { messages: Some(1), bytes: None }));
    let large = |n, qos| {
        Packet::Publish(Publish {
            message: Arc::new(Message::new("plant/a", vec![0; 1 << 20])),
            ..publish(n, qos, "plant/a")
        })
    };
    (0..10).for_each(|_| drop(local(&mut pipe, large(0, QoS::AtMostOnce))));
    let dropped = pipe.tally.aside.get(aside::TOO_FAST).copied();
    assert!(dropped.is_some_and(|n| (4..8).contains(&n)), "{dropped:?}");
    // What is owed to somebody waits, and an acknowledgement of a command passes by.
    assert_eq!(local(&mut pipe, large(1, QoS::AtLeastOnce)), nothing());
    assert_eq!(pipe.tally.aside.get(aside::TOO_FAST).copied(), dropped);
    let command = publish(7, QoS::AtLeastOnce, "cmd/a");
    cloud(&mut pipe, Packet::Publish(command));
    let answer = Packet::PubAck(ack(7, Reason::SUCCESS));
    assert_eq!(local(&mut pipe, answer.clone()), to_cloud(answer));
}
