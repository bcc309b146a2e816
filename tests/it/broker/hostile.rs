//! Hostile and clumsy clients, while a good one goes on ([`Steady`]: its messages come, in order).
//!
//! | what they do | what happens to them | where |
//! |---|---|---|
//! | any bytes, wrong packets, wrong state or direction | DISCONNECT with the reason (3.1.1: closed) | here |
//! | a million mutated packets, each version | decoder and router go on, order and sessions hold | unit tests of the router, `fuzz` |
//! | the same over sockets, through listener and store | as above | [`super::fuzz`] |
//! | bytes one by one; messages and fragments of a WebSocket | served | [`doors`] |
//! | silence and half handshakes, more than `max-waiting`, on every listener | closed; the oldest first when it is full | [`doors`] |
//! | headers that drip | closed after `connect-timeout` | [`doors`] |
//! | ten thousand connects and resets | nothing is left: no file, no client | [`doors`] |
//! | text, unmasked, huge, reserved, nested frames | closed | [`doors`] |
//! | WebSocket pings without end, answers unread | only the last is answered | [`doors`] |
//! | tiny packets without end, answers read or not | read no faster than they are dealt with; 8 MiB wait for the router | [`floods`] |
//! | never reading, at QoS 0, 1, 2, with a session or without | loses by `queue-full`, or goes on from the disk | here |
//! | never acknowledging | `max-inflight` messages or `max-queued-bytes`, whichever comes first | [`floods`] |
//! | stopping in the middle of a packet, or dripping | closed when the keep alive is over | [`floods`] |
//! | one client id taken over in a tight loop | each is let in, each will is published once | [`floods`] |
//! | acknowledging what never was | answered as the specification has it, or ignored | [`floods`] |
//! | twenty thousand filters in a packet, two hundred levels | those in the bounds are taken, all are answered | [`floods`] |
//! | packets of 256 MiB | go through where `max-packet` allows; else refused by their header | [`floods`] |
//! | announcing large packets | memory is for what has come | [`floods`] |
//! | what panics the task of a connection | that connection ends, its will is published | unit test of the connection |
//! | coming and going, in any number | memory returns | [`super::leaks`] |
//! | reaching a bound | told, counted, named | [`super::limits`] |

mod doors;
mod floods;

use std::time::Duration;

use fieldpost::message::QoS;
use fieldpost::mqtt::{Ack, Packet, Reason, Version};
use rustix::net::sockopt::set_socket_linger;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::paho::{Paho, numbers};
use super::raw::{self, Raw, Steady};
use crate::support::Gateway;

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

/// CONNECT of a client in this version, as bytes.
async fn connect(version: Version) -> Vec<u8> {
    raw::bytes(version, &[Packet::Connect(Box::new(raw::connect(version, "bad", 0)))]).await
}

/// The first byte, what stands before the properties of MQTT 5, what stands behind, the answer, and what it is.
type Case<'a> = (u8, &'a [u8], &'a [u8], Option<Reason>, &'a str);

/// A packet with this first byte and body.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    while rest > 0x7f {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    [&bytes, body].concat()
}

#[tokio::test]
async fn what_is_no_mqtt_is_closed() {
    let gateway = Gateway::start("").await;
    let mut steady = Steady::start(&gateway).await;
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = (0..10_000).map(|_| random.u8(..)).collect();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\0\0\0\0",
        &[0xff; 5000],
        &noise,
        // Ping, publish and subscribe before CONNECT.
        b"\xc0\x00",
        b"\x30\x05\x00\x01tpp",
        b"\x82\x06\x00\x01\x00\x01t\x00",
        // A length of five bytes, a CONNECT of nothing, one without a flag's fields.
        b"\x10\xff\xff\xff\xff\x7f",
        b"\x10\x00",
        b"\x10\x0a\x00\x04MQTT\x04\xc0\x00\x00",
        // Reserved flag, and a will's QoS without a will.
        b"\x10\x0d\x00\x04MQTT\x04\x03\x00\x00\x00\x01a",
        b"\x10\x0d\x00\x04MQTT\x04\x1a\x00\x00\x00\x01a",
    ] {
        assert_eq!(raw::refused(&gateway, bytes).await, b"", "{:?}", &bytes[..bytes.len().min(20)]);
        steady.goes_on().await;
    }
    // A version that does not exist is told so (MQTT 3.1.1, 3.1.2.2).
    let answer = raw::refused(&gateway, b"\x10\x0d\x00\x04MQTT\x09\x02\x00\x00\x00\x01a").await;
    assert_eq!(answer, b"\x20\x02\x00\x01");
}

#[tokio::test]
async fn a_client_that_breaks_the_rules_is_closed_and_told_why() {
    let gateway = Gateway::start("").await;
    let mut steady = Steady::start(&gateway).await;
    let cases: [Case; 10] = [
        (0x30, b"\0\x02a#", b"", Some(Reason::TOPIC_NAME_INVALID), "a wildcard in the topic of PUBLISH"),
        (0x30, b"\0\x02+x", b"", Some(Reason::TOPIC_NAME_INVALID), "another one"),
        (0x30, b"\0\x02a\0", b"", None, "NUL in a topic"),
        (0x30, b"\0\x02\xff\xfe", b"", None, "no UTF-8"),
        (0x36, b"\0\x01a\0\x01", b"", Some(Reason::MALFORMED), "QoS 3"),
        (0x32, b"\0\x01a\0\0", b"", None, "packet id 0"),
        (0x80, b"\0\x01", b"\0\x01t\0", Some(Reason::MALFORMED), "reserved flags of SUBSCRIBE"),
        (0x82, b"\0\x01", b"", None, "SUBSCRIBE without a filter"),
        (0x90, b"\0\x01", b"\0", Some(Reason::PROTOCOL_ERROR), "SUBACK from a client"),
        (0x30, b"\0\x01a", &[0; 2 << 20], Some(Reason::PACKET_TOO_LARGE), "a packet above the limit"),
    ];
    for version in VERSIONS {
        let connect = connect(version).await;
        for (first, head, tail, reason, what) in cases {
            let properties: &[u8] = if version == Version::V5 { b"\0" } else { b"" };
            let bytes = packet(first, &[head, properties, tail].concat());
            let answer = raw::refused(&gateway, &[&connect[..], &bytes].concat()).await;
            assert_eq!(answer.first(), Some(&0x20), "{version:?}, {what}: CONNACK first");
            let rest = &answer[2 + usize::from(answer[1])..];
            match (version, reason) {
                (Version::V5, Some(reason)) => {
                    assert_eq!(rest[..3.min(rest.len())], [0xe0, rest[1], reason.0], "{what}")
                }
                (Version::V5, None) => assert_eq!(rest[0], 0xe0, "{what}"),
                _ => assert!(rest.is_empty(), "{what}: {rest:?}"),
            }
            steady.goes_on().await;
        }
        // CONNECT twice.
        let answer = raw::refused(&gateway, &[&connect[..], &connect].concat()).await;
        assert_eq!(answer.first(), Some(&0x20));
        steady.goes_on().await;
    }
}

#[tokio::test]
async fn a_packet_byte_by_byte_is_a_packet() {
    let gateway = Gateway::start("").await;
    for version in VERSIONS {
        let mut stream = raw::socket(&gateway).await;
        stream.set_nodelay(true).unwrap();
        let publish = Packet::Publish(raw::publish(1, QoS::AtLeastOnce, "bytes", "x"));
        let connect = Packet::Connect(Box::new(raw::connect(version, "bytes", 0)));
        for byte in raw::bytes(version, &[connect, publish, Packet::PingReq]).await {
            stream.write_all(&[byte]).await.unwrap();
        }
        // CONNACK, PUBACK, PINGRESP.
        for expected in [0x20, 0x40, 0xd0] {
            assert_eq!(stream.read_u8().await.unwrap(), expected);
            let mut rest = vec![0; stream.read_u8().await.unwrap().into()];
            stream.read_exact(&mut rest).await.unwrap();
        }
    }
}

#[tokio::test]
async fn sockets_that_never_say_anything_hold_nobody_up_and_are_closed() {
    let gateway = Gateway::start("").await;
    let mut steady = Steady::start(&gateway).await;
    let mut silent = Vec::new();
    for n in 0..50 {
        let mut stream = raw::socket(&gateway).await;
        // Some begin a CONNECT and do not end it.
        stream.write_all(&b"\x10\x20\x00\x04MQTT\x04"[..n % 10]).await.unwrap();
        silent.push(stream);
    }
    let mut paho = Paho::start(&gateway);
    paho.connect("good", json!({})).await;
    steady.goes_on().await;
    for mut stream in silent {
        let closed = tokio::time::timeout(Duration::from_secs(15), stream.read_u8()).await;
        assert!(closed.expect("closed in time").is_err());
    }
    steady.goes_on().await;
}

#[tokio::test]
async fn a_subscriber_that_never_reads_costs_the_others_nothing() {
    let gateway = Gateway::start("").await;
    let mut steady = Steady::start(&gateway).await;
    let mut deaf = Vec::new();
    for (version, qos) in
        VERSIONS.into_iter().flat_map(|v| [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].map(|qos| (v, qos)))
    {
        for expiry in [0, u32::MAX] {
            let id = format!("deaf-{version:?}-{qos:?}-{expiry}");
            let mut raw = Raw::connect(&gateway, raw::connect(version, &id, expiry)).await;
            assert!(matches!(raw.next().await, Packet::ConnAck(_)));
            raw.send(raw::subscribe("flood", qos)).await;
            assert!(matches!(raw.next().await, Packet::SubAck { .. }));
            deaf.push(raw);
        }
    }
    let mut paho = Paho::start(&gateway);
    paho.connect("good", json!({})).await;
    paho.subscribe("good", "flood", 1).await;
    paho.connect("p", json!({})).await;
    for n in 0..60 {
        let step = json!({"topic": "flood", "payload": n.to_string(), "size": 200_000, "qos": n % 3});
        paho.ask("p", "publish", step).await;
    }
    steady.goes_on().await;
    let sizes: Vec<_> = paho.take("good", 60).await.iter().map(|m| m["payload"].as_str().unwrap().to_owned()).collect();
    assert_eq!(sizes, numbers(0..60));
    let resident = resident(&gateway);
    assert!(resident < 200 << 20, "{} MB", resident >> 20);
    // What waits for one that is back to reading arrives: QoS 1 and 2 in a kept session, all of it.
    let mut keeper = deaf.pop().unwrap();
    let mut came = Vec::new();
    while came.len() < 40 {
        let ack = match keeper.next().await {
            Packet::Publish(publish) if publish.id.is_some() => {
                came.push(std::str::from_utf8(&publish.message.payload).unwrap().trim().parse::<u32>().unwrap());
                let ack = Ack::ok(publish.id.unwrap());
                if publish.qos == QoS::AtLeastOnce { Packet::PubAck(ack) } else { Packet::PubRec(ack) }
            }
            Packet::PubRel(ack) => Packet::PubComp(ack),
            _ => continue,
        };
        keeper.send(ack).await;
    }
    assert_eq!(came, (0..60).filter(|n| n % 3 > 0).collect::<Vec<_>>());
}

/// Bytes of RAM that the gateway has.
fn resident(gateway: &Gateway) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn connections_cut_in_the_middle_and_resets_leave_nothing_behind() {
    let gateway = Gateway::start("").await;
    let mut steady = Steady::start(&gateway).await;
    let publish = Packet::Publish(raw::publish(1, QoS::ExactlyOnce, "cut", "whole"));
    for version in VERSIONS {
        let good = raw::bytes(version, std::slice::from_ref(&publish)).await;
        let connect = connect(version).await;
        for cut in 0..good.len() {
            let mut stream = raw::socket(&gateway).await;
            stream.write_all(&[&connect, &good[..cut]].concat()).await.unwrap();
        }
        for n in 0..250 {
            let mut stream = raw::socket(&gateway).await;
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            if n % 2 == 0 {
                stream.write_all(&connect).await.unwrap();
            }
        }
    }
    steady.goes_on().await;
    // Two are left: the good one, and the one that asks.
    let mut paho = Paho::start(&gateway);
    paho.connect("p", json!({})).await;
    let end = tokio::time::Instant::now() + Duration::from_secs(15);
    loop {
        let (_, metrics) = gateway.get("/metrics").await;
        let clients =
            metrics.lines().find_map(|line| line.strip_prefix("fieldpost_broker_clients ")).map(str::to_owned);
        if clients.as_deref() == Some("2") {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "{clients:?}\n{metrics}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
