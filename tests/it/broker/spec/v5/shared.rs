//! Section 4.8: shared subscriptions.

use super::super::bytes5::*;
use super::super::scope5::Scope;

/// A filter shared in the group `g`.
fn shared(scope: &Scope, topic: &str) -> String {
    format!("$share/g/{}", scope.topic(topic))
}

/// A member of a group, and what it was sent.
struct Member {
    client: Client,
    name: &'static str,
}

/// Two members with sessions that stay, and one message at this QoS: who got it, the message, and the other.
async fn chosen(scope: &Scope, qos: u8) -> (Member, Publish, Member) {
    let mut members = Vec::new();
    for name in ["a", "b"] {
        let (mut client, _) = scope.keeper(name).await;
        client.subscribe(&shared(scope, "t"), 2).await;
        members.push(Member { client, name });
    }
    scope.client("p").await.publish(Publish::new(&scope.topic("t"), "x").qos(qos, 0)).await;
    let mut got = None;
    for (i, member) in members.iter_mut().enumerate() {
        member.client.send(PINGREQ).await;
        while let Packet::Publish(message) = member.client.next().await {
            assert!(got.is_none(), "it comes to one member, and once");
            got = Some((i, message));
        }
    }
    let (i, message) = got.expect("it comes to one member");
    (members.remove(i), message, members.remove(0))
}

#[tokio::test]
async fn mqtt_4_8_2_1() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    for filter in ["$share//t", "$share/"] {
        client.send(subscribe(1, &[], &[(filter, 0)])).await;
        assert!(matches!(client.next().await, Packet::SubAck { reasons, .. } if reasons == [0x8F]), "{filter}");
    }
    // `$shared/` is a topic like others.
    client.subscribe(&format!("$shared/g/{}", scope.topic("t")), 0).await;
    client.subscribe(&shared(&scope, "t"), 0).await;
    client.send(Publish::new(&scope.topic("t"), "x").bytes()).await;
    assert_eq!(client.take(1).await, ["x"]);
}

#[tokio::test]
async fn mqtt_4_8_2_2() {
    let scope = Scope::new().await;
    let mut client = scope.client("a").await;
    for filter in ["$share/g", "$share/g/", "$share/+/t", "$share/#/t", "$share/g+/t", "$share/g#/t", "$share/g/t#"] {
        client.send(subscribe(1, &[], &[(filter, 0)])).await;
        assert!(matches!(client.next().await, Packet::SubAck { reasons, .. } if reasons == [0x8F]), "{filter}");
    }
    client.subscribe(&shared(&scope, "+/#"), 0).await;
    client.send(Publish::new(&scope.topic("t/u"), "x").bytes()).await;
    assert_eq!(client.take(1).await, ["x"]);
}

#[tokio::test]
async fn mqtt_4_8_2_3() {
    let scope = Scope::new().await;
    for granted in 0..3 {
        let mut client = scope.client("a").await;
        client.subscribe(&shared(&scope, "t"), granted).await;
        let mut publisher = scope.client("b").await;
        for sent in 0..3 {
            publisher.publish(Publish::new(&scope.topic("t"), "x").qos(sent, 0)).await;
            let message = client.message().await;
            assert_eq!(message.qos, sent.min(granted), "published at {sent}, subscribed at {granted}");
            client.accept(&message).await;
        }
        client.leave().await;
    }
}

#[tokio::test]
async fn mqtt_4_8_2_4() {
    let scope = Scope::new().await;
    let (member, message, mut other) = chosen(&scope, 2).await;
    member.client.vanish();
    other.client.is_quiet().await;
    let (mut client, present) = scope.keeper(member.name).await;
    assert!(present);
    let again = client.message().await;
    assert_eq!(again, Publish { dup: true, ..message });
    client.accept(&again).await;
    other.client.is_quiet().await;
}

#[tokio::test]
async fn mqtt_4_8_2_5() {
    let scope = Scope::new().await;
    let (mut member, message, mut other) = chosen(&scope, 2).await;
    // In the middle of its delivery the connection breaks, and then the session is discarded.
    member.client.send(ack(PUBREC, message.id, 0)).await;
    member.client.expect_ack(PUBREL, message.id, 0).await;
    member.client.vanish();
    scope.session(&Connect::new(&scope.id(member.name))).await.0.leave().await;
    other.client.is_quiet().await;
}

#[tokio::test]
async fn mqtt_4_8_2_6() {
    let scope = Scope::new().await;
    for (qos, answer) in [(1, PUBACK), (2, PUBREC)] {
        let (mut member, message, mut other) = chosen(&scope, qos).await;
        member.client.send(ack(answer, message.id, 0x83)).await;
        member.client.is_quiet().await;
        other.client.is_quiet().await;
        member.client.vanish();
        scope.keeper(member.name).await.0.is_quiet().await;
        other.client.is_quiet().await;
        for name in [member.name, other.name] {
            scope.session(&Connect::new(&scope.id(name))).await.0.leave().await;
        }
    }
}
