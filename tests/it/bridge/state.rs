//! Whether an uplink is there stands on a topic of the local broker.

use super::up;
use crate::support::{Gateway, Mosquitto, Watcher};

#[tokio::test]
async fn the_state_of_an_uplink_is_told_and_right_after_a_crash() {
    let topic = "fieldpost/g/uplink/cloud/status";
    let mut cloud = Mosquitto::start("").await;
    let config = format!(
        "[gateway]\nid = \"g\"\n[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{}\"\npublish = [\"plant/#\"]\n",
        cloud.port()
    );
    let mut gateway = Gateway::start(&config).await;
    up(&gateway).await;
    let mut watcher = Watcher::start(gateway.mqtt_port(), topic, &[]).await;
    watcher.until(topic, |heard| heard.payload == "online").await;
    cloud.kill().await;
    watcher.until(topic, |heard| heard.payload == "offline").await;
    cloud.start_again().await;
    watcher.until(topic, |heard| heard.payload == "online").await;

    // It has no time to say anything, and its cloud is gone when it is back.
    gateway.kill().await;
    cloud.kill().await;
    gateway.start_again().await;
    let mut watcher = Watcher::start(gateway.mqtt_port(), topic, &[]).await;
    let first = watcher.next().await;
    assert_eq!((first.payload.as_str(), first.retained), ("offline", true));
    cloud.start_again().await;
    watcher.until(topic, |heard| heard.payload == "online").await;

    // In peace it says so before it ends.
    gateway.stop().await;
    watcher.until(topic, |heard| heard.payload == "offline").await;
}
