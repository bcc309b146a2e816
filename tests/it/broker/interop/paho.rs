//! paho-mqtt, the client of Home Assistant and of most scripts, and what of MQTT 5 it leaves to its user.

use serde_json::json;

use crate::broker::access::add_user;
use crate::broker::paho::{Paho, numbers};
use crate::support::{Authority, Gateway, port};

#[tokio::test]
async fn what_the_gateway_says_of_itself_in_connack() {
    let config = "[broker]\nlisten = \"@mqtt@\"\nmax-keep-alive = \"1m\"\nreceive-maximum = 20\n";
    let gateway = Gateway::start(config).await;
    let mut paho = Paho::start(&gateway);
    for (keepalive, told) in [(0, json!(60)), (600, json!(60)), (30, json!(null))] {
        let answer = paho.ask("c", "connect", json!({"v": 5, "keepalive": keepalive})).await;
        let properties = &answer["properties"];
        assert_eq!(properties["ServerKeepAlive"], told, "{keepalive}");
        assert_eq!(properties["ReceiveMaximum"], 20);
        assert!(properties["AssignedClientIdentifier"].is_string(), "{properties}");
        paho.disconnect("c").await;
    }
}

#[tokio::test]
async fn a_session_expires_as_its_client_says_last() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    let connect = |expiry: u32, clean: bool| json!({"v": 5, "id": "c", "clean": clean, "expiry": expiry});
    assert!(!paho.connect("c", connect(600, true)).await);
    paho.disconnect("c").await;
    assert!(paho.connect("c", connect(600, false)).await);
    // Shortened with the good-bye: it ends at once.
    paho.ask("c", "disconnect", json!({"expiry": 0})).await;
    assert!(!paho.connect("c", connect(1, false)).await);
    // Prolonged with the good-bye.
    paho.ask("c", "disconnect", json!({"expiry": 600})).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert!(paho.connect("c", connect(0, false)).await);
    paho.vanish("c").await;
    assert!(!paho.connect("c", connect(0, false)).await);
}

#[tokio::test]
async fn a_client_takes_no_more_at_once_than_it_said() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    let narrow = json!({"v": 5, "id": "narrow", "receive": 3, "manual": true, "clean": false, "expiry": 600});
    paho.connect("narrow", narrow).await;
    paho.subscribe("narrow", "t", 1).await;
    paho.connect("p", json!({"v": 5})).await;
    paho.burst("p", "t", 1, 0..10).await;
    assert_eq!(paho.payloads("narrow", 3).await, numbers(0..3));
    gateway
        .until("three are in flight", |all| {
            let queue = &all["status"]["broker"]["queues"][0];
            (&queue["inflight"], &queue["entries"]) == (&json!(3), &json!(10))
        })
        .await;
    // With a wider one all come, the first three again.
    paho.vanish("narrow").await;
    paho.connect("narrow", json!({"v": 5, "id": "narrow", "clean": false, "expiry": 600})).await;
    assert_eq!(paho.payloads("narrow", 10).await, numbers(0..10));
}

#[tokio::test]
async fn the_gateway_sets_topic_aliases_where_it_may() {
    let gateway = Gateway::start("").await;
    let mut paho = Paho::start(&gateway);
    paho.connect("p", json!({"v": 5})).await;
    paho.connect("s", json!({"v": 5, "aliases": 2})).await;
    paho.subscribe("s", "a/long/topic/+", 1).await;
    let mut topics = std::collections::BTreeMap::new();
    for round in 0..3 {
        for n in 0..2 {
            paho.publish("p", &format!("a/long/topic/{n}"), &round.to_string(), 1).await;
            let came = paho.take("s", 1).await.remove(0);
            let alias = came["properties"]["TopicAlias"].as_u64().unwrap_or_else(|| panic!("no alias: {came}"));
            assert!((1..=2).contains(&alias), "{alias}");
            let topic = came["topic"].as_str().unwrap().to_owned();
            // The name comes with the alias once, and the alias alone from then on.
            if round == 0 {
                assert_eq!(topic, format!("a/long/topic/{n}"));
                topics.insert(alias, topic);
            } else {
                assert_eq!((topic.as_str(), &topics[&alias]), ("", &format!("a/long/topic/{n}")));
            }
        }
    }
}

#[tokio::test]
async fn certificates_of_clients_over_tls_and_websocket() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    Authority::new(at, "ca").certify("server", "gateway");
    Authority::new(at, "clients").certify("meter", "meter");
    let users = at.join("users");
    add_user(&users, "ada", "secret").await;
    let (tls, secure) = (port::free(), port::free());
    let listener = |port: u16, more: &str| {
        format!(
            "[[broker.listener]]\nlisten = \"127.0.0.1:{port}\"\n{more}tls = {{ certificate = \"{0}/server.pem\", \
             key = \"{0}/server.key\", clients = \"{0}/clients.pem\", user-from-certificate = true }}\n",
            at.display()
        )
    };
    let config = format!(
        "[broker]\nlisten = \"@mqtt@\"\nusers = \"{}\"\n[[broker.acl]]\nread = [\"%u/#\"]\nwrite = [\"%u/#\"]\n{}{}",
        users.display(),
        listener(tls, ""),
        listener(secure, "websocket = true\n")
    );
    let gateway = Gateway::start(&config).await;
    let file = |name: &str| at.join(name);
    for mut clients in [Paho::start(&gateway), Paho::mqtt_js(&gateway)] {
        for (version, port) in [(4, tls), (4, secure), (5, tls), (5, secure)] {
            let way = json!({"v": version, "port": port, "websocket": port == secure, "ca": file("ca.pem")});
            let mut known = way.clone();
            known["certificate"] = json!(file("meter.pem"));
            known["key"] = json!(file("meter.key"));
            clients.connect("meter", known).await;
            let mut named = way.clone();
            (named["user"], named["password"]) = (json!("ada"), json!("secret"));
            clients.connect("ada", named).await;
            for name in ["meter", "ada"] {
                clients.subscribe(name, &format!("{name}/#"), 2).await;
                clients.publish(name, &format!("{name}/x"), name, 2).await;
                assert_eq!(clients.payloads(name, 1).await, [name]);
                clients.disconnect(name).await;
            }
            assert_ne!(clients.ask("nobody", "connect", way).await["reason"], 0);
        }
    }
}
