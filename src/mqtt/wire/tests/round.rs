//! Random packets there and back, and what the encoder does beside.

use super::*;

#[test]
fn every_packet_of_every_version_goes_there_and_back() {
    let mut r = Rng::with_seed(2);
    for round in 0..30_000 {
        let (version, peer) = (VERSIONS[round % 3], pick(&mut r, &PEERS));
        let packet = random_packet(&mut r, version, peer);
        let bytes = encode(version, &packet);
        let back = decode(peer, before(&packet, version), &bytes);
        assert_eq!(back.unwrap(), [packet], "{version:?} {bytes:02x?}");
    }
}

#[test]
fn an_acknowledgement_of_success_is_as_short_as_it_can_be() {
    let ok = Ack::ok(id(0x1234));
    for version in VERSIONS {
        assert_eq!(encode(version, &Packet::PubAck(ok)), b"\x40\x02\x12\x34");
        assert_eq!(encode(version, &Packet::PubRec(ok)), b"\x50\x02\x12\x34");
        assert_eq!(encode(version, &Packet::PubRel(ok)), b"\x62\x02\x12\x34");
        assert_eq!(encode(version, &Packet::PubComp(ok)), b"\x70\x02\x12\x34");
        assert_eq!(encode(version, &Packet::Disconnect { reason: Reason::SUCCESS, expiry: None }), b"\xE0\x00");
    }
    let nobody = Ack { reason: Reason::NO_MATCHING_SUBSCRIBERS, ..ok };
    assert_eq!(encode(Version::V5, &Packet::PubAck(nobody)), b"\x40\x03\x12\x34\x10");
    assert_eq!(encode(Version::V311, &Packet::PubAck(nobody)), b"\x40\x02\x12\x34");
}

/// The text that a packet explains itself with, if it stands in its bytes.
fn explains(encoder: &mut Encoder, packet: &Packet, why: Option<&str>, text: &str) -> bool {
    let mut outbox = Outbox::default();
    encoder.encode(packet, why, &mut outbox).unwrap();
    let bytes = written(&mut outbox);
    bytes.windows(text.len() + 3).any(|part| part[0] == 0x1F && &part[3..] == text.as_bytes())
}

#[test]
fn failures_explain_themselves_to_those_who_want_to_know() {
    let refused = Ack { id: id(1), reason: Reason::NOT_AUTHORIZED };
    let text = Reason::NOT_AUTHORIZED.text();
    let reasons = vec![Reason(1), Reason::NOT_AUTHORIZED];
    let small = [
        Packet::PubAck(refused),
        Packet::PubRec(refused),
        Packet::PubRel(refused),
        Packet::PubComp(refused),
        Packet::SubAck { id: id(1), reasons: reasons.clone() },
        Packet::UnsubAck { id: id(1), reasons },
    ];
    let ends = [
        Packet::ConnAck(Box::new(ConnAck::new(Reason::NOT_AUTHORIZED))),
        Packet::Disconnect { reason: Reason::NOT_AUTHORIZED, expiry: None },
    ];
    let wants = Limits::default();
    for (problem_info, max_packet) in [(true, None), (false, None), (true, Some(8))] {
        let mut encoder = Encoder::new(Version::V5);
        encoder.set_limits(Limits { problem_info, max_packet, ..wants });
        for packet in &small {
            // MQTT-3.1.2-29; and MQTT-3.4.2-2: not where the packet would get too large by it.
            assert_eq!(explains(&mut encoder, packet, None, text), problem_info && max_packet.is_none(), "{packet:?}");
        }
        for packet in &ends {
            assert_eq!(explains(&mut encoder, packet, None, text), max_packet.is_none(), "{packet:?}");
            assert_eq!(explains(&mut encoder, packet, Some("more"), "more"), max_packet.is_none(), "{packet:?}");
        }
    }
    let mut old = Encoder::new(Version::V311);
    for packet in small.iter().chain(&ends) {
        assert!(!explains(&mut old, packet, None, text), "{packet:?}");
    }
}

#[test]
fn every_reason_code_has_a_text() {
    for code in (0x80..=0xA2).map(Reason) {
        assert!(code.text().ends_with('.') && code.text() != Reason(0xFF).text(), "{code:?}");
    }
}

fn publish(topic: &str, payload: usize) -> Publish {
    let message = Message { at: AT, qos: QoS::AtMostOnce, ..Message::new(topic, vec![0; payload]) };
    Publish {
        id: None,
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        message: Arc::new(message),
        topic_alias: None,
        subscription_ids: Vec::new(),
        place: None,
    }
}

#[test]
fn a_packet_larger_than_the_peer_takes_is_left_out_and_sets_no_alias() {
    let mut encoder = Encoder::new(Version::V5);
    encoder.set_limits(Limits { max_packet: Some(100), topic_aliases: 10, ..Limits::default() });
    let mut outbox = Outbox::default();
    // Two of header, two of length, twelve of topic, one of properties and three for the alias.
    let (fits, too_large) = (publish("plant7/level", 80), Packet::Publish(publish("plant7/level", 84)));
    assert!(matches!(encoder.encode(&too_large, None, &mut outbox), Err(Error::TooLarge)));
    assert_eq!(outbox.len(), 0);
    // What fits without an alias goes without.
    for payload in [81, 83] {
        encoder.encode(&Packet::Publish(publish("plant7/level", payload)), None, &mut outbox).unwrap();
        assert_eq!(written(&mut outbox).len(), payload + 17);
    }
    encoder.encode(&Packet::Publish(fits), None, &mut outbox).unwrap();
    let bytes = written(&mut outbox);
    assert_eq!(bytes.len(), 100);
    assert!(bytes.windows(12).any(|part| part == b"plant7/level"), "the topic is said with its alias");
    // By its alias it has room for more.
    encoder.encode(&too_large, None, &mut outbox).unwrap();
    assert_eq!(outbox.len(), 92);
    let oversized = Packet::Subscribe(Box::new(Subscribe {
        id: id(1),
        filters: vec![("x".repeat(70_000).into(), SubscribeOptions::default())],
        subscription_id: None,
    }));
    assert!(matches!(encoder.encode(&oversized, None, &mut outbox), Err(Error::TooLarge)));
    encoder.set_limits(Limits::default());
    assert!(matches!(encoder.encode(&oversized, None, &mut outbox), Err(Error::TooLarge)), "no length says that");
}

#[test]
fn topics_are_said_by_alias_and_arrive_as_topics() {
    for (maximum, expected) in [(0, 0), (3, 3), (1000, 32)] {
        let mut encoder = Encoder::new(Version::V5);
        encoder.set_limits(Limits { topic_aliases: maximum, ..Limits::default() });
        let mut decoder = decoder(Peer::Server, Some(Version::V5));
        let mut outbox = Outbox::default();
        let mut r = Rng::with_seed(7);
        for round in 0..1000 {
            let n = if round < 40 { round } else { r.usize(..40) };
            let sent = Packet::Publish(publish(&format!("plant7/point{n:02}"), 1));
            encoder.encode(&sent, None, &mut outbox).unwrap();
            let bytes = written(&mut outbox);
            let Next::Packet(came, _) = decoder.next(&bytes, AT).unwrap() else { panic!() };
            assert_eq!(came, sent);
            // The topic alone has 14.
            assert_eq!(bytes.len() < 14, round >= 40 && n < expected, "{n} of {expected}");
        }
    }
    // A peer of 3.1.1 knows none, whatever it is taken to have said.
    let mut encoder = Encoder::new(Version::V311);
    encoder.set_limits(Limits { topic_aliases: 10, ..Limits::default() });
    for _ in 0..2 {
        let mut outbox = Outbox::default();
        encoder.encode(&Packet::Publish(publish("plant7/level", 0)), None, &mut outbox).unwrap();
        assert_eq!(written(&mut outbox), packet(0x30, b"\0\x0cplant7/level"));
    }
}

#[test]
fn the_time_that_a_message_waited_is_taken_off_its_expiry() {
    let now = Timestamp::now();
    // At whole seconds; and one that ends on its way has a second, not none at all or all there are.
    for (waited, left) in [(0, 60), (900, 60), (10_100, 50), (59_100, 1), (70_000, 1)] {
        let mut sent = publish("a", 0);
        let properties = Some(Box::new(Properties { expiry: Some(60), ..Properties::default() }));
        sent.message =
            Arc::new(Message { at: Timestamp(now.0 - waited).into(), properties, ..(*sent.message).clone() });
        let bytes = encode(Version::V5, &Packet::Publish(sent));
        let [Packet::Publish(came)] = &decode(Peer::Server, Some(Version::V5), &bytes).unwrap()[..] else { panic!() };
        assert_eq!(came.message.properties.as_ref().unwrap().expiry, Some(left), "{waited}");
    }
}

#[test]
fn what_3_1_1_does_not_have_is_not_said() {
    let shutting_down = Packet::Disconnect { reason: Reason::SERVER_SHUTTING_DOWN, expiry: None };
    assert_eq!(encode(Version::V311, &shutting_down), b"");
    let unsuback = Packet::UnsubAck { id: id(1), reasons: vec![Reason::SUCCESS] };
    assert_eq!(encode(Version::V311, &unsuback), b"\xB0\x02\x00\x01");
    let suback = Packet::SubAck { id: id(1), reasons: vec![Reason(2), Reason::TOPIC_FILTER_INVALID] };
    assert_eq!(encode(Version::V311, &suback), b"\x90\x04\x00\x01\x02\x80");
    for (reason, code) in [(0x00, 0), (0x84, 1), (0x85, 2), (0x88, 3), (0x97, 3), (0x86, 4), (0x87, 5)] {
        let ack = ConnAck { session_present: true, ..ConnAck::new(Reason(reason)) };
        let ack = Packet::ConnAck(Box::new(ack));
        assert_eq!(encode(Version::V311, &ack), [0x20, 2, u8::from(reason == 0), code], "{reason:#04x}");
        assert_eq!(encode(Version::V31, &ack), [0x20, 2, 0, code], "{reason:#04x}");
    }
}
