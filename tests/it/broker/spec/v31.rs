//! MQTT 3.1 (IBM, 2010), which old devices speak: the name is MQIsdp, the level 3. It has no numbered statements.

use super::bytes::*;
use super::gateway;

/// CONNECT of 3.1.
fn connect31(id: &str, flags: u8, fields: &[&str]) -> Vec<u8> {
    let fields: Vec<u8> = fields.iter().flat_map(text).collect();
    packet(0x10, &[&text("MQIsdp"), &[3, flags, 0, 60], &text(id), &fields])
}

#[tokio::test]
async fn connects() {
    let gateway = gateway().await;
    for (flags, fields) in [
        (CLEAN, &[][..]),
        (CLEAN | WILL, &["v31/will", "will"]),
        (CLEAN | USER | PASSWORD, &["user", "password"]),
        (CLEAN | WILL | WILL_QOS_2 | WILL_RETAIN | USER | PASSWORD, &["v31/will", "will", "user", "password"]),
    ] {
        let mut client = Client::accepted(&gateway, connect31("v31", flags, fields)).await;
        client.quiet().await;
        client.disconnect().await;
    }
}

#[tokio::test]
async fn name_and_level_belong_together() {
    let gateway = gateway().await;
    for (name, level) in [("MQIsdp", 4), ("MQIsdp", 5), ("MQIsdp", 2), ("MQTT", 3), ("MQIsdX", 3), ("mqisdp", 3)] {
        let said = Client::saying(&gateway, connect_as(name, level, "v31/name")).await.rest().await;
        assert!(said.is_empty() || said == [0x20, 2, 0, 1], "{name} {level}: {said:02x?}");
    }
}

#[tokio::test]
async fn an_empty_client_id_is_refused() {
    // In 3.1 it has 1 to 23 characters, clean or not.
    let gateway = gateway().await;
    for flags in [CLEAN, KEEP] {
        assert_eq!(Client::saying(&gateway, connect31("", flags, &[])).await.rest().await, [0x20, 2, 0, 2]);
    }
}

#[tokio::test]
async fn delivers_with_each_qos() {
    let gateway = gateway().await;
    let mut client = Client::accepted(&gateway, connect31("v31/qos", CLEAN, &[])).await;
    for granted in 0..3 {
        let topic = format!("v31/qos/{granted}");
        client.subscribe(&[(&topic, granted)]).await;
        for (flags, published) in [(0, 0), (QOS_1, 1), (QOS_2, 2)] {
            client.publish(flags, &topic, "x").await;
            assert_eq!(client.take().await.parts(), (&*topic, "x", published.min(granted)));
        }
        client.unsubscribe(&[&topic]).await;
    }
    client.quiet().await;
}

#[tokio::test]
async fn keeps_sessions_without_a_word_in_connack() {
    // The byte that says so in 3.1.1 is reserved in 3.1.
    let gateway = gateway().await;
    let mut client = Client::accepted(&gateway, connect31("v31/kept", KEEP, &[])).await;
    client.subscribe(&[("v31/kept/#", 2)]).await;
    client.publish(QOS_1, "v31/kept/x", "sent").await;
    let sent = client.delivery().await;
    client.disconnect().await;
    Client::clean(&gateway, "v31/sender").await.publish(QOS_2, "v31/kept/x", "waits").await;
    let mut client = Client::accepted(&gateway, connect31("v31/kept", KEEP, &[])).await;
    assert_eq!(client.take().await, Delivery { dup: true, ..sent });
    assert_eq!(client.take().await.parts(), ("v31/kept/x", "waits", 2));
    client.disconnect().await;
    // The session goes on in 3.1.1, which has the word.
    Client::resumed(&gateway, "v31/kept").await.quiet().await;
    let mut client = Client::accepted(&gateway, connect31("v31/kept", CLEAN, &[])).await;
    client.publish(QOS_1, "v31/kept/x", "forgotten").await;
    client.quiet().await;
}

#[tokio::test]
async fn a_will_follows_a_lost_connection() {
    let gateway = gateway().await;
    let mut watcher = Client::clean(&gateway, "v31/watcher").await;
    watcher.subscribe(&[("v31/lost", 2)]).await;
    for (flags, qos) in [(0, 0), (WILL_QOS_1, 1), (WILL_QOS_2, 2)] {
        drop(Client::accepted(&gateway, connect31("v31/lost", CLEAN | WILL | flags, &["v31/lost", "alas"])).await);
        assert_eq!(watcher.take().await.parts(), ("v31/lost", "alas", qos));
    }
}

#[tokio::test]
async fn a_filter_that_is_refused_is_not_granted() {
    // 3.1 has no code for it; 0x80 is what other brokers send too.
    let gateway = gateway().await;
    let mut client = Client::accepted(&gateway, connect31("v31/filter", CLEAN, &[])).await;
    client.send(subscribe(1, &[("v31/#/x", 1), ("v31/filter", 1)])).await;
    client.expect(suback(1, &[0x80, 1])).await;
}
