//! The peers among themselves, without any part of ours: when one of these fails, it is the harness that is broken.

use serde_json::{Value, json};

use crate::support::modbus::Make;
use crate::support::{Line, ModbusServer, Mosquitto, Process, python};

/// A subscriber that has its subscription.
async fn subscriber(args: &[&str]) -> Process {
    let mut process = python::start("mqtt_subscribe.py", args);
    assert_eq!(python::json(&mut process).await["connected"], 0);
    assert!(python::json(&mut process).await["subscribed"].is_array());
    process
}

#[tokio::test]
async fn numbered_messages_pass_through_mosquitto_at_each_qos_and_version() {
    let broker = Mosquitto::start("").await;
    let port = broker.port().to_string();
    for (qos, version) in [("0", None), ("1", Some("--v5")), ("2", None)] {
        let common: Vec<&str> = ["--port", &port, "--qos", qos].into_iter().chain(version).collect();
        let mut there = subscriber(&[&common[..], &["--count", "5", "a/#"]].concat()).await;
        let said = python::run("mqtt_publish.py", &[&common[..], &["--topic", "a/b", "--count", "5"]].concat()).await;
        let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!((last, said.matches("acked").count()), (json!({"done": 5}), 5));
        for number in 0..5 {
            let message = python::json(&mut there).await;
            assert_eq!(message["payload"], json!(number.to_string()), "{message}");
            assert_eq!(message["qos"].to_string(), qos);
        }
        assert!(there.ended().await.success());
    }
}

#[tokio::test]
async fn mosquitto_speaks_tls_with_its_own_authority() {
    let broker = Mosquitto::tls("").await;
    let (port, authority) = (broker.port().to_string(), broker.authority());
    let common = ["--port", &port, "--tls", authority.to_str().unwrap()];
    let mut there = subscriber(&[&common[..], &["secret"]].concat()).await;
    python::run("mqtt_publish.py", &[&common[..], &["--topic", "secret", "--payload", "grüß"]].concat()).await;
    assert_eq!(python::json(&mut there).await["payload"], "grüß");
}

#[tokio::test]
async fn a_persistent_mosquitto_keeps_a_session_over_a_restart() {
    let mut broker = Mosquitto::persistent("").await;
    let port = broker.port().to_string();
    let session = ["--port", &port, "--id", "keeper", "--persistent"];
    subscriber(&[&session[..], &["kept"]].concat()).await.kill().await;
    python::run("mqtt_publish.py", &["--port", &port, "--topic", "kept", "--count", "2"]).await;
    broker.stop().await;
    broker.start_again().await;
    let mut back = python::start("mqtt_subscribe.py", &session);
    assert_eq!(python::json(&mut back).await["session"], true);
    assert_eq!(python::json(&mut back).await["payload"], "0");
    assert_eq!(python::json(&mut back).await["payload"], "1");
}

#[tokio::test]
async fn a_killed_client_leaves_its_will() {
    let broker = Mosquitto::start("").await;
    let port = broker.port().to_string();
    let mut watcher = subscriber(&["--port", &port, "gone"]).await;
    let mut mortal = subscriber(&["--port", &port, "--will", "gone", "alas", "x"]).await;
    mortal.kill().await;
    assert_eq!(python::json(&mut watcher).await["payload"], "alas");
}

#[tokio::test]
async fn a_publisher_waits_for_a_frozen_broker_and_a_dead_one() {
    let mut broker = Mosquitto::persistent("").await;
    let port = broker.port().to_string();
    let args = ["--port", &port, "--id", "p", "--persistent", "--topic", "t", "--count", "3", "--every", "0.2"];
    let mut publisher = python::start("mqtt_publish.py", &args);
    while python::json(&mut publisher).await["acked"] != 0 {}
    broker.freeze();
    broker.thaw();
    broker.kill().await;
    broker.start_again().await;
    while python::json(&mut publisher).await["done"] != 3 {}
    assert!(publisher.ended().await.success());
}

#[tokio::test]
async fn the_modbus_peers_meet_over_a_line() {
    use crate::support::ModbusClient;
    use crate::support::modbus::At;
    for (server, client) in [(Make::Libmodbus, Make::Pymodbus), (Make::Pymodbus, Make::Libmodbus)] {
        let line = Line::open();
        let registers = ["input:3=7,8".to_owned(), "coil:1=1".to_owned()];
        let mut device = ModbusServer::rtu(server, line.device_port(), &registers).await;
        let operations = ["read-input:3:2", "read-coils:0:3", "write-registers:9:1,2", "write-coil:5:1"];
        let said = ModbusClient::run(client, &At::Rtu(line.client_port().to_owned()), &operations).await;
        assert_eq!(said, ["7 8", "0 1 0", "ok", "ok"]);
        assert_eq!(device.write().await, "write holding 9 1 2");
        assert_eq!(device.write().await, "write coil 5 1");
    }
}
