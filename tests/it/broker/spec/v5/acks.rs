//! Sections 3.4 to 3.7: PUBACK, PUBREC, PUBREL and PUBCOMP.

use super::super::bytes5::*;
use super::super::scope5::Scope;

/// The largest packet that the clients here take: an acknowledgement with a reason code and no property.
const SMALL: u32 = 6;

/// What follows the packets of a client that takes small packets only: their sizes are looked at.
async fn small_answers(scope: &Scope, packets: &[Vec<u8>]) -> Vec<Packet> {
    let mut client = scope.open().await;
    // CONNACK is larger than what such a client takes: it asks for no properties that could not be left out.
    client.send(Connect::new(&scope.id("a")).with(MaximumPacketSize(100)).bytes()).await;
    assert!(matches!(client.next().await, Packet::ConnAck { reason: 0, .. }));
    client.send(packets.concat()).await;
    let mut answers = Vec::new();
    for _ in packets {
        let bytes = client.next_bytes().await.unwrap();
        assert!(bytes.len() <= 100, "{bytes:?}");
        answers.push(Packet::read(bytes[0], &bytes[2..]));
    }
    client.is_quiet().await;
    answers
}

/// A client that is told no more than fits beside its bare reason codes: CONNACK has to fit as well. One that takes
/// larger packets is told more.
async fn tight_answers(scope: &Scope, packets: &[Vec<u8>]) {
    let mut client = scope.client("wide").await;
    client.send(packets.concat()).await;
    for _ in packets {
        let said = client.next().await;
        // Nobody is subscribed: that is no failure to explain.
        let fine = matches!(said, Packet::Ack { reason: 0x10, .. });
        assert!(fine || said.properties().iter().any(|p| matches!(p, ReasonString(_))), "{said:?}");
    }
    // The size of the CONNACK is what the client has to take in any case.
    let mut client = scope.open().await;
    client.send(Connect::new(&scope.id("b")).bytes()).await;
    let connack = client.next_bytes().await.unwrap().len() as u32;
    let mut client = scope.open().await;
    client.send(Connect::new(&scope.id("b")).with(MaximumPacketSize(connack.max(SMALL))).bytes()).await;
    assert!(matches!(client.next().await, Packet::ConnAck { reason: 0, .. }));
    client.send(packets.concat()).await;
    for _ in packets {
        let bytes = client.next_bytes().await.unwrap();
        assert!(bytes.len() <= connack.max(SMALL) as usize, "{bytes:?}");
    }
}

fn reasons(answers: &[Packet]) -> Vec<u8> {
    answers
        .iter()
        .map(|answer| if let Packet::Ack { reason, .. } = answer { *reason } else { panic!("{answer:?}") })
        .collect()
}

/// PUBLISH that is not allowed, one that nobody wants.
fn publishes(scope: &Scope, qos: u8) -> [Vec<u8>; 2] {
    [Publish::new("$SYS/mine", "x").qos(qos, 1).bytes(), Publish::new(&scope.topic("t"), "x").qos(qos, 2).bytes()]
}

#[tokio::test]
async fn mqtt_3_4_2_1() {
    let scope = Scope::new().await;
    let answers = small_answers(&scope, &publishes(&scope, 1)).await;
    assert_eq!(reasons(&answers), [0x87, 0x10]);
    let mut client = scope.client("c").await;
    client.subscribe(&scope.topic("t"), 0).await;
    client.send(Publish::new(&scope.topic("t"), "x").qos(1, 1).bytes()).await;
    let answers = [client.next().await, client.next().await];
    assert!(answers.iter().any(|p| matches!(p, Packet::Ack { first: PUBACK, reason: 0, .. })), "{answers:?}");
}

#[tokio::test]
async fn mqtt_3_4_2_2() {
    let scope = Scope::new().await;
    tight_answers(&scope, &publishes(&scope, 1)).await;
}

#[tokio::test]
async fn mqtt_3_5_2_1() {
    let scope = Scope::new().await;
    let answers = small_answers(&scope, &publishes(&scope, 2)).await;
    assert_eq!(reasons(&answers), [0x87, 0x10]);
}

#[tokio::test]
async fn mqtt_3_5_2_2() {
    let scope = Scope::new().await;
    tight_answers(&scope, &publishes(&scope, 2)).await;
}

#[tokio::test]
async fn mqtt_3_6_1_1() {
    let scope = Scope::new().await;
    for flags in (0..16).filter(|flags| *flags != 2) {
        let mut client = scope.client("a").await;
        client.send(packet(0x60 | flags, &[b"\0\x01"])).await;
        client.is_told(0x81).await;
    }
}

#[tokio::test]
async fn mqtt_3_6_2_1() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.subscribe(&scope.topic("t"), 2).await;
    scope.client("b").await.publish(Publish::new(&scope.topic("t"), "x").qos(2, 0)).await;
    let message = client.message().await;
    client.send(ack(PUBREC, message.id, 0)).await;
    client.expect_ack(PUBREL, message.id, 0).await;
    // An id that stands for nothing.
    client.send(ack(PUBREC, message.id ^ 0x4000, 0)).await;
    client.expect_ack(PUBREL, message.id ^ 0x4000, 0x92).await;
}

#[tokio::test]
async fn mqtt_3_6_2_2() {
    let scope = Scope::new().await;
    tight_answers(&scope, &[ack(PUBREC, 7, 0)]).await;
}

#[tokio::test]
async fn mqtt_3_7_2_1() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.send(Publish::new(&scope.topic("t"), "x").qos(2, 1).bytes()).await;
    client.expect_ack(PUBREC, 1, 0x10).await;
    for reason in [0, 0x92] {
        client.send(ack(PUBREL, 1, 0)).await;
        client.expect_ack(PUBCOMP, 1, reason).await;
    }
}

#[tokio::test]
async fn mqtt_3_7_2_2() {
    let scope = Scope::new().await;
    tight_answers(&scope, &[ack(PUBREL, 7, 0)]).await;
}
