//! Clients on paho-mqtt or MQTT.js, told step by step what to do; tests/it/peers/mqtt_steps.py says which steps there are.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::process::PATIENCE;
use crate::support::{Gateway, node, python};

/// Several clients, each with a name, in one process.
pub struct Clients {
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Clients {
    /// Clients on paho-mqtt, which connect to this gateway.
    pub fn start(gateway: &Gateway) -> Self {
        Self::run(python::script("mqtt_steps.py"), gateway)
    }

    /// Clients on MQTT.js, which connect to this gateway.
    pub fn mqtt_js(gateway: &Gateway) -> Self {
        Self::run(node::script("mqtt_steps.js"), gateway)
    }

    fn run(mut script: Command, gateway: &Gateway) -> Self {
        script.args(["--port", &gateway.mqtt_port().to_string()]);
        let child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let mut child = child.expect("it starts");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { _child: child, stdin, stdout }
    }

    /// Tells the client `name` to do a step and gives the answer, an error as well.
    pub async fn attempt(&mut self, name: &str, what: &str, mut step: Value) -> Value {
        step["as"] = json!(name);
        step["do"] = json!(what);
        self.stdin.write_all(format!("{step}\n").as_bytes()).await.unwrap();
        let line = timeout(PATIENCE, self.stdout.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("no answer to {step}")).unwrap().expect("it still runs");
        serde_json::from_str(&line).unwrap()
    }

    /// As [`Clients::attempt`]; an error fails the test.
    pub async fn ask(&mut self, name: &str, what: &str, step: Value) -> Value {
        let answer = self.attempt(name, what, step.clone()).await;
        assert!(answer["error"].is_null(), "{name} {what} {step}: {answer}");
        answer
    }

    /// Connects, and tells whether the session was there.
    pub async fn connect(&mut self, name: &str, step: Value) -> bool {
        let answer = self.ask(name, "connect", step).await;
        assert_eq!(answer["reason"], 0, "{answer}");
        answer["session"] == true
    }

    pub async fn subscribe(&mut self, name: &str, filter: &str, qos: u8) {
        let answer = self.ask(name, "subscribe", json!({"filters": [[filter, qos]]})).await;
        assert_eq!(answer["reasons"], json!([qos]));
    }

    pub async fn publish(&mut self, name: &str, topic: &str, payload: &str, qos: u8) {
        self.ask(name, "publish", json!({"topic": topic, "payload": payload, "qos": qos})).await;
    }

    pub async fn retain(&mut self, name: &str, topic: &str, payload: &str) {
        self.ask(name, "publish", json!({"topic": topic, "payload": payload, "retain": true})).await;
    }

    /// The next messages.
    pub async fn take(&mut self, name: &str, count: usize) -> Vec<Value> {
        let answer = self.ask(name, "take", json!({"count": count})).await;
        answer["messages"].as_array().expect("a list").clone()
    }

    /// The payloads of the next messages.
    pub async fn payloads(&mut self, name: &str, count: usize) -> Vec<String> {
        let answer = self.ask(name, "take", json!({"count": count, "payloads": true})).await;
        serde_json::from_value(answer["messages"].clone()).unwrap()
    }

    /// Publishes the numbers of the range as fast as it can and waits until all are acknowledged.
    pub async fn burst(&mut self, name: &str, topic: &str, qos: u8, numbers: std::ops::Range<u32>) {
        let count = numbers.len();
        let step = json!({"topic": topic, "qos": qos, "first": numbers.start, "count": count});
        assert_eq!(self.ask(name, "burst", step).await["acked"], count);
    }

    /// Ends the connection with DISCONNECT.
    pub async fn disconnect(&mut self, name: &str) {
        self.ask(name, "disconnect", json!({})).await;
    }

    /// Ends the connection without a word.
    pub async fn vanish(&mut self, name: &str) {
        self.ask(name, "drop", json!({})).await;
    }
}

/// The numbers of a burst, as payloads.
pub fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}
