//! The rules of uplinks between real gateways and Mosquitto: what goes over, and what never comes round.

mod cli;
mod loops;
mod retained;
mod state;

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::process::Command;

use crate::support::{Gateway, Watcher};

/// Publishes one message at the broker at `port`.
async fn publish(port: u16, topic: &str, payload: &str, more: &[&str]) {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", topic, "-m", payload]).args(more);
    let output = command.output().await.expect("mosquitto_pub is there");
    assert!(output.status.success(), "{topic}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until all uplinks of a gateway are connected.
async fn up(gateway: &Gateway) {
    gateway.until("the uplinks are up", |said| uplinks(said).iter().all(|uplink| uplink["state"] == "up")).await;
}

/// Waits until its one uplink is not connected.
async fn down(gateway: &Gateway) {
    gateway.until("the uplink is down", |said| uplinks(said)[0]["state"]["down"].is_string()).await;
}

/// Waits until its one uplink has sent so many messages in all.
async fn sent(gateway: &Gateway, count: u64) {
    gateway.until(&format!("{count} sent"), |said| uplinks(said)[0]["sent"] == count).await;
}

/// What the API says of each uplink.
fn uplinks(said: &Value) -> Vec<&Value> {
    said["status"]["uplinks"].as_array().into_iter().flatten().map(|shown| &shown["uplink"]).collect()
}

/// How often each message came, until the one on `last` did, that one included.
async fn count(watcher: &mut Watcher, last: &str) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    loop {
        let heard = watcher.next().await;
        *seen.entry(heard.topic.clone()).or_default() += 1;
        if heard.topic == last {
            return seen;
        }
    }
}
