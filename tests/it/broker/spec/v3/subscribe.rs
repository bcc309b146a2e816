//! 3.8 and 3.9: SUBSCRIBE and SUBACK.

use crate::broker::spec::bytes::*;
use crate::broker::spec::gateway;

#[tokio::test]
async fn mqtt_3_8_1_1() {
    let gateway = gateway().await;
    for flags in (0..16).filter(|flags| *flags != 2) {
        let mut packet = subscribe(1, &[("3.8.1-1", 0)]);
        packet[0] = packet[0] & 0xf0 | flags;
        closed_after(&gateway, "3.8.1-1", packet).await;
    }
}

#[tokio::test]
async fn mqtt_3_8_3_1() {
    let gateway = gateway().await;
    let good = [text("3.8.3-1"), vec![0]].concat();
    for bad in [&b"\0\x02a\xff\0"[..], b"\0\x03\xed\xa0\x80\0", b"\0\x09a\0", b"\0", b"\0\x01"] {
        closed_after(&gateway, "3.8.3-1", packet(0x82, &[&[0, 1], bad])).await;
        closed_after(&gateway, "3.8.3-1", packet(0x82, &[&[0, 1], &good, bad])).await;
    }
    // A filter without its QoS.
    closed_after(&gateway, "3.8.3-1", packet(0x82, &[&[0, 1], &good, &text("3.8.3-1")])).await;
    let mut client = Client::clean(&gateway, "3.8.3-1").await;
    client.subscribe(&[("3.8.3-1/\u{e4}\u{1f4ec}", 0)]).await;
    client.publish(0, "3.8.3-1/\u{e4}\u{1f4ec}", "x").await;
    assert_eq!(client.take().await.topic, "3.8.3-1/\u{e4}\u{1f4ec}");
}

#[tokio::test]
async fn mqtt_3_8_3_3() {
    closed_after(&*gateway().await, "3.8.3-3", subscribe(1, &[])).await;
}

#[tokio::test]
async fn mqtt_3_8_3_4() {
    let gateway = gateway().await;
    for options in [0x03, 0x04, 0x05, 0x08, 0x10, 0x20, 0x40, 0x80, 0x82, 0xff] {
        closed_after(&gateway, "3.8.3-4", subscribe(1, &[("3.8.3-4", options)])).await;
        closed_after(&gateway, "3.8.3-4", subscribe(1, &[("3.8.3-4", 1), ("3.8.3-4/x", options)])).await;
    }
}

#[tokio::test]
async fn mqtt_3_8_4_1() {
    // Each SUBSCRIBE, whether it is the first, the same again, or one that fails.
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.8.4-1").await;
    for (id, filter, code) in [(1, "3.8.4-1", 0), (2, "3.8.4-1", 0), (3, "3.8.4-1/#/x", 0x80), (4, "3.8.4-1/#", 0)] {
        client.send(subscribe(id, &[(filter, 0)])).await;
        client.expect(suback(id, &[code])).await;
    }
    client.quiet().await;
}

#[tokio::test]
async fn mqtt_3_8_4_2() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.8.4-2").await;
    // Three at once, their ids in no order.
    let ids = [0xfffe, 1, 0x0100];
    client.send(ids.map(|id| subscribe(id, &[("3.8.4-2", 1)])).concat()).await;
    for id in ids {
        client.expect(suback(id, &[1])).await;
    }
}

#[tokio::test]
async fn mqtt_3_8_4_3() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.8.4-3").await;
    client.publish(QOS_2 | RETAIN, "3.8.4-3", "retained").await;
    for qos in [2, 0, 1, 1] {
        client.subscribe(&[("3.8.4-3", qos)]).await;
        // The retained message comes again; what comes later comes once, with the new QoS.
        let again = client.take().await;
        assert_eq!((again.parts(), again.retain), (("3.8.4-3", "retained", qos), true));
        client.publish(QOS_2, "3.8.4-3", "live").await;
        assert_eq!(client.take().await.parts(), ("3.8.4-3", "live", qos));
        client.quiet().await;
    }
    // One UNSUBSCRIBE ends it.
    client.unsubscribe(&["3.8.4-3"]).await;
    client.publish(QOS_2, "3.8.4-3", "live").await;
    client.quiet().await;
    // What flows meanwhile is not interrupted.
    let mut sender = Client::clean(&gateway, "3.8.4-3/sender").await;
    client.subscribe(&[("3.8.4-3/flow", 1)]).await;
    for n in 0..50 {
        sender.send(publish(QOS_1, n + 1, "3.8.4-3/flow", n.to_string())).await;
        client.send(subscribe(n + 1, &[("3.8.4-3/flow", 1)])).await;
    }
    let (mut numbers, mut subacks) = (Vec::new(), 0);
    while numbers.len() < 50 || subacks < 50 {
        let next = client.next().await;
        if next[0] == 0x90 {
            subacks += 1;
            continue;
        }
        let delivery = Delivery::read(&next);
        client.send(ack(PUBACK, delivery.id)).await;
        numbers.push(delivery.payload);
    }
    assert_eq!(numbers, (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn mqtt_3_8_4_4() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.8.4-4").await;
    client.publish(QOS_1 | RETAIN, "3.8.4-4/a", "retained").await;
    // As one after the other: the last one of the same filter holds, a bad one in the middle spoils no other.
    let filters = [("3.8.4-4/a", 2), ("3.8.4-4/b", 2), ("3.8.4-4/b#", 2), ("3.8.4-4/c", 0), ("3.8.4-4/b", 1)];
    client.send(subscribe(9, &filters)).await;
    client.expect(suback(9, &[2, 2, 0x80, 0, 1])).await;
    assert_eq!(client.take().await.parts(), ("3.8.4-4/a", "retained", 1));
    for (topic, qos) in [("3.8.4-4/a", 2), ("3.8.4-4/b", 1), ("3.8.4-4/c", 0)] {
        client.publish(QOS_2, topic, "x").await;
        assert_eq!(client.take().await.parts(), (topic, "x", qos));
    }
    client.quiet().await;
}

#[tokio::test]
async fn mqtt_3_8_4_5() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.8.4-5").await;
    let names: Vec<_> = (0..200).map(|n| format!("3.8.4-5/{n}")).collect();
    let filters: Vec<_> = names.iter().enumerate().map(|(n, name)| (&**name, (n % 3) as u8)).collect();
    client.send(subscribe(1, &filters)).await;
    client.expect(suback(1, &filters.iter().map(|(_, qos)| *qos).collect::<Vec<_>>())).await;
}

#[tokio::test]
async fn mqtt_3_8_4_6() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.8.4-6").await;
    for granted in 0..3 {
        let topic = format!("3.8.4-6/{granted}");
        client.subscribe(&[(&topic, granted)]).await;
        for (flags, published) in [(0, 0), (QOS_1, 1), (QOS_2, 2)] {
            client.publish(flags, &topic, "x").await;
            assert_eq!(client.take().await.parts(), (&*topic, "x", published.min(granted)));
        }
        // The same for a retained message.
        for (flags, published) in [(0, 0), (QOS_1, 1), (QOS_2, 2)] {
            let topic = format!("3.8.4-6/{granted}/{published}");
            client.publish(flags | RETAIN, &topic, "x").await;
            client.subscribe(&[(&topic, granted)]).await;
            assert_eq!(client.take().await.parts(), (&*topic, "x", published.min(granted)));
        }
    }
    client.quiet().await;
}

#[tokio::test]
async fn mqtt_3_9_3_1() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.9.3-1").await;
    let filters = [("3.9.3-1/c", 2), ("3.9.3-1/#/x", 2), ("3.9.3-1/a", 0), ("3.9.3-1/b", 1), ("+3.9.3-1", 0)];
    client.send(subscribe(1, &filters)).await;
    client.expect(suback(1, &[2, 0x80, 0, 1, 0x80])).await;
}

#[tokio::test]
async fn mqtt_3_9_3_2() {
    // Whatever is wrong with a filter, 3.1.1 has one code for it.
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.9.3-2").await;
    let deep = "/".repeat(300);
    let filters = [("3.9.3-2#", 0), ("3.9.3-2/#/", 1), ("3.9.3-2+", 2), (&*deep, 0), ("3.9.3-2", 2), ("$share/x", 0)];
    client.send(subscribe(1, &filters)).await;
    let answer = client.next().await;
    assert_eq!((answer[..4].to_vec(), answer.len()), (vec![0x90, 8, 0, 1], 10));
    assert!(answer[4..].iter().all(|code| [0, 1, 2, 0x80].contains(code)), "{answer:02x?}");
    assert_eq!((answer[4..7].to_vec(), answer[8]), (vec![0x80; 3], 2));
}
