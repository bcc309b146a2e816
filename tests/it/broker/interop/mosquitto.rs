//! What `mosquitto_pub`, `mosquitto_sub` and `mosquitto_rr` can do, in every version that they speak.

use tokio::process::Command;

use crate::broker::access::add_user;
use crate::broker::mosquitto::{self, Subscriber, VERSIONS};
use crate::support::{Authority, Gateway, Process, port};

/// What `mosquitto_sub` prints with these arguments in a second, for which it waits in vain at the end.
async fn in_a_second(gateway: &Gateway, args: &[&str]) -> String {
    let (code, said) = mosquitto::run(gateway, "mosquitto_sub", &[args, &["-W", "1"]].concat()).await;
    assert_eq!(code, Some(27), "{args:?}: {said}");
    said.strip_suffix("Timed out\n").unwrap_or_else(|| panic!("{args:?}: {said}")).to_owned()
}

#[tokio::test]
async fn certificates_of_clients_in_every_version() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    Authority::new(at, "ca").certify("server", "gateway");
    Authority::new(at, "clients").certify("meter", "meter");
    let users = at.join("users");
    add_user(&users, "ada", "secret").await;
    let secure = port::free();
    let config = format!(
        "[broker]\nlisten = \"@mqtt@\"\nusers = \"{1}\"\n[[broker.acl]]\nread = [\"%u/#\"]\nwrite = [\"%u/#\"]\n\
         [[broker.listener]]\nlisten = \"127.0.0.1:{secure}\"\ntls = {{ certificate = \"{0}/server.pem\", \
         key = \"{0}/server.key\", clients = \"{0}/clients.pem\", require-certificate = true, \
         user-from-certificate = true }}\n",
        at.display(),
        users.display(),
    );
    let gateway = Gateway::start(&config).await;
    let (secure, file) = (secure.to_string(), |name: &str| at.join(name).display().to_string());
    let (ca, certificate, key) = (file("ca.pem"), file("meter.pem"), file("meter.key"));
    let trusting = ["-p", &secure, "--cafile", &ca];
    let known = [&trusting[..], &["--cert", &certificate, "--key", &key]].concat();
    for version in VERSIONS {
        let args = [&known[..], &["-V", version, "-q", "2", "-t", "meter/#"]].concat();
        let mut subscriber = Subscriber::start(&gateway, &args).await;
        for qos in ["0", "1", "2"] {
            let args = ["-V", version, "-q", qos, "-t", "meter/x", "-m", version];
            mosquitto::publish(&gateway, &[&known[..], &args].concat()).await;
            assert_eq!(subscriber.next().await, format!("meter/x {version} {qos} 0"));
        }
        let args = [&trusting[..], &["-V", version, "-t", "meter/x", "-m", "x"]].concat();
        assert_ne!(mosquitto::run(&gateway, "mosquitto_pub", &args).await.0, Some(0), "without a certificate");
    }
}

#[tokio::test]
async fn a_last_will_with_and_without_retain() {
    let gateway = Gateway::start("").await;
    for version in VERSIONS {
        let mut watcher = Subscriber::start(&gateway, &["-V", version, "-q", "2", "-t", "will/#"]).await;
        for retained in [false, true] {
            let mut command = Command::new("stdbuf");
            let port = gateway.mqtt_port().to_string();
            command.args(["-oL", "mosquitto_sub", "-d", "-V", version, "-p", &port, "-t", "x", "-i", "mortal"]);
            command.args(["--will-topic", "will/x", "--will-payload", version, "--will-qos", "2"]);
            command.args(retained.then_some("--will-retain"));
            let mut mortal = Process::start("mosquitto_sub", &mut command);
            while !mortal.line().await.starts_with("Subscribed") {}
            mortal.kill().await;
            assert_eq!(watcher.next().await, format!("will/x {version} 2 0"));
            let expected = if retained { format!("{version}\n") } else { String::new() };
            assert_eq!(in_a_second(&gateway, &["-V", version, "-q", "2", "-t", "will/x"]).await, expected);
        }
        mosquitto::publish(&gateway, &["-t", "will/x", "-n", "-r"]).await;
        assert_eq!(watcher.next().await, "will/x  0 0");
    }
}

#[tokio::test]
async fn with_and_without_what_is_retained() {
    let gateway = Gateway::start("").await;
    for version in VERSIONS {
        for (topic, payload) in [("kept/a", "1"), ("kept/b", "2"), ("kept/c", "3")] {
            mosquitto::publish(&gateway, &["-V", version, "-q", "1", "-r", "-t", topic, "-m", payload]).await;
        }
        // One takes what is retained and ends; one wants only what is new.
        let args = ["-V", version, "-t", "kept/#", "--retained-only", "-C", "3", "-W", "10", "-F", "%t %p %r"];
        let (code, said) = mosquitto::run(&gateway, "mosquitto_sub", &args).await;
        let mut lines: Vec<_> = said.lines().collect();
        lines.sort_unstable();
        assert_eq!((code, lines), (Some(0), vec!["kept/a 1 1", "kept/b 2 1", "kept/c 3 1"]));
        let mut fresh = Subscriber::start(&gateway, &["-V", version, "-t", "kept/#", "-R"]).await;
        mosquitto::publish(&gateway, &["-V", version, "-t", "kept/a", "-m", "new", "-r", "-q", "1"]).await;
        assert_eq!(fresh.next().await, "kept/a new 0 0");
        // It clears one after the other, and prints what it has cleared.
        let said = in_a_second(&gateway, &["-V", version, "-t", "kept/#", "--remove-retained", "-q", "1", "-v"]).await;
        for cleared in ["kept/a new", "kept/b 2", "kept/c 3"] {
            assert!(said.lines().any(|line| line == cleared), "{said}");
        }
        assert_eq!(in_a_second(&gateway, &["-V", version, "-t", "kept/#"]).await, "");
    }
}

#[tokio::test]
async fn requests_find_their_responses() {
    let gateway = Gateway::start("").await;
    // In MQTT 5 the request says where its response is to go; before, both sides know.
    for version in VERSIONS {
        let args = ["-V", version, "-q", "1", "-t", "ask", "-F", "> %t %p %R"];
        let mut answering = Subscriber::start(&gateway, &args).await;
        let asking = ["-V", version, "-q", "1", "-t", "ask", "-e", "answer/me", "-m", "how much?", "-W", "10"];
        let answer = async {
            let heard = answering.next().await;
            let to = if version == "mqttv5" { " answer/me" } else { "" };
            assert_eq!(heard.trim_end(), format!("ask how much?{to}"));
            mosquitto::publish(&gateway, &["-V", version, "-q", "1", "-t", "answer/me", "-m", "42"]).await;
        };
        let (response, ()) = tokio::join!(mosquitto::run(&gateway, "mosquitto_rr", &asking), answer);
        assert_eq!(response, (Some(0), "42\n".to_owned()), "{version}");
    }
}

#[tokio::test]
async fn a_session_is_kept_for_who_says_so() {
    let gateway = Gateway::start("").await;
    for version in VERSIONS {
        let session = ["-V", version, "-i", version, "-q", "2", "-t", "kept"];
        let expiry: &[&str] = if version == "mqttv5" { &["-x", "600"] } else { &[] };
        let kept = [&session[..], &["-c"], expiry].concat();
        for (args, expected) in [(&session[..], ""), (&kept[..], "1\n2\n")] {
            let leave = [args, &["-E"]].concat();
            assert_eq!(mosquitto::run(&gateway, "mosquitto_sub", &leave).await.0, Some(0));
            for qos in ["1", "2"] {
                mosquitto::publish(&gateway, &["-V", version, "-q", qos, "-t", "kept", "-m", qos]).await;
            }
            assert_eq!(in_a_second(&gateway, args).await, expected, "{version}");
        }
    }
}

#[tokio::test]
async fn sys_topics_and_many_filters_at_once() {
    let gateway = Gateway::start("").await;
    for version in VERSIONS {
        let args = ["-V", version, "-t", "$SYS/#", "-W", "10", "-C", "40", "-v"];
        let (code, said) = mosquitto::run(&gateway, "mosquitto_sub", &args).await;
        assert_eq!((code, said.lines().count()), (Some(0), 40), "{said}");
        assert!(said.lines().all(|line| line.starts_with("$SYS/broker/")), "{said}");
        // Wildcards at the front leave them out, and `-T` leaves out more.
        let args = ["-V", version, "-t", "#", "-t", "+/+/+", "-t", "a/b", "-T", "a/not", "-q", "1"];
        let mut subscriber = Subscriber::start(&gateway, &[&args[..], &["-R"]].concat()).await;
        for topic in ["a/not", "a/b", "c"] {
            mosquitto::publish(&gateway, &["-V", version, "-q", "1", "-t", topic, "-m", "x"]).await;
        }
        assert_eq!(subscriber.next().await, "a/b x 1 0");
        loop {
            match subscriber.next().await.as_str() {
                "a/b x 1 0" => {}
                other => break assert_eq!(other, "c x 1 0"),
            }
        }
    }
}
