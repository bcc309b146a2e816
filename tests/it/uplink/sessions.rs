//! A session that the cloud keeps.

use fieldpost::mqtt::{ConnAck, Reason};

use super::hand_made::Cloud;
use super::*;

#[tokio::test]
async fn commands_of_the_time_while_the_gateway_was_away_come_down_if_that_is_wanted() {
    for (session, waits) in [("session = \"1h\"\n", true), ("", false)] {
        for protocol in ["5", "3.1.1"] {
            let cloud = Mosquitto::start("").await;
            let config = format!("{session}protocol = \"{protocol}\"\nsubscribe = [\"cmd/#\"]");
            let mut gateway = Gateway::start("mqtt", cloud.port(), &config).await;
            gateway.up().await;
            gateway.end().await;
            let mut client = Client::connect(&cloud, "none").await;
            let command = |n: u16| {
                Packet::Publish(Publish {
                    id: PacketId::new(n),
                    dup: false,
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    message: Arc::new(Message::new("cmd/pump", n.to_string())),
                    topic_alias: None,
                    subscription_ids: Vec::new(),
                    place: None,
                })
            };
            client.send(command(1)).await;
            client.until(|packet| matches!(packet, Packet::PubAck(_))).await;
            let mut gateway = Gateway::start("mqtt", cloud.port(), &config).await;
            gateway.up().await;
            client.send(command(2)).await;
            let expected = if waits { 2 } else { 1 };
            gateway.until(|status| status.received == expected).await;
            gateway.end().await;
        }
    }
}

#[tokio::test]
async fn an_exchange_at_qos_2_is_finished_over_the_next_connection() {
    let cloud = Cloud::start().await;
    let config = "publish = [{ filter = \"plant/#\", qos = 2 }]\nsubscribe = [\"cmd/#\"]\nsession = \"1h\"";
    let mut gateway = Gateway::start("mqtt", cloud.port(), config).await;
    let mut connection = cloud.accept(ConnAck::new(Reason::SUCCESS)).await;
    assert!(!connection.connect.clean_start && connection.connect.expiry == 3600);
    let options = connection.subscribe.as_ref().expect("it subscribes").filters[0].1;
    assert_eq!(options.retain_handling, RetainHandling::SendIfNew);
    let messages = (0..2).map(|n: u32| Message { qos: QoS::ExactlyOnce, ..Message::new("plant/a", n.to_string()) });
    gateway.broker.publish(messages.collect()).await;
    let (first, ..) = connection.publish().await;
    let (second, ..) = connection.publish().await;
    connection.send(Packet::PubRec(Ack::ok(first))).await;
    assert_eq!(connection.next().await, Some(Packet::PubRel(Ack::ok(first))));
    drop(connection);

    let mut connection = cloud.accept(ConnAck { session_present: true, ..ConnAck::new(Reason::SUCCESS) }).await;
    assert_eq!(connection.next().await, Some(Packet::PubRel(Ack::ok(first))), "it is not published again");
    connection.send(Packet::PubComp(Ack::ok(first))).await;
    assert_eq!(connection.publish().await, (second, "1".to_owned(), true));
    connection.send(Packet::PubRec(Ack::ok(second))).await;
    assert_eq!(connection.next().await, Some(Packet::PubRel(Ack::ok(second))));
    connection.send(Packet::PubComp(Ack::ok(second))).await;
    gateway.until(|status| status.sent == 2).await;
    gateway.end().await;
}
