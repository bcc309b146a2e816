//! Retained messages of the local broker reach a cloud that has lost its own.

use std::collections::BTreeMap;

use tokio::process::Command;

use super::{down, publish, sent, up, uplinks};
use crate::support::{Gateway, Mosquitto, Watcher, port};

const TOPICS: usize = 300;

fn config(here: u16, cloud: &Mosquitto, more: &str) -> String {
    format!(
        "[gateway]\nid = \"g\"\n[broker]\nlisten = \"127.0.0.1:{here}\"\n[uplink.cloud]\nurl = \
         \"mqtt://127.0.0.1:{}\"\npublish = [\"plant/#\"]\nwindow = 20\n{more}\n",
        cloud.port()
    )
}

/// Publishes `TOPICS` retained values.
async fn fill(port: u16) {
    let lines: String =
        (0..TOPICS).map(|n| format!("mosquitto_pub -h 127.0.0.1 -p {port} -q 1 -r -t plant/{n} -m old\n")).collect();
    let done = Command::new("sh").args(["-e", "-c", &lines]).status().await.unwrap();
    assert!(done.success());
}

/// What is retained at the broker at this port, as soon as it is on so many topics.
async fn retained(port: u16, topics: usize) -> BTreeMap<String, String> {
    let mut watcher = Watcher::start(port, "plant/#", &[]).await;
    let mut seen = BTreeMap::new();
    while seen.len() < topics {
        let heard = watcher.next().await;
        seen.insert(heard.topic, heard.payload);
    }
    seen
}

#[tokio::test]
async fn a_cloud_that_came_back_empty_gets_them_and_the_newest_stays() {
    let mut cloud = Mosquitto::start("").await;
    let here = port::free();
    let gateway = Gateway::start(&config(here, &cloud, "send-retained = \"when-lost\"")).await;
    up(&gateway).await;
    fill(here).await;
    assert_eq!(retained(cloud.port(), TOPICS).await.len(), TOPICS);
    cloud.kill().await;
    down(&gateway).await;
    publish(here, "plant/7", "backlog", &["-r"]).await;
    publish(here, "plant/7", "newer", &["-r"]).await;
    publish(here, "plant/8", "", &["-r"]).await;
    cloud.start_again().await;
    up(&gateway).await;
    publish(here, "plant/9", "live", &["-r"]).await;
    gateway.until("all went up", |said| said["status"]["uplinks"][0]["queue"]["entries"] == 0).await;
    let seen = retained(cloud.port(), TOPICS - 1).await;
    assert_eq!((seen["plant/7"].as_str(), seen["plant/9"].as_str()), ("newer", "live"));
    assert!(!seen.contains_key("plant/8"));
    assert_eq!(seen.values().filter(|payload| *payload == "old").count(), TOPICS - 3);
}

#[tokio::test]
async fn a_cloud_that_kept_its_own_gets_nothing_again_unless_it_is_wished() {
    let mut cloud = Mosquitto::persistent("").await;
    let here = port::free();
    let gateway = Gateway::start(&config(here, &cloud, "send-retained = \"when-lost\"")).await;
    up(&gateway).await;
    publish(here, "plant/a", "1", &["-r"]).await;
    publish(here, "plant/b", "1", &["-r"]).await;
    sent(&gateway, 2).await;
    cloud.stop().await;
    cloud.start_again().await;
    gateway.until("it is back", |said| uplinks(said)[0]["connects"] == 2 && uplinks(said)[0]["state"] == "up").await;
    publish(here, "plant/c", "1", &[]).await;
    sent(&gateway, 3).await;
    publish(here, "fieldpost/g/uplink/cloud/republish", "", &[]).await;
    sent(&gateway, 5).await;
    let republish = |uplink: &'static str| {
        let config = gateway.folder().join("fieldpost.toml");
        Command::new(env!("CARGO_BIN_EXE_fieldpost")).args(["bridge", "republish", uplink]).arg(config).output()
    };
    assert!(republish("cloud").await.unwrap().status.success());
    sent(&gateway, 7).await;
    let unknown = republish("other").await.unwrap();
    assert_eq!(unknown.status.code(), Some(65));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there is cloud"));
}
