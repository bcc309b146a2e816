//! Numbered messages under way: who sends them, and who counts what arrives.

use std::collections::BTreeMap;

use super::{Process, Watcher, python};

/// How many topics a [`Load`] publishes on.
pub const TOPICS: usize = 4;

/// A paho client that publishes the numbers from 0 up on `PREFIX/0` to `PREFIX/3`, at QoS 1, and sends again what was not
/// acknowledged when its broker comes back.
#[derive(Debug)]
pub struct Load {
    process: Process,
    acked: u64,
    done: bool,
}

impl Load {
    /// Publishes `count` messages on each topic, `rate` a second in all (0: as fast as it goes), to the broker at `port`.
    pub fn start(port: u16, prefix: &str, count: u32, rate: u32, more: &[&str]) -> Self {
        let (port, count, rate) = (port.to_string(), count.to_string(), rate.to_string());
        let args = ["--port", &port, "--prefix", prefix, "--count", &count, "--rate", &rate, "--id", prefix];
        let process = python::start("mqtt_load.py", &[&args[..], &["--persistent"], more].concat());
        Self { process, acked: 0, done: false }
    }

    /// Waits until the broker has acknowledged so many messages.
    pub async fn acked(&mut self, total: u64) {
        while self.acked < total && !self.done {
            self.step().await;
        }
        assert!(self.acked >= total, "all {} are done before {total}", self.acked);
    }

    /// Waits until the broker has acknowledged all.
    pub async fn done(&mut self) {
        while !self.done {
            self.step().await;
        }
    }

    async fn step(&mut self) {
        let said = python::json(&mut self.process).await;
        let (acked, done) = (said["acked"].as_u64(), said["done"].as_u64());
        self.done = done.is_some();
        self.acked = acked.or(done).unwrap_or(self.acked);
    }
}

/// A client of the cloud with a session of QoS 1 that outlives its connection, which loses nothing that the cloud does not
/// lose itself.
#[derive(Debug)]
pub struct Collector {
    watcher: Watcher,
    /// By topic: the next number, and how many came again.
    seen: BTreeMap<String, (u32, u32)>,
}

impl Collector {
    /// Subscribes to `PREFIX/#` at the broker at `port`, with more arguments of mosquitto_sub's.
    pub async fn start(port: u16, prefix: &str, more: &[&str]) -> Self {
        let session = ["-i", "collector", "-c"];
        let watcher = Watcher::start(port, &format!("{prefix}/#"), &[&session, more].concat()).await;
        Self { watcher, seen: BTreeMap::new() }
    }

    /// Takes what comes until `count` messages came on each of `topics` topics. What comes for the first time must come in
    /// order; what came before may come again. Returns how many came again.
    pub async fn all(&mut self, topics: usize, count: u32) -> u32 {
        while self.seen.len() < topics || self.seen.values().any(|(next, _)| *next < count) {
            let (topic, number) = self.next().await;
            let (next, again) = self.seen.entry(topic.clone()).or_default();
            assert!(number <= *next, "{topic}: {number} came when {next} was missing");
            if number == *next { *next += 1 } else { *again += 1 }
        }
        self.seen.values().map(|(_, again)| again).sum()
    }

    /// The next message, whatever its number.
    pub async fn next(&mut self) -> (String, u32) {
        let heard = self.watcher.next().await;
        let number = heard.payload.trim().parse();
        (heard.topic, number.unwrap_or_else(|e| panic!("no number ({e}): {}", heard.payload)))
    }
}
