//! A million packets that are almost right: an error or a packet, never a panic; and what is taken can be sent on.

use super::stream::{Pieces, all, timeless};
use super::*;

/// For each of the three versions in each of the two directions.
const ROUNDS: usize = 170_000;

/// Good packets to begin with.
const GOOD: usize = 400;

#[test]
fn a_million_spoilt_packets_are_refused_or_understood() {
    for version in VERSIONS {
        for peer in PEERS {
            let mut r = Rng::with_seed(5);
            let good: Vec<_> = (0..GOOD).map(|_| good(&mut r, version, peer)).collect();
            let mut accepted = 0;
            for round in 0..ROUNDS {
                let mut bytes = good[round % GOOD].clone();
                let other = r.usize(..GOOD);
                spoil(&mut r, &mut bytes, &good[other]);
                accepted += try_one(&bytes, version, peer);
            }
            let part = accepted * 100 / ROUNDS;
            assert!((5..95).contains(&part), "{version:?} {peer:?}: {part} % accepted tests nothing");
        }
    }
}

#[tokio::test]
async fn spoilt_streams_end_the_same_however_they_come() {
    let mut r = Rng::with_seed(9);
    let mut bad = 0;
    for round in 0..3_000 {
        let (version, peer) = (VERSIONS[round % 3], pick(&mut r, &PEERS));
        let mut bytes = Vec::new();
        if peer == Peer::Client {
            bytes.extend(encode(version, &Packet::Connect(Box::new(random_connect(&mut r, version)))));
        }
        for _ in 0..r.usize(1..6) {
            bytes.extend(good(&mut r, version, peer));
        }
        spoil(&mut r, &mut bytes, b"\x30\x05\0\x03a/b");
        let (whole, why) = told(&bytes, usize::MAX, version, peer).await;
        bad += usize::from(why != "the connection was closed");
        for size in [1, r.usize(2..50)] {
            assert_eq!(told(&bytes, size, version, peer).await, (whole.clone(), why.clone()), "{size} {bytes:02x?}");
        }
    }
    assert!((500..2_500).contains(&bad), "{bad}");
}

/// What a reader tells of these bytes when they come in pieces of this size.
async fn told(bytes: &[u8], size: usize, version: Version, peer: Peer) -> (Vec<Packet>, String) {
    let pieces = Pieces(bytes, size);
    let mut reader = match peer {
        Peer::Client => Reader::server(pieces, 1 << 20),
        Peer::Server => Reader::client(pieces, version, 1 << 20),
    };
    let (packets, error) = all(&mut reader).await;
    (timeless(packets), error.to_string())
}

fn good(r: &mut Rng, version: Version, peer: Peer) -> Vec<u8> {
    loop {
        let bytes = encode(version, &random_packet(r, version, peer));
        // Long payloads only make it slow.
        if bytes.len() < 300 {
            return bytes;
        }
    }
}

/// How many packets are understood in `bytes`; each is the same after being written and read again.
fn try_one(bytes: &[u8], version: Version, peer: Peer) -> usize {
    let connects = bytes[0] >> 4 == 1 && peer == Peer::Client;
    let mut decoder = decoder(peer, (!connects).then_some(version));
    let (mut rest, mut accepted) = (bytes, 0);
    while !rest.is_empty() {
        let Ok(Next::Packet(mut packet, length)) = decoder.next(rest, AT) else { break };
        rest = &rest[length..];
        accepted += 1;
        let version = decoder.version().expect("a packet was read");
        let again = encode(version, &packet);
        let back = decode(peer, before(&packet, version), &again).unwrap_or_else(|error| {
            panic!("{version:?} {bytes:02x?} was {packet:?} and becomes {again:02x?}: {error}")
        });
        if let Packet::ConnAck(ack) = &mut packet
            && version == Version::V5
            && ack.reason.is_error()
        {
            // A refusal gets a text where it had none.
            ack.reason_string.get_or_insert_with(|| ack.reason.text().into());
        }
        assert_eq!(back, [packet], "{version:?} {bytes:02x?}");
    }
    accepted
}

fn spoil(r: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let header = 1 + bytes[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    for _ in 0..r.usize(1..4) {
        let at = r.usize(..bytes.len());
        match r.u8(..9) {
            0 => bytes[at] ^= 1 << r.u8(..8),
            1 => bytes[at] = r.u8(..),
            2 => bytes[at] = pick(r, &[0, 1, 2, 0x7F, 0x80, 0xC0, 0xFF]),
            3 => bytes[at] = bytes[at].wrapping_add(1),
            4 => bytes.insert(at, r.u8(..)),
            5 if bytes.len() > 2 => drop(bytes.remove(at)),
            6 => bytes.truncate(at.max(2)),
            7 => {
                // A part of it once more: properties that come twice, lists that are longer.
                let end = bytes.len().min(at + r.usize(1..12));
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let from = r.usize(..other.len());
                bytes.extend_from_slice(&other[from..other.len().min(from + 20)]);
            }
        }
    }
    // The length is made good again, mostly: what is wrong with it is found too soon.
    if r.u8(..8) > 0 && bytes.len() > header {
        *bytes = packet(bytes[0], &bytes[header..]);
    }
}
