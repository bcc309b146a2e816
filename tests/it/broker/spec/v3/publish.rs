//! 3.3 to 3.7: PUBLISH and what answers it. Retained messages have a file of their own.

use crate::broker::spec::bytes::*;
use crate::broker::spec::gateway;

#[tokio::test]
async fn mqtt_3_3_1_1() {
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "3.3.1-1").await;
    client.subscribe(&[("3.3.1-1", 2)]).await;
    for (qos, flags) in [(1, QOS_1), (2, QOS_2)] {
        client.publish(flags, "3.3.1-1", "x").await;
        let first = client.delivery().await;
        assert_eq!((first.qos, first.dup), (qos, false));
        drop(client);
        client = Client::resumed(&gateway, "3.3.1-1").await;
        assert_eq!(client.take().await, Delivery { dup: true, ..first });
    }
}

#[tokio::test]
async fn mqtt_3_3_1_2() {
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "3.3.1-2").await;
    client.subscribe(&[("3.3.1-2", 0)]).await;
    for flags in [0, QOS_1, QOS_2, QOS_1 | DUP, QOS_2 | DUP] {
        client.publish(flags, "3.3.1-2", "x").await;
        let delivery = client.take().await;
        assert_eq!((delivery.qos, delivery.dup), (0, false));
    }
    // Nor is it taken from a client.
    closed_after(&gateway, "3.3.1-2/wrong", publish(DUP, 0, "3.3.1-2", "x")).await;
}

#[tokio::test]
async fn mqtt_3_3_1_3() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.3.1-3").await;
    client.subscribe(&[("3.3.1-3", 2)]).await;
    for (qos, flags) in [(1, QOS_1 | DUP), (2, QOS_2 | DUP)] {
        client.publish(flags, "3.3.1-3", "x").await;
        let delivery = client.take().await;
        assert_eq!((delivery.qos, delivery.dup), (qos, false));
    }
}

#[tokio::test]
async fn mqtt_3_3_1_4() {
    let gateway = gateway().await;
    for flags in [0, DUP, RETAIN, DUP | RETAIN] {
        closed_after(&gateway, "3.3.1-4", publish(QOS_1 | QOS_2 | flags, 1, "3.3.1-4", "x")).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_2_1() {
    let gateway = gateway().await;
    // No topic, half of one, one that is longer than the packet, one that is not UTF-8.
    for body in [&b""[..], b"\0", b"\0\x07", b"\0\x073.3.2", b"\xff\xff3.3.2-1", b"\0\x023\xff"] {
        closed_after(&gateway, "3.3.2-1", packet(0x30, &[body])).await;
        closed_after(&gateway, "3.3.2-1", packet(0x32, &[body, &[0, 1]])).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_2_2() {
    let gateway = gateway().await;
    for topic in ["3.3.2-2/#", "3.3.2-2/+", "#", "+", "3.3.2-2/+/x", "3.3.2-2#", "3.3.2-2+x"] {
        for flags in [0, QOS_1, QOS_2] {
            closed_after(&gateway, "3.3.2-2", publish(flags, 1, topic, "x")).await;
        }
    }
}

#[tokio::test]
async fn mqtt_3_3_2_3() {
    // A message comes with the name that it was published on, whichever filter it matches.
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.3.2-3").await;
    client.subscribe(&[("3.3.2-3/+/x", 0), ("3.3.2-3/deep/#", 0)]).await;
    for (topic, comes) in [
        ("3.3.2-3/a/x", true),
        ("3.3.2-3/deep/a/b", true),
        ("3.3.2-3/a/y", false),
        ("3.3.2-3/x", false),
        ("3.3.2-3/deep", true),
        ("3.3.2-3/deeper", false),
    ] {
        client.publish(0, topic, "x").await;
        if comes {
            assert_eq!(client.take().await.topic, topic);
        }
        client.quiet().await;
    }
}

#[tokio::test]
async fn mqtt_3_3_4_1() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.3.4-1").await;
    client.send(publish(0, 0, "3.3.4-1", "x")).await;
    client.quiet().await;
    client.send(publish(QOS_1, 1, "3.3.4-1", "x")).await;
    client.expect(ack(PUBACK, 1)).await;
    client.send(publish(QOS_2, 2, "3.3.4-1", "x")).await;
    client.expect(ack(PUBREC, 2)).await;
    client.quiet().await;
    // Any payload, from none to more than one read.
    for size in [0, 1, 126, 127, 128, 16_383, 16_384, 300_000] {
        client.send(publish(QOS_1, 3, "3.3.4-1", vec![0xff; size])).await;
        client.expect(ack(PUBACK, 3)).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_5_1() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.3.5-1").await;
    // The highest QoS of all filters that match, in whatever order they came.
    client.subscribe(&[("3.3.5-1/#", 0), ("3.3.5-1/+", 2), ("3.3.5-1/a", 1), ("3.3.5-1/b", 0)]).await;
    for topic in ["3.3.5-1/a", "3.3.5-1/b"] {
        for (flags, qos) in [(QOS_2, 2), (QOS_1, 1), (0, 0)] {
            client.publish(flags, topic, "x").await;
            assert_eq!(client.take().await.parts(), (topic, "x", qos));
        }
    }
    client.publish(QOS_2, "3.3.5-1/a/b", "x").await;
    assert_eq!(client.take().await.qos, 0);
}

#[tokio::test]
async fn mqtt_3_3_5_2() {
    // Clients may not publish to `$`: it is acknowledged, and goes nowhere.
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.3.5-2").await;
    client.subscribe(&[("$3.3.5-2/#", 2)]).await;
    for flags in [0, QOS_1, QOS_2, QOS_1 | RETAIN] {
        client.publish(flags, "$3.3.5-2/x", "x").await;
    }
    client.quiet().await;
    client.subscribe(&[("$3.3.5-2/#", 2)]).await;
    client.quiet().await;
}

#[tokio::test]
async fn mqtt_3_6_1_1() {
    let gateway = gateway().await;
    for flags in (0..16).filter(|flags| *flags != 2) {
        let mut client = Client::clean(&gateway, "3.6.1-1").await;
        client.send(publish(QOS_2, 1, "3.6.1-1", "x")).await;
        client.expect(ack(PUBREC, 1)).await;
        client.send(ack(PUBREL & 0xf0 | flags, 1)).await;
        client.closed().await;
    }
}
