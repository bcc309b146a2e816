//! Sections 3.1 and 3.2: CONNECT and CONNACK, but for the will.

use std::time::{Duration, Instant};

use super::super::bytes5::*;
use super::super::scope5::Scope;

/// The properties of the CONNACK that answers this.
async fn answer(scope: &Scope, connect: &Connect) -> Vec<Property> {
    match scope.connect(connect).await.1 {
        Packet::ConnAck { reason: 0, properties, .. } => properties,
        other => panic!("not connected: {other:?}"),
    }
}

fn assigned(properties: &[Property]) -> String {
    let id = properties.iter().find_map(|p| if let AssignedClientId(id) = p { Some(id.clone()) } else { None });
    id.expect("an id for a client without one")
}

#[tokio::test]
async fn mqtt_3_1_0_1() {
    let scope = Scope::new().await;
    for first in [&PINGREQ[..], &DISCONNECT, &Publish::new("t", "").bytes(), &subscribe(1, &[], &[("t", 0)])] {
        let mut client = scope.open().await;
        client.send(first).await;
        assert_eq!(client.rest().await, [], "nothing is said to who does not begin with CONNECT");
    }
}

#[tokio::test]
async fn mqtt_3_1_0_2() {
    let scope = Scope::new().await;
    let connect = Connect::new(&scope.id("a"));
    let (mut client, _) = scope.session(&connect).await;
    client.send(connect.bytes()).await;
    client.is_told(0x82).await;
}

#[tokio::test]
async fn mqtt_3_1_2_1() {
    let scope = Scope::new().await;
    for name in ["", "MQT", "mqtt", "MQTTX", "MQIsdp", "HTTP"] {
        let connect = Connect { name: name.into(), ..Connect::new(&scope.id("a")) };
        let mut client = scope.open().await;
        client.send(connect.bytes()).await;
        // Whichever version's form a refusal has: its reason is the last but for MQTT 5's properties.
        match client.next_bytes().await.as_deref() {
            None | Some([0x20, 3, 0, 0x84, 0] | [0x20, 2, 0, 1]) => {}
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(client.next_bytes().await, None);
    }
}

#[tokio::test]
async fn mqtt_3_1_2_2() {
    let scope = Scope::new().await;
    for level in [0, 1, 2, 6, 7, 0x85, 0xFF] {
        let mut client = scope.open().await;
        client.send(Connect { level, ..Connect::new(&scope.id("a")) }.bytes()).await;
        match client.next_bytes().await.as_deref() {
            None | Some([0x20, 3, 0, 0x84, 0] | [0x20, 2, 0, 1]) => {}
            other => panic!("{level}: {other:?}"),
        }
        assert_eq!(client.next_bytes().await, None);
    }
}

#[tokio::test]
async fn mqtt_3_1_2_3() {
    let scope = Scope::new().await;
    scope.refuses(Connect { flags: 0x03, ..Connect::new(&scope.id("a")) }.bytes()).await;
    scope.refuses(Connect { flags: 0x01, ..Connect::new(&scope.id("a")) }.bytes()).await;
}

#[tokio::test]
async fn mqtt_3_1_2_4() {
    let scope = Scope::new().await;
    let (mut keeper, _) = scope.keeper("a").await;
    let mut publisher = scope.client("b").await;
    keeper.subscribe(&scope.topic("t"), 1).await;
    keeper.leave().await;
    publisher.publish(Publish::new(&scope.topic("t"), "waits").qos(1, 0)).await;
    let (mut keeper, present) = scope.session(&Connect::keep(&scope.id("a"), 60).clean()).await;
    assert!(!present);
    publisher.publish(Publish::new(&scope.topic("t"), "comes").qos(1, 0)).await;
    keeper.is_quiet().await;
}

#[tokio::test]
async fn mqtt_3_1_2_5() {
    let scope = Scope::new().await;
    let (mut keeper, _) = scope.keeper("a").await;
    let mut publisher = scope.client("b").await;
    keeper.subscribe(&scope.topic("t"), 1).await;
    keeper.vanish();
    publisher.publish(Publish::new(&scope.topic("t"), "waits").qos(1, 0)).await;
    let (mut keeper, present) = scope.keeper("a").await;
    assert!(present);
    publisher.publish(Publish::new(&scope.topic("t"), "comes").qos(1, 0)).await;
    assert_eq!(keeper.take(2).await, ["waits", "comes"]);
}

#[tokio::test]
async fn mqtt_3_1_2_6() {
    let scope = Scope::new().await;
    let (mut keeper, present) = scope.keeper("a").await;
    assert!(!present);
    keeper.subscribe(&scope.topic("t"), 1).await;
    keeper.leave().await;
    assert!(scope.keeper("a").await.1, "it was a session like any other");
}

#[tokio::test]
async fn mqtt_3_1_2_16() {
    let scope = Scope::new().await;
    scope.refuses(Connect::new(&scope.id("a")).field(0, text("user")).bytes()).await;
}

#[tokio::test]
async fn mqtt_3_1_2_17() {
    let scope = Scope::new().await;
    scope.refuses(Connect { flags: 0x82, ..Connect::new(&scope.id("a")) }.bytes()).await;
    scope.session(&Connect::new(&scope.id("a")).field(0x80, text("user"))).await;
}

#[tokio::test]
async fn mqtt_3_1_2_18() {
    let scope = Scope::new().await;
    let connect = Connect::new(&scope.id("a")).field(0x80, text("user")).field(0, text("password"));
    scope.refuses(connect.bytes()).await;
}

#[tokio::test]
async fn mqtt_3_1_2_19() {
    let scope = Scope::new().await;
    scope.refuses(Connect { flags: 0xC2, ..Connect::new(&scope.id("a")) }.field(0, text("user")).bytes()).await;
    scope.refuses(Connect { flags: 0x42, ..Connect::new(&scope.id("a")) }.bytes()).await;
    scope.session(&Connect::new(&scope.id("a")).field(0x80, text("user")).field(0x40, text(b"\xff\0"))).await;
}

#[tokio::test]
async fn mqtt_3_1_2_22() {
    let scope = Scope::new().await;
    let mut watcher = scope.client("w").await;
    watcher.subscribe(&scope.topic("gone"), 0).await;
    let connect = Connect::new(&scope.id("a")).keep_alive(1).will(&Publish::new(&scope.topic("gone"), "silent"));
    let (mut client, _) = scope.session(&connect).await;
    let since = Instant::now();
    client.is_told(0x8D).await;
    assert!(since.elapsed() >= Duration::from_millis(1400), "it has one and a half times the keep alive");
    assert_eq!(watcher.take(1).await, ["silent"]);
}

#[tokio::test]
async fn mqtt_3_1_2_23() {
    let scope = Scope::new().await;
    for (name, polite) in [("a", true), ("b", false)] {
        let (mut keeper, _) = scope.keeper(name).await;
        keeper.subscribe(&scope.topic("t"), 2).await;
        if polite {
            keeper.leave().await;
        } else {
            keeper.vanish();
        }
        scope.client("p").await.publish(Publish::new(&scope.topic("t"), name).qos(2, 0)).await;
        let (mut keeper, present) = scope.keeper(name).await;
        assert!(present);
        assert_eq!(keeper.take(1).await, [name]);
        keeper.send(unsubscribe(1, &[&scope.topic("t")])).await;
        assert!(matches!(keeper.next().await, Packet::UnsubAck { .. }));
    }
}

#[tokio::test]
async fn mqtt_3_1_2_24() {
    let scope = Scope::new().await;
    let topic = scope.topic("t");
    // A PUBLISH at QoS 1: two bytes of header, topic and its length, packet id, no properties, payload.
    let size = 2 + 2 + topic.len() + 2 + 1 + 20;
    let connect = Connect::new(&scope.id("a")).with(MaximumPacketSize(size as u32));
    let (mut client, _) = scope.session(&connect).await;
    client.subscribe(&topic, 1).await;
    let mut publisher = scope.client("b").await;
    for length in [21, 20, 1000, 19] {
        publisher.publish(Publish::new(&topic, vec![b'x'; length]).qos(1, 0)).await;
    }
    for length in [20, 19] {
        let bytes = client.next_bytes().await.unwrap();
        assert_eq!(bytes.len(), size - 20 + length);
    }
}

#[tokio::test]
async fn mqtt_3_1_2_25() {
    let scope = Scope::new().await;
    let connect = Connect::keep(&scope.id("a"), 60).with(MaximumPacketSize(100)).with(ReceiveMaximum(1));
    let (mut client, _) = scope.session(&connect).await;
    client.subscribe(&scope.topic("t"), 2).await;
    let mut publisher = scope.client("b").await;
    // What is left out takes no place in a window of one, and does not come back with the session.
    for qos in [0, 1, 2, 1, 2] {
        publisher.publish(Publish::new(&scope.topic("t"), vec![b'x'; 1000]).qos(qos, 0)).await;
    }
    publisher.publish(Publish::new(&scope.topic("t"), "small").qos(2, 0)).await;
    assert_eq!(client.take(1).await, ["small"]);
    client.is_quiet().await;
    client.leave().await;
    let (mut client, present) = scope.keeper("a").await;
    assert!(present);
    client.is_quiet().await;
}

#[tokio::test]
async fn mqtt_3_1_2_26() {
    let scope = Scope::new().await;
    let (mut client, _) = scope.session(&Connect::new(&scope.id("a")).with(TopicAliasMaximum(2))).await;
    client.subscribe(&scope.topic("#"), 0).await;
    let mut publisher = scope.client("b").await;
    for n in 0..20 {
        let topic = scope.topic(&format!("{}", n % 5));
        publisher.publish(Publish::new(&topic, "x")).await;
        let message = client.message().await;
        assert_eq!(message.topic, topic);
        let is_large = |p: &Property| matches!(p, TopicAlias(3..));
        assert!(!message.properties.iter().any(is_large), "{message:?}");
    }
}

#[tokio::test]
async fn mqtt_3_1_2_27() {
    let scope = Scope::new().await;
    for (name, connect) in [("a", None), ("b", Some(TopicAliasMaximum(0)))] {
        let connect = connect.into_iter().fold(Connect::new(&scope.id(name)), Connect::with);
        let (mut client, _) = scope.session(&connect).await;
        client.subscribe(&scope.topic("t"), 0).await;
        for _ in 0..5 {
            client.send(Publish::new(&scope.topic("t"), "x").bytes()).await;
            assert_eq!(client.message().await.properties, []);
        }
    }
}

#[tokio::test]
async fn mqtt_3_1_2_28() {
    let scope = Scope::new().await;
    let connect = Connect::new(&scope.id("a"));
    for connect in [connect.clone().with(RequestResponseInformation(0)), connect] {
        let properties = answer(&scope, &connect).await;
        assert!(!properties.iter().any(|p| matches!(p, ResponseInformation(_))), "{properties:?}");
    }
}

#[tokio::test]
async fn mqtt_3_1_2_29() {
    let scope = Scope::new().await;
    let (mut client, _) = scope.session(&Connect::new(&scope.id("a")).with(RequestProblemInformation(0))).await;
    client.send(Publish::new("$SYS/mine", "").qos(1, 1).bytes()).await;
    client.send(Publish::new("$SYS/mine", "").qos(2, 2).bytes()).await;
    client.send(ack(PUBREL, 9, 0)).await;
    client.send(ack(PUBREC, 9, 0)).await;
    client.send(subscribe(3, &[], &[("a/#/b", 0), ("$share//t", 0)])).await;
    client.send(unsubscribe(4, &["a/#/b", "never"])).await;
    for _ in 0..6 {
        let answer = client.next().await;
        assert_eq!(answer.properties(), [], "{answer:?}");
    }
}

#[tokio::test]
async fn mqtt_3_1_3_1() {
    let scope = Scope::new().await;
    let mut watcher = scope.client("w").await;
    watcher.subscribe(&scope.topic("gone"), 0).await;
    let will = Publish::new(&scope.topic("gone"), "the payload").with(ContentType("kind".into()));
    let connect = Connect::new(&scope.id("a")).will(&will).field(0x80, text("user")).field(0x40, text("password"));
    let (client, _) = scope.session(&connect).await;
    client.vanish();
    assert_eq!(watcher.message().await, will);
    // Password before user name, or user name before the will: the fields are read in their places and do not fit.
    let connect = Connect::new(&scope.id("a")).field(0x80, text("user")).will(&will);
    scope.refuses(connect.bytes()).await;
}

#[tokio::test]
async fn mqtt_3_1_3_2() {
    let scope = Scope::new().await;
    for name in ["a", "A", "a ", "aa"] {
        let (mut keeper, present) = scope.keeper(name).await;
        assert!(!present, "{name:?} is a client of its own");
        keeper.subscribe(&scope.topic(&format!("t{name}")), 1).await;
        keeper.leave().await;
    }
    scope.client("p").await.publish(Publish::new(&scope.topic("tA"), "x").qos(1, 0)).await;
    for (name, n) in [("a", 0), ("A", 1), ("a ", 0), ("aa", 0)] {
        let (mut keeper, present) = scope.keeper(name).await;
        assert!(present);
        keeper.take(n).await;
        keeper.is_quiet().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_3_3() {
    let scope = Scope::new().await;
    scope.refuses(Connect { payload: vec![], ..Connect::new("") }.bytes()).await;
}

#[tokio::test]
async fn mqtt_3_1_3_4() {
    let scope = Scope::new().await;
    for bad in [&b"\xff"[..], b"a\xed\xbf\xbf", b"\xc1\xbf"] {
        scope.refuses(Connect { payload: vec![text(bad)], ..Connect::new("") }.bytes()).await;
    }
    scope.session(&Connect::new(&scope.id("ключ-鍵-🔑"))).await;
}

#[tokio::test]
async fn mqtt_3_1_3_5() {
    let scope = Scope::new().await;
    for id in ["0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ", "z"] {
        scope.session(&Connect::new(id)).await.0.leave().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_3_6() {
    let scope = Scope::new().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let (client, answer) = scope.connect(&Connect::new("")).await;
        clients.push((assigned(answer.properties()), client));
    }
    for i in 1..clients.len() {
        assert!(clients[..i].iter().all(|(id, _)| *id != clients[i].0), "{} twice", clients[i].0);
    }
    // None has taken another's place.
    for (_, client) in &mut clients {
        client.is_quiet().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_3_7() {
    let scope = Scope::new().await;
    let (mut client, answer) = scope.connect(&Connect::new("").with(SessionExpiry(60))).await;
    let id = assigned(answer.properties());
    client.subscribe(&scope.topic("t"), 1).await;
    client.leave().await;
    let (mut client, present) = scope.session(&Connect::keep(&id, 60)).await;
    assert!(present, "the id that was given is the session's");
    client.send(Publish::new(&scope.topic("t"), "x").bytes()).await;
    assert_eq!(client.take(1).await, ["x"]);
    // One that had an id is not given another.
    assert!(!answer_has_id(&answer_to(&scope, &id).await));
}

async fn answer_to(scope: &Scope, id: &str) -> Vec<Property> {
    answer(scope, &Connect::new(id)).await
}

fn answer_has_id(properties: &[Property]) -> bool {
    properties.iter().any(|p| matches!(p, AssignedClientId(_)))
}

#[tokio::test]
async fn mqtt_3_1_3_8() {
    let scope = Scope::new().await;
    // The gateway's own sessions begin with `$`; nobody else's do.
    let (mut client, answer) = scope.connect(&Connect::keep("$uplink/cloud", 60)).await;
    assert!(matches!(answer, Packet::ConnAck { present: false, reason: 0x85, .. }), "{answer:?}");
    assert_eq!(client.rest().await, []);
}

#[tokio::test]
async fn mqtt_3_1_3_12() {
    let scope = Scope::new().await;
    for bad in [&b"\xff"[..], b"\xed\xa0\x80", b"a\0"] {
        scope.refuses(Connect::new(&scope.id("a")).field(0x80, text(bad)).bytes()).await;
    }
}

#[tokio::test]
async fn mqtt_3_1_4_1() {
    let scope = Scope::new().await;
    let good = Connect::new(&scope.id("a"));
    let bytes = good.bytes();
    // Cut at each place with a remaining length to match, and with something behind.
    for length in 2..bytes.len() {
        scope.refuses(packet(0x10, &[&bytes[2..length]])).await;
    }
    scope.refuses(packet(0x10, &[&bytes[2..], b"x"])).await;
    for bad in [
        SessionExpiry(1).bytes().repeat(2),
        ReceiveMaximum(1).bytes().repeat(2),
        MaximumPacketSize(100).bytes().repeat(2),
        TopicAliasMaximum(1).bytes().repeat(2),
        RequestProblemInformation(1).bytes().repeat(2),
        RequestResponseInformation(1).bytes().repeat(2),
        ReceiveMaximum(0).bytes(),
        MaximumPacketSize(0).bytes(),
        RequestProblemInformation(2).bytes(),
        RequestResponseInformation(2).bytes(),
        AuthenticationData(vec![1]).bytes(),
        PayloadFormat(1).bytes(),
        TopicAlias(1).bytes(),
        vec![0x00, 0x01],
        vec![0x7F, 0x01],
        vec![0x11, 0x00],
    ] {
        scope.refuses(good.clone().with(Raw(bad)).bytes()).await;
    }
}

#[tokio::test]
async fn mqtt_3_1_4_2() {
    let scope = Scope::new().await;
    let connect = Connect::new(&scope.id("a")).will(&Publish::new("$SYS/not/mine", "x"));
    let (mut client, answer) = scope.connect(&connect).await;
    assert!(matches!(answer, Packet::ConnAck { present: false, reason: 0x87, .. }), "{answer:?}");
    assert_eq!(client.rest().await, []);
}

#[tokio::test]
async fn mqtt_3_1_4_3() {
    let scope = Scope::new().await;
    for connect in [Connect::new(&scope.id("a")), Connect::keep(&scope.id("b"), 60)] {
        let (mut first, _) = scope.session(&connect).await;
        let (mut second, _) = scope.session(&connect).await;
        first.is_told(0x8E).await;
        second.is_quiet().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_4_4() {
    let scope = Scope::new().await;
    let (mut first, _) = scope.keeper("a").await;
    first.subscribe(&scope.topic("t"), 1).await;
    // Taken over while it is connected: with its state, and without.
    let (mut second, present) = scope.keeper("a").await;
    assert!(present);
    second.send(Publish::new(&scope.topic("t"), "x").bytes()).await;
    assert_eq!(second.take(1).await, ["x"]);
    let (mut third, present) = scope.session(&Connect::keep(&scope.id("a"), 60).clean()).await;
    assert!(!present);
    third.send(Publish::new(&scope.topic("t"), "x").bytes()).await;
    third.is_quiet().await;
}

#[tokio::test]
async fn mqtt_3_1_4_5() {
    let scope = Scope::new().await;
    let (_, answer) = scope.connect(&Connect::new(&scope.id("a"))).await;
    assert!(matches!(answer, Packet::ConnAck { present: false, reason: 0, .. }), "{answer:?}");
}

#[tokio::test]
async fn mqtt_3_1_4_6() {
    let scope = Scope::new().await;
    let mut watcher = scope.client("w").await;
    watcher.subscribe(&scope.topic("t"), 0).await;
    let refused = Connect::new(&scope.id("a")).with(AuthenticationMethod("none such".into()));
    let publish = Publish::new(&scope.topic("t"), "smuggled").bytes();
    scope.refuses([refused.bytes(), publish].concat()).await;
    watcher.is_quiet().await;
}

#[tokio::test]
async fn mqtt_3_2_0_1() {
    let scope = Scope::new().await;
    let (mut keeper, _) = scope.keeper("a").await;
    keeper.subscribe(&scope.topic("t"), 1).await;
    keeper.leave().await;
    scope.client("p").await.publish(Publish::new(&scope.topic("t"), "waits").qos(1, 0)).await;
    // Messages wait, and so does an answer to what is sent at once.
    let mut keeper = scope.open().await;
    keeper.send([&Connect::keep(&scope.id("a"), 60).bytes()[..], &PINGREQ].concat()).await;
    let first = keeper.next().await;
    assert!(matches!(first, Packet::ConnAck { present: true, reason: 0, .. }), "{first:?}");
    assert_eq!(keeper.take(1).await, ["waits"]);
    assert_eq!(keeper.next().await, Packet::PingResp);
}

#[tokio::test]
async fn mqtt_3_2_0_2() {
    let scope = Scope::new().await;
    let connect = Connect::new(&scope.id("a")).bytes();
    let mut client = scope.open().await;
    client.send([&connect[..], &connect].concat()).await;
    let packets = client.rest().await;
    let acks = packets.iter().filter(|p| matches!(p, Packet::ConnAck { .. })).count();
    assert_eq!(acks, 1, "{packets:?}");
}

#[tokio::test]
async fn mqtt_3_2_2_1() {
    let scope = Scope::new().await;
    for flags in [0, 0, 1] {
        let mut client = scope.open().await;
        let connect =
            if flags == 0 { Connect::keep(&scope.id("a"), 60).clean() } else { Connect::keep(&scope.id("a"), 0) };
        client.send(connect.bytes()).await;
        let bytes = client.next_bytes().await.unwrap();
        assert_eq!((bytes[0], bytes[2]), (0x20, flags), "{bytes:?}");
    }
}

#[tokio::test]
async fn mqtt_3_2_2_2() {
    let scope = Scope::new().await;
    for _ in 0..3 {
        let connect = Connect::keep(&scope.id("a"), 60).clean();
        assert!(!scope.session(&connect).await.1, "clean start finds no session, whatever there was");
    }
}

#[tokio::test]
async fn mqtt_3_2_2_3() {
    let scope = Scope::new().await;
    assert!(!scope.keeper("a").await.1);
    assert!(scope.keeper("a").await.1);
    // With no expiry the session ended with the connection.
    scope.session(&Connect::new(&scope.id("b"))).await.0.leave().await;
    assert!(!scope.keeper("b").await.1);
}

#[tokio::test]
async fn mqtt_3_2_2_6() {
    let scope = Scope::new().await;
    scope.keeper("a").await.0.leave().await;
    let connect = Connect::keep(&scope.id("a"), 60).with(AuthenticationMethod("none such".into()));
    let (_, answer) = scope.connect(&connect).await;
    assert!(matches!(answer, Packet::ConnAck { present: false, reason: 0x80.., .. }), "{answer:?}");
    assert!(scope.keeper("a").await.1, "it is there none the less");
}

#[tokio::test]
async fn mqtt_3_2_2_7() {
    let scope = Scope::new().await;
    let connect = Connect::new(&scope.id("a")).with(AuthenticationMethod("none such".into()));
    let (mut client, answer) = scope.connect(&connect).await;
    assert!(matches!(answer, Packet::ConnAck { reason: 0x80.., .. }), "{answer:?}");
    assert_eq!(client.rest().await, []);
}

#[tokio::test]
async fn mqtt_3_2_2_8() {
    let scope = Scope::new().await;
    // Reading fails on a reason code that CONNACK does not have; these are the ones that can be had here.
    let id = scope.id("a");
    for (connect, expected) in [
        (Connect::new(&id), 0),
        (Connect::new("$other"), 0x85),
        (Connect::new(&id).with(AuthenticationMethod("none such".into())), 0x8C),
        (Connect::new(&id).will(&Publish::new("$SYS/x", "")), 0x87),
    ] {
        let (_, answer) = scope.connect(&connect).await;
        assert!(matches!(answer, Packet::ConnAck { reason, .. } if reason == expected), "{expected:#04x}: {answer:?}");
    }
}

#[tokio::test]
async fn mqtt_3_2_2_16() {
    let scope = Scope::new().await;
    let (mut held, _) = scope.connect(&Connect::new("").with(SessionExpiry(60))).await;
    let (_other, answer) = scope.connect(&Connect::new("").with(SessionExpiry(60))).await;
    let id = assigned(answer.properties());
    assert!(!id.is_empty());
    held.is_quiet().await;
    // Its session is new.
    assert!(matches!(answer, Packet::ConnAck { present: false, .. }), "{answer:?}");
}

/// A CONNECT that is refused, from a client that takes no packet above five bytes: it is not told more than fits.
async fn refusal_that_fits(scope: &Scope) -> Vec<Packet> {
    let refused = || Connect::new(&scope.id("a")).with(AuthenticationMethod("none such".into()));
    let said = scope.connect(&refused()).await.1;
    assert!(said.properties().iter().any(|p| matches!(p, ReasonString(_))), "others are told why: {said:?}");
    let mut client = scope.open().await;
    client.send(refused().with(MaximumPacketSize(5)).bytes()).await;
    let answer = client.next_bytes().await;
    assert!(answer.as_ref().is_none_or(|bytes| bytes.len() <= 5), "{answer:?}");
    client.rest().await
}

#[tokio::test]
async fn mqtt_3_2_2_19() {
    let scope = Scope::new().await;
    assert_eq!(refusal_that_fits(&scope).await, []);
}

#[tokio::test]
async fn mqtt_3_2_2_22() {
    let scope = Scope::new().await;
    let connect = Connect::new(&scope.id("a")).keep_alive(1);
    let (mut client, answer) = scope.connect(&connect).await;
    let other = answer.properties().iter().any(|p| matches!(p, ServerKeepAlive(_)));
    assert!(!other, "the client's own is taken: {answer:?}");
    let since = Instant::now();
    client.is_told(0x8D).await;
    assert!(since.elapsed() >= Duration::from_millis(1400), "it has one and a half times the keep alive");
}
