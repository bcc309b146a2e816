//! 3.2: CONNACK.

use tempfile::TempDir;

use crate::broker::spec::bytes::*;
use crate::broker::spec::gateway;
use crate::support::Gateway;

#[tokio::test]
async fn mqtt_3_2_0_1() {
    // Before what waits for the client, and before the answers to what it has sent right behind CONNECT.
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "3.2.0-1").await;
    client.subscribe(&[("3.2.0-1", 1)]).await;
    client.disconnect().await;
    Client::clean(&gateway, "3.2.0-1/sender").await.publish(QOS_1, "3.2.0-1", "waits").await;
    let bytes = [connect("3.2.0-1", KEEP, &[]), PINGREQ.to_vec(), subscribe(1, &[("3.2.0-1/x", 0)])].concat();
    let mut client = Client::saying(&gateway, bytes).await;
    client.expect(ACCEPTED_PRESENT).await;
    let rest = [client.next().await, client.next().await, client.next().await];
    assert!(rest.contains(&PINGRESP.to_vec()) && rest.contains(&suback(1, &[0])), "{rest:02x?}");
}

#[tokio::test]
async fn mqtt_3_2_2_1() {
    let gateway = gateway().await;
    Client::new_session(&gateway, "3.2.2-1").await.disconnect().await;
    let mut client = Client::saying(&gateway, connect("3.2.2-1", CLEAN, &[])).await;
    client.expect([0x20, 2, 0, 0]).await;
}

#[tokio::test]
async fn mqtt_3_2_2_2() {
    let gateway = gateway().await;
    Client::new_session(&gateway, "3.2.2-2").await.disconnect().await;
    for _ in 0..2 {
        let mut client = Client::saying(&gateway, connect("3.2.2-2", KEEP, &[])).await;
        client.expect([0x20, 2, 1, 0]).await;
    }
}

#[tokio::test]
async fn mqtt_3_2_2_3() {
    let gateway = gateway().await;
    Client::clean(&gateway, "3.2.2-3").await.disconnect().await;
    let mut client = Client::saying(&gateway, connect("3.2.2-3", KEEP, &[])).await;
    client.expect([0x20, 2, 0, 0]).await;
}

#[tokio::test]
async fn mqtt_3_2_2_4() {
    let gateway = gateway().await;
    Client::new_session(&gateway, "3.2.2-4").await.disconnect().await;
    let said = Client::saying(&gateway, connect_as("MQTT", 3, "3.2.2-4")).await.rest().await;
    assert_eq!(said[..4], [0x20, 2, 0, 1]);
    let (with_users, _folder) = with_users().await;
    for (fields, code) in [(&[&b"nobody"[..], b"wrong"][..], 4), (&[], 5)] {
        let flags = if fields.is_empty() { KEEP } else { KEEP | USER | PASSWORD };
        let said = Client::saying(&with_users, connect("3.2.2-4", flags, fields)).await.rest().await;
        assert_eq!(said[..4], [0x20, 2, 0, code]);
    }
}

#[tokio::test]
async fn mqtt_3_2_2_5() {
    // `rest` waits for the end of the connection.
    let gateway = gateway().await;
    for connect in [connect_as("MQTT", 9, "3.2.2-5"), connect("", KEEP, &[]), connect("$3.2.2-5", CLEAN, &[])] {
        let said = Client::saying(&gateway, connect).await.rest().await;
        assert_eq!((said.len(), said[0]), (4, 0x20));
    }
    let (with_users, _folder) = with_users().await;
    let said = Client::saying(&with_users, connect("3.2.2-5", CLEAN, &[])).await.rest().await;
    assert_eq!((said.len(), said[0]), (4, 0x20));
}

#[tokio::test]
async fn mqtt_3_2_2_6() {
    // No code says that a will is on a topic with a wildcard, or on none.
    let gateway = gateway().await;
    for topic in ["3.2.2-6/#", "3.2.2-6/+", ""] {
        refused(&gateway, connect("3.2.2-6", CLEAN | WILL, &[topic.as_bytes(), b"will"])).await;
    }
}

/// A gateway that asks for user and password; nobody has one. The folder has its user list.
async fn with_users() -> (Gateway, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, "# nobody yet\n").unwrap();
    let config = format!("[broker]\nlisten = \"@mqtt@\"\nusers = \"{}\"\n", users.display());
    (Gateway::start(&config).await, folder)
}
