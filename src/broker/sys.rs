//! The broker's own state on `$SYS` topics, named and counted as Mosquitto does (mosquitto(8), "Broker status"). Pure:
//! counters in, messages out.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::traffic::Counts;
use crate::message::{Message, QoS};

/// What is told of the broker.
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    pub traffic: Counts,
    /// Deliveries dropped since the start.
    pub dropped: u64,
    /// Clients connected, and sessions kept without one.
    pub connected: usize,
    pub disconnected: usize,
    /// Sessions that ended because nobody came back, since the start.
    pub expired: u64,
    /// Subscriptions, and the shared ones among them.
    pub subscriptions: usize,
    pub shared: usize,
    pub retained: usize,
    /// Messages that are retained or wait in a queue, and about how many bytes of memory they take.
    pub stored: u64,
    pub stored_bytes: u64,
}

/// What was told.
#[derive(Debug)]
pub struct Sys {
    started: Instant,
    last: Option<(Instant, State)>,
    /// The most clients at the same time.
    most: usize,
    loads: [Load; LOADS.len()],
    told: HashMap<String, String>,
}

/// A rate per minute, averaged over 1, 5 and 15 minutes.
#[derive(Clone, Copy, Debug, Default)]
struct Load([f64; 3]);

type Counter = fn(&State) -> u64;

/// The rates: where they stand, and what they count.
const LOADS: [(&str, Counter); 9] = [
    ("messages/received", |s| s.traffic.received.packets),
    ("messages/sent", |s| s.traffic.sent.packets),
    ("publish/dropped", |s| s.dropped),
    ("publish/received", |s| s.traffic.received.publishes),
    ("publish/sent", |s| s.traffic.sent.publishes),
    ("bytes/received", |s| s.traffic.received.bytes),
    ("bytes/sent", |s| s.traffic.sent.bytes),
    ("sockets", |s| s.traffic.sockets),
    ("connections", |s| s.traffic.connects),
];

/// The averages: their names and times.
const AVERAGES: [(&str, f64); 3] = [("1min", 60.0), ("5min", 300.0), ("15min", 900.0)];

impl Sys {
    /// A broker that starts now.
    pub fn new(now: Instant) -> Self {
        Self { started: now, last: None, most: 0, loads: Default::default(), told: HashMap::new() }
    }

    /// Notes how many clients there are: the most of them is told.
    pub fn saw(&mut self, connected: usize) {
        self.most = self.most.max(connected);
    }

    /// The messages that tell what has changed; at first, everything. Retained, at QoS 0.
    pub fn tell(&mut self, now: Instant, state: &State) -> Vec<Message> {
        self.saw(state.connected);
        if let Some((then, before)) = &self.last {
            let elapsed = now - *then;
            for (load, (_, count)) in self.loads.iter_mut().zip(LOADS) {
                load.add(count(state).saturating_sub(count(before)), elapsed);
            }
        }
        self.last = Some((now, *state));
        let values = self.values(now, state);
        let fresh = values.into_iter().filter(|(topic, value)| self.told.get(topic) != Some(value)).collect::<Vec<_>>();
        fresh
            .into_iter()
            .map(|(topic, value)| {
                let message = Message::retained(&*topic, value.clone());
                self.told.insert(topic, value);
                Message { qos: QoS::AtMostOnce, ..message }
            })
            .collect()
    }

    fn values(&self, now: Instant, s: &State) -> Vec<(String, String)> {
        let total = s.connected + s.disconnected;
        let (received, sent) = (s.traffic.received, s.traffic.sent);
        let counts = [
            ("clients/connected", s.connected as u64),
            ("clients/active", s.connected as u64),
            ("clients/disconnected", s.disconnected as u64),
            ("clients/inactive", s.disconnected as u64),
            ("clients/total", total as u64),
            ("clients/maximum", self.most as u64),
            ("clients/expired", s.expired),
            ("messages/received", received.packets),
            ("messages/sent", sent.packets),
            ("messages/stored", s.stored),
            ("store/messages/count", s.stored),
            ("store/messages/bytes", s.stored_bytes),
            ("bytes/received", received.bytes),
            ("bytes/sent", sent.bytes),
            ("publish/messages/received", received.publishes),
            ("publish/messages/sent", sent.publishes),
            ("publish/messages/dropped", s.dropped),
            ("publish/bytes/received", received.payload),
            ("publish/bytes/sent", sent.payload),
            ("subscriptions/count", s.subscriptions as u64),
            ("shared_subscriptions/count", s.shared as u64),
            ("retained messages/count", s.retained as u64),
        ];
        let topic = |name: &str| format!("$SYS/broker/{name}");
        let mut values = vec![
            (topic("version"), concat!("fieldpost version ", env!("CARGO_PKG_VERSION")).to_owned()),
            (topic("uptime"), format!("{} seconds", (now - self.started).as_secs())),
        ];
        values.extend(counts.iter().map(|(name, n)| (topic(name), n.to_string())));
        for (load, (name, _)) in self.loads.iter().zip(LOADS) {
            let averages = load.0.iter().zip(AVERAGES);
            values.extend(
                averages.map(|(load, (time, _))| (topic(&format!("load/{name}/{time}")), format!("{load:.2}"))),
            );
        }
        values
    }
}

impl Load {
    /// So many more came within `elapsed`.
    fn add(&mut self, n: u64, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let per_minute = n as f64 * 60.0 / seconds;
        for (load, (_, time)) in self.0.iter_mut().zip(AVERAGES) {
            *load = per_minute + (-seconds / time).exp() * (*load - per_minute);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(connected: usize, bytes: u64) -> State {
        let mut state = State { connected, ..State::default() };
        state.traffic.received.bytes = bytes;
        state
    }

    fn value<'a>(messages: &'a [Message], name: &str) -> Option<&'a str> {
        let message = messages.iter().find(|m| m.topic.strip_prefix("$SYS/broker/") == Some(name))?;
        assert!(message.retain && message.qos == QoS::AtMostOnce);
        std::str::from_utf8(&message.payload).ok()
    }

    #[test]
    fn everything_is_told_at_first_and_then_what_changes() {
        let now = Instant::now();
        let mut sys = Sys::new(now);
        let all = sys.tell(now, &state(0, 0));
        assert_eq!(all.len(), 2 + 22 + 27);
        assert_eq!(value(&all, "uptime"), Some("0 seconds"));
        assert_eq!(value(&all, "load/sockets/15min"), Some("0.00"));
        assert!(sys.tell(now, &state(0, 0)).is_empty());
        let some = sys.tell(now + Duration::from_secs(10), &state(2, 0));
        assert_eq!((value(&some, "clients/total"), value(&some, "uptime")), (Some("2"), Some("10 seconds")));
        assert_eq!((value(&some, "clients/maximum"), value(&some, "clients/expired")), (Some("2"), None));
        let less = sys.tell(now + Duration::from_secs(20), &state(1, 0));
        assert_eq!((value(&less, "clients/connected"), value(&less, "clients/maximum")), (Some("1"), None));
    }

    #[test]
    fn loads_come_to_the_rate_of_a_minute_and_fade() {
        let mut now = Instant::now();
        let mut sys = Sys::new(now);
        sys.tell(now, &state(0, 0));
        let mut one = None;
        for n in 1..=60 {
            now += Duration::from_secs(10);
            one = value(&sys.tell(now, &state(0, n * 100)), "load/bytes/received/1min").map(str::to_owned).or(one);
        }
        assert_eq!(one.as_deref(), Some("599.97"), "600 bytes a minute, after ten minutes");
        now += Duration::from_secs(60);
        let faded = sys.tell(now, &state(0, 6000));
        assert_eq!(value(&faded, "load/bytes/received/1min"), Some("220.72"), "to the e-th part");
        assert_eq!(value(&faded, "load/bytes/received/15min"), Some("273.12"));
    }
}
