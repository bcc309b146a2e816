//! What was acknowledged outlives the gateway: stopped in peace, or killed.

use std::collections::BTreeSet;

use serde_json::json;

use super::mosquitto::{self, VERSIONS};
use super::paho::{Paho, numbers};
use crate::support::{Gateway, python};

#[tokio::test]
async fn kept_sessions_and_what_waits_for_them_outlive_the_gateway() {
    let mut gateway = Gateway::start("").await;
    let mut from = 0;
    for killed in [false, true, true] {
        let mut paho = Paho::start(&gateway);
        paho.connect("p", json!({})).await;
        for version in [3, 4, 5] {
            let id = format!("keeper-{version}");
            paho.connect(&id, json!({"v": version, "id": id, "clean": false, "expiry": 3600})).await;
            paho.subscribe(&id, "kept/#", 1).await;
            // One is there and does not acknowledge, one is cut off, one has left.
            match version {
                3 => {
                    let connect = json!({"v": 3, "id": id, "clean": false, "manual": true});
                    paho.connect(&id, connect).await;
                }
                4 => paho.vanish(&id).await,
                _ => paho.disconnect(&id).await,
            }
        }
        paho.retain("p", "retained", &from.to_string()).await;
        paho.burst("p", "kept/x", 1, from..from + 1300).await;
        // The last acknowledgement has just come.
        if killed {
            gateway.kill().await;
            gateway.start_again().await;
        } else {
            gateway.restart().await;
        }
        let mut paho = Paho::start(&gateway);
        for version in [3, 4, 5] {
            let id = format!("keeper-{version}");
            let connect = json!({"v": version, "id": id, "clean": false, "expiry": 3600});
            assert_eq!(paho.connect(&id, connect).await, version > 3, "{killed}");
            assert_eq!(paho.payloads(&id, 1300).await, numbers(from..from + 1300), "{version}");
            paho.disconnect(&id).await;
        }
        paho.connect("late", json!({})).await;
        paho.subscribe("late", "retained", 1).await;
        assert_eq!(paho.payloads("late", 1).await, [from.to_string()], "{killed}");
        from += 1300;
    }
}

#[tokio::test]
async fn a_gateway_killed_in_the_middle_has_all_that_it_acknowledged() {
    let mut gateway = Gateway::start("").await;
    let port = gateway.mqtt_port().to_string();
    for (round, version) in [None, Some("--v5")].into_iter().enumerate() {
        let topic = format!("mid/{round}");
        let keeper = json!({"v": 5, "id": topic, "clean": false, "expiry": 3600});
        let mut paho = Paho::start(&gateway);
        paho.connect("keeper", keeper.clone()).await;
        paho.subscribe("keeper", &topic, 1).await;
        paho.disconnect("keeper").await;

        let args =
            ["--port", &port, "--id", "mid", "--persistent", "--topic", &topic, "--count", "3000", "--window", "150"];
        let args: Vec<_> = args.into_iter().chain(version).collect();
        let mut publisher = python::start("mqtt_publish.py", &args);
        while python::json(&mut publisher).await["acked"] != 700 {}
        gateway.kill().await;
        let acked: BTreeSet<_> = {
            let mut acked: BTreeSet<_> = (0..=700).collect();
            // What it had heard before the end; its next line after "lost" waits for the gateway.
            loop {
                let line = python::json(&mut publisher).await;
                match line["acked"].as_u64() {
                    Some(number) => acked.insert(number),
                    None => break acked,
                };
            }
        };
        publisher.kill().await;
        gateway.start_again().await;

        let mut paho = Paho::start(&gateway);
        assert!(paho.connect("keeper", keeper).await);
        paho.connect("p", json!({})).await;
        paho.publish("p", &topic, "end", 1).await;
        let mut got = Vec::new();
        while got.last().is_none_or(|last| last != "end") {
            got.extend(paho.payloads("keeper", 1).await);
        }
        got.pop();
        let got: Vec<u64> = got.iter().map(|number| number.parse().unwrap()).collect();
        assert!(got.is_sorted_by(|a, b| a < b), "in order, each once: {got:?}");
        let lost: Vec<_> = acked.iter().filter(|number| !got.contains(number)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    }
}

#[tokio::test]
async fn a_publisher_that_comes_back_after_the_kill_gets_everything_through() {
    let mut gateway = Gateway::start("").await;
    let port = gateway.mqtt_port().to_string();
    let keeper = json!({"v": 4, "id": "keeper", "clean": false});
    let mut paho = Paho::start(&gateway);
    paho.connect("keeper", keeper.clone()).await;
    paho.subscribe("keeper", "back", 1).await;
    paho.disconnect("keeper").await;
    let args =
        ["--port", &port, "--id", "back", "--persistent", "--topic", "back", "--count", "1500", "--window", "150"];
    let mut publisher = python::start("mqtt_publish.py", &args);
    while python::json(&mut publisher).await["acked"] != 500 {}
    gateway.kill().await;
    gateway.start_again().await;
    while python::json(&mut publisher).await["done"] != 1500 {}
    let mut paho = Paho::start(&gateway);
    paho.connect("keeper", keeper).await;
    paho.connect("p", json!({})).await;
    paho.publish("p", "back", "1500", 1).await;
    let mut missing: BTreeSet<u32> = (0..=1500).collect();
    let mut last = 0;
    while last < 1500 {
        last = paho.payloads("keeper", 1).await[0].parse().unwrap();
        missing.remove(&last);
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn mosquitto_s_clients_find_their_sessions_after_a_kill() {
    let mut gateway = Gateway::start("").await;
    let session = |version: &'static str| {
        let expiry: &[&str] = if version == "mqttv5" { &["-x", "3600"] } else { &[] };
        [&["-V", version, "-i", version, "-c", "-q", "2", "-t", "kept"], expiry].concat()
    };
    for version in VERSIONS {
        let args = [&session(version)[..], &["-E"]].concat();
        assert_eq!(mosquitto::run(&gateway, "mosquitto_sub", &args).await.0, Some(0));
    }
    for n in ["1", "2", "3"] {
        mosquitto::publish(&gateway, &["-q", "2", "-t", "kept", "-m", n]).await;
    }
    gateway.kill().await;
    gateway.start_again().await;
    for version in VERSIONS {
        let args = [&session(version)[..], &["-C", "3"]].concat();
        assert_eq!(mosquitto::run(&gateway, "mosquitto_sub", &args).await, (Some(0), "1\n2\n3\n".to_owned()));
    }
}

#[tokio::test]
async fn wills_of_those_who_were_connected_are_published_after_a_kill() {
    let mut gateway = Gateway::start("").await;
    let keeper = json!({"v": 5, "id": "keeper", "clean": false, "expiry": 3600});
    let mut paho = Paho::start(&gateway);
    paho.connect("keeper", keeper.clone()).await;
    paho.subscribe("keeper", "will/#", 2).await;
    let will =
        |topic: &str, delay: u32| json!({"topic": format!("will/{topic}"), "payload": "x", "qos": 1, "delay": delay});
    paho.connect("old", json!({"v": 4, "will": will("old", 0)})).await;
    paho.connect("new", json!({"v": 5, "will": will("new", 0)})).await;
    let stays = json!({"v": 5, "id": "stays", "clean": false, "expiry": 3600, "will": will("stays", 2)});
    paho.connect("stays", stays).await;
    let back = json!({"v": 5, "id": "back", "clean": false, "expiry": 3600, "will": will("back", 3000)});
    paho.connect("back", back).await;
    paho.connect("left", json!({"v": 5, "will": will("left", 0)})).await;
    paho.disconnect("left").await;
    gateway.until("the wills are kept", |s| s["status"]["store"]["commits"].as_u64() > Some(0)).await;
    // An acknowledgement that waited for the disk says that everything before it is there.
    paho.retain("new", "flushed", "x").await;
    gateway.kill().await;
    gateway.start_again().await;

    let mut paho = Paho::start(&gateway);
    paho.connect("keeper", keeper).await;
    let messages = paho.take("keeper", 3).await;
    let mut topics: Vec<_> = messages.iter().map(|message| message["topic"].as_str().unwrap()).collect();
    topics[..2].sort_unstable();
    assert_eq!(topics, ["will/new", "will/old", "will/stays"]);
    assert!(paho.connect("back", json!({"v": 5, "id": "back", "clean": false, "expiry": 60})).await);
    paho.disconnect("back").await;
    paho.connect("p", json!({})).await;
    paho.publish("p", "will/end", "x", 1).await;
    assert_eq!(paho.take("keeper", 1).await[0]["topic"], "will/end");
}

/// Both ends are paho, which keeps its side of each exchange over a lost connection.
#[tokio::test]
async fn qos_2_arrives_once_and_in_order_whenever_the_gateway_is_killed() {
    let mut gateway = Gateway::start("").await;
    let port = gateway.mqtt_port().to_string();
    for version in [None, Some("--v5")] {
        let topic = format!("once/{}", version.unwrap_or("--v4"));
        let both = ["--port", &port, "--persistent", "--qos", "2", "--count", "400"];
        let to = [&both[..], &["--id", "once-to", &topic]].concat();
        let from = [&both[..], &["--id", "once-from", "--topic", &topic, "--window", "20"]].concat();
        let mut reader = python::start("mqtt_subscribe.py", &[&to[..], version.as_slice()].concat());
        while python::json(&mut reader).await["subscribed"].is_null() {}
        let mut publisher = python::start("mqtt_publish.py", &[&from[..], version.as_slice()].concat());
        for after in [60, 61, 150, 250] {
            while python::json(&mut publisher).await["acked"].as_u64().is_none_or(|acked| acked < after) {}
            gateway.kill().await;
            gateway.start_again().await;
        }
        let mut got = Vec::new();
        while got.last() != Some(&399) {
            let message = python::json(&mut reader).await;
            got.extend(message["payload"].as_str().map(|number| number.trim().parse::<u64>().unwrap()));
        }
        assert_eq!(got, (0..400).collect::<Vec<_>>());
    }
}
