//! Packets that are almost right, over thousands of connections. Every run sends the same bytes.
//!
//! A connection ends with its first malformed packet, so that spoilt bytes alone would hardly reach the router. Most of
//! what is sent here comes from a pool: packets that were spoilt and are still packets, in any order and state, many
//! behind each other on a connection; the end of each conversation is spoilt as it comes. (A million more, without
//! sockets: the unit tests of the router.)

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fieldpost::message::{Message, Properties, QoS};
use fieldpost::mqtt::wire::Reader;
use fieldpost::mqtt::{Ack, Connect, Packet, PacketId, Publish, Reason, Subscribe, SubscribeOptions, Version, Will};
use rustix::net::sockopt::set_socket_linger;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::paho::Paho;
use super::raw::{self, Steady};
use crate::support::Gateway;

const CONNECTIONS: u64 = 10_000;
const AT_ONCE: u64 = 16;
/// On a slow machine there are fewer connections.
const TIME: Duration = Duration::from_secs(20);
/// Spoilt packets that are still packets, of each version; and how many of them go over one connection.
const POOL: usize = 3000;
const IN_A_ROW: usize = 150;
const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

type Pools = Arc<Vec<Vec<Vec<u8>>>>;

#[tokio::test]
async fn no_bytes_bring_it_down() {
    let gateway =
        Gateway::start("[broker]\nlisten = \"@mqtt@\"\nsys-interval = \"200ms\"\nmax-packet = \"64KiB\"\n").await;
    let mut pools = Vec::new();
    for version in VERSIONS {
        pools.push(pool(version).await);
    }
    let pools = Arc::new(pools);
    let mut steady = Steady::start(&gateway).await;
    let port = gateway.mqtt_port();
    let (end, sent) = (Instant::now() + TIME, Arc::new(AtomicUsize::new(0)));
    let strands: Vec<_> = (0..AT_ONCE)
        .map(|strand| {
            let (pools, sent) = (pools.clone(), sent.clone());
            tokio::spawn(async move {
                for seed in (strand..CONNECTIONS).step_by(AT_ONCE as usize) {
                    if Instant::now() > end {
                        break;
                    }
                    sent.fetch_add(converse(port, seed, &pools).await, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for strand in strands {
        strand.await.unwrap();
        steady.goes_on().await;
    }
    let sent = sent.load(Ordering::Relaxed);
    let taken = received(&gateway).await;
    println!("{sent} spoilt packets were sent, {taken} packets were taken");
    assert!(taken > 50_000, "only {taken} packets of {sent}");
    let log = gateway.log();
    assert!(!log.contains("panicked"), "{log}");
    let mut paho = Paho::start(&gateway);
    for version in [3, 4, 5] {
        paho.connect("after", json!({"v": version, "id": "after"})).await;
        paho.subscribe("after", "after/all", 2).await;
        paho.publish("after", "after/all", "still here", 2).await;
        assert_eq!(paho.payloads("after", 1).await, ["still here"]);
        paho.disconnect("after").await;
    }
    drop(steady);
    // What it has kept is good enough to start again with.
    let mut gateway = gateway;
    gateway.restart().await;
}

/// How many packets the decoder took, all in all.
async fn received(gateway: &Gateway) -> usize {
    let mut raw = raw::Raw::connect(gateway, raw::connect(Version::V311, "counts", 0)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    raw.send(raw::subscribe("$SYS/broker/messages/received", QoS::AtMostOnce)).await;
    loop {
        if let Packet::Publish(publish) = raw.next().await {
            return std::str::from_utf8(&publish.message.payload).unwrap().parse().unwrap();
        }
    }
}

/// Packets of this version that were spoilt and are still packets.
async fn pool(version: Version) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(version as u64);
    let connect = raw::bytes(version, &[Packet::Connect(Box::new(raw::connect(version, "c", 0)))]).await;
    let mut pool = Vec::new();
    while pool.len() < POOL {
        let good = raw::bytes(version, &[packet(&mut random)]).await;
        let mut bytes = good.clone();
        change(&mut random, &mut bytes, 0);
        // Half of the time the length is made right again: what is wrong is then inside.
        if random.bool() && (2..130).contains(&bytes.len()) {
            bytes[1] = (bytes.len() - 2) as u8;
        }
        // It ends where it says: a PINGREQ behind it is one.
        let whole = [&connect[..], &bytes, b"\xc0\0"].concat();
        let mut reader = Reader::server(&whole[..], 64 << 10);
        let is_packet = matches!(&reader.recv().await.as_deref(), Ok([_, packet, Packet::PingReq])
            if !matches!(packet, Packet::Disconnect { .. }));
        if is_packet && bytes != good {
            pool.push(bytes);
        }
    }
    pool
}

/// One connection: packets of the pool, a spoilt conversation in pieces, and an end of one kind or another. How many
/// spoilt packets were sent.
async fn converse(port: u16, seed: u64, pools: &Pools) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let kind = random.usize(..3);
    let version = VERSIONS[kind];
    let mut packets = vec![Packet::Connect(Box::new(connect(&mut random, version)))];
    packets.extend((0..random.usize(..12)).map(|_| packet(&mut random)));
    let mut parts = Vec::new();
    for packet in &packets {
        parts.push(raw::bytes(version, std::slice::from_ref(packet)).await);
    }
    let mut bytes = Vec::new();
    let mut sent = 1;
    if random.u8(..8) > 0 {
        bytes.extend(parts.remove(0));
        let pool = &pools[kind];
        (0..IN_A_ROW).for_each(|_| bytes.extend(&pool[random.usize(..pool.len())]));
        sent += IN_A_ROW;
    }
    if !parts.is_empty() {
        bytes.extend(spoil(&mut random, parts));
    }
    let Ok(stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else {
        panic!("seed {seed}: nobody listens")
    };
    let reset = random.u8(..4) == 0;
    if reset {
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }
    let (mut read, mut write) = stream.into_split();
    let writing = async {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let piece = random.usize(1..=rest.len());
            // It may close on us at any byte.
            if write.write_all(&rest[..piece]).await.is_err() {
                break;
            }
            rest = &rest[piece..];
        }
        if !reset {
            let _ = write.shutdown().await;
        }
    };
    let reading = async {
        let mut answers = vec![0; 1 << 14];
        while !reset && read.read(&mut answers).await.is_ok_and(|n| n > 0) {}
    };
    // Who resets does not read: what it does not get to write is not waited for.
    let patience = Duration::from_secs(if reset { 1 } else { 20 });
    let closed = timeout(patience, async { tokio::join!(writing, reading) }).await;
    assert!(reset || closed.is_ok(), "seed {seed}: the connection stays open");
    sent
}

fn spoil(random: &mut fastrand::Rng, mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    // The order of packets first; CONNECT stays where it is, mostly.
    match random.u8(..12) {
        0 => random.shuffle(&mut parts),
        1 => parts.push(parts[0].clone()),
        2 => {
            let twice = parts[random.usize(..parts.len())].clone();
            parts.push(twice);
        }
        _ => {}
    }
    let first = if random.u8(..4) == 0 { 0 } else { parts[0].len() };
    let mut bytes = parts.concat();
    for _ in 0..random.u8(..5) {
        change(random, &mut bytes, first);
    }
    bytes
}

/// Changes something behind the first bytes.
fn change(random: &mut fastrand::Rng, bytes: &mut Vec<u8>, first: usize) {
    if first >= bytes.len() {
        return;
    }
    let at = random.usize(first..bytes.len());
    match random.u8(..7) {
        0 => bytes[at] ^= 1 << random.u8(..8),
        1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.usize(..5)],
        2 => bytes[at] = random.u8(..),
        3 => bytes.insert(at, random.u8(..)),
        4 => drop(bytes.remove(at)),
        5 => bytes.truncate(at),
        _ => {
            let end = bytes.len().min(at + random.usize(1..40));
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
    }
}

fn connect(random: &mut fastrand::Rng, version: Version) -> Connect {
    let expiry = [0, 1, 60, u32::MAX][random.usize(..4)];
    let will = random.bool().then(|| Will { message: message(random), delay: Duration::from_secs(random.u64(..2)) });
    Connect {
        will,
        clean_start: expiry == 0 || random.bool(),
        // Few ids: they take each other's sessions.
        ..raw::connect(version, &format!("fuzz-{}", random.u8(..20)), expiry)
    }
}

fn packet(random: &mut fastrand::Rng) -> Packet {
    let id = PacketId::new(random.u16(1..6)).expect("not zero");
    let ack = Ack { id, reason: [Reason::SUCCESS, Reason::UNSPECIFIED, Reason::QUOTA_EXCEEDED][random.usize(..3)] };
    match random.u8(..16) {
        0 => Packet::PubAck(ack),
        1 => Packet::PubRec(ack),
        2 => Packet::PubRel(Ack::ok(id)),
        3 => Packet::PubComp(Ack::ok(id)),
        4 => Packet::PingReq,
        5 => Packet::Disconnect { reason: Reason::SUCCESS, expiry: random.bool().then_some(5) },
        6 => Packet::Unsubscribe { id, filters: vec![filter(random), filter(random)] },
        7..=9 => {
            let options = SubscribeOptions {
                qos: qos(random),
                no_local: random.bool(),
                retain_as_published: random.bool(),
                ..SubscribeOptions::default()
            };
            let filters = (0..random.usize(1..4)).map(|_| (filter(random), options)).collect();
            let subscription_id = random.bool().then(|| random.u32(1..100));
            Packet::Subscribe(Box::new(Subscribe { id, filters, subscription_id }))
        }
        _ => {
            let message = message(random);
            Packet::Publish(Publish {
                id: (message.qos != QoS::AtMostOnce).then_some(id),
                dup: false,
                qos: message.qos,
                retain: message.retain,
                message: message.into(),
                topic_alias: NonZeroU16::new(random.u16(..3)),
                subscription_ids: Vec::new(),
                place: None,
            })
        }
    }
}

fn message(random: &mut fastrand::Rng) -> Message {
    let properties = Properties {
        utf8: [None, Some(false), Some(true)][random.usize(..3)],
        expiry: random.bool().then_some(1),
        content_type: random.bool().then(|| "text/plain".into()),
        response_topic: random.bool().then(|| "fuzz/answer".into()),
        correlation: random.bool().then(|| vec![0, 255]),
        user: vec![("a".into(), "ü".into()); random.usize(..3)],
    };
    let topic = ["fuzz/a", "fuzz/b/c", "é", "/", "$SYS/x", "fuzz/日本"][random.usize(..6)];
    let payload = vec![random.u8(..); [0, 1, 10, 300, 5000][random.usize(..5)]];
    Message {
        qos: qos(random),
        retain: random.u8(..4) == 0,
        properties: random.bool().then(|| Box::new(properties)),
        ..Message::new(topic, payload)
    }
}

fn filter(random: &mut fastrand::Rng) -> std::sync::Arc<str> {
    let deep = "+/".repeat(150);
    ["#", "+", "fuzz/#", "fuzz/+/c", "fuzz/a", "é", "$SYS/#", "$share/g/fuzz/#", "", "a/#/b", &deep][random.usize(..11)]
        .into()
}

fn qos(random: &mut fastrand::Rng) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][random.usize(..3)]
}
