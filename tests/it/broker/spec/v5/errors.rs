//! Sections 4.12 and 4.13: enhanced authentication, which is refused, and the handling of errors.

use super::super::bytes5::*;
use super::super::scope5::Scope;

#[tokio::test]
async fn mqtt_4_12_0_1() {
    let scope = Scope::new().await;
    for method in ["SCRAM-SHA-256", "x", ""] {
        let connect = Connect::new(&scope.id("a")).with(AuthenticationMethod(method.into()));
        for connect in [connect.clone(), connect.with(AuthenticationData(vec![1, 2]))] {
            let (mut client, answer) = scope.connect(&connect).await;
            assert!(matches!(answer, Packet::ConnAck { reason: 0x8C | 0x87, present: false, .. }), "{answer:?}");
            assert_eq!(client.rest().await, []);
        }
    }
}

#[tokio::test]
async fn mqtt_4_12_0_4() {
    let scope = Scope::new().await;
    // What follows a refused CONNECT does not save it.
    let connect = Connect::new(&scope.id("a")).with(AuthenticationMethod("x".into())).bytes();
    let auth = packet(0xF0, &[&[0x18], &properties(&[AuthenticationMethod("x".into())])]);
    scope.refuses([connect, auth].concat()).await;
}

#[tokio::test]
async fn mqtt_4_12_0_6() {
    let scope = Scope::new().await;
    let (mut client, answer) = scope.connect(&Connect::new(&scope.id("a"))).await;
    let named = answer.properties().iter().any(|p| matches!(p, AuthenticationMethod(_) | AuthenticationData(_)));
    assert!(!named, "{answer:?}");
    // Nor does an AUTH of the client's bring one: it is a protocol error.
    client.send(packet(0xF0, &[&[0x19], &properties(&[AuthenticationMethod("x".into())])])).await;
    client.is_told(0x82).await;
}

#[tokio::test]
async fn mqtt_4_13_1_1() {
    let scope = Scope::new().await;
    let publish = |property: Property| Publish::new("t", "x").with(property).bytes();
    let mut wrong = Vec::new();
    // Packets that are malformed or break the protocol, and the reason code given for it.
    for (bytes, reasons) in [
        (Publish::new("t", "x").qos(3, 1).bytes(), &[0x81][..]),
        (packet(0x00, &[]), &[0x81, 0x82]),
        (vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], &[0x81]),
        (packet(0x20, &[&[0, 0, 0]]), &[0x82]),
        (packet(0x90, &[&[0, 1, 0, 0]]), &[0x82]),
        (packet(0xB0, &[&[0, 1, 0, 0]]), &[0x82]),
        (packet(0xD0, &[]), &[0x82]),
        (packet(0xC0, &[&[0]]), &[0x81, 0x82]),
        (packet(PUBACK, &[&[0]]), &[0x81]),
        (packet(PUBACK, &[&[0, 0]]), &[0x81, 0x82]),
        (packet(PUBACK, &[&[0, 1, 0x01]]), &[0x81, 0x82]),
        (packet(0x82, &[&[0, 1]]), &[0x81]),
        (packet(0xE0, &[&[0x01]]), &[0x81, 0x82]),
        (publish(Raw(vec![0x01])), &[0x81]),
        (publish(PayloadFormat(2)), &[0x82, 0x81, 0x99]),
        (publish(Raw(PayloadFormat(1).bytes().repeat(2))), &[0x82]),
        (publish(Raw(MessageExpiry(1).bytes().repeat(2))), &[0x82]),
        (publish(Raw(ContentType("a".into()).bytes().repeat(2))), &[0x82]),
        (publish(Raw(ResponseTopic("a".into()).bytes().repeat(2))), &[0x82]),
        (publish(Raw(CorrelationData(vec![1]).bytes().repeat(2))), &[0x82]),
        (publish(Raw(TopicAlias(1).bytes().repeat(2))), &[0x82]),
        (publish(SessionExpiry(1)), &[0x81, 0x82]),
        (publish(Raw(vec![0x7F, 0])), &[0x81, 0x82]),
        (subscribe(1, &[SubscriptionId(0)], &[("t", 0)]), &[0x82]),
        (subscribe(1, &[SubscriptionId(1), SubscriptionId(2)], &[("t", 0)]), &[0x82]),
        (subscribe(1, &[MessageExpiry(1)], &[("t", 0)]), &[0x81, 0x82]),
    ] {
        let mut client = scope.client("a").await;
        client.send([&bytes[..], &PINGREQ].concat()).await;
        let mut said = Vec::new();
        while let Some(packet) = client.try_next().await {
            let goes_on = packet == Packet::PingResp;
            said.push(packet);
            if goes_on {
                break;
            }
        }
        match said[..] {
            [Packet::Disconnect { reason, .. }] if reasons.contains(&reason) => {}
            _ => wrong.push(format!("{bytes:02x?} is {reasons:02x?}, and not {said:02x?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn mqtt_4_13_2_1() {
    let scope = Scope::new().await;
    // DISCONNECT of the client's with an error: it is closed, and the will is published.
    let mut watcher = scope.client("w").await;
    watcher.subscribe(&scope.topic("gone"), 0).await;
    let will = Publish::new(&scope.topic("gone"), "x");
    for reason in [0x80, 0x81, 0x93, 0x97] {
        let (mut client, _) = scope.session(&Connect::new(&scope.id("a")).will(&will)).await;
        client.send([0xE0, 1, reason]).await;
        assert_eq!(client.rest().await, []);
        assert_eq!(watcher.take(1).await, ["x"]);
    }
    // CONNACK and DISCONNECT of the server's.
    let connect = Connect::new(&scope.id("a")).with(AuthenticationMethod("x".into()));
    assert_eq!(scope.connect(&connect).await.0.rest().await, []);
    let mut client = scope.client("a").await;
    client.send(Publish::new("a/#", "").bytes()).await;
    client.is_told(0x90).await;
}
