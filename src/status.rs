//! What each part reports of itself, for the page, its API and the metrics.
//!
//! A part holds the sender of its own report; [`Board`] holds a receiver of each. Nobody looks into a part.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Moment;
use crate::clock::trust::Standing;
use crate::reading::{Quality, Value};

/// Everything there is to see.
#[derive(Clone, Debug)]
pub struct Board {
    pub gateway: Gateway,
    /// How the wall clock stands.
    pub clock: watch::Receiver<Standing>,
    /// One a bus, in the config's order.
    pub buses: Vec<watch::Receiver<Bus>>,
    /// All points, in the config's order.
    pub points: watch::Receiver<Vec<Point>>,
    pub broker: watch::Receiver<Broker>,
    /// One an uplink, in the config's order.
    pub uplinks: Vec<watch::Receiver<Uplink>>,
    pub store: watch::Receiver<Store>,
}

/// The gateway itself.
#[derive(Clone, Debug, Serialize)]
pub struct Gateway {
    pub id: Arc<str>,
    pub version: &'static str,
    pub started: Moment,
}

/// Whether something that must be reached is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not tried yet, or being tried for the first time.
    #[default]
    Unknown,
    /// It is there.
    Up,
    /// It is not, for this reason.
    Down(String),
}

/// A bus and its devices.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Bus {
    pub name: Arc<str>,
    /// Where it leads: `modbus-rtu /dev/ttyUSB0 9600 8N1`.
    pub link: String,
    pub state: State,
    /// Part of the time that the bus was in use, 0 to 1, over about the last 10 s.
    pub utilisation: f64,
    pub devices: Vec<Device>,
}

/// A device on a bus.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Device {
    pub name: Arc<str>,
    /// Its Modbus address; none on a bus that has no such thing.
    pub unit: Option<u8>,
    pub state: State,
    /// When it last gave a good answer.
    pub answered: Option<Moment>,
    pub counters: Counters,
    /// The median round trip of its last answers, in microseconds.
    pub round_trip_us: Option<u64>,
}

/// What happened on the line, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    pub requests: u64,
    pub answers: u64,
    pub timeouts: u64,
    /// Frames that were no answer to the request: CRC, length, unit, function, noise.
    pub bad_frames: u64,
    /// Exception answers.
    pub exceptions: u64,
}

/// A point and its last value.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    pub device: Arc<str>,
    pub point: Arc<str>,
    pub topic: Arc<str>,
    pub value: Value,
    pub unit: Option<Arc<str>>,
    pub quality: Quality,
    /// When the value was read; none when it never was.
    pub at: Option<Moment>,
    /// Why it is not good; none for a point that was not read yet.
    pub fault: Option<String>,
    /// How often it is read, in milliseconds.
    #[serde(rename = "every_ms", serialize_with = "as_millis")]
    pub every: Duration,
    pub writable: bool,
}

/// The local broker.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Broker {
    /// `mqtt://127.0.0.1:1883`, `wss://0.0.0.0:9001`
    pub listeners: Vec<String>,
    /// Clients connected now, without the gateway's own.
    pub clients: usize,
    /// Sessions kept, connected or not.
    pub sessions: usize,
    pub subscriptions: usize,
    pub retained: usize,
    /// Messages that came in since the start, from clients, uplinks and the gateway itself.
    pub received: u64,
    /// Publishes sent to subscribers since the start.
    pub sent: u64,
    /// Deliveries dropped since the start: a subscriber too slow, or a queue too long.
    pub dropped: u64,
    /// The same by cause, of all queues there ever were.
    pub causes: Causes,
    /// Publishes since the start that the access rules forbid.
    pub refused: u64,
    /// The durable queues, one a session that outlives its connection; and those in RAM that have lost something.
    pub queues: Vec<Queue>,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Queue {
    /// The session's client id; an uplink's is [`uplink_session`] of its name.
    pub session: Arc<str>,
    pub connected: bool,
    /// Entries not yet acknowledged by the reader, those in flight included.
    pub entries: u64,
    /// Those of them that waited for a connection, or could not be sent when they were fresh.
    pub backlog: u64,
    /// By how many entries a second it gets shorter, over about the last 10 s; 0 when it does not.
    pub drain: f64,
    /// How long until the backlog is gone at that rate, in milliseconds; none when there is none, or it does not go.
    #[serde(rename = "catch_up_ms", serialize_with = "as_some_millis")]
    pub catch_up: Option<Duration>,
    pub inflight: usize,
    /// When the oldest of them entered.
    pub oldest: Option<Moment>,
    /// Entries dropped since the start: too slow a reader, age, or no room in the store.
    pub dropped: u64,
    /// The same by cause.
    pub causes: Causes,
}

/// Why something was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It was older than `max-age` of the store.
    Age,
    /// The store had its `max-size`.
    StoreSize,
    /// The queue had a `max-size` of its own.
    QueueSize,
    /// The client had `max-per-client` messages.
    PerClient,
    /// The disk had less than the `reserve` left.
    Disk,
    /// The store could not write, and there was no room in RAM.
    NoStore,
    /// The queue takes nothing new when it is full, and there was nobody to tell: a reading.
    Refused,
    /// The reader was too slow for a queue that lives in RAM only.
    TooSlow,
    /// There was no room among the retained messages.
    NotRetained,
    /// The session that it was for had ended.
    Ended,
    /// Somebody had them removed.
    Purged,
}

impl Cause {
    /// As JSON and the metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Age => "age",
            Cause::StoreSize => "store-size",
            Cause::QueueSize => "queue-size",
            Cause::PerClient => "per-client",
            Cause::Disk => "disk",
            Cause::NoStore => "no-store",
            Cause::Refused => "refused",
            Cause::TooSlow => "too-slow",
            Cause::NotRetained => "not-retained",
            Cause::Ended => "ended",
            Cause::Purged => "purged",
        }
    }

    /// In a few words, with the key of the config that it follows from.
    pub fn why(self) -> &'static str {
        match self {
            Cause::Age => "older than max-age",
            Cause::StoreSize => "the store is full: see max-size",
            Cause::QueueSize => "its queue is full: see max-size of the uplink",
            Cause::PerClient => "too many for one client: see max-per-client",
            Cause::Disk => "the disk is full: see reserve",
            Cause::NoStore => "the store cannot write",
            Cause::Refused => "a full queue takes nothing new: see when-full",
            Cause::TooSlow => "it reads too slowly: see max-queued",
            Cause::NotRetained => "not retained: see max-retained and max-retained-bytes",
            Cause::Ended => "its session had ended",
            Cause::Purged => "removed by `fieldpost store purge`",
        }
    }
}

/// How much was dropped for which cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Causes(BTreeMap<Cause, u64>);

impl Causes {
    /// Counts `n` more.
    pub fn add(&mut self, cause: Cause, n: u64) {
        *self.0.entry(cause).or_default() += n;
    }

    /// Over all causes.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Those that there were, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Cause, u64)> {
        self.0.iter().map(|(cause, n)| (*cause, *n))
    }
}

/// `12 (older than max-age), 3 (the store cannot write)`
impl fmt::Display for Causes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (cause, n)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{n} ({})", cause.why())?;
        }
        Ok(())
    }
}

/// The client id of the session that an uplink reads.
pub fn uplink_session(name: &str) -> String {
    format!("$uplink/{name}")
}

/// What a status topic says of a gateway or a device that is there.
pub const ONLINE: &str = "online";
/// What it says of one that is not.
pub const OFFLINE: &str = "offline";

/// The topic on which `gateway` says whether it is there: on the local broker, and at a cloud unless the config names
/// another.
pub fn status_topic(gateway: &str) -> String {
    format!("fieldpost/{gateway}/status")
}

/// The topic on which `gateway` says how its store is, retained: JSON.
pub fn store_topic(gateway: &str) -> String {
    format!("fieldpost/{gateway}/store")
}

/// A topic of the local broker about an uplink of `gateway`: `status` says whether it is there, and a message on
/// `republish` makes it send again what is retained.
pub fn uplink_topic(gateway: &str, uplink: &str, what: &str) -> String {
    format!("fieldpost/{gateway}/uplink/{uplink}/{what}")
}

/// The topic on which `gateway` says whether its clock is to be trusted, retained: [`SYNCED`] or [`UNSYNCED`].
pub fn clock_topic(gateway: &str) -> String {
    format!("fieldpost/{gateway}/clock")
}

/// The clock is trusted.
pub const SYNCED: &str = "synced";
/// Nobody has set the clock.
pub const UNSYNCED: &str = "unsynced";

/// A connection to a cloud broker.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Uplink {
    pub name: Arc<str>,
    /// Without user and password.
    pub url: String,
    pub state: State,
    /// Since when the state is what it is.
    pub since: Option<Moment>,
    /// Messages that the cloud has acknowledged since the start.
    pub sent: u64,
    /// Messages that came down since the start.
    pub received: u64,
    /// Messages set aside since the start, as the cloud takes them in no case.
    pub refused: u64,
    /// The same by reason: `not-authorised`, `too-large`, `topic`, `payload-format`, `implementation-specific`,
    /// `unspecified`, `ended-connections` when the cloud hung up on it again and again, `never-acknowledged` when it swallowed
    /// it again and again, `would-come-back` when it was not sent for that, or `too-fast` for those at QoS 0 that were
    /// dropped, as more came than may go up.
    pub aside: BTreeMap<&'static str, u64>,
    /// How often since the start the cloud took no more for a while (quota exceeded).
    pub pauses: u64,
    /// What is not safe about the connection, in words.
    pub risks: Vec<String>,
    /// Connections made since the start.
    pub connects: u64,
    /// When the cloud last acknowledged one.
    pub acknowledged: Option<Moment>,
    /// When the newest message that it has acknowledged had entered: the cloud is behind by its age while others wait.
    pub newest: Option<Moment>,
}

/// The store on disk.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Store {
    pub path: String,
    pub state: State,
    /// Entries on disk, over all queues.
    pub entries: u64,
    /// Bytes of the messages on disk.
    pub bytes: u64,
    /// The bound on `bytes`.
    pub max_bytes: u64,
    /// When the oldest message on disk entered.
    pub oldest: Option<Moment>,
    /// Transactions since the start.
    pub commits: u64,
    /// Bytes written to the disk since the start, and how many that are in a day at the rate of the last hour; none where
    /// the system does not count them, or not yet.
    pub written: Option<u64>,
    pub written_per_day: Option<u64>,
    /// Entries dropped since the start, by age or for want of room.
    pub dropped: u64,
    /// The same by cause.
    pub causes: Causes,
    /// Bytes that the disk has left, and how many of them the store leaves to others; none of a store in memory.
    pub free: Option<u64>,
    pub reserve: u64,
    /// Whether the disk has so little left that the store does not grow any more.
    pub short: bool,
    /// Messages that a cloud will not have, set aside.
    pub aside: u64,
    /// Those of them that had to give way to newer ones since the start.
    pub aside_dropped: u64,
    /// Queues that take nothing new: they are full, and their oldest entries are not to give way.
    pub refusing: usize,
}

fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn as_some_millis<S: serde::Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => as_millis(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// The sign of life of a part's loop, for the watchdog: clones beat and are read alike.
#[derive(Clone, Debug)]
pub struct Pulse {
    /// The clock's zero, and the milliseconds from there to the last beat.
    start: Instant,
    beat: Arc<AtomicU64>,
}

impl Pulse {
    /// A pulse that has just beaten.
    pub fn new() -> Self {
        Self { start: Instant::now(), beat: Arc::default() }
    }

    /// Marks that the loop went round.
    pub fn beat(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat.store(millis, Ordering::Relaxed);
    }

    /// How long ago the last beat was.
    pub fn age(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.beat.load(Ordering::Relaxed)))
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_has_its_topics() {
        assert_eq!(status_topic("plant7"), "fieldpost/plant7/status");
        assert_eq!(clock_topic("plant7"), "fieldpost/plant7/clock");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pulse_tells_the_age_of_its_last_beat() {
        let pulse = Pulse::new();
        let seen = pulse.clone();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(seen.age(), Duration::from_secs(5));
        pulse.beat();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(seen.age(), Duration::from_secs(1));
    }
}
