//! 3.1.3: the fields of CONNECT, and the client id that names a session.

use crate::broker::spec::bytes::*;
use crate::broker::spec::gateway;

const SURROGATE: &[u8] = b"3.1.3\xed\xa0\x80";

#[tokio::test]
async fn mqtt_3_1_3_1() {
    // Each field is taken for what its place says: the will comes as it was meant, the id is that of the session.
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "3.1.3-1/watcher").await;
    watcher.subscribe(&[("3.1.3-1/#", 0)]).await;
    let fields: [&[u8]; 4] = [b"3.1.3-1/topic", b"3.1.3-1/message", b"3.1.3-1/user", b"3.1.3-1/password"];
    let all = connect("3.1.3-1", KEEP | WILL | USER | PASSWORD, &fields);
    drop(Client::accepted(&gateway, &all).await);
    assert_eq!(watcher.take().await.parts(), ("3.1.3-1/topic", "3.1.3-1/message", 0));
    Client::saying(&gateway, &all).await.expect(ACCEPTED_PRESENT).await;
}

#[tokio::test]
async fn mqtt_3_1_3_2() {
    // As like each other as two ids can be, and two sessions.
    let gateway = gateway().await;
    let ids = ["3.1.3-2", "3.1.3-2 ", "3.1.3-2/", "3.1.3-2a", "3.1.3-2A", "3.1.3-2\u{e9}", "3.1.3-2e\u{301}"];
    for id in ids {
        let mut client = Client::new_session(&gateway, id).await;
        client.subscribe(&[(id, 1)]).await;
        client.disconnect().await;
    }
    let mut sender = Client::clean(&gateway, "3.1.3-2/sender").await;
    for id in ids {
        sender.publish(QOS_1, id, id).await;
    }
    for id in ids {
        let mut client = Client::resumed(&gateway, id).await;
        assert_eq!(client.take().await.payload, id);
        client.quiet().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_3_3() {
    let gateway = gateway().await;
    refused(&gateway, packet(0x10, &[&text("MQTT"), &[4, CLEAN, 0, 0]])).await;
    refused(&gateway, packet(0x10, &[&text("MQTT"), &[4, CLEAN, 0, 0], &[0]])).await;
    refused(&gateway, packet(0x10, &[&text("MQTT"), &[4, CLEAN, 0, 0], &[0, 8], b"3.1.3-3"])).await;
}

#[tokio::test]
async fn mqtt_3_1_3_4() {
    let gateway = gateway().await;
    refused(&gateway, connect(SURROGATE, CLEAN, &[])).await;
    for id in ["3.1.3-4 \u{e4}\u{1f4ec}\u{10ffff}", "\u{a0}"] {
        Client::clean(&gateway, id).await.quiet().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_3_5() {
    let gateway = gateway().await;
    let letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for length in 1..=23 {
        Client::clean(&gateway, &letters[length..2 * length]).await.disconnect().await;
    }
    for from in (0..=39).step_by(13) {
        Client::new_session(&gateway, &letters[from..from + 23]).await.disconnect().await;
        Client::clean(&gateway, &letters[from..from + 23]).await.disconnect().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_3_6() {
    let gateway = gateway().await;
    let mut clients = Vec::new();
    for n in 0..5 {
        let mut client = Client::clean(&gateway, "").await;
        client.subscribe(&[(&format!("3.1.3-6/{n}"), 1)]).await;
        clients.push(client);
    }
    // Each has an id of its own: none has lost its connection to another, and none has another's subscription.
    let mut sender = Client::clean(&gateway, "3.1.3-6").await;
    for (n, client) in clients.iter_mut().enumerate() {
        let topic = format!("3.1.3-6/{n}");
        sender.publish(QOS_1, &topic, "x").await;
        assert_eq!(client.take().await.parts(), (&*topic, "x", 1));
    }
    for client in &mut clients {
        client.quiet().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_3_8() {
    let gateway = gateway().await;
    let said = Client::saying(&gateway, connect("", KEEP, &[])).await.rest().await;
    assert_eq!(said, [0x20, 2, 0, 2]);
    let fields: [&[u8]; 2] = [b"3.1.3-8", b"will"];
    let said = Client::saying(&gateway, connect("", KEEP | WILL, &fields)).await.rest().await;
    assert_eq!(said, [0x20, 2, 0, 2]);
}

#[tokio::test]
async fn mqtt_3_1_3_9() {
    // Ids that begin with `$` are the gateway's own.
    let said = Client::saying(&*gateway().await, connect("$3.1.3-9", CLEAN, &[])).await.rest().await;
    assert_eq!(said, [0x20, 2, 0, 2]);
}

#[tokio::test]
async fn mqtt_3_1_3_10() {
    refused(&*gateway().await, connect("3.1.3-10", CLEAN | WILL, &[SURROGATE, b"will"])).await;
}

#[tokio::test]
async fn mqtt_3_1_3_11() {
    let gateway = gateway().await;
    refused(&gateway, connect("3.1.3-11", CLEAN | USER, &[SURROGATE])).await;
    // A password is any bytes, and so is the message of a will.
    let all = connect("3.1.3-11", CLEAN | WILL | USER | PASSWORD, &[b"3.1.3-11", b"\0\xff", b"user", b"\0\xff"]);
    Client::accepted(&gateway, all).await.disconnect().await;
}
