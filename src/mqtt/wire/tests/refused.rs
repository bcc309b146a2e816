//! Bytes that are not legal, each with the reason code that its sender is told.

use super::*;

const BROKEN: Reason = Reason::MALFORMED;
const WRONG: Reason = Reason::PROTOCOL_ERROR;
const TOPIC: Reason = Reason::TOPIC_NAME_INVALID;

const V31: &[Version] = &[Version::V31];
const V311: &[Version] = &[Version::V311];
const OLD: &[Version] = &[Version::V31, Version::V311];
const FIVE: &[Version] = &[Version::V5];
const ALL: &[Version] = &VERSIONS;
const CLIENT: &[Peer] = &[Peer::Client];
const SERVER: &[Peer] = &[Peer::Server];
const BOTH: &[Peer] = &PEERS;

/// From whom, in which versions, the bytes, what is said to it, and what is wrong.
type Row<'a> = (&'a [Peer], &'a [Version], &'a [u8], Reason, &'a str);

fn check(rows: &[Row]) {
    for (peers, versions, bytes, expected, what) in rows {
        for peer in *peers {
            for version in *versions {
                match decode(*peer, Some(*version), bytes) {
                    Err(Error::Bad(reason, text)) => assert_eq!(reason, *expected, "{what}: {text} ({version:?})"),
                    other => panic!("{what}, {peer:?} {version:?}: {other:?}"),
                }
            }
        }
    }
}

/// CONNECT of this level with these flags, and what stands behind its keep alive.
fn connect(level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    packet(0x10, &[&b"\0\x04MQTT"[..], &[level, flags, 0, 60], rest].concat())
}

#[track_caller]
fn turned_away(bytes: &[u8], expected: Reason, what: &str) {
    match decode(Peer::Client, None, bytes) {
        Err(Error::Bad(reason, text)) => assert_eq!(reason, expected, "{what}: {text}"),
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn headers() {
    check(&[
        (BOTH, ALL, b"\x00\0", BROKEN, "type 0"),
        (BOTH, ALL, b"\x30\xFF\xFF\xFF\xFF", BROKEN, "a length of five bytes"),
        (BOTH, ALL, b"\x30\xFF\xFF\xFF\x7F", Reason::PACKET_TOO_LARGE, "the largest packet, by its header"),
        (BOTH, FIVE, b"\x40\x82\x00\0\x01", BROKEN, "a padded length"),
        (CLIENT, FIVE, b"\xC0\x80\x00", BROKEN, "a padded length of nothing"),
        (BOTH, ALL, b"\x36\x05\0\x01a\0\x01", BROKEN, "QoS 3"),
        (BOTH, ALL, b"\x38\x03\0\x01a", BROKEN, "DUP at QoS 0"),
        (CLIENT, ALL, b"\xC1\0", BROKEN, "flags of PINGREQ"),
        (CLIENT, ALL, b"\xE8\0", BROKEN, "flags of DISCONNECT"),
        (BOTH, ALL, b"\x42\x02\0\x01", BROKEN, "flags of PUBACK"),
        (BOTH, ALL, b"\x51\x02\0\x01", BROKEN, "flags of PUBREC"),
        (BOTH, ALL, b"\x60\x02\0\x01", BROKEN, "no flag of PUBREL"),
        (BOTH, &[Version::V311, Version::V5], b"\x6A\x02\0\x01", BROKEN, "DUP of PUBREL"),
        (BOTH, ALL, b"\x74\x02\0\x01", BROKEN, "flags of PUBCOMP"),
        (CLIENT, ALL, b"\x80\x06\0\x01\0\x01a\0", BROKEN, "no flag of SUBSCRIBE"),
        (CLIENT, ALL, b"\xA3\x05\0\x01\0\x01a", BROKEN, "flags of UNSUBSCRIBE"),
        (SERVER, ALL, b"\x21\x02\0\0", BROKEN, "flags of CONNACK"),
        (CLIENT, ALL, b"\xC0\x01\0", BROKEN, "PINGREQ with a body"),
        (SERVER, ALL, b"\xD0\x01\0", BROKEN, "PINGRESP with a body"),
    ]);
}

#[test]
fn packets_in_the_wrong_direction_or_state() {
    check(&[
        (CLIENT, ALL, b"\x20\x02\0\0", WRONG, "CONNACK from a client"),
        (CLIENT, ALL, b"\x90\x03\0\x01\0", WRONG, "SUBACK from a client"),
        (CLIENT, ALL, b"\xB0\x02\0\x01", WRONG, "UNSUBACK from a client"),
        (CLIENT, ALL, b"\xD0\0", WRONG, "PINGRESP from a client"),
        (CLIENT, ALL, b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01c", WRONG, "a second CONNECT"),
        (SERVER, ALL, b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01c", WRONG, "CONNECT from a server"),
        (SERVER, ALL, b"\x82\x06\0\x01\0\x01a\0", WRONG, "SUBSCRIBE from a server"),
        (SERVER, ALL, b"\xA2\x05\0\x01\0\x01a", WRONG, "UNSUBSCRIBE from a server"),
        (SERVER, ALL, b"\xC0\0", WRONG, "PINGREQ from a server"),
        (SERVER, OLD, b"\xE0\0", WRONG, "DISCONNECT from a server of 3.1.1"),
        (BOTH, ALL, b"\xF0\0", WRONG, "AUTH"),
        (BOTH, ALL, b"\xF0\x06\x18\x04\x15\0\x01m", WRONG, "AUTH"),
    ]);
    for bytes in [&b"\xC0\0"[..], b"\x30\x03\0\x01a", b"\xE0\0", b"\xF0\0", b"\x20\x02\0\0", b"GET / HTTP/1.1\r\n\r\n"]
    {
        turned_away(bytes, WRONG, "something before CONNECT");
    }
}

#[test]
fn connects() {
    let no_version = Reason::UNSUPPORTED_VERSION;
    turned_away(b"\x10\x0D\0\x04MQTX\x04\x02\0\0\0\x01c", no_version, "another protocol");
    turned_away(b"\x10\x0D\0\x04mqtt\x04\x02\0\0\0\x01c", no_version, "its name in small letters");
    turned_away(b"\x10\x0F\0\x06MQIsdp\x04\x02\0\0\0\x01c", no_version, "the old name with the new level");
    for level in [0, 3, 6, 9, 0x83, 0x85, 255] {
        turned_away(&connect(level, 2, b"\0\x01c"), no_version, "a level that is none");
    }
    turned_away(b"\x10\x00", BROKEN, "a CONNECT of nothing");
    turned_away(b"\x10\x06\0\x04MQTT", BROKEN, "no level");
    let both: [(u8, &[u8]); 2] = [(4, b""), (5, b"\0")];
    for (level, no) in both {
        let is_broken = |flags, rest: &[&[u8]], what: &str| {
            turned_away(&connect(level, flags, &[&[no], rest].concat().concat()), BROKEN, &format!("{what}, {level}"));
        };
        is_broken(0x03, &[b"\0\x01c"], "the reserved flag");
        is_broken(0x1E, &[b"\0\x01c", no, b"\0\x01w\0\0"], "a will of QoS 3");
        is_broken(0x0A, &[b"\0\x01c"], "the QoS of no will");
        is_broken(0x22, &[b"\0\x01c"], "no will, retained");
        is_broken(0x02, &[b"\0\x01cx"], "more than it says");
        is_broken(0x02, &[b"\0\x02c"], "less than it says");
        is_broken(0x06, &[b"\0\x01c"], "no will");
        is_broken(0x06, &[b"\0\x01c", no, b"\0\x01w"], "a will without a payload");
        is_broken(0x82, &[b"\0\x01c"], "no user");
        is_broken(0xC2, &[b"\0\x01c\0\x01u"], "no password");
        is_broken(0x02, &[b"\0\x01\0"], "NUL in the client identifier");
        is_broken(0x02, &[b"\0\x03\xED\xA0\x80"], "a surrogate in the client identifier");
        is_broken(0x82, &[b"\0\x01c\0\x02\xC3\x28"], "a user name that is not UTF-8");
        is_broken(0x06, &[b"\0\x01c", no, b"\0\x01\0\0\0"], "NUL in the will's topic");
        for topic in [&b"\0\0"[..], b"\0\x01#", b"\0\x03a/+"] {
            let rest = [no, b"\0\x01c", no, topic, b"\0\0"].concat();
            turned_away(&connect(level, 0x06, &rest), TOPIC, "the topic of a will");
        }
    }
    turned_away(&connect(4, 0x42, b"\0\x01c\0\x01p"), BROKEN, "a password without a user in 3.1.1");
    let bad_id = Reason::CLIENT_ID_NOT_VALID;
    turned_away(&connect(4, 0x00, b"\0\0"), bad_id, "no client identifier and no clean session in 3.1.1");
    turned_away(b"\x10\x0E\0\x06MQIsdp\x03\x02\0\0\0\0", bad_id, "no client identifier in 3.1");
    turned_away(b"\x10\x8E\x00\0\x04MQTT\x05\x02\0\0\0\0\x01c", BROKEN, "a padded length of CONNECT in 5");
}

#[test]
fn properties_of_connect() {
    let rows: [(&[u8], Reason, &str); 20] = [
        (b"\x21\0\0", WRONG, "receive maximum 0"),
        (b"\x27\0\0\0\0", WRONG, "maximum packet size 0"),
        (b"\x17\x02", WRONG, "request problem information 2"),
        (b"\x19\xFF", WRONG, "request response information 255"),
        (b"\x16\0\x01d", WRONG, "authentication data without a method"),
        (b"\x11\0\0\0\x01\x11\0\0\0\x01", WRONG, "session expiry twice"),
        (b"\x21\0\x01\x21\0\x01", WRONG, "receive maximum twice"),
        (b"\x27\0\0\0\x01\x27\0\0\0\x01", WRONG, "maximum packet size twice"),
        (b"\x22\0\x01\x22\0\x01", WRONG, "topic alias maximum twice"),
        (b"\x17\x01\x17\x01", WRONG, "request problem information twice"),
        (b"\x19\x01\x19\x01", WRONG, "request response information twice"),
        (b"\x15\0\x01m\x15\0\x01m", WRONG, "authentication method twice"),
        (b"\x15\0\x01m\x16\0\0\x16\0\0", WRONG, "authentication data twice"),
        (b"\x1F\0\x01r", BROKEN, "a reason string"),
        (b"\x23\0\x01", BROKEN, "a topic alias"),
        (b"\x18\0\0\0\x01", BROKEN, "the will's delay"),
        (b"\x00", BROKEN, "property 0"),
        (b"\x7F", BROKEN, "property 127"),
        (b"\x11\0\0\0", BROKEN, "half a number"),
        (b"\x26\0\x01k", BROKEN, "a user property without a value"),
    ];
    for (properties, reason, what) in rows {
        let rest = [&[properties.len() as u8], properties, b"\0\x01c"].concat();
        turned_away(&connect(5, 2, &rest), reason, what);
    }
    turned_away(&connect(5, 2, b"\x80\0\0\x01c"), BROKEN, "a padded property length");
    turned_away(&connect(5, 2, b"\x7F\0\x01c"), BROKEN, "properties longer than the packet");
    let of_will: [(&[u8], Reason, &str); 7] = [
        (b"\x18\0\0\0\x01\x18\0\0\0\x01", WRONG, "delay twice"),
        (b"\x01\x02", WRONG, "payload format 2"),
        (b"\x02\0\0\0\x01\x02\0\0\0\x01", WRONG, "expiry twice"),
        (b"\x08\0\x01#", WRONG, "a response topic with a wildcard"),
        (b"\x11\0\0\0\x01", BROKEN, "session expiry"),
        (b"\x23\0\x01", BROKEN, "a topic alias"),
        (b"\x0B\x01", BROKEN, "a subscription identifier"),
    ];
    for (properties, reason, what) in of_will {
        let rest = [b"\0\0\x01c", &[properties.len() as u8][..], properties, b"\0\x01w\0\0"].concat();
        turned_away(&connect(5, 6, &rest), reason, what);
    }
}

#[test]
fn connacks() {
    check(&[
        (SERVER, V311, b"\x20\x02\x02\0", BROKEN, "reserved flags"),
        (SERVER, FIVE, b"\x20\x03\x80\0\0", BROKEN, "reserved flags"),
        (SERVER, OLD, b"\x20\x02\0\x06", BROKEN, "a return code that does not exist"),
        (SERVER, FIVE, b"\x20\x03\0\x01\0", WRONG, "a reason code that does not exist"),
        (SERVER, V311, b"\x20\x02\x01\x05", WRONG, "a session for one who is refused"),
        (SERVER, FIVE, b"\x20\x03\x01\x87\0", WRONG, "a session for one who is refused"),
        (SERVER, OLD, b"\x20\x03\0\0\0", BROKEN, "more than it has"),
        (SERVER, OLD, b"\x20\x01\0", BROKEN, "less than it has"),
        (SERVER, FIVE, b"\x20\x02\0\0", BROKEN, "no properties"),
        (SERVER, FIVE, b"\x20\x05\0\0\x02\x24\x02", WRONG, "maximum QoS 2"),
        (SERVER, FIVE, b"\x20\x05\0\0\x02\x25\x02", WRONG, "retain available 2"),
        (SERVER, FIVE, b"\x20\x06\0\0\x03\x21\0\0", WRONG, "receive maximum 0"),
        (SERVER, FIVE, b"\x20\x06\0\0\x03\x23\0\x01", BROKEN, "a topic alias"),
    ]);
}

#[test]
fn publishes() {
    check(&[
        (BOTH, OLD, b"\x30\x05\0\x03a/+", TOPIC, "a wildcard"),
        (BOTH, FIVE, b"\x30\x06\0\x03a/+\0", TOPIC, "a wildcard"),
        (BOTH, OLD, b"\x30\x03\0\x01#", TOPIC, "a wildcard"),
        (BOTH, FIVE, b"\x30\x05\0\x02a#\0", TOPIC, "a wildcard"),
        (BOTH, OLD, b"\x30\x02\0\0", TOPIC, "no topic"),
        (BOTH, FIVE, b"\x30\x03\0\0\0", WRONG, "no topic and no alias"),
        (BOTH, OLD, b"\x30\x05\0\x03a\0b", BROKEN, "NUL"),
        (BOTH, FIVE, b"\x30\x06\0\x03a\0b\0", BROKEN, "NUL"),
        (BOTH, OLD, b"\x30\x04\0\x02\xFF\xFE", BROKEN, "no UTF-8"),
        (BOTH, FIVE, b"\x30\x05\0\x02\xFF\xFE\0", BROKEN, "no UTF-8"),
        (BOTH, OLD, b"\x30\x05\0\x03\xED\xBF\xBF", BROKEN, "a surrogate"),
        (BOTH, FIVE, b"\x30\x06\0\x03\xED\xBF\xBF\0", BROKEN, "a surrogate"),
        (BOTH, ALL, b"\x30\x03\0\x02a", BROKEN, "half a topic"),
        (BOTH, ALL, b"\x30\0", BROKEN, "nothing"),
        (BOTH, ALL, b"\x32\x05\0\x01a\0\0", BROKEN, "packet identifier 0"),
        (BOTH, ALL, b"\x34\x04\0\x01a\x01", BROKEN, "half a packet identifier"),
        (BOTH, FIVE, b"\x30\x03\0\x01a", BROKEN, "no properties"),
        (BOTH, FIVE, b"\x30\x04\0\x01a\x01", BROKEN, "properties longer than the packet"),
        (BOTH, FIVE, b"\x30\x07\0\x01a\x03\x23\0\0", Reason::TOPIC_ALIAS_INVALID, "alias 0"),
        (BOTH, FIVE, b"\x30\x07\0\x01a\x03\x23\0\x41", Reason::TOPIC_ALIAS_INVALID, "an alias above the maximum"),
        (BOTH, FIVE, b"\x30\x06\0\0\x03\x23\0\x41", Reason::TOPIC_ALIAS_INVALID, "an alias above the maximum"),
        (BOTH, FIVE, b"\x30\x06\0\0\x03\x23\0\x06", WRONG, "an alias that was not set"),
        (BOTH, FIVE, b"\x30\x0A\0\x01a\x06\x23\0\x01\x23\0\x01", WRONG, "two aliases"),
        (BOTH, FIVE, b"\x30\x06\0\x01a\x02\x01\x02", WRONG, "payload format 2"),
        (BOTH, FIVE, b"\x30\x08\0\x01a\x04\x01\0\x01\0", WRONG, "payload format twice"),
        (BOTH, FIVE, b"\x30\x0E\0\x01a\x0A\x02\0\0\0\x01\x02\0\0\0\x01", WRONG, "expiry twice"),
        (BOTH, FIVE, b"\x30\x0A\0\x01a\x06\x03\0\0\x03\0\0", WRONG, "content type twice"),
        (BOTH, FIVE, b"\x30\x0C\0\x01a\x08\x08\0\x01r\x08\0\x01r", WRONG, "response topic twice"),
        (BOTH, FIVE, b"\x30\x0A\0\x01a\x06\x09\0\0\x09\0\0", WRONG, "correlation data twice"),
        (BOTH, FIVE, b"\x30\x0A\0\x01a\x06\x08\0\x03r/#", WRONG, "a response topic with a wildcard"),
        (BOTH, FIVE, b"\x30\x07\0\x01a\x03\x08\0\0", WRONG, "an empty response topic"),
        (CLIENT, FIVE, b"\x30\x06\0\x01a\x02\x0B\x01", WRONG, "a subscription identifier from a client"),
        (BOTH, FIVE, b"\x30\x06\0\x01a\x02\x0B\0", WRONG, "subscription identifier 0"),
        (BOTH, FIVE, b"\x30\x09\0\x01a\x05\x11\0\0\0\x01", BROKEN, "session expiry"),
        (BOTH, FIVE, b"\x30\x07\0\x01a\x03\x1F\0\0", BROKEN, "a reason string"),
    ]);
}

#[test]
fn acknowledgements() {
    for first in [0x40, 0x50, 0x62, 0x70] {
        let wrong = if first < 0x60 { 0x92 } else { 0x10 };
        let rows: [Row; 10] = [
            (BOTH, ALL, b"\0\0", BROKEN, "packet identifier 0"),
            (BOTH, ALL, b"\0", BROKEN, "half a packet identifier"),
            (BOTH, ALL, b"", BROKEN, "nothing"),
            (BOTH, OLD, b"\0\x01\0", BROKEN, "more than it has"),
            (CLIENT, FIVE, &[0, 1, wrong], WRONG, "a reason that is another packet's"),
            (CLIENT, FIVE, &[0, 1, 0xFF], WRONG, "a reason that does not exist"),
            (BOTH, FIVE, &[0, 1, 0x01], WRONG, "a reason that does not exist"),
            (BOTH, FIVE, b"\0\x01\0\0\0", BROKEN, "more than it has"),
            (BOTH, FIVE, b"\0\x01\0\x06\x1F\0\0\x1F\0\0", WRONG, "two reason strings"),
            (BOTH, FIVE, b"\0\x01\0\x05\x11\0\0\0\x01", BROKEN, "session expiry"),
        ];
        for (peers, versions, body, reason, what) in rows {
            check(&[(peers, versions, &packet(first, body), reason, what)]);
        }
    }
}

#[test]
fn subscriptions() {
    check(&[
        (CLIENT, ALL, b"\x82\x06\0\0\0\x01a\0", BROKEN, "packet identifier 0"),
        (CLIENT, OLD, b"\x82\x02\0\x01", WRONG, "no filter"),
        (CLIENT, FIVE, b"\x82\x03\0\x01\0", WRONG, "no filter"),
        (CLIENT, OLD, b"\x82\x05\0\x01\0\x01a", BROKEN, "no QoS"),
        (CLIENT, OLD, b"\x82\x06\0\x01\0\x01a\x03", BROKEN, "QoS 3"),
        (CLIENT, OLD, b"\x82\x06\0\x01\0\x01a\x04", BROKEN, "reserved bits"),
        (CLIENT, OLD, b"\x82\x06\0\x01\0\x01a\x80", BROKEN, "reserved bits"),
        (CLIENT, FIVE, b"\x82\x07\0\x01\0\0\x01a\x03", WRONG, "QoS 3"),
        (CLIENT, FIVE, b"\x82\x07\0\x01\0\0\x01a\x40", BROKEN, "reserved bits"),
        (CLIENT, FIVE, b"\x82\x07\0\x01\0\0\x01a\x80", BROKEN, "reserved bits"),
        (CLIENT, FIVE, b"\x82\x07\0\x01\0\0\x01a\x30", WRONG, "retain handling 3"),
        (CLIENT, FIVE, b"\x82\x10\0\x01\0\0\x0A$share/g/a\x04", WRONG, "No Local and shared"),
        (CLIENT, FIVE, b"\x82\x09\0\x01\x02\x0B\0\0\x01a\0", WRONG, "subscription identifier 0"),
        (CLIENT, FIVE, b"\x82\x0B\0\x01\x04\x0B\x01\x0B\x01\0\x01a\0", WRONG, "two subscription identifiers"),
        (CLIENT, FIVE, b"\x82\x0A\0\x01\x03\x0B\x81\0\0\x01a\0", BROKEN, "a padded subscription identifier"),
        (CLIENT, FIVE, b"\x82\x0A\0\x01\x03\x1F\0\0\0\x01a\0", BROKEN, "a reason string"),
        (CLIENT, ALL, b"\x82\x04\0\x01\0\x09", BROKEN, "half a filter"),
        (CLIENT, OLD, b"\x82\x06\0\x01\0\x01\0\0", BROKEN, "NUL"),
        (CLIENT, V31, b"\x8C\x06\0\x01\0\x01a\0", BROKEN, "reserved flags, but DUP, in 3.1"),
        (CLIENT, ALL, b"\xA2\x05\0\0\0\x01a", BROKEN, "packet identifier 0"),
        (CLIENT, OLD, b"\xA2\x02\0\x01", WRONG, "no filter"),
        (CLIENT, FIVE, b"\xA2\x03\0\x01\0", WRONG, "no filter"),
        (CLIENT, OLD, b"\xA2\x04\0\x01\0\x01", BROKEN, "half a filter"),
        (CLIENT, FIVE, b"\xA2\x08\0\x01\x02\x0B\x01\0\x01a", BROKEN, "a subscription identifier"),
    ]);
}

#[test]
fn their_answers() {
    check(&[
        (SERVER, OLD, b"\x90\x03\0\0\0", BROKEN, "packet identifier 0"),
        (SERVER, OLD, b"\x90\x02\0\x01", BROKEN, "no return code"),
        (SERVER, FIVE, b"\x90\x03\0\x01\0", BROKEN, "no reason code"),
        (SERVER, OLD, b"\x90\x03\0\x01\x03", BROKEN, "a return code that does not exist"),
        (SERVER, OLD, b"\x90\x03\0\x01\x87", BROKEN, "a return code of version 5"),
        (SERVER, FIVE, b"\x90\x04\0\x01\0\x03", WRONG, "a reason code that does not exist"),
        (SERVER, OLD, b"\xB0\x03\0\x01\0", BROKEN, "more than it has"),
        (SERVER, FIVE, b"\xB0\x03\0\x01\0", BROKEN, "no reason code"),
        (SERVER, FIVE, b"\xB0\x04\0\x01\0\x01", WRONG, "a reason code that does not exist"),
    ]);
}

#[test]
fn disconnects() {
    check(&[
        (CLIENT, OLD, b"\xE0\x01\0", BROKEN, "a body in 3.1.1"),
        (CLIENT, FIVE, b"\xE0\x01\x8E", WRONG, "a reason that only a server has"),
        (CLIENT, FIVE, b"\xE0\x01\x01", WRONG, "a reason that does not exist"),
        (SERVER, FIVE, b"\xE0\x01\x04", WRONG, "a reason that only a client has"),
        (SERVER, FIVE, b"\xE0\x07\0\x05\x11\0\0\0\x01", WRONG, "session expiry from a server"),
        (CLIENT, FIVE, b"\xE0\x05\0\x03\x1C\0\0", BROKEN, "a server reference from a client"),
        (CLIENT, FIVE, b"\xE0\x0C\0\x0A\x11\0\0\0\x01\x11\0\0\0\x01", WRONG, "session expiry twice"),
        (CLIENT, FIVE, b"\xE0\x03\0\0\0", BROKEN, "more than it has"),
    ]);
}

#[test]
fn a_stranger_may_say_only_so_much() {
    let version = b"\0\x04MQTT\x05";
    let header = [&[0x10][..], &[0xF8, 0xFF, 0x7F], version].concat();
    assert!(matches!(decoder(Peer::Client, None).next(&header, AT), Err(Error::Bad(Reason::PACKET_TOO_LARGE, _))));
    // A legal one with the longest fields.
    let mut connect = Connect::new(Version::V5, "c".repeat(200));
    let message = Message { at: AT, ..Message::new("t", vec![1; 65_535]) };
    connect.will = Some(Will { message, delay: Duration::ZERO });
    (connect.user, connect.password) = (Some("u".repeat(65_535).into()), Some(vec![2; 65_535].into()));
    let bytes = encode(Version::V5, &Packet::Connect(Box::new(connect.clone())));
    assert!(decode(Peer::Client, None, &bytes).is_ok());
    // Its will's user properties are small on the wire, and large in memory.
    for (count, good) in [(2000, true), (40_000, false)] {
        let user = vec![("".into(), "".into()); count];
        let properties = Some(Box::new(Properties { user, ..Properties::default() }));
        connect.will = Some(Will { message: Message { properties, ..Message::new("t", "") }, delay: Duration::ZERO });
        let bytes = encode(Version::V5, &Packet::Connect(Box::new(Connect { password: None, ..connect.clone() })));
        match decode(Peer::Client, None, &bytes) {
            Ok(_) => assert!(good, "{count}"),
            Err(Error::Bad(reason, _)) => assert!(!good && reason == Reason::PACKET_TOO_LARGE, "{count}"),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_topic_with_too_many_levels_is_left_to_the_router() {
    let topic = "/".repeat(300);
    let bytes = packet(0x30, &[&[1, 44][..], topic.as_bytes()].concat());
    assert!(decode(Peer::Client, Some(Version::V311), &bytes).is_ok());
}
