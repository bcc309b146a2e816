//! Section 4.7: topic names and topic filters.

use std::sync::Arc;

use super::super::bytes5::*;
use super::super::scope5::Scope;
use crate::support::Gateway;

/// The reason code that answers a SUBSCRIBE of this filter; the connection may be closed as well, which is `None`.
async fn granted(scope: &Scope, filter: &str) -> Option<u8> {
    let mut client = scope.client("granted").await;
    client.send(subscribe(1, &[], &[(filter, 0)])).await;
    match client.next().await {
        Packet::SubAck { reasons, .. } => Some(reasons[0]),
        Packet::Disconnect { .. } => None,
        other => panic!("{filter:?}: {other:?}"),
    }
}

#[tokio::test]
async fn mqtt_4_7_0_1() {
    let scope = Scope::new().await;
    for topic in ["a/+/b", "a/#", "+", "#", "a/b+"] {
        scope.cuts(Publish::new(topic, "x").qos(1, 1).bytes(), &[0x90, 0x81, 0x82]).await;
        let will = Publish::new(topic, "x");
        scope.refuses(Connect::new(&scope.id("a")).will(&will).bytes()).await;
    }
}

#[tokio::test]
async fn mqtt_4_7_1_1() {
    let scope = Scope::new().await;
    for filter in ["a#", "a/#/b", "#/a", "##", "a/##", "a/b#"] {
        assert!(granted(&scope, filter).await.is_none_or(|reason| reason == 0x8F), "{filter}");
    }
    let mut client = scope.client("a").await;
    client.subscribe(&scope.topic("t/#"), 0).await;
    // The parent, and any level below it.
    for topic in ["t", "t/", "t/1", "t/1/2/3", "t//"] {
        client.send(Publish::new(&scope.topic(topic), "x").bytes()).await;
        assert_eq!(client.message().await.topic, scope.topic(topic));
    }
    for topic in ["tt", "u/t"] {
        client.send(Publish::new(&scope.topic(topic), "x").bytes()).await;
    }
    client.is_quiet().await;
}

#[tokio::test]
async fn mqtt_4_7_1_2() {
    let scope = Scope::new().await;
    for filter in ["a+", "+a", "a/b+", "a/+b/c", "++", "+#"] {
        assert!(granted(&scope, filter).await.is_none_or(|reason| reason == 0x8F), "{filter}");
    }
    let cases: [(&str, &[&str], &[&str]); 4] = [
        ("t/+", &["t/1", "t/"], &["t", "t/1/2"]),
        ("t/+/u", &["t/1/u", "t//u"], &["t/u", "t/1/2/u"]),
        ("+/+", &["a/b", "/"], &["a", "a/b/c"]),
        ("+/v/#", &["a/v", "a/v/w/x", "/v"], &["v", "a/w"]),
    ];
    for (filter, yes, no) in cases {
        let mut client = scope.client("a").await;
        client.subscribe(&scope.topic(filter), 0).await;
        for topic in no.iter().chain(yes) {
            client.send(Publish::new(&scope.topic(topic), "x").bytes()).await;
        }
        for topic in yes {
            assert_eq!(client.message().await.topic, scope.topic(topic), "{filter}");
        }
        client.is_quiet().await;
    }
    // At the first level, where all other tests' topics match as well.
    let mut client = scope.client("a").await;
    client.subscribe(&format!("+{}", &scope.topic("first")[scope.id("").len()..]), 0).await;
    client.send(Publish::new(&scope.topic("first"), "mine").bytes()).await;
    while client.message().await.topic != scope.topic("first") {}
}

#[tokio::test]
async fn mqtt_4_7_2_1() {
    let scope = Scope::at(Arc::new(Gateway::start("").await));
    // Nobody but the gateway publishes below `$`, so it is what the gateway says there, retained, that must not come.
    let mut client = scope.client("a").await;
    client.subscribe("$SYS/broker/version", 0).await;
    assert_eq!(client.message().await.topic, "$SYS/broker/version");
    client.send(unsubscribe(1, &["$SYS/broker/version"])).await;
    client.next().await;
    client.send(subscribe(1, &[], &["#", "+/broker/#", "+/#"].map(|filter| (filter, 0)))).await;
    client.send(Publish::new("$SYS/broker/mine", "x").qos(1, 1).bytes()).await;
    client.send(Publish::new("$mine/broker/x", "x").bytes()).await;
    client.send(Publish::new(&scope.topic("end"), "end").bytes()).await;
    let (mut ended, mut retained) = (false, 0);
    // With each of the three that match, the gateway's own status comes, which stands behind `$` in any order.
    while !(ended && retained == 2) {
        match client.next().await {
            Packet::Publish(message) if message.topic == scope.topic("end") => ended = true,
            Packet::Publish(message) => {
                assert!(!message.topic.starts_with('$'), "{message:?}");
                retained += usize::from(message.topic.ends_with("/status"));
            }
            Packet::Ack { first: PUBACK, id: 1, .. } | Packet::SubAck { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn mqtt_4_7_3_1() {
    let scope = Scope::new().await;
    assert!(granted(&scope, "").await.is_none_or(|reason| reason == 0x8F));
    scope.cuts(unsubscribe_all_of(""), &[0x81, 0x82, 0x8F]).await;
    scope.cuts(Publish::new("", "x").bytes(), &[0x81, 0x82, 0x90]).await;
    scope.refuses(Connect::new(&scope.id("a")).will(&Publish::new("", "x")).bytes()).await;
    // A separator is a character.
    let mut client = scope.client("a").await;
    client.subscribe("/", 0).await;
    client.send(Publish::new("/", "x").bytes()).await;
    assert_eq!(client.message().await.topic, "/");
}

/// UNSUBSCRIBE may be answered or cut off for a filter like this; a PINGREQ with a body ends it in any case.
fn unsubscribe_all_of(filter: &str) -> Vec<u8> {
    [unsubscribe(1, &[filter]), vec![0xC0, 1, 0]].concat()
}

#[tokio::test]
async fn mqtt_4_7_3_2() {
    let scope = Scope::new().await;
    for text_with in ["\0", "a\0", "a/\0/b"] {
        scope.cuts(Publish::new(text_with, "x").bytes(), &[0x81, 0x90]).await;
        scope.cuts(unsubscribe(1, &[text_with]), &[0x81, 0x8F]).await;
        let mut client = scope.client("a").await;
        client.send(subscribe(1, &[], &[(text_with, 0)])).await;
        client.is_closed(&[0x81, 0x8F]).await;
    }
}

#[tokio::test]
async fn mqtt_4_7_3_4() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    // Texts that look alike, or that some would hold for the same.
    let topics =
        ["é", "e\u{301}", "É", "a", "A", "ａ", "a ", " a", "a/", "a//", "/a", "./a", "a/../a", "%61", "ﬁ", "fi"];
    for (n, topic) in topics.iter().enumerate() {
        client.subscribe_as(&scope.topic(topic), 0, &[SubscriptionId(n as u32 + 1)]).await;
    }
    for (n, topic) in topics.iter().enumerate() {
        client.send(Publish::new(&scope.topic(topic), "x").bytes()).await;
        let message = client.message().await;
        assert_eq!((message.topic.as_str(), message.subscription_ids()), (&*scope.topic(topic), vec![n as u32 + 1]));
    }
    client.is_quiet().await;
}
