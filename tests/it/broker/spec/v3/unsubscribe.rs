//! 3.10: UNSUBSCRIBE. And the two packets of the end: 3.12 PINGREQ, 3.14 DISCONNECT.

use crate::broker::spec::bytes::*;
use crate::broker::spec::gateway;

#[tokio::test]
async fn mqtt_3_10_1_1() {
    let gateway = gateway().await;
    for flags in (0..16).filter(|flags| *flags != 2) {
        let mut packet = unsubscribe(1, &["3.10.1-1"]);
        packet[0] = packet[0] & 0xf0 | flags;
        closed_after(&gateway, "3.10.1-1", packet).await;
    }
}

#[tokio::test]
async fn mqtt_3_10_3_1() {
    let gateway = gateway().await;
    let good = text("3.10.3-1");
    for bad in [&b"\0\x02a\xff"[..], b"\0\x03\xed\xa0\x80", b"\0\x09a", b"\0"] {
        closed_after(&gateway, "3.10.3-1", packet(0xa2, &[&[0, 1], bad])).await;
        closed_after(&gateway, "3.10.3-1", packet(0xa2, &[&[0, 1], &good, bad])).await;
    }
}

#[tokio::test]
async fn mqtt_3_10_3_2() {
    closed_after(&*gateway().await, "3.10.3-2", unsubscribe(1, &[])).await;
}

#[tokio::test]
async fn mqtt_3_10_4_1() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.10.4-1").await;
    client.subscribe(&[("3.10.4-1/+", 1), ("3.10.4-1/a", 0)]).await;
    // Filters that match the same, or look alike, are not the same.
    client.unsubscribe(&["3.10.4-1/#", "3.10.4-1/b", "3.10.4-1/+/", "3.10.4-1", "3.10.4-1/A", "#"]).await;
    client.publish(QOS_1, "3.10.4-1/a", "x").await;
    assert_eq!(client.take().await.qos, 1);
    client.unsubscribe(&["3.10.4-1/+"]).await;
    client.publish(QOS_1, "3.10.4-1/a", "x").await;
    assert_eq!(client.take().await.qos, 0);
    client.publish(QOS_1, "3.10.4-1/b", "x").await;
    client.quiet().await;
}

#[tokio::test]
async fn mqtt_3_10_4_2() {
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "3.10.4-2").await;
    let mut sender = Client::clean(&gateway, "3.10.4-2/sender").await;
    for filter in ["3.10.4-2/a", "3.10.4-2/+", "3.10.4-2/#"] {
        client.subscribe(&[(filter, 2)]).await;
        sender.publish(QOS_2, "3.10.4-2/a", "x").await;
        assert_eq!(client.take().await.payload, "x");
        client.unsubscribe(&[filter]).await;
        for flags in [0, QOS_1, QOS_2] {
            sender.publish(flags, "3.10.4-2/a", "no more").await;
        }
        client.quiet().await;
    }
    // Nor is it kept for a client that is away.
    client.disconnect().await;
    sender.publish(QOS_1, "3.10.4-2/a", "no more").await;
    Client::resumed(&gateway, "3.10.4-2").await.quiet().await;
}

#[tokio::test]
async fn mqtt_3_10_4_3() {
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "3.10.4-3").await;
    client.subscribe(&[("3.10.4-3", 2)]).await;
    client.publish(QOS_1, "3.10.4-3", "1").await;
    client.publish(QOS_2, "3.10.4-3", "2").await;
    let (one, two) = (client.delivery().await, client.delivery().await);
    client.unsubscribe(&["3.10.4-3"]).await;
    // The delivery goes on, on this connection and on the next.
    client.send(ack(PUBREC, two.id)).await;
    client.expect(ack(PUBREL, two.id)).await;
    client.disconnect().await;
    let mut client = Client::resumed(&gateway, "3.10.4-3").await;
    client.expect(publish(QOS_1 | DUP, one.id, "3.10.4-3", "1")).await;
    client.expect(ack(PUBREL, two.id)).await;
    client.send(ack(PUBACK, one.id)).await;
    client.send(ack(PUBCOMP, two.id)).await;
    client.disconnect().await;
    Client::resumed(&gateway, "3.10.4-3").await.quiet().await;
}

#[tokio::test]
async fn mqtt_3_10_4_4() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.10.4-4").await;
    client.subscribe(&[("3.10.4-4/a", 1), ("3.10.4-4/b", 1), ("3.10.4-4/c", 1)]).await;
    let ids = [0xfffe, 1, 0x0100];
    let filters = ["3.10.4-4/a", "3.10.4-4/b", "3.10.4-4/c"];
    client.send(ids.iter().zip(filters).flat_map(|(id, f)| unsubscribe(*id, &[f])).collect::<Vec<u8>>()).await;
    for id in ids {
        client.expect(ack(UNSUBACK, id)).await;
    }
    client.quiet().await;
}

#[tokio::test]
async fn mqtt_3_10_4_5() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.10.4-5").await;
    // Nothing to end; ended already; and a filter that could not have been subscribed to.
    client.subscribe(&[("3.10.4-5", 0)]).await;
    for (id, filter) in [(1, "3.10.4-5/none"), (2, "3.10.4-5"), (3, "3.10.4-5"), (4, "3.10.4-5/#/x")] {
        client.send(unsubscribe(id, &[filter])).await;
        client.expect(ack(UNSUBACK, id)).await;
    }
    client.quiet().await;
}

#[tokio::test]
async fn mqtt_3_10_4_6() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.10.4-6").await;
    client.subscribe(&[("3.10.4-6/a", 1), ("3.10.4-6/b", 1), ("3.10.4-6/c", 1)]).await;
    client.send(unsubscribe(7, &["3.10.4-6/a", "3.10.4-6/none", "3.10.4-6/c", "3.10.4-6/a"])).await;
    client.expect(ack(UNSUBACK, 7)).await;
    for topic in ["3.10.4-6/a", "3.10.4-6/b", "3.10.4-6/c"] {
        client.publish(QOS_1, topic, "x").await;
    }
    assert_eq!(client.take().await.topic, "3.10.4-6/b");
    client.quiet().await;
}

#[tokio::test]
async fn mqtt_3_12_4_1() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.12.4-1").await;
    client.send(PINGREQ.repeat(3)).await;
    for _ in 0..3 {
        client.expect([0xd0, 0]).await;
    }
}

#[tokio::test]
async fn mqtt_3_14_1_1() {
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "3.14.1-1/watcher").await;
    watcher.subscribe(&[("3.14.1-1", 0)]).await;
    for flags in 1..16 {
        let with_will = connect("3.14.1-1", CLEAN | WILL, &[b"3.14.1-1", b"will"]);
        let mut client = Client::accepted(&gateway, with_will).await;
        client.send([0xe0 | flags, 0]).await;
        client.closed().await;
        // It was no good-bye.
        assert_eq!(watcher.take().await.payload, "will");
    }
}

#[tokio::test]
async fn mqtt_3_14_4_3() {
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "3.14.4-3/watcher").await;
    watcher.subscribe(&[("3.14.4-3", 0)]).await;
    for flags in [CLEAN, KEEP] {
        let with_will = connect("3.14.4-3", flags | WILL | WILL_RETAIN, &[b"3.14.4-3", b"will"]);
        let mut client = Client::accepted(&gateway, with_will).await;
        client.send(DISCONNECT).await;
        client.closed().await;
    }
    watcher.subscribe(&[("3.14.4-3", 0)]).await;
    watcher.quiet().await;
}
