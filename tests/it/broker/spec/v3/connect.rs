//! 3.1.0, 3.1.2 and 3.1.4: what a CONNECT has to be like, and what follows from it. Wills and client ids have files of
//! their own.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::broker::spec::bytes::*;
use crate::broker::spec::gateway;

#[tokio::test]
async fn mqtt_3_1_0_1() {
    // The client's duty, but one that the server sees to.
    let gateway = gateway().await;
    let packets = [
        publish(0, 0, "3.1.0-1", "x"),
        publish(QOS_1 | RETAIN, 1, "3.1.0-1", "x"),
        subscribe(1, &[("3.1.0-1", 0)]),
        unsubscribe(1, &["3.1.0-1"]),
        ack(PUBACK, 1),
        ack(PUBREL, 1),
        PINGREQ.to_vec(),
        DISCONNECT.to_vec(),
        ACCEPTED.to_vec(),
    ];
    for packet in packets {
        // Not even when a CONNECT follows.
        refused(&gateway, [packet, connect("3.1.0-1", CLEAN, &[])].concat()).await;
    }
    let mut client = Client::clean(&gateway, "3.1.0-1").await;
    client.subscribe(&[("3.1.0-1", 0)]).await;
    client.quiet().await;
}

#[tokio::test]
async fn mqtt_3_1_0_2() {
    let gateway = gateway().await;
    closed_after(&gateway, "3.1.0-2", connect("3.1.0-2", CLEAN, &[])).await;
    closed_after(&gateway, "3.1.0-2", connect("3.1.0-2/another", CLEAN, &[])).await;
    // The second one, right behind the first.
    let twice = connect("3.1.0-2", CLEAN, &[]).repeat(2);
    assert_eq!(Client::saying(&gateway, twice).await.rest().await, ACCEPTED);
}

#[tokio::test]
async fn mqtt_3_1_2_1() {
    let gateway = gateway().await;
    for (name, level) in
        [("mqtt", 4), ("MQTX", 4), ("MQT", 4), ("MQTTT", 4), ("", 4), ("HTTP", 4), ("hj", 3), ("hj", 4)]
    {
        let said = Client::saying(&gateway, connect_as(name, level, "3.1.2-1")).await.rest().await;
        assert!(said.is_empty() || said == [0x20, 2, 0, 1], "{name}: {said:02x?}");
    }
}

#[tokio::test]
async fn mqtt_3_1_2_2() {
    let gateway = gateway().await;
    for level in [0, 1, 2, 3, 6, 7, 0x40, 0x7f, 0xff] {
        let said = Client::saying(&gateway, connect_as("MQTT", level, "3.1.2-2")).await.rest().await;
        assert_eq!(said, [0x20, 2, 0, 1], "level {level}");
    }
}

#[tokio::test]
async fn mqtt_3_1_2_3() {
    let gateway = gateway().await;
    for flags in [0x01, 0x03] {
        refused(&gateway, connect("3.1.2-3", flags, &[])).await;
    }
    refused(&gateway, connect("3.1.2-3", CLEAN | WILL | 0x01, &[b"3.1.2-3", b"will"])).await;
}

#[tokio::test]
async fn mqtt_3_1_2_18() {
    let gateway = gateway().await;
    refused(&gateway, connect("3.1.2-18", CLEAN, &[b"user"])).await;
    refused(&gateway, connect("3.1.2-18", CLEAN | WILL, &[b"3.1.2-18", b"will", b"user"])).await;
}

#[tokio::test]
async fn mqtt_3_1_2_19() {
    let gateway = gateway().await;
    refused(&gateway, connect("3.1.2-19", CLEAN | USER, &[])).await;
    refused(&gateway, connect("3.1.2-19", CLEAN | USER | WILL, &[b"3.1.2-19", b"will"])).await;
}

#[tokio::test]
async fn mqtt_3_1_2_20() {
    refused(&*gateway().await, connect("3.1.2-20", CLEAN | USER, &[b"user", b"password"])).await;
}

#[tokio::test]
async fn mqtt_3_1_2_21() {
    refused(&*gateway().await, connect("3.1.2-21", CLEAN | USER | PASSWORD, &[b"user"])).await;
}

#[tokio::test]
async fn mqtt_3_1_2_22() {
    refused(&*gateway().await, connect("3.1.2-22", CLEAN | PASSWORD, &[b"password"])).await;
}

#[tokio::test]
async fn mqtt_3_1_2_24() {
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "3.1.2-24/watcher").await;
    watcher.subscribe(&[("3.1.2-24", 0)]).await;
    let fields: [&[u8]; 2] = [b"3.1.2-24", b"silent"];
    let mut never = Client::clean(&gateway, "3.1.2-24/never").await;
    let mut lively = Client::accepted(&gateway, connect_alive("3.1.2-24/lively", CLEAN, 1, &[])).await;
    let mut silent = Client::accepted(&gateway, connect_alive("3.1.2-24", CLEAN | WILL, 1, &fields)).await;
    let since = Instant::now();
    let ended = tokio::spawn(async move {
        silent.closed().await;
        since.elapsed()
    });
    while !ended.is_finished() {
        lively.quiet().await;
        sleep(Duration::from_millis(200)).await;
    }
    assert!(ended.await.unwrap() >= Duration::from_millis(1400), "it has one and a half times the keep alive");
    // As if the network had failed: with the will.
    assert_eq!(watcher.take().await.parts(), ("3.1.2-24", "silent", 0));
    // With any packet in time, or without a keep alive, the connection holds.
    lively.quiet().await;
    never.quiet().await;
}

#[tokio::test]
async fn mqtt_3_1_4_1() {
    let gateway = gateway().await;
    let whole = connect("3.1.4-1", CLEAN | WILL | USER | PASSWORD, &[b"3.1.4-1", b"will", b"user", b"password"]);
    // A body that ends anywhere before its end.
    for end in 2..whole.len() {
        refused(&gateway, packet(0x10, &[&whole[2..end]])).await;
    }
    // And one that goes on behind it.
    refused(&gateway, packet(0x10, &[&whole[2..], &[0]])).await;
    refused(&gateway, packet(0x10, &[&whole[2..], &text("more")])).await;
    // A field that is longer than the packet.
    refused(&gateway, packet(0x10, &[&text("MQTT"), &[4, CLEAN, 0, 0], &[0xff, 0xff], b"3.1.4-1"])).await;
    Client::accepted(&gateway, whole).await.quiet().await;
}

#[tokio::test]
async fn mqtt_3_1_4_2() {
    let gateway = gateway().await;
    for flags in [CLEAN, KEEP] {
        let connect = connect("3.1.4-2", flags, &[]);
        let mut first = Client::accepted(&gateway, &connect).await;
        let mut second = Client::saying(&gateway, &connect).await;
        first.closed().await;
        second.expect(if flags == CLEAN { ACCEPTED } else { ACCEPTED_PRESENT }).await;
        second.quiet().await;
        second.disconnect().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_4_3() {
    // The session is there, is resumed, is discarded, and is new: by the flag alone.
    let gateway = gateway().await;
    let mut keeper = Client::new_session(&gateway, "3.1.4-3").await;
    keeper.subscribe(&[("3.1.4-3", 1)]).await;
    keeper.disconnect().await;
    let mut keeper = Client::resumed(&gateway, "3.1.4-3").await;
    keeper.publish(QOS_1, "3.1.4-3", "subscribed").await;
    assert_eq!(keeper.take().await.payload, "subscribed");
    keeper.disconnect().await;
    let mut clean = Client::clean(&gateway, "3.1.4-3").await;
    clean.publish(QOS_1, "3.1.4-3", "not subscribed").await;
    clean.quiet().await;
    clean.disconnect().await;
    Client::new_session(&gateway, "3.1.4-3").await.quiet().await;
}

#[tokio::test]
async fn mqtt_3_1_4_4() {
    let gateway = gateway().await;
    let fields: [&[u8]; 4] = [b"3.1.4-4", b"will", b"user", b""];
    for (flags, from, to) in [
        (CLEAN, 0, 0),
        (CLEAN | WILL, 0, 2),
        (CLEAN | WILL | WILL_QOS_1, 0, 2),
        (CLEAN | WILL | WILL_QOS_2 | WILL_RETAIN, 0, 2),
        (CLEAN | USER, 2, 3),
        (CLEAN | USER | PASSWORD, 2, 4),
        (CLEAN | WILL | USER | PASSWORD, 0, 4),
    ] {
        let mut client = Client::saying(&gateway, connect("3.1.4-4", flags, &fields[from..to])).await;
        client.expect([0x20, 2, 0, 0]).await;
        client.disconnect().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_4_5() {
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "3.1.4-5/watcher").await;
    watcher.subscribe(&[("3.1.4-5", 2)]).await;
    let data = [publish(0, 0, "3.1.4-5", "bad"), publish(QOS_1 | RETAIN, 1, "3.1.4-5", "bad")].concat();
    // Refused with a word, and without one.
    for (connect, answer) in [
        (connect("", KEEP, &[]), &[0x20, 2, 0, 2][..]),
        (connect_as("MQTT", 9, "3.1.4-5"), &[0x20, 2, 0, 1]),
        (connect("3.1.4-5", CLEAN | 1, &[]), &[]),
    ] {
        let said = Client::saying(&gateway, [connect, data.clone()].concat()).await.rest().await;
        assert_eq!(said, answer);
    }
    watcher.quiet().await;
    watcher.subscribe(&[("3.1.4-5", 2)]).await;
    watcher.quiet().await;
}
