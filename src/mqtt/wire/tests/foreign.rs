//! Our packets in another codec, `rmqtt-codec`, and back: both mean the same by the same bytes.
//!
//! It is known to differ, and such packets are not tried, in these:
//! - it refuses a CONNECT of version 5 with an empty client identifier and without clean start [MQTT-3.1.3-6 allows it];
//! - it refuses a message expiry interval of 0, and a topic name or filter that is empty;
//! - it reads the protocol name of 3.1, but writes it with the level of 3.1.1;
//! - it knows reason codes by list and not all of them in all packets; a DISCONNECT's texts and codes go through;
//! - a password without user name it reads, and does not write.
//!
//! It takes what we refuse: bytes behind the last field, a remaining length in more bytes than it needs, DUP at QoS 0,
//! wildcards in topic names, reserved bits.

use bytes::BytesMut;
use rmqtt_codec::{v3, v5};
use tokio_util::codec::{Decoder as _, Encoder as _};

use super::*;

#[test]
fn another_codec_reads_what_we_write_and_we_read_what_it_writes() {
    let mut r = Rng::with_seed(6);
    let mut tried = 0;
    for round in 0..20_000 {
        let version = [Version::V311, Version::V5][round % 2];
        let peer = pick(&mut r, &PEERS);
        let packet = random_packet(&mut r, version, peer);
        if differs(&packet) {
            continue;
        }
        tried += 1;
        let ours = encode(version, &packet);
        let theirs = through(version, &ours).unwrap_or_else(|error| panic!("{packet:?} {ours:02x?}: {error}"));
        let back = decode(peer, before(&packet, version), &theirs);
        assert_eq!(back.unwrap(), [packet], "{version:?} {ours:02x?} {theirs:02x?}");
    }
    assert!(tried > 15_000, "only {tried}");
}

/// The bytes, read and written again by the other.
fn through(version: Version, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let (mut from, mut to) = (BytesMut::from(bytes), BytesMut::new());
    if version == Version::V5 {
        let mut codec = v5::Codec::new(0, 0);
        let (packet, _) = codec.decode(&mut from).map_err(|e| format!("{e:?}"))?.ok_or("it is not whole")?;
        codec.encode(packet, &mut to).map_err(|e| format!("{e:?}"))?;
    } else {
        let mut codec = v3::Codec::new(0);
        let (packet, _) = codec.decode(&mut from).map_err(|e| format!("{e:?}"))?.ok_or("it is not whole")?;
        codec.encode(packet, &mut to).map_err(|e| format!("{e:?}"))?;
    }
    assert!(from.is_empty(), "{from:02x?} is left");
    Ok(to.to_vec())
}

#[test]
fn it_still_differs_in_what_is_said_above() {
    let nobody = Connect { client_id: "".into(), clean_start: false, ..Connect::new(Version::V5, "") };
    assert!(through(Version::V5, &encode(Version::V5, &Packet::Connect(Box::new(nobody)))).is_err());
    let dead = Properties { expiry: Some(0), ..Properties::default() };
    let message = Message { at: AT, qos: QoS::AtMostOnce, properties: Some(Box::new(dead)), ..Message::new("a", "") };
    let will = Some(Will { message, delay: Duration::ZERO });
    let connect = Packet::Connect(Box::new(Connect { will, ..Connect::new(Version::V5, "c") }));
    assert!(through(Version::V5, &encode(Version::V5, &connect)).is_err());
    let old = encode(Version::V31, &Packet::Connect(Box::new(Connect::new(Version::V31, "c"))));
    assert_ne!(through(Version::V31, &old).unwrap(), old);
    // What it takes, and we do not.
    let taken: [(&[u8], &str); 4] = [
        (b"\x10\x0E\0\x04MQTT\x04\x02\0\0\0\x01cx", "more than CONNECT has"),
        (b"\xC0\x80\0", "a padded length"),
        (b"\x38\x03\0\x01a", "DUP at QoS 0"),
        (b"\x30\x03\0\x01#", "a wildcard"),
    ];
    for (bytes, what) in taken {
        assert!(through(Version::V311, bytes).is_ok(), "{what}");
    }
}

/// See above.
fn differs(packet: &Packet) -> bool {
    let dies_at_once = |message: &Message| message.properties.as_ref().is_some_and(|p| p.expiry == Some(0));
    match packet {
        Packet::Publish(publish) => dies_at_once(&publish.message),
        Packet::Connect(connect) => {
            connect.will.as_ref().is_some_and(|will| dies_at_once(&will.message))
                || connect.client_id.is_empty() && !connect.clean_start
                || connect.password.is_some() && connect.user.is_none()
        }
        _ => false,
    }
}
