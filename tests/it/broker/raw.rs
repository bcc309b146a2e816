//! A client that does what no library does: single packets, any bytes.

use std::sync::Arc;
use std::time::Duration;

use fieldpost::message::{Message, QoS};
use fieldpost::mqtt::wire::{Framed, Writer};
use fieldpost::mqtt::{Connect, Packet, PacketId, Publish, Reason, Subscribe, SubscribeOptions, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::Gateway;
use crate::support::process::PATIENCE;

/// A connection on which single packets are sent and awaited.
pub struct Raw {
    framed: Framed<TcpStream>,
    early: Vec<Packet>,
}

impl Raw {
    /// Connects; the CONNACK is the first packet to come.
    pub async fn connect(gateway: &Gateway, connect: Connect) -> Self {
        Self::connect_to(gateway.mqtt_port(), connect).await
    }

    /// As [`Raw::connect`], to any broker on this machine.
    pub async fn connect_to(port: u16, connect: Connect) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut raw = Self { framed: Framed::client(stream, connect.version, 1 << 20), early: Vec::new() };
        raw.send(Packet::Connect(Box::new(connect))).await;
        raw
    }

    pub async fn send(&mut self, packet: Packet) {
        self.framed.queue(&packet).unwrap();
        self.framed.flush().await.unwrap();
    }

    /// The next packet.
    pub async fn next(&mut self) -> Packet {
        while self.early.is_empty() {
            let packets = timeout(PATIENCE, self.framed.recv()).await.expect("an answer in time");
            self.early = packets.expect("the connection holds");
        }
        self.early.remove(0)
    }
}

/// A connection without a byte sent.
pub async fn socket(gateway: &Gateway) -> TcpStream {
    TcpStream::connect(("127.0.0.1", gateway.mqtt_port())).await.unwrap()
}

/// Sends `bytes` on a connection of their own and waits until the gateway closes it; what it said before.
pub async fn refused(gateway: &Gateway, bytes: &[u8]) -> Vec<u8> {
    let mut stream = socket(gateway).await;
    // It may be closed before the last byte is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = end.unwrap_or_else(|_| panic!("not closed after {:?}, said {answer:?}", &bytes[..bytes.len().min(40)]));
    answer
}

/// A CONNECT; clean when `expiry` is zero.
pub fn connect(version: Version, client_id: &str, expiry: u32) -> Connect {
    Connect { clean_start: expiry == 0, expiry, ..Connect::new(version, client_id) }
}

pub fn subscribe(filter: &str, qos: QoS) -> Packet {
    let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
    let filters = vec![(filter.into(), options)];
    Packet::Subscribe(Box::new(Subscribe { id: PacketId::MIN, filters, subscription_id: None }))
}

pub fn publish(id: u16, qos: QoS, topic: &str, payload: &str) -> Publish {
    let message = Arc::new(Message { qos, ..Message::new(topic, payload.to_owned()) });
    let (dup, retain, topic_alias) = (false, false, None);
    Publish { id: PacketId::new(id), dup, qos, retain, message, topic_alias, subscription_ids: Vec::new(), place: None }
}

/// The bytes of packets.
pub async fn bytes(version: Version, packets: &[Packet]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, version);
    for packet in packets {
        writer.queue(packet).unwrap();
    }
    writer.flush().await.unwrap();
    bytes
}

/// A good client, to be undisturbed by bad ones: it sends itself one message after the other.
pub struct Steady {
    task: JoinHandle<()>,
    rounds: watch::Receiver<u32>,
}

impl Steady {
    pub async fn start(gateway: &Gateway) -> Self {
        let mut raw = Raw::connect(gateway, connect(Version::V5, "steady", 0)).await;
        assert!(matches!(raw.next().await, Packet::ConnAck(_)));
        raw.send(subscribe("steady", QoS::AtLeastOnce)).await;
        assert!(matches!(raw.next().await, Packet::SubAck { .. }));
        let (sender, rounds) = watch::channel(0);
        let task = tokio::spawn(async move {
            for round in 1.. {
                let mine = publish(1, QoS::AtLeastOnce, "steady", &round.to_string());
                raw.send(Packet::Publish(mine.clone())).await;
                let (mut acked, mut came) = (false, false);
                while !(acked && came) {
                    match raw.next().await {
                        // The disk is behind: nobody got it, and it comes again.
                        Packet::PubAck(ack) if ack.reason == Reason::QUOTA_EXCEEDED => {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                            raw.send(Packet::Publish(mine.clone())).await;
                        }
                        Packet::PubAck(ack) => {
                            assert!(!ack.reason.is_error(), "{ack:?}");
                            acked = true;
                        }
                        Packet::Publish(publish) => {
                            assert_eq!(publish.message.payload, mine.message.payload);
                            came = true;
                            let ack = fieldpost::mqtt::Ack::ok(publish.id.expect("QoS 1"));
                            raw.send(Packet::PubAck(ack)).await;
                        }
                        other => panic!("{other:?}"),
                    }
                }
                if sender.send(round).is_err() {
                    return;
                }
            }
        });
        Self { task, rounds }
    }

    /// It has gone on until now, and goes on.
    pub async fn goes_on(&mut self) {
        let before = *self.rounds.borrow();
        let later = self.rounds.wait_for(|rounds| *rounds > before + 2);
        timeout(PATIENCE, later).await.expect("it goes on").expect("it was not disturbed");
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.task.abort();
    }
}
