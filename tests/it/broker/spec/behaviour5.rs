//! What MQTT 5.0 asks for beside its numbered statements, and strict suites look at.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::bytes5::*;
use super::scope5::Scope;
use crate::support::Gateway;

/// The property of a CONNACK that this picks out.
fn told<T>(answer: &Packet, pick: impl Fn(&Property) -> Option<T>) -> Option<T> {
    answer.properties().iter().find_map(pick)
}

fn receive_maximum(answer: &Packet) -> u16 {
    told(answer, |p| if let ReceiveMaximum(n) = p { Some(*n) } else { None }).unwrap_or(u16::MAX)
}

/// A message with everything that is forwarded.
fn rich(topic: &str) -> Publish {
    let properties = [
        PayloadFormat(1),
        ContentType("text/plain".into()),
        ResponseTopic("answers".into()),
        CorrelationData(vec![0, 0xFF]),
        user("a", "1"),
        user("a", "0"),
    ];
    properties.into_iter().fold(Publish::new(topic, "rich"), Publish::with)
}

/// Whether the properties are the same, in whatever order those of different kinds stand.
fn same(a: &Publish, b: &Publish) -> bool {
    let key = |p: &Property| p.bytes()[0];
    let [mut left, mut right] = [a, b].map(|p| p.properties.clone());
    left.sort_by_key(key);
    right.sort_by_key(key);
    left == right
}

#[tokio::test]
async fn connack_promises_what_the_broker_has() {
    let scope = Scope::new().await;
    let (_, answer) = scope.connect(&Connect::new(&scope.id("a"))).await;
    for property in answer.properties() {
        let lacks = matches!(
            property,
            MaximumQos(_) | RetainAvailable(0) | WildcardAvailable(0) | SubscriptionIdAvailable(0) | SharedAvailable(0)
        );
        assert!(!lacks, "{property:?}");
    }
    // A session expiry that is told is the one that was asked for.
    let (_, answer) = scope.connect(&Connect::keep(&scope.id("b"), 77)).await;
    assert!(told(&answer, |p| if let SessionExpiry(n) = p { Some(*n) } else { None }).is_none_or(|n| n == 77));
}

#[tokio::test]
async fn the_server_s_keep_alive_is_told_where_the_client_s_is_too_long() {
    let gateway = Gateway::start("[broker]\nlisten = \"@mqtt@\"\nmax-keep-alive = \"60s\"\n").await;
    let scope = Scope::at(Arc::new(gateway));
    for (asked, expected) in [(120, Some(60)), (0, Some(60)), (61, Some(60)), (60, None), (5, None)] {
        let (_, answer) = scope.connect(&Connect::new(&scope.id("a")).keep_alive(asked)).await;
        let said = told(&answer, |p| if let ServerKeepAlive(n) = p { Some(*n) } else { None });
        assert_eq!(said.filter(|said| *said != asked), expected, "{asked}");
    }
}

#[tokio::test]
async fn pings_keep_a_client_alive() {
    let scope = Scope::new().await;
    let (mut client, _) = scope.session(&Connect::new(&scope.id("a")).keep_alive(1)).await;
    for _ in 0..4 {
        sleep(Duration::from_millis(600)).await;
        client.is_quiet().await;
    }
}

#[tokio::test]
async fn a_packet_above_the_maximum_is_refused_and_one_of_that_size_is_not() {
    let scope = Scope::new().await;
    let (mut client, answer) = scope.connect(&Connect::new(&scope.id("a"))).await;
    let most = told(&answer, |p| if let MaximumPacketSize(n) = p { Some(*n) } else { None }).expect("a maximum");
    let empty = Publish::new(&scope.topic("t"), "").qos(1, 1);
    // The remaining length takes three bytes, and one when it is empty.
    let room = most as usize - empty.bytes().len() - 2;
    let largest = Publish { payload: vec![7; room], ..empty };
    assert_eq!(largest.bytes().len(), most as usize);
    client.subscribe(&scope.topic("t"), 0).await;
    client.send(largest.bytes()).await;
    // A QoS 0 delivery is smaller than what it comes from.
    let packets = [client.next().await, client.next().await];
    assert!(packets.iter().any(|p| matches!(p, Packet::Publish(p) if p.payload.len() == room)));
    client.send(Publish { payload: vec![7; room + 1], ..largest }.bytes()).await;
    client.is_told(0x95).await;
}

#[tokio::test]
async fn a_client_that_takes_next_to_nothing_is_sent_nothing_larger() {
    let scope = Scope::new().await;
    for size in [1, 2, 4, 5, 10] {
        let mut client = scope.open().await;
        client.send(Connect::new(&scope.id("a")).with(MaximumPacketSize(size)).bytes()).await;
        client.send(PINGREQ).await;
        while let Some(bytes) = client.next_bytes().await {
            assert!(bytes.len() <= size as usize, "{size}: {bytes:?}");
            if bytes[0] == 0xD0 {
                break;
            }
        }
    }
}

#[tokio::test]
async fn more_than_the_receive_maximum_is_refused() {
    let scope = Scope::new().await;
    let (mut client, answer) = scope.connect(&Connect::new(&scope.id("a"))).await;
    let most = receive_maximum(&answer);
    assert!(most < u16::MAX, "there is a bound");
    let publish = |id| Publish::new(&scope.topic("t"), "x").qos(2, id).bytes();
    for id in 1..=most {
        client.send(publish(id)).await;
        client.expect_ack(PUBREC, id, 0x10).await;
    }
    // PUBREL and PUBCOMP make room for one more, and for no second one.
    client.send(ack(PUBREL, 1, 0)).await;
    client.expect_ack(PUBCOMP, 1, 0).await;
    client.send(publish(1)).await;
    client.expect_ack(PUBREC, 1, 0x10).await;
    client.send(publish(most + 1)).await;
    client.is_told(0x93).await;
}

#[tokio::test]
async fn acknowledged_messages_do_not_count_towards_the_receive_maximum() {
    let scope = Scope::new().await;
    let (mut client, answer) = scope.connect(&Connect::new(&scope.id("a"))).await;
    for n in 0..u32::from(receive_maximum(&answer)) + 10 {
        let id = (n % 60_000) as u16 + 1;
        client.send(Publish::new("$SYS/mine", "x").qos(2, id).bytes()).await;
        client.expect_ack(PUBREC, id, 0x87).await;
        client.send(Publish::new(&scope.topic("t"), "x").qos(1, id).bytes()).await;
        client.expect_ack(PUBACK, id, 0x10).await;
    }
    client.is_quiet().await;
}

#[tokio::test]
async fn topic_aliases_out_of_bounds_or_unknown_are_refused() {
    let scope = Scope::new().await;
    let (mut client, answer) = scope.connect(&Connect::new(&scope.id("a"))).await;
    let most = told(&answer, |p| if let TopicAliasMaximum(n) = p { Some(*n) } else { None }).expect("a maximum");
    client.send(Publish::new(&scope.topic("t"), "x").with(TopicAlias(most + 1)).bytes()).await;
    client.is_told(0x94).await;
    scope.cuts(Publish::new("", "x").with(TopicAlias(1)).bytes(), &[0x82, 0x94]).await;
    // An alias is each connection's own.
    let mut other = scope.client("b").await;
    other.send(Publish::new(&scope.topic("t"), "x").with(TopicAlias(1)).bytes()).await;
    scope.cuts(Publish::new("", "x").with(TopicAlias(1)).bytes(), &[0x82, 0x94]).await;
    other.is_quiet().await;
}

#[tokio::test]
async fn topic_aliases_work_for_every_kind_of_message() {
    let scope = Scope::new().await;
    let (mut keeper, _) = scope.keeper("k").await;
    keeper.subscribe(&scope.topic("t"), 2).await;
    keeper.leave().await;
    let mut publisher = scope.client("a").await;
    publisher.publish(Publish::new(&scope.topic("t"), "0").qos(1, 0).with(TopicAlias(5))).await;
    publisher.publish(Publish::new("", "1").qos(2, 0).with(TopicAlias(5)).retain()).await;
    publisher.publish(Publish::new("", "2").qos(1, 0).with(TopicAlias(5))).await;
    let (mut keeper, _) = scope.keeper("k").await;
    assert_eq!(keeper.take(3).await, ["0", "1", "2"]);
    keeper.subscribe(&scope.topic("+"), 0).await;
    let message = keeper.message().await;
    assert_eq!((message.topic, message.retain), (scope.topic("t"), true));
}

#[tokio::test]
async fn a_client_that_takes_aliases_gets_every_topic_right() {
    let scope = Scope::new().await;
    let (mut client, _) = scope.session(&Connect::keep(&scope.id("a"), 60).with(TopicAliasMaximum(3))).await;
    client.subscribe(&scope.topic("#"), 2).await;
    let mut publisher = scope.client("b").await;
    for n in 0..30u8 {
        let topic = scope.topic(&format!("a/long/topic/{}", n % 7));
        publisher.publish(Publish::new(&topic, format!("{n}")).qos(n % 3, 0)).await;
        let message = client.message().await;
        assert_eq!((&message.topic, message.says()), (&topic, &*format!("{n}")));
        if n % 2 == 0 {
            client.accept(&message).await;
        }
    }
    // What comes again on another connection comes with its topic, also to one that takes none.
    for maximum in [TopicAliasMaximum(3), TopicAliasMaximum(0)] {
        client.vanish();
        client = scope.session(&Connect::keep(&scope.id("a"), 60).with(maximum)).await.0;
        for n in (1..30).filter(|n| n % 2 == 1 && n % 3 > 0) {
            let message = client.message().await;
            assert_eq!(message.topic, scope.topic(&format!("a/long/topic/{}", n % 7)));
            assert!(message.dup);
        }
        client.is_quiet().await;
    }
}

#[tokio::test]
async fn request_and_response() {
    let scope = Scope::new().await;
    let (mut asks, mut answers) = (scope.client("a").await, scope.client("b").await);
    asks.subscribe(&scope.topic("answers/me"), 1).await;
    answers.subscribe(&scope.topic("requests"), 1).await;
    let request = Publish::new(&scope.topic("requests"), "what?")
        .with(ResponseTopic(scope.topic("answers/me")))
        .with(CorrelationData(vec![1, 0, 255]));
    asks.publish(request.clone().qos(1, 0)).await;
    let message = answers.message().await;
    assert!(same(&message, &request), "{message:?}");
    answers.accept(&message).await;
    let answer = Publish::new(&scope.topic("answers/me"), "that").with(CorrelationData(vec![1, 0, 255]));
    answers.publish(answer.clone().qos(1, 0)).await;
    let message = asks.message().await;
    assert!(message.says() == "that" && same(&message, &answer), "{message:?}");
}

#[tokio::test]
async fn everything_is_forwarded_live_retained_from_the_queue_and_as_a_will() {
    let scope = Scope::new().await;
    let (mut keeper, _) = scope.keeper("a").await;
    keeper.subscribe(&scope.topic("t"), 2).await;
    let rich = rich(&scope.topic("t"));
    let mut publisher = scope.client("b").await;
    publisher.publish(rich.clone().qos(2, 0)).await;
    let live = keeper.message().await;
    keeper.accept(&live).await;
    keeper.leave().await;
    publisher.publish(rich.clone().qos(1, 0).retain()).await;
    let (mut keeper, _) = scope.keeper("a").await;
    let queued = keeper.message().await;
    keeper.accept(&queued).await;
    keeper.subscribe(&scope.topic("t"), 2).await;
    let retained = keeper.message().await;
    assert!(retained.retain);
    keeper.accept(&retained).await;
    scope.session(&Connect::new(&scope.id("w")).will(&rich.clone().with(WillDelay(0)))).await.0.vanish();
    let will = keeper.message().await;
    for message in [live, queued, retained, will] {
        assert!(message.says() == "rich" && same(&message, &rich), "{message:?}");
    }
}

#[tokio::test]
async fn everything_survives_a_kill() {
    let mut gateway = Gateway::start("").await;
    let rich = |topic: &str| rich(topic).with(MessageExpiry(600));
    {
        let mut keeper = Client::open(gateway.mqtt_port()).await;
        keeper.send(Connect::keep("keeper", 600).bytes()).await;
        assert!(matches!(keeper.next().await, Packet::ConnAck { reason: 0, .. }));
        keeper.subscribe_as("t/#", 2 | AS_PUBLISHED | NO_LOCAL, &[SubscriptionId(77)]).await;
        keeper.leave().await;
        let mut publisher = Client::open(gateway.mqtt_port()).await;
        publisher.send(Connect::new("publisher").bytes()).await;
        assert!(matches!(publisher.next().await, Packet::ConnAck { reason: 0, .. }));
        publisher.publish(rich("t/1").qos(1, 0)).await;
        publisher.publish(rich("t/2").qos(2, 0).retain()).await;
        publisher.publish(rich("u").qos(1, 0).retain()).await;
    }
    gateway.kill().await;
    gateway.start_again().await;
    let mut keeper = Client::open(gateway.mqtt_port()).await;
    keeper.send(Connect::keep("keeper", 600).bytes()).await;
    assert!(matches!(keeper.next().await, Packet::ConnAck { present: true, .. }));
    for (topic, qos, retain) in [("t/1", 1, false), ("t/2", 2, true)] {
        let mut message = keeper.message().await;
        assert_eq!((&*message.topic, message.qos, message.retain), (topic, qos, retain));
        assert_eq!(message.subscription_ids(), [77]);
        assert!(message.expiry().is_some_and(|left| (500..=600).contains(&left)), "{message:?}");
        keeper.accept(&message).await;
        message.properties.retain(|p| !matches!(p, SubscriptionId(_) | MessageExpiry(_)));
        assert!(same(&message, &self::rich(topic)), "{message:?}");
    }
    // No Local, and a message retained with all it has.
    keeper.publish(Publish::new("t/own", "x").qos(1, 0)).await;
    keeper.subscribe("u", 0).await;
    let mut message = keeper.message().await;
    message.properties.retain(|p| !matches!(p, MessageExpiry(_)));
    assert!(message.retain && same(&message, &self::rich("u")), "{message:?}");
}

#[tokio::test]
async fn subscription_identifiers_of_every_size_come_with_retained_messages_too() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.publish(Publish::new(&scope.topic("t"), "x").retain()).await;
    for id in [1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455] {
        client.subscribe_as(&scope.topic("t"), 0, &[SubscriptionId(id)]).await;
        assert_eq!(client.message().await.subscription_ids(), [id]);
        client.send(Publish::new(&scope.topic("t"), "x").bytes()).await;
        assert_eq!(client.message().await.subscription_ids(), [id]);
    }
    // Without one it has none any more.
    client.subscribe(&scope.topic("t"), 0).await;
    assert!(client.message().await.subscription_ids().is_empty());
}

#[tokio::test]
async fn retained_messages_say_so_whatever_the_options() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.publish(Publish::new(&scope.topic("t"), "x").retain()).await;
    for options in [0, AS_PUBLISHED, IF_NEW, IF_NEW | AS_PUBLISHED] {
        let mut late = scope.client("late").await;
        late.subscribe(&scope.topic("t"), options).await;
        assert!(late.message().await.retain, "{options:#x}");
        late.leave().await;
    }
    // One filter as published, another one not.
    client.subscribe(&scope.topic("t"), AS_PUBLISHED | NO_RETAINED).await;
    client.subscribe(&scope.topic("+"), NO_RETAINED).await;
    client.send(Publish::new(&scope.topic("t"), "x").retain().bytes()).await;
    client.message().await;
    client.is_quiet().await;
}

#[tokio::test]
async fn a_session_lasts_as_long_as_it_was_told_last() {
    let scope = Scope::new().await;
    // Shorter, and for ever.
    let (mut client, _) = scope.keeper("a").await;
    client.send(packet(0xE0, &[&[0], &properties(&[SessionExpiry(1)])])).await;
    assert_eq!(client.rest().await, []);
    let (mut client, _) = scope.session(&Connect::keep(&scope.id("b"), 1)).await;
    client.send(packet(0xE0, &[&[0], &properties(&[SessionExpiry(u32::MAX)])])).await;
    assert_eq!(client.rest().await, []);
    // Each CONNECT sets it anew; without one it ends with the connection.
    let (client, _) = scope.keeper("c").await;
    client.leave().await;
    let (client, present) = scope.session(&Connect { flags: 0, ..Connect::new(&scope.id("c")) }).await;
    assert!(present);
    client.leave().await;
    assert!(!scope.keeper("c").await.1);
    sleep(Duration::from_millis(2200)).await;
    assert!(!scope.keeper("a").await.1);
    let (client, present) = scope.session(&Connect { flags: 0, ..Connect::new(&scope.id("b")) }).await;
    assert!(present);
    client.leave().await;
}

#[tokio::test]
async fn a_session_without_expiry_cannot_get_one_by_disconnect() {
    let scope = Scope::new().await;
    let mut watcher = scope.client("w").await;
    watcher.subscribe(&scope.topic("gone"), 0).await;
    let will = Publish::new(&scope.topic("gone"), "x");
    let (mut client, _) = scope.session(&Connect::new(&scope.id("a")).will(&will)).await;
    client.send(packet(0xE0, &[&[0], &properties(&[SessionExpiry(60)])])).await;
    client.is_told(0x82).await;
    assert_eq!(watcher.take(1).await, ["x"], "that was no good-bye");
    assert!(!scope.keeper("a").await.1);
}

#[tokio::test]
async fn a_will_follows_when_its_session_ends_by_a_clean_start() {
    let scope = Scope::new().await;
    let mut watcher = scope.client("w").await;
    watcher.subscribe(&scope.topic("gone/#"), 0).await;
    let connect = |name: &str| {
        let will = Publish::new(&scope.topic(&format!("gone/{name}")), name).with(WillDelay(600));
        Connect::keep(&scope.id(name), 600).will(&will)
    };
    // Its connection is lost already, and it is there still.
    scope.session(&connect("lost")).await.0.vanish();
    scope.session(&Connect::new(&scope.id("lost"))).await.0.leave().await;
    assert_eq!(watcher.take(1).await, ["lost"]);
    let (_there, _) = scope.session(&connect("there")).await;
    scope.session(&Connect::new(&scope.id("there"))).await.0.leave().await;
    assert_eq!(watcher.take(1).await, ["there"]);
    // Without delay being taken over is enough.
    let will = Publish::new(&scope.topic("gone/now"), "now");
    let (_there, _) = scope.session(&Connect::keep(&scope.id("now"), 600).will(&will)).await;
    scope.keeper("now").await.0.leave().await;
    assert_eq!(watcher.take(1).await, ["now"]);
}

#[tokio::test]
async fn a_new_connection_s_will_takes_the_old_one_s_place() {
    let scope = Scope::new().await;
    let mut watcher = scope.client("w").await;
    watcher.subscribe(&scope.topic("gone/#"), 0).await;
    let connect = |payload: &str, delay: u32| {
        let will = Publish::new(&scope.topic("gone/x"), payload).with(WillDelay(delay));
        Connect::keep(&scope.id("a"), 60).will(&will)
    };
    scope.session(&connect("first", 1)).await.0.vanish();
    scope.session(&connect("second", 0)).await.0.vanish();
    assert_eq!(watcher.take(1).await, ["second"]);
    sleep(Duration::from_millis(1300)).await;
    watcher.is_quiet().await;
}

#[tokio::test]
async fn a_will_s_expiry_begins_when_it_is_published() {
    let scope = Scope::new().await;
    let mut watcher = scope.client("w").await;
    watcher.subscribe(&scope.topic("gone"), 0).await;
    let will = Publish::new(&scope.topic("gone"), "x").with(WillDelay(1)).with(MessageExpiry(60));
    scope.session(&Connect::keep(&scope.id("a"), 60).will(&will)).await.0.vanish();
    assert_eq!(watcher.message().await.properties, [MessageExpiry(60)]);
}

#[tokio::test]
async fn acknowledgements_of_nothing_are_taken_with_patience() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client
        .send([ack(PUBACK, 77, 0), ack(PUBACK, 78, 0x80), ack(PUBCOMP, 79, 0), ack(PUBCOMP, 80, 0x92)].concat())
        .await;
    client.is_quiet().await;
    client.send(ack(PUBREL, 81, 0)).await;
    client.expect_ack(PUBCOMP, 81, 0x92).await;
    client.send(ack(PUBREC, 82, 0)).await;
    client.expect_ack(PUBREL, 82, 0x92).await;
}

#[tokio::test]
async fn acknowledgements_come_in_the_order_of_the_messages() {
    let scope = Scope::new().await;
    let (mut keeper, _) = scope.keeper("k").await;
    keeper.subscribe(&scope.topic("t"), 2).await;
    keeper.leave().await;
    let mut client = scope.client("a").await;
    for (qos, first) in [(1, PUBACK), (2, PUBREC)] {
        let all = (1..=50).map(|id| Publish::new(&scope.topic("t"), "x").qos(qos, id).bytes());
        client.send(all.collect::<Vec<_>>().concat()).await;
        for id in 1..=50 {
            client.expect_ack(first, id, 0).await;
        }
    }
    client.send((1..=50).flat_map(|id| ack(PUBREL, id, 0)).collect::<Vec<_>>()).await;
    for id in 1..=50 {
        client.expect_ack(PUBCOMP, id, 0).await;
    }
    let (mut keeper, _) = scope.keeper("k").await;
    assert_eq!(keeper.take(100).await.len(), 100);
    keeper.is_quiet().await;
}

#[tokio::test]
async fn messages_that_wait_come_in_their_order_in_whatever_quality() {
    let scope = Scope::new().await;
    let connect = Connect::keep(&scope.id("a"), 60).with(ReceiveMaximum(2));
    let (mut keeper, _) = scope.session(&connect).await;
    keeper.subscribe(&scope.topic("t"), 2).await;
    keeper.leave().await;
    let mut publisher = scope.client("b").await;
    for n in 0..30 {
        publisher.publish(Publish::new(&scope.topic("t"), format!("{n}")).qos(1 + n % 2, 0)).await;
    }
    let (mut keeper, _) = scope.session(&connect).await;
    let mut next = 0;
    while next < 30 {
        match keeper.next().await {
            Packet::Publish(message) => {
                assert_eq!(message.says(), format!("{next}"));
                next += 1;
                keeper.send(ack(if message.qos == 1 { PUBACK } else { PUBREC }, message.id, 0)).await;
            }
            Packet::Ack { first: PUBREL, id, .. } => keeper.send(ack(PUBCOMP, id, 0)).await,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn clients_need_not_wait_for_answers() {
    let scope = Scope::new().await;
    let mut client = scope.open().await;
    let all = [
        Connect::new(&scope.id("a")).bytes(),
        subscribe(1, &[], &[(&scope.topic("t"), 0)]),
        Publish::new(&scope.topic("t"), "x").bytes(),
        unsubscribe(2, &[&scope.topic("t")]),
        PINGREQ.into(),
        DISCONNECT.into(),
        // Nobody listens any more.
        PINGREQ.into(),
    ];
    client.send(all.concat()).await;
    let packets = client.next().await;
    assert!(matches!(packets, Packet::ConnAck { reason: 0, .. }), "{packets:?}");
    assert!(matches!(client.next().await, Packet::SubAck { id: 1, .. }));
    assert_eq!(client.take(1).await, ["x"]);
    assert!(matches!(client.next().await, Packet::UnsubAck { id: 2, .. }));
    assert_eq!(client.next().await, Packet::PingResp);
    assert_eq!(client.try_next().await, None);
}

#[tokio::test]
async fn names_may_be_long_empty_or_odd() {
    let scope = Scope::new().await;
    scope.session(&Connect::new(&"x".repeat(1000))).await.0.leave().await;
    scope.session(&Connect::new(&scope.id(" a/+/#\t\"'<>"))).await.0.leave().await;
    // An empty user name, a password without one (3.1.2.9), an empty password.
    scope.session(&Connect::new(&scope.id("a")).field(0x80, text(""))).await;
    scope.session(&Connect::new(&scope.id("a")).field(0x40, text("password"))).await;
    scope.session(&Connect::new(&scope.id("a")).field(0x80, text("user")).field(0x40, text(""))).await;
    // A client without an id needs no clean start.
    let (_, answer) = scope.connect(&Connect { flags: 0, ..Connect::new("") }).await;
    assert!(matches!(answer, Packet::ConnAck { reason: 0, present: false, .. }), "{answer:?}");
    let id = told(&answer, |p| if let AssignedClientId(id) = p { Some(id.clone()) } else { None });
    assert!(id.is_some_and(|id| !id.is_empty()));
}

#[tokio::test]
async fn what_a_client_may_say_in_passing_harms_nothing() {
    let scope = Scope::new().await;
    let connect = Connect::new(&scope.id("a"))
        .with(RequestResponseInformation(1))
        .with(RequestProblemInformation(1))
        .with(ReceiveMaximum(u16::MAX))
        .with(MaximumPacketSize(u32::MAX))
        .with(TopicAliasMaximum(u16::MAX))
        .with(user("a", "b"))
        .with(user("a", "b"));
    let (mut client, _) = scope.session(&connect).await;
    let more = properties(&[ReasonString("because".into()), user("a", "b"), user("a", "b")]);
    client.send(Publish::new(&scope.topic("t"), "x").qos(2, 1).bytes()).await;
    client.expect_ack(PUBREC, 1, 0x10).await;
    client.send(packet(PUBREL, &[&[0, 1, 0], &more])).await;
    client.expect_ack(PUBCOMP, 1, 0).await;
    client.subscribe_as(&scope.topic("t"), 2, &[user("a", "b"), user("c", "d")]).await;
    for (qos, first) in [(1, PUBACK), (2, PUBREC)] {
        scope.client("b").await.publish(Publish::new(&scope.topic("t"), "x").qos(qos, 0)).await;
        let message = client.message().await;
        client.send(packet(first, &[&message.id.to_be_bytes(), &[0], &more])).await;
        if qos == 2 {
            client.expect_ack(PUBREL, message.id, 0).await;
            client.send(packet(PUBCOMP, &[&message.id.to_be_bytes(), &[0], &more])).await;
        }
    }
    client.send(packet(0xA2, &[&[0, 9], &properties(&[user("a", "b")]), &text(scope.topic("t"))])).await;
    assert!(matches!(client.next().await, Packet::UnsubAck { id: 9, .. }));
    client.send(packet(0xE0, &[&[0], &more])).await;
    assert_eq!(client.rest().await, []);
}

#[tokio::test]
async fn sys_topics_can_be_read_and_not_written() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.subscribe("$other/#", 0).await;
    client.subscribe("$SYS/#", 0).await;
    for topic in ["$SYS/broker/version", "$other/x"] {
        let mut publisher = scope.client("b").await;
        publisher.send(Publish::new(topic, "forged").qos(1, 1).bytes()).await;
        publisher.expect_ack(PUBACK, 1, 0x87).await;
        publisher.send(Publish::new(topic, "forged").qos(2, 2).bytes()).await;
        publisher.expect_ack(PUBREC, 2, 0x87).await;
        publisher.send(Publish::new(topic, "forged").bytes()).await;
        publisher.is_quiet().await;
    }
    client.send(PINGREQ).await;
    while let Packet::Publish(message) = client.next().await {
        assert_ne!(message.payload, b"forged");
    }
}

/// Which of the clients get so many messages on a topic, by how many each gets.
async fn spread(scope: &Scope, topic: &str, clients: &mut [Client], n: usize) -> Vec<usize> {
    let mut publisher = scope.client("spread").await;
    for _ in 0..n {
        publisher.publish(Publish::new(&scope.topic(topic), "x").qos(1, 0)).await;
    }
    let mut counts = Vec::new();
    for client in clients {
        let mut count = 0;
        client.send(PINGREQ).await;
        loop {
            match client.next().await {
                Packet::Publish(message) => {
                    client.accept(&message).await;
                    count += 1;
                }
                Packet::PingResp => break,
                other => panic!("{other:?}"),
            }
        }
        counts.push(count);
    }
    counts
}

#[tokio::test]
async fn a_group_shares_its_messages_and_others_get_them_all() {
    let scope = Scope::new().await;
    let mut clients = Vec::new();
    for (name, filter) in [
        ("a", format!("$share/g/{}", scope.topic("t/#"))),
        ("b", format!("$share/g/{}", scope.topic("t/#"))),
        ("other group", format!("$share/h/{}", scope.topic("t/#"))),
        ("plain", scope.topic("t/#")),
    ] {
        let mut client = scope.client(name).await;
        client.subscribe(&filter, 1).await;
        clients.push(client);
    }
    let counts = spread(&scope, "t/x", &mut clients, 20).await;
    assert_eq!((counts[0] + counts[1], &counts[2..]), (20, &[20, 20][..]));
    assert!(counts[0] > 0 && counts[1] > 0, "both take part: {counts:?}");
    // One leaves the group by UNSUBSCRIBE, and then the other one by leaving.
    clients[0].send(unsubscribe(1, &[&format!("$share/g/{}", scope.topic("t/#"))])).await;
    assert!(matches!(clients[0].next().await, Packet::UnsubAck { reasons, .. } if reasons == [0]));
    assert_eq!(spread(&scope, "t/x", &mut clients, 10).await, [0, 10, 10, 10]);
    clients.remove(1).leave().await;
    assert_eq!(spread(&scope, "t/x", &mut clients, 5).await, [0, 5, 5]);
}

#[tokio::test]
async fn a_shared_subscription_brings_no_retained_messages() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.publish(Publish::new(&scope.topic("t"), "retained").retain()).await;
    let filter = format!("$share/g/{}", scope.topic("t"));
    client.subscribe_as(&filter, 1, &[SubscriptionId(9)]).await;
    client.is_quiet().await;
    // And is one of its own beside the plain one.
    client.subscribe_as(&scope.topic("t"), NO_RETAINED, &[SubscriptionId(8)]).await;
    scope.client("b").await.publish(Publish::new(&scope.topic("t"), "x").qos(1, 0)).await;
    client.send(PINGREQ).await;
    let mut ids = Vec::new();
    while let Packet::Publish(message) = client.next().await {
        ids.extend(message.subscription_ids());
    }
    ids.sort_unstable();
    assert_eq!(ids, [8, 9]);
}

#[tokio::test]
async fn what_a_member_did_not_acknowledge_is_not_lost_when_its_session_ends() {
    let scope = Scope::new().await;
    let filter = format!("$share/g/{}", scope.topic("t"));
    let mut first = scope.client("a").await;
    first.subscribe(&filter, 1).await;
    let mut publisher = scope.client("p").await;
    for payload in ["0", "1"] {
        publisher.publish(Publish::new(&scope.topic("t"), payload).qos(1, 0)).await;
    }
    assert_eq!([first.message().await.says(), first.message().await.says()], ["0", "1"]);
    let mut second = scope.client("b").await;
    second.subscribe(&filter, 1).await;
    first.vanish();
    let mut said = second.take(2).await;
    said.sort();
    assert_eq!(said, ["0", "1"]);
}

#[tokio::test]
async fn an_offline_member_leaves_the_messages_to_those_who_are_there() {
    let scope = Scope::new().await;
    let filter = format!("$share/g/{}", scope.topic("t"));
    let (mut away, _) = scope.keeper("a").await;
    away.subscribe(&filter, 1).await;
    let mut there = [scope.client("b").await];
    there[0].subscribe(&filter, 1).await;
    away.leave().await;
    assert_eq!(spread(&scope, "t", &mut there, 10).await, [10]);
    // With nobody there they wait for one who comes back.
    let [there] = there;
    there.leave().await;
    scope.client("p").await.publish(Publish::new(&scope.topic("t"), "waits").qos(1, 0)).await;
    let (mut back, present) = scope.keeper("a").await;
    assert!(present);
    assert_eq!(back.take(1).await, ["waits"]);
}

#[tokio::test]
async fn no_local_holds_for_its_own_filter_only() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.subscribe_as(&scope.topic("t"), NO_LOCAL, &[SubscriptionId(1)]).await;
    client.subscribe_as(&scope.topic("+"), 0, &[SubscriptionId(2)]).await;
    client.send(Publish::new(&scope.topic("t"), "own").bytes()).await;
    assert_eq!(client.message().await.subscription_ids(), [2]);
    scope.client("b").await.publish(Publish::new(&scope.topic("t"), "other")).await;
    assert_eq!(client.message().await.subscription_ids(), [1, 2]);
}

#[tokio::test]
async fn an_expired_message_takes_no_place_in_the_window() {
    let scope = Scope::new().await;
    let (mut client, _) = scope.session(&Connect::new(&scope.id("a")).with(ReceiveMaximum(1))).await;
    client.subscribe(&scope.topic("t"), 1).await;
    let mut publisher = scope.client("b").await;
    publisher.publish(Publish::new(&scope.topic("t"), "first").qos(1, 0)).await;
    for n in 0..5 {
        let short = Publish::new(&scope.topic("t"), format!("{n}")).with(MessageExpiry(1));
        publisher.publish(short.qos(1, 0)).await;
    }
    publisher.publish(Publish::new(&scope.topic("t"), "last").qos(1, 0)).await;
    let first = client.message().await;
    sleep(Duration::from_millis(1300)).await;
    client.send(ack(PUBACK, first.id, 0)).await;
    assert_eq!(client.take(1).await, ["last"]);
    client.is_quiet().await;
}

#[tokio::test]
async fn a_retained_message_expires_and_one_after_it_is_new() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    client.publish(Publish::new(&scope.topic("t"), "old").with(MessageExpiry(1)).retain()).await;
    sleep(Duration::from_millis(1300)).await;
    client.subscribe(&scope.topic("t"), 0).await;
    client.is_quiet().await;
    client.publish(Publish::new(&scope.topic("u"), "new").retain()).await;
    client.subscribe(&scope.topic("u"), 0).await;
    assert_eq!(client.take(1).await, ["new"]);
}

#[tokio::test]
async fn wrong_properties_of_a_will_are_refused() {
    let scope = Scope::new().await;
    for wrong in [
        Raw(WillDelay(1).bytes().repeat(2)),
        Raw(PayloadFormat(1).bytes().repeat(2)),
        Raw(MessageExpiry(1).bytes().repeat(2)),
        PayloadFormat(2),
        ResponseTopic("a/#".into()),
        TopicAlias(1),
        SubscriptionId(1),
        SessionExpiry(1),
    ] {
        let will = Publish::new(&scope.topic("gone"), "x").with(wrong);
        scope.refuses(Connect::new(&scope.id("a")).will(&will).bytes()).await;
    }
}

#[tokio::test]
async fn wrong_properties_of_disconnect_are_refused() {
    let scope = Scope::new().await;
    for wrong in [
        Raw(SessionExpiry(1).bytes().repeat(2)),
        Raw(ReasonString("a".into()).bytes().repeat(2)),
        ServerReference("elsewhere".into()),
        MessageExpiry(1),
    ] {
        let (mut client, _) = scope.keeper("a").await;
        client.send(packet(0xE0, &[&[0], &properties(&[wrong])])).await;
        client.is_told_one_of(&[0x81, 0x82]).await;
    }
}
