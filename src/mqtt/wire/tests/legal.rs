//! Bytes that are legal, by the tables of the specifications, and the packets that they are.

use super::*;

/// One packet from `peer` in each of `versions`.
#[track_caller]
fn is(versions: &[Version], peer: Peer, bytes: &[u8], expected: Packet) {
    for version in versions {
        let back = decode(peer, before(&expected, *version), bytes);
        assert_eq!(back.unwrap(), std::slice::from_ref(&expected), "{version:?} {bytes:02x?}");
    }
}

const OLD: [Version; 2] = [Version::V31, Version::V311];
const FIVE: [Version; 1] = [Version::V5];

fn message(topic: &str, payload: &'static [u8], qos: QoS) -> Message {
    Message { qos, at: AT, ..Message::new(topic, payload) }
}

fn publish(message: Message, number: u16) -> Publish {
    Publish {
        id: PacketId::new(number),
        dup: false,
        qos: message.qos,
        retain: message.retain,
        message: Arc::new(message),
        topic_alias: None,
        subscription_ids: Vec::new(),
        place: None,
    }
}

#[test]
fn connect_of_each_version() {
    let connect = |version| Connect { keep_alive: Duration::from_secs(60), ..Connect::new(version, "c") };
    let is =
        |bytes: &[u8], connect: Connect| is(&[connect.version], Peer::Client, bytes, Packet::Connect(connect.into()));
    is(b"\x10\x0F\0\x06MQIsdp\x03\x02\0\x3C\0\x01c", connect(Version::V31));
    is(b"\x10\x0D\0\x04MQTT\x04\x02\0\x3C\0\x01c", connect(Version::V311));
    is(b"\x10\x0E\0\x04MQTT\x05\x02\0\x3C\0\0\x01c", connect(Version::V5));
    // Without a clean session it lives for ever in 3.1.1, and not beyond the connection in 5.
    let stays = Connect { clean_start: false, expiry: u32::MAX, ..connect(Version::V311) };
    is(b"\x10\x0D\0\x04MQTT\x04\x00\0\x3C\0\x01c", stays);
    // A remaining length in two bytes where one would do: 3.1.1 does not forbid it.
    is(b"\x10\x8D\x00\0\x04MQTT\x04\x02\0\x3C\0\x01c", connect(Version::V311));
    // An empty client identifier, for a clean session in 3.1.1, and for any in 5.
    is(b"\x10\x0C\0\x04MQTT\x04\x02\0\x3C\0\0", Connect { client_id: "".into(), ..connect(Version::V311) });
    let nameless = Connect { client_id: "".into(), clean_start: false, ..connect(Version::V5) };
    is(b"\x10\x0D\0\x04MQTT\x05\x00\0\x3C\0\0\0", nameless);
    // A password without a user name: 5 has it [MQTT-3.1.2-22 is of 3.1.1].
    let password = Connect { password: Some(Bytes::from_static(b"p\0")), ..connect(Version::V5) };
    is(b"\x10\x12\0\x04MQTT\x05\x42\0\x3C\0\0\x01c\0\x02p\0", password);
}

#[test]
fn connect_with_everything() {
    let old = b"\x10\x20\0\x04MQTT\x04\xEE\0\0\0\x01c\0\x01w\0\x04gone\0\x04user\0\x02pw";
    let mut will = message("w", b"gone", QoS::AtLeastOnce);
    will.retain = true;
    let connect = Connect {
        user: Some("user".into()),
        password: Some("pw".into()),
        will: Some(Will { message: will.clone(), delay: Duration::ZERO }),
        ..Connect::new(Version::V311, "c")
    };
    is(&[Version::V311], Peer::Client, old, Packet::Connect(Box::new(connect.clone())));

    let properties = b"\x11\0\0\x0E\x10\x21\0\x0A\x27\0\0\x10\0\x22\0\x05\x19\x01\x17\x00\x26\0\x01k\0\x01v\x26\0\x01k\0\x01v\x15\0\x01m\x16\0\x01d";
    let of_will = b"\x18\0\0\0\x07\x01\x01\x02\0\0\0\x00\x03\0\x01t\x08\0\x01r\x09\0\x01\xFF\x26\0\x01k\0\0";
    let body = [
        b"\0\x04MQTT\x05\xEE\0\0".as_slice(),
        &[properties.len() as u8],
        properties,
        b"\0\x01c",
        &[of_will.len() as u8],
        of_will,
        b"\0\x01w\0\x04gone\0\x04user\0\x02pw",
    ];
    will.properties = Some(Box::new(Properties {
        utf8: Some(true),
        expiry: Some(0),
        content_type: Some("t".into()),
        response_topic: Some("r".into()),
        correlation: Some(vec![0xFF]),
        user: vec![("k".into(), "".into())],
    }));
    let five = Connect {
        version: Version::V5,
        expiry: 3600,
        receive_maximum: id(10),
        maximum_packet_size: Some(4096),
        topic_alias_maximum: 5,
        problem_info: false,
        authentication_method: Some("m".into()),
        will: Some(Will { message: will, delay: Duration::from_secs(7) }),
        ..connect
    };
    is(&FIVE, Peer::Client, &packet(0x10, &body.concat()), Packet::Connect(Box::new(five)));
}

#[test]
fn connack_of_each_version() {
    let is =
        |versions: &[Version], bytes: &[u8], ack| is(versions, Peer::Server, bytes, Packet::ConnAck(Box::new(ack)));
    is(&OLD, b"\x20\x02\0\0", ConnAck::new(Reason::SUCCESS));
    is(&OLD, b"\x20\x02\0\x05", ConnAck::new(Reason::NOT_AUTHORIZED));
    let present = ConnAck { session_present: true, ..ConnAck::new(Reason::SUCCESS) };
    is(&[Version::V311], b"\x20\x02\x01\0", present.clone());
    is(&FIVE, b"\x20\x03\x01\0\0", present);
    // The byte of the flags is reserved in 3.1, whatever stands there.
    is(&[Version::V31], b"\x20\x02\x01\0", ConnAck::new(Reason::SUCCESS));
    let properties = b"\x11\0\0\0\x09\x21\0\x0A\x24\x01\x25\x00\x27\0\0\x10\0\x12\0\x01i\x22\0\x05\x1F\0\x02no\x28\0\x29\0\x2A\0\x13\0\x1E\x1A\0\x01r\x1C\0\x01s\x15\0\x01m\x16\0\x01d\x26\0\x01k\0\x01v";
    let everything = ConnAck {
        expiry: Some(9),
        receive_maximum: id(10),
        maximum_qos: QoS::AtLeastOnce,
        retain_available: false,
        maximum_packet_size: Some(4096),
        assigned_client_id: Some("i".into()),
        topic_alias_maximum: 5,
        reason_string: Some("no".into()),
        server_reference: Some("s".into()),
        shared_available: false,
        server_keep_alive: Some(30),
        ..ConnAck::new(Reason::QUOTA_EXCEEDED)
    };
    let body = [&[0, 0x97, properties.len() as u8][..], properties].concat();
    is(&FIVE, &packet(0x20, &body), everything);
}

#[test]
fn publish_of_each_version() {
    let is = |versions: &[Version], peer, bytes: &[u8], p| is(versions, peer, bytes, Packet::Publish(p));
    for peer in PEERS {
        is(&OLD, peer, b"\x30\x05\0\x03a/b", publish(message("a/b", b"", QoS::AtMostOnce), 0));
        is(&OLD, peer, b"\x32\x06\0\x01a\0\x09x", publish(message("a", b"x", QoS::AtLeastOnce), 9));
        is(&FIVE, peer, b"\x34\x08\0\x01a\0\x09\0\0\xFF", publish(message("a", b"\0\xFF", QoS::ExactlyOnce), 9));
        let again = Publish { dup: true, ..publish(message("a", b"", QoS::AtLeastOnce), 9) };
        is(&OLD, peer, b"\x3A\x05\0\x01a\0\x09", again);
        let kept = Message { retain: true, ..message("a", b"", QoS::AtMostOnce) };
        is(&FIVE, peer, b"\x31\x04\0\x01a\0", publish(kept, 0));
    }
    // A byte order mark is a character of the topic [MQTT-1.5.4-3]; a payload that is not what is said is not looked at.
    is(&OLD, Peer::Client, b"\x30\x06\0\x04\xEF\xBB\xBFa", publish(message("\u{FEFF}a", b"", QoS::AtMostOnce), 0));
    let mut all = message("a", b"\xFF", QoS::AtMostOnce);
    all.properties = Some(Box::new(Properties {
        utf8: Some(true),
        expiry: Some(0),
        content_type: Some("t".into()),
        response_topic: Some("r/r".into()),
        correlation: Some(vec![]),
        user: vec![("k".into(), "v".into()), ("k".into(), "v".into())],
    }));
    let properties =
        b"\x26\0\x01k\0\x01v\x01\x01\x02\0\0\0\0\x03\0\x01t\x08\0\x03r/r\x09\0\0\x26\0\x01k\0\x01v".as_slice();
    let body = |more: &[u8]| {
        let length = [(properties.len() + more.len()) as u8];
        [b"\0\x01a", &length[..], properties, more, b"\xFF"].concat()
    };
    is(&FIVE, Peer::Client, &packet(0x30, &body(b"")), publish(all.clone(), 0));
    // A server's has the identifiers of all subscriptions that it came by.
    let came_by = Publish { subscription_ids: vec![5, 268_435_455, 5], ..publish(all, 0) };
    is(&FIVE, Peer::Server, &packet(0x30, &body(b"\x0B\x05\x0B\xFF\xFF\xFF\x7F\x0B\x05")), came_by);
    // Payload format 0 says what none says, and is forwarded unchanged all the same.
    let mut bytes = message("a", b"", QoS::AtMostOnce);
    bytes.properties = Some(Box::new(Properties { utf8: Some(false), ..Properties::default() }));
    is(&FIVE, Peer::Client, b"\x30\x06\0\x01a\x02\x01\0", publish(bytes, 0));
}

#[test]
fn acknowledgements_of_each_version() {
    let ack = |reason| Ack { id: id(0x0102), reason: Reason(reason) };
    for (first, of) in [
        (0x40, Packet::PubAck as fn(Ack) -> Packet),
        (0x50, Packet::PubRec),
        (0x62, Packet::PubRel),
        (0x70, Packet::PubComp),
    ] {
        for peer in PEERS {
            is(&VERSIONS, peer, &[first, 2, 1, 2], of(ack(0)));
            let code = if first < 0x60 { 0x87 } else { 0x92 };
            is(&FIVE, peer, &[first, 3, 1, 2, code], of(ack(code)));
            is(&FIVE, peer, &[first, 4, 1, 2, code, 0], of(ack(code)));
            let text = [1, 2, code, 12, 0x1F, 0, 2, b'n', b'o', 0x26, 0, 1, b'k', 0, 1, b'v'];
            is(&FIVE, peer, &packet(first, &text), of(ack(code)));
        }
    }
    // A cloud with a code of its own is understood.
    is(&FIVE, Peer::Server, b"\x40\x03\x01\x02\xF0", Packet::PubAck(ack(0xF0)));
    // 3.1 says DUP when it repeats what it waits for.
    is(&[Version::V31], Peer::Client, b"\x6A\x02\x01\x02", Packet::PubRel(ack(0)));
}

#[test]
fn subscribe_and_unsubscribe_of_each_version() {
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    let subscribe = |filters: &[(&str, SubscribeOptions)], subscription_id| {
        let filters = filters.iter().map(|(filter, options)| (Arc::from(*filter), *options)).collect();
        Packet::Subscribe(Box::new(Subscribe { id: id(7), filters, subscription_id }))
    };
    is(&OLD, Peer::Client, b"\x82\x06\0\x07\0\x01#\x01", subscribe(&[("#", options)], None));
    is(&[Version::V31], Peer::Client, b"\x8A\x06\0\x07\0\x01#\x01", subscribe(&[("#", options)], None));
    let all = SubscribeOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    // A filter that is none is the router's to refuse.
    is(
        &FIVE,
        Peer::Client,
        b"\x82\x16\0\x07\x0A\x0B\x80\x01\x26\0\x01k\0\x01v\0\x01#\x2E\0\x02a#\x01",
        subscribe(&[("#", all), ("a#", options)], Some(128)),
    );
    let filters = vec!["a".into(), "".into()];
    is(&OLD, Peer::Client, b"\xA2\x07\0\x07\0\x01a\0\0", Packet::Unsubscribe { id: id(7), filters: filters.clone() });
    is(
        &FIVE,
        Peer::Client,
        b"\xA2\x0F\0\x07\x07\x26\0\x01k\0\x01v\0\x01a\0\0",
        Packet::Unsubscribe { id: id(7), filters },
    );
}

#[test]
fn a_bridge_of_mosquitto_s_is_given_what_it_cannot_ask_for() {
    for (level, bridge) in [(4, false), (0x84, true)] {
        let connect = [&b"\x10\x0D\0\x04MQTT"[..], &[level], b"\x02\0\0\0\x01c"].concat();
        let subscribe = b"\x82\x13\0\x01\0\x01a\x01\0\x0A$share/g/a\x01";
        let packets = decode(Peer::Client, None, &[&connect[..], subscribe].concat()).unwrap();
        let [Packet::Connect(connect), Packet::Subscribe(subscribe)] = &packets[..] else { panic!("{packets:?}") };
        assert_eq!((connect.version, connect.bridge), (Version::V311, bridge));
        assert_eq!(encode(Version::V311, &packets[0])[8], level);
        let given: Vec<_> =
            subscribe.filters.iter().map(|(_, options)| (options.no_local, options.retain_as_published)).collect();
        // Who shares cannot know whose message comes to it.
        assert_eq!(given, [(bridge, bridge), (false, bridge)]);
    }
}

#[test]
fn their_answers_of_each_version() {
    let reasons = |codes: &[u8]| codes.iter().copied().map(Reason).collect::<Vec<_>>();
    let suback = |codes| Packet::SubAck { id: id(7), reasons: reasons(codes) };
    is(&OLD, Peer::Server, b"\x90\x06\0\x07\0\x01\x02\x80", suback(&[0, 1, 2, 0x80]));
    is(&FIVE, Peer::Server, b"\x90\x0A\0\x07\x05\x1F\0\x02no\x01\x9E", suback(&[1, 0x9E]));
    is(&OLD, Peer::Server, b"\xB0\x02\0\x07", Packet::UnsubAck { id: id(7), reasons: vec![] });
    is(&FIVE, Peer::Server, b"\xB0\x05\0\x07\0\0\x11", Packet::UnsubAck { id: id(7), reasons: reasons(&[0, 0x11]) });
    is(&VERSIONS, Peer::Server, b"\xD0\0", Packet::PingResp);
}

#[test]
fn ping_and_disconnect_of_each_version() {
    let end = |reason, expiry| Packet::Disconnect { reason: Reason(reason), expiry };
    is(&VERSIONS, Peer::Client, b"\xC0\0", Packet::PingReq);
    is(&VERSIONS, Peer::Client, b"\xE0\0", end(0, None));
    is(&FIVE, Peer::Client, b"\xE0\x01\x04", end(0x04, None));
    is(&FIVE, Peer::Client, b"\xE0\x02\x04\0", end(0x04, None));
    is(&FIVE, Peer::Client, b"\xE0\x0C\0\x0A\x11\0\0\0\x05\x1F\0\x02ok", end(0, Some(5)));
    is(&FIVE, Peer::Server, b"\xE0\x06\x9D\x04\x1C\0\x01s", end(0x9D, None));
}

#[test]
fn a_session_without_an_expiry_may_say_so_again_at_its_end() {
    let connect = encode(Version::V5, &Packet::Connect(Box::new(Connect::new(Version::V5, "c"))));
    let end = |seconds: u8| [&connect[..], &[0xE0, 7, 0, 5, 0x11, 0, 0, 0, seconds]].concat();
    assert!(decode(Peer::Client, None, &end(0)).is_ok());
    assert!(matches!(decode(Peer::Client, None, &end(1)), Err(Error::Bad(Reason::PROTOCOL_ERROR, _))));
}

#[test]
fn topic_aliases_stand_for_their_topics() {
    let bytes = b"\x30\x07\0\x01a\x03\x23\0\x05\x30\x07\0\x01b\x03\x23\0\x40\x30\x06\0\0\x03\x23\0\x05\x30\x06\0\0\x03\x23\0\x40\x30\x07\0\x01c\x03\x23\0\x05\x30\x06\0\0\x03\x23\0\x05";
    let packets = decode(Peer::Client, Some(Version::V5), bytes).unwrap();
    let topics: Vec<_> = packets
        .iter()
        .map(|packet| match packet {
            Packet::Publish(p) => {
                assert_eq!(p.topic_alias, None, "it is of this connection only");
                &*p.message.topic
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(topics, ["a", "b", "a", "b", "c", "c"]);
}

#[test]
fn messages_in_a_row_share_their_topic() {
    let bytes = b"\x30\x04\0\x02aa\x30\x04\0\x02aa";
    let packets = decode(Peer::Client, Some(Version::V311), bytes).unwrap();
    let [Packet::Publish(one), Packet::Publish(two)] = &packets[..] else { panic!("{packets:?}") };
    assert!(Arc::ptr_eq(&one.message.topic, &two.message.topic));
}
