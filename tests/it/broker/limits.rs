//! Each bound of `[broker]` is reached: what the client is told, what is counted, and where it is named.
//!
//! | key | the client is told | counted and named | test |
//! |---|---|---|---|
//! | `max-clients` | CONNACK 0x97 (3.1.1: 3) | log | `clients_and_sessions` |
//! | `max-sessions` | CONNACK 0x97 (3.1.1: 3) | - | `clients_and_sessions` |
//! | `max-waiting` | closed | log | `hostile::doors::halves_of_handshakes…` |
//! | `connect-timeout` | closed | log | `hostile::doors::slow_headers…` |
//! | `connection-rate` | closed | log | this machine is free of it: unit test in `listener::addresses` |
//! | `max-keep-alive` | Server Keep Alive | - | `listeners::a_long_keep_alive…` |
//! | `max-packet` | DISCONNECT 0x95 (3.1.1: closed) | log | `hostile::floods::a_header_that_announces…` |
//! | `receive-maximum` | DISCONNECT 0x93 (3.1.1: read more slowly) | log | `publishes_of_one_client` |
//! | `max-inflight` | the rest later | status: `inflight` | `what_waits_for_one_client` |
//! | `max-queued`, `-bytes`, `queue-full` | - | status: `dropped`, `queues`; log; `$SYS` | `what_waits_for_one_client` |
//! | `max-queued-total` | - | the same | `hostile::floods::who_never_acknowledges…` |
//! | `max-subscriptions` | SUBACK 0x97 (3.1.1: 0x80) | - | `hostile::floods::many_and_deep_filters…` |
//! | `max-retained`, `-bytes` | - | status: `dropped`; log | `retained_messages` |

use fieldpost::message::QoS;
use fieldpost::mqtt::{Ack, ConnAck, Connect, Packet, Publish, Reason, Version};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::raw::{self, Raw};
use crate::support::Gateway;
use crate::support::process::PATIENCE;

async fn gateway(limits: &str) -> Gateway {
    Gateway::start(&format!("[broker]\nlisten = \"@mqtt@\"\nsys-interval = \"100ms\"\n{limits}")).await
}

async fn arrive(gateway: &Gateway, connect: Connect) -> (Raw, ConnAck) {
    let mut raw = Raw::connect(gateway, connect).await;
    let Packet::ConnAck(ack) = raw.next().await else { panic!("no CONNACK") };
    (raw, *ack)
}

async fn client(gateway: &Gateway, connect: Connect) -> Raw {
    let (raw, ack) = arrive(gateway, connect).await;
    assert_eq!(ack.reason, Reason::SUCCESS);
    raw
}

/// Waits until the log says this.
async fn said(gateway: &Gateway, what: &str) {
    let end = Instant::now() + PATIENCE;
    while !gateway.log().contains(what) {
        assert!(Instant::now() < end, "no `{what}` in\n{}", gateway.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Waits until a `$SYS` topic has this value.
async fn sys(gateway: &Gateway, name: &str, value: &str) {
    let mut raw = client(gateway, raw::connect(Version::V311, "sys", 0)).await;
    raw.send(raw::subscribe(&format!("$SYS/broker/{name}"), QoS::AtMostOnce)).await;
    loop {
        if let Packet::Publish(publish) = raw.next().await
            && publish.message.payload == value
        {
            return;
        }
    }
}

#[tokio::test]
async fn clients_and_sessions() {
    let limits = [("max-clients = 2\n", "`max-clients` are connected already"), ("max-sessions = 2\n", "")];
    for (limit, logged) in limits {
        let gateway = gateway(limit).await;
        let mut inside = Vec::new();
        let refused = loop {
            let connect = raw::connect(Version::V5, &format!("c{}", inside.len()), 0);
            let (raw, ack) = arrive(&gateway, connect).await;
            if ack.reason != Reason::SUCCESS {
                break ack.reason;
            }
            inside.push(raw);
        };
        assert_eq!((inside.len(), refused), (2, Reason::QUOTA_EXCEEDED), "{limit}: the gateway's own do not count");
        for version in [Version::V31, Version::V311] {
            let (_, ack) = arrive(&gateway, raw::connect(version, "older", 0)).await;
            assert_eq!(ack.reason, Reason::SERVER_UNAVAILABLE, "{limit}");
        }
        said(&gateway, logged).await;
        // The place of one that goes is free.
        inside.remove(0).send(Packet::Disconnect { reason: Reason::SUCCESS, expiry: None }).await;
        let end = Instant::now() + PATIENCE;
        while arrive(&gateway, raw::connect(Version::V311, "older", 0)).await.1.reason != Reason::SUCCESS {
            assert!(Instant::now() < end, "{limit}");
        }
    }
}

#[tokio::test]
async fn publishes_of_one_client() {
    let gateway = gateway("receive-maximum = 3\n").await;
    // MQTT 5 is told, and held to it: four exchanges at QoS 2 are one too many.
    let (mut raw, ack) = arrive(&gateway, raw::connect(Version::V5, "five", 0)).await;
    assert_eq!(ack.receive_maximum.get(), 3);
    for id in 1..=4 {
        raw.send(Packet::Publish(raw::publish(id, QoS::ExactlyOnce, "t", "x"))).await;
    }
    let mut last = raw.next().await;
    while matches!(last, Packet::PubRec(_)) {
        last = raw.next().await;
    }
    assert_eq!(last, Packet::Disconnect { reason: Reason::RECEIVE_MAXIMUM_EXCEEDED, expiry: None });
    said(&gateway, "more publishes than the receive maximum").await;
    // An older client cannot know: all of its publishes are taken, one after the other.
    let mut bytes =
        raw::bytes(Version::V311, &[Packet::Connect(Box::new(raw::connect(Version::V311, "older", 0)))]).await;
    let publishes: Vec<_> =
        (1..=2000).map(|id| Packet::Publish(raw::publish(id, QoS::AtLeastOnce, "t", "x"))).collect();
    bytes.extend(raw::bytes(Version::V311, &publishes).await);
    let mut stream = raw::socket(&gateway).await;
    stream.write_all(&bytes).await.unwrap();
    timeout(PATIENCE, stream.read_exact(&mut [0; 4 + 2000 * 4])).await.expect("all are acknowledged").unwrap();
}

#[tokio::test]
async fn what_waits_for_one_client() {
    // Five in flight; ten wait, or as many as take four kilobytes, of which the last may go beyond.
    let cases = [
        ("max-inflight = 5\nmax-queued = 10\n", 1, (1..=15).collect::<Vec<_>>()),
        ("max-inflight = 5\nmax-queued = 10\nqueue-full = \"drop-oldest\"\n", 1, (1..=5).chain(21..=30).collect()),
        ("max-inflight = 5\nmax-queued-bytes = \"4KiB\"\n", 1000, (1..=8).collect()),
    ];
    for (limits, size, expected) in cases {
        let gateway = gateway(limits).await;
        let mut slow = client(&gateway, raw::connect(Version::V5, "slow", 0)).await;
        slow.send(raw::subscribe("t", QoS::AtLeastOnce)).await;
        assert!(matches!(slow.next().await, Packet::SubAck { .. }));
        let mut publisher = client(&gateway, raw::connect(Version::V5, "publisher", 0)).await;
        for n in 1..=30 {
            publisher.send(Packet::Publish(raw::publish(n, QoS::AtLeastOnce, "t", &format!("{n:0size$}")))).await;
            assert!(matches!(publisher.next().await, Packet::PubAck(ack) if !ack.reason.is_error()));
        }
        let dropped = 30 - expected.len();
        let counted = |all: &Value| {
            let broker = &all["status"]["broker"];
            let queue = &broker["queues"][0];
            broker["dropped"] == dropped
                && (&queue["session"], &queue["dropped"]) == (&"slow".into(), &dropped.into())
                && queue["inflight"].as_u64().is_some_and(|n| n == 5 || n == 4 && size > 1)
        };
        gateway.until(limits, counted).await;
        said(&gateway, "messages were dropped: slow").await;
        sys(&gateway, "publish/messages/dropped", &dropped.to_string()).await;
        let mut came = Vec::new();
        while came.len() < expected.len() {
            let Packet::Publish(Publish { id: Some(id), message, .. }) = slow.next().await else { continue };
            came.push(String::from_utf8(message.payload.to_vec()).unwrap().parse::<u16>().unwrap());
            slow.send(Packet::PubAck(Ack::ok(id))).await;
        }
        assert_eq!(came, expected, "{limits}");
    }
}

#[tokio::test]
async fn retained_messages() {
    for (limit, size, most) in [("max-retained = 20\n", 1, 20), ("max-retained-bytes = \"40KiB\"\n", 2000, 18)] {
        let gateway = gateway(limit).await;
        let mut publisher = client(&gateway, raw::connect(Version::V5, "publisher", 0)).await;
        for n in 1..=40 {
            let mut publish = raw::publish(n, QoS::AtLeastOnce, &format!("kept/{n:02}"), &"x".repeat(size));
            publish.retain = true;
            std::sync::Arc::make_mut(&mut publish.message).retain = true;
            publisher.send(Packet::Publish(publish)).await;
            // It was delivered to all that there are.
            assert!(matches!(publisher.next().await, Packet::PubAck(ack) if !ack.reason.is_error()));
        }
        let status = gateway.until("drops", |all| all["status"]["broker"]["dropped"].as_u64() > Some(0)).await;
        said(&gateway, "(not retained: see max-retained and max-retained-bytes)").await;
        let mut late = client(&gateway, raw::connect(Version::V311, "late", 0)).await;
        late.send(raw::subscribe("kept/#", QoS::AtMostOnce)).await;
        late.send(Packet::PingReq).await;
        let mut came = 0;
        while let Ok(packet) = timeout(std::time::Duration::from_millis(500), late.next()).await {
            came += usize::from(matches!(packet, Packet::Publish(_)));
        }
        assert!((most - 8..=most).contains(&came), "{limit}: {came} came");
        assert!(status["status"]["broker"]["retained"].as_u64() <= Some(most as u64), "{status}");
    }
}
