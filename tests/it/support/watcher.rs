//! A subscriber that was not written by us: mosquitto_sub. It connects again by itself.

use std::collections::VecDeque;

use tokio::process::Command;
use tokio::time::{Instant, timeout_at};

use super::Process;
use super::process::PATIENCE;

/// What comes before a message in what it prints; the rest is about packets.
const MARK: &str = "message ";

/// The subscriber.
#[derive(Debug)]
pub struct Watcher {
    process: Process,
    /// Heard while something else was waited for.
    early: VecDeque<Heard>,
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub topic: String,
    pub payload: String,
    pub retained: bool,
    /// When it came.
    pub at: Instant,
}

impl Heard {
    /// The payload, which must be JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.payload).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }
}

impl Watcher {
    /// Subscribes to `filter` at QoS 1 at the broker at `port`, with more arguments of mosquitto_sub's.
    pub async fn start(port: u16, filter: &str, more: &[&str]) -> Self {
        // It writes to a pipe in blocks, unless told to write in lines.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub", "-h", "localhost", "-p", &port.to_string(), "-q", "1", "-d"]);
        command.args(["-t", filter, "-F", &format!("{MARK}%r %t %p")]).args(more);
        let mut process = Process::start("mosquitto_sub", &mut command);
        while !process.line().await.starts_with("Subscribed") {}
        Self { process, early: VecDeque::new() }
    }

    /// The next message.
    pub async fn next(&mut self) -> Heard {
        if let Some(heard) = self.early.pop_front() {
            return heard;
        }
        loop {
            let line = self.line().await;
            if let Some(heard) = heard(line) {
                return heard;
            }
        }
    }

    /// Waits until it has subscribed once more.
    pub async fn back(&mut self) {
        loop {
            let line = self.line().await;
            if line.1.starts_with("Subscribed") {
                return;
            }
            self.early.extend(heard(line));
        }
    }

    async fn line(&mut self) -> (Instant, String) {
        let line = self.process.timed_line(PATIENCE).await;
        line.unwrap_or_else(|| panic!("nothing is heard\n{}", self.process.log()))
    }

    /// The next message on `topic` of which this is true; the others are passed over.
    pub async fn until(&mut self, topic: &str, is_it: impl Fn(&Heard) -> bool) -> Heard {
        let end = Instant::now() + PATIENCE;
        let mut last = None;
        loop {
            match timeout_at(end, self.next()).await {
                Ok(heard) if heard.topic != topic => {}
                Ok(heard) if is_it(&heard) => return heard,
                Ok(heard) => last = Some(heard),
                Err(_) => panic!("no such message on {topic}; the last there was {last:?}"),
            }
        }
    }
}

/// The message that a line tells of, if it does.
fn heard((at, line): (Instant, String)) -> Option<Heard> {
    let message = line.strip_prefix(MARK)?;
    let mut parts = message.splitn(3, ' ').map(str::to_owned);
    let (Some(retained), Some(topic), Some(payload)) = (parts.next(), parts.next(), parts.next()) else {
        panic!("unknown: {line}")
    };
    Some(Heard { topic, payload, retained: retained == "1", at })
}
