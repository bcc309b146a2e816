//! Who may connect, read and write: user lists by `fieldpost user` and by `mosquitto_passwd`.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::mosquitto;
use super::paho::Paho;
use crate::support::Gateway;

/// `fieldpost user add`, with the password on stdin.
async fn add_user(file: &Path, name: &str, password: &str) {
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
