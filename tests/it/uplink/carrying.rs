//! Messages go up and commands come down, over outages and silence.

use super::*;

#[tokio::test]
async fn what_is_published_goes_up_in_order_and_an_outage_loses_nothing() {
    for protocol in ["5", "3.1.1"] {
        let mut cloud = Mosquitto::persistent("").await;
        let config = format!(
            "protocol = \"{protocol}\"\npublish = [{{ filter = \"plant/#\", strip = \"plant/\", prefix = \"p7/\" }}]"
        );
        let mut gateway = Gateway::start("mqtt", cloud.port(), &config).await;
        let mut client = Client::connect(&cloud, "p7/#").await;
        gateway.up().await;
        gateway.publish("plant/a", 0..50).await;
        gateway.publish("other/a", 0..1).await;
        client.all("p7/a", 50).await;
        let status = gateway.until(|status| status.sent == 50).await;
        assert!(status.acknowledged.is_some());

        cloud.stop().await;
        gateway.down().await;
        gateway.publish("plant/b", 0..500).await;
        cloud.start_again().await;
        let mut client = Client::connect(&cloud, "p7/#").await;
        client.all("p7/b", 500).await;
        assert_eq!(gateway.until(|status| status.sent >= 550).await.connects, 2);
        gateway.end().await;
    }
}

#[tokio::test]
async fn a_cloud_that_says_nothing_any_more_is_left_and_nothing_is_lost() {
    let cloud = Mosquitto::start("").await;
    let config = "publish = [{ filter = \"plant/#\", qos = 2 }]\nkeep-alive = \"2s\"";
    let mut gateway = Gateway::start("mqtt", cloud.port(), config).await;
    let mut client = Client::connect(&cloud, "plant/#").await;
    gateway.up().await;
    cloud.freeze();
    gateway.publish("plant/a", 0..300).await;
    let why = gateway.down().await;
    assert!(why.contains("no sign of the cloud") || why.contains("timed out"), "{why}");
    cloud.thaw();
    client.all("plant/a", 300).await;
    gateway.end().await;
}

#[tokio::test]
async fn commands_come_down_and_nothing_else_does() {
    let cloud = Mosquitto::start("").await;
    let config = "publish = [\"#\"]\nsubscribe = [{ filter = \"cmd/plant7/#\", strip = \"cmd/plant7/\", qos = 2 }]";
    let mut gateway = Gateway::start("mqtt", cloud.port(), config).await;
    let mut link = local(&gateway.broker, "#").await;
    gateway.up().await;
    let mut client = Client::connect(&cloud, "#").await;
    let command = |topic: &str, qos, id| {
        Packet::Publish(Publish {
            id: PacketId::new(id),
            dup: false,
            qos,
            retain: false,
            message: Arc::new(Message::new(topic, "1")),
            topic_alias: None,
            subscription_ids: Vec::new(),
            place: None,
        })
    };
    client.send(command("other", QoS::AtLeastOnce, 1)).await;
    client.send(command("cmd/plant7/pump/set", QoS::ExactlyOnce, 2)).await;
    client.until(|packet| matches!(packet, Packet::PubRec(_))).await;
    client.send(Packet::PubRel(Ack::ok(PacketId::new(2).unwrap()))).await;
    let packets = timeout(PATIENCE, link.recv()).await.expect("the command in time").unwrap();
    let [Packet::Publish(publish)] = &packets[..] else { panic!("{packets:?}") };
    assert_eq!((&*publish.message.topic, &publish.message.payload[..]), ("pump/set", &b"1"[..]));
    // What came down does not go up again, though a filter would have it.
    gateway.publish("last", 0..1).await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|topic| topic != "last") {
        seen.push(client.next().await.0);
    }
    assert!(!seen.contains(&"pump/set".to_owned()), "{seen:?}");
    assert_eq!(gateway.until(|status| status.received == 1).await.refused, 0);
    gateway.end().await;
}

#[tokio::test]
async fn the_cloud_is_told_who_is_online() {
    let cloud = Mosquitto::start("").await;
    let mut gateway = Gateway::start("mqtt", cloud.port(), "").await;
    let mut client = Client::connect(&cloud, "fieldpost/#").await;
    let status = |text: &str| ("fieldpost/plant7/status".to_owned(), text.to_owned(), true);
    assert_eq!(client.next().await, status("online"));
    gateway.up().await;
    gateway.end().await;
    assert_eq!(client.next().await, status("offline"));

    // One that vanishes has left a will.
    let gateway = Gateway::start("mqtt", cloud.port(), "").await;
    assert_eq!(client.next().await, status("online"));
    gateway.uplink.abort();
    assert_eq!(client.next().await, status("offline"));
}

#[tokio::test]
async fn a_filter_that_the_config_no_longer_has_brings_nothing_more() {
    let cloud = Mosquitto::start("").await;
    let gateway = Gateway::start("mqtt", cloud.port(), "publish = [\"a\", \"b\"]").await;
    gateway.stop.cancel();
    gateway.uplink.await.unwrap();
    let (sender, _) = watch::channel(status::Uplink::default());
    let config = toml::from_str("url = \"mqtt://localhost\"\npublish = [\"b\", \"c\"]").unwrap();
    let again = Uplink::new("cloud".into(), config, "plant7".into(), gateway.broker.clone(), sender, Pulse::new());
    again.prepare().await;
    let filters: BTreeSet<_> =
        gateway.broker.subscriptions(&status::uplink_session("cloud")).await.into_iter().collect();
    assert_eq!(filters, BTreeSet::from(["b".into(), "c".into()]));
}
