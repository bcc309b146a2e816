//! Who may connect, read and write: user lists by `fieldpost user` and by `mosquitto_passwd`.

use std::path::Path;
use std::process::Stdio;

use fieldpost::mqtt::{Packet, Reason, Version};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::paho::Paho;
use super::{mosquitto, raw};
use crate::support::process::PATIENCE;
use crate::support::{Gateway, port};

/// `fieldpost user add`, with the password on stdin.
pub async fn add_user(file: &Path, name: &str, password: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldpost"));
    let mut child = command.args(["user", "add"]).arg(file).arg(name).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{password}\n").as_bytes()).await.unwrap();
    drop(stdin);
    assert!(child.wait().await.unwrap().success());
}

/// A broker with this list of users.
fn listed(users: &Path) -> String {
    format!("[broker]\nlisten = \"@mqtt@\"\nusers = \"{}\"\n", users.display())
}

/// The rule that allows every user everything.
const ALL: &str = "[[broker.acl]]\nread = [\"#\"]\nwrite = [\"#\"]\n";

async fn mosquitto_passwd(args: &[&str], file: &Path, name: &str, password: &str) {
    let mut command = Command::new("mosquitto_passwd");
    let status = command.args(args).arg("-b").arg(file).args([name, password]).status().await;
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn on_a_terminal_the_password_is_asked_for_twice() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    for (typed, code, said) in [("one\ntwo\n", 65, "differ"), ("one\none\n", 0, "is written")] {
        let add = format!("{} user add {} ada", env!("CARGO_BIN_EXE_fieldpost"), users.display());
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &add, "/dev/null"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(typed.as_bytes()).await.unwrap();
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{shown}");
        assert!(shown.contains("The same again") && shown.contains(said), "{shown}");
        assert_eq!(users.exists(), code == 0);
        drop(stdin);
    }
}

#[tokio::test]
async fn only_who_knows_the_password_connects() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    add_user(&users, "ada", "pass:wörd").await;
    add_user(&users, "bob", "first").await;
    add_user(&users, "bob", "second").await;
    let gateway = Gateway::start(&format!("{}{ALL}", listed(&users))).await;
    let mut paho = Paho::start(&gateway);
    // The codes for a wrong password and for none, of each version as paho names them.
    for (version, wrong, none) in [(3, 134, 135), (4, 134, 135), (5, 134, 135)] {
        for (user, password, reason) in [
            (Some("ada"), "pass:wörd", 0),
            (Some("bob"), "second", 0),
            (Some("bob"), "first", wrong),
            (Some("ada"), "", wrong),
            (Some("eve"), "pass:wörd", wrong),
            (None, "", none),
        ] {
            let mut step = json!({"v": version, "id": format!("v{version}")});
            if let Some(user) = user {
                step["user"] = json!(user);
                step["password"] = json!(password);
            }
            let answer = paho.ask("client", "connect", step).await;
            assert_eq!(answer["reason"], reason, "{version} {user:?} {password}");
        }
    }
    let good = ["-u", "ada", "-P", "pass:wörd", "-t", "t", "-m", "x", "-q", "1"];
    mosquitto::publish(&gateway, &good).await;
    let (code, said) =
        mosquitto::run(&gateway, "mosquitto_pub", &["-u", "ada", "-P", "no", "-t", "t", "-m", "x"]).await;
    assert_eq!(code, Some(4), "{said}");
}

#[tokio::test]
async fn a_list_by_mosquitto_passwd_is_read_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    mosquitto_passwd(&["-c"], &users, "new", "one").await;
    mosquitto_passwd(&["-H", "sha512"], &users, "old", "two").await;
    let gateway = Gateway::start(&format!("{}{ALL}", listed(&users))).await;
    for (user, password, code) in [("new", "one", 0), ("old", "two", 0), ("new", "two", 4), ("old", "one", 4)] {
        let args = ["-u", user, "-P", password, "-t", "t", "-m", "x"];
        assert_eq!(mosquitto::run(&gateway, "mosquitto_pub", &args).await.0, Some(code), "{user} {password}");
    }
}

#[tokio::test]
async fn rules_say_who_reads_and_writes_what() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    for name in ["dashboard", "robot"] {
        add_user(&users, name, "secret").await;
    }
    let config = format!(
        r#"[broker]
listen = "@mqtt@"
users = "{}"
[[broker.acl]]
user = "dashboard"
read = ["plant/#"]
[[broker.acl]]
user = "robot"
read = ["plant/+/set"]
write = ["plant/#"]
[[broker.acl]]
read = ["own/%u/#"]
write = ["own/%u/#"]
"#,
        users.display()
    );
    let gateway = Gateway::start(&config).await;
    let mut paho = Paho::start(&gateway);
    for version in [4, 5] {
        for user in ["dashboard", "robot"] {
            paho.connect(user, json!({"v": version, "id": user, "user": user, "password": "secret"})).await;
        }
        let filters = json!([["plant/#", 1], ["#", 1], ["own/robot/x", 1], ["own/dashboard/x", 1]]);
        let reasons = paho.ask("dashboard", "subscribe", json!({"filters": filters})).await["reasons"].clone();
        let no = if version == 5 { 0x87 } else { 0x80 };
        assert_eq!(reasons, json!([1, no, no, 1]));
        // 3.1.1 has no word for a refusal: the message is taken and goes nowhere.
        for (user, topic, allowed) in [
            ("dashboard", "plant/a", false),
            ("robot", "own/dashboard/x", false),
            ("robot", "elsewhere", false),
            ("dashboard", "own/dashboard/x", true),
            ("robot", "plant/a", true),
        ] {
            for qos in [1, 2] {
                let step = json!({"topic": topic, "payload": user, "qos": qos});
                let reason = paho.ask(user, "publish", step).await["reason"].clone();
                let expected = match (version, allowed, qos) {
                    (4, ..) | (_, true, _) => 0,
                    (_, _, 1) => 0x87,
                    // paho goes on with PUBREL after the refusal, and tells what comes of that.
                    _ => 0x92,
                };
                assert_eq!(reason, expected, "{user} {topic} {qos}");
            }
        }
        let came = paho.payloads("dashboard", 4).await;
        assert_eq!(came, ["dashboard", "dashboard", "robot", "robot"]);
        // A will is a publish as well.
        let will = json!({"topic": "plant/a"});
        let step = json!({"v": version, "user": "dashboard", "password": "secret", "will": will});
        assert_eq!(paho.ask("will", "connect", step).await["reason"], 135);
        paho.disconnect("dashboard").await;
        paho.disconnect("robot").await;
    }
}

#[tokio::test]
async fn with_users_and_no_rule_nobody_may_do_anything_and_it_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    add_user(&users, "ada", "secret").await;
    let gateway = Gateway::start(&listed(&users)).await;
    assert!(gateway.log().contains("there are users and no rule"), "{}", gateway.log());
    let mut paho = Paho::start(&gateway);
    for (version, no) in [(4, 0x80), (5, 0x87)] {
        paho.connect("ada", json!({"v": version, "id": "ada", "user": "ada", "password": "secret"})).await;
        let filters = json!({"filters": [["a", 1], ["a/#", 0]]});
        assert_eq!(paho.ask("ada", "subscribe", filters).await["reasons"], json!([no, no]));
        paho.ask("ada", "publish", json!({"topic": "a", "payload": "x", "qos": 0, "retain": true})).await;
        paho.ask("ada", "publish", json!({"topic": "a", "payload": "x", "qos": 1, "retain": true})).await;
        paho.disconnect("ada").await;
    }
    // Retained are the gateway's own status, its clock's and its store's.
    let good = |s: &serde_json::Value| {
        let broker = &s["status"]["broker"];
        broker["refused"] == 4 && broker["retained"] == 3
    };
    gateway.until("four are refused, and nothing of them is retained", good).await;
}

#[tokio::test]
async fn who_comes_without_a_name_is_let_in_as_the_config_says() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    add_user(&users, "ada", "secret").await;
    let (mixed, closed) = (port::free(), port::free());
    let config = format!(
        "[[broker.listener]]\nlisten = \"127.0.0.1:{mixed}\"\nanonymous = \"loopback\"\n\
         [[broker.listener]]\nlisten = \"127.0.0.1:{closed}\"\nanonymous = \"never\"\n"
    );
    let gateway = Gateway::start(&format!("{}anonymous = \"always\"\n{ALL}{config}", listed(&users))).await;
    let mut paho = Paho::start(&gateway);
    for (port, user, reason) in [
        (gateway.mqtt_port(), None, 0),
        (mixed, None, 0),
        (closed, None, 0x87),
        (mixed, Some("ada"), 0),
        (mixed, Some("eve"), 0x86),
    ] {
        let mut step = json!({"v": 5, "port": port});
        if let Some(user) = user {
            step["user"] = json!(user);
            step["password"] = json!("secret");
        }
        assert_eq!(paho.ask("c", "connect", step).await["reason"], reason, "{port} {user:?}");
    }
}

#[tokio::test]
async fn guessing_passwords_becomes_slow() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    add_user(&users, "ada", "secret").await;
    let gateway = Gateway::start(&format!("{}{ALL}", listed(&users))).await;
    let guess = |n: u32| {
        let mut connect = raw::connect(Version::V5, "guess", 0);
        connect.user = Some("ada".into());
        connect.password = Some(n.to_string().into());
        connect
    };
    let mut guessing = Vec::new();
    for n in 0..30 {
        guessing.push(raw::Raw::connect(&gateway, guess(n)).await);
    }
    let mut refused = [0, 0];
    for mut raw in guessing {
        match raw.next().await {
            Packet::ConnAck(ack) if ack.reason == Reason::BAD_USER_OR_PASSWORD => refused[0] += 1,
            Packet::ConnAck(ack) if ack.reason == Reason(0x9F) => refused[1] += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!((9..=13).contains(&refused[0]) && refused[1] >= 17, "{refused:?} looked at, and not looked at");
}

#[tokio::test]
async fn a_guesser_keeps_no_user_out() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    add_user(&users, "ada", "secret").await;
    let config = format!("{}max-clients = 1\nmax-waiting = 40\n{ALL}", listed(&users));
    let gateway = Gateway::start(&config).await;
    let login = |user: &str, password: &str| {
        let mut connect = raw::connect(Version::V5, user, 0);
        connect.user = Some(user.into());
        connect.password = Some(password.to_owned().into());
        connect
    };
    let mut guessing = Vec::new();
    for _ in 0..30 {
        guessing.push(raw::Raw::connect(&gateway, login("eve", "guess")).await);
    }
    // Those who wait for the next look take no place of a client, and not the turn of another user at their address.
    for _ in 0..2 {
        let mut raw = raw::Raw::connect(&gateway, login("ada", "secret")).await;
        let answer = timeout(PATIENCE / 2, raw.next()).await.expect("no waiting behind the guesser");
        let Packet::ConnAck(ack) = answer else { panic!("{answer:?}") };
        assert_eq!(ack.reason, Reason::SUCCESS);
        raw.send(Packet::Disconnect { reason: Reason::SUCCESS, expiry: None }).await;
        gateway.until("the place is free again", |s| s["status"]["broker"]["clients"] == 0).await;
    }
}

#[tokio::test]
async fn a_hash_by_argon2_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    // As mosquitto_passwd 2.1 writes them.
    let hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    std::fs::write(&users, format!("ada:{hash}\n")).unwrap();
    let gateway = Gateway::start(&format!("{}{ALL}", listed(&users))).await;
    for (password, code) in [("password", 0), ("Password", 4)] {
        let args = ["-u", "ada", "-P", password, "-t", "t", "-m", "x"];
        assert_eq!(mosquitto::run(&gateway, "mosquitto_pub", &args).await.0, Some(code), "{password}");
    }
}

#[tokio::test]
async fn ctrl_c_at_the_prompt_leaves_the_terminal_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let add = format!("{} user add {} ada", env!("CARGO_BIN_EXE_fieldpost"), users.display());
    let mut command = Command::new("script");
    let shell = format!("trap : INT; {add}; echo ended with $?; stty -a");
    command.args(["--quiet", "--return", "--command", &shell, "/dev/null"]).env("SHELL", "/bin/sh");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = Vec::new();
    let said = |shown: &[u8], what: &str| String::from_utf8_lossy(shown).contains(what);
    while !said(&shown, "Password for ada") {
        assert_ne!(timeout(PATIENCE, stdout.read_buf(&mut shown)).await.expect("it asks").unwrap(), 0);
    }
    // The terminal is made quiet just behind the question.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    stdin.write_all(b"\x03").await.unwrap();
    timeout(PATIENCE, stdout.read_to_end(&mut shown)).await.expect("it ends").unwrap();
    assert!(said(&shown, "ended with 130") && said(&shown, " echo "), "{}", String::from_utf8_lossy(&shown));
    assert!(!users.exists());
    drop(stdin);
}
