//! 3.1.2-8 to 3.1.2-17: wills.

use crate::broker::spec::bytes::*;
use crate::broker::spec::gateway;

#[tokio::test]
async fn mqtt_3_1_2_8() {
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "3.1.2-8/watcher").await;
    watcher.subscribe(&[("3.1.2-8/#", 2)]).await;
    let fields: [&[u8]; 2] = [b"3.1.2-8/will", b"alas"];
    for flags in [CLEAN, KEEP] {
        // The connection is lost.
        let mut client = Client::saying(&gateway, connect("3.1.2-8", flags | WILL, &fields)).await;
        client.next().await;
        drop(client);
        assert_eq!(watcher.take().await.parts(), ("3.1.2-8/will", "alas", 0));
        // The gateway closes it for a mistake.
        let mut client = Client::saying(&gateway, connect("3.1.2-8", flags | WILL, &fields)).await;
        client.next().await;
        client.send([0xf0, 0]).await;
        client.closed().await;
        assert_eq!(watcher.take().await.parts(), ("3.1.2-8/will", "alas", 0));
        // Another connection takes its place.
        let mut client = Client::saying(&gateway, connect("3.1.2-8", flags | WILL, &fields)).await;
        client.next().await;
        let mut other = Client::saying(&gateway, connect("3.1.2-8", CLEAN, &[])).await;
        other.next().await;
        assert_eq!(watcher.take().await.parts(), ("3.1.2-8/will", "alas", 0));
        other.disconnect().await;
        watcher.quiet().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_2_9() {
    let gateway = gateway().await;
    // QoS and retain are taken from the flags, topic and message from the payload; an empty message is one.
    let mut watcher = Client::clean(&gateway, "3.1.2-9/watcher").await;
    watcher.subscribe(&[("3.1.2-9/+", 2)]).await;
    for (flags, qos) in [(0, 0), (WILL_QOS_1, 1), (WILL_QOS_2, 2)] {
        for message in ["last words", ""] {
            let fields: [&[u8]; 2] = [b"3.1.2-9/will", message.as_bytes()];
            drop(Client::accepted(&gateway, connect("3.1.2-9", CLEAN | WILL | flags, &fields)).await);
            assert_eq!(watcher.take().await.parts(), ("3.1.2-9/will", message, qos));
        }
    }
    // Without them it is no CONNECT.
    refused(&gateway, connect("3.1.2-9", CLEAN | WILL, &[])).await;
    refused(&gateway, connect("3.1.2-9", CLEAN | WILL, &[b"3.1.2-9/will"])).await;
}

#[tokio::test]
async fn mqtt_3_1_2_10() {
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "3.1.2-10/watcher").await;
    watcher.subscribe(&[("3.1.2-10/#", 2)]).await;
    let with_will = |topic: &str| connect("3.1.2-10", KEEP | WILL, &[topic.as_bytes(), b"once"]);
    // Published once: it does not come again when the session's next connection is lost.
    drop(Client::accepted(&gateway, with_will("3.1.2-10/first")).await);
    assert_eq!(watcher.take().await.topic, "3.1.2-10/first");
    drop(Client::resumed(&gateway, "3.1.2-10").await);
    // Removed by DISCONNECT: neither at once nor later.
    let mut client = Client::saying(&gateway, with_will("3.1.2-10/second")).await;
    client.expect(ACCEPTED_PRESENT).await;
    client.disconnect().await;
    drop(Client::resumed(&gateway, "3.1.2-10").await);
    drop(Client::clean(&gateway, "3.1.2-10").await);
    Client::clean(&gateway, "3.1.2-10").await.disconnect().await;
    watcher.quiet().await;
}

#[tokio::test]
async fn mqtt_3_1_2_11() {
    let gateway = gateway().await;
    refused(&gateway, connect("3.1.2-11", CLEAN | WILL_QOS_1 | WILL_RETAIN, &[])).await;
    refused(&gateway, connect("3.1.2-11", CLEAN | WILL_QOS_1 | WILL_RETAIN, &[b"3.1.2-11", b"will"])).await;
    refused(&gateway, connect("3.1.2-11", CLEAN, &[b"3.1.2-11", b"will"])).await;
}

#[tokio::test]
async fn mqtt_3_1_2_12() {
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "3.1.2-12/watcher").await;
    watcher.subscribe(&[("3.1.2-12", 0), ("+", 0)]).await;
    let mut client = Client::clean(&gateway, "3.1.2-12").await;
    client.send([0xf0, 0]).await;
    client.closed().await;
    drop(Client::clean(&gateway, "3.1.2-12").await);
    Client::clean(&gateway, "3.1.2-12").await.disconnect().await;
    // Others may publish meanwhile; nothing is about this client.
    watcher.publish(0, "3.1.2-12", "end").await;
    loop {
        let delivery = watcher.take().await;
        if delivery.payload == "end" {
            break;
        }
        assert!(!delivery.topic.contains("3.1.2-12") && !delivery.topic.is_empty(), "{delivery:?}");
    }
}

#[tokio::test]
async fn mqtt_3_1_2_13() {
    let gateway = gateway().await;
    for qos in [WILL_QOS_1, WILL_QOS_2, WILL_QOS_1 | WILL_QOS_2] {
        refused(&gateway, connect("3.1.2-13", CLEAN | qos, &[])).await;
    }
}

#[tokio::test]
async fn mqtt_3_1_2_14() {
    let fields: [&[u8]; 2] = [b"3.1.2-14", b"will"];
    refused(&*gateway().await, connect("3.1.2-14", CLEAN | WILL | WILL_QOS_1 | WILL_QOS_2, &fields)).await;
}

#[tokio::test]
async fn mqtt_3_1_2_15() {
    refused(&*gateway().await, connect("3.1.2-15", CLEAN | WILL_RETAIN, &[])).await;
}

#[tokio::test]
async fn mqtt_3_1_2_16() {
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "3.1.2-16/watcher").await;
    watcher.publish(QOS_1 | RETAIN, "3.1.2-16", "stays").await;
    watcher.subscribe(&[("3.1.2-16", 2)]).await;
    watcher.take().await;
    let fields: [&[u8]; 2] = [b"3.1.2-16", b"will"];
    drop(Client::accepted(&gateway, connect("3.1.2-16/client", CLEAN | WILL | WILL_QOS_1, &fields)).await);
    let will = watcher.take().await;
    assert_eq!((will.parts(), will.retain), (("3.1.2-16", "will", 1), false));
    watcher.subscribe(&[("3.1.2-16", 2)]).await;
    assert_eq!(watcher.take().await.payload, "stays");
    watcher.quiet().await;
}

#[tokio::test]
async fn mqtt_3_1_2_17() {
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "3.1.2-17/watcher").await;
    watcher.subscribe(&[("3.1.2-17", 2)]).await;
    let fields: [&[u8]; 2] = [b"3.1.2-17", b"will"];
    let connect = connect("3.1.2-17/client", CLEAN | WILL | WILL_QOS_2 | WILL_RETAIN, &fields);
    drop(Client::accepted(&gateway, connect).await);
    let will = watcher.take().await;
    assert_eq!((will.parts(), will.retain), (("3.1.2-17", "will", 2), false));
    // For those who come later.
    watcher.subscribe(&[("3.1.2-17", 2)]).await;
    let will = watcher.take().await;
    assert_eq!((will.parts(), will.retain), (("3.1.2-17", "will", 2), true));
}
