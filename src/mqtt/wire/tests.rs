//! Packets there and back, hostile bytes, and the checks on top of the codec crate.

use std::num::NonZeroU16;
use std::sync::Arc;

use tokio::io::{AsyncWriteExt, duplex};

use super::*;
use crate::clock::Timestamp;
use crate::message::{Properties, QoS};
use crate::mqtt::{Ack, ConnAck, Connect, Publish, RetainHandling, Subscribe, SubscribeOptions, Will};

fn id(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}

fn connect(version: Version) -> Packet {
    let will = Message { at: Timestamp(0), ..Message::new("will", "gone") };
    Packet::Connect(Box::new(Connect {
        version,
        client_id: "c".into(),
        clean_start: true,
        expiry: if version == Version::V5 { 60 } else { 0 },
        keep_alive: std::time::Duration::from_secs(30),
        user: Some("u".into()),
        password: Some(Bytes::from_static(b"p")),
        will: Some(Will { message: will, delay: std::time::Duration::ZERO }),
        receive_maximum: NonZeroU16::MAX,
        maximum_packet_size: None,
        topic_alias_maximum: 0,
        authentication_method: None,
    }))
}

fn publish(version: Version, qos: QoS) -> Packet {
    let properties = (version == Version::V5).then(|| {
        Box::new(Properties {
            utf8: true,
            expiry: None,
            content_type: Some("text".into()),
            response_topic: Some("answer".into()),
            correlation: Some(vec![1, 2]),
            user: vec![("k".into(), "v".into()), ("k".into(), "w".into())],
        })
    });
    let message = Message { qos, at: Timestamp(0), properties, ..Message::new("täst/1", vec![7; 300]) };
    let id = (qos > QoS::AtMostOnce).then(|| id(9));
    let message = Arc::new(message);
    Packet::Publish(Publish {
        id,
        dup: false,
        qos,
        retain: false,
        message,
        topic_alias: None,
        subscription_ids: vec![],
    })
}

/// What a client may send, and what a server may.
fn packets(version: Version) -> (Vec<Packet>, Vec<Packet>) {
    let v5 = version == Version::V5;
    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        no_local: v5,
        retain_as_published: v5,
        retain_handling: if v5 { RetainHandling::SendIfNew } else { RetainHandling::Send },
    };
    let ack = Ack::ok(id(300));
    let both = vec![
        publish(version, QoS::AtMostOnce),
        publish(version, QoS::ExactlyOnce),
        Packet::PubAck(ack),
        Packet::PubRec(ack),
        Packet::PubRel(ack),
        Packet::PubComp(ack),
    ];
    let subscribe = Subscribe {
        id: id(2),
        filters: vec![("a/+".into(), options), ("b/#".into(), options)],
        subscription_id: v5.then_some(200),
    };
    let mut client = vec![
        connect(version),
        Packet::Subscribe(Box::new(subscribe)),
        Packet::Unsubscribe { id: id(3), filters: vec!["a/+".into()] },
        Packet::PingReq,
        Packet::Disconnect { reason: Reason::SUCCESS, expiry: v5.then_some(5) },
    ];
    client.extend(both.clone());
    let mut server = vec![
        Packet::ConnAck(Box::new(ConnAck { session_present: true, ..ConnAck::new(Reason::SUCCESS) })),
        Packet::ConnAck(Box::new(ConnAck::new(Reason::NOT_AUTHORIZED))),
        Packet::SubAck { id: id(2), reasons: vec![Reason(1), if v5 { Reason(0x8F) } else { Reason(0x80) }] },
        Packet::UnsubAck { id: id(3), reasons: if v5 { vec![Reason(0), Reason(0x11)] } else { vec![] } },
        Packet::PingResp,
    ];
    server.extend(both);
    (client, server)
}

fn encode(version: Version, packet: &Packet) -> Vec<u8> {
    let mut writer = Writer::new(tokio::io::sink(), version);
    writer.queue(packet).unwrap();
    writer.buffer.to_vec()
}

fn decode(peer: Peer, version: Option<Version>, bytes: &[u8]) -> Result<Vec<Packet>, Error> {
    let mut decoder = Decoder::new(peer, 1 << 20);
    if let Some(version) = version {
        decoder.set_version(version);
    }
    decoder.decode(&mut BytesMut::from(bytes))
}

/// The moment of arrival is the reader's own.
fn timeless(mut packet: Packet) -> Packet {
    match &mut packet {
        Packet::Publish(p) => Arc::make_mut(&mut p.message).at = Timestamp(0),
        Packet::Connect(c) => {
            if let Some(will) = &mut c.will {
                will.message.at = Timestamp(0);
            }
        }
        _ => {}
    }
    packet
}

#[test]
fn every_packet_of_every_version_goes_there_and_back() {
    for version in [Version::V311, Version::V5] {
        let (client, server) = packets(version);
        for (peer, packets) in [(Peer::Client, client), (Peer::Server, server)] {
            for packet in packets {
                let known = (!matches!(packet, Packet::Connect(_))).then_some(version);
                let back = decode(peer, known, &encode(version, &packet)).unwrap();
                let back: Vec<_> = back.into_iter().map(timeless).collect();
                assert_eq!(back, [packet], "{version:?}");
            }
        }
    }
}

#[test]
fn a_client_of_version_3_1_is_understood() {
    let packets = decode(Peer::Client, None, b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01c\xc0\x00").unwrap();
    assert!(matches!(&packets[..], [Packet::Connect(c), Packet::PingReq] if c.version == Version::V31), "{packets:?}");
}

#[test]
fn the_wrong_direction_is_refused() {
    let (client, server) = packets(Version::V5);
    for packet in &server[..5] {
        assert!(decode(Peer::Client, Some(Version::V5), &encode(Version::V5, packet)).is_err(), "{packet:?}");
    }
    for packet in &client[..4] {
        assert!(decode(Peer::Server, Some(Version::V5), &encode(Version::V5, packet)).is_err(), "{packet:?}");
    }
}

#[test]
fn bad_packets_are_refused_with_their_reason() {
    let cases: [(&[u8], Reason); 9] = [
        (b"\x30\x05\x00\x03a/+", Reason::TOPIC_NAME_INVALID),
        (b"\x30\x05\x00\x03a\x00b", Reason::TOPIC_NAME_INVALID),
        (b"\x36\x05\x00\x01a\x00\x01", Reason::MALFORMED),
        (b"\x38\x03\x00\x01a", Reason::MALFORMED),
        (b"\x32\x05\x00\x01a\x00\x00", Reason::MALFORMED),
        (b"\x80\x06\x00\x01\x00\x01a\x00", Reason::MALFORMED),
        (b"\xC0\x01\x00", Reason::MALFORMED),
        (b"\x82\x02\x00\x01", Reason::PROTOCOL_ERROR),
        (b"\x30\xFF\xFF\xFF\x7F", Reason::PACKET_TOO_LARGE),
    ];
    for (bytes, expected) in cases {
        match decode(Peer::Client, Some(Version::V311), bytes) {
            Err(Error::Bad(reason, _)) => assert_eq!(reason, expected, "{bytes:02x?}"),
            other => panic!("{bytes:02x?}: {other:?}"),
        }
    }
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x10\x0c\x00\x04MQTX\x04\x02\x00\x00\x00\x00", b"\xC0\x00"] {
        assert!(decode(Peer::Client, None, bytes).is_err(), "{bytes:02x?}");
    }
    let unknown = decode(Peer::Client, None, b"\x10\x0c\x00\x04MQTT\x09\x02\x00\x00\x00\x00");
    assert!(matches!(unknown, Err(Error::Bad(Reason::UNSUPPORTED_VERSION, _))));
}

#[test]
fn topic_aliases_stand_for_their_topics() {
    let mut decoder = Decoder::new(Peer::Client, 1 << 20);
    decoder.set_version(Version::V5);
    let mut bytes = BytesMut::from(&b"\x30\x07\x00\x01a\x03\x23\x00\x05\x30\x06\x00\x00\x03\x23\x00\x05"[..]);
    let topics: Vec<_> = decoder.decode(&mut bytes).unwrap().into_iter().collect();
    for packet in &topics {
        assert!(matches!(packet, Packet::Publish(p) if &*p.message.topic == "a"), "{packet:?}");
    }
    assert_eq!(topics.len(), 2);
    assert!(decoder.decode(&mut BytesMut::from(&b"\x30\x06\x00\x00\x03\x23\x00\x06"[..])).is_err(), "never set");
    assert!(decoder.decode(&mut BytesMut::from(&b"\x30\x07\x00\x01a\x03\x23\x00\xFF"[..])).is_err(), "too high");
}

#[tokio::test]
async fn packets_before_a_bad_one_are_not_lost_and_fragments_are_joined() {
    let (ours, mut theirs) = duplex(1024);
    let mut reader = Reader::server(ours, 1 << 20);
    let mut bytes = encode(Version::V311, &connect(Version::V311));
    bytes.extend(encode(Version::V311, &Packet::PingReq));
    bytes.extend(b"\xF7\x00");
    tokio::spawn(async move {
        for byte in bytes {
            theirs.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let mut seen = Vec::new();
    let error = loop {
        match reader.recv().await {
            Ok(packets) => seen.extend(packets),
            Err(error) => break error,
        }
    };
    assert!(matches!(&seen[..], [Packet::Connect(_), Packet::PingReq]), "{seen:?}");
    assert!(matches!(error, Error::Bad(..)), "{error:?}");
}

#[test]
fn a_packet_larger_than_the_peer_takes_is_left_out() {
    let mut writer = Writer::new(tokio::io::sink(), Version::V5);
    writer.set_max_packet(Some(100));
    assert!(matches!(writer.queue(&publish(Version::V5, QoS::AtMostOnce)), Err(Error::TooLarge)));
    assert_eq!(writer.pending(), 0);
    writer.queue(&Packet::PingResp).unwrap();
    assert_eq!(writer.pending(), 2);
}

/// Mutated packets: errors or packets, never a panic, and what is accepted can be written again.
#[test]
fn mutated_packets_never_panic() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut accepted = 0;
    for version in [Version::V311, Version::V5] {
        let (client, server) = packets(version);
        for (peer, packets) in [(Peer::Client, client), (Peer::Server, server)] {
            let encoded: Vec<_> = packets.iter().map(|p| encode(version, p)).collect();
            for round in 0..25_000 {
                let mut bytes = encoded[round % encoded.len()].clone();
                for _ in 0..=random.usize(..3) {
                    match random.u8(..4) {
                        0 => {
                            let at = random.usize(..bytes.len());
                            bytes[at] = random.u8(..);
                        }
                        1 => bytes.truncate(random.usize(1..=bytes.len())),
                        2 => {
                            let at = random.usize(..=bytes.len());
                            bytes.insert(at, random.u8(..));
                        }
                        _ => bytes.extend(encoded[random.usize(..encoded.len())].iter().take(random.usize(..20))),
                    }
                }
                let known = (random.bool() || peer == Peer::Server).then_some(version);
                for packet in decode(peer, known, &bytes).into_iter().flatten() {
                    accepted += 1;
                    let mut writer = Writer::new(tokio::io::sink(), Version::V5);
                    let _ = writer.queue(&packet);
                }
            }
        }
    }
    assert!(accepted > 1000, "mutations that leave nothing to accept test nothing");
}
