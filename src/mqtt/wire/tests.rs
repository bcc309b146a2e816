//! The codec under test: bytes by the table, random packets there and back, another codec, spoilt bytes, streams.

mod foreign;
mod legal;
mod refused;
mod round;
mod spoilt;
mod stream;

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;

use super::decoder::{Decoder, Next};
use super::encoder::Encoder;
use super::header::Peer;
use super::outbox::Outbox;
use super::*;
use crate::clock::{Moment, Timestamp};
use crate::message::{Message, Properties, QoS};
use crate::mqtt::{
    Ack, ConnAck, Connect, PacketId, Publish, RetainHandling, Subscribe, SubscribeOptions, Version, Will,
};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const PEERS: [Peer; 2] = [Peer::Client, Peer::Server];

/// No message waits on its way from this moment.
const AT: Moment = Moment { wall: Timestamp(i64::MAX), uptime: None, trusted: true };

fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

/// A packet with this first byte and body.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    write::Put::var(&mut bytes, body.len());
    [&bytes, body].concat()
}

fn encode(version: Version, packet: &Packet) -> Vec<u8> {
    let mut outbox = Outbox::default();
    Encoder::new(version).encode(packet, None, &mut outbox).unwrap();
    written(&mut outbox)
}

fn written(outbox: &mut Outbox) -> Vec<u8> {
    let mut bytes = Vec::new();
    while outbox.len() > 0 {
        bytes.extend_from_slice(outbox.front());
        outbox.advance(outbox.front().len());
    }
    bytes
}

/// A decoder that stands behind CONNECT, or before it when `version` is none.
fn decoder(peer: Peer, version: Option<Version>) -> Decoder {
    Decoder::new(peer, version, 1 << 20)
}

/// The packets that `bytes` are; what is left at the end has to begin one.
fn decode(peer: Peer, version: Option<Version>, mut bytes: &[u8]) -> Result<Vec<Packet>, Error> {
    let mut decoder = decoder(peer, version);
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        match decoder.next(bytes, AT)? {
            Next::Packet(packet, length) => {
                packets.push(packet);
                bytes = &bytes[length..];
            }
            Next::Needs(needs) => {
                assert!(needs > bytes.len(), "it has that already");
                break;
            }
        }
    }
    Ok(packets)
}

/// The version that a decoder knows before this packet.
fn before(packet: &Packet, version: Version) -> Option<Version> {
    (!matches!(packet, Packet::Connect(_))).then_some(version)
}

/// A packet that `peer` may send.
fn random_packet(r: &mut Rng, version: Version, peer: Peer) -> Packet {
    let v5 = version == Version::V5;
    let client = peer == Peer::Client;
    match r.u8(..16) {
        0 if client => Packet::Connect(Box::new(random_connect(r, version))),
        1 if client => {
            let filters = (0..r.usize(1..4)).map(|_| (text(r), random_options(r, v5))).collect();
            let subscription_id = (v5 && r.bool()).then(|| r.u32(1..=268_435_455));
            Packet::Subscribe(Box::new(Subscribe { id: random_id(r), filters, subscription_id }))
        }
        2 if client => Packet::Unsubscribe { id: random_id(r), filters: (0..r.usize(1..4)).map(|_| text(r)).collect() },
        3 if client => Packet::PingReq,
        4 if client => {
            let reason = if v5 { pick(r, &[0x00, 0x04, 0x81, 0x95]) } else { 0 };
            Packet::Disconnect { reason: Reason(reason), expiry: (v5 && r.bool()).then(|| r.u32(..)) }
        }
        0 => Packet::ConnAck(Box::new(random_connack(r, version))),
        1 => {
            let codes: &[u8] = if v5 { &[0, 1, 2, 0x80, 0x87, 0x8F, 0x97] } else { &[0, 1, 2, 0x80] };
            Packet::SubAck { id: random_id(r), reasons: (0..r.usize(1..5)).map(|_| Reason(pick(r, codes))).collect() }
        }
        2 => {
            let reasons = (0..r.usize(1..5)).map(|_| Reason(pick(r, &[0x00, 0x11, 0x87]))).collect();
            Packet::UnsubAck { id: random_id(r), reasons: if v5 { reasons } else { Vec::new() } }
        }
        3 => Packet::PingResp,
        4 if v5 => Packet::Disconnect { reason: Reason(pick(r, &[0x00, 0x8B, 0x8D, 0x8E, 0x93])), expiry: None },
        5 => Packet::PubAck(random_ack(r, v5, &[0x00, 0x10, 0x87, 0x97])),
        6 => Packet::PubRec(random_ack(r, v5, &[0x00, 0x10, 0x80, 0x99])),
        7 => Packet::PubRel(random_ack(r, v5, &[0x00, 0x92])),
        8 => Packet::PubComp(random_ack(r, v5, &[0x00, 0x92])),
        _ => Packet::Publish(random_publish(r, version, peer)),
    }
}

fn random_publish(r: &mut Rng, version: Version, peer: Peer) -> Publish {
    let v5 = version == Version::V5;
    let message = random_message(r, v5);
    let qos = message.qos;
    let ids = if v5 && peer == Peer::Server { r.usize(..3) } else { 0 };
    Publish {
        id: (qos > QoS::AtMostOnce).then(|| random_id(r)),
        dup: qos > QoS::AtMostOnce && r.bool(),
        qos,
        retain: message.retain,
        message: Arc::new(message),
        topic_alias: None,
        subscription_ids: (0..ids).map(|_| r.u32(1..300_000)).collect(),
        place: None,
    }
}

fn random_connect(r: &mut Rng, version: Version) -> Connect {
    let v5 = version == Version::V5;
    let clean_start = r.bool();
    let user = r.bool().then(|| text(r));
    Connect {
        version,
        client_id: if v5 && r.bool() { "".into() } else { text(r) },
        clean_start,
        expiry: match version {
            Version::V5 => pick(r, &[0, 1, 3600, u32::MAX]),
            _ if clean_start => 0,
            _ => u32::MAX,
        },
        keep_alive: Duration::from_secs(r.u16(..).into()),
        password: ((v5 || user.is_some()) && r.bool()).then(|| random_bytes(r, 20)),
        user,
        will: r.bool().then(|| Will {
            message: random_message(r, v5),
            delay: Duration::from_secs(if v5 { pick(r, &[0, 1, u64::from(u32::MAX)]) } else { 0 }),
        }),
        receive_maximum: if v5 { random_id(r) } else { NonZeroU16::MAX },
        maximum_packet_size: (v5 && r.bool()).then(|| r.u32(1..)),
        topic_alias_maximum: if v5 { r.u16(..) } else { 0 },
        problem_info: !v5 || r.bool(),
        authentication_method: (v5 && r.bool()).then(|| text(r)),
        // No other codec knows of it.
        bridge: false,
    }
}

fn random_connack(r: &mut Rng, version: Version) -> ConnAck {
    let reasons: &[u8] = &[0x00, 0x00, 0x84, 0x85, 0x86, 0x87, 0x88];
    let reason = Reason(pick(r, reasons));
    let present = version != Version::V31 && !reason.is_error() && r.bool();
    let ack = ConnAck { session_present: present, ..ConnAck::new(reason) };
    if version != Version::V5 {
        return ack;
    }
    ConnAck {
        assigned_client_id: r.bool().then(|| text(r)),
        receive_maximum: random_id(r),
        maximum_packet_size: r.bool().then(|| r.u32(1..)),
        topic_alias_maximum: r.u16(..),
        maximum_qos: pick(r, &[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]),
        retain_available: r.bool(),
        server_keep_alive: r.bool().then(|| r.u16(..)),
        expiry: r.bool().then(|| r.u32(..)),
        shared_available: r.bool(),
        // A failure has one in any case.
        reason_string: (r.bool() || reason.is_error()).then(|| text(r)),
        ..ack
    }
}

fn random_message(r: &mut Rng, v5: bool) -> Message {
    let properties = Properties {
        utf8: r.bool().then_some(true),
        expiry: r.bool().then(|| pick(r, &[0, 1, 3600, u32::MAX])),
        content_type: r.bool().then(|| text(r)),
        response_topic: r.bool().then(|| text(r)),
        correlation: r.bool().then(|| random_bytes(r, 30).to_vec()),
        user: (0..r.usize(..3)).map(|_| (text(r), text(r))).collect(),
    };
    let most = if r.u8(..50) == 0 { 20_000 } else { 200 };
    let some = v5 && r.bool() && properties != Properties::default();
    Message {
        topic: text(r),
        payload: random_bytes(r, most),
        qos: pick(r, &[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]),
        retain: r.bool(),
        at: AT,
        timed: false,
        properties: some.then(|| Box::new(properties)),
    }
}

fn random_options(r: &mut Rng, v5: bool) -> SubscribeOptions {
    let qos = pick(r, &[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
    if !v5 {
        return SubscribeOptions { qos, ..SubscribeOptions::default() };
    }
    let handling = [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
    SubscribeOptions { qos, no_local: r.bool(), retain_as_published: r.bool(), retain_handling: pick(r, &handling) }
}

fn random_ack(r: &mut Rng, v5: bool, codes: &[u8]) -> Ack {
    Ack { id: random_id(r), reason: if v5 { Reason(pick(r, codes)) } else { Reason::SUCCESS } }
}

fn random_id(r: &mut Rng) -> NonZeroU16 {
    id(r.u16(1..))
}

fn random_bytes(r: &mut Rng, most: usize) -> Bytes {
    let size = r.usize(..=most);
    std::iter::repeat_with(|| r.u8(..)).take(size).collect()
}

/// A text that is a topic name and anything else as well.
fn text(r: &mut Rng) -> Arc<str> {
    let words = ["a", "täst/1", "/", "plant7/tank/level", "日本", "\u{FEFF}x", "$SYS/y", "emoji 🦀"];
    pick(r, &words).into()
}

fn pick<T: Copy>(r: &mut Rng, from: &[T]) -> T {
    from[r.usize(..from.len())]
}
