//! Section 3.3: PUBLISH: its flags, retained messages, its properties, and what follows from it.

use std::time::Duration;

use tokio::time::sleep;

use super::super::bytes5::*;
use super::super::scope5::Scope;

/// What a new subscriber with these options gets first; it is then asked whether that was all.
async fn retained(scope: &Scope, filter: &str, options: u8, n: usize) -> Vec<Publish> {
    let mut late = scope.client("late").await;
    late.subscribe(&scope.topic(filter), options).await;
    let mut messages = Vec::new();
    for _ in 0..n {
        messages.push(late.message().await);
        late.accept(messages.last().unwrap()).await;
    }
    late.is_quiet().await;
    late.leave().await;
    messages
}

/// What a subscriber gets when this is published to `t`.
async fn forwarded(scope: &Scope, with: impl IntoIterator<Item = Property>) -> Publish {
    let mut client = scope.client("forwarded").await;
    client.subscribe(&scope.topic("t"), 1).await;
    let publish = with.into_iter().fold(Publish::new(&scope.topic("t"), "x"), Publish::with);
    client.send(publish.bytes()).await;
    let message = client.message().await;
    client.leave().await;
    message
}

#[tokio::test]
async fn mqtt_3_3_1_1() {
    let scope = Scope::new().await;
    let (mut keeper, _) = scope.keeper("a").await;
    keeper.subscribe(&scope.topic("t"), 2).await;
    let mut publisher = scope.client("b").await;
    for qos in [1, 2] {
        publisher.publish(Publish::new(&scope.topic("t"), format!("{qos}")).qos(qos, 0)).await;
    }
    let first = [keeper.message().await, keeper.message().await];
    assert!(!first[0].dup && !first[1].dup);
    keeper.vanish();
    let (mut keeper, _) = scope.keeper("a").await;
    for first in first {
        assert_eq!(keeper.message().await, Publish { dup: true, ..first });
    }
}

#[tokio::test]
async fn mqtt_3_3_1_2() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.subscribe(&scope.topic("t"), 0).await;
    // Reading fails on DUP at QoS 0.
    client.send(Publish::new(&scope.topic("t"), "x").qos(1, 1).dup().bytes()).await;
    let packets = [client.next().await, client.next().await];
    assert!(packets.contains(&Packet::Publish(Publish::new(&scope.topic("t"), "x"))), "{packets:?}");
    let wrong = Publish::new(&scope.topic("t"), "x").dup().bytes();
    scope.cuts(wrong, &[0x81, 0x82]).await;
}

#[tokio::test]
async fn mqtt_3_3_1_3() {
    let scope = Scope::new().await;
    let (mut client, mut publisher) = (scope.client("a").await, scope.client("b").await);
    client.subscribe(&scope.topic("t"), 2).await;
    for qos in [1, 2] {
        publisher.publish(Publish::new(&scope.topic("t"), "x").qos(qos, 0).dup()).await;
        let message = client.message().await;
        assert!(!message.dup, "the first time it is sent here");
        client.accept(&message).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_1_4() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.send(Publish::new("t", "x").qos(3, 1).bytes()).await;
    client.is_told(0x81).await;
}

#[tokio::test]
async fn mqtt_3_3_1_5() {
    let scope = Scope::new().await;
    let mut publisher = scope.client("a").await;
    for (n, qos) in [0, 1, 2, 0, 2].into_iter().enumerate() {
        publisher.publish(Publish::new(&scope.topic("t"), format!("{n}")).qos(qos, 0).retain()).await;
        let message = &retained(&scope, "t", 2, 1).await[0];
        assert_eq!((message.says(), message.qos, message.retain), (format!("{n}").as_str(), qos, true));
    }
}

#[tokio::test]
async fn mqtt_3_3_1_6() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.subscribe(&scope.topic("t"), 1 | AS_PUBLISHED).await;
    client.send(Publish::new(&scope.topic("t"), "x").retain().bytes()).await;
    client.send(Publish::new(&scope.topic("t"), "").retain().bytes()).await;
    assert_eq!([client.message().await.says(), client.message().await.says()], ["x", ""], "both are messages");
    retained(&scope, "t", 0, 0).await;
}

#[tokio::test]
async fn mqtt_3_3_1_7() {
    let scope = Scope::new().await;
    let mut publisher = scope.client("a").await;
    for qos in 0..3 {
        publisher.publish(Publish::new(&scope.topic("t"), "").qos(qos, 0).with(user("a", "b")).retain()).await;
        retained(&scope, "t", 2, 0).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_1_8() {
    let scope = Scope::new().await;
    let mut publisher = scope.client("a").await;
    publisher.publish(Publish::new(&scope.topic("t"), "kept").retain()).await;
    for payload in ["other", ""] {
        publisher.publish(Publish::new(&scope.topic("t"), payload).qos(1, 0)).await;
    }
    publisher.publish(Publish::new(&scope.topic("u"), "not kept").qos(1, 0)).await;
    assert_eq!(retained(&scope, "#", 0, 1).await[0].says(), "kept");
}

#[tokio::test]
async fn mqtt_3_3_1_9() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    for topic in ["t/1", "t/2", "u"] {
        client.publish(Publish::new(&scope.topic(topic), topic).retain()).await;
    }
    // Each time, also for a subscription that exists.
    for _ in 0..3 {
        client.subscribe(&scope.topic("t/#"), 0).await;
        let mut topics = [client.message().await, client.message().await].map(|m| (m.topic, m.retain));
        topics.sort();
        assert_eq!(topics, [(scope.topic("t/1"), true), (scope.topic("t/2"), true)]);
        client.is_quiet().await;
    }
}

#[tokio::test]
async fn mqtt_3_3_1_10() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.publish(Publish::new(&scope.topic("t"), "x").retain()).await;
    client.subscribe(&scope.topic("t"), IF_NEW).await;
    assert_eq!(client.take(1).await, ["x"]);
    // Other options make no new subscription of it; another filter is one.
    for options in [IF_NEW, IF_NEW | 1, IF_NEW | AS_PUBLISHED | 2] {
        client.subscribe(&scope.topic("t"), options).await;
        client.is_quiet().await;
    }
    client.subscribe(&scope.topic("+"), IF_NEW).await;
    assert_eq!(client.take(1).await, ["x"]);
    client.send(unsubscribe(1, &[&scope.topic("t")])).await;
    assert!(matches!(client.next().await, Packet::UnsubAck { .. }));
    client.subscribe(&scope.topic("t"), IF_NEW).await;
    assert_eq!(client.take(1).await, ["x"]);
}

#[tokio::test]
async fn mqtt_3_3_1_11() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.publish(Publish::new(&scope.topic("t"), "x").retain()).await;
    for _ in 0..2 {
        client.subscribe(&scope.topic("t"), NO_RETAINED).await;
        client.is_quiet().await;
    }
    client.send(Publish::new(&scope.topic("t"), "live").bytes()).await;
    assert_eq!(client.take(1).await, ["live"]);
}

#[tokio::test]
async fn mqtt_3_3_1_12() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.subscribe(&scope.topic("t"), 0).await;
    client.send(Publish::new(&scope.topic("t"), "x").retain().bytes()).await;
    assert!(!client.message().await.retain);
}

#[tokio::test]
async fn mqtt_3_3_1_13() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.subscribe(&scope.topic("t"), AS_PUBLISHED).await;
    client.send(Publish::new(&scope.topic("t"), "x").retain().bytes()).await;
    assert!(client.message().await.retain);
    client.send(Publish::new(&scope.topic("t"), "x").bytes()).await;
    assert!(!client.message().await.retain);
}

#[tokio::test]
async fn mqtt_3_3_2_1() {
    let scope = Scope::new().await;
    for body in [&b""[..], b"\0", b"\0\x05ab", b"\0\x01\xff\0"] {
        scope.cuts(packet(0x30, &[body]), &[0x81, 0x82, 0x90]).await;
    }
    // An empty one stands for an alias, and there is none.
    scope.cuts(Publish::new("", "x").bytes(), &[0x81, 0x82, 0x90]).await;
}

#[tokio::test]
async fn mqtt_3_3_2_2() {
    let scope = Scope::new().await;
    for topic in ["#", "+", "a/+", "a/#", "a+b", "a#", "+/a"] {
        for qos in 0..3 {
            scope.cuts(Publish::new(topic, "x").qos(qos, 1).bytes(), &[0x90, 0x81, 0x82]).await;
        }
    }
}

#[tokio::test]
async fn mqtt_3_3_2_3() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    for filter in ["t/+", "u/#"] {
        client.subscribe(&scope.topic(filter), 0).await;
    }
    for (topic, matches) in [("t/1", true), ("t/1/2", false), ("t", false), ("u", true), ("u/1/2", true), ("v", false)]
    {
        client.send(Publish::new(&scope.topic(topic), "x").bytes()).await;
        if matches {
            assert_eq!(client.message().await.topic, scope.topic(topic));
        } else {
            client.is_quiet().await;
        }
    }
}

#[tokio::test]
async fn mqtt_3_3_2_4() {
    let scope = Scope::new().await;
    assert_eq!(forwarded(&scope, [PayloadFormat(1)]).await.properties, [PayloadFormat(1)]);
    // Absent means the same as 0.
    let properties = forwarded(&scope, [PayloadFormat(0)]).await.properties;
    assert!(properties.is_empty() || properties == [PayloadFormat(0)], "{properties:?}");
}

#[tokio::test]
async fn mqtt_3_3_2_5() {
    let scope = Scope::new().await;
    let (mut keeper, _) = scope.keeper("a").await;
    keeper.subscribe(&scope.topic("t"), 1).await;
    keeper.leave().await;
    let mut publisher = scope.client("b").await;
    for (payload, expiry) in [("short", 1), ("long", 60)] {
        let publish = Publish::new(&scope.topic("t"), payload).with(MessageExpiry(expiry));
        publisher.publish(publish.clone().qos(1, 0)).await;
        publisher.publish(Publish { topic: scope.topic(payload), ..publish }.retain()).await;
    }
    sleep(Duration::from_millis(1500)).await;
    let (mut keeper, _) = scope.keeper("a").await;
    assert_eq!(keeper.take(1).await, ["long"]);
    keeper.is_quiet().await;
    assert_eq!(retained(&scope, "+", 0, 1).await[0].says(), "long");
}

#[tokio::test]
async fn mqtt_3_3_2_6() {
    let scope = Scope::new().await;
    assert_eq!(forwarded(&scope, [MessageExpiry(60)]).await.expiry(), Some(60));
    let (mut keeper, _) = scope.keeper("a").await;
    keeper.subscribe(&scope.topic("t"), 1).await;
    keeper.leave().await;
    let publish = Publish::new(&scope.topic("t"), "x").with(MessageExpiry(60)).retain();
    scope.client("b").await.publish(publish.qos(1, 0)).await;
    sleep(Duration::from_millis(1200)).await;
    let (mut keeper, _) = scope.keeper("a").await;
    let left = [keeper.message().await.expiry(), retained(&scope, "t", 0, 1).await[0].expiry()];
    assert!(left.iter().all(|left| left.is_some_and(|left| (30..60).contains(&left))), "{left:?}");
}

#[tokio::test]
async fn mqtt_3_3_2_7() {
    let scope = Scope::new().await;
    let set = Publish::new(&scope.topic("t"), "x").with(TopicAlias(1));
    let (mut first, _) = scope.keeper("a").await;
    first.send(set.bytes()).await;
    first.is_quiet().await;
    first.vanish();
    let (mut second, _) = scope.keeper("a").await;
    second.send(Publish { topic: String::new(), ..set }.bytes()).await;
    second.is_closed(&[0x82, 0x94]).await;
}

#[tokio::test]
async fn mqtt_3_3_2_8() {
    let scope = Scope::new().await;
    scope.cuts(Publish::new(&scope.topic("t"), "x").with(TopicAlias(0)).bytes(), &[0x94, 0x82, 0x81]).await;
}

#[tokio::test]
async fn mqtt_3_3_2_11() {
    let scope = Scope::new().await;
    let (mut client, _) = scope.session(&Connect::new(&scope.id("a")).with(TopicAliasMaximum(1))).await;
    client.subscribe(&scope.topic("#"), 1).await;
    for topic in ["1", "2", "1", "2", "2"] {
        client.send(Publish::new(&scope.topic(topic), topic).bytes()).await;
        let message = client.message().await;
        assert_eq!(message.topic, scope.topic(topic));
        assert!(!message.properties.iter().any(|p| matches!(p, TopicAlias(2..))), "{message:?}");
        client.accept(&message).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_2_12() {
    let scope = Scope::new().await;
    let (mut client, answer) = scope.connect(&Connect::new(&scope.id("a"))).await;
    let maximum = answer.properties().iter().find_map(|p| if let TopicAliasMaximum(n) = p { Some(*n) } else { None });
    let maximum = maximum.expect("aliases are taken");
    client.subscribe(&scope.topic("#"), 0).await;
    for alias in 1..=maximum {
        let topic = scope.topic(&alias.to_string());
        client.send(Publish::new(&topic, "set").with(TopicAlias(alias)).bytes()).await;
        assert_eq!(client.message().await, Publish::new(&topic, "set"));
    }
    for alias in 1..=maximum {
        client.send(Publish::new("", "used").with(TopicAlias(alias)).bytes()).await;
        assert_eq!(client.message().await, Publish::new(&scope.topic(&alias.to_string()), "used"));
    }
    // An alias may be given to another topic.
    client.send(Publish::new(&scope.topic("new"), "").with(TopicAlias(1)).bytes()).await;
    client.send(Publish::new("", "again").with(TopicAlias(1)).bytes()).await;
    client.message().await;
    assert_eq!(client.message().await, Publish::new(&scope.topic("new"), "again"));
}

#[tokio::test]
async fn mqtt_3_3_2_13() {
    let scope = Scope::new().await;
    for bad in [&b"\xff"[..], b"\xed\xa0\x80", b"a\0"] {
        let bad = Raw([vec![0x08], text(bad)].concat());
        scope.cuts(Publish::new("t", "x").with(bad).bytes(), &[0x81]).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_2_14() {
    let scope = Scope::new().await;
    for topic in ["a/+", "#", "a+"] {
        let publish = Publish::new("t", "x").with(ResponseTopic(topic.into()));
        scope.cuts(publish.bytes(), &[0x81, 0x82, 0x90]).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_2_15() {
    let scope = Scope::new().await;
    for topic in ["answers/here", "/", "ключ/鍵"] {
        assert_eq!(forwarded(&scope, [ResponseTopic(topic.into())]).await.properties, [ResponseTopic(topic.into())]);
    }
}

#[tokio::test]
async fn mqtt_3_3_2_16() {
    let scope = Scope::new().await;
    for data in [vec![], vec![0], b"\xff\0abc".to_vec(), vec![7; 60_000]] {
        assert_eq!(forwarded(&scope, [CorrelationData(data.clone())]).await.properties, [CorrelationData(data)]);
    }
}

#[tokio::test]
async fn mqtt_3_3_2_17() {
    let scope = Scope::new().await;
    let pairs = [user("name", "value"), user("", ""), user("ключ", "🔑"), user("long", &"x".repeat(60_000))];
    assert_eq!(forwarded(&scope, pairs.clone()).await.properties, pairs);
}

#[tokio::test]
async fn mqtt_3_3_2_18() {
    let scope = Scope::new().await;
    let pairs = [user("c", "1"), user("a", "2"), user("c", "0"), user("b", "2"), user("a", "2"), user("a", "1")];
    assert_eq!(forwarded(&scope, pairs.clone()).await.properties, pairs);
}

#[tokio::test]
async fn mqtt_3_3_2_19() {
    let scope = Scope::new().await;
    for bad in [&b"\xff"[..], b"\xed\xa0\x80", b"a\0"] {
        let bad = Raw([vec![0x03], text(bad)].concat());
        scope.cuts(Publish::new("t", "x").with(bad).bytes(), &[0x81]).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_2_20() {
    let scope = Scope::new().await;
    for kind in ["application/json", "", "ключ"] {
        assert_eq!(forwarded(&scope, [ContentType(kind.into())]).await.properties, [ContentType(kind.into())]);
    }
}

#[tokio::test]
async fn mqtt_3_3_4_1() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.send(Publish::new(&scope.topic("t"), "x").bytes()).await;
    client.is_quiet().await;
    client.send(Publish::new(&scope.topic("t"), "x").qos(1, 1).bytes()).await;
    client.expect_ack(PUBACK, 1, 0x10).await;
    client.send(Publish::new(&scope.topic("t"), "x").qos(2, 2).bytes()).await;
    client.expect_ack(PUBREC, 2, 0x10).await;
    client.is_quiet().await;
}

/// A client with three subscriptions that match `t/x`, two of them with an identifier.
async fn overlapping(scope: &Scope) -> Client {
    let mut client = scope.client("a").await;
    client.subscribe_as(&scope.topic("t/x"), 0, &[SubscriptionId(1)]).await;
    client.subscribe_as(&scope.topic("t/#"), 2, &[SubscriptionId(268_435_455)]).await;
    client.subscribe(&scope.topic("t/+"), 1).await;
    client
}

#[tokio::test]
async fn mqtt_3_3_4_2() {
    let scope = Scope::new().await;
    let mut client = overlapping(&scope).await;
    let mut publisher = scope.client("b").await;
    for qos in 0..3 {
        publisher.publish(Publish::new(&scope.topic("t/x"), "x").qos(qos, 0)).await;
        let message = client.message().await;
        assert_eq!(message.qos, qos);
        client.accept(&message).await;
        client.is_quiet().await;
    }
}

#[tokio::test]
async fn mqtt_3_3_4_3() {
    let scope = Scope::new().await;
    let mut client = overlapping(&scope).await;
    for (topic, ids) in [("t/x", &[1, 268_435_455][..]), ("t/y", &[268_435_455]), ("t/y/z", &[268_435_455])] {
        client.send(Publish::new(&scope.topic(topic), "x").bytes()).await;
        assert_eq!(client.message().await.subscription_ids(), ids, "{topic}");
    }
}

#[tokio::test]
async fn mqtt_3_3_4_4() {
    let scope = Scope::new().await;
    let mut client = overlapping(&scope).await;
    // The same identifier for two subscriptions stands twice.
    client.subscribe_as(&scope.topic("+/x"), 0, &[SubscriptionId(1)]).await;
    client.send(Publish::new(&scope.topic("t/x"), "x").bytes()).await;
    let message = client.message().await;
    client.is_quiet().await;
    let ids = message.subscription_ids();
    assert!(ids.contains(&1) && ids.contains(&268_435_455), "{ids:?}");
}

#[tokio::test]
async fn mqtt_3_3_4_6() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.send(Publish::new(&scope.topic("t"), "x").with(SubscriptionId(1)).bytes()).await;
    client.is_told(0x82).await;
}

#[tokio::test]
async fn mqtt_3_3_4_9() {
    let scope = Scope::new().await;
    let (mut client, _) = scope.session(&Connect::keep(&scope.id("a"), 60).with(ReceiveMaximum(3))).await;
    client.subscribe(&scope.topic("t"), 2).await;
    let mut publisher = scope.client("b").await;
    for n in 0..8 {
        publisher.publish(Publish::new(&scope.topic("t"), format!("{n}")).qos(1 + n % 2, 0)).await;
    }
    let first = [client.message().await, client.message().await, client.message().await];
    client.is_quiet().await;
    // PUBACK and a refusing PUBREC make room, PUBREC as such does not.
    client.send(ack(PUBACK, first[0].id, 0)).await;
    assert_eq!(client.message().await.says(), "3");
    client.send(ack(PUBREC, first[1].id, 0)).await;
    client.expect_ack(PUBREL, first[1].id, 0).await;
    client.is_quiet().await;
    client.send(ack(PUBCOMP, first[1].id, 0)).await;
    let message = client.message().await;
    assert_eq!(message.says(), "4");
    client.is_quiet().await;
    // Back with another maximum.
    client.vanish();
    let (mut client, _) = scope.session(&Connect::keep(&scope.id("a"), 60).with(ReceiveMaximum(1))).await;
    let message = client.message().await;
    assert_eq!(message.says(), "2");
    client.is_quiet().await;
    client.accept(&message).await;
    assert_eq!(client.take(5).await, ["3", "4", "5", "6", "7"]);
}

#[tokio::test]
async fn mqtt_3_3_4_10() {
    let scope = Scope::new().await;
    let (mut client, _) = scope.session(&Connect::new(&scope.id("a")).with(ReceiveMaximum(1))).await;
    client.subscribe(&scope.topic("t"), 1).await;
    for id in [1, 2, 3] {
        client.send(Publish::new(&scope.topic("t"), "x").qos(1, id).bytes()).await;
    }
    // One message and three acknowledgements come, in whatever order; then all that is no PUBLISH goes on.
    let mut messages = 0;
    for _ in 0..4 {
        messages += usize::from(matches!(client.next().await, Packet::Publish(_)));
    }
    assert_eq!(messages, 1);
    client.subscribe(&scope.topic("u"), 0).await;
    client.send(Publish::new(&scope.topic("v"), "x").qos(2, 9).bytes()).await;
    client.expect_ack(PUBREC, 9, 0x10).await;
    client.send(unsubscribe(10, &[&scope.topic("u")])).await;
    assert!(matches!(client.next().await, Packet::UnsubAck { id: 10, .. }));
    client.is_quiet().await;
}
