//! The `$SYS` topics, beside those of Mosquitto.

use std::collections::BTreeMap;

use fieldpost::message::QoS;
use fieldpost::mqtt::{Packet, Version};
use tokio::time::{Instant, timeout_at};

use super::raw::{self, Raw};
use crate::support::process::PATIENCE;
use crate::support::{Gateway, Mosquitto};

/// What stands on `$SYS/#` of the broker at this port, as soon as that is `enough`.
async fn topics(port: u16, enough: impl Fn(&BTreeMap<String, String>) -> bool) -> BTreeMap<String, String> {
    let mut raw = Raw::connect_to(port, raw::connect(Version::V311, "watcher", 0)).await;
    raw.send(raw::subscribe("$SYS/#", QoS::AtMostOnce)).await;
    let mut topics = BTreeMap::new();
    let end = Instant::now() + PATIENCE;
    while !enough(&topics) {
        let packet = timeout_at(end, raw.next()).await.unwrap_or_else(|_| panic!("not in time: {topics:#?}"));
        if let Packet::Publish(publish) = packet {
            let value = String::from_utf8(publish.message.payload.to_vec()).unwrap();
            topics.insert(publish.message.topic.to_string(), value);
        }
    }
    topics
}

fn count(topics: &BTreeMap<String, String>, name: &str) -> u64 {
    topics.get(&format!("$SYS/broker/{name}")).and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn the_same_topics_as_mosquitto_s() {
    // What is absent, and why: nobody counts the heap here; the process's memory is in /metrics of whoever runs it.
    let absent = ["$SYS/broker/heap/current", "$SYS/broker/heap/maximum"];
    let mosquitto = Mosquitto::start("sys_interval 1").await;
    let theirs = topics(mosquitto.port(), |t| count(t, "uptime") == 0 && t.len() >= 53).await;
    let gateway = Gateway::start("[broker]\nlisten = \"@mqtt@\"\nsys-interval = \"1s\"\n").await;
    let ours = topics(gateway.mqtt_port(), |t| t.len() >= 51).await;
    let theirs: Vec<_> = theirs.keys().filter(|topic| !absent.contains(&topic.as_str())).collect();
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs);
}

#[tokio::test]
async fn clients_messages_and_bytes_are_counted() {
    let gateway = Gateway::start("[broker]\nlisten = \"@mqtt@\"\nsys-interval = \"200ms\"\n").await;
    let mut raw = Raw::connect(&gateway, raw::connect(Version::V5, "c", 0)).await;
    raw.next().await;
    raw.send(raw::subscribe("$share/g/t", QoS::AtLeastOnce)).await;
    raw.next().await;
    for id in 1..=3 {
        raw.send(Packet::Publish(raw::publish(id, QoS::AtLeastOnce, "t", "12345"))).await;
    }
    let all = topics(gateway.mqtt_port(), |t| {
        count(t, "clients/connected") == 2
            && count(t, "publish/messages/received") == 3
            && count(t, "publish/bytes/received") == 15
            && count(t, "subscriptions/count") >= 2
            && count(t, "shared_subscriptions/count") == 1
            && count(t, "bytes/received") > 60
            && count(t, "bytes/sent") > 1000
            && count(t, "retained messages/count") > 50
    })
    .await;
    assert!(count(&all, "clients/maximum") >= 2, "{all:#?}");
}

#[tokio::test]
async fn an_uplink_s_state_is_told_and_nobody_else_may() {
    let cloud = Mosquitto::start("").await;
    let config = format!("[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{}\"\npublish = [\"#\"]\n", cloud.port());
    let gateway = Gateway::start(&config).await;
    let state = "$SYS/broker/connection/cloud/state";
    topics(gateway.mqtt_port(), |t| t.get(state).is_some_and(|value| value == "1")).await;
    let mut raw = Raw::connect(&gateway, raw::connect(Version::V311, "c", 0)).await;
    raw.next().await;
    raw.send(Packet::Publish(raw::publish(1, QoS::AtLeastOnce, state, "0"))).await;
    assert!(matches!(raw.next().await, Packet::PubAck(_)), "3.1.1 has no word for it");
    let mut cloud = cloud;
    cloud.stop().await;
    topics(gateway.mqtt_port(), |t| t.get(state).is_some_and(|value| value == "0")).await;
}
