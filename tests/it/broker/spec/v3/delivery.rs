//! 4.3, 4.5 and 4.6: the three ways to deliver, and the order.

use crate::broker::spec::bytes::*;
use crate::broker::spec::gateway;

#[tokio::test]
async fn mqtt_4_3_1_1() {
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "4.3.1-1").await;
    client.subscribe(&[("4.3.1-1", 0)]).await;
    client.publish(QOS_2, "4.3.1-1", "x").await;
    // QoS 0, DUP 0, no id; and it does not come again.
    client.expect(packet(0x30, &[&text("4.3.1-1"), b"x"])).await;
    client.disconnect().await;
    Client::resumed(&gateway, "4.3.1-1").await.quiet().await;
}

#[tokio::test]
async fn mqtt_4_3_2_1() {
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "4.3.2-1").await;
    client.subscribe(&[("4.3.2-1", 1)]).await;
    client.publish(QOS_1, "4.3.2-1", "1").await;
    client.publish(QOS_1, "4.3.2-1", "2").await;
    let (one, two) = (client.delivery().await, client.delivery().await);
    assert!(one.id != two.id && !one.dup && !two.dup, "{one:?} {two:?}");
    // Only the PUBACK with its id acknowledges it: no other id, and no other packet.
    client.send(ack(PUBACK, one.id)).await;
    client.send(ack(PUBACK, two.id ^ 0x4000)).await;
    client.send(ack(PUBCOMP, two.id)).await;
    client.disconnect().await;
    let mut client = Client::resumed(&gateway, "4.3.2-1").await;
    client.expect(publish(QOS_1 | DUP, two.id, "4.3.2-1", "2")).await;
    client.send(ack(PUBACK, two.id)).await;
    client.disconnect().await;
    Client::resumed(&gateway, "4.3.2-1").await.quiet().await;
}

#[tokio::test]
async fn mqtt_4_3_2_2() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "4.3.2-2").await;
    let mut watcher = Client::clean(&gateway, "4.3.2-2/watcher").await;
    watcher.subscribe(&[("4.3.2-2", 0)]).await;
    // The same id is a new message once it was acknowledged, whatever DUP says.
    for (n, flags) in [QOS_1, QOS_1 | DUP, QOS_1].into_iter().enumerate() {
        client.send(publish(flags, 9, "4.3.2-2", n.to_string())).await;
        client.expect(ack(PUBACK, 9)).await;
        assert_eq!(watcher.take().await.payload, n.to_string());
    }
    client.quiet().await;
    watcher.quiet().await;
}

#[tokio::test]
async fn mqtt_4_3_3_1() {
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "4.3.3-1").await;
    client.subscribe(&[("4.3.3-1", 2)]).await;
    client.publish(QOS_2, "4.3.3-1", "1").await;
    client.publish(QOS_2, "4.3.3-1", "2").await;
    let (one, two) = (client.delivery().await, client.delivery().await);
    assert!(one.id != two.id && !one.dup && !two.dup, "{one:?} {two:?}");
    // Unacknowledged until PUBREC with its id.
    client.send(ack(PUBREC, one.id)).await;
    client.expect(ack(PUBREL, one.id)).await;
    client.send(ack(PUBACK, two.id)).await;
    client.send(ack(PUBCOMP, two.id)).await;
    client.quiet().await;
    client.disconnect().await;
    // PUBREL again, and never PUBLISH, until PUBCOMP.
    let mut client = Client::resumed(&gateway, "4.3.3-1").await;
    client.expect(ack(PUBREL, one.id)).await;
    client.expect(publish(QOS_2 | DUP, two.id, "4.3.3-1", "2")).await;
    // A second PUBREC is answered as the first.
    client.send(ack(PUBREC, one.id)).await;
    client.expect(ack(PUBREL, one.id)).await;
    client.send(ack(PUBCOMP, one.id)).await;
    client.send(ack(PUBREC, two.id)).await;
    client.expect(ack(PUBREL, two.id)).await;
    client.disconnect().await;
    let mut client = Client::resumed(&gateway, "4.3.3-1").await;
    client.expect(ack(PUBREL, two.id)).await;
    client.send(ack(PUBCOMP, two.id)).await;
    client.disconnect().await;
    Client::resumed(&gateway, "4.3.3-1").await.quiet().await;
}

#[tokio::test]
async fn mqtt_4_3_3_2() {
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "4.3.3-2").await;
    let mut watcher = Client::clean(&gateway, "4.3.3-2/watcher").await;
    watcher.subscribe(&[("4.3.3-2", 0)]).await;
    for round in ["first", "second"] {
        // Until PUBREL it is the same message: with and without DUP, on this connection and on the next.
        client.send(publish(QOS_2, 9, "4.3.3-2", round)).await;
        client.expect(ack(PUBREC, 9)).await;
        for flags in [QOS_2 | DUP, QOS_2] {
            client.send(publish(flags, 9, "4.3.3-2", round)).await;
            client.expect(ack(PUBREC, 9)).await;
        }
        drop(client);
        client = Client::resumed(&gateway, "4.3.3-2").await;
        client.send(publish(QOS_2 | DUP, 9, "4.3.3-2", round)).await;
        client.expect(ack(PUBREC, 9)).await;
        client.send(ack(PUBREL, 9)).await;
        client.expect(ack(PUBCOMP, 9)).await;
        // PUBCOMP may be lost: PUBREL is answered again.
        client.send(ack(PUBREL, 9)).await;
        client.expect(ack(PUBCOMP, 9)).await;
        assert_eq!(watcher.take().await.payload, round);
        watcher.quiet().await;
    }
}

#[tokio::test]
async fn mqtt_4_5_0_1() {
    // Once it is acknowledged, everybody who is subscribed has it: connected or not, by any filter that matches.
    let gateway = gateway().await;
    let topic = "a/4.5.0-1/b";
    let filters = [topic, "+/4.5.0-1/b", "a/4.5.0-1/#", "a/4.5.0-1/b/#", "+/4.5.0-1/+", "a/4.5.0-1/+"];
    for filter in filters {
        let mut client = Client::new_session(&gateway, filter).await;
        client.subscribe(&[(filter, 1)]).await;
        client.disconnect().await;
    }
    let mut sender = Client::clean(&gateway, "4.5.0-1/sender").await;
    sender.publish(QOS_1, topic, "x").await;
    for filter in filters {
        let mut client = Client::resumed(&gateway, filter).await;
        assert_eq!(client.take().await.parts(), (topic, "x", 1), "{filter}");
        client.disconnect().await;
        Client::clean(&gateway, filter).await.disconnect().await;
    }
}

#[tokio::test]
async fn mqtt_4_6_0_1() {
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "4.6.0-1").await;
    client.subscribe(&[("4.6.0-1/#", 2)]).await;
    let mut sender = Client::clean(&gateway, "4.6.0-1/sender").await;
    let mut sent = Vec::new();
    for n in 0..30 {
        sender.publish([QOS_1, QOS_2][n % 2], &format!("4.6.0-1/{}", n % 3), &n.to_string()).await;
        sent.push(client.delivery().await);
    }
    // Some from the middle are acknowledged, out of order.
    for n in [16, 4, 22, 8] {
        client.send(ack(PUBACK, sent[n].id)).await;
    }
    client.disconnect().await;
    let mut client = Client::resumed(&gateway, "4.6.0-1").await;
    for before in sent.into_iter().filter(|d| !["16", "4", "22", "8"].contains(&&*d.payload)) {
        assert_eq!(client.delivery().await, Delivery { dup: true, ..before });
    }
    client.quiet().await;
}

/// The ids of so many packets with this first byte, in the order in which they come.
async fn ids(client: &mut Client, first: u8, count: usize) -> Vec<u16> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let packet = client.next().await;
        assert_eq!((packet[0], packet.len()), (first, 4), "{packet:02x?}");
        ids.push(u16::from_be_bytes([packet[2], packet[3]]));
    }
    ids
}

// 4.6.0-2 to 4 are written for clients; by 4.6.0-6 a server keeps the same order for each topic.

#[tokio::test]
async fn mqtt_4_6_0_2() {
    let gateway = gateway().await;
    // A subscriber that is away makes the acknowledgements wait for the disk.
    let mut away = Client::new_session(&gateway, "4.6.0-2/away").await;
    away.subscribe(&[("4.6.0-2/kept", 1)]).await;
    away.disconnect().await;
    let mut client = Client::clean(&gateway, "4.6.0-2").await;
    let expected: Vec<u16> = (1..=60).rev().collect();
    client.send(expected.iter().flat_map(|id| publish(QOS_1, *id, "4.6.0-2/kept", "x")).collect::<Vec<u8>>()).await;
    assert_eq!(ids(&mut client, PUBACK, 60).await, expected);
    client.send(expected.iter().flat_map(|id| publish(QOS_1, *id, "4.6.0-2/none", "x")).collect::<Vec<u8>>()).await;
    assert_eq!(ids(&mut client, PUBACK, 60).await, expected);
}

#[tokio::test]
async fn mqtt_4_6_0_3() {
    let gateway = gateway().await;
    let mut away = Client::new_session(&gateway, "4.6.0-3/away").await;
    away.subscribe(&[("4.6.0-3/kept", 2)]).await;
    away.disconnect().await;
    let mut client = Client::clean(&gateway, "4.6.0-3").await;
    for (topic, expected) in [("4.6.0-3/kept", 1..=60), ("4.6.0-3/none", 101..=160)] {
        let expected: Vec<u16> = expected.rev().collect();
        client.send(expected.iter().flat_map(|id| publish(QOS_2, *id, topic, "x")).collect::<Vec<u8>>()).await;
        assert_eq!(ids(&mut client, PUBREC, 60).await, expected);
    }
}

#[tokio::test]
async fn mqtt_4_6_0_4() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "4.6.0-4").await;
    client.subscribe(&[("4.6.0-4", 2)]).await;
    let mut sender = Client::clean(&gateway, "4.6.0-4/sender").await;
    let mut order = Vec::new();
    for _ in 0..10 {
        sender.publish(QOS_2, "4.6.0-4", "x").await;
        order.push(client.delivery().await.id);
    }
    order.rotate_left(3);
    client.send(order.iter().flat_map(|id| ack(PUBREC, *id)).collect::<Vec<u8>>()).await;
    assert_eq!(ids(&mut client, PUBREL, 10).await, order);
}

#[tokio::test]
async fn mqtt_4_6_0_5() {
    // On any topic, without being told to.
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "4.6.0-5").await;
    let mut sender = Client::clean(&gateway, "4.6.0-5/sender").await;
    for topic in ["4.6.0-5", "/4.6.0-5", "4.6.0-5/a/b/c/", "4.6.0-5//"] {
        client.subscribe(&[(topic, 0)]).await;
        for flags in [0, QOS_1, QOS_2] {
            for id in 1..=60 {
                sender.send(publish(flags, id, topic, id.to_string())).await;
            }
            if flags == QOS_1 {
                assert_eq!(ids(&mut sender, PUBACK, 60).await.len(), 60);
            }
            if flags == QOS_2 {
                for id in ids(&mut sender, PUBREC, 60).await {
                    sender.send(ack(PUBREL, id)).await;
                    sender.expect(ack(PUBCOMP, id)).await;
                }
            }
            for id in 1..=60 {
                assert_eq!(client.take().await.parts(), (topic, &*id.to_string(), 0));
            }
        }
    }
}

#[tokio::test]
async fn mqtt_4_6_0_6() {
    // From each client in its order, for each QoS: to one who listens, to one who is slow, to one who was away.
    let gateway = gateway().await;
    for id in ["4.6.0-6/live", "4.6.0-6/away"] {
        let mut client = Client::new_session(&gateway, id).await;
        client.subscribe(&[("4.6.0-6", 2)]).await;
        client.disconnect().await;
    }
    let mut live = Client::resumed(&gateway, "4.6.0-6/live").await;
    let mut senders = [
        Client::clean(&gateway, "4.6.0-6/a").await,
        Client::clean(&gateway, "4.6.0-6/b").await,
        Client::clean(&gateway, "4.6.0-6/c").await,
    ];
    // More than a window, so that the rest waits.
    for n in 0..100 {
        for (name, sender) in ["a", "b", "c"].iter().zip(&mut senders) {
            let flags = if *name == "c" { QOS_2 } else { QOS_1 };
            sender.send(publish(flags, n + 1, "4.6.0-6", format!("{name}{n}"))).await;
        }
    }
    for id in ids(&mut senders[2], PUBREC, 100).await {
        senders[2].send(ack(PUBREL, id)).await;
    }
    for client in [&mut live, &mut Client::resumed(&gateway, "4.6.0-6/away").await] {
        let mut next = [0; 3];
        for _ in 0..300 {
            let delivery = client.take().await;
            let sender = usize::from(delivery.payload.as_bytes()[0] - b'a');
            assert_eq!(delivery.payload[1..], next[sender].to_string());
            next[sender] += 1;
        }
        assert_eq!(next, [100; 3]);
    }
}
