//! SIGHUP: users, rules and certificates change, and clients stay connected.

use serde_json::json;

use super::access::add_user;
use super::paho::Paho;
use crate::support::{Authority, Gateway, port};

const DONE: &str = "are reloaded";
const NOTHING: &str = "nothing is reloaded";

#[tokio::test]
async fn users_and_rules_change_while_clients_stay() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    add_user(&users, "ada", "secret").await;
    add_user(&users, "bob", "secret").await;
    let config = |read: &str, more: &str| {
        format!(
            "[broker]\nlisten = \"@mqtt@\"\nusers = \"{}\"\n{more}[[broker.acl]]\nread = [\"{read}\"]\nwrite = [\"#\"]\n",
            users.display()
        )
    };
    let gateway = Gateway::start(&config("plant/#", "")).await;
    let mut paho = Paho::start(&gateway);
    for user in ["ada", "bob"] {
        paho.connect(user, json!({"v": 5, "id": user, "user": user, "password": "secret", "expiry": 60})).await;
        paho.subscribe(user, "plant/#", 1).await;
    }
    let refused = json!([0x87]);
    let other = json!({"filters": [["other/#", 1]]});
    assert_eq!(paho.ask("ada", "subscribe", other.clone()).await["reasons"], refused);

    // More rights, at once, and a subscription of before goes with the right to it.
    gateway.configure(&config("other/#", "max-clients = 7\n"));
    gateway.reload(DONE).await;
    assert!(gateway.log().contains("`broker.max-clients` has changed, which needs a restart"), "{}", gateway.log());
    assert_eq!(paho.ask("ada", "subscribe", other).await["reasons"], json!([1]));
    paho.publish("bob", "plant/x", "not any more", 1).await;
    paho.publish("bob", "other/x", "now", 1).await;
    assert_eq!(paho.payloads("ada", 1).await, ["now"]);

    // Nothing changes while anything is wrong.
    let list = std::fs::read_to_string(&users).unwrap();
    std::fs::write(&users, "ada:plain\n").unwrap();
    gateway.configure(&config("plant/#", ""));
    gateway.reload(NOTHING).await;
    std::fs::write(&users, &list).unwrap();
    gateway.configure("[broker]\nlisten = 7\n");
    gateway.reload(NOTHING).await;
    paho.publish("bob", "other/x", "as before", 1).await;
    assert_eq!(paho.payloads("ada", 1).await, ["as before"]);

    // A user who is gone, or has a new password, has to leave; others stay. Who is new may come.
    gateway.configure(&config("#", ""));
    let ada = list.lines().find(|line| line.starts_with("ada:")).unwrap();
    std::fs::write(&users, format!("{ada}\n")).unwrap();
    add_user(&users, "eve", "secret").await;
    gateway.reload(DONE).await;
    assert_eq!(paho.ask("bob", "lost", json!({})).await["reason"], 0x98);
    let answer = paho.ask("bob", "connect", json!({"v": 5, "id": "bob", "user": "bob", "password": "secret"})).await;
    assert_eq!(answer["reason"], 0x86);
    paho.connect("eve", json!({"v": 5, "id": "eve", "user": "eve", "password": "secret"})).await;
    paho.publish("eve", "other/x", "hello", 1).await;
    assert_eq!(paho.payloads("ada", 1).await, ["hello"]);
    add_user(&users, "ada", "another").await;
    gateway.reload(DONE).await;
    assert_eq!(paho.ask("ada", "lost", json!({})).await["reason"], 0x98);
    paho.connect("ada", json!({"v": 5, "id": "ada", "user": "ada", "password": "another"})).await;
    paho.publish("eve", "other/x", "still here", 1).await;
}

#[tokio::test]
async fn certificates_are_renewed_while_clients_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (at, port) = (folder.path(), port::free());
    Authority::new(at, "old").certify("server", "gateway");
    let config = format!(
        "[broker]\nlisten = \"@mqtt@\"\n[[broker.listener]]\nlisten = \"127.0.0.1:{port}\"\n\
         tls = {{ certificate = \"{0}/server.pem\", key = \"{0}/server.key\" }}\n",
        at.display()
    );
    let gateway = Gateway::start(&config).await;
    let mut paho = Paho::start(&gateway);
    let step = |ca: &str| json!({"v": 5, "port": port, "ca": at.join(format!("{ca}.pem"))});
    paho.connect("before", step("old")).await;
    paho.subscribe("before", "t", 1).await;

    let new = Authority::new(at, "new");
    std::fs::write(at.join("server.pem"), "not a certificate").unwrap();
    gateway.reload(NOTHING).await;
    assert!(gateway.log().contains("server.pem contains no certificate"), "{}", gateway.log());
    paho.connect("between", step("old")).await;

    new.certify("server", "gateway");
    gateway.reload(DONE).await;
    assert!(!paho.attempt("late", "connect", step("old")).await["error"].is_null(), "the old is served no more");
    paho.connect("after", step("new")).await;
    paho.publish("after", "t", "x", 1).await;
    assert_eq!(paho.payloads("before", 1).await, ["x"]);
}

#[tokio::test]
async fn who_came_by_a_certificate_that_is_good_no_more_has_to_leave() {
    let folder = tempfile::tempdir().unwrap();
    let (at, port) = (folder.path(), port::free());
    Authority::new(at, "ca").certify("server", "gateway");
    Authority::new(at, "clients").certify("meter", "meter");
    let config = |more: &str| {
        format!(
            "[broker]\nlisten = \"@mqtt@\"\nanonymous = \"always\"\n[[broker.listener]]\nlisten = \"127.0.0.1:{port}\"\n\
             tls = {{ certificate = \"{0}/server.pem\", key = \"{0}/server.key\", clients = \"{0}/clients.pem\"{more} }}\n",
            at.display()
        )
    };
    let gateway = Gateway::start(&config(", user-from-certificate = true")).await;
    let mut paho = Paho::start(&gateway);
    let bare = || json!({"v": 5, "port": port, "ca": at.join("ca.pem")});
    let certified = || {
        let mut step = bare();
        step["certificate"] = json!(at.join("meter.pem"));
        step["key"] = json!(at.join("meter.key"));
        step
    };
    paho.connect("meter", certified()).await;
    paho.connect("bare", bare()).await;
    // Nothing about certificates of clients has changed.
    Authority::new(at, "ca").certify("server", "gateway");
    gateway.reload(DONE).await;
    paho.publish("meter", "t", "still here", 1).await;
    // Other authorities.
    Authority::new(at, "clients").certify("meter", "meter");
    gateway.reload(DONE).await;
    assert_eq!(paho.ask("meter", "lost", json!({})).await["reason"], 0x98);
    paho.publish("bare", "t", "still here", 1).await;
    // They count for something else.
    paho.connect("meter", certified()).await;
    gateway.configure(&config(""));
    gateway.reload(DONE).await;
    assert_eq!(paho.ask("meter", "lost", json!({})).await["reason"], 0x98);
    // Nobody may be without one.
    paho.connect("meter", certified()).await;
    gateway.configure(&config(", require-certificate = true"));
    gateway.reload(DONE).await;
    assert_eq!(paho.ask("bare", "lost", json!({})).await["reason"], 0x98);
    let log = gateway.log();
    assert!(log.contains("other authorities vouch for clients now"), "{log}");
}
