//! What is published reaches who wants it: quality of service, filters, retained messages, many and large messages.

use serde_json::json;

use super::mosquitto::{self, Subscriber, VERSIONS};
use super::paho::{Paho, numbers};
use crate::support::Gateway;

#[tokio::test]
async fn mosquitto_s_clients_get_the_lower_of_both_qualities_of_service() {
    let gateway = Gateway::start("").await;
    for (version, other) in VERSIONS.into_iter().zip(VERSIONS.into_iter().cycle().skip(1)) {
        let mut subscribers = Vec::new();
        for granted in ["0", "1", "2"] {
            let id = format!("{version}-{granted}");
            let args = ["-V", version, "-i", &id, "-q", granted, "-t", "matrix/+"];
            subscribers.push(Subscriber::start(&gateway, &args).await);
        }
        for asked in ["0", "1", "2"] {
            for publisher in [version, other] {
                let id = format!("{publisher}-publisher");
                let args = ["-V", publisher, "-i", &id, "-q", asked, "-t", "matrix/x", "-m", asked];
                mosquitto::publish(&gateway, &args).await;
            }
        }
        for (granted, subscriber) in subscribers.iter_mut().enumerate() {
            for asked in 0..=2 {
                let expected = format!("matrix/x {asked} {} 0", granted.min(asked));
                assert_eq!([subscriber.next().await, subscriber.next().await], [expected.clone(), expected]);
            }
        }
    }
}

#[tokio::test]
async fn paho_s_clients_get_the_lower_of_both_qualities_of_service() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    for version in [3, 4, 5] {
        let name = |granted: u8| format!("{version}-{granted}");
        for granted in 0..=2 {
            paho.connect(&name(granted), json!({"v": version, "id": name(granted)})).await;
            paho.subscribe(&name(granted), "matrix/#", granted).await;
        }
        for asked in 0..=2 {
            paho.publish(&name(0), "matrix", &asked.to_string(), asked).await;
        }
        for granted in 0..=2 {
            let messages = paho.take(&name(granted), 3).await;
            let qualities: Vec<_> = messages.iter().map(|message| message["qos"].clone()).collect();
            assert_eq!(qualities, [json!(0), json!(granted.min(1)), json!(granted)], "{version}");
        }
        for granted in 0..=2 {
            paho.disconnect(&name(granted)).await;
        }
    }
}

#[tokio::test]
async fn filters_match_as_the_specification_says() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    paho.connect("p", json!({})).await;
    let filters = [
        ("#", "a a/b a/b/c /a a/ grün/ä"),
        ("+", "a"),
        ("a/#", "a a/b a/b/c a/"),
        ("a/+", "a/b a/"),
        ("+/+", "a/b /a a/ grün/ä"),
        ("+/b/#", "a/b a/b/c"),
        ("a/b", "a/b"),
        ("grün/+", "grün/ä"),
        ("$none/#", ""),
    ];
    for (filter, _) in filters {
        paho.connect(filter, json!({"v": 5})).await;
        // Without what is retained: the gateway's own status.
        let step = json!({"filters": [[filter, {"handling": 2}], ["the/last/of/all", 1]]});
        assert_eq!(paho.ask(filter, "subscribe", step).await["reasons"], json!([1, 1]));
    }
    // What begins with `$` is the gateway's own: a client's message on it reaches nobody.
    for topic in ["$none/x", "$SYS/x", "a", "a/b", "a/b/c", "/a", "a/", "grün/ä", "the/last/of/all"] {
        paho.publish("p", topic, topic, 1).await;
    }
    for (filter, expected) in filters {
        let expected: Vec<_> = expected.split_whitespace().chain(["the/last/of/all"]).collect();
        assert_eq!(paho.payloads(filter, expected.len()).await, expected, "{filter}");
    }
    paho.ask("#", "unsubscribe", json!({"filters": ["#"]})).await;
    paho.publish("p", "a", "not any more", 1).await;
    paho.publish("p", "the/last/of/all", "end", 1).await;
    assert_eq!(paho.payloads("#", 1).await, ["end"]);
}

#[tokio::test]
async fn the_last_retained_message_of_a_topic_awaits_new_subscribers() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    paho.connect("early", json!({})).await;
    paho.subscribe("early", "keep/#", 2).await;
    paho.connect("p", json!({})).await;
    for (topic, payload) in [("keep/a", "1"), ("keep/a", "2"), ("keep/b", "3"), ("keep/c", "4"), ("keep/b", "")] {
        paho.retain("p", topic, payload).await;
    }
    paho.publish("p", "keep/c", "not retained", 1).await;
    paho.publish("p", "keep/end", "", 1).await;
    // Who was there sees them come, as messages like others.
    let messages = paho.take("early", 7).await;
    assert!(messages.iter().all(|message| message["retain"] == false), "{messages:?}");

    for version in VERSIONS {
        let args = ["-V", version, "-i", "late", "-q", "1", "-t", "keep/#"];
        let mut late = Subscriber::start(&gateway, &args).await;
        let mut kept = [late.next().await, late.next().await];
        kept.sort();
        assert_eq!(kept, ["keep/a 2 1 1", "keep/c 4 1 1"]);
        mosquitto::publish(&gateway, &["-t", "keep/d", "-m", "live", "-q", "1"]).await;
        assert_eq!(late.next().await, "keep/d live 1 0");
    }
}

#[tokio::test]
async fn thousands_of_messages_as_fast_as_they_go_arrive_all_and_in_order() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    for version in [4, 5] {
        paho.connect("s", json!({"v": version})).await;
        paho.subscribe("s", "fast", 1).await;
        paho.connect("p", json!({"v": version})).await;
        paho.burst("p", "fast", 1, 0..4000).await;
        assert_eq!(paho.payloads("s", 4000).await, numbers(0..4000));
        paho.disconnect("p").await;
        paho.disconnect("s").await;
    }
}

#[tokio::test]
async fn ten_subscribers_get_the_same() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    let names: Vec<_> = (0..10).map(|n| format!("s{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        paho.connect(name, json!({"v": 4 + n % 2})).await;
        paho.subscribe(name, "fan/+", 1 + (n % 2) as u8).await;
    }
    paho.connect("p", json!({})).await;
    paho.burst("p", "fan/out", 2, 0..200).await;
    for name in &names {
        assert_eq!(paho.payloads(name, 200).await, numbers(0..200), "{name}");
    }
}

#[tokio::test]
async fn a_payload_of_half_a_megabyte_passes_and_one_of_none() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    for version in [4, 5] {
        for qos in 0..=2 {
            let name = format!("{version}-{qos}");
            paho.connect(&name, json!({"v": version})).await;
            paho.subscribe(&name, &name, qos).await;
            for (payload, size) in [("large", 500_000), ("", 0)] {
                let step = json!({"topic": name, "payload": payload, "size": size, "qos": qos});
                paho.ask(&name, "publish", step).await;
                let message = &paho.take(&name, 1).await[0];
                assert_eq!((&message["payload"], &message["size"]), (&json!(payload), &json!(size)));
            }
        }
    }
}
