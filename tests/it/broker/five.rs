//! What MQTT 5 has beside 3.1.1, as paho and mosquitto_pub use it.

use std::num::NonZeroU16;

use fieldpost::message::QoS;
use fieldpost::mqtt::{Ack, Connect, Packet, Publish, Reason, Version};
use serde_json::{Value, json};

use super::mosquitto;
use super::paho::{Paho, numbers};
use super::raw::{self, Raw};
use crate::support::Gateway;

/// A gateway, and a client "me" of version 5.
async fn start() -> (Gateway, Paho) {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    paho.connect("me", json!({"v": 5, "id": "me"})).await;
    (gateway, paho)
}

#[tokio::test]
async fn properties_reach_the_subscriber_also_through_the_disk_and_retained() {
    let (mut gateway, mut paho) = start().await;
    let keeper = json!({"v": 5, "id": "keeper", "clean": false, "expiry": 3600});
    paho.connect("keeper", keeper.clone()).await;
    paho.subscribe("keeper", "p", 1).await;
    paho.disconnect("keeper").await;
    paho.subscribe("me", "p", 1).await;
    let sent = json!({
        "UserProperty": [["name", "one"], ["name", "two"], ["größe", ""]],
        "ContentType": "text/plain",
        "ResponseTopic": "answer/here",
        "CorrelationData": "abc",
        "PayloadFormatIndicator": 1,
    });
    let mut expected = sent.clone();
    expected["CorrelationData"] = json!("616263");
    let publish = json!({"topic": "p", "payload": "x", "retain": true, "properties": sent});
    paho.ask("me", "publish", publish).await;
    let came = |message: &Value| {
        let mut properties = message["properties"].clone();
        properties.as_object_mut().unwrap().remove("SubscriptionIdentifier");
        properties
    };
    assert_eq!(came(&paho.take("me", 1).await[0]), expected);
    gateway.kill().await;
    gateway.start_again().await;
    let mut paho = Paho::start(&gateway);
    paho.connect("keeper", keeper).await;
    assert_eq!(came(&paho.take("keeper", 1).await[0]), expected);
    paho.connect("late", json!({"v": 5})).await;
    paho.subscribe("late", "p", 0).await;
    assert_eq!(came(&paho.take("late", 1).await[0]), expected);
    // And through mosquitto_pub to a client of 3.1.1, which knows no properties.
    paho.connect("old", json!({"v": 4})).await;
    paho.subscribe("old", "q", 0).await;
    let property = ["-D", "publish", "user-property", "a", "b"];
    mosquitto::publish(&gateway, &[&["-V", "5", "-t", "q", "-m", "x"], &property[..]].concat()).await;
    assert_eq!(paho.payloads("old", 1).await, ["x"]);
}

#[tokio::test]
async fn an_expired_message_is_not_delivered() {
    let (_gateway, mut paho) = start().await;
    let keeper = json!({"v": 5, "id": "keeper", "clean": false, "expiry": 3600});
    paho.connect("keeper", keeper.clone()).await;
    paho.subscribe("keeper", "+", 1).await;
    paho.disconnect("keeper").await;
    for (topic, expiry, retain) in [("a", 1, false), ("b", 600, false), ("a", 1, true)] {
        let properties = json!({"MessageExpiryInterval": expiry});
        let step = json!({"topic": topic, "payload": topic, "retain": retain, "properties": properties});
        paho.ask("me", "publish", step).await;
    }
    // A will with a delay of two seconds tells that the time is over.
    let will = json!({"topic": "clock", "delay": 2, "qos": 1});
    paho.connect("clock", json!({"v": 5, "id": "clock", "expiry": 60, "will": will})).await;
    paho.subscribe("me", "clock", 0).await;
    paho.vanish("clock").await;
    paho.take("me", 1).await;
    paho.connect("keeper", keeper).await;
    let messages = paho.take("keeper", 2).await;
    assert_eq!((&messages[0]["topic"], &messages[1]["topic"]), (&json!("b"), &json!("clock")));
    let left = messages[0]["properties"]["MessageExpiryInterval"].as_u64().unwrap();
    assert!((500..=598).contains(&left), "what it has waited is taken off: {left}");
    paho.subscribe("me", "a", 1).await;
    paho.publish("me", "a", "fresh", 1).await;
    assert_eq!(paho.payloads("me", 1).await, ["fresh"]);
}

#[tokio::test]
async fn a_message_names_the_subscriptions_that_it_came_by() {
    let (_gateway, mut paho) = start().await;
    for (filter, id) in [("a/#", 7), ("a/+", 300_000)] {
        paho.ask("me", "subscribe", json!({"filters": [[filter, 1]], "id": id})).await;
    }
    paho.publish("me", "a/b", "both", 1).await;
    paho.publish("me", "a/b/c", "one", 1).await;
    let messages = paho.take("me", 2).await;
    let ids = |message: &Value| {
        let mut ids: Vec<u64> =
            serde_json::from_value(message["properties"]["SubscriptionIdentifier"].clone()).unwrap();
        ids.sort_unstable();
        ids
    };
    assert_eq!((ids(&messages[0]), ids(&messages[1])), (vec![7, 300_000], vec![7]));
}

#[tokio::test]
async fn no_local_and_the_three_ways_with_retained_messages() {
    let (_gateway, mut paho) = start().await;
    paho.connect("other", json!({"v": 5})).await;
    paho.ask("me", "subscribe", json!({"filters": [["t", {"local": false}]]})).await;
    paho.publish("me", "t", "own", 1).await;
    paho.publish("other", "t", "other's", 1).await;
    assert_eq!(paho.payloads("me", 1).await, ["other's"]);

    paho.retain("me", "r", "kept").await;
    // 0: always; 1: for a new subscription; 2: never. `live` marks the end of what came.
    for (handling, times) in [(0, 2), (1, 1), (2, 0)] {
        let name = format!("handling-{handling}");
        paho.connect(&name, json!({"v": 5})).await;
        for _ in 0..2 {
            paho.ask(&name, "subscribe", json!({"filters": [["r", {"handling": handling}]]})).await;
        }
        paho.publish("me", "r", "live", 1).await;
        let expected = [vec!["kept"; times], vec!["live"]].concat();
        assert_eq!(paho.payloads(&name, times + 1).await, expected, "{handling}");
        paho.disconnect(&name).await;
    }
    paho.connect("published", json!({"v": 5})).await;
    let filter = json!(["s", {"published": true}]);
    paho.ask("published", "subscribe", json!({"filters": [filter]})).await;
    paho.retain("me", "s", "x").await;
    assert_eq!(paho.take("published", 1).await[0]["retain"], true);
}

#[tokio::test]
async fn a_topic_alias_stands_for_its_topic_until_it_is_set_anew() {
    let (gateway, mut paho) = start().await;
    paho.subscribe("me", "long/#", 1).await;
    for (topic, payload, alias) in [("long/a", "1", 1), ("", "2", 1), ("long/b", "3", 1), ("", "4", 1)] {
        let step = json!({"topic": topic, "payload": payload, "properties": {"TopicAlias": alias}});
        paho.ask("me", "publish", step).await;
    }
    let topics: Vec<_> = paho.take("me", 4).await.iter().map(|message| message["topic"].clone()).collect();
    assert_eq!(topics, ["long/a", "long/a", "long/b", "long/b"]);
    for (topic, alias, reason) in [("", 9, Reason::PROTOCOL_ERROR), ("t", 65535, Reason::TOPIC_ALIAS_INVALID)] {
        let mut raw = Raw::connect(&gateway, raw::connect(Version::V5, "alias", 0)).await;
        let Packet::ConnAck(ack) = raw.next().await else { panic!() };
        assert!((1..65535).contains(&ack.topic_alias_maximum));
        let publish = raw::publish(1, QoS::AtLeastOnce, topic, "x");
        raw.send(Packet::Publish(Publish { topic_alias: NonZeroU16::new(alias), ..publish })).await;
        assert_eq!(raw.next().await, Packet::Disconnect { reason, expiry: None });
    }
}

#[tokio::test]
async fn a_client_s_receive_maximum_bounds_what_is_in_flight_to_it() {
    let (gateway, mut paho) = start().await;
    let receive_maximum = NonZeroU16::new(3).unwrap();
    let connect = Connect { receive_maximum, ..raw::connect(Version::V5, "narrow", 0) };
    let mut raw = Raw::connect(&gateway, connect).await;
    raw.send(raw::subscribe("t", QoS::AtLeastOnce)).await;
    assert!(matches!(raw.next().await, Packet::ConnAck(_)));
    assert!(matches!(raw.next().await, Packet::SubAck { .. }));
    paho.burst("me", "t", 1, 0..10).await;
    for round in 0..10 {
        let mut open = Vec::new();
        // Three at first, then one for each that was acknowledged; the answer to the ping is the end.
        raw.send(Packet::PingReq).await;
        loop {
            match raw.next().await {
                Packet::Publish(publish) => open.push(publish),
                Packet::PingResp => break,
                other => panic!("{other:?}"),
            }
        }
        let expected = if round == 0 { 3 } else { usize::from(round < 8) };
        assert_eq!(open.len(), expected, "{round}");
        // Each is acknowledged under the id of the oldest that is open: ids are given in order.
        raw.send(Packet::PubAck(Ack::ok(NonZeroU16::new(round + 1).unwrap()))).await;
    }
}

#[tokio::test]
async fn a_message_larger_than_its_subscriber_takes_is_left_out_for_it_only() {
    let (_gateway, mut paho) = start().await;
    let keeper = json!({"v": 5, "id": "small", "packet": 200, "clean": false, "expiry": 60});
    paho.connect("small", keeper).await;
    for name in ["small", "me"] {
        paho.subscribe(name, "t", 2).await;
    }
    for (payload, size, qos) in [("0", 0, 2), ("large", 5000, 0), ("large", 5000, 1), ("large", 5000, 2), ("1", 0, 1)] {
        paho.ask("me", "publish", json!({"topic": "t", "payload": payload, "size": size, "qos": qos})).await;
    }
    assert_eq!(paho.payloads("small", 2).await, numbers(0..2));
    assert_eq!(paho.take("me", 5).await[3]["size"], 5000);
}

#[tokio::test]
async fn answers_say_what_was_not_done() {
    let (_gateway, mut paho) = start().await;
    // paho looks at filters itself and lets these pass.
    let filters = json!([["good/#", 2], ["$share/group/t", 1], ["plain", 0], ["$share/group", 0]]);
    let answer = paho.ask("me", "subscribe", json!({"filters": filters})).await;
    assert_eq!(answer["reasons"], json!([2, 1, 0, 0x8F]));
    let answer = paho.ask("me", "unsubscribe", json!({"filters": ["plain", "never"]})).await;
    assert_eq!(answer["reasons"], json!([0, 0x11]));
    for (topic, qos, reason) in [("good/a", 1, 0), ("nobody", 1, 0x10), ("$SYS/x", 1, 0x87)] {
        let answer = paho.ask("me", "publish", json!({"topic": topic, "qos": qos})).await;
        assert_eq!(answer["reason"], reason, "{topic}");
    }
}

#[tokio::test]
async fn a_bad_filter_is_refused_and_the_others_stand() {
    let (gateway, mut paho) = start().await;
    for version in [Version::V311, Version::V5] {
        let mut raw = Raw::connect(&gateway, raw::connect(version, "raw", 0)).await;
        assert!(matches!(raw.next().await, Packet::ConnAck(_)));
        let Packet::Subscribe(mut subscribe) = raw::subscribe("a/#", QoS::AtLeastOnce) else { panic!() };
        let options = subscribe.filters[0].1;
        let deep = "/".repeat(40_000);
        subscribe.filters.extend(["a/#/b", "a+", &deep].map(|filter| (filter.into(), options)));
        raw.send(Packet::Subscribe(subscribe)).await;
        let Packet::SubAck { reasons, .. } = raw.next().await else { panic!() };
        let bad = if version == Version::V5 { Reason::TOPIC_FILTER_INVALID } else { Reason::UNSPECIFIED };
        assert_eq!(reasons, [Reason(1), bad, bad, bad]);
        paho.publish("me", "a/x", "x", 0).await;
        assert!(matches!(raw.next().await, Packet::Publish(_)));
    }
}
