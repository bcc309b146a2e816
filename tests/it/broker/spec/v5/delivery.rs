//! Sections 4.2, 4.3, 4.6 and 4.9: the stream, the three qualities of service, order, flow control.

use std::time::Duration;

use tokio::time::sleep;

use super::super::bytes5::*;
use super::super::scope5::Scope;

/// A subscriber at QoS 2 with a session that stays, a publisher, and their topic.
async fn pair(scope: &Scope) -> (Client, Client, String) {
    let (mut keeper, _) = scope.keeper("a").await;
    keeper.subscribe(&scope.topic("t"), 2).await;
    (keeper, scope.client("b").await, scope.topic("t"))
}

#[tokio::test]
async fn mqtt_4_2_0_1() {
    let scope = Scope::new().await;
    let topic = scope.topic("t");
    let packets =
        [Connect::new(&scope.id("a")).bytes(), subscribe(1, &[], &[(&topic, 0)]), Publish::new(&topic, "x").bytes()];
    // TCP: a stream of bytes, however it is cut.
    let mut client = scope.open().await;
    for byte in packets.concat() {
        client.send([byte]).await;
    }
    assert!(matches!(client.next().await, Packet::ConnAck { reason: 0, .. }));
    assert!(matches!(client.next().await, Packet::SubAck { .. }));
    assert_eq!(client.take(1).await, ["x"]);
}

#[tokio::test]
async fn mqtt_4_3_1_1() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    publisher.publish(Publish::new(&topic, "x")).await;
    assert_eq!(client.message().await, Publish::new(&topic, "x"));
}

#[tokio::test]
async fn mqtt_4_3_2_1() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        publisher.publish(Publish::new(&topic, "x").qos(1, 0)).await;
        let id = client.message().await.id;
        assert!(!ids.contains(&id));
        ids.push(id);
    }
}

#[tokio::test]
async fn mqtt_4_3_2_2() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    publisher.publish(Publish::new(&topic, "x").qos(1, 0)).await;
    let message = client.message().await;
    assert_eq!(message, Publish::new(&topic, "x").qos(1, message.id));
}

#[tokio::test]
async fn mqtt_4_3_2_3() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    publisher.publish(Publish::new(&topic, "x").qos(1, 0)).await;
    let message = client.message().await;
    client.vanish();
    let (mut client, _) = scope.keeper("a").await;
    assert_eq!(client.message().await.id, message.id);
    client.send(ack(PUBACK, message.id, 0)).await;
    client.is_quiet().await;
    client.vanish();
    scope.keeper("a").await.0.is_quiet().await;
}

#[tokio::test]
async fn mqtt_4_3_2_4() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    publisher.send(Publish::new(&topic, "x").qos(1, 77).bytes()).await;
    publisher.expect_ack(PUBACK, 77, 0).await;
    assert_eq!(client.take(1).await, ["x"]);
}

#[tokio::test]
async fn mqtt_4_3_2_5() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    for publish in [Publish::new(&topic, "x"), Publish::new(&topic, "x").dup(), Publish::new(&topic, "y").dup()] {
        publisher.send(publish.qos(1, 7).bytes()).await;
        publisher.expect_ack(PUBACK, 7, 0).await;
    }
    assert_eq!(client.take(3).await, ["x", "x", "y"]);
}

#[tokio::test]
async fn mqtt_4_3_3_1() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        publisher.publish(Publish::new(&topic, "x").qos(2, 0)).await;
        let id = client.message().await.id;
        assert!(!ids.contains(&id));
        // Not free before PUBCOMP.
        client.send(ack(PUBREC, id, 0)).await;
        client.expect_ack(PUBREL, id, 0).await;
        ids.push(id);
    }
}

#[tokio::test]
async fn mqtt_4_3_3_2() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    publisher.publish(Publish::new(&topic, "x").qos(2, 0)).await;
    let message = client.message().await;
    assert_eq!(message, Publish::new(&topic, "x").qos(2, message.id));
}

#[tokio::test]
async fn mqtt_4_3_3_3() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    publisher.publish(Publish::new(&topic, "x").qos(2, 0)).await;
    let message = client.message().await;
    client.vanish();
    let (mut client, _) = scope.keeper("a").await;
    assert_eq!(client.message().await, Publish { dup: true, ..message });
}

#[tokio::test]
async fn mqtt_4_3_3_4() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    for reason in [0, 0x10] {
        publisher.publish(Publish::new(&topic, "x").qos(2, 0)).await;
        let message = client.message().await;
        client.send(ack(PUBREC, message.id, reason)).await;
        client.expect_ack(PUBREL, message.id, 0).await;
        client.send(ack(PUBCOMP, message.id, 0)).await;
    }
    publisher.publish(Publish::new(&topic, "x").qos(2, 0)).await;
    let message = client.message().await;
    client.send(ack(PUBREC, message.id, 0x80)).await;
    client.is_quiet().await;
}

#[tokio::test]
async fn mqtt_4_3_3_5() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    publisher.publish(Publish::new(&topic, "x").qos(2, 0)).await;
    let message = client.message().await;
    client.send(ack(PUBREC, message.id, 0)).await;
    client.expect_ack(PUBREL, message.id, 0).await;
    for _ in 0..2 {
        client.vanish();
        client = scope.keeper("a").await.0;
        client.expect_ack(PUBREL, message.id, 0).await;
    }
    client.send(ack(PUBCOMP, message.id, 0)).await;
    client.is_quiet().await;
    client.vanish();
    scope.keeper("a").await.0.is_quiet().await;
}

#[tokio::test]
async fn mqtt_4_3_3_6() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    publisher.publish(Publish::new(&topic, "x").qos(2, 0)).await;
    let message = client.message().await;
    client.send(ack(PUBREC, message.id, 0)).await;
    client.expect_ack(PUBREL, message.id, 0).await;
    // Another PUBREC is answered by PUBREL, and a lost connection as well: never by the message.
    client.send(ack(PUBREC, message.id, 0)).await;
    client.expect_ack(PUBREL, message.id, 0).await;
    client.vanish();
    let (mut client, _) = scope.keeper("a").await;
    client.expect_ack(PUBREL, message.id, 0).await;
    client.is_quiet().await;
}

#[tokio::test]
async fn mqtt_4_3_3_7() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    publisher.publish(Publish::new(&topic, "x").qos(2, 0).with(MessageExpiry(1))).await;
    let message = client.message().await;
    sleep(Duration::from_millis(1300)).await;
    client.vanish();
    let (mut client, _) = scope.keeper("a").await;
    let again = client.message().await;
    assert_eq!((again.id, again.dup, again.says()), (message.id, true, "x"));
    client.accept(&again).await;
}

#[tokio::test]
async fn mqtt_4_3_3_8() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    publisher.send(Publish::new(&topic, "x").qos(2, 77).bytes()).await;
    publisher.expect_ack(PUBREC, 77, 0).await;
    // It is delivered whether or not PUBREL has come.
    assert_eq!(client.take(1).await, ["x"]);
}

#[tokio::test]
async fn mqtt_4_3_3_9() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    publisher.send(Publish::new("$SYS/not/mine", "x").qos(2, 7).bytes()).await;
    publisher.expect_ack(PUBREC, 7, 0x87).await;
    publisher.send(Publish::new(&topic, "y").qos(2, 7).bytes()).await;
    publisher.expect_ack(PUBREC, 7, 0).await;
    assert_eq!(client.take(1).await, ["y"]);
}

#[tokio::test]
async fn mqtt_4_3_3_10() {
    let scope = Scope::new().await;
    let (mut client, _, topic) = pair(&scope).await;
    let (mut publisher, _) = scope.keeper("p").await;
    let publish = Publish::new(&topic, "x").qos(2, 7);
    for again in [publish.clone(), publish.clone().dup(), publish.clone().dup()] {
        publisher.send(again.bytes()).await;
        publisher.expect_ack(PUBREC, 7, 0).await;
    }
    publisher.vanish();
    let (mut publisher, present) = scope.keeper("p").await;
    assert!(present);
    publisher.send(publish.dup().bytes()).await;
    publisher.expect_ack(PUBREC, 7, 0).await;
    assert_eq!(client.take(1).await, ["x"]);
    client.is_quiet().await;
}

#[tokio::test]
async fn mqtt_4_3_3_11() {
    let scope = Scope::new().await;
    let (_client, mut publisher, topic) = pair(&scope).await;
    for id in [1, 0xFFFF] {
        publisher.send(Publish::new(&topic, "x").qos(2, id).bytes()).await;
        publisher.expect_ack(PUBREC, id, 0).await;
    }
    for id in [0xFFFF, 1] {
        publisher.send(ack(PUBREL, id, 0)).await;
        publisher.expect_ack(PUBCOMP, id, 0).await;
    }
}

#[tokio::test]
async fn mqtt_4_3_3_12() {
    let scope = Scope::new().await;
    let (mut client, mut publisher, topic) = pair(&scope).await;
    for payload in ["x", "y", "y"] {
        publisher.send(Publish::new(&topic, payload).qos(2, 7).bytes()).await;
        publisher.expect_ack(PUBREC, 7, 0).await;
        publisher.send(ack(PUBREL, 7, 0)).await;
        publisher.expect_ack(PUBCOMP, 7, 0).await;
        assert_eq!(client.take(1).await, [payload]);
    }
}

#[tokio::test]
async fn mqtt_4_3_3_13() {
    let scope = Scope::new().await;
    let mut publisher = scope.client("b").await;
    let (mut keeper, _) = scope.keeper("a").await;
    keeper.subscribe(&scope.topic("t"), 2).await;
    keeper.leave().await;
    publisher.send(Publish::new(&scope.topic("t"), "x").qos(2, 7).with(MessageExpiry(1)).bytes()).await;
    publisher.expect_ack(PUBREC, 7, 0).await;
    sleep(Duration::from_millis(1300)).await;
    let (mut keeper, _) = scope.keeper("a").await;
    keeper.is_quiet().await;
    publisher.send(ack(PUBREL, 7, 0)).await;
    publisher.expect_ack(PUBCOMP, 7, 0).await;
}

/// Messages of two publishers at a QoS, sent as fast as they can be, arrive in each one's order.
async fn in_order(scope: &Scope, filter: &str, qos: u8) {
    let mut client = scope.client("a").await;
    client.subscribe(filter, qos).await;
    let topic = scope.topic("t");
    let mut publishers = [scope.client("b").await, scope.client("c").await];
    for (p, publisher) in publishers.iter_mut().enumerate() {
        let all = (1..=50).map(|n| Publish::new(&topic, format!("{p}:{n}")).qos(qos, n).bytes());
        publisher.send(all.collect::<Vec<_>>().concat()).await;
    }
    let mut next = [1; 2];
    while next != [51; 2] {
        match client.next().await {
            Packet::Publish(message) => {
                let (p, n) = message.says().split_once(':').unwrap();
                let p: usize = p.parse().unwrap();
                assert_eq!(n.parse(), Ok(next[p]), "publisher {p} at QoS {qos}");
                next[p] += 1;
                match qos {
                    0 => {}
                    1 => client.send(ack(PUBACK, message.id, 0)).await,
                    _ => client.send(ack(PUBREC, message.id, 0)).await,
                }
            }
            Packet::Ack { first: PUBREL, id, .. } => client.send(ack(PUBCOMP, id, 0)).await,
            other => panic!("{other:?}"),
        }
    }
    client.vanish();
}

#[tokio::test]
async fn mqtt_4_6_0_5() {
    let scope = Scope::new().await;
    for qos in 0..3 {
        in_order(&scope, &scope.topic("t"), qos).await;
    }
}

#[tokio::test]
async fn mqtt_4_6_0_6() {
    let scope = Scope::new().await;
    for filter in ["+", "#", "t/#"] {
        in_order(&scope, &scope.topic(filter), 1).await;
    }
}

#[tokio::test]
async fn mqtt_4_9_0_1() {
    let scope = Scope::new().await;
    for (name, maximum) in [("a", 1), ("b", 5), ("c", u16::MAX)] {
        let (mut client, _) = scope.session(&Connect::new(&scope.id(name)).with(ReceiveMaximum(maximum))).await;
        client.subscribe(&scope.topic(name), 1).await;
        let mut publisher = scope.client("p").await;
        for _ in 0..10 {
            publisher.publish(Publish::new(&scope.topic(name), "x").qos(1, 0)).await;
        }
        for _ in 0..maximum.min(10) {
            client.message().await;
        }
        client.is_quiet().await;
    }
}

#[tokio::test]
async fn mqtt_4_9_0_2() {
    let scope = Scope::new().await;
    let (mut client, _) = scope.session(&Connect::new(&scope.id("a")).with(ReceiveMaximum(2))).await;
    client.subscribe(&scope.topic("t"), 2).await;
    let mut publisher = scope.client("b").await;
    for n in 0..5 {
        publisher.publish(Publish::new(&scope.topic("t"), format!("{n}")).qos(2, 0)).await;
    }
    let mut open = vec![client.message().await, client.message().await];
    for n in 2..5 {
        client.is_quiet().await;
        let done = open.remove(0);
        client.send([ack(PUBREC, done.id, 0), ack(PUBCOMP, done.id, 0)].concat()).await;
        client.expect_ack(PUBREL, done.id, 0).await;
        open.push(client.message().await);
        assert_eq!(open[1].says(), format!("{n}"));
    }
}

#[tokio::test]
async fn mqtt_4_9_0_3() {
    let scope = Scope::new().await;
    let (mut client, _) = scope.session(&Connect::new(&scope.id("a")).with(ReceiveMaximum(1))).await;
    client.subscribe(&scope.topic("t"), 1).await;
    let mut publisher = scope.client("b").await;
    for _ in 0..3 {
        publisher.publish(Publish::new(&scope.topic("t"), "x").qos(1, 0)).await;
    }
    client.message().await;
    // Every kind of packet is answered while the window is full.
    client.is_quiet().await;
    client.publish(Publish::new(&scope.topic("u"), "x").qos(1, 0)).await;
    client.publish(Publish::new(&scope.topic("u"), "x").qos(2, 0)).await;
    client.subscribe(&scope.topic("v"), 0).await;
    client.send(unsubscribe(9, &[&scope.topic("v")])).await;
    assert!(matches!(client.next().await, Packet::UnsubAck { id: 9, .. }));
}
