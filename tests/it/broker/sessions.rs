//! Clients come and go: last wills, keep alive, takeover, sessions that stay.

use std::num::NonZeroU16;
use std::time::Duration;

use fieldpost::message::{Message, QoS};
use fieldpost::mqtt::{Ack, Connect, Packet, Publish, Reason, Version, Will};
use serde_json::json;
use tokio::time::Instant;

use super::mosquitto::{self, Subscriber, VERSIONS};
use super::paho::{Paho, numbers};
use super::raw::{self, Raw};
use crate::support::Gateway;

#[tokio::test]
async fn a_will_follows_a_lost_connection_and_not_a_good_bye() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    paho.connect("watcher", json!({})).await;
    paho.subscribe("watcher", "gone/#", 2).await;
    for version in [3, 4, 5] {
        let connect = |id: &str| {
            let will = json!({"topic": format!("gone/{id}"), "payload": id, "qos": 1, "retain": true});
            json!({"v": version, "id": id, "will": will})
        };
        paho.connect("polite", connect("polite")).await;
        paho.connect("lost", connect("lost")).await;
        paho.disconnect("polite").await;
        paho.vanish("lost").await;
        let will = &paho.take("watcher", 1).await[0];
        assert_eq!((&will["payload"], &will["qos"]), (&json!("lost"), &json!(1)), "{will}");
    }
    // Retained, as the client asked.
    paho.connect("late", json!({})).await;
    paho.subscribe("late", "gone/#", 0).await;
    let will = &paho.take("late", 1).await[0];
    assert_eq!((&will["payload"], &will["retain"]), (&json!("lost"), &json!(true)));
    // MQTT 5 has a good-bye with the will.
    paho.connect("bitter", json!({"v": 5, "will": {"topic": "gone/bitter", "payload": "bitter"}})).await;
    paho.ask("bitter", "disconnect", json!({"reason": 4})).await;
    assert_eq!(paho.payloads("watcher", 1).await, ["bitter"]);
}

#[tokio::test]
async fn a_delayed_will_waits_for_its_client_to_come_back() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    paho.connect("watcher", json!({})).await;
    paho.subscribe("watcher", "gone/#", 2).await;
    let connect = |id: &str, delay: u32| {
        let will = json!({"topic": format!("gone/{id}"), "payload": id, "delay": delay});
        json!({"v": 5, "id": id, "clean": false, "expiry": 60, "will": will})
    };
    paho.connect("back", connect("back", 1)).await;
    paho.connect("away", connect("away", 1)).await;
    paho.vanish("back").await;
    assert!(paho.connect("back", connect("back", 1)).await);
    paho.vanish("away").await;
    assert_eq!(paho.payloads("watcher", 1).await, ["away"]);
}

#[tokio::test]
async fn a_silent_client_is_given_up_after_one_and_a_half_times_its_keep_alive() {
    let gateway = Gateway::start("").await;
    let mut watcher = Subscriber::start(&gateway, &["-t", "silent"]).await;
    for version in [Version::V311, Version::V5] {
        let will = Will { message: Message::new("silent", "alas"), delay: Duration::ZERO };
        let keep_alive = Duration::from_secs(1);
        let connect = Connect { will: Some(will), keep_alive, ..raw::connect(version, "silent", 0) };
        let mut raw = Raw::connect(&gateway, connect).await;
        assert!(matches!(raw.next().await, Packet::ConnAck(_)));
        let since = Instant::now();
        assert_eq!(watcher.next().await, "silent alas 0 0");
        assert!(since.elapsed().as_secs_f32() > 1.2, "it had time until then");
        if version == Version::V5 {
            assert_eq!(raw.next().await, Packet::Disconnect { reason: Reason::KEEP_ALIVE_TIMEOUT, expiry: None });
        }
    }
}

#[tokio::test]
async fn a_second_connection_with_the_same_id_takes_the_first_one_s_place() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    for version in [4, 5] {
        let connect = json!({"v": version, "id": "twin", "clean": false, "expiry": 60});
        assert!(!paho.connect("first", connect.clone()).await);
        paho.subscribe("first", "t", 1).await;
        assert!(paho.connect("second", connect).await);
        let reason = paho.ask("first", "lost", json!({})).await["reason"].clone();
        assert!(version == 4 || reason == 0x8E, "{reason}");
        paho.publish("second", "t", "mine", 1).await;
        assert_eq!(paho.payloads("second", 1).await, ["mine"]);
        // A clean start forgets it all.
        assert!(!paho.connect("third", json!({"v": version, "id": "twin"})).await);
        paho.disconnect("third").await;
    }
}

#[tokio::test]
async fn a_kept_session_gets_what_came_while_it_was_away_in_order() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    paho.connect("p", json!({})).await;
    for version in [3, 4, 5] {
        let id = format!("keeper-{version}");
        let connect = json!({"v": version, "id": id, "clean": false, "expiry": 60});
        assert!(!paho.connect(&id, connect.clone()).await);
        paho.subscribe(&id, "away/#", 1).await;
        paho.disconnect(&id).await;
        // Those who are away miss QoS 0, and more than fits into RAM waits on disk.
        paho.publish("p", "away/x", "missed", 0).await;
        paho.burst("p", "away/x", 2, 0..1500).await;
        // 3.1 has no word for it.
        assert_eq!(paho.connect(&id, connect).await, version > 3);
        paho.publish("p", "away/x", "live", 0).await;
        assert_eq!(paho.payloads(&id, 1501).await, [numbers(0..1500), vec!["live".to_owned()]].concat());
        paho.ask(&id, "unsubscribe", json!({"filters": ["away/#"]})).await;
        paho.disconnect(&id).await;

        // A clean one is forgotten.
        let connect = json!({"v": version, "id": "clean"});
        for _ in 0..2 {
            assert!(!paho.connect("clean", connect.clone()).await);
            paho.subscribe("clean", "away/#", 1).await;
            paho.disconnect("clean").await;
        }
        paho.publish("p", "away/x", "nobody", 1).await;
        assert!(!paho.connect("clean", connect).await);
        paho.subscribe("clean", "away/#", 1).await;
        paho.publish("p", "away/x", "somebody", 1).await;
        assert_eq!(paho.payloads("clean", 1).await, ["somebody"]);
        paho.disconnect("clean").await;
    }
}

#[tokio::test]
async fn mosquitto_sub_finds_its_session_again() {
    let gateway = Gateway::start("").await;
    for version in VERSIONS {
        let session = ["-V", version, "-i", version, "-c", "-x", "60", "-q", "1", "-t", version];
        let session = if version == "mqttv5" { &session[..] } else { &[&session[..5], &session[7..]].concat()[..] };
        let leave = [session, &["-E"]].concat();
        assert_eq!(mosquitto::run(&gateway, "mosquitto_sub", &leave).await.0, Some(0));
        for n in ["1", "2", "3"] {
            mosquitto::publish(&gateway, &["-V", version, "-q", "1", "-t", version, "-m", n]).await;
        }
        let take = [session, &["-C", "3"]].concat();
        assert_eq!(mosquitto::run(&gateway, "mosquitto_sub", &take).await, (Some(0), "1\n2\n3\n".to_owned()));
    }
}

#[tokio::test]
async fn a_session_ends_when_it_expires() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    let connect = json!({"v": 5, "id": "short", "clean": false, "expiry": 1, "will": {"topic": "end", "delay": 30}});
    paho.connect("watcher", json!({})).await;
    paho.subscribe("watcher", "end", 0).await;
    paho.connect("short", connect.clone()).await;
    paho.vanish("short").await;
    // The will comes with the end of the session when that is earlier than its delay.
    paho.take("watcher", 1).await;
    assert!(!paho.connect("short", connect).await);
}

#[tokio::test]
async fn qos_2_arrives_exactly_once_whatever_connection_breaks() {
    let gateway = Gateway::start("").await;
    for version in [Version::V311, Version::V5] {
        let mut watcher = Raw::connect(&gateway, raw::connect(version, "watcher", 60)).await;
        watcher.send(raw::subscribe("once", QoS::ExactlyOnce)).await;
        assert!(matches!(watcher.next().await, Packet::ConnAck(_)));
        assert!(matches!(watcher.next().await, Packet::SubAck { .. }));

        // The publisher loses its connection before PUBREL, and sends its message again.
        let first = raw::publish(7, QoS::ExactlyOnce, "once", "1");
        let mut sender = Raw::connect(&gateway, raw::connect(version, "sender", 60)).await;
        sender.send(Packet::Publish(first.clone())).await;
        assert!(matches!(sender.next().await, Packet::ConnAck(_)));
        let Packet::Publish(Publish { id: Some(id), dup: false, .. }) = watcher.next().await else { panic!() };
        watcher.send(Packet::PubRec(Ack::ok(id))).await;
        assert_eq!(watcher.next().await, Packet::PubRel(Ack::ok(id)));
        assert_eq!(sender.next().await, Packet::PubRec(Ack::ok(NonZeroU16::new(7).unwrap())));
        drop(sender);
        let mut sender = Raw::connect(&gateway, raw::connect(version, "sender", 60)).await;
        sender.send(Packet::Publish(Publish { dup: true, ..first })).await;
        assert!(matches!(sender.next().await, Packet::ConnAck(ack) if ack.session_present));
        let seven = Ack::ok(NonZeroU16::new(7).unwrap());
        assert_eq!(sender.next().await, Packet::PubRec(seven));
        sender.send(Packet::PubRel(seven)).await;
        assert_eq!(sender.next().await, Packet::PubComp(seven));

        // The subscriber loses its own before PUBCOMP: PUBREL comes again, and the message does not.
        drop(watcher);
        let mut watcher = Raw::connect(&gateway, raw::connect(version, "watcher", 60)).await;
        assert!(matches!(watcher.next().await, Packet::ConnAck(ack) if ack.session_present));
        assert_eq!(watcher.next().await, Packet::PubRel(Ack::ok(id)));
        watcher.send(Packet::PubComp(Ack::ok(id))).await;

        // Lost before PUBREC, the message comes again, marked as such and under its id.
        sender.send(Packet::Publish(raw::publish(8, QoS::ExactlyOnce, "once", "2"))).await;
        let Packet::Publish(second) = watcher.next().await else { panic!() };
        drop(watcher);
        let mut watcher = Raw::connect(&gateway, raw::connect(version, "watcher", 60)).await;
        assert!(matches!(watcher.next().await, Packet::ConnAck(ack) if ack.session_present));
        let Packet::Publish(again) = watcher.next().await else { panic!() };
        assert_eq!((again.id, again.dup, &again.message.payload[..]), (second.id, true, &b"2"[..]));
        for client in ["watcher", "sender"] {
            Raw::connect(&gateway, raw::connect(version, client, 0)).await.next().await;
        }
    }
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_first_and_in_order() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    for version in [4, 5] {
        let connect = json!({"v": version, "id": "slow", "clean": false, "expiry": 60, "manual": true});
        paho.connect("p", json!({"v": version})).await;
        paho.connect("slow", connect.clone()).await;
        paho.subscribe("slow", "t", 1).await;
        paho.burst("p", "t", 1, 0..30).await;
        assert_eq!(paho.payloads("slow", 30).await, numbers(0..30));
        paho.vanish("slow").await;
        paho.burst("p", "t", 1, 30..60).await;
        assert!(paho.connect("slow", connect).await);
        assert_eq!(paho.payloads("slow", 60).await, numbers(0..60));
        paho.disconnect("slow").await;
        paho.connect("slow", json!({"v": version, "id": "slow"})).await;
        paho.disconnect("slow").await;
    }
}

#[tokio::test]
async fn a_client_without_an_id_gets_one() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    let answer = paho.ask("five", "connect", json!({"v": 5})).await;
    assert!(!answer["properties"]["AssignedClientIdentifier"].as_str().unwrap().is_empty(), "{answer}");
    paho.connect("three", json!({"v": 4})).await;
    for name in ["five", "three"] {
        paho.subscribe(name, "t", 0).await;
    }
    paho.publish("three", "t", "x", 1).await;
    for name in ["five", "three"] {
        assert_eq!(paho.payloads(name, 1).await, ["x"]);
    }
    // A session to keep needs an id to find it by (MQTT 3.1.1, 3.1.3.1).
    let connect = Connect { clean_start: false, ..raw::connect(Version::V311, "", u32::MAX) };
    let Packet::ConnAck(ack) = Raw::connect(&gateway, connect).await.next().await else { panic!() };
    assert_eq!(ack.reason, Reason::CLIENT_ID_NOT_VALID);
}
