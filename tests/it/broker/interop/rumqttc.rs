//! rumqttc, the client of programs in Rust; its two halves, for 3.1.1 and for 5, are libraries of their own.

use std::time::Duration;

use fieldpost::mqtt::Version;
use rumqttc::v5;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::Gateway;
use crate::support::process::PATIENCE;

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

/// What a client hears.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// CONNACK, and whether the session was there.
    Connected(bool),
    Subscribed,
    /// PUBACK or PUBCOMP.
    Acked,
    Message {
        topic: String,
        payload: String,
        qos: u8,
        retain: bool,
    },
}

/// A client that connects again by itself; dropped, it is gone without a word.
struct Client {
    sender: Sender,
    heard: mpsc::UnboundedReceiver<Heard>,
    _events: JoinSet<()>,
}

#[derive(Clone)]
enum Sender {
    Four(rumqttc::AsyncClient),
    Five(v5::AsyncClient),
}

impl Client {
    /// Connects with a session that is kept or not, and a will; returns whether the session was there.
    async fn connect(gateway: &Gateway, version: Version, id: &str, kept: bool, will: Option<&str>) -> (Self, bool) {
        let (host, port, keep_alive) = ("127.0.0.1", gateway.mqtt_port(), Duration::from_secs(5));
        let mut events = JoinSet::new();
        let (tell, heard) = mpsc::unbounded_channel();
        let sender = if version == Version::V5 {
            let mut options = v5::MqttOptions::new(id, host, port);
            options.set_keep_alive(keep_alive).set_clean_start(!kept);
            options.set_session_expiry_interval(kept.then_some(600)).set_max_packet_size(Some(1 << 20));
            if let Some(topic) = will {
                let qos = v5::mqttbytes::QoS::AtLeastOnce;
                options.set_last_will(v5::mqttbytes::v5::LastWill::new(topic, "gone", qos, false, None));
            }
            let (client, list) = v5::AsyncClient::new(options, 100);
            events.spawn(hear_five(list, tell));
            Sender::Five(client)
        } else {
            let mut options = rumqttc::MqttOptions::new(id, host, port);
            options.set_keep_alive(keep_alive).set_clean_session(!kept).set_max_packet_size(1 << 20, 1 << 20);
            if let Some(topic) = will {
                options.set_last_will(rumqttc::LastWill::new(topic, "gone", rumqttc::QoS::AtLeastOnce, false));
            }
            let (client, list) = rumqttc::AsyncClient::new(options, 100);
            events.spawn(hear_four(list, tell));
            Sender::Four(client)
        };
        let mut client = Self { sender, heard, _events: events };
        let Heard::Connected(session) = client.next().await else { panic!("no CONNACK") };
        (client, session)
    }

    /// What it hears next.
    async fn next(&mut self) -> Heard {
        timeout(PATIENCE, self.heard.recv()).await.expect("in time").expect("it still runs")
    }

    /// The next message, past what else it hears.
    async fn message(&mut self) -> Heard {
        loop {
            let heard = self.next().await;
            if matches!(heard, Heard::Message { .. }) {
                return heard;
            }
        }
    }

    /// The payload of the next message.
    async fn payload(&mut self) -> String {
        let Heard::Message { payload, .. } = self.message().await else { panic!() };
        payload
    }

    async fn until(&mut self, wanted: Heard) {
        let mut heard = Vec::new();
        let come = async {
            while heard.last() != Some(&wanted) {
                heard.push(self.next().await);
            }
        };
        assert!(timeout(PATIENCE, come).await.is_ok(), "no {wanted:?}, but {heard:?}");
    }

    async fn subscribe(&mut self, filter: &str, qos: u8) {
        match &self.sender {
            Sender::Four(client) => client.subscribe(filter, rumqttc::qos(qos).unwrap()).await.unwrap(),
            Sender::Five(client) => client.subscribe(filter, v5::mqttbytes::qos(qos).unwrap()).await.unwrap(),
        }
        self.until(Heard::Subscribed).await;
    }

    async fn publish(&self, topic: &str, payload: &str, qos: u8, retain: bool) {
        self.sender.publish(topic, payload, qos, retain).await;
    }

    async fn disconnect(mut self) {
        match &self.sender {
            Sender::Four(client) => client.disconnect().await.unwrap(),
            Sender::Five(client) => client.disconnect().await.unwrap(),
        }
        while timeout(PATIENCE, self.heard.recv()).await.expect("it ends").is_some() {}
    }
}

impl Sender {
    async fn publish(&self, topic: &str, payload: &str, qos: u8, retain: bool) {
        let payload = payload.to_owned();
        match self {
            Self::Four(client) => {
                client.publish(topic, rumqttc::qos(qos).unwrap(), retain, payload).await.unwrap();
            }
            Self::Five(client) => {
                client.publish(topic, v5::mqttbytes::qos(qos).unwrap(), retain, payload).await.unwrap();
            }
        }
    }
}

async fn hear_four(mut list: rumqttc::EventLoop, tell: mpsc::UnboundedSender<Heard>) {
    use rumqttc::{Event, Outgoing, Packet};
    loop {
        let heard = match list.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(ack))) => Heard::Connected(ack.session_present),
            Ok(Event::Incoming(Packet::SubAck(_))) => Heard::Subscribed,
            Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => Heard::Acked,
            Ok(Event::Incoming(Packet::Publish(p))) => Heard::Message {
                topic: p.topic,
                payload: String::from_utf8(p.payload.to_vec()).unwrap(),
                qos: p.qos as u8,
                retain: p.retain,
            },
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => continue,
            Err(_) => {
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = tell.send(heard);
    }
}

async fn hear_five(mut list: v5::EventLoop, tell: mpsc::UnboundedSender<Heard>) {
    use rumqttc::Outgoing;
    use v5::Event;
    use v5::mqttbytes::v5::Packet;
    loop {
        let heard = match list.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(ack))) => Heard::Connected(ack.session_present),
            Ok(Event::Incoming(Packet::SubAck(_))) => Heard::Subscribed,
            Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => Heard::Acked,
            Ok(Event::Incoming(Packet::Publish(p))) => Heard::Message {
                topic: String::from_utf8(p.topic.to_vec()).unwrap(),
                payload: String::from_utf8(p.payload.to_vec()).unwrap(),
                qos: p.qos as u8,
                retain: p.retain,
            },
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => continue,
            Err(_) => {
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = tell.send(heard);
    }
}

#[tokio::test]
async fn every_quality_of_service_goes_both_ways() {
    let gateway = Gateway::start("").await;
    for version in VERSIONS {
        let (publisher, _) = Client::connect(&gateway, version, "p", false, None).await;
        publisher.publish("q/kept", "kept", 1, true).await;
        for granted in 0..=2 {
            let (mut subscriber, _) = Client::connect(&gateway, version, "s", false, None).await;
            subscriber.subscribe("q/+", granted).await;
            let message = |topic: &str, payload: &str, asked: u8, retain| Heard::Message {
                topic: topic.to_owned(),
                payload: payload.to_owned(),
                qos: asked.min(granted),
                retain,
            };
            assert_eq!(subscriber.message().await, message("q/kept", "kept", 1, true));
            let large = "x".repeat(500_000);
            for asked in 0..=2 {
                for payload in ["", "grün", &large] {
                    publisher.publish("q/x", payload, asked, false).await;
                    assert_eq!(subscriber.message().await, message("q/x", payload, asked, false), "{version:?}");
                }
            }
            subscriber.disconnect().await;
        }
        publisher.disconnect().await;
    }
}

#[tokio::test]
async fn ten_thousand_messages_arrive_once_and_in_order() {
    const COUNT: u32 = 10_000;
    let gateway = Gateway::start("").await;
    for (version, other) in [(VERSIONS[0], VERSIONS[1]), (VERSIONS[1], VERSIONS[0])] {
        let (mut subscriber, _) = Client::connect(&gateway, version, "s", false, None).await;
        subscriber.subscribe("many", 1).await;
        let (mut publisher, _) = Client::connect(&gateway, other, "p", false, None).await;
        let sender = publisher.sender.clone();
        let publishing = tokio::spawn(async move {
            for n in 0..COUNT {
                sender.publish("many", &n.to_string(), 1, false).await;
            }
        });
        for n in 0..COUNT {
            assert_eq!(subscriber.payload().await, n.to_string(), "{version:?}");
        }
        publishing.await.unwrap();
        for _ in 0..COUNT {
            publisher.until(Heard::Acked).await;
        }
        publisher.publish("many", "end", 1, false).await;
        assert_eq!(subscriber.payload().await, "end", "{version:?}");
        publisher.disconnect().await;
        subscriber.disconnect().await;
    }
}

#[tokio::test]
async fn kept_sessions_and_wills() {
    let mut gateway = Gateway::start("").await;
    for version in VERSIONS {
        let id = format!("{version:?}");
        let (mut keeper, session) = Client::connect(&gateway, version, &id, true, Some("gone")).await;
        assert!(!session);
        keeper.subscribe("kept", 2).await;
        let (mut watcher, _) = Client::connect(&gateway, version, "watcher", false, None).await;
        watcher.subscribe("gone", 1).await;
        drop(keeper);
        assert_eq!(watcher.payload().await, "gone");
        for n in 0..300 {
            watcher.publish("kept", &n.to_string(), 1, false).await;
        }
        for _ in 0..300 {
            watcher.until(Heard::Acked).await;
        }
        let (mut keeper, session) = Client::connect(&gateway, version, &id, true, Some("gone")).await;
        assert!(session);
        for n in 0..300 {
            assert_eq!(keeper.payload().await, n.to_string(), "{version:?}");
        }

        // The gateway is killed: both come back by themselves, the kept session as well. What it had of the last
        // acknowledgements may be forgotten. (At QoS 2, PUBREL would come again [MQTT-4.4.0-1]; rumqttc forgets its own
        // side when it connects again, and would end each connection with that.)
        gateway.kill().await;
        gateway.start_again().await;
        keeper.until(Heard::Connected(true)).await;
        watcher.until(Heard::Connected(false)).await;
        watcher.subscribe("gone", 1).await;
        for n in 0..100 {
            watcher.publish("kept", &format!("again {n}"), 1, false).await;
        }
        let mut came = Vec::new();
        while came.last().is_none_or(|last| last != "again 99") {
            came.push(keeper.payload().await);
        }
        came.retain(|payload| payload.starts_with("again"));
        assert_eq!(came, (0..100).map(|n| format!("again {n}")).collect::<Vec<_>>(), "{version:?}");
        // A good-bye leaves no will.
        keeper.disconnect().await;
        watcher.publish("gone", "nobody", 1, false).await;
        assert_eq!(watcher.payload().await, "nobody");
        watcher.disconnect().await;
    }
}
