//! `mosquitto_pub` and `mosquitto_sub`.

use tokio::process::Command;
use tokio::time::timeout;

use crate::support::process::PATIENCE;
use crate::support::{Gateway, Process};

/// The versions as the two name them.
pub const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

/// A `mosquitto_sub` that has its subscription.
pub struct Subscriber {
    process: Process,
}

impl Subscriber {
    /// Starts one. Messages are told as `topic payload qos retain`.
    pub async fn start(gateway: &Gateway, args: &[&str]) -> Self {
        // Its lines come at once, not when a pipe's buffer is full.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub", "-d", "-F", "> %t %p %q %r", "-p", &gateway.mqtt_port().to_string()]);
        let mut process = Process::start("mosquitto_sub", command.args(args));
        while !process.line().await.starts_with("Subscribed") {}
        Self { process }
    }

    /// The next message.
    pub async fn next(&mut self) -> String {
        loop {
            if let Some(message) = self.process.line().await.strip_prefix("> ") {
                return message.to_owned();
            }
        }
    }
}

/// Runs `mosquitto_pub` or `mosquitto_sub` to its end; its exit code, and what it printed.
pub async fn run(gateway: &Gateway, program: &str, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(program);
    command.args(["-p", &gateway.mqtt_port().to_string()]).args(args).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("it ends in time").unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// Publishes; it must succeed.
pub async fn publish(gateway: &Gateway, args: &[&str]) {
    let (code, said) = run(gateway, "mosquitto_pub", args).await;
    assert_eq!(code, Some(0), "{args:?}: {said}");
}
