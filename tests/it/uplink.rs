//! The uplink between a broker of ours and a Mosquitto as the cloud.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fieldpost::broker::access::Access;
use fieldpost::broker::{self, Broker, Link};
use fieldpost::message::{Message, QoS};
use fieldpost::mqtt::wire::Framed;
use fieldpost::mqtt::{Ack, Connect, Packet, PacketId, Publish, RetainHandling, Subscribe, SubscribeOptions, Version};
use fieldpost::status::{self, Pulse, State};
use fieldpost::store::{self, Store};
use fieldpost::uplink::{Config, Uplink};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::Mosquitto;
use crate::support::process::PATIENCE;

/// A local broker with one uplink.
struct Gateway {
    broker: Broker,
    status: watch::Receiver<status::Uplink>,
    stop: CancellationToken,
    uplink: JoinHandle<()>,
}

impl Gateway {
    /// Starts both; `config` is that of the uplink but for the url, whose port is `port`.
    async fn start(scheme: &str, port: u16, config: &str) -> Self {
        let url = format!("url = \"{scheme}://localhost:{port}\"\n{config}");
        let config: Config = toml::from_str(&url).unwrap();
        let store = Store::open(&store::Config { path: ":memory:".into(), ..store::Config::default() }).unwrap();
        let (broker, _, task) = Broker::start(
            &broker::Config::default(),
            Duration::from_millis(50),
            Arc::new(Access::new(None, Vec::new())),
            store,
            Vec::new(),
            Pulse::new(),
        );
        tokio::spawn(task);
        let (sender, status) = watch::channel(status::Uplink::default());
        let uplink = Uplink::new("cloud".into(), config, "plant7".into(), broker.clone(), sender, Pulse::new());
        uplink.prepare().await;
        let stop = CancellationToken::new();
        let uplink = tokio::spawn(uplink.run(stop.clone()));
        Self { broker, status, stop, uplink }
    }

    async fn publish(&self, topic: &str, payloads: std::ops::Range<u32>) {
        let messages = payloads.map(|n| Message::new(topic, n.to_string())).collect();
        assert!(self.broker.publish(messages).await);
    }

    async fn until(&mut self, what: impl FnMut(&status::Uplink) -> bool) -> status::Uplink {
        let found = timeout(PATIENCE, self.status.wait_for(what)).await.map(|status| status.unwrap().clone());
        found.unwrap_or_else(|_| panic!("the uplink stays {:?}", self.status.borrow()))
    }

    async fn up(&mut self) {
        self.until(|status| status.state == State::Up).await;
    }

    /// Why the uplink is down, once it is.
    async fn down(&mut self) -> String {
        match self.until(|status| matches!(status.state, State::Down(_))).await.state {
            State::Down(why) => why,
            _ => unreachable!("it was waited for"),
        }
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.uplink).await.expect("it ends in time").unwrap();
        self.broker.stop().await;
    }
}

/// A client of the cloud with a session that outlives its connection.
struct Client {
    framed: Framed<TcpStream>,
    early: Vec<Publish>,
}

impl Client {
    async fn connect(cloud: &Mosquitto, filter: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", cloud.port())).await.unwrap();
        let mut client = Self { framed: Framed::client(stream, Version::V5, 1 << 20), early: Vec::new() };
        client.send(connect("observer", u32::MAX)).await;
        client.until(|packet| matches!(packet, Packet::ConnAck(ack) if !ack.reason.is_error())).await;
        client.send(subscribe(filter)).await;
        client.until(|packet| matches!(packet, Packet::SubAck { .. })).await;
        client
    }

    async fn send(&mut self, packet: Packet) {
        self.framed.queue(&packet).unwrap();
        self.framed.flush().await.unwrap();
    }

    async fn until(&mut self, done: impl Fn(&Packet) -> bool) {
        loop {
            for packet in timeout(PATIENCE, self.framed.recv()).await.expect("an answer in time").unwrap() {
                if done(&packet) {
                    return;
                }
                self.keep(packet).await;
            }
        }
    }

    async fn keep(&mut self, packet: Packet) {
        if let Packet::Publish(publish) = packet {
            if let Some(id) = publish.id {
                self.send(Packet::PubAck(Ack::ok(id))).await;
            }
            self.early.push(publish);
        }
    }

    /// The next message, as topic and text.
    async fn next(&mut self) -> (String, String, bool) {
        while self.early.is_empty() {
            let packets = timeout(PATIENCE, self.framed.recv()).await.expect("a message in time").unwrap();
            for packet in packets {
                self.keep(packet).await;
            }
        }
        let publish = self.early.remove(0);
        let text = String::from_utf8_lossy(&publish.message.payload).into_owned();
        (publish.message.topic.to_string(), text, publish.retain)
    }

    /// The numbers on `topic` until all of `0..count` came; each for the first time in order.
    async fn all(&mut self, topic: &str, count: u32) {
        let mut seen = BTreeSet::new();
        while (seen.len() as u32) < count {
            let (on, text, _) = self.next().await;
            if on == topic {
                let n: u32 = text.parse().unwrap();
                if seen.insert(n) {
                    assert_eq!(n as usize + 1, seen.len(), "{n} came too early");
                }
            }
        }
    }
}

fn connect(client_id: &str, expiry: u32) -> Packet {
    Packet::Connect(Box::new(Connect { clean_start: false, expiry, ..Connect::new(Version::V5, client_id) }))
}

fn subscribe(filter: &str) -> Packet {
    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: true,
        retain_handling: RetainHandling::Send,
    };
    let filters = vec![(filter.into(), options)];
    Packet::Subscribe(Box::new(Subscribe { id: PacketId::MIN, filters, subscription_id: None }))
}

/// A client of the local broker.
async fn local(broker: &Broker, filter: &str) -> Link {
    let mut link = broker.link().await;
    link.send(vec![connect("local", 0), subscribe(filter)]).await;
    loop {
        let packets = timeout(PATIENCE, link.recv()).await.expect("an answer in time").unwrap();
        if packets.iter().any(|packet| matches!(packet, Packet::SubAck { .. })) {
            return link;
        }
    }
}

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
async fn over_tls_it_matters_who_vouches_for_the_cloud() {
    let (cloud, other) = (Mosquitto::tls("").await, Mosquitto::tls("").await);
    let ca = |of: &Mosquitto| format!("publish = [\"plant/#\"]\nca = \"{}\"", of.authority().display());
    let mut gateway = Gateway::start("mqtts", cloud.port(), &ca(&cloud)).await;
    gateway.up().await;
    gateway.publish("plant/a", 0..100).await;
    gateway.until(|status| status.sent == 100).await;
    gateway.end().await;

    let mut gateway = Gateway::start("mqtts", cloud.port(), &ca(&other)).await;
    let why = gateway.down().await;
    assert!(why.contains("not trusted here") || why.contains("BadSignature"), "{why}");
    gateway.end().await;

    let mut gateway = Gateway::start("mqtts", cloud.port(), "ca = \"/nowhere.pem\"").await;
    assert!(gateway.down().await.contains("/nowhere.pem"));
    gateway.end().await;

    let plain = Mosquitto::start("").await;
    let mut gateway = Gateway::start("mqtts", plain.port(), &ca(&cloud)).await;
    let why = gateway.down().await;
    assert!(why.starts_with("TLS: "), "{why}");
    gateway.end().await;
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
