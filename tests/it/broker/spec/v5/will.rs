//! The will message: sections 3.1.2.5 to 3.1.2.7 and 3.1.3.2 to 3.1.3.4.

use super::super::bytes5::*;
use super::super::scope5::Scope;

/// A watcher of all wills of a test.
async fn watcher(scope: &Scope) -> Client {
    let mut watcher = scope.client("w").await;
    watcher.subscribe(&scope.topic("gone/#"), 2 | AS_PUBLISHED).await;
    watcher
}

fn will(scope: &Scope, name: &str) -> Publish {
    Publish::new(&scope.topic(&format!("gone/{name}")), name)
}

#[tokio::test]
async fn mqtt_3_1_2_7() {
    let scope = Scope::new().await;
    let mut watcher = watcher(&scope).await;
    // The client is long gone when its will is due: it is kept with the session.
    let will = will(&scope, "a").with(WillDelay(1));
    scope.session(&Connect::keep(&scope.id("a"), 60).will(&will)).await.0.vanish();
    watcher.is_quiet().await;
    assert_eq!(watcher.take(1).await, ["a"]);
}

#[tokio::test]
async fn mqtt_3_1_2_8() {
    let scope = Scope::new().await;
    let mut watcher = watcher(&scope).await;
    let connect = |name: &str| Connect::new(&scope.id(name)).will(&will(&scope, name));
    scope.session(&connect("polite")).await.0.leave().await;
    scope.session(&connect("vanished")).await.0.vanish();
    assert_eq!(watcher.take(1).await, ["vanished"]);
    // A protocol error, another reason than success, being taken over, and the end of the session before the delay.
    let (mut client, _) = scope.session(&connect("wrong")).await;
    client.send(packet(0x36, &[b"\0\x01t\0\x01\0"])).await;
    client.is_told(0x81).await;
    assert_eq!(watcher.take(1).await, ["wrong"]);
    let (mut client, _) = scope.session(&connect("bitter")).await;
    client.send([0xE0, 1, 4]).await;
    assert_eq!(client.rest().await, []);
    assert_eq!(watcher.take(1).await, ["bitter"]);
    let (_first, _) = scope.session(&connect("twin")).await;
    scope.session(&Connect::new(&scope.id("twin"))).await.0.leave().await;
    assert_eq!(watcher.take(1).await, ["twin"]);
    let short = Connect::keep(&scope.id("short"), 1).will(&will(&scope, "short").with(WillDelay(600)));
    scope.session(&short).await.0.vanish();
    assert_eq!(watcher.take(1).await, ["short"]);
    watcher.is_quiet().await;
}

#[tokio::test]
async fn mqtt_3_1_2_9() {
    let scope = Scope::new().await;
    let connect = Connect::new(&scope.id("a"));
    for fields in [vec![], vec![vec![0]], vec![vec![0], text("t")], vec![text("t"), text("payload")]] {
        let connect = fields.into_iter().fold(connect.clone(), |connect, field| connect.field(0x04, field));
        scope.refuses(Connect { flags: 0x06, ..connect }.bytes()).await;
    }
}

#[tokio::test]
async fn mqtt_3_1_2_10() {
    let scope = Scope::new().await;
    let mut watcher = watcher(&scope).await;
    let connect = Connect::keep(&scope.id("a"), 60).will(&will(&scope, "a"));
    scope.session(&connect).await.0.vanish();
    assert_eq!(watcher.take(1).await, ["a"]);
    // Published, it is no more; deleted by DISCONNECT, neither.
    scope.keeper("a").await.0.vanish();
    scope.session(&connect).await.0.leave().await;
    let (mut client, present) = scope.keeper("a").await;
    assert!(present);
    client.is_quiet().await;
    client.vanish();
    assert!(scope.keeper("a").await.1);
    watcher.is_quiet().await;
}

#[tokio::test]
async fn mqtt_3_1_2_11() {
    let scope = Scope::new().await;
    for flags in [0x0A, 0x12, 0x1A] {
        scope.refuses(Connect { flags, ..Connect::new(&scope.id("a")) }.bytes()).await;
    }
}

#[tokio::test]
async fn mqtt_3_1_2_12() {
    let scope = Scope::new().await;
    let mut watcher = watcher(&scope).await;
    for qos in 0..3 {
        let connect = Connect::new(&scope.id("a")).will(&will(&scope, "a").qos(qos, 0));
        scope.session(&connect).await.0.vanish();
        let message = watcher.message().await;
        assert_eq!(message.qos, qos);
        watcher.accept(&message).await;
    }
    scope.refuses(Connect::new(&scope.id("a")).will(&will(&scope, "a").qos(3, 0)).bytes()).await;
}

#[tokio::test]
async fn mqtt_3_1_2_13() {
    let scope = Scope::new().await;
    scope.refuses(Connect { flags: 0x22, ..Connect::new(&scope.id("a")) }.bytes()).await;
}

#[tokio::test]
async fn mqtt_3_1_2_14() {
    let scope = Scope::new().await;
    let mut watcher = watcher(&scope).await;
    scope.session(&Connect::new(&scope.id("a")).will(&will(&scope, "a"))).await.0.vanish();
    assert!(!watcher.message().await.retain);
    let mut late = scope.client("late").await;
    late.subscribe(&scope.topic("gone/#"), 0).await;
    late.is_quiet().await;
}

#[tokio::test]
async fn mqtt_3_1_2_15() {
    let scope = Scope::new().await;
    let mut watcher = watcher(&scope).await;
    scope.session(&Connect::new(&scope.id("a")).will(&will(&scope, "a").retain())).await.0.vanish();
    assert!(watcher.message().await.retain);
    let mut late = scope.client("late").await;
    late.subscribe(&scope.topic("gone/#"), 0).await;
    assert_eq!(late.message().await, will(&scope, "a").retain());
}

#[tokio::test]
async fn mqtt_3_1_3_9() {
    let scope = Scope::new().await;
    let mut watcher = watcher(&scope).await;
    let delayed = |name: &str| Connect::keep(&scope.id(name), 60).will(&will(&scope, name).with(WillDelay(1)));
    scope.session(&delayed("back")).await.0.vanish();
    scope.session(&Connect::keep(&scope.id("back"), 60)).await.0.leave().await;
    // Taken over while connected is a new connection in time as well.
    let (_first, _) = scope.session(&delayed("twin")).await;
    scope.session(&Connect::keep(&scope.id("twin"), 60)).await.0.leave().await;
    scope.session(&delayed("away")).await.0.vanish();
    assert_eq!(watcher.take(1).await, ["away"], "which was the last to be due");
    watcher.is_quiet().await;
}

#[tokio::test]
async fn mqtt_3_1_3_10() {
    let scope = Scope::new().await;
    let mut watcher = watcher(&scope).await;
    let pairs = [user("b", "1"), user("a", "2"), user("b", "0"), user("", ""), user("b", "1")];
    let will = pairs.iter().cloned().fold(will(&scope, "a"), Publish::with);
    scope.session(&Connect::new(&scope.id("a")).will(&will)).await.0.vanish();
    assert_eq!(watcher.message().await.properties, pairs);
}

#[tokio::test]
async fn mqtt_3_1_3_11() {
    let scope = Scope::new().await;
    for bad in [&b"\xff"[..], b"\xed\xa0\x80", b"\xc0\xaf"] {
        let fields = [vec![0], text(bad), text("x")].concat();
        scope.refuses(Connect::new(&scope.id("a")).field(0x04, fields).bytes()).await;
    }
}
