//! `fieldpost store` on the store of a running gateway and of a stopped one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::mail::TOPICS;
use crate::support::{Collector, Gateway, Load, Mosquitto, Watcher, port, status};

const PREFIX: &str = "plant/load";
const QUEUE: &str = "$uplink/cloud";

/// What a command said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn good(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        assert!(!self.err.contains("warning"), "{}", self.err);
        self.out
    }

    fn lines(self) -> Vec<Value> {
        self.good().lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

/// `fieldpost store COMMAND CONFIG …` of this gateway.
async fn store(gateway: &Gateway, command: &str, more: &[&str]) -> Said {
    run(&gateway.folder().join("fieldpost.toml"), command, more).await
}

async fn run(config: &Path, command: &str, more: &[&str]) -> Said {
    let mut program = Command::new(env!("CARGO_BIN_EXE_fieldpost"));
    program.args(["store", command]).arg(config).args(more).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = timeout(Duration::from_secs(60), program.output()).await.expect("it ends").expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said { code: output.status.code().expect("no signal"), out: text(output.stdout), err: text(output.stderr) }
}

/// A gateway whose cloud is away.
async fn alone(more: &str) -> Gateway {
    let nobody = port::free();
    Gateway::start(&format!("[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{nobody}\"\npublish = [\"plant/#\"]\n{more}"))
        .await
}

async fn publish(gateway: &Gateway, args: &[&str]) {
    let port = gateway.mqtt_port().to_string();
    let done = Command::new("mosquitto_pub").args(["-p", &port, "-q", "1"]).args(args).status().await;
    assert!(done.expect("mosquitto_pub starts").success(), "{args:?}");
}

/// Leaves a session behind that wants these topics.
async fn absent(gateway: &Gateway, id: &str, filter: &str) {
    let port = gateway.mqtt_port().to_string();
    let args = ["-p", &port, "-c", "-i", id, "-q", "1", "-t", filter, "-E"];
    let done = Command::new("mosquitto_sub").args(args).status().await;
    assert!(done.expect("mosquitto_sub starts").success());
}

fn queue<'a>(listed: &'a Value, name: &str) -> &'a Value {
    let queues = listed["queues"].as_array().expect("a list");
    queues.iter().find(|queue| queue["queue"] == name).unwrap_or_else(|| panic!("no {name} in {listed}"))
}

async fn listed(gateway: &Gateway) -> Value {
    serde_json::from_str(&store(gateway, "ls", &["--json"]).await.good()).expect("JSON")
}

fn file(gateway: &Gateway, name: &str, text: &str) -> String {
    let path = gateway.folder().join(name);
    std::fs::write(&path, text).expect("it can be written");
    path.to_str().expect("UTF-8").to_owned()
}

#[tokio::test]
async fn ls_and_export_show_what_waits_running_and_stopped() {
    // The window is far longer than the test: without the gateway's help, none of it would be in the file.
    let mut gateway = alone("[store]\npath = \"@store@\"\ncommit = \"10m\"").await;
    absent(&gateway, "away", "plant/a").await;
    publish(&gateway, &["-t", "plant/a", "-m", "1"]).await;
    publish(&gateway, &["-t", "plant/b", "-m", "zwei, \"2\"", "-r"]).await;
    let bytes = file(&gateway, "bytes", "");
    std::fs::write(&bytes, [0, 159, 255]).unwrap();
    publish(&gateway, &["-t", "plant/c", "-f", &bytes]).await;

    let (mut shown, mut exported) = (Vec::new(), Vec::new());
    for running in [true, false] {
        if !running {
            gateway.stop().await;
        }
        let before = std::fs::read(gateway.folder().join("store.db")).unwrap();
        let list = listed(&gateway).await;
        assert_eq!((&list["running"], &list["schema"].is_u64()), (&running.into(), &true));
        assert_eq!((&queue(&list, QUEUE)["entries"], &queue(&list, "away")["entries"]), (&3.into(), &1.into()));
        assert_eq!(list["retained"]["messages"], 1);
        assert!(queue(&list, QUEUE)["oldest"].is_string());
        let text = store(&gateway, "ls", &[]).await.good();
        assert!(text.contains("$uplink/cloud") && text.contains("retained: 1 message"), "{text}");
        shown.push(queue(&list, QUEUE).clone());

        let lines = store(&gateway, "export", &["--queue", QUEUE]).await.lines();
        let payloads: Vec<_> =
            lines.iter().map(|l| (l["topic"].as_str().unwrap(), &l["payload"], &l["payload-base64"])).collect();
        let (zwei, coded, none) = (json!("zwei, \"2\""), json!("AJ//"), Value::Null);
        let wanted = [("plant/a", &json!("1"), &none), ("plant/b", &zwei, &none), ("plant/c", &Value::Null, &coded)];
        assert_eq!(payloads, wanted);
        assert!(lines.iter().all(|l| l["queue"] == QUEUE && l["qos"] == 1 && l["id"].is_u64() && l["at"].is_string()));
        assert_eq!(store(&gateway, "export", &[]).await.lines().len(), 4, "all queues");
        let retained = store(&gateway, "export", &["--retained"]).await.lines();
        assert_eq!(
            (retained.len(), &retained[0]["topic"], &retained[0]["retain"]),
            (1, &"plant/b".into(), &true.into())
        );
        let csv = store(&gateway, "export", &["--format", "csv", "--queue", QUEUE]).await.good();
        assert!(csv.starts_with("queue,id,at,topic") && csv.contains("\"zwei, \"\"2\"\"\""), "{csv}");
        assert_eq!(csv.lines().count(), 4);
        exported.push(lines);
        if !running {
            assert_eq!(std::fs::read(gateway.folder().join("store.db")).unwrap(), before, "reading changes nothing");
        }
    }
    assert_eq!(exported[0], exported[1]);
    assert_eq!(shown[0], shown[1]);
}

#[tokio::test]
async fn what_is_exported_and_imported_arrives_as_it_would_have() {
    for running in [true, false] {
        let mut first = alone("").await;
        for (n, more) in [&[][..], &["-r"], &["-q", "2"], &["-V", "5", "-D", "publish", "content-type", "text/x"]]
            .into_iter()
            .enumerate()
        {
            publish(&first, &[&["-t", &format!("plant/{n}"), "-m", &format!("m{n}")], more].concat()).await;
        }
        if !running {
            first.stop().await;
        }
        let lines = store(&first, "export", &["--queue", QUEUE]).await.good();
        assert_eq!(lines.lines().count(), 4);

        let cloud = Mosquitto::start("").await;
        let format = ["-V", "5", "-F", "message %r %t %p %q %C"];
        let mut watcher = Watcher::start(cloud.port(), "plant/#", &format).await;
        let mut second = Gateway::start(&format!(
            "[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{}\"\npublish = [{{ filter = \"plant/#\", qos = 2 }}]",
            cloud.port()
        ))
        .await;
        let lines = file(&second, "lines", &lines);
        if !running {
            second.stop().await;
        }
        let said = store(&second, "import", &[&lines, "--queue", QUEUE]).await;
        assert!(said.err.contains("4 messages are in"), "{said:?}");
        assert_eq!(said.code, 0);
        if !running {
            second.start_again().await;
        }
        for n in 0..4 {
            let heard = watcher.next().await;
            let kind = if n == 3 { "text/x" } else { "" };
            assert_eq!((heard.topic, heard.payload), (format!("plant/{n}"), format!("m{n} 1 {kind}")), "{running}");
        }
    }
}

#[tokio::test]
async fn imported_for_all_it_reaches_all_and_one_bad_line_stops_it() {
    let mut gateway = alone("").await;
    absent(&gateway, "away", "plant/+").await;
    let good =
        "{\"topic\":\"plant/x\",\"payload\":\"1\"}\n\n{\"topic\":\"elsewhere\",\"payload\":\"2\",\"retain\":true}\n";
    let bad = format!("{good}{{\"topic\":\"plant/#\",\"payload\":\"\"}}\nno json\n{{\"topic\":\"plant/y\"}}\n");
    let (good, bad) = (file(&gateway, "good", good), file(&gateway, "bad", &bad));
    for running in [true, false] {
        if !running {
            gateway.stop().await;
        }
        let said = store(&gateway, "import", &[&bad, "--publish"]).await;
        let named = ["line 4: `topic`", "line 5: this is no JSON", "line 6: there is neither", "nothing is brought in"];
        assert!(said.code == 65 && named.iter().all(|named| said.err.contains(named)), "{said:?}");
        let was = listed(&gateway).await;
        let said = store(&gateway, "import", &[&good, "--publish"]).await;
        assert!(said.code == 0 && said.err.contains("2 messages are in"), "{said:?}");
        let is = listed(&gateway).await;
        for name in [QUEUE, "away"] {
            let more = |list: &Value| queue(list, name)["entries"].as_u64().unwrap();
            assert_eq!(more(&is), more(&was) + 1, "{name}, running: {running}");
        }
        assert_eq!(is["retained"]["messages"], 1);
        let said = store(&gateway, "import", &[&good, "--queue", "nobody"]).await;
        assert!(said.code == 65 && said.err.contains("no queue `nobody`; there are $uplink/cloud, away"), "{said:?}");
    }
}

#[tokio::test]
async fn a_purge_says_what_goes_and_takes_no_more() {
    let mut gateway = alone("").await;
    absent(&gateway, "away", "plant/+").await;
    let lines: String = (0..10)
        .map(|n| format!("{{\"topic\":\"plant/x\",\"payload\":\"{n}\",\"at\":\"2026-11-0{}T10:00:00Z\"}}\n", n % 10))
        .map(|line| line.replace("-00T", "-10T"))
        .collect();
    // Number 0 is of the 10th, so that nothing behind it counts as older.
    let lines = lines.lines().skip(1).chain(lines.lines().take(1)).map(|line| format!("{line}\n")).collect::<String>();
    let lines = file(&gateway, "lines", &lines);
    publish(&gateway, &["-t", "kept/1", "-m", "x", "-r"]).await;
    publish(&gateway, &["-t", "kept/2", "-m", "x", "-r"]).await;
    for running in [true, false] {
        if !running {
            gateway.stop().await;
        }
        assert_eq!(store(&gateway, "import", &[&lines, "--queue", QUEUE]).await.code, 0);
        assert_eq!(store(&gateway, "import", &[&lines, "--queue", "away"]).await.code, 0);
        let said = store(&gateway, "purge", &["--queue", QUEUE, "--before", "2026-11-04T10:00:00Z"]).await;
        assert!(said.code == 65 && said.err.contains("3 messages\n") && said.err.contains("--yes"), "{said:?}");
        assert_eq!(queue(&listed(&gateway).await, QUEUE)["entries"], 10, "nobody agreed");

        let said = store(&gateway, "purge", &["--queue", QUEUE, "--before", "2026-11-04T10:00:00Z", "--yes"]).await;
        assert!(said.code == 0 && said.err.contains("3 messages are removed"), "{said:?}");
        let left = store(&gateway, "export", &["--queue", QUEUE]).await.lines();
        let left: Vec<_> = left.iter().map(|line| line["payload"].as_str().unwrap()).collect();
        assert_eq!(left, ["4", "5", "6", "7", "8", "9", "0"]);
        if running {
            let status = status::until(&gateway, "the broker knows", |s| status::queue(s)["entries"] == 7).await;
            assert_eq!(status["store"]["entries"], 17);
        }
        let said = store(&gateway, "purge", &["--queue", QUEUE, "--yes"]).await;
        assert!(said.err.contains("7 messages are removed"), "{said:?}");
        assert_eq!(queue(&listed(&gateway).await, QUEUE)["entries"], 0);
        assert_eq!(queue(&listed(&gateway).await, "away")["entries"], 10, "nobody else loses anything");
        let said = store(&gateway, "purge", &["--queue", QUEUE, "--yes"]).await;
        assert!(said.code == 0 && said.err.contains("nothing to remove"), "{said:?}");

        let which = if running { "kept/1" } else { "#" };
        let said = store(&gateway, "purge", &["--retained", which, "--yes"]).await;
        assert!(said.code == 0 && said.err.contains("1 messages are removed"), "{said:?}");
        assert_eq!(listed(&gateway).await["retained"]["messages"], if running { 1 } else { 0 });
        assert_eq!(store(&gateway, "purge", &["--retained", "a#", "--yes"]).await.code, 65);
        // Of retained messages only the one round has any left.
        let all = if running { &["--queue", "away", "--yes"][..] } else { &["--all", "--yes"] };
        let said = store(&gateway, "purge", all).await;
        assert!(said.code == 0 && said.err.contains("the queue away: 10 messages"), "{said:?}");
        assert_eq!(queue(&listed(&gateway).await, "away")["entries"], 0);
    }
    assert_eq!(store(&gateway, "purge", &["--yes"]).await.code, 64);
}

#[tokio::test]
async fn a_kept_session_goes_when_its_client_is_gone() {
    for running in [true, false] {
        let mut gateway = alone("").await;
        absent(&gateway, "away", "plant/+").await;
        publish(&gateway, &["-t", "plant/x", "-m", "1"]).await;
        if running {
            let _watcher = Watcher::start(gateway.mqtt_port(), "plant/+", &["-c", "-i", "here"]).await;
            let said = store(&gateway, "purge", &["--queue", "here", "--session", "--yes"]).await;
            assert!(said.code == 65 && said.err.contains("`here` is connected"), "{said:?}");
        } else {
            gateway.stop().await;
        }
        let said = store(&gateway, "purge", &["--queue", "away", "--session", "--yes"]).await;
        assert!(said.code == 0 && said.err.contains("the session away with its queue: 1 messages"), "{said:?}");
        let list = listed(&gateway).await;
        assert!(!list["queues"].as_array().unwrap().iter().any(|queue| queue["queue"] == "away"), "{list}");
        assert_eq!(queue(&list, QUEUE)["entries"], 1);
        let said = store(&gateway, "purge", &["--queue", "away", "--session", "--yes"]).await;
        assert!(said.code == 65 && said.err.contains("there is no queue `away`; there are $uplink/cloud"), "{said:?}");
        // What comes while the cloud is away would pass by an uplink without a session.
        let said = store(&gateway, "purge", &["--queue", QUEUE, "--session", "--yes"]).await;
        assert!(said.code != 0 && said.err.contains("the gateway's own"), "{said:?}");
        assert_eq!(queue(&listed(&gateway).await, QUEUE)["entries"], 1);
    }
}

#[tokio::test]
async fn what_a_cloud_will_not_have_is_shown_tried_again_and_removed() {
    for running in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("rules");
        std::fs::write(&rules, "topic write plant/good\n").unwrap();
        let mut cloud = Mosquitto::start(&format!("acl_file {}", rules.display())).await;
        let config = format!("[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{}\"\npublish = [\"plant/#\"]", cloud.port());
        let mut gateway = Gateway::start(&config).await;
        status::online(&gateway).await;
        for topic in ["plant/bad", "plant/good", "plant/worse"] {
            publish(&gateway, &["-t", topic, "-m", "7"]).await;
        }
        status::until(&gateway, "two are set aside", |status| status["store"]["aside"] == 2).await;
        if !running {
            gateway.stop().await;
        }
        assert_eq!(listed(&gateway).await["aside"], json!({"The user may not do this.": 2}));
        let lines = store(&gateway, "export", &["--aside"]).await.lines();
        let seen: Vec<_> = lines.iter().map(|l| (&l["topic"], &l["queue"], &l["reason"], &l["payload"])).collect();
        let (session, reason, payload) = (json!(QUEUE), json!("The user may not do this."), json!("7"));
        let wanted = [json!("plant/bad"), json!("plant/worse")];
        assert_eq!(seen, wanted.each_ref().map(|topic| (topic, &session, &reason, &payload)));
        // The cloud takes them by now.
        std::fs::write(&rules, "topic readwrite plant/#\n").unwrap();
        cloud.stop().await;
        cloud.start_again().await;
        let mut watcher = Watcher::start(cloud.port(), "plant/#", &[]).await;
        let said = store(&gateway, "retry", &[]).await;
        assert!(said.code == 0 && said.err.contains("2 messages wait"), "{said:?}");
        if !running {
            gateway.start_again().await;
        }
        for topic in ["plant/bad", "plant/worse"] {
            assert_eq!(watcher.next().await.topic, topic);
        }
        assert_eq!(listed(&gateway).await["aside"], json!({}));
        let said = store(&gateway, "retry", &["--queue", QUEUE]).await;
        assert!(said.code == 0 && said.err.contains("nothing is set aside"), "{said:?}");
        std::fs::write(&rules, "topic write plant/good\n").unwrap();
        cloud.stop().await;
        cloud.start_again().await;
        status::online(&gateway).await;
        publish(&gateway, &["-t", "plant/bad", "-m", "8"]).await;
        status::until(&gateway, "one is set aside", |status| status["store"]["aside"] == 1).await;
        let said = store(&gateway, "purge", &["--aside", "--yes"]).await;
        assert!(said.code == 0 && said.err.contains("set aside: 1 messages"), "{said:?}");
        assert_eq!(listed(&gateway).await["aside"], json!({}));
    }
}

#[tokio::test]
async fn a_backup_under_load_is_a_store_with_all_that_was_acknowledged() {
    let gateway = alone("").await;
    let mut load = Load::start(gateway.mqtt_port(), PREFIX, 2000, 0, &["--window", "200"]);
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup.db");
    let path = backup.to_str().unwrap();
    load.acked(1500).await;
    store(&gateway, "backup", &[path]).await.good();
    let again = store(&gateway, "backup", &[path]).await;
    assert!(again.code == 65 && again.err.contains("is there already"), "{again:?}");
    load.acked(4000).await;
    store(&gateway, "backup", &[path, "--force"]).await.good();
    let itself = store(&gateway, "backup", &[gateway.folder().join("store.db").to_str().unwrap(), "--force"]).await;
    assert!(itself.code == 74 && itself.err.contains("the store itself"), "{itself:?}");
    load.done().await;
    drop(gateway);

    // A gateway that begins with it brings the cloud all that was acknowledged before, in order.
    let cloud = Mosquitto::persistent("max_queued_messages 0\nmax_inflight_messages 1000").await;
    let mut collector = Collector::start(cloud.port(), PREFIX, &[]).await;
    let config = format!(
        "[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{}\"\npublish = [\"plant/#\"]\n[store]\npath = \"{path}\"",
        cloud.port()
    );
    let restored = Gateway::start(&config).await;
    collector.all(TOPICS, 1000).await;
    status::empty(&restored).await;
}

#[tokio::test]
async fn what_is_no_store_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fieldpost.toml");
    let path: PathBuf = folder.path().join("store.db");
    std::fs::write(&config, format!("[store]\npath = \"{}\"", path.display())).unwrap();
    let commands = [("ls", &[][..]), ("export", &[]), ("backup", &["copy"]), ("purge", &["--all", "--yes"])];
    let sqlite = |sql: &str| {
        let code = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.executescript(sys.argv[2])\nc.close()";
        let done = std::process::Command::new("python3").args(["-c", code]).arg(&path).arg(sql).status().unwrap();
        assert!(done.success());
    };
    let newer = "PRAGMA application_id = 0x46507374; PRAGMA user_version = 99; CREATE TABLE x (y);";
    for (what, sql, code, said) in [
        ("none", None, 69, "there is no store at"),
        ("foreign", Some("CREATE TABLE x (y);"), 65, "another program"),
        ("newer", Some(newer), 65, "newer fieldpost"),
        ("damaged", Some(""), 65, "damaged"),
    ] {
        if let Some(sql) = sql {
            let _ = std::fs::remove_file(&path);
            sqlite(sql);
        }
        if what == "damaged" {
            std::fs::write(&path, vec![7; 8192]).unwrap();
        }
        for (command, more) in commands {
            let more: Vec<_> =
                more.iter().map(|arg| arg.replace("copy", folder.path().join("copy").to_str().unwrap())).collect();
            let more: Vec<_> = more.iter().map(String::as_str).collect();
            let output = run(&config, command, &more).await;
            assert!(output.code == code && output.err.contains(said), "{what}, {command}: {output:?}");
            assert!(output.out.is_empty() && !folder.path().join("copy").exists());
        }
        assert!(what != "none" || std::fs::read_dir(folder.path()).unwrap().count() == 1, "nothing is made");
    }
    std::fs::write(&config, "[store]\npath = \":memory:\"").unwrap();
    assert_eq!(run(&config, "ls", &[]).await.code, 65);
}
