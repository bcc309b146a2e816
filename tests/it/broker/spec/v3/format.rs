//! Chapters 1 and 2: text, reserved flags, packet ids.

use crate::broker::spec::bytes::*;
use crate::broker::spec::gateway;

/// Every kind of text that a client sends, with `bad` in it. Those of CONNECT come first.
fn texts(bad: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let connects = vec![
        connect(bad, CLEAN, &[]),
        connect("1.5.3", CLEAN | WILL, &[bad, b"will"]),
        connect("1.5.3", CLEAN | USER, &[bad]),
    ];
    let filter = |first: u8, qos: &[u8]| packet(first, &[&[0, 1], &text(bad), qos]);
    let others = vec![
        publish(0, 0, bad, "x"),
        publish(QOS_1, 1, bad, "x"),
        publish(QOS_2, 1, bad, "x"),
        filter(0x82, &[0]),
        filter(0xa2, &[]),
    ];
    (connects, others)
}

#[tokio::test]
async fn mqtt_1_5_3_1() {
    let gateway = gateway().await;
    let bad: [&[u8]; 8] = [
        b"a\xed\xa0\x80",             // U+D800
        b"a\xed\xbf\xbf",             // U+DFFF
        b"a\xed\xa0\xbd\xed\xb8\x80", // a pair of surrogates
        b"a\xc0\xaf",                 // `/` in two bytes
        b"a\xff",
        b"a\x80",             // a continuation of nothing
        b"a\xe2\x82",         // an end too early
        b"a\xf4\x90\x80\x80", // above U+10FFFF
    ];
    for bad in bad {
        let (connects, others) = texts(bad);
        for connect in connects {
            refused(&gateway, connect).await;
        }
        for other in others {
            closed_after(&gateway, "1.5.3-1", other).await;
        }
    }
}

#[tokio::test]
async fn mqtt_1_5_3_2() {
    let gateway = gateway().await;
    for bad in [&b"a\0b"[..], b"\0", b"a\0"] {
        let (connects, others) = texts(bad);
        for connect in connects {
            refused(&gateway, connect).await;
        }
        for other in others {
            closed_after(&gateway, "1.5.3-2", other).await;
        }
    }
}

#[tokio::test]
async fn mqtt_1_5_3_3() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "\u{feff}1.5.3-3").await;
    let mut other = Client::clean(&gateway, "1.5.3-3").await;
    let topics = ["\u{feff}1.5.3-3", "1.5.3-3/\u{feff}", "1.5.3-3/a\u{feff}b"];
    client.subscribe(&topics.map(|topic| (topic, 0))).await;
    for topic in topics {
        other.publish(QOS_1, &topic.replace('\u{feff}', ""), "stripped").await;
        other.publish(QOS_1, topic, "whole").await;
        assert_eq!(client.take().await.parts(), (topic, "whole", 0));
    }
    client.quiet().await;
}

#[tokio::test]
async fn mqtt_2_2_2_1() {
    // Every packet that a server sends, to the last bit.
    let gateway = gateway().await;
    let mut client = Client::open(&gateway).await;
    client.send(connect("2.2.2-1", CLEAN, &[])).await;
    client.expect([0x20, 2, 0, 0]).await;
    client.send(subscribe(5, &[("2.2.2-1", 2)])).await;
    client.expect([0x90, 3, 0, 5, 2]).await;
    client.send(PINGREQ).await;
    client.expect([0xd0, 0]).await;
    client.send(unsubscribe(6, &["2.2.2-1/none"])).await;
    client.expect([0xb0, 2, 0, 6]).await;
    client.send(publish(QOS_1, 7, "2.2.2-1/x", "")).await;
    client.expect([0x40, 2, 0, 7]).await;
    client.send(publish(QOS_2, 8, "2.2.2-1/x", "")).await;
    client.expect([0x50, 2, 0, 8]).await;
    client.send(ack(PUBREL, 8)).await;
    client.expect([0x70, 2, 0, 8]).await;
    client.publish(QOS_2, "2.2.2-1", "x").await;
    let id = client.delivery().await.id;
    client.send(ack(PUBREC, id)).await;
    client.expect([0x62, 2, (id >> 8) as u8, id as u8]).await;
}

#[tokio::test]
async fn mqtt_2_2_2_2() {
    let gateway = gateway().await;
    // Every type that a client sends but PUBLISH, with every value of its four flags but the right one.
    let packets = [
        (ack(PUBACK, 1), 0),
        (ack(PUBREC, 1), 0),
        (ack(PUBREL, 1), 2),
        (ack(PUBCOMP, 1), 0),
        (subscribe(1, &[("2.2.2-2", 0)]), 2),
        (unsubscribe(1, &["2.2.2-2"]), 2),
        (PINGREQ.to_vec(), 0),
        (DISCONNECT.to_vec(), 0),
    ];
    for (mut packet, right) in packets {
        for flags in (0..16).filter(|flags| *flags != right) {
            packet[0] = packet[0] & 0xf0 | flags;
            closed_after(&gateway, "2.2.2-2", &packet).await;
        }
    }
    for flags in 1..16 {
        let mut connect = connect("2.2.2-2", CLEAN, &[]);
        connect[0] |= flags;
        refused(&gateway, connect).await;
    }
}

#[tokio::test]
async fn mqtt_2_3_1_1() {
    let gateway = gateway().await;
    let without_id = [
        subscribe(0, &[("2.3.1-1", 1)]),
        unsubscribe(0, &["2.3.1-1"]),
        publish(QOS_1, 0, "2.3.1-1", "x"),
        publish(QOS_2, 0, "2.3.1-1", "x"),
        // The packet ends where the id should be.
        packet(0x82, &[]),
        packet(0xa2, &[&[1]]),
        packet(0x32, &[&text("2.3.1-1")]),
        packet(0x34, &[&text("2.3.1-1"), &[1]]),
    ];
    for packet in without_id {
        closed_after(&gateway, "2.3.1-1", packet).await;
    }
}

#[tokio::test]
async fn mqtt_2_3_1_4() {
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "2.3.1-4").await;
    client.subscribe(&[("2.3.1-4/#", 2)]).await;
    let mut sender = Client::clean(&gateway, "2.3.1-4/sender").await;
    let mut sent = Vec::new();
    for n in 0..20 {
        sender.publish([QOS_1, QOS_2][n % 2], "2.3.1-4/x", &n.to_string()).await;
        sent.push(client.delivery().await);
    }
    let ids: std::collections::BTreeSet<_> = sent.iter().map(|delivery| delivery.id).collect();
    assert_eq!(ids.len(), 20, "an id is used by one delivery at a time: {sent:?}");
    // One is acknowledged: its id may be used again, the others' may not.
    client.send(ack(PUBACK, sent[0].id)).await;
    client.quiet().await;
    sender.publish(QOS_1, "2.3.1-4/x", "20").await;
    let another = client.delivery().await;
    assert!(sent[1..].iter().all(|delivery| delivery.id != another.id));
    // Sent again, each has the id that it had.
    client.disconnect().await;
    let mut client = Client::resumed(&gateway, "2.3.1-4").await;
    for before in sent[1..].iter().chain([&another]) {
        let again = client.delivery().await;
        assert_eq!((again.id, again.parts()), (before.id, before.parts()));
    }
}

#[tokio::test]
async fn mqtt_2_3_1_5() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "2.3.1-5").await;
    client.subscribe(&[("2.3.1-5", 2)]).await;
    client.send(publish(0, 0, "2.3.1-5", "payload")).await;
    // The payload stands right behind the topic.
    client.expect(packet(0x30, &[&text("2.3.1-5"), b"payload"])).await;
}

#[tokio::test]
async fn mqtt_2_3_1_6() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "2.3.1-6").await;
    for id in [1, 0x00ff, 0x0100, 0x1234, 0xffff] {
        client.send(publish(QOS_1, id, "2.3.1-6", "x")).await;
        client.expect(ack(PUBACK, id)).await;
        client.send(publish(QOS_2, id, "2.3.1-6", "x")).await;
        client.expect(ack(PUBREC, id)).await;
        client.send(ack(PUBREL, id)).await;
        client.expect(ack(PUBCOMP, id)).await;
    }
    client.subscribe(&[("2.3.1-6", 2)]).await;
    client.publish(QOS_2, "2.3.1-6", "x").await;
    let id = client.delivery().await.id;
    client.send(ack(PUBREC, id)).await;
    client.expect(ack(PUBREL, id)).await;
}

#[tokio::test]
async fn mqtt_2_3_1_7() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "2.3.1-7").await;
    for id in [1, 0x00ff, 0x0100, 0x1234, 0xffff] {
        client.send(subscribe(id, &[("2.3.1-7", 1)])).await;
        client.expect(suback(id, &[1])).await;
        client.send(unsubscribe(id, &["2.3.1-7"])).await;
        client.expect(ack(UNSUBACK, id)).await;
    }
}
