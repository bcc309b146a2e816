//! What comes and goes leaves nothing behind in the program's memory: its resident size, before and after.
//!
//! A first round brings everything to its usual size (buffers, the allocator's arenas, SQLite's cache): what the
//! allocator keeps of it is used by the second. That one may leave [`TOLERANCE`], which is little beside what the same things take while they are there: a
//! router that forgot them would hold 20 to 200 MiB.

use std::time::Duration;

use fieldpost::message::QoS;
use fieldpost::mqtt::wire::{Framed, Writer};
use fieldpost::mqtt::{Ack, Packet, PacketId, Subscribe, SubscribeOptions, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::raw;
use crate::support::Gateway;
use crate::support::process::PATIENCE;

const TOLERANCE: u64 = 6 << 20;
/// Packets on the way before their answers are awaited.
const AT_ONCE: u32 = 10_000;

/// Bytes of RAM that the gateway has.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Waits until it is no larger than `most`.
async fn shrinks(gateway: &Gateway, most: u64, what: &str) {
    let end = Instant::now() + PATIENCE;
    while resident(gateway) > most {
        let over = (resident(gateway) - most) >> 10;
        assert!(Instant::now() < end, "{what}: {over} KiB more than before and the tolerance");
        sleep(Duration::from_millis(200)).await;
    }
}

async fn connect(gateway: &Gateway, client_id: &str) -> Framed<TcpStream> {
    let mut framed = Framed::client(raw::socket(gateway).await, Version::V5, 1 << 20);
    framed.queue(&Packet::Connect(Box::new(raw::connect(Version::V5, client_id, 0)))).unwrap();
    framed.flush().await.unwrap();
    assert!(matches!(framed.recv().await.unwrap()[..], [Packet::ConnAck(_)]));
    framed
}

/// Sends the packets of `count` rounds, and awaits as many answers, so many rounds at a time.
async fn ask(gateway: &Gateway, count: u32, mut packet: impl FnMut(u32) -> Packet) {
    let mut framed = connect(gateway, "asks").await;
    let mut open = 0;
    for n in 0..count {
        framed.queue(&packet(n)).unwrap();
        open += 1;
        if open == AT_ONCE || n + 1 == count {
            framed.flush().await.unwrap();
            while open > 0 {
                let packets = timeout(PATIENCE, framed.recv()).await.expect("answers in time").unwrap();
                open -= packets.len() as u32;
            }
        }
    }
}

/// Publishes at QoS 0 as fast as the socket takes it, and waits until the last has come through.
async fn pour(gateway: &Gateway, count: u32, topic: impl Fn(u32) -> String) {
    let mut stream = raw::socket(gateway).await;
    let mut bytes =
        raw::bytes(Version::V311, &[Packet::Connect(Box::new(raw::connect(Version::V311, "pours", 0)))]).await;
    for n in 0..count {
        let mut writer = Writer::new(&mut bytes, Version::V311);
        writer.queue(&Packet::Publish(raw::publish(0, QoS::AtMostOnce, &topic(n), "nobody wants it"))).unwrap();
        writer.flush().await.unwrap();
        if bytes.len() > 1 << 16 {
            stream.write_all(&bytes).await.unwrap();
            bytes.clear();
        }
    }
    stream.write_all(&[&bytes[..], b"\xc0\0"].concat()).await.unwrap();
    let mut answers = [0; 6];
    timeout(PATIENCE, stream.read_exact(&mut answers)).await.expect("CONNACK and PINGRESP").unwrap();
}

async fn messages_that_nobody_wants(gateway: &Gateway, count: u32) {
    pour(gateway, count, |n| format!("nobody/{}", n % 10)).await;
}

async fn topics(gateway: &Gateway, count: u32) {
    pour(gateway, count, |n| format!("plain/{n}/{n}")).await;
}

async fn retained(gateway: &Gateway, count: u32) {
    for payload in ["retained", ""] {
        ask(gateway, count, |n| {
            let mut publish = raw::publish((n % 60_000 + 1) as u16, QoS::AtLeastOnce, &format!("kept/{n}"), payload);
            let message = std::sync::Arc::make_mut(&mut publish.message);
            (publish.retain, message.retain) = (true, true);
            Packet::Publish(publish)
        })
        .await;
    }
}

async fn filters(gateway: &Gateway, count: u32) {
    ask(gateway, 2 * count, |n| {
        let filter = match n / 2 % 3 {
            0 => format!("a/{}/+/b", n / 2),
            1 => format!("$share/g{0}/x/{0}", n / 2),
            _ => format!("{}/#", n / 2),
        };
        let id = PacketId::MIN;
        if n % 2 == 0 {
            let filters = vec![(filter.into(), SubscribeOptions::default())];
            Packet::Subscribe(Box::new(Subscribe { id, filters, subscription_id: None }))
        } else {
            Packet::Unsubscribe { id, filters: vec![filter.into()] }
        }
    })
    .await;
}

/// Some with a session that is kept for a second, some that are never seen again, some that leave without a word.
async fn clients(gateway: &Gateway, count: u32) {
    let port = gateway.mqtt_port();
    let strands: Vec<_> = (0..8)
        .map(|strand| {
            tokio::spawn(async move {
                for n in (strand..count).step_by(8) {
                    let expiry = n % 2;
                    let connect = Packet::Connect(Box::new(raw::connect(Version::V5, &format!("client-{n}"), expiry)));
                    let mut packets = vec![connect, raw::subscribe(&format!("own/{n}"), QoS::AtLeastOnce)];
                    packets.push(Packet::Publish(raw::publish(1, QoS::AtLeastOnce, &format!("own/{n}"), "x")));
                    packets.push(Packet::PubAck(Ack::ok(PacketId::MIN)));
                    if n % 3 > 0 {
                        let reason = fieldpost::mqtt::Reason::SUCCESS;
                        packets.push(Packet::Disconnect { reason, expiry: None });
                    }
                    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                    stream.write_all(&raw::bytes(Version::V5, &packets).await).await.unwrap();
                    // At least its CONNACK has come.
                    stream.read_u8().await.unwrap();
                }
            })
        })
        .collect();
    for strand in strands {
        strand.await.unwrap();
    }
    let gone = |all: &serde_json::Value| {
        let broker = &all["status"]["broker"];
        broker["clients"] == 0 && broker["queues"].as_array().unwrap().is_empty()
    };
    gateway.until("all are gone, and their sessions", gone).await;
}

/// A gateway that has room for all of it; that its bounds hold is tested elsewhere.
async fn gateway() -> Gateway {
    let limits = "max-subscriptions = 30000\nmax-sessions = 40000\nmax-retained = 300000\nreceive-maximum = 20000\n";
    Gateway::start(&format!("[broker]\nlisten = \"@mqtt@\"\n{limits}")).await
}

/// Runs `$what` with `$first`, then with `$count`.
macro_rules! leaves_nothing {
    ($what:ident, $first:expr, $count:expr) => {{
        let gateway = gateway().await;
        $what(&gateway, $first).await;
        sleep(Duration::from_secs(1)).await;
        let before = resident(&gateway);
        $what(&gateway, $count).await;
        shrinks(&gateway, before + TOLERANCE, stringify!($what)).await;
    }};
}

#[tokio::test]
async fn two_million_messages_that_nobody_wants_leave_nothing() {
    leaves_nothing!(messages_that_nobody_wants, 200_000, 2_000_000);
}

#[tokio::test]
async fn two_hundred_thousand_topics_leave_nothing() {
    leaves_nothing!(topics, 200_000, 200_000);
}

#[tokio::test]
async fn two_hundred_thousand_retained_set_and_cleared_leave_nothing() {
    leaves_nothing!(retained, 200_000, 200_000);
}

#[tokio::test]
async fn twenty_thousand_filters_subscribed_and_left_leave_nothing() {
    leaves_nothing!(filters, 5_000, 20_000);
}

#[tokio::test]
async fn thirty_thousand_clients_come_and_gone_leave_nothing() {
    leaves_nothing!(clients, 15_000, 30_000);
}
