//! Sections 3.12 to 3.15, 4.1, 4.4 and 4.5: PING, DISCONNECT, AUTH, and what a session keeps.

use std::time::Duration;

use tokio::time::sleep;

use super::super::bytes5::*;
use super::super::scope5::Scope;

/// A client that is sent a DISCONNECT of the server's, and all that came: its session is taken over while messages wait.
async fn taken_over(scope: &Scope, with: Option<Property>) -> Vec<Packet> {
    let connect = with.into_iter().fold(Connect::keep(&scope.id("a"), 60).clean(), Connect::with);
    let (mut first, _) = scope.session(&connect).await;
    first.subscribe(&scope.topic("t"), 1).await;
    let mut publisher = scope.client("b").await;
    for _ in 0..3 {
        publisher.publish(Publish::new(&scope.topic("t"), "x").qos(1, 0)).await;
    }
    scope.keeper("a").await;
    publisher.publish(Publish::new(&scope.topic("t"), "late").qos(1, 0)).await;
    first.rest().await
}

#[tokio::test]
async fn mqtt_3_12_4_1() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.send([PINGREQ; 3].concat()).await;
    for _ in 0..3 {
        assert_eq!(client.next_bytes().await.unwrap(), [0xD0, 0]);
    }
}

#[tokio::test]
async fn mqtt_3_14_0_1() {
    let scope = Scope::new().await;
    // Nobody who was not let in is sent DISCONNECT.
    let refused = Connect::new(&scope.id("a")).with(AuthenticationMethod("none such".into()));
    // Bad packets behind a CONNECT, such as a PUBLISH at QoS 3, change nothing of its refusal.
    let malformed = packet(0x36, &[b"\0\x01t\0\x01\0"]);
    for bytes in [
        refused.bytes(),
        [refused.bytes(), malformed.clone()].concat(),
        [refused.bytes(), refused.bytes()].concat(),
        [&refused.bytes()[..], &PINGREQ, &malformed].concat(),
        PINGREQ.into(),
        packet(0x11, &[]),
        packet(0x10, &[b"\0\x04MQTT\x05\x03\0\0\0\0\x01a"]),
    ] {
        let mut client = scope.open().await;
        client.send(bytes).await;
        let said = client.rest().await;
        assert!(said.iter().all(|packet| matches!(packet, Packet::ConnAck { reason: 0x80.., .. })), "{said:?}");
    }
}

#[tokio::test]
async fn mqtt_3_14_1_1() {
    let scope = Scope::new().await;
    for flags in 1..16 {
        let mut client = scope.client("a").await;
        client.send([0xE0 | flags, 0]).await;
        client.is_told(0x81).await;
    }
}

#[tokio::test]
async fn mqtt_3_14_2_1() {
    let scope = Scope::new().await;
    // Reading fails on a reason code that DISCONNECT does not have; these can be had here.
    for (bytes, reason) in [
        (Connect::new(&scope.id("a")).bytes(), 0x82),
        (Publish::new("a/#", "").bytes(), 0x90),
        (Publish::new("t", "").with(TopicAlias(u16::MAX)).bytes(), 0x94),
        (Publish::new("t", vec![0; 2 << 20]).bytes(), 0x95),
        (vec![0xC1, 0], 0x81),
    ] {
        let mut client = scope.client("a").await;
        client.send(bytes).await;
        client.is_told(reason).await;
    }
}

#[tokio::test]
async fn mqtt_3_14_2_2() {
    let scope = Scope::new().await;
    // Reading fails on a Session Expiry Interval in a server's DISCONNECT.
    let packets = taken_over(&scope, None).await;
    assert!(matches!(packets.last(), Some(Packet::Disconnect { reason: 0x8E, .. })), "{packets:?}");
}

/// DISCONNECT to a client whose largest packet is its CONNACK.
async fn small_good_bye(scope: &Scope) {
    let wrong = Publish::new("a/#", "").with(user("a", &"x".repeat(1000))).bytes();
    let mut wide = scope.client("wide").await;
    wide.send(&wrong).await;
    let said = wide.next().await;
    assert!(said.properties().iter().any(|p| matches!(p, ReasonString(_))), "others are told why: {said:?}");
    let mut client = scope.open().await;
    client.send(Connect::new(&scope.id("s")).bytes()).await;
    let size = client.next_bytes().await.unwrap().len();
    let (mut client, _) = scope.session(&Connect::new(&scope.id("s")).with(MaximumPacketSize(size as u32))).await;
    client.send(wrong).await;
    let bytes = client.next_bytes().await.unwrap();
    assert!(bytes[0] == 0xE0 && bytes.len() <= size, "{bytes:?}");
}

#[tokio::test]
async fn mqtt_3_14_2_3() {
    small_good_bye(&Scope::new().await).await;
}

#[tokio::test]
async fn mqtt_3_14_4_1() {
    let scope = Scope::new().await;
    let packets = taken_over(&scope, Some(ReceiveMaximum(1))).await;
    let end = packets.iter().position(|packet| matches!(packet, Packet::Disconnect { .. }));
    assert_eq!(end, Some(packets.len() - 1), "{packets:?}");
}

#[tokio::test]
async fn mqtt_3_14_4_2() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.send(Publish::new("a/#", "").bytes()).await;
    client.is_told(0x90).await;
    // And when it is the client that says it: not one byte follows.
    scope.client("b").await.leave().await;
}

#[tokio::test]
async fn mqtt_3_14_4_3() {
    let scope = Scope::new().await;
    let mut watcher = scope.client("w").await;
    watcher.subscribe(&scope.topic("gone"), 0).await;
    let will = Publish::new(&scope.topic("gone"), "x");
    for good_bye in [&[0xE0, 0][..], &[0xE0, 1, 0], &[0xE0, 2, 0, 0], &[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 1]] {
        let (mut client, _) = scope.session(&Connect::keep(&scope.id("a"), 60).will(&will)).await;
        client.send(good_bye).await;
        assert_eq!(client.rest().await, []);
        watcher.is_quiet().await;
    }
}

#[tokio::test]
async fn mqtt_3_15_1_1() {
    let scope = Scope::new().await;
    for flags in 1..16 {
        let mut client = scope.client("a").await;
        client.send([0xF0 | flags, 0]).await;
        client.is_told(0x81).await;
    }
}

#[tokio::test]
async fn mqtt_4_1_0_1() {
    let scope = Scope::new().await;
    for (name, expiry) in [("a", 0), ("b", 1)] {
        let (mut client, _) = scope.session(&Connect::keep(&scope.id(name), expiry)).await;
        client.subscribe(&scope.topic("t"), 1).await;
        sleep(Duration::from_millis(1300)).await;
        client.send(Publish::new(&scope.topic("t"), "x").qos(2, 1).bytes()).await;
        let packets = [client.next().await, client.next().await];
        assert!(packets.iter().any(|packet| matches!(packet, Packet::Publish(_))), "{packets:?}");
        // And the state of QoS 2.
        client.send(ack(PUBREL, 1, 0)).await;
        client.expect_ack(PUBCOMP, 1, 0).await;
    }
}

#[tokio::test]
async fn mqtt_4_1_0_2() {
    let scope = Scope::new().await;
    let (mut keeper, _) = scope.session(&Connect::keep(&scope.id("a"), 1)).await;
    keeper.subscribe(&scope.topic("t"), 1).await;
    keeper.leave().await;
    // DISCONNECT may set another interval.
    let (mut other, _) = scope.keeper("b").await;
    other.send([0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0]).await;
    assert_eq!(other.rest().await, []);
    assert!(!scope.keeper("b").await.1);
    scope.client("p").await.publish(Publish::new(&scope.topic("t"), "x").qos(1, 0)).await;
    sleep(Duration::from_millis(2200)).await;
    let (mut keeper, present) = scope.keeper("a").await;
    assert!(!present);
    keeper.is_quiet().await;
}

#[tokio::test]
async fn mqtt_4_4_0_1() {
    let scope = Scope::new().await;
    let (mut keeper, _) = scope.keeper("a").await;
    keeper.subscribe(&scope.topic("t"), 2).await;
    let mut publisher = scope.client("b").await;
    for qos in [1, 2, 2, 1] {
        publisher.publish(Publish::new(&scope.topic("t"), format!("{qos}")).qos(qos, 0)).await;
    }
    let sent = [keeper.message().await, keeper.message().await, keeper.message().await, keeper.message().await];
    keeper.send(ack(PUBREC, sent[1].id, 0)).await;
    keeper.expect_ack(PUBREL, sent[1].id, 0).await;
    // Never while the connection holds.
    sleep(Duration::from_millis(300)).await;
    keeper.is_quiet().await;
    keeper.vanish();
    for _ in 0..2 {
        let (mut keeper, present) = scope.keeper("a").await;
        assert!(present);
        let mut again = Vec::new();
        for _ in 0..4 {
            again.push(keeper.next().await);
        }
        keeper.is_quiet().await;
        let released = again.iter().position(|packet| matches!(packet, Packet::Ack { first: PUBREL, .. }));
        let released = again.remove(released.expect("PUBREL"));
        assert!(matches!(released, Packet::Ack { id, .. } if id == sent[1].id), "{released:?}");
        let expected = [&sent[0], &sent[2], &sent[3]].map(|p| Packet::Publish(Publish { dup: true, ..p.clone() }));
        assert_eq!(again, expected);
    }
}

#[tokio::test]
async fn mqtt_4_4_0_2() {
    let scope = Scope::new().await;
    let (mut keeper, _) = scope.keeper("a").await;
    keeper.subscribe(&scope.topic("t"), 2).await;
    let mut publisher = scope.client("b").await;
    for (qos, answer) in [(1, PUBACK), (2, PUBREC)] {
        publisher.publish(Publish::new(&scope.topic("t"), "x").qos(qos, 0)).await;
        let message = keeper.message().await;
        keeper.send(ack(answer, message.id, 0x80)).await;
    }
    keeper.is_quiet().await;
    keeper.vanish();
    let (mut keeper, present) = scope.keeper("a").await;
    assert!(present);
    keeper.is_quiet().await;
}

#[tokio::test]
async fn mqtt_4_5_0_1() {
    let scope = Scope::new().await;
    let mut publisher = scope.client("p").await;
    for name in ["a", "b"] {
        let (mut keeper, _) = scope.keeper(name).await;
        keeper.subscribe(&scope.topic("t"), 1).await;
        if name == "a" {
            keeper.leave().await;
        } else {
            keeper.vanish();
        }
    }
    let (mut other, _) = scope.keeper("c").await;
    other.subscribe(&scope.topic("u"), 1).await;
    other.leave().await;
    for n in 0..3 {
        publisher.publish(Publish::new(&scope.topic("t"), format!("{n}")).qos(1 + n % 2, 0)).await;
    }
    for (name, n) in [("a", 3), ("b", 3), ("c", 0)] {
        let (mut keeper, _) = scope.keeper(name).await;
        assert_eq!(keeper.take(n).await, &["0", "1", "2"][..n]);
        keeper.is_quiet().await;
    }
}
