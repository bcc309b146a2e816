//! Chapters 1 and 2: data representation, fixed header, packet ids, properties.

use super::super::bytes5::*;
use super::super::scope5::Scope;

/// What is no UTF-8: an impossible byte, a surrogate, an overlong form, one cut off, one beyond the last character.
const ILL_FORMED: [&[u8]; 5] = [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"a\xe2\x82", b"\xf4\x90\x80\x80"];

/// Packets with this text where text can stand.
fn packets_with(bad: &[u8]) -> [Vec<u8>; 6] {
    let id = 7u16.to_be_bytes();
    let content_type = Raw([&[0x03][..], &text(bad)].concat());
    [
        packet(0x30, &[&text(bad), &[0]]),
        packet(0x32, &[&text(bad), &id, &[0]]),
        packet(0x82, &[&id, &[0], &text(bad), &[0]]),
        packet(0xA2, &[&id, &[0], &text(bad)]),
        Publish::new("good", "").with(content_type).bytes(),
        packet(0xE0, &[&[0], &properties(&[Raw([&[0x1F][..], &text(bad)].concat())])]),
    ]
}

#[tokio::test]
async fn mqtt_1_5_4_1() {
    let scope = Scope::new().await;
    for bad in ILL_FORMED {
        for packet in packets_with(bad) {
            scope.cuts(packet, &[0x81, 0x90, 0x8F]).await;
        }
        let connect = Connect { payload: vec![text(bad)], ..Connect::new("") };
        scope.refuses(connect.bytes()).await;
    }
}

#[tokio::test]
async fn mqtt_1_5_4_2() {
    let scope = Scope::new().await;
    for packet in packets_with(b"a\0b") {
        scope.cuts(packet, &[0x81, 0x90, 0x8F]).await;
    }
    scope.refuses(Connect::new("a\0b").bytes()).await;
    let will = Publish::new("a\0b", "");
    scope.refuses(Connect::new(&scope.id("a")).will(&will).bytes()).await;
}

#[tokio::test]
async fn mqtt_1_5_4_3() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    let (plain, marked) = (scope.topic("t"), scope.topic("\u{FEFF}t"));
    client.subscribe(&marked, 0).await;
    client.send(Publish::new(&plain, "plain").bytes()).await;
    client.send(Publish::new(&marked, "marked").with(ContentType("\u{FEFF}x".into())).bytes()).await;
    let message = client.message().await;
    assert_eq!((&message.topic, message.says()), (&marked, "marked"));
    assert_eq!(message.properties, [ContentType("\u{FEFF}x".into())]);
}

#[tokio::test]
async fn mqtt_1_5_5_1() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    let topic = scope.topic("t");
    client.subscribe(&topic, 0).await;
    // Both around the lengths where one byte more is needed; reading fails on one too many.
    for size in [0, 100, 127, 128, 16_200, 16_383, 16_384, 100_000] {
        client.send(Publish::new(&topic, vec![b'x'; size]).bytes()).await;
        assert_eq!(client.message().await.payload.len(), size);
        let long = user("name", &"x".repeat(size.min(60_000)));
        client.send(Publish::new(&topic, "").with(long.clone()).bytes()).await;
        assert_eq!(client.message().await.properties, [long]);
    }
}

#[tokio::test]
async fn mqtt_1_5_7_1() {
    let scope = Scope::new().await;
    for bad in ILL_FORMED.into_iter().chain([&b"\0"[..]]) {
        for pair in [[text(bad), text("x")], [text("x"), text(bad)]] {
            let pair = Raw([vec![0x26], pair.concat()].concat());
            scope.cuts(Publish::new("t", "").with(pair.clone()).bytes(), &[0x81]).await;
            scope.refuses(Connect::new(&scope.id("a")).with(pair).bytes()).await;
        }
    }
}

#[tokio::test]
async fn mqtt_2_1_3_1() {
    let scope = Scope::new().await;
    let id = 1u16.to_be_bytes();
    for (kind, right, body) in [
        (0x40, 0, &id[..]),
        (0x50, 0, &id[..]),
        (0x60, 2, &id[..]),
        (0x70, 0, &id[..]),
        (0x80, 2, b"\0\x01\0\0\x01t\0"),
        (0xA0, 2, b"\0\x01\0\0\x01t"),
        (0xC0, 0, b""),
        (0xE0, 0, b""),
        (0xF0, 0, b""),
    ] {
        for flags in (0..16).filter(|flags| *flags != right) {
            let mut client = scope.client("a").await;
            client.send(packet(kind | flags, &[body])).await;
            client.is_told(0x81).await;
        }
    }
    for flags in 1..16 {
        let mut connect = Connect::new(&scope.id("b")).bytes();
        connect[0] |= flags;
        scope.refuses(connect).await;
    }
}

#[tokio::test]
async fn mqtt_2_2_1_2() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    let topic = scope.topic("t");
    client.subscribe(&topic, 2).await;
    client.send(Publish::new(&topic, "x").bytes()).await;
    let bytes = client.next_bytes().await.unwrap();
    assert_eq!(bytes, packet(0x30, &[&text(&topic), &[0], b"x"]), "neither a packet id nor anything else");
}

#[tokio::test]
async fn mqtt_2_2_1_3() {
    let scope = Scope::new().await;
    for packet in [
        Publish::new("t", "").qos(1, 0).bytes(),
        Publish::new("t", "").qos(2, 0).bytes(),
        subscribe(0, &[], &[("t", 0)]),
        unsubscribe(0, &["t"]),
    ] {
        scope.cuts(packet, &[0x81, 0x82]).await;
    }
}

#[tokio::test]
async fn mqtt_2_2_1_4() {
    let scope = Scope::new().await;
    let (mut client, mut publisher) = (scope.client("a").await, scope.client("b").await);
    let topic = scope.topic("t");
    client.subscribe(&topic, 2).await;
    let mut used = Vec::new();
    for n in 0..40 {
        publisher.publish(Publish::new(&topic, "x").qos(1 + n % 2, 0)).await;
        used.push(client.message().await.id);
    }
    // The ids of those that are done may be used again, the others not.
    for id in used.drain(..10) {
        client.send(ack(PUBACK, id, 0)).await;
        client.send(ack(PUBREC, id, 0x80)).await;
    }
    for _ in 0..10 {
        publisher.publish(Publish::new(&topic, "x").qos(1, 0)).await;
        used.push(client.message().await.id);
    }
    let all = used.len();
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len(), all, "no id stands for two messages at once");
}

#[tokio::test]
async fn mqtt_2_2_1_5() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    for id in [1, 0x0102, 0x8000, 0xFFFF] {
        client.send(Publish::new(&scope.topic("t"), "").qos(1, id).bytes()).await;
        client.expect_ack(PUBACK, id, 0x10).await;
        client.send(Publish::new(&scope.topic("t"), "").qos(2, id).bytes()).await;
        client.expect_ack(PUBREC, id, 0x10).await;
        client.send(ack(PUBREL, id, 0)).await;
        client.expect_ack(PUBCOMP, id, 0).await;
    }
}

#[tokio::test]
async fn mqtt_2_2_1_6() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    for id in [1, 0x0102, 0x8000, 0xFFFF] {
        client.send(subscribe(id, &[], &[(&scope.topic("t"), 0)])).await;
        assert!(matches!(client.next().await, Packet::SubAck { id: i, .. } if i == id));
        client.send(unsubscribe(id, &[&scope.topic("t")])).await;
        assert!(matches!(client.next().await, Packet::UnsubAck { id: i, .. } if i == id));
    }
}

#[tokio::test]
async fn mqtt_2_2_2_1() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    let topic = scope.topic("t");
    client.send(subscribe(1, &[], &[(&topic, 1)])).await;
    assert_eq!(client.next_bytes().await.unwrap(), [0x90, 4, 0, 1, 0, 1]);
    client.send(Publish::new(&topic, "x").qos(1, 1).bytes()).await;
    for _ in 0..2 {
        let bytes = client.next_bytes().await.unwrap();
        // PUBACK may leave its properties out; PUBLISH has the length between packet id and payload.
        assert!(bytes[0] == PUBACK || bytes[bytes.len() - 2..] == *b"\0x", "{bytes:?}");
    }
    client.send(unsubscribe(2, &[&topic])).await;
    assert_eq!(client.next_bytes().await.unwrap(), [0xB0, 4, 0, 2, 0, 0]);
}
