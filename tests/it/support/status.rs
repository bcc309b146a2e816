//! What a gateway's page says of it.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Gateway;
use super::process::PATIENCE;

/// The `status` of `/api/status`.
pub async fn of(gateway: &Gateway) -> Value {
    let (status, body) = gateway.get("/api/status").await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["status"].take()
}

/// Waits until the status is as wanted, and gives it.
pub async fn until(gateway: &Gateway, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = of(gateway).await;
        if is_it(&status) {
            return status;
        }
        assert!(Instant::now() < end, "not {what}: {status:#}\n{}", gateway.log());
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the first uplink is connected.
pub async fn online(gateway: &Gateway) -> Value {
    until(gateway, "online", |status| uplink(status)["state"] == "up").await
}

/// Waits until the first uplink is down, and gives the reason.
pub async fn offline(gateway: &Gateway) -> String {
    let status = until(gateway, "offline", |status| uplink(status)["state"]["down"].is_string()).await;
    uplink(&status)["state"]["down"].as_str().unwrap().to_owned()
}

/// Waits until nothing waits for the cloud any more, in RAM or on disk.
pub async fn empty(gateway: &Gateway) -> Value {
    until(gateway, "empty", |status| queue(status)["entries"] == 0 && status["store"]["entries"] == 0).await
}

/// The first uplink in a status.
pub fn uplink(status: &Value) -> &Value {
    &status["uplinks"][0]["uplink"]
}

/// Its queue.
pub fn queue(status: &Value) -> &Value {
    &status["uplinks"][0]["queue"]
}
