//! 4.7: topic names and filters.

use crate::broker::spec::bytes::*;
use crate::broker::spec::gateway;

#[tokio::test]
async fn mqtt_4_7_1_1() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "4.7.1-1").await;
    client.subscribe(&[("4.7.1-1/+/x", 0), ("4.7.1-1/#", 0)]).await;
    for topic in ["4.7.1-1/+/x", "4.7.1-1/#", "4.7.1-1/a+", "4.7.1-1/#a"] {
        closed_after(&gateway, "4.7.1-1/sender", publish(0, 0, topic, "x")).await;
        refused(&gateway, connect("4.7.1-1/will", CLEAN | WILL, &[topic.as_bytes(), b"will"])).await;
    }
    client.quiet().await;
}

/// These filters are refused, and good ones beside them are granted.
async fn refused_filters(id: &str, filters: &[&str]) {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, id).await;
    for filter in filters {
        client.send(subscribe(1, &[(filter, 1), (id, 1)])).await;
        client.expect(suback(1, &[0x80, 1])).await;
    }
    client.quiet().await;
}

/// Which of `topics` a subscriber to `filter` gets.
async fn matching<'a>(id: &str, filter: &str, topics: &[&'a str]) -> Vec<&'a str> {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, id).await;
    client.subscribe(&[(filter, 0)]).await;
    for topic in topics {
        client.publish(0, topic, id).await;
    }
    // Other tests publish as well.
    let ours: Vec<_> = client.take_all().await.into_iter().filter(|d| d.payload == id).map(|d| d.topic).collect();
    topics.iter().copied().filter(|topic| ours.iter().any(|t| t == topic)).collect()
}

#[tokio::test]
async fn mqtt_4_7_1_2() {
    let id = "4.7.1-2";
    refused_filters(id, &["4.7.1-2#", "4.7.1-2/a#", "4.7.1-2/#/b", "#/4.7.1-2", "4.7.1-2/#a", "##", "4.7.1-2/##"])
        .await;
    let topics = ["4.7.1-2", "4.7.1-2/", "4.7.1-2/a", "4.7.1-2/a/b/c", "4.7.1-2b", "4.7.1", "/4.7.1-2"];
    assert_eq!(matching(id, "4.7.1-2/#", &topics).await, topics[..4]);
    assert_eq!(matching(id, "#", &topics).await, topics);
    assert_eq!(matching(id, "/#", &topics).await, topics[6..]);
    assert_eq!(matching(id, "4.7.1-2/a/#", &topics).await, topics[2..4]);
}

#[tokio::test]
async fn mqtt_4_7_1_3() {
    let id = "4.7.1-3";
    refused_filters(id, &["4.7.1-3+", "4.7.1-3/+a", "4.7.1-3/a+/b", "++", "4.7.1-3/++", "+4.7.1-3/a", "4.7.1-3/+#"])
        .await;
    let topics =
        ["4.7.1-3", "4.7.1-3/", "4.7.1-3/a", "4.7.1-3/b", "4.7.1-3/a/c", "4.7.1-3/b/c", "4.7.1-3//c", "/4.7.1-3"];
    assert_eq!(matching(id, "4.7.1-3/+", &topics).await, topics[1..4]);
    assert_eq!(matching(id, "4.7.1-3/+/c", &topics).await, topics[4..7]);
    assert_eq!(matching(id, "+/a", &topics).await, ["4.7.1-3/a"]);
    assert_eq!(matching(id, "+", &topics).await, ["4.7.1-3"]);
    assert_eq!(matching(id, "/+", &topics).await, ["/4.7.1-3"]);
    assert_eq!(matching(id, "+/+", &topics).await, [&topics[1..4], &topics[7..]].concat());
    assert_eq!(matching(id, "4.7.1-3/+/#", &topics).await, topics[1..7]);
    assert_eq!(matching(id, "+/+/+", &topics).await, topics[4..7]);
}

#[tokio::test]
async fn mqtt_4_7_2_1() {
    // There are retained messages on `$` topics, if the gateway has any at all; and clients' own do not get there.
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "4.7.2-1").await;
    for filter in ["#", "+/#", "+/4.7.2-1", "+", "+/+"] {
        client.subscribe(&[(filter, 0)]).await;
    }
    for topic in ["$4.7.2-1", "$4.7.2-1/4.7.2-1", "$SYS/4.7.2-1"] {
        client.publish(QOS_1, topic, "x").await;
    }
    client.publish(QOS_1, "4.7.2-1/$SYS", "last").await;
    loop {
        let delivery = client.take().await;
        assert!(!delivery.topic.starts_with('$'), "{delivery:?}");
        if delivery.payload == "last" {
            break;
        }
    }
}

#[tokio::test]
async fn mqtt_4_7_3_1() {
    let gateway = gateway().await;
    for flags in [0, QOS_1, QOS_2] {
        closed_after(&gateway, "4.7.3-1", publish(flags, 1, "", "x")).await;
    }
    refused(&gateway, connect("4.7.3-1", CLEAN | WILL, &[b"", b"will"])).await;
    // An empty filter is either refused or a protocol violation: never granted.
    for filters in [&[("", 0)][..], &[("4.7.3-1", 0), ("", 0)]] {
        let mut client = Client::clean(&gateway, "4.7.3-1").await;
        client.send(subscribe(1, filters)).await;
        client.send(DISCONNECT).await;
        let said = client.rest().await;
        assert!(said.is_empty() || said.ends_with(&[0x80]), "{said:02x?}");
    }
    // One character is enough.
    assert_eq!(matching("4.7.3-1/x", "4.7.3-1/+", &["4.7.3-1/a", "4.7.3-1/"]).await.len(), 2);
    assert_eq!(matching("4.7.3-1/y", "/", &["/"]).await, ["/"]);
    assert_eq!(matching("4.7.3-1/z", "\u{e9}", &["\u{e9}"]).await, ["\u{e9}"]);
}

#[tokio::test]
async fn mqtt_4_7_3_2() {
    let gateway = gateway().await;
    closed_after(&gateway, "4.7.3-2", publish(QOS_1, 1, "4.7.3-2/\0", "x")).await;
    closed_after(&gateway, "4.7.3-2", subscribe(1, &[("4.7.3-2/\0", 0)])).await;
    closed_after(&gateway, "4.7.3-2", unsubscribe(1, &["4.7.3-2/\0"])).await;
    refused(&gateway, connect("4.7.3-2", CLEAN | WILL, &[b"4.7.3-2/\0", b"will"])).await;
}

#[tokio::test]
async fn mqtt_4_7_3_3() {
    // The longest topic that can be written is one.
    let gateway = gateway().await;
    let longest = format!("4.7.3-3/{}", "x".repeat(65_535 - 8));
    let mut client = Client::clean(&gateway, "4.7.3-3").await;
    client.subscribe(&[(&longest, 1), ("4.7.3-3/+", 1)]).await;
    client.publish(QOS_1, &longest, "x").await;
    assert_eq!(client.take().await.topic, longest);
    client.quiet().await;
}

#[tokio::test]
async fn mqtt_4_7_3_4() {
    let id = "4.7.3-4";
    let topics = [
        "4.7.3-4/Accounts",
        "4.7.3-4/ACCOUNTS",
        "4.7.3-4/Accounts ",
        "4.7.3-4/Accounts/",
        "/4.7.3-4/Accounts",
        "4.7.3-4//Accounts",
        "4.7.3-4/./Accounts",
        "4.7.3-4/caf\u{e9}",
        "4.7.3-4/cafe\u{301}",
        "4.7.3-4/%63af\u{e9}",
        "4.7.3-4/*",
        "4.7.3-4/\\",
    ];
    for topic in topics {
        assert_eq!(matching(id, topic, &topics).await, [topic]);
    }
}
