//! What a cloud does not take: connections, messages for ever, messages for now.

use fieldpost::mqtt::{ConnAck, Reason};

use super::hand_made::Cloud;
use super::*;

#[tokio::test]
async fn a_message_that_the_cloud_cannot_take_does_not_hold_up_the_others() {
    let cloud = Mosquitto::start("max_packet_size 1000").await;
    let mut gateway = Gateway::start("mqtt", cloud.port(), "publish = [\"plant/#\"]").await;
    let mut client = Client::connect(&cloud, "plant/#").await;
    gateway.up().await;
    gateway.broker.publish(vec![Message::new("plant/a", vec![b'x'; 5000])]).await;
    gateway.publish("plant/a", 0..3).await;
    client.all("plant/a", 3).await;
    let status = gateway.until(|status| status.sent == 3).await;
    assert_eq!((status.refused, status.connects), (1, 1));
    gateway.end().await;
}

#[tokio::test]
async fn a_cloud_that_refuses_is_quoted() {
    let cloud = Mosquitto::start("allow_anonymous false").await;
    for protocol in ["5", "3.1.1"] {
        let config = format!("protocol = \"{protocol}\"\nusername = \"plant7\"\npassword = \"wrong\"");
        let mut gateway = Gateway::start("mqtt", cloud.port(), &config).await;
        let why = gateway.down().await;
        assert!(why.contains("not authorised (0x87)") && why.contains("`password`"), "{why}");
        gateway.end().await;
    }
    let mut gateway = Gateway::start("mqtt", crate::support::port::free(), "").await;
    let why = gateway.down().await;
    assert!(why.contains("cannot connect to") && why.contains("refused"), "{why}");
    gateway.end().await;
}

#[tokio::test]
async fn each_reason_sets_its_message_aside_and_the_queue_goes_on() {
    let cloud = Cloud::start().await;
    let mut gateway = Gateway::start("mqtt", cloud.port(), "publish = [\"plant/#\"]").await;
    let mut connection = cloud.accept(ConnAck::new(Reason::SUCCESS)).await;
    gateway.publish("plant/a", 0..6).await;
    for reason in [0x87, 0x99, 0x90, 0x83, 0x80, 0x00] {
        let (id, ..) = connection.publish().await;
        connection.send(Packet::PubAck(Ack { id, reason: Reason(reason) })).await;
    }
    let status = gateway.until(|status| status.sent == 1 && status.refused == 5).await;
    let names = ["implementation-specific", "not-authorised", "payload-format", "topic", "unspecified"];
    assert_eq!(status.aside, names.map(|name| (name, 1)).into());
    gateway.end().await;
}

#[tokio::test]
async fn a_cloud_over_its_quota_is_given_time_and_gets_everything_in_order() {
    let cloud = Cloud::start().await;
    let mut gateway = Gateway::start("mqtt", cloud.port(), "publish = [\"plant/#\"]").await;
    let mut connection = cloud.accept(ConnAck::new(Reason::SUCCESS)).await;
    gateway.publish("plant/a", 0..3).await;
    for _ in 0..3 {
        let (id, ..) = connection.publish().await;
        connection.send(Packet::PubAck(Ack { id, reason: Reason::QUOTA_EXCEEDED })).await;
    }
    gateway.until(|status| status.pauses == 1).await;
    gateway.publish("plant/a", 3..4).await;
    for n in 0..4 {
        let (id, text, _) = connection.publish().await;
        assert_eq!(text, n.to_string());
        connection.send(Packet::PubAck(Ack::ok(id))).await;
    }
    let status = gateway.until(|status| status.sent == 4).await;
    assert_eq!((status.connects, status.pauses, status.refused), (1, 1, 0));
    gateway.end().await;
}

/// A 3.1.1 cloud has no other answer to a packet that is too large than to hang up.
#[tokio::test]
async fn a_message_on_which_the_cloud_hangs_up_is_found_and_set_aside() {
    let cloud = Mosquitto::start("max_packet_size 1000").await;
    let config = "publish = [\"plant/#\"]\nprotocol = \"3.1.1\"";
    let mut gateway = Gateway::start("mqtt", cloud.port(), config).await;
    let mut client = Client::connect(&cloud, "plant/#").await;
    gateway.up().await;
    gateway.publish("plant/a", 0..2).await;
    gateway.broker.publish(vec![Message::new("plant/a", vec![b'x'; 5000])]).await;
    gateway.publish("plant/a", 2..5).await;
    client.all("plant/a", 5).await;
    let status = gateway.until(|status| status.sent >= 5).await;
    assert_eq!(status.aside, [("ended-connections", 1)].into());
    gateway.end().await;
}

/// Connections that break before anything is acknowledged set nothing aside, however many.
#[tokio::test]
async fn connections_that_break_at_random_set_nothing_aside() {
    let cloud = Cloud::start().await;
    let mut gateway = Gateway::start("mqtt", cloud.port(), "publish = [\"plant/#\"]").await;
    gateway.publish("plant/a", 0..3).await;
    for n in 0..5 {
        let mut connection = cloud.accept(ConnAck::new(Reason::SUCCESS)).await;
        if n == 0 {
            // Once with something under way; then before there is.
            connection.publish().await;
        }
    }
    let mut connection = cloud.accept(ConnAck::new(Reason::SUCCESS)).await;
    for n in 0..3 {
        let (id, text, _) = connection.publish().await;
        assert_eq!(text, n.to_string());
        connection.send(Packet::PubAck(Ack::ok(id))).await;
    }
    assert_eq!(gateway.until(|status| status.sent == 3).await.refused, 0);
    gateway.end().await;
}
