//! Sections 3.8 to 3.11: SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK.

use super::super::bytes5::*;
use super::super::scope5::Scope;

/// The reason codes that answer a SUBSCRIBE of these filters.
async fn granted(client: &mut Client, filters: &[(&str, u8)]) -> Vec<u8> {
    client.send(subscribe(1, &[], filters)).await;
    match client.next().await {
        Packet::SubAck { id: 1, reasons, .. } => reasons,
        other => panic!("no SUBACK: {other:?}"),
    }
}

/// The reason codes that answer an UNSUBSCRIBE of these filters.
async fn removed(client: &mut Client, filters: &[&str]) -> Vec<u8> {
    client.send(unsubscribe(2, filters)).await;
    match client.next().await {
        Packet::UnsubAck { id: 2, reasons, .. } => reasons,
        other => panic!("no UNSUBACK: {other:?}"),
    }
}

/// A client of this test, and three topics.
async fn client(scope: &Scope) -> (Client, [String; 3]) {
    (scope.client("a").await, ["t", "u", "v"].map(|topic| scope.topic(topic)))
}

/// Filters and topics that are refused, and a client that takes no large packets.
async fn small(scope: &Scope) -> (Client, u32) {
    let mut first = scope.open().await;
    first.send(Connect::new(&scope.id("a")).bytes()).await;
    let size = first.next_bytes().await.unwrap().len() as u32;
    (scope.session(&Connect::new(&scope.id("a")).with(MaximumPacketSize(size))).await.0, size)
}

#[tokio::test]
async fn mqtt_3_8_1_1() {
    let scope = Scope::new().await;
    for flags in (0..16).filter(|flags| *flags != 2) {
        let mut bytes = subscribe(1, &[], &[("t", 0)]);
        bytes[0] = 0x80 | flags;
        let mut client = scope.client("a").await;
        client.send(bytes).await;
        client.is_told(0x81).await;
    }
}

#[tokio::test]
async fn mqtt_3_8_3_1() {
    let scope = Scope::new().await;
    for bad in [&b"\xff"[..], b"t/\xed\xa0\x80", b"t\0", b"t/\xc0\x80/#"] {
        scope.cuts(packet(0x82, &[b"\0\x01\0", &text(bad), &[0]]), &[0x81, 0x8F]).await;
    }
}

#[tokio::test]
async fn mqtt_3_8_3_2() {
    let scope = Scope::new().await;
    scope.cuts(subscribe(1, &[], &[]), &[0x81, 0x82]).await;
    // A filter without its options.
    scope.cuts(packet(0x82, &[b"\0\x01\0", &text("t")]), &[0x81, 0x82]).await;
}

#[tokio::test]
async fn mqtt_3_8_3_3() {
    let scope = Scope::new().await;
    let (mut client, [t, ..]) = client(&scope).await;
    client.subscribe(&t, NO_LOCAL | 1).await;
    client.send(Publish::new(&t, "own").bytes()).await;
    client.publish(Publish::new(&t, "own").qos(1, 0).retain()).await;
    scope.client("b").await.publish(Publish::new(&t, "other")).await;
    assert_eq!(client.take(1).await, ["other"]);
    client.is_quiet().await;
}

#[tokio::test]
async fn mqtt_3_8_3_4() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.send(subscribe(1, &[], &[(&format!("$share/g/{}", scope.topic("t")), NO_LOCAL)])).await;
    client.is_told(0x82).await;
}

#[tokio::test]
async fn mqtt_3_8_3_5() {
    let scope = Scope::new().await;
    for options in [0x40, 0x80, 0xC0, 0x41] {
        scope.cuts(subscribe(1, &[], &[("t", options)]), &[0x81, 0x82]).await;
    }
    // QoS 3 and Retain Handling 3 are protocol errors (3.8.3.1).
    for options in [0x03, 0x30] {
        scope.cuts(subscribe(1, &[], &[("t", options)]), &[0x81, 0x82]).await;
    }
}

#[tokio::test]
async fn mqtt_3_8_4_1() {
    let scope = Scope::new().await;
    let (mut client, [t, ..]) = client(&scope).await;
    assert_eq!(granted(&mut client, &[(&t, 0)]).await, [0]);
    // Also for one that is there already, and for none that is valid.
    assert_eq!(granted(&mut client, &[(&t, 0)]).await, [0]);
    assert_eq!(granted(&mut client, &[("a/#/b", 0)]).await, [0x8F]);
}

#[tokio::test]
async fn mqtt_3_8_4_2() {
    let scope = Scope::new().await;
    let (mut client, [t, u, v]) = client(&scope).await;
    for (id, filter) in [(0xFFFF, &t), (1, &u), (0x1234, &v)] {
        client.send(subscribe(id, &[], &[(filter, 0)])).await;
    }
    for expected in [0xFFFF, 1, 0x1234] {
        assert!(matches!(client.next().await, Packet::SubAck { id, .. } if id == expected));
    }
}

#[tokio::test]
async fn mqtt_3_8_4_3() {
    let scope = Scope::new().await;
    let (mut client, [t, ..]) = client(&scope).await;
    client.subscribe_as(&t, 2, &[SubscriptionId(1)]).await;
    client.subscribe_as(&t, 1, &[SubscriptionId(2)]).await;
    let mut publisher = scope.client("b").await;
    publisher.publish(Publish::new(&t, "x").qos(2, 0)).await;
    let message = client.message().await;
    assert_eq!((message.qos, message.subscription_ids()), (1, vec![2]));
    client.is_quiet().await;
    client.subscribe(&t, 0).await;
    publisher.publish(Publish::new(&t, "x").qos(2, 0)).await;
    let message = client.message().await;
    assert_eq!((message.qos, message.subscription_ids()), (0, vec![]));
    assert_eq!(removed(&mut client, &[&t, &t]).await, [0, 0x11], "there was one");
}

#[tokio::test]
async fn mqtt_3_8_4_4() {
    let scope = Scope::new().await;
    let (mut client, [t, ..]) = client(&scope).await;
    client.publish(Publish::new(&t, "retained").retain()).await;
    client.subscribe(&t, 1).await;
    assert_eq!(client.take(1).await, ["retained"]);
    // Two wait unacknowledged, and one is on its way while the subscription is replaced.
    let mut publisher = scope.client("b").await;
    for payload in ["1", "2"] {
        publisher.publish(Publish::new(&t, payload).qos(1, 0)).await;
    }
    client.send([subscribe(9, &[], &[(&t, 1)]), Publish::new(&t, "3").bytes()].concat()).await;
    let mut said = Vec::new();
    for _ in 0..5 {
        match client.next().await {
            Packet::Publish(message) => said.push(message.says().to_owned()),
            Packet::SubAck { id: 9, reasons, .. } => assert_eq!(reasons, [1]),
            other => panic!("{other:?}"),
        }
    }
    said.sort();
    assert_eq!(said, ["1", "2", "3", "retained"]);
}

#[tokio::test]
async fn mqtt_3_8_4_5() {
    let scope = Scope::new().await;
    let (mut client, [t, u, v]) = client(&scope).await;
    // The last of two for the same filter counts.
    assert_eq!(granted(&mut client, &[(&t, 0), (&u, 1), (&v, 2), (&v, 1)]).await, [0, 1, 2, 1]);
    let mut publisher = scope.client("b").await;
    for (topic, qos) in [(&t, 0), (&u, 1), (&v, 1)] {
        publisher.publish(Publish::new(topic, "x").qos(2, 0)).await;
        let message = client.message().await;
        assert_eq!((&message.topic, message.qos), (topic, qos));
    }
    client.is_quiet().await;
}

#[tokio::test]
async fn mqtt_3_8_4_6() {
    let scope = Scope::new().await;
    let (mut client, [t, ..]) = client(&scope).await;
    for n in [1, 2, 50] {
        assert_eq!(granted(&mut client, &vec![(&*t, 1); n]).await, vec![1; n]);
    }
}

#[tokio::test]
async fn mqtt_3_8_4_7() {
    let scope = Scope::new().await;
    let (mut client, [t, ..]) = client(&scope).await;
    for qos in 0..3 {
        assert_eq!(granted(&mut client, &[(&t, qos), ("a#", qos)]).await, [qos, 0x8F]);
    }
}

#[tokio::test]
async fn mqtt_3_8_4_8() {
    let scope = Scope::new().await;
    let (mut client, [t, ..]) = client(&scope).await;
    let mut publisher = scope.client("b").await;
    for asked in 0..3 {
        client.subscribe(&t, asked | NO_RETAINED).await;
        for sent in 0..3 {
            publisher.publish(Publish::new(&t, "x").qos(sent, 0).retain()).await;
            let message = client.message().await;
            assert_eq!(message.qos, sent.min(asked), "published at {sent}, subscribed at {asked}");
            client.accept(&message).await;
            // And the retained one.
            let mut late = scope.client("late").await;
            late.subscribe(&t, asked).await;
            assert_eq!(late.message().await.qos, sent.min(asked));
            late.leave().await;
        }
    }
}

/// A client that takes packets of any size is told more, with a reason string.
async fn is_more_than(size: u32, scope: &Scope, request: &[u8]) {
    let mut client = scope.client("wide").await;
    client.send(request).await;
    let bytes = client.next_bytes().await.unwrap();
    assert!(bytes.len() > size as usize, "{bytes:?}");
}

#[tokio::test]
async fn mqtt_3_9_2_1() {
    let scope = Scope::new().await;
    let (mut client, size) = small(&scope).await;
    let wrong = subscribe(1, &[], &[("a/#/b", 0), ("$share//t", 0)]);
    is_more_than(size, &scope, &wrong).await;
    client.send(wrong).await;
    let bytes = client.next_bytes().await.unwrap();
    assert!(bytes[0] == 0x90 && bytes.len() <= size as usize, "{bytes:?}");
}

#[tokio::test]
async fn mqtt_3_9_3_1() {
    let scope = Scope::new().await;
    let (mut client, [t, u, v]) = client(&scope).await;
    let filters = [(&*t, 2), ("a/#/b", 1), (&*u, 0), ("+a", 0), (&*v, 1)];
    assert_eq!(granted(&mut client, &filters).await, [2, 0x8F, 0, 0x8F, 1]);
}

#[tokio::test]
async fn mqtt_3_9_3_2() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    // Reading fails on a reason code that SUBACK does not have; these filters are refused for all that is wrong.
    for filter in ["a/#/b", "#/a", "a+", "+a/b", "a#", "$share/g", "$share//t", "$share/+/t", "$share/g/"] {
        let reasons = granted(&mut client, &[(filter, 0)]).await;
        assert!(reasons.len() == 1 && reasons[0] >= 0x80, "{filter:?}: {reasons:?}");
    }
}

#[tokio::test]
async fn mqtt_3_10_1_1() {
    let scope = Scope::new().await;
    for flags in (0..16).filter(|flags| *flags != 2) {
        let mut bytes = unsubscribe(1, &["t"]);
        bytes[0] = 0xA0 | flags;
        let mut client = scope.client("a").await;
        client.send(bytes).await;
        client.is_told(0x81).await;
    }
}

#[tokio::test]
async fn mqtt_3_10_3_1() {
    let scope = Scope::new().await;
    for bad in [&b"\xff"[..], b"t/\xed\xa0\x80", b"t\0"] {
        scope.cuts(packet(0xA2, &[b"\0\x01\0", &text(bad)]), &[0x81, 0x8F]).await;
    }
}

#[tokio::test]
async fn mqtt_3_10_3_2() {
    let scope = Scope::new().await;
    scope.cuts(unsubscribe(1, &[]), &[0x81, 0x82]).await;
}

#[tokio::test]
async fn mqtt_3_10_4_1() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    let (wide, one, exact) = (scope.topic("#"), scope.topic("+"), scope.topic("t"));
    for (filter, id) in [(&wide, 1), (&one, 2), (&exact, 3)] {
        client.subscribe_as(filter, 0, &[SubscriptionId(id)]).await;
    }
    // A filter is a text here: it takes away neither what it matches nor what matches it.
    for (filter, reason, left) in [
        (scope.topic("T"), 0x11, &[1, 2, 3][..]),
        (scope.topic("t/"), 0x11, &[1, 2, 3]),
        (wide, 0, &[2, 3]),
        (exact.clone(), 0, &[2]),
        (exact.clone(), 0x11, &[2]),
    ] {
        assert_eq!(removed(&mut client, &[&filter]).await, [reason], "{filter}");
        client.send(Publish::new(&exact, "x").bytes()).await;
        assert_eq!(client.message().await.subscription_ids(), left, "{filter}");
    }
    assert_eq!(removed(&mut client, &[&one]).await, [0]);
    client.send(Publish::new(&exact, "x").bytes()).await;
    client.is_quiet().await;
}

#[tokio::test]
async fn mqtt_3_10_4_2() {
    let scope = Scope::new().await;
    let (mut client, [t, ..]) = client(&scope).await;
    client.subscribe(&t, 1).await;
    // All in one go: what comes before UNSUBSCRIBE is delivered, what comes behind it is not.
    let publish = |payload: &str| Publish::new(&t, payload).bytes();
    client.send([publish("before"), unsubscribe(1, &[&t]), publish("behind")].concat()).await;
    assert_eq!(client.take(1).await, ["before"]);
    assert!(matches!(client.next().await, Packet::UnsubAck { id: 1, .. }));
    client.is_quiet().await;
}

#[tokio::test]
async fn mqtt_3_10_4_3() {
    let scope = Scope::new().await;
    let (mut keeper, _) = scope.keeper("a").await;
    let t = scope.topic("t");
    keeper.subscribe(&t, 2).await;
    let mut publisher = scope.client("b").await;
    for qos in [1, 2] {
        publisher.publish(Publish::new(&t, format!("{qos}")).qos(qos, 0)).await;
    }
    let (one, two) = (keeper.message().await, keeper.message().await);
    assert_eq!(removed(&mut keeper, &[&t]).await, [0]);
    // The four steps go on, over a new connection as well.
    keeper.send(ack(PUBREC, two.id, 0)).await;
    keeper.expect_ack(PUBREL, two.id, 0).await;
    keeper.vanish();
    let (mut keeper, _) = scope.keeper("a").await;
    let mut again = [keeper.next().await, keeper.next().await];
    again.sort_by_key(|packet| matches!(packet, Packet::Ack { .. }));
    assert_eq!(again[0], Packet::Publish(Publish { dup: true, ..one }));
    assert!(matches!(again[1], Packet::Ack { first: PUBREL, id, .. } if id == two.id), "{again:?}");
}

#[tokio::test]
async fn mqtt_3_10_4_4() {
    let scope = Scope::new().await;
    let (mut client, [t, ..]) = client(&scope).await;
    client.subscribe(&t, 0).await;
    assert_eq!(removed(&mut client, &[&t]).await, [0]);
    client.is_quiet().await;
}

#[tokio::test]
async fn mqtt_3_10_4_5() {
    let scope = Scope::new().await;
    let (mut client, [t, ..]) = client(&scope).await;
    for id in [0xFFFF, 1, 0x1234] {
        client.send(unsubscribe(id, &[&t])).await;
        let answer = client.next().await;
        assert_eq!(answer, Packet::UnsubAck { id, reasons: vec![0x11], properties: vec![] }, "also when there is none");
    }
}

#[tokio::test]
async fn mqtt_3_10_4_6() {
    let scope = Scope::new().await;
    let (mut client, [t, u, v]) = client(&scope).await;
    granted(&mut client, &[(&t, 0), (&u, 0), (&v, 0)]).await;
    assert_eq!(removed(&mut client, &[&t, &v]).await, [0, 0]);
    for topic in [&t, &v, &u] {
        client.send(Publish::new(topic, "x").bytes()).await;
    }
    assert_eq!(client.message().await.topic, u);
    client.is_quiet().await;
}

#[tokio::test]
async fn mqtt_3_11_2_1() {
    let scope = Scope::new().await;
    let (mut client, size) = small(&scope).await;
    let wrong = unsubscribe(1, &["never", "a/#/b"]);
    is_more_than(size, &scope, &wrong).await;
    client.send(wrong).await;
    let bytes = client.next_bytes().await.unwrap();
    assert!(bytes[0] == 0xB0 && bytes.len() <= size as usize, "{bytes:?}");
}

#[tokio::test]
async fn mqtt_3_11_3_1() {
    let scope = Scope::new().await;
    let (mut client, [t, u, v]) = client(&scope).await;
    granted(&mut client, &[(&t, 0), (&v, 0)]).await;
    assert_eq!(removed(&mut client, &[&u, &v, &u, &t, &t]).await, [0x11, 0, 0x11, 0, 0x11]);
}

#[tokio::test]
async fn mqtt_3_11_3_2() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    // Reading fails on a reason code that UNSUBACK does not have.
    let reasons = removed(&mut client, &["never", "a/#/b", "$share/g/t"]).await;
    assert_eq!(reasons, [0x11, 0x8F, 0x11]);
}
