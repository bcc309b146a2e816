//! The ways to a broker: TCP, TLS and WebSocket, several at once, with Mosquitto's and paho's clients; and the limits at
//! its doors.

use std::path::Path;
use std::time::Duration;

use fieldpost::message::QoS;
use fieldpost::mqtt::{ConnAck, Packet, Reason, Version};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::access::add_user;
use super::mosquitto;
use super::paho::Paho;
use super::raw::{self, Raw};
use crate::support::process::PATIENCE;
use crate::support::{Authority, Gateway, port};

/// A listener of each kind behind the plain one, in this order: TLS, WebSocket, WebSocket over TLS.
pub fn all_kinds(folder: &Path) -> ([u16; 3], String) {
    let authority = Authority::new(folder, "ca");
    authority.certify("server", "gateway");
    let ports = [port::free(), port::free(), port::free()];
    let tls = format!("tls = {{ certificate = \"{0}/server.pem\", key = \"{0}/server.key\" }}\n", folder.display());
    let listener = |port, more: &str| format!("[[broker.listener]]\nlisten = \"127.0.0.1:{port}\"\n{more}");
    let config = format!(
        "[broker]\nlisten = \"@mqtt@\"\n{}{}{}",
        listener(ports[0], &tls),
        listener(ports[1], "websocket = true\n"),
        listener(ports[2], &format!("websocket = true\n{tls}")),
    );
    (ports, config)
}

#[tokio::test]
async fn all_ways_lead_to_one_broker() {
    let folder = tempfile::tempdir().unwrap();
    let ([tls, websocket, secure], config) = all_kinds(folder.path());
    let gateway = Gateway::start(&config).await;
    let ca = folder.path().join("ca.pem");
    let ways = [
        json!({}),
        json!({"port": tls, "ca": ca}),
        json!({"port": websocket, "websocket": true}),
        json!({"port": secure, "websocket": true, "ca": ca}),
    ];
    let mut paho = Paho::start(&gateway);
    for version in [3, 4, 5] {
        for (n, way) in ways.iter().enumerate() {
            let name = format!("w{n}");
            let mut step = way.clone();
            step["v"] = json!(version);
            step["id"] = json!(name);
            paho.connect(&name, step).await;
            paho.subscribe(&name, "all/#", 2).await;
        }
        // Larger than one TLS record, than one WebSocket message of ours, and than what sockets take at once.
        for size in [1, 900_000] {
            for n in 0..ways.len() {
                let step = json!({"topic": "all/x", "payload": format!("v{version}w{n}"), "size": size, "qos": n % 3});
                assert_eq!(paho.ask(&format!("w{n}"), "publish", step).await["reason"], 0);
                for to in 0..ways.len() {
                    let came = paho.take(&format!("w{to}"), 1).await.remove(0);
                    assert_eq!(came["payload"], format!("v{version}w{n}"), "from {n} to {to}");
                    assert!(came["size"].as_u64() >= Some(size), "from {n} to {to}");
                }
            }
        }
        for n in 0..ways.len() {
            paho.burst(&format!("w{n}"), "all/burst", 1, 0..200).await;
            for to in 0..ways.len() {
                assert_eq!(paho.payloads(&format!("w{to}"), 200).await, super::paho::numbers(0..200), "{n} to {to}");
            }
        }
        for n in 0..ways.len() {
            paho.disconnect(&format!("w{n}")).await;
        }
    }
    let (_, status) = gateway.get("/api/status").await;
    for (scheme, port) in [("mqtt", gateway.mqtt_port()), ("mqtts", tls), ("ws", websocket), ("wss", secure)] {
        let listener = format!("{scheme}://127.0.0.1:{port}");
        assert!(status.contains(&listener) && gateway.log().contains(&listener), "{listener} is not in {status}");
    }
}

#[tokio::test]
async fn mosquitto_clients_come_by_tls() {
    let folder = tempfile::tempdir().unwrap();
    let ([tls, ..], config) = all_kinds(folder.path());
    let gateway = Gateway::start(&config).await;
    let (ca, tls) = (folder.path().join("ca.pem"), tls.to_string());
    let secure = ["-p", &tls, "--cafile", ca.to_str().unwrap()];
    for version in mosquitto::VERSIONS {
        let mut subscriber =
            mosquitto::Subscriber::start(&gateway, &[&secure[..], &["-V", version, "-q", "2", "-t", "t"]].concat())
                .await;
        for tls in ["tlsv1.2", "tlsv1.3"] {
            let args = ["--tls-version", tls, "-V", version, "-q", "2", "-t", "t", "-m", tls];
            mosquitto::publish(&gateway, &[&secure[..], &args].concat()).await;
            assert_eq!(subscriber.next().await, format!("t {tls} 2 0"));
        }
    }
    // Who does not speak TLS, and whom the client does not believe.
    assert_ne!(mosquitto::run(&gateway, "mosquitto_pub", &["-p", &tls, "-t", "t", "-m", "x"]).await.0, Some(0));
    Authority::new(folder.path(), "other");
    let other = folder.path().join("other.pem");
    let args = ["-p", &tls, "--cafile", other.to_str().unwrap(), "-t", "t", "-m", "x"];
    assert_ne!(mosquitto::run(&gateway, "mosquitto_pub", &args).await.0, Some(0));
}

#[tokio::test]
async fn a_certificate_names_its_user() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    Authority::new(at, "ca").certify("server", "gateway");
    let clients = Authority::new(at, "clients");
    clients.certify("meter", "meter");
    clients.certify("nameless", "");
    Authority::new(at, "other").certify("stranger", "meter");
    let users = at.join("users");
    add_user(&users, "ada", "secret").await;
    let (optional, required) = (port::free(), port::free());
    let tls = |more: &str| {
        format!(
            "tls = {{ certificate = \"{0}/server.pem\", key = \"{0}/server.key\", clients = \"{0}/clients.pem\", {more} }}\n",
            at.display()
        )
    };
    let config = format!(
        "[broker]\nlisten = \"\"\nusers = \"{}\"\n\
         [[broker.acl]]\nread = [\"%u/#\"]\nwrite = [\"%u/#\"]\n\
         [[broker.listener]]\nlisten = \"127.0.0.1:{optional}\"\n{}\
         [[broker.listener]]\nlisten = \"127.0.0.1:{required}\"\n{}",
        users.display(),
        tls("user-from-certificate = true"),
        tls("require-certificate = true"),
    );
    let gateway = Gateway::start(&config).await;
    let ca = at.join("ca.pem");
    let step = |port: u16, certificate: Option<&str>, user: Option<&str>| {
        let mut step = json!({"v": 5, "port": port, "ca": ca});
        if let Some(name) = certificate {
            step["certificate"] = json!(at.join(format!("{name}.pem")));
            step["key"] = json!(at.join(format!("{name}.key")));
        }
        if let Some(user) = user {
            step["user"] = json!(user);
            step["password"] = json!("secret");
        }
        step
    };
    let mut paho = Paho::start(&gateway);
    // The name in the certificate counts, not the one in CONNECT, and it is the one that rules see.
    for user in [None, Some("ada"), Some("eve")] {
        paho.connect("meter", step(optional, Some("meter"), user)).await;
        let filters = json!([["meter/#", 1], ["ada/#", 1]]);
        assert_eq!(paho.ask("meter", "subscribe", json!({"filters": filters})).await["reasons"], json!([1, 0x87]));
        paho.disconnect("meter").await;
    }
    for (port, certificate, user, reason) in [
        (optional, Some("nameless"), Some("ada"), 0x87),
        (optional, None, Some("ada"), 0),
        (optional, None, None, 0x87),
        (required, Some("meter"), Some("ada"), 0),
        (required, Some("meter"), None, 0x87),
        (required, Some("nameless"), Some("ada"), 0),
    ] {
        let answer = paho.ask("c", "connect", step(port, certificate, user)).await;
        assert_eq!(answer["reason"], reason, "{port} {certificate:?} {user:?}");
    }
    let anonymous = paho.ask("c", "connect", step(optional, None, None)).await;
    assert_eq!(anonymous["reason"], 0x87);
    for (port, certificate) in [(required, None), (required, Some("stranger")), (optional, Some("stranger"))] {
        let answer = paho.attempt("x", "connect", step(port, certificate, Some("ada"))).await;
        assert!(!answer["error"].is_null(), "{port} {certificate:?}: {answer}");
    }
}

#[tokio::test]
async fn a_websocket_without_mqtt_is_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let ([_, websocket, _], config) = all_kinds(folder.path());
    let _gateway = Gateway::start(&config).await;
    let mut stream = TcpStream::connect(("127.0.0.1", websocket)).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("subprotocol `mqtt`"), "{answer}");
}

#[tokio::test]
async fn silent_sockets_keep_nobody_out_on_any_listener() {
    let folder = tempfile::tempdir().unwrap();
    let ([tls, websocket, secure], config) = all_kinds(folder.path());
    let limits = "[broker]\nmax-waiting = 8\nmax-clients = 4\nconnect-timeout = \"2s\"\n";
    let gateway = Gateway::start(&config.replace("[broker]\n", limits)).await;
    let mut silent = Vec::new();
    for port in [gateway.mqtt_port(), tls, websocket, secure] {
        for _ in 0..10 {
            silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        }
    }
    let mut paho = Paho::start(&gateway);
    let ca = folder.path().join("ca.pem");
    paho.connect("a", json!({"id": "a"})).await;
    paho.connect("b", json!({"id": "b", "port": secure, "websocket": true, "ca": ca})).await;
    // The oldest had to go at once, the last when their time was over.
    for mut stream in silent {
        let mut rest = Vec::new();
        let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed in time");
        assert!(end.is_err() || rest.is_empty(), "{rest:?}");
    }
    // Places for clients are for those who are in.
    paho.connect("c", json!({"id": "c"})).await;
    paho.connect("d", json!({"id": "d"})).await;
    for (version, reason) in [(Version::V5, Reason::QUOTA_EXCEEDED), (Version::V311, Reason::SERVER_UNAVAILABLE)] {
        let mut raw = Raw::connect(&gateway, raw::connect(version, "e", 0)).await;
        let Packet::ConnAck(ack) = raw.next().await else { panic!("no CONNACK") };
        assert_eq!(ack.reason, reason);
    }
    paho.disconnect("d").await;
    paho.connect("e", json!({"id": "e"})).await;
}

#[tokio::test]
async fn no_bytes_on_any_listener_disturb_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let ([tls, websocket, secure], config) = all_kinds(folder.path());
    let gateway = Gateway::start(&config).await;
    let mut steady = raw::Steady::start(&gateway).await;
    let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..300 {
        for (port, before) in [
            (tls, "\x16\x03\x01"),
            (websocket, ""),
            (websocket, "GET / HTTP/1.1\r\n"),
            (websocket, upgrade),
            (secure, ""),
        ] {
            let mut bytes = before.as_bytes().to_vec();
            bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(300));
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let _ = stream.write_all(&bytes).await;
            if random.bool() {
                let _ = timeout(std::time::Duration::from_millis(5), stream.read(&mut [0; 64])).await;
            }
        }
    }
    steady.goes_on().await;
    let mut paho = Paho::start(&gateway);
    paho.connect("c", json!({"port": secure, "websocket": true, "ca": folder.path().join("ca.pem")})).await;
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

#[tokio::test]
async fn a_long_keep_alive_is_cut_short_where_the_client_can_be_told() {
    let gateway = Gateway::start("[broker]\nlisten = \"@mqtt@\"\nmax-keep-alive = \"1m\"\n").await;
    for (version, seconds, told) in
        [(Version::V5, 0, Some(60)), (Version::V5, 61, Some(60)), (Version::V5, 60, None), (Version::V311, 0, None)]
    {
        let mut connect = raw::connect(version, "c", 0);
        connect.keep_alive = std::time::Duration::from_secs(seconds);
        let mut raw = Raw::connect(&gateway, connect).await;
        let Packet::ConnAck(ack) = raw.next().await else { panic!("no CONNACK") };
        assert_eq!((ack.reason, ack.server_keep_alive), (Reason::SUCCESS, told), "{version:?} {seconds}");
        assert_ne!(*ack, ConnAck::new(Reason::UNSPECIFIED));
    }
}

#[tokio::test]
async fn a_name_that_nobody_has_checked_counts_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    Authority::new(at, "ca").certify("server", "gateway");
    let port = port::free();
    let config = format!(
        "[broker]\nlisten = \"@mqtt@\"\nanonymous = \"always\"\n\
         [[broker.acl]]\nuser = \"ada\"\nread = [\"secret\"]\n\
         [[broker.acl]]\nread = [\"%u/#\", \"open\"]\n\
         [[broker.listener]]\nlisten = \"127.0.0.1:{port}\"\n\
         tls = {{ certificate = \"{0}/server.pem\", key = \"{0}/server.key\", clients = \"{0}/ca.pem\", user-from-certificate = true }}\n",
        at.display()
    );
    let gateway = Gateway::start(&config).await;
    let mut paho = Paho::start(&gateway);
    paho.connect("c", json!({"v": 5, "user": "ada", "password": "x"})).await;
    let filters = json!([["secret", 1], ["ada/x", 1], ["open", 1]]);
    assert_eq!(paho.ask("c", "subscribe", json!({"filters": filters})).await["reasons"], json!([0x87, 0x87, 1]));
}

#[tokio::test]
async fn a_large_packet_that_comes_slowly_keeps_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let ([_, websocket, _], config) = all_kinds(folder.path());
    let gateway = Gateway::start(&config).await;
    // Without an id: two clients with the same would drive each other out.
    let mut connect = raw::connect(Version::V5, "", 0);
    connect.keep_alive = Duration::from_secs(1);
    let publish = Packet::Publish(raw::publish(1, QoS::AtLeastOnce, "t", &"slow".repeat(6000)));
    let (connect, publish) = (Packet::Connect(Box::new(connect)), raw::bytes(Version::V5, &[publish]).await);
    let connect = raw::bytes(Version::V5, &[connect]).await;
    let frame = |bytes: &[u8]| {
        let [high, low] = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[0x82, 0xFE, high, low, 0, 0, 0, 0], bytes].concat()
    };
    let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    let mut plain = TcpStream::connect(("127.0.0.1", gateway.mqtt_port())).await.unwrap();
    plain.write_all(&connect).await.unwrap();
    let mut framed = TcpStream::connect(("127.0.0.1", websocket)).await.unwrap();
    framed.write_all(upgrade.as_bytes()).await.unwrap();
    framed.write_all(&frame(&connect)).await.unwrap();
    let (plain_bytes, framed_bytes) = (publish.clone(), frame(&publish));
    // All of it takes four seconds, and one and a half is what a silent client has.
    for (one, other) in plain_bytes.chunks(2020).zip(framed_bytes.chunks(2020)) {
        plain.write_all(one).await.unwrap();
        framed.write_all(other).await.unwrap();
        tokio::time::sleep(Duration::from_millis(350)).await;
    }
    for stream in [&mut plain, &mut framed] {
        let mut came = Vec::new();
        // PUBACK 1: nobody is subscribed.
        while !came.windows(5).any(|part| part == [0x40, 3, 0, 1, 0x10]) {
            let read = timeout(PATIENCE, stream.read_buf(&mut came)).await.expect("an answer").unwrap();
            assert_ne!(read, 0, "cut off: {came:02x?}");
        }
    }
}

#[tokio::test]
async fn what_comes_with_connect_counts_for_flow_control() {
    let gateway = Gateway::start("[broker]\nlisten = \"@mqtt@\"\nreceive-maximum = 2\n").await;
    for (count, told) in [(2, None), (3, Some(Reason::RECEIVE_MAXIMUM_EXCEEDED))] {
        let mut packets = vec![Packet::Connect(Box::new(raw::connect(Version::V5, "c", 0)))];
        // Of QoS 2, so that none is at its end when the next is counted.
        packets.extend((1..=count).map(|id| Packet::Publish(raw::publish(id, QoS::ExactlyOnce, "t", "x"))));
        let mut stream = raw::socket(&gateway).await;
        stream.write_all(&raw::bytes(Version::V5, &packets).await).await.unwrap();
        let mut framed = fieldpost::mqtt::wire::Framed::client(stream, Version::V5, 1 << 20);
        let mut came = Vec::new();
        while came.len() < 2 {
            came.extend(timeout(PATIENCE, framed.recv()).await.expect("an answer").unwrap());
        }
        assert!(matches!(&came[0], Packet::ConnAck(ack) if ack.reason == Reason::SUCCESS), "{came:?}");
        let disconnect =
            came.iter().find_map(|p| if let Packet::Disconnect { reason, .. } = p { Some(*reason) } else { None });
        assert_eq!(disconnect, told, "{came:?}");
    }
}

#[tokio::test]
async fn a_topic_with_too_many_levels_costs_its_message_only() {
    let gateway = Gateway::start("").await;
    let topic = "/".repeat(40_000);
    let mut raw = Raw::connect(&gateway, raw::connect(Version::V5, "deep", 0)).await;
    raw.next().await;
    raw.send(Packet::Publish(raw::publish(0, QoS::AtMostOnce, &topic, "x"))).await;
    raw.send(Packet::Publish(raw::publish(1, QoS::AtLeastOnce, &topic, "x"))).await;
    assert!(matches!(raw.next().await, Packet::PubAck(ack) if ack.reason == Reason::TOPIC_NAME_INVALID));
    raw.send(Packet::Publish(raw::publish(2, QoS::ExactlyOnce, &topic, "x"))).await;
    assert!(matches!(raw.next().await, Packet::PubRec(ack) if ack.reason == Reason::TOPIC_NAME_INVALID));
    gateway.until("three are refused", |s| s["status"]["broker"]["refused"] == 3).await;
}
