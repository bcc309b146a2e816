//! What programs and boards do with their clients: Home Assistant, Node-RED, an ESP32.

use std::time::Duration;

use fieldpost::message::{Message, QoS};
use fieldpost::mqtt::{Connect, Packet, Version, Will};
use serde_json::json;

use crate::broker::clients::Clients;
use crate::broker::raw::{self, Raw};
use crate::support::Gateway;

/// Home Assistant keeps a birth and a will on `homeassistant/status`; what devices announce of themselves is retained.
#[tokio::test]
async fn home_assistant_subscribes_to_hundreds_of_filters_at_once() {
    const DEVICES: usize = 200;
    // What is retained is acknowledged when it is on the disk; this publishes one after the other.
    let mut gateway = Gateway::start("[store]\npath = \"@store@\"\ncommit = \"10ms\"\n").await;
    for version in [4, 5] {
        let will = json!({"topic": "homeassistant/status", "payload": "offline", "qos": 1, "retain": true});
        let home = json!({"v": version, "id": "home", "user": "ha", "password": "x", "will": will});
        let mut paho = Clients::start(&gateway);
        paho.connect("device", json!({"v": version, "id": "device"})).await;
        for n in 0..DEVICES {
            let step = json!({"topic": format!("homeassistant/sensor/n{n}/config"), "payload": format!("{{\"n\":{n}}}"),
                "qos": 1, "retain": true});
            paho.ask("device", "publish", step).await;
            paho.retain("device", &format!("node/{n}/state"), &n.to_string()).await;
        }
        // Its devices outlive a restart of the gateway.
        if version == 5 {
            gateway.kill().await;
            gateway.start_again().await;
            paho = Clients::start(&gateway);
            paho.connect("device", json!({"v": version, "id": "device"})).await;
        }
        paho.subscribe("device", "homeassistant/status", 1).await;

        paho.connect("home", home.clone()).await;
        paho.subscribe("home", "homeassistant/+/+/config", 1).await;
        let mut known: Vec<_> = paho.payloads("home", DEVICES).await;
        known.sort();
        let mut expected: Vec<_> = (0..DEVICES).map(|n| format!("{{\"n\":{n}}}")).collect();
        expected.sort();
        assert_eq!(known, expected, "version {version}");
        let filters: Vec<_> = (0..DEVICES).map(|n| json!([format!("node/{n}/state"), n % 3])).collect();
        let answer = paho.ask("home", "subscribe", json!({"filters": filters})).await;
        let granted: Vec<_> = (0..DEVICES).map(|n| n % 3).collect();
        assert_eq!(answer["reasons"], json!(granted));
        for message in paho.take("home", DEVICES).await {
            assert_eq!(message["topic"], format!("node/{}/state", message["payload"].as_str().unwrap()));
            assert_eq!(message["retain"], true);
        }
        paho.retain("home", "homeassistant/status", "online").await;
        assert_eq!(paho.payloads("device", 1).await, ["online"]);
        for n in 0..DEVICES {
            paho.publish("device", &format!("node/{n}/state"), "new", 1).await;
        }
        assert_eq!(paho.payloads("home", DEVICES).await, vec!["new"; DEVICES]);

        // A crash of it is told, and so is its return.
        paho.vanish("home").await;
        assert_eq!(paho.payloads("device", 1).await, ["offline"]);
        paho.connect("home", home).await;
        paho.retain("home", "homeassistant/status", "online").await;
        assert_eq!(paho.payloads("device", 1).await, ["online"]);
        let filters: Vec<_> = (0..DEVICES).map(|n| format!("node/{n}/state")).collect();
        paho.ask("home", "unsubscribe", json!({"filters": filters})).await;
        paho.retain("home", "homeassistant/status", "").await;
        paho.disconnect("home").await;
    }
}

/// One client of Node-RED's serves all nodes of a flow: filters overlap, and each has an identifier of its own.
#[tokio::test]
async fn node_red_s_nodes_share_a_client_with_overlapping_filters() {
    let gateway = Gateway::start("").await;
    let mut js = Clients::mqtt_js(&gateway);
    for version in [4, 5] {
        let messages = json!({"topic": "flow/state", "payload": "died", "qos": 0, "retain": true});
        js.connect("flow", json!({"v": version, "id": "nodered", "reconnect": 100, "will": messages})).await;
        for (id, filter, qos) in [(1, "plant/#", 2), (2, "plant/+/level", 1), (3, "plant/tank/level", 0)] {
            let given = if version == 5 { json!({"qos": qos, "published": true}) } else { json!(qos) };
            js.ask("flow", "subscribe", json!({"filters": [[filter, given]], "id": id})).await;
        }
        js.retain("flow", "flow/state", "born").await;
        js.connect("p", json!({"v": version})).await;
        js.ask("p", "publish", json!({"topic": "plant/tank/level", "payload": "1", "qos": 2, "retain": true})).await;
        // Once, at the highest of the three, and in version 5 with the names of all.
        let came = js.take("flow", 1).await.remove(0);
        assert_eq!((&came["payload"], &came["qos"], &came["retain"]), (&json!("1"), &json!(2), &json!(version == 5)));
        if version == 5 {
            let mut ids: Vec<u32> =
                serde_json::from_value(came["properties"]["SubscriptionIdentifier"].clone()).unwrap();
            ids.sort_unstable();
            assert_eq!(ids, [1, 2, 3]);
        }
        // A deployment replaces one of them, and gets what is retained again.
        js.ask("flow", "unsubscribe", json!({"filters": ["plant/tank/level"]})).await;
        js.subscribe("flow", "plant/tank/level", 1).await;
        assert_eq!(js.take("flow", 1).await[0]["retain"], true);
        js.publish("p", "plant/tank/other", "2", 1).await;
        assert_eq!(js.payloads("flow", 1).await, ["2"]);
        js.subscribe("p", "flow/state", 1).await;
        assert_eq!(js.payloads("p", 1).await, ["born"]);
        js.vanish("flow").await;
        assert_eq!(js.payloads("p", 1).await, ["died"]);
        js.ask("flow", "again", json!({})).await;
        js.disconnect("flow").await;
        js.retain("p", "plant/tank/level", "").await;
        js.disconnect("p").await;
    }
}

/// A board on PubSubClient that restarts every few seconds says no good-bye: its old connection is still there when it
/// comes again under the same id.
#[tokio::test]
async fn an_esp32_comes_again_and_again_without_a_good_bye() {
    let gateway = Gateway::start("").await;
    let mut paho = Clients::start(&gateway);
    paho.connect("watcher", json!({})).await;
    paho.subscribe("watcher", "esp/#", 0).await;
    let before = gateway.until("the watcher is there", |all| all["status"]["broker"]["clients"] == 1).await;
    let will = Will {
        message: Message { retain: true, ..Message::new("esp/availability", "offline") },
        delay: Duration::ZERO,
    };
    let mut old = Vec::new();
    for round in 0..30 {
        let keep_alive = Duration::from_secs(15);
        let connect = Connect { will: Some(will.clone()), keep_alive, ..raw::connect(Version::V311, "esp", 0) };
        let mut board = Raw::connect(&gateway, connect).await;
        assert!(matches!(board.next().await, Packet::ConnAck(ack) if !ack.session_present));
        board.send(raw::subscribe("esp/set", QoS::AtMostOnce)).await;
        assert!(matches!(board.next().await, Packet::SubAck { .. }));
        let mut online = raw::publish(1, QoS::AtMostOnce, "esp/availability", "online");
        (online.id, online.retain) = (None, true);
        board.send(Packet::Publish(online)).await;
        // The will of the connection before comes first: else the board would be offline for everybody.
        if round > 0 {
            assert_eq!(paho.payloads("watcher", 1).await, ["offline"]);
        }
        assert_eq!(paho.payloads("watcher", 1).await, ["online"]);
        paho.publish("watcher", "esp/set", &round.to_string(), 0).await;
        let Packet::Publish(set) = board.next().await else { panic!() };
        assert_eq!(set.message.payload, round.to_string().as_bytes());
        assert_eq!(paho.payloads("watcher", 1).await, [round.to_string()]);
        old.push(board);
    }
    paho.connect("late", json!({})).await;
    paho.subscribe("late", "esp/availability", 0).await;
    assert_eq!(paho.payloads("late", 1).await, ["online"]);
    paho.disconnect("late").await;
    let sessions = &before["status"]["broker"]["sessions"];
    gateway
        .until("one board is there, and nothing of the others", |all| {
            let broker = &all["status"]["broker"];
            broker["clients"] == 2 && broker["sessions"] == sessions.as_u64().unwrap() + 1
        })
        .await;
}
