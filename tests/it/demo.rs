//! `fieldpost demo` as a person meets it: the devices' values here and in the cloud, a pump, an outage, Ctrl-C.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::time::Instant;

use crate::support::Process;
use crate::support::gateway::{self, until};
use crate::support::process::PATIENCE;

/// Reads the greeting: the ports of the page, the broker and the cloud.
async fn ports(demo: &mut Process) -> [u16; 3] {
    let mut ports = Vec::new();
    for head in ["Page", "Broker", "Cloud"] {
        let line = loop {
            let line = demo.line().await;
            if line.trim_start().starts_with(head) {
                break line;
            }
        };
        let (_, port) = line.split_once("://127.0.0.1:").unwrap_or_else(|| panic!("no address: {line}"));
        let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
        ports.push(digits.parse().unwrap());
    }
    ports.try_into().unwrap()
}

fn subscribe(port: u16, topic: &str) -> Process {
    let mut command = Command::new("mosquitto_sub");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", topic, "-v"]);
    Process::start("mosquitto_sub", &mut command)
}

async fn publish(port: u16, topic: &str, payload: &str) {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", topic, "-m", payload]);
    assert!(command.status().await.unwrap().success());
}

/// Waits until a good value of each device has come.
async fn all_devices(subscriber: &mut Process) {
    let mut missing = BTreeSet::from(["house", "barn", "tank", "ferry"]);
    let end = Instant::now() + PATIENCE;
    while !missing.is_empty() {
        assert!(Instant::now() < end, "nothing comes of {missing:?}");
        let line = subscriber.line().await;
        let (topic, payload) = line.split_once(' ').unwrap();
        let device = topic.split('/').nth(1).unwrap();
        if payload.starts_with("{\"v\":") && payload.contains("\"q\":\"good\"") {
            missing.remove(device);
        }
    }
}

#[tokio::test]
async fn the_demo_shows_what_it_promises() {
    let folder = tempfile::tempdir().unwrap();
    // A cloud that is there long enough to count as well, and an outage so short that the uplink tries again soon.
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldpost"));
    command.args(["demo", "--mqtt", "127.0.0.1:0", "--page", "127.0.0.1:0", "--cloud-up", "12s", "--cloud-down", "3s"]);
    let mut demo = Process::start("fieldpost demo", command.current_dir(folder.path()));
    let [page, broker, cloud] = ports(&mut demo).await;

    // From the start on, while the cloud is there for sure.
    let (mut here, mut there) = (subscribe(broker, "plant/#"), subscribe(cloud, "plant/#"));
    all_devices(&mut here).await;
    all_devices(&mut there).await;
    let (status, body) = gateway::get(page, "/").await.expect("the page answers");
    assert!(status == 200 && body.contains("plant/ferry/latitude"), "{body}");

    let mut results = subscribe(broker, "plant/tank/pump/set/result");
    let level = |status: &serde_json::Value| {
        let points = status["status"]["points"].as_array().unwrap().clone();
        let level = points.iter().find(|p| p["point"] == "level" && p["device"] == "tank").unwrap();
        level["value"].as_f64()
    };
    let before = until(page, "the tank has a level", |status| level(status).is_some()).await;
    let before = level(&before).unwrap();
    // Again and again, for the answer may come before the subscription is there.
    let result = loop {
        publish(broker, "plant/tank/pump/set", "true").await;
        if let Some(line) = results.try_line(Duration::from_secs(1)).await {
            break line;
        }
    };
    assert!(result.starts_with("plant/tank/pump/set/result {\"ok\":true,\"v\":true,\"t\":\""), "{result}");
    until(page, "the level rises", |status| level(status).is_some_and(|level| level > before + 0.15)).await;

    let uplink = |status: &serde_json::Value| status["status"]["uplinks"][0].clone();
    until(page, "the queue fills while the cloud is away", |status| {
        let uplink = uplink(status);
        uplink["uplink"]["state"]["down"].is_string() && uplink["queue"]["entries"].as_u64() > Some(10)
    })
    .await;
    until(page, "the queue drains when it is back", |status| {
        let uplink = uplink(status);
        uplink["uplink"]["state"] == "up" && uplink["queue"]["entries"] == 0
    })
    .await;

    let pid = Pid::from_raw(demo.pid().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(demo.ended().await.code(), Some(0));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
