//! Shared subscriptions and flow control, over the wire.

use fieldpost::message::QoS;
use fieldpost::mqtt::{Ack, Packet, Reason, Version};

use super::mosquitto::{self, Subscriber, VERSIONS};
use super::raw::{self, Raw};
use crate::support::Gateway;

#[tokio::test]
async fn mosquitto_s_clients_share_in_every_version() {
    let gateway = Gateway::start("").await;
    for version in VERSIONS {
        let args = |id| ["-V", version, "-q", "1", "-t", "$share/g/t", "-i", id];
        let mut members =
            [Subscriber::start(&gateway, &args("a")).await, Subscriber::start(&gateway, &args("b")).await];
        for n in 0..4 {
            mosquitto::publish(&gateway, &["-V", version, "-q", "1", "-t", "t", "-m", &n.to_string()]).await;
        }
        for (n, expected) in [(0, ["0", "2"]), (1, ["1", "3"])] {
            for payload in expected {
                assert_eq!(members[n].next().await, format!("t {payload} 1 0"), "{version}");
            }
        }
    }
}

#[tokio::test]
async fn a_member_that_is_cut_off_leaves_its_messages_to_the_other() {
    let gateway = Gateway::start("").await;
    let mut first = member(&gateway, "first").await;
    let mut publisher = Raw::connect(&gateway, raw::connect(Version::V5, "publisher", 0)).await;
    publisher.next().await;
    for id in 1..=20 {
        publisher.send(Packet::Publish(raw::publish(id, QoS::AtLeastOnce, "t", &id.to_string()))).await;
        assert!(matches!(publisher.next().await, Packet::PubAck(_)));
    }
    assert!(matches!(first.next().await, Packet::Publish(_)), "it has them, and acknowledges nothing");
    let mut second = member(&gateway, "second").await;
    drop(first);
    for n in 1..=20 {
        let Packet::Publish(publish) = second.next().await else { panic!() };
        assert_eq!(publish.message.payload, n.to_string().as_bytes());
        second.send(Packet::PubAck(Ack::ok(publish.id.unwrap()))).await;
    }
}

async fn member(gateway: &Gateway, id: &str) -> Raw {
    let mut raw = Raw::connect(gateway, raw::connect(Version::V5, id, 0)).await;
    let Packet::ConnAck(ack) = raw.next().await else { panic!() };
    assert!(ack.shared_available);
    raw.send(raw::subscribe("$share/g/t", QoS::AtLeastOnce)).await;
    assert!(matches!(raw.next().await, Packet::SubAck { .. }));
    raw
}

#[tokio::test]
async fn one_publish_too_many_ends_the_connection_and_exactly_as_many_do_not() {
    let gateway = Gateway::start("[broker]\nlisten = \"@mqtt@\"\nreceive-maximum = 3\n").await;
    let mut raw = Raw::connect(&gateway, raw::connect(Version::V5, "c", 0)).await;
    let Packet::ConnAck(ack) = raw.next().await else { panic!() };
    assert_eq!(ack.receive_maximum.get(), 3);
    // Three are open until PUBCOMP.
    for id in 1..=3 {
        raw.send(Packet::Publish(raw::publish(id, QoS::ExactlyOnce, "t", "x"))).await;
        assert!(matches!(raw.next().await, Packet::PubRec(_)));
    }
    raw.send(Packet::PubRel(Ack::ok(2.try_into().unwrap()))).await;
    assert!(matches!(raw.next().await, Packet::PubComp(_)));
    raw.send(Packet::Publish(raw::publish(4, QoS::AtLeastOnce, "t", "x"))).await;
    assert!(matches!(raw.next().await, Packet::PubAck(_)));
    raw.send(Packet::Publish(raw::publish(5, QoS::ExactlyOnce, "t", "x"))).await;
    assert!(matches!(raw.next().await, Packet::PubRec(_)));
    raw.send(Packet::Publish(raw::publish(6, QoS::AtLeastOnce, "t", "x"))).await;
    let Packet::Disconnect { reason, .. } = raw.next().await else { panic!() };
    assert_eq!(reason, Reason::RECEIVE_MAXIMUM_EXCEEDED);
    // A client that cannot know is served all the same.
    let mut old = Raw::connect(&gateway, raw::connect(Version::V311, "old", 0)).await;
    old.next().await;
    for id in 1..=10 {
        old.send(Packet::Publish(raw::publish(id, QoS::ExactlyOnce, "t", "x"))).await;
    }
    for _ in 1..=10 {
        assert!(matches!(old.next().await, Packet::PubRec(_)));
    }
}
