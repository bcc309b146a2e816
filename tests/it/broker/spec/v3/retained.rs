//! 3.3.1-5 to 3.3.1-12, and 3.1.2-7: retained messages.

use crate::broker::spec::bytes::*;
use crate::broker::spec::gateway;

/// What a new subscriber to `filter` gets at once: topic, payload, QoS. All have the flag.
async fn retained(filter: &str) -> Vec<(String, String, u8)> {
    let mut client = Client::clean(&*gateway().await, &format!("new subscriber to {filter}")).await;
    client.subscribe(&[(filter, 2)]).await;
    let mut found = Vec::new();
    for delivery in client.take_all().await {
        assert!(delivery.retain && !delivery.dup, "{delivery:?}");
        found.push((delivery.topic, delivery.payload, delivery.qos));
    }
    client.disconnect().await;
    found.sort();
    found
}

fn one(topic: &str, payload: &str, qos: u8) -> Vec<(String, String, u8)> {
    vec![(topic.to_owned(), payload.to_owned(), qos)]
}

#[tokio::test]
async fn mqtt_3_1_2_7() {
    let gateway = gateway().await;
    for (flags, topic) in [(CLEAN, "3.1.2-7/clean"), (KEEP, "3.1.2-7/kept")] {
        let mut client = Client::accepted(&gateway, connect(topic, flags, &[])).await;
        client.publish(QOS_1 | RETAIN, topic, "stays").await;
        client.disconnect().await;
        // The session ends, if it has not.
        Client::clean(&gateway, topic).await.disconnect().await;
        assert_eq!(retained(topic).await, one(topic, "stays", 1));
    }
}

#[tokio::test]
async fn mqtt_3_3_1_5() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.3.1-5").await;
    for (flags, qos) in [(0, 0), (QOS_1, 1), (QOS_2, 2)] {
        client.publish(flags | RETAIN, "3.3.1-5", &format!("with QoS {qos}")).await;
        assert_eq!(retained("3.3.1-5").await, one("3.3.1-5", &format!("with QoS {qos}"), qos));
    }
}

#[tokio::test]
async fn mqtt_3_3_1_6() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.3.1-6").await;
    for n in ["first", "last"] {
        for topic in ["3.3.1-6", "3.3.1-6/a", "3.3.1-6/b", "3.3.1-6/b/c", "3.3.1-60"] {
            client.publish(QOS_1 | RETAIN, topic, n).await;
        }
    }
    let last = |topics: &[&str]| topics.iter().map(|t| ((*t).to_owned(), "last".to_owned(), 1)).collect::<Vec<_>>();
    assert_eq!(retained("3.3.1-6").await, last(&["3.3.1-6"]));
    assert_eq!(retained("3.3.1-6/+").await, last(&["3.3.1-6/a", "3.3.1-6/b"]));
    assert_eq!(retained("3.3.1-6/#").await, last(&["3.3.1-6", "3.3.1-6/a", "3.3.1-6/b", "3.3.1-6/b/c"]));
    assert_eq!(retained("3.3.1-6/none/#").await, []);
}

#[tokio::test]
async fn mqtt_3_3_1_7() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.3.1-7").await;
    client.publish(QOS_2 | RETAIN, "3.3.1-7", "old").await;
    client.publish(RETAIN, "3.3.1-7", "new").await;
    assert_eq!(retained("3.3.1-7").await, one("3.3.1-7", "new", 0));
}

#[tokio::test]
async fn mqtt_3_3_1_8() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.3.1-8").await;
    client.publish(QOS_1 | RETAIN, "3.3.1-8", "x").await;
    // For the first subscription, for the same again, and for another one.
    for filter in ["3.3.1-8", "3.3.1-8", "3.3.1-8/#"] {
        client.subscribe(&[(filter, 1)]).await;
        let delivery = client.take().await;
        assert!(delivery.retain && delivery.topic == "3.3.1-8", "{delivery:?}");
    }
    client.quiet().await;
}

#[tokio::test]
async fn mqtt_3_3_1_9() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.3.1-9").await;
    client.subscribe(&[("3.3.1-9", 2)]).await;
    for flags in [0, QOS_1, QOS_2] {
        client.publish(flags | RETAIN, "3.3.1-9", "x").await;
        assert!(!client.take().await.retain);
        client.publish(flags, "3.3.1-9", "x").await;
        assert!(!client.take().await.retain);
    }
}

#[tokio::test]
async fn mqtt_3_3_1_10() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.3.1-10").await;
    for (flags, qos) in [(0, 0), (QOS_1, 1), (QOS_2, 2)] {
        client.publish(QOS_1 | RETAIN, "3.3.1-10", "x").await;
        let mut watcher = Client::clean(&gateway, "3.3.1-10/watcher").await;
        watcher.subscribe(&[("3.3.1-10", 2)]).await;
        watcher.take().await;
        client.publish(flags | RETAIN, "3.3.1-10", "").await;
        let empty = watcher.take().await;
        assert_eq!((empty.parts(), empty.retain), (("3.3.1-10", "", qos), false));
        assert_eq!(retained("3.3.1-10").await, []);
        watcher.disconnect().await;
    }
}

#[tokio::test]
async fn mqtt_3_3_1_11() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.3.1-11").await;
    for flags in [0, QOS_1, QOS_2] {
        client.publish(flags | RETAIN, "3.3.1-11", "").await;
        assert_eq!(retained("3.3.1-11").await, []);
    }
}

#[tokio::test]
async fn mqtt_3_3_1_12() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "3.3.1-12").await;
    for flags in [0, QOS_1, QOS_2] {
        client.publish(flags, "3.3.1-12/none", "x").await;
    }
    assert_eq!(retained("3.3.1-12/none").await, []);
    client.publish(QOS_1 | RETAIN, "3.3.1-12", "stays").await;
    for flags in [0, QOS_1, QOS_2] {
        client.publish(flags, "3.3.1-12", "passes").await;
        client.publish(flags, "3.3.1-12", "").await;
    }
    assert_eq!(retained("3.3.1-12").await, one("3.3.1-12", "stays", 1));
}
