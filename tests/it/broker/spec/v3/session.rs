//! 3.1.2-4 to 3.1.2-6, 4.1 and 4.4: what a session keeps, how long, and what comes again.

use crate::broker::spec::bytes::*;
use crate::broker::spec::gateway;

#[tokio::test]
async fn mqtt_3_1_2_4() {
    let gateway = gateway().await;
    // There is none: a new one.
    let mut client = Client::new_session(&gateway, "3.1.2-4").await;
    client.subscribe(&[("3.1.2-4/a", 1), ("3.1.2-4/b/#", 2)]).await;
    // It stays, after a good-bye and after a lost connection, and is resumed.
    client.disconnect().await;
    let mut client = Client::resumed(&gateway, "3.1.2-4").await;
    client.quiet().await;
    drop(client);
    let mut client = Client::resumed(&gateway, "3.1.2-4").await;
    client.publish(QOS_2, "3.1.2-4/a", "x").await;
    assert_eq!(client.take().await.parts(), ("3.1.2-4/a", "x", 1));
    client.publish(QOS_2, "3.1.2-4/b/c", "x").await;
    assert_eq!(client.take().await.parts(), ("3.1.2-4/b/c", "x", 2));
}

#[tokio::test]
async fn mqtt_3_1_2_5() {
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "3.1.2-5").await;
    client.subscribe(&[("3.1.2-5/#", 2)]).await;
    client.disconnect().await;
    let mut sender = Client::clean(&gateway, "3.1.2-5/sender").await;
    for n in 0..10 {
        sender.publish([QOS_1, QOS_2][n % 2], "3.1.2-5/x", &n.to_string()).await;
    }
    sender.disconnect().await;
    let mut client = Client::resumed(&gateway, "3.1.2-5").await;
    for n in 0..10 {
        let delivery = client.take().await;
        assert_eq!(delivery.parts(), ("3.1.2-5/x", &*n.to_string(), [1, 2][n % 2]));
        assert!(!delivery.dup && !delivery.retain, "{delivery:?}");
    }
    client.disconnect().await;
    Client::resumed(&gateway, "3.1.2-5").await.quiet().await;
}

#[tokio::test]
async fn mqtt_3_1_2_6() {
    let gateway = gateway().await;
    let mut sender = Client::clean(&gateway, "3.1.2-6/sender").await;
    let mut client = Client::new_session(&gateway, "3.1.2-6").await;
    client.subscribe(&[("3.1.2-6", 2)]).await;
    // In flight, received, and waiting: all of it is discarded.
    sender.publish(QOS_2, "3.1.2-6", "in flight").await;
    client.delivery().await;
    client.send(publish(QOS_2, 7, "3.1.2-6/x", "x")).await;
    client.expect(ack(PUBREC, 7)).await;
    client.disconnect().await;
    sender.publish(QOS_2, "3.1.2-6", "waiting").await;
    let mut client = Client::clean(&gateway, "3.1.2-6").await;
    sender.publish(QOS_2, "3.1.2-6", "not subscribed").await;
    client.quiet().await;
    client.subscribe(&[("3.1.2-6", 2), ("3.1.2-6/x", 2)]).await;
    // Not taken for the one of before.
    client.send(publish(QOS_2, 7, "3.1.2-6/x", "new")).await;
    client.await_packet(ack(PUBREC, 7)).await;
    client.send(ack(PUBREL, 7)).await;
    client.await_packet(ack(PUBCOMP, 7)).await;
    assert_eq!(client.delivery().await.payload, "new");
    // And the clean session ends with its connection.
    drop(client);
    Client::new_session(&gateway, "3.1.2-6").await.quiet().await;
    Client::clean(&gateway, "3.1.2-6").await.disconnect().await;
    sender.publish(QOS_1, "3.1.2-6", "nobody").await;
    Client::new_session(&gateway, "3.1.2-6").await.quiet().await;
}

#[tokio::test]
async fn mqtt_4_1_0_1() {
    // Each thing that a session is made of (4.1), through lost connections.
    let gateway = gateway().await;
    let mut sender = Client::clean(&gateway, "4.1.0-1/sender").await;
    let mut client = Client::new_session(&gateway, "4.1.0-1").await;
    client.subscribe(&[("4.1.0-1", 2)]).await;
    // Received with QoS 2 and not released; sent and not acknowledged; released; still to be sent.
    client.send(publish(QOS_2, 7, "4.1.0-1/x", "x")).await;
    client.expect(ack(PUBREC, 7)).await;
    sender.publish(QOS_2, "4.1.0-1", "received").await;
    let received = client.delivery().await;
    client.send(ack(PUBREC, received.id)).await;
    client.expect(ack(PUBREL, received.id)).await;
    sender.publish(QOS_1, "4.1.0-1", "sent").await;
    let sent = client.delivery().await;
    client.disconnect().await;
    sender.publish(QOS_1, "4.1.0-1", "pending").await;
    let mut client = Client::resumed(&gateway, "4.1.0-1").await;
    client.expect(ack(PUBREL, received.id)).await;
    client.expect(publish(QOS_1 | DUP, sent.id, "4.1.0-1", "sent")).await;
    assert_eq!(client.delivery().await.payload, "pending");
    sender.subscribe(&[("4.1.0-1/x", 0)]).await;
    client.send(publish(QOS_2 | DUP, 7, "4.1.0-1/x", "x")).await;
    client.expect(ack(PUBREC, 7)).await;
    sender.quiet().await;
    client.send(ack(PUBREL, 7)).await;
    client.expect(ack(PUBCOMP, 7)).await;
}

#[tokio::test]
async fn mqtt_4_1_0_2() {
    // A clean session as well: as long as there is its connection.
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "4.1.0-2").await;
    client.subscribe(&[("4.1.0-2", 2)]).await;
    let mut sender = Client::clean(&gateway, "4.1.0-2/sender").await;
    sender.publish(QOS_2, "4.1.0-2", "1").await;
    let first = client.delivery().await;
    for _ in 0..20 {
        Client::clean(&gateway, "4.1.0-2/other").await.disconnect().await;
    }
    client.send(ack(PUBREC, first.id)).await;
    client.expect(ack(PUBREL, first.id)).await;
    client.send(ack(PUBCOMP, first.id)).await;
    sender.publish(QOS_2, "4.1.0-2", "2").await;
    assert_eq!(client.take().await.payload, "2");
}

#[tokio::test]
async fn mqtt_4_4_0_1() {
    let gateway = gateway().await;
    let mut sender = Client::clean(&gateway, "4.4.0-1/sender").await;
    let mut client = Client::new_session(&gateway, "4.4.0-1").await;
    client.subscribe(&[("4.4.0-1", 2)]).await;
    let mut sent = Vec::new();
    for n in 0..6 {
        sender.publish([QOS_1, QOS_2][n % 2], "4.4.0-1", &n.to_string()).await;
        sent.push(client.delivery().await);
    }
    // Numbers 1 and 5 are received; 5 is done.
    for n in [1, 5] {
        client.send(ack(PUBREC, sent[n].id)).await;
        client.expect(ack(PUBREL, sent[n].id)).await;
    }
    client.send(ack(PUBCOMP, sent[5].id)).await;
    client.quiet().await;
    // Again and again, until they are acknowledged; not without being asked on one connection.
    for _ in 0..3 {
        drop(client);
        client = Client::resumed(&gateway, "4.4.0-1").await;
        for (n, before) in sent[..5].iter().enumerate() {
            if n == 1 {
                client.expect(ack(PUBREL, before.id)).await;
            } else {
                assert_eq!(client.delivery().await, Delivery { dup: true, ..before.clone() });
            }
        }
        client.quiet().await;
    }
    for (n, before) in sent[..5].iter().enumerate() {
        match n {
            1 => client.send(ack(PUBCOMP, before.id)).await,
            3 => {
                client.send(ack(PUBREC, before.id)).await;
                client.expect(ack(PUBREL, before.id)).await;
                client.send(ack(PUBCOMP, before.id)).await;
            }
            _ => client.send(ack(PUBACK, before.id)).await,
        }
    }
    client.disconnect().await;
    Client::resumed(&gateway, "4.4.0-1").await.quiet().await;
}
