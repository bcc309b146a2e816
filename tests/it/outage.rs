//! The central promise, with the program itself between a paho client and a Mosquitto: what was acknowledged arrives,
//! in the order of its topic, whatever happens to the cloud, the way there and the gateway.
//!
//! The oracle are numbers, from 0 up on each topic. The publisher goes on until all are acknowledged, so all have to
//! arrive; a number that comes for the first time must be the next one.

use std::process::Command;

use crate::support::mail::TOPICS;
use crate::support::{Cable, Collector, Gateway, Load, Mosquitto, status};

/// The cloud keeps all that it has taken, however much it is.
const KEEPS: &str = "max_queued_messages 0\nmax_inflight_messages 1000";

const PREFIX: &str = "plant/load";

/// A config with one uplink to this port.
fn config(port: u16, more: &str) -> String {
    format!("[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{port}\"\npublish = [\"plant/#\"]\nkeep-alive = \"2s\"\n{more}")
}

async fn cloud() -> (Mosquitto, Collector) {
    let cloud = Mosquitto::persistent(KEEPS).await;
    let collector = Collector::start(cloud.port(), PREFIX, &[]).await;
    (cloud, collector)
}

fn load(gateway: &Gateway, count: u32, rate: u32) -> Load {
    Load::start(gateway.mqtt_port(), PREFIX, count, rate, &[])
}

#[tokio::test]
async fn a_cut_line_and_a_restarted_cloud_lose_nothing() {
    for protocol in ["5", "3.1.1"] {
        let (mut cloud, mut collector) = cloud().await;
        let mut cable = Cable::to(cloud.port()).await;
        let gateway = Gateway::start(&config(cable.port(), &format!("protocol = \"{protocol}\""))).await;
        status::online(&gateway).await;
        let mut load = load(&gateway, 750, 500);
        load.acked(300).await;
        // Cut with whatever is on its way, messages and acknowledgements.
        cable.cut().await;
        status::offline(&gateway).await;
        load.acked(900).await;
        cable.mend().await;
        status::online(&gateway).await;
        load.acked(1500).await;
        cloud.stop().await;
        status::offline(&gateway).await;
        load.acked(2200).await;
        cloud.start_again().await;
        load.done().await;
        collector.all(TOPICS, 750).await;
        let status = status::empty(&gateway).await;
        assert_eq!((&status["store"]["dropped"], &status::uplink(&status)["refused"]), (&0.into(), &0.into()));
    }
}

#[tokio::test]
async fn a_gateway_that_is_killed_during_an_outage_keeps_what_it_acknowledged() {
    for protocol in ["5", "3.1.1"] {
        let (mut cloud, mut collector) = cloud().await;
        let config = config(cloud.port(), &format!("protocol = \"{protocol}\""));
        let mut gateway = Gateway::start(&config).await;
        status::online(&gateway).await;
        let mut load = load(&gateway, 750, 500);
        load.acked(200).await;
        cloud.stop().await;
        let mut at = 400;
        for _ in 0..4 {
            at += fastrand::u64(50..500);
            load.acked(at).await;
            gateway.kill().await;
            gateway.start_again().await;
        }
        load.done().await;
        gateway.kill().await;
        cloud.start_again().await;
        gateway.start_again().await;
        collector.all(TOPICS, 750).await;
        status::empty(&gateway).await;
    }
}

#[tokio::test]
async fn a_gateway_that_is_killed_while_online_keeps_what_it_acknowledged() {
    let (cloud, mut collector) = cloud().await;
    let mut gateway = Gateway::start(&config(cloud.port(), "")).await;
    status::online(&gateway).await;
    let mut load = load(&gateway, 750, 500);
    for at in [300, 800, 1300, 1800] {
        load.acked(at + fastrand::u64(..400)).await;
        gateway.kill().await;
        gateway.start_again().await;
    }
    load.done().await;
    collector.all(TOPICS, 750).await;
    status::empty(&gateway).await;
}

#[tokio::test]
async fn a_cloud_that_hangs_is_noticed_and_gets_everything_later() {
    let (cloud, mut collector) = cloud().await;
    let gateway = Gateway::start(&config(cloud.port(), "")).await;
    status::online(&gateway).await;
    let mut load = load(&gateway, 750, 500);
    load.acked(500).await;
    cloud.freeze();
    let why = status::offline(&gateway).await;
    assert!(why.contains("no sign of the cloud") || why.contains("timed out"), "{why}");
    load.acked(2500).await;
    cloud.thaw();
    load.done().await;
    collector.all(TOPICS, 750).await;
    status::empty(&gateway).await;
}

#[tokio::test]
async fn a_gateway_that_is_stopped_in_peace_during_an_outage_keeps_everything() {
    let (mut cloud, mut collector) = cloud().await;
    let mut gateway = Gateway::start(&config(cloud.port(), "")).await;
    status::online(&gateway).await;
    let mut load = load(&gateway, 500, 500);
    load.acked(200).await;
    // The first stop is online, the second in the outage.
    gateway.restart().await;
    status::online(&gateway).await;
    load.acked(600).await;
    cloud.stop().await;
    load.acked(1200).await;
    gateway.restart().await;
    load.done().await;
    gateway.restart().await;
    cloud.start_again().await;
    collector.all(TOPICS, 500).await;
    status::empty(&gateway).await;
}

#[tokio::test]
async fn messages_wait_until_the_right_authority_is_named() {
    let (cloud, other) = (Mosquitto::tls(KEEPS).await, Mosquitto::tls("").await);
    let authority = cloud.authority();
    let mut collector = Collector::start(cloud.port(), PREFIX, &["--cafile", authority.to_str().unwrap()]).await;
    let config = |of: &Mosquitto| {
        let url = format!("mqtt://127.0.0.1:{}", cloud.port());
        config(cloud.port(), &format!("ca = \"{}\"", of.authority().display()))
            .replace(&url, &format!("mqtts://localhost:{}", cloud.port()))
    };
    let mut gateway = Gateway::start(&config(&other)).await;
    load(&gateway, 100, 0).done().await;
    let why = status::offline(&gateway).await;
    assert!(why.starts_with("TLS: ") && (why.contains("not trusted here") || why.contains("BadSignature")), "{why}");
    status::until(&gateway, "waiting", |status| status::queue(status)["entries"] == 400).await;
    gateway.stop().await;
    gateway.start_again_with(&config(&cloud)).await;
    collector.all(TOPICS, 100).await;
    status::empty(&gateway).await;
}

#[tokio::test]
async fn messages_wait_until_the_password_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let (users, password) = (folder.path().join("users"), folder.path().join("password"));
    let made = Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&users).args(["plant7", "right"]).status();
    assert!(made.unwrap().success());
    let cloud = Mosquitto::start(&format!("allow_anonymous false\npassword_file {}", users.display())).await;
    let login = ["-u", "plant7", "-P", "right"];
    let mut collector = Collector::start(cloud.port(), PREFIX, &login).await;

    std::fs::write(&password, "wrong\n").unwrap();
    let login = format!("username = \"plant7\"\npassword = {{ file = \"{}\" }}", password.display());
    for protocol in ["5", "3.1.1"] {
        let config = config(cloud.port(), &format!("{login}\nprotocol = \"{protocol}\""));
        let gateway = Gateway::start(&config).await;
        let why = status::offline(&gateway).await;
        assert!(why.contains("not authorised (0x87)") && why.contains("`password`"), "{why}");
    }
    let gateway = Gateway::start(&config(cloud.port(), &login)).await;
    load(&gateway, 100, 0).done().await;
    status::until(&gateway, "waiting", |status| status::queue(status)["entries"] == 400).await;
    // The file is read at each try: no restart is needed.
    std::fs::write(&password, "right\n").unwrap();
    assert_eq!(collector.all(TOPICS, 100).await, 0);
    status::empty(&gateway).await;
}

#[tokio::test]
async fn while_the_cloud_answers_the_disk_is_left_alone() {
    let (cloud, mut collector) = cloud().await;
    // A window that a busy machine does not make too short.
    let config = config(cloud.port(), "[store]\npath = \"@store@\"\ncommit = \"5s\"");
    let mut gateway = Gateway::start(&config).await;
    // The sessions of the uplink and the publisher are written once; the restart makes sure that they are.
    Load::start(gateway.mqtt_port(), "plant/first", 1, 0, &["--id", PREFIX]).done().await;
    gateway.restart().await;
    status::online(&gateway).await;
    let sizes =
        || ["store.db", "store.db-wal"].map(|name| gateway.folder().join(name).metadata().map_or(0, |m| m.len()));
    let before = (status::empty(&gateway).await["store"]["commits"].clone(), sizes());
    load(&gateway, 250, 0).done().await;
    assert_eq!(collector.all(TOPICS, 250).await, 0, "nothing comes twice");
    let after = status::until(&gateway, "done", |status| status::uplink(status)["sent"].as_u64() >= Some(1000)).await;
    assert_eq!((after["store"]["commits"].clone(), sizes()), before);
    assert_eq!(after["store"]["entries"], 0);
}

#[tokio::test]
async fn a_long_outage_is_made_up_for_and_leaves_nothing_behind() {
    let (mut cloud, mut collector) = cloud().await;
    let gateway = Gateway::start(&config(cloud.port(), "")).await;
    cloud.stop().await;
    status::offline(&gateway).await;
    Load::start(gateway.mqtt_port(), PREFIX, 5000, 0, &["--window", "1000"]).done().await;
    let waiting = status::until(&gateway, "all waiting", |status| {
        status["store"]["entries"] == 20_000 && status::queue(status)["entries"] == 20_000
    })
    .await;
    assert_eq!(waiting["broker"]["dropped"], 0);
    cloud.start_again().await;
    assert_eq!(collector.all(TOPICS, 5000).await, 0, "nothing comes twice");
    let after = status::empty(&gateway).await;
    assert_eq!((&after["store"]["bytes"], &status::queue(&after)["inflight"]), (&0.into(), &0.into()));
}

#[tokio::test]
async fn a_full_store_drops_the_oldest_says_so_and_goes_on() {
    let (mut cloud, mut collector) = cloud().await;
    let config = config(cloud.port(), "[store]\npath = \"@store@\"\nmax-size = \"200KiB\"");
    let gateway = Gateway::start(&config).await;
    cloud.stop().await;
    status::offline(&gateway).await;
    Load::start(gateway.mqtt_port(), PREFIX, 1000, 0, &["--size", "100", "--window", "500"]).done().await;
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let whole = |of: &serde_json::Value| number(&of["dropped"]) + number(&of["entries"]) == 4000;
    // What waits is what is kept, and the rest is counted.
    let full = status::until(&gateway, "settled", |status| {
        let (store, queue) = (&status["store"], status::queue(status));
        whole(store) && whole(queue) && store["dropped"] == queue["dropped"]
    })
    .await;
    assert!(number(&full["store"]["dropped"]) > 2000, "{full:#}");
    assert!(number(&full["store"]["bytes"]) <= 200 << 10, "{full:#}");
    let queue = status::queue(&full);
    cloud.start_again().await;
    // What is left comes in order, to the last.
    let mut last = std::collections::BTreeMap::new();
    let mut came = 0;
    while last.len() < TOPICS || last.values().any(|number| *number < 999) {
        let (topic, number) = collector.next().await;
        assert!(last.insert(topic, number).is_none_or(|before| before < number), "{number}");
        came += 1;
    }
    assert_eq!(came, number(&queue["entries"]), "what was counted as dropped was dropped");
    status::empty(&gateway).await;
}
