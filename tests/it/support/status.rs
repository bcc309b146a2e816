//! What a gateway's page says of it.

use serde_json::Value;

use super::Gateway;

/// Waits until the `status` of `/api/status` is as wanted, and gives it.
pub async fn until(gateway: &Gateway, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    gateway.until(what, |all| is_it(&all["status"])).await["status"].take()
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
