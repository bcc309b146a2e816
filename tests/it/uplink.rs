//! The uplink between a broker of ours and a Mosquitto, or a cloud by our own hand, as the cloud.

mod carrying;
mod failover;
mod hand_made;
mod refusals;
mod sessions;
mod ways;

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
        Self::start_with(&format!("url = \"{scheme}://localhost:{port}\"\n{config}")).await
    }

    /// Starts both; `config` is all of the uplink's.
    async fn start_with(config: &str) -> Self {
        let config: Config = toml::from_str(config).unwrap();
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
