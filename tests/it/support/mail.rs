//! Numbered messages under way: who sends them, and who counts what arrives.

use std::collections::BTreeMap;
use std::ops::Range;

use tokio::time::Instant;

use super::{Process, Watcher, python};

/// How many topics a [`Load`] publishes on.
pub const TOPICS: usize = 4;

/// How the topic of a device ends whose readings are numbers, from 1 up.
pub const READINGS: &str = "/count";

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

    /// How many the broker has acknowledged, as far as that was waited for.
    pub fn so_far(&self) -> u64 {
        self.acked
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
    seen: BTreeMap<String, Series>,
    /// When messages came.
    arrivals: Vec<Instant>,
}

/// The numbers that came on one topic.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// One more than the largest.
    pub next: u32,
    /// How many came again.
    pub again: u32,
    /// Those that never came, although larger ones did.
    pub gaps: Vec<Range<u32>>,
}

impl Collector {
    /// Subscribes to `PREFIX/#` at the broker at `port`, with more arguments of mosquitto_sub's.
    pub async fn start(port: u16, prefix: &str, more: &[&str]) -> Self {
        let session = ["-i", "collector", "-c"];
        let watcher = Watcher::start(port, &format!("{prefix}/#"), &[&session, more].concat()).await;
        Self { watcher, seen: BTreeMap::new(), arrivals: Vec::new() }
    }

    /// Takes what comes until `count` messages came on each of `topics` topics. What comes for the first time must come in
    /// order; what came before may come again. Returns how many came again.
    pub async fn all(&mut self, topics: usize, count: u32) -> u32 {
        while self.seen.len() < topics || self.seen.values().any(|series| series.next < count) {
            let topic = self.take().await;
            let series = &self.seen[&topic];
            assert!(series.gaps.is_empty(), "{topic}: missing when {} came: {:?}", series.next - 1, series.gaps);
        }
        self.again()
    }

    /// Takes the next message, and gives its topic.
    pub async fn take(&mut self) -> String {
        let (topic, number) = self.next().await;
        let first = u32::from(topic.ends_with(READINGS));
        let new = || Series { next: first, ..Series::default() };
        self.seen.entry(topic.clone()).or_insert_with(new).add(number, &topic);
        topic
    }

    /// What came on `topic` so far.
    pub fn series(&self, topic: &str) -> Series {
        self.seen.get(topic).cloned().unwrap_or_default()
    }

    /// How many messages came again so far, on all topics.
    pub fn again(&self) -> u32 {
        self.seen.values().map(|series| series.again).sum()
    }

    /// How many messages came between these two times.
    pub fn between(&self, from: Instant, to: Instant) -> usize {
        self.arrivals.iter().filter(|at| (from..=to).contains(at)).count()
    }

    /// Waits until it has subscribed again, after its connection was lost.
    pub async fn back(&mut self) {
        self.watcher.back().await;
    }

    /// The next message, whatever its number.
    pub async fn next(&mut self) -> (String, u32) {
        // What is retained was on its way before.
        let heard = loop {
            let heard = self.watcher.next().await;
            if !heard.retained {
                break heard;
            }
        };
        self.arrivals.push(heard.at);
        let text = if heard.topic.ends_with(READINGS) { heard.json()["v"].to_string() } else { heard.payload };
        (heard.topic, text.trim().parse().unwrap_or_else(|e| panic!("no number ({e}): {text}")))
    }
}

impl Series {
    fn add(&mut self, number: u32, topic: &str) {
        assert!(!self.gaps.iter().any(|gap| gap.contains(&number)), "{topic}: {number} came after {}", self.next - 1);
        if number < self.next {
            self.again += 1;
            return;
        }
        if number > self.next {
            self.gaps.push(self.next..number);
        }
        self.next = number + 1;
    }
}
