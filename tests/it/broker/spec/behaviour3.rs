//! What strict suites look at beside the numbered statements, for MQTT 3.1.1: the corners that Paho's interoperability
//! suite and Mosquitto's own tests go into.

use tokio::io::AsyncWriteExt;

use super::bytes::*;
use super::gateway;
use crate::support::Gateway;

#[tokio::test]
async fn packets_in_any_pieces_are_the_same_packets() {
    let gateway = gateway().await;
    let mut client = Client::open(&gateway).await;
    let large = publish(QOS_1, 2, "pieces/x", vec![b'x'; 200]);
    let bytes = [connect("pieces", CLEAN, &[]), subscribe(1, &[("pieces/#", 1)]), large, PINGREQ.to_vec()].concat();
    for byte in bytes {
        client.send([byte]).await;
    }
    client.expect(ACCEPTED).await;
    client.expect(suback(1, &[1])).await;
    client.await_packet(ack(PUBACK, 2)).await;
    client.await_packet(PINGRESP).await;
    assert_eq!(client.take().await.payload.len(), 200);
    // And a hundred in one piece.
    client.send((1..=100).flat_map(|id| publish(QOS_1, id, "piece", "x")).collect::<Vec<u8>>()).await;
    for id in 1..=100 {
        client.expect(ack(PUBACK, id)).await;
    }
}

#[tokio::test]
async fn a_client_need_not_wait_for_connack() {
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "at once/watcher").await;
    watcher.subscribe(&[("at once", 0)]).await;
    let all = [connect("at once", CLEAN, &[]), publish(0, 0, "at once", "x"), DISCONNECT.to_vec()].concat();
    assert_eq!(Client::saying(&gateway, all).await.rest().await, ACCEPTED);
    assert_eq!(watcher.take().await.payload, "x");
}

#[tokio::test]
async fn nothing_counts_behind_a_disconnect() {
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "behind/watcher").await;
    watcher.subscribe(&[("behind", 0)]).await;
    let all = [connect("behind", CLEAN, &[]), DISCONNECT.to_vec(), publish(0, 0, "behind", "x")].concat();
    assert_eq!(Client::saying(&gateway, all).await.rest().await, ACCEPTED);
    watcher.quiet().await;
}

#[tokio::test]
async fn a_client_gets_what_it_publishes_itself() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "own").await;
    client.subscribe(&[("own", 2)]).await;
    for (flags, qos) in [(0, 0), (QOS_1, 1), (QOS_2, 2)] {
        client.publish(flags, "own", &format!("QoS {qos}")).await;
    }
    for qos in 0..3 {
        assert_eq!(client.take().await.parts(), ("own", &*format!("QoS {qos}"), qos));
    }
}

#[tokio::test]
async fn a_message_comes_once_however_many_filters_match() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "once").await;
    client.subscribe(&[("once/#", 1), ("once/+", 2), ("once/a", 0)]).await;
    client.publish(QOS_2, "once/a", "x").await;
    assert_eq!(client.take().await.parts(), ("once/a", "x", 2));
    client.quiet().await;
}

#[tokio::test]
async fn every_subscriber_gets_a_message_of_its_own() {
    let gateway = gateway().await;
    let mut clients = Vec::new();
    for n in 0..30 {
        let mut client = Client::clean(&gateway, &format!("many/{n}")).await;
        client.subscribe(&[("many", n % 3)]).await;
        clients.push(client);
    }
    clients[0].publish(QOS_2, "many", "x").await;
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.take().await.parts(), ("many", "x", (n % 3) as u8));
        client.quiet().await;
    }
}

#[tokio::test]
async fn qos_0_for_a_client_that_is_away_is_not_kept() {
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "away").await;
    client.subscribe(&[("away/#", 2), ("away0", 0)]).await;
    client.disconnect().await;
    let mut sender = Client::clean(&gateway, "away/sender").await;
    sender.publish(0, "away/x", "published with QoS 0").await;
    sender.publish(QOS_2, "away0", "subscribed with QoS 0").await;
    sender.publish(QOS_1, "away/x", "kept").await;
    let mut client = Client::resumed(&gateway, "away").await;
    assert_eq!(client.take().await.payload, "kept");
    client.quiet().await;
}

#[tokio::test]
async fn a_resumed_session_gets_no_retained_messages_again() {
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "not again").await;
    client.publish(QOS_1 | RETAIN, "not again", "x").await;
    client.subscribe(&[("not again", 1)]).await;
    assert!(client.take().await.retain);
    client.disconnect().await;
    let mut client = Client::resumed(&gateway, "not again").await;
    client.quiet().await;
    // What was published retained while it was away is a message like any other.
    client.disconnect().await;
    Client::clean(&gateway, "not again/sender").await.publish(QOS_1 | RETAIN, "not again", "y").await;
    let mut client = Client::resumed(&gateway, "not again").await;
    let delivery = client.take().await;
    assert_eq!((delivery.parts(), delivery.retain), (("not again", "y", 1), false));
}

#[tokio::test]
async fn a_will_waits_for_a_subscriber_that_is_away() {
    let gateway = gateway().await;
    let mut away = Client::new_session(&gateway, "will/away").await;
    away.subscribe(&[("will/x", 2)]).await;
    away.disconnect().await;
    let mut watcher = Client::clean(&gateway, "will/watcher").await;
    watcher.subscribe(&[("will/x", 0)]).await;
    let with_will = connect("will", CLEAN | WILL | WILL_QOS_2, &[b"will/x", b"alas"]);
    drop(Client::accepted(&gateway, with_will).await);
    watcher.take().await;
    assert_eq!(Client::resumed(&gateway, "will/away").await.take().await.parts(), ("will/x", "alas", 2));
}

#[tokio::test]
async fn an_empty_retained_will_clears_the_topic() {
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "cleared/watcher").await;
    watcher.publish(QOS_1 | RETAIN, "cleared", "online").await;
    watcher.subscribe(&[("cleared", 0)]).await;
    watcher.take().await;
    drop(Client::accepted(&gateway, connect("cleared", CLEAN | WILL | WILL_RETAIN, &[b"cleared", b""])).await);
    assert_eq!(watcher.take().await.payload, "");
    watcher.subscribe(&[("cleared", 0)]).await;
    watcher.quiet().await;
}

#[tokio::test]
async fn a_will_where_clients_may_not_publish_is_refused() {
    let gateway = gateway().await;
    let with_will = connect("bad will", CLEAN | WILL, &[b"$SYS/will", b"x"]);
    assert_eq!(Client::saying(&gateway, with_will).await.rest().await, [0x20, 2, 0, 5]);
}

#[tokio::test]
async fn a_full_window_is_refilled_as_it_empties() {
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "window").await;
    client.subscribe(&[("window", 2)]).await;
    client.disconnect().await;
    let mut sender = Client::clean(&gateway, "window/sender").await;
    for id in 1..=250 {
        sender.send(publish(QOS_1, id, "window", id.to_string())).await;
    }
    for _ in 0..250 {
        sender.next().await;
    }
    // All that comes without an answer is a window; then one more for each answer.
    let mut client = Client::resumed(&gateway, "window").await;
    client.send(PINGREQ).await;
    client.await_packet(PINGRESP).await;
    for number in 1..=250 {
        assert_eq!(client.take().await.payload, number.to_string());
    }
    client.quiet().await;
}

#[tokio::test]
async fn answers_to_nothing_are_ignored() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "nothing").await;
    for first in [PUBACK, PUBCOMP] {
        client.send(ack(first, 77)).await;
        client.quiet().await;
    }
    // These two ask for an answer.
    client.send(ack(PUBREC, 77)).await;
    client.expect(ack(PUBREL, 77)).await;
    client.send(ack(PUBREL, 78)).await;
    client.expect(ack(PUBCOMP, 78)).await;
    client.quiet().await;
}

#[tokio::test]
async fn ids_of_both_directions_do_not_mix() {
    // The client's id 1 and the gateway's id 1 are two things (2.3.1, non-normative comment).
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "both").await;
    client.subscribe(&[("both/in", 2)]).await;
    client.publish(QOS_2, "both/in", "x").await;
    let id = client.delivery().await.id;
    client.send(publish(QOS_2, id, "both/out", "x")).await;
    client.expect(ack(PUBREC, id)).await;
    client.send(ack(PUBREC, id)).await;
    client.expect(ack(PUBREL, id)).await;
    client.send(ack(PUBREL, id)).await;
    client.expect(ack(PUBCOMP, id)).await;
    client.send(ack(PUBCOMP, id)).await;
    client.quiet().await;
}

#[tokio::test]
async fn one_id_for_one_message_after_the_other() {
    // As programs do that send one message and go: each with id 1, in a session that is kept.
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "same id/watcher").await;
    watcher.subscribe(&[("same id/heard", 0)]).await;
    let mut client = Client::new_session(&gateway, "same id").await;
    for (topic, payload) in [("same id/heard", "1"), ("same id/unheard", "2"), ("same id/heard", "3")] {
        client.send(publish(QOS_2, 1, topic, payload)).await;
        client.expect(ack(PUBREC, 1)).await;
        client.send(ack(PUBREL, 1)).await;
        client.expect(ack(PUBCOMP, 1)).await;
        drop(client);
        client = Client::resumed(&gateway, "same id").await;
    }
    assert_eq!(watcher.take().await.payload, "1");
    assert_eq!(watcher.take().await.payload, "3");
    watcher.quiet().await;
}

#[tokio::test]
async fn filters_match_as_others_read_the_standard() {
    let gateway = gateway().await;
    let mut client = Client::clean(&gateway, "patterns").await;
    let deep = "p/one/two/three/four/five/six/seven/eight/nine/ten/test";
    for (filter, topic, matches) in [
        ("p/foo/#", "p/foo/bar/baz", true),
        ("p/foo/+/baz", "p/foo/bar/baz", true),
        ("p/foo/+/baz/#", "p/foo/bar/baz", true),
        ("p/foo/+/baz/#", "p/foo/bar/baz/bar", true),
        ("p/foo/#", "p/foo", true),
        ("p/foo/#", "p/foo/", true),
        ("p/foo/+", "p/foo", false),
        ("p/foo/+", "p/foo/", true),
        ("p/foo/", "p/foo", false),
        ("p/foo", "p/foo/", false),
        ("p/+/+/+/+/+/+/+/+/+/+/test", deep, true),
        ("p/+/+/+/+/+/+/+/+/+/test", deep, false),
        ("p/#", "p////a//topic", true),
        ("p/foo/+/baz", "p/foo//baz", true),
        ("p/foo/+/baz//", "p/foo//baz//", true),
        ("p/foo/+/baz/#", "p/foo//baz/bar", true),
        ("p/foo//baz/#", "p/foo//baz/bar", true),
        ("p/foo/#", "p/foo//bar///baz", true),
        ("p/foo/baz/#", "p/foo/bazbar", false),
        ("/p/#", "/p////foo///bar", true),
        ("/p/+", "p/foo", false),
        ("p/+/$x", "p/foo/$x", true),
        ("p/$x/+", "p/$x/foo", true),
        ("+/patterns", "p/patterns", true),
        ("+/+/patterns", "/p/patterns", true),
    ] {
        client.publish(QOS_1 | RETAIN, topic, "before").await;
        client.subscribe(&[(filter, 0)]).await;
        client.publish(QOS_1 | RETAIN, topic, "after").await;
        let mut came = client.take_all().await;
        came.retain(|delivery| delivery.topic == topic);
        let came: Vec<_> = came.iter().map(|delivery| (&*delivery.payload, delivery.retain)).collect();
        let expected: &[_] = if matches { &[("before", true), ("after", false)] } else { &[] };
        assert_eq!(came, expected, "{filter} {topic}");
        client.unsubscribe(&[filter]).await;
        client.publish(RETAIN, topic, "").await;
    }
}

#[tokio::test]
async fn a_topic_of_65535_levels_breaks_nothing() {
    let gateway = gateway().await;
    let mut good = Client::clean(&gateway, "deep/good").await;
    let deep = "/".repeat(65_535);
    for bytes in [subscribe(1, &[(&deep, 0)]), publish(QOS_1, 1, &deep, "x"), unsubscribe(1, &[&deep])] {
        // Refused, acknowledged or closed, and soon.
        let mut client = Client::clean(&gateway, "deep").await;
        client.send(bytes).await;
        let _ = client.answer().await;
        good.quiet().await;
    }
}

#[tokio::test]
async fn a_user_name_is_welcome_where_none_is_asked_for() {
    let gateway = gateway().await;
    for (flags, fields) in [(USER, &[&b"user"[..]][..]), (USER | PASSWORD, &[b"user", b"password"]), (USER, &[b""])] {
        Client::accepted(&gateway, connect("user", CLEAN | flags, fields)).await.disconnect().await;
    }
}

#[tokio::test]
async fn a_long_client_id_is_an_id() {
    let gateway = gateway().await;
    for length in [24, 64, 256, 65_535] {
        let id = "i".repeat(length);
        let mut client = Client::new_session(&gateway, &id).await;
        client.quiet().await;
        client.disconnect().await;
        Client::resumed(&gateway, &id).await.disconnect().await;
        Client::clean(&gateway, &id).await.disconnect().await;
    }
}

#[tokio::test]
async fn what_comes_from_the_gateway_is_no_sign_of_life() {
    let gateway = gateway().await;
    let mut client = Client::accepted(&gateway, connect_alive("busy", CLEAN, 1, &[])).await;
    client.subscribe(&[("busy", 0)]).await;
    let mut sender = Client::clean(&gateway, "busy/sender").await;
    let closed = tokio::spawn(async move { client.rest().await });
    while !closed.is_finished() {
        sender.publish(0, "busy", "x").await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(!closed.await.unwrap().is_empty());
}

#[tokio::test]
async fn a_packet_that_comes_slowly_is_a_sign_of_life_once_it_is_whole() {
    let gateway = gateway().await;
    let mut client = Client::accepted(&gateway, connect_alive("slow", CLEAN, 1, &[])).await;
    let (first, rest) = PINGREQ.split_at(1);
    for _ in 0..3 {
        client.send(first).await;
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        client.send(rest).await;
        client.expect(PINGRESP).await;
    }
}

#[tokio::test]
async fn sessions_of_3_1_1_outlive_the_gateway() {
    let mut gateway = Gateway::start("").await;
    for killed in [false, true] {
        let mut client = Client::new_session(&gateway, "outlives").await;
        client.subscribe(&[("outlives", 2)]).await;
        let mut sender = Client::clean(&gateway, "sender").await;
        // In the middle of QoS 2, both ways, and one that waits.
        client.send(publish(QOS_2, 7, "outlives/x", "x")).await;
        client.expect(ack(PUBREC, 7)).await;
        sender.publish(QOS_2, "outlives", "released").await;
        let released = client.delivery().await;
        client.send(ack(PUBREC, released.id)).await;
        client.expect(ack(PUBREL, released.id)).await;
        sender.publish(QOS_2, "outlives", "sent").await;
        let sent = client.delivery().await;
        client.disconnect().await;
        sender.publish(QOS_1, "outlives", "waits").await;
        if killed {
            gateway.kill().await;
            gateway.start_again().await;
        } else {
            gateway.restart().await;
        }
        let mut client = Client::resumed(&gateway, "outlives").await;
        client.expect(ack(PUBREL, released.id)).await;
        client.expect(publish(QOS_2 | DUP, sent.id, "outlives", "sent")).await;
        assert_eq!(client.take().await.parts(), ("outlives", "waits", 1));
        let mut watcher = Client::clean(&gateway, "watcher").await;
        watcher.subscribe(&[("outlives/x", 0)]).await;
        client.send(publish(QOS_2 | DUP, 7, "outlives/x", "x")).await;
        client.await_packet(ack(PUBREC, 7)).await;
        watcher.quiet().await;
        Client::clean(&gateway, "outlives").await.disconnect().await;
    }
}

#[tokio::test]
async fn two_clients_that_take_each_other_over_all_the_time_are_served() {
    let gateway = gateway().await;
    let mut client = Client::new_session(&gateway, "turns").await;
    client.subscribe(&[("turns", 1)]).await;
    for n in 0..20 {
        let mut next = Client::resumed(&gateway, "turns").await;
        client.closed().await;
        next.publish(QOS_1, "turns", &n.to_string()).await;
        assert_eq!(next.take().await.payload, n.to_string());
        // The answer shows that the PUBACK has arrived before the place is taken.
        next.quiet().await;
        client = next;
    }
}

#[tokio::test]
async fn a_connection_reset_in_the_middle_of_a_packet_is_the_end_of_it() {
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "cut/watcher").await;
    watcher.subscribe(&[("cut/#", 0)]).await;
    let whole = publish(QOS_1, 1, "cut/x", "whole");
    for end in 1..whole.len() {
        let with_will = connect("cut", CLEAN | WILL, &[b"cut/will", b"alas"]);
        let mut client = Client::accepted(&gateway, with_will).await;
        client.send(&whole[..end]).await;
        drop(client);
        assert_eq!(watcher.take().await.topic, "cut/will");
    }
    watcher.quiet().await;
}

#[tokio::test]
async fn a_shut_half_of_a_connection_is_its_end() {
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "half/watcher").await;
    watcher.subscribe(&[("half", 0)]).await;
    let mut client = Client::accepted(&gateway, connect("half", CLEAN | WILL, &[b"half", b"alas"])).await;
    client.stream().shutdown().await.unwrap();
    client.closed().await;
    assert_eq!(watcher.take().await.payload, "alas");
}
