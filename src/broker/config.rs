//! `[broker]`: the broker's own part of the config.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::listener::config::Anonymous;
use super::queue::{Bound, QueueFull};
use super::router::Limits;
use super::{access, listener};
use crate::units::{Period, Size};

/// `[broker]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where clients connect over plain TCP; nowhere when it is empty. Beyond loopback a user list is required.
    pub listen: String,
    /// More places to connect, with TLS and WebSocket.
    #[serde(rename = "listener")]
    pub listeners: Vec<listener::config::Config>,
    /// The file of users and hashed passwords, relative to the config file.
    pub users: Option<PathBuf>,
    /// From where clients may connect without a user name. By default from nowhere with a user list, else from this
    /// machine.
    pub anonymous: Option<Anonymous>,
    /// Who may read and write what. With a user list, what no rule allows is denied.
    pub acl: Vec<access::Rule>,
    /// Clients connected at the same time.
    #[serde(deserialize_with = "some")]
    pub max_clients: u16,
    /// Connections that have not said CONNECT yet; the oldest makes place for a new one.
    #[serde(deserialize_with = "some")]
    pub max_waiting: u16,
    /// How long each handshake may take: TLS, HTTP, CONNECT.
    #[serde(deserialize_with = "connect_timeout")]
    pub connect_timeout: Period,
    /// New connections a second from one address, this machine aside; ten times as many may come at once. 0 for any
    /// number.
    pub connection_rate: u32,
    /// The longest keep alive of an MQTT 5 client, which is told so; any when none is set.
    #[serde(deserialize_with = "keep_alive")]
    pub max_keep_alive: Option<Period>,
    /// The largest packet taken, 1 KiB to 256 MiB.
    #[serde(deserialize_with = "packet_size")]
    pub max_packet: Size,
    /// Deliveries in flight to one client.
    #[serde(deserialize_with = "some")]
    pub max_inflight: u16,
    /// QoS 1 and 2 publishes of one client that are not acknowledged yet.
    pub receive_maximum: NonZeroU16,
    /// Messages that wait in RAM for one client.
    #[serde(deserialize_with = "some")]
    pub max_queued: usize,
    /// Bytes of messages that wait in RAM for one client.
    #[serde(deserialize_with = "room")]
    pub max_queued_bytes: Size,
    /// Bytes of messages that wait in RAM for all clients together, each client's counted for itself.
    #[serde(deserialize_with = "room")]
    pub max_queued_total: Size,
    /// What gives way when a queue that lives in RAM only is full.
    pub queue_full: QueueFull,
    /// Sessions, connected or not.
    #[serde(deserialize_with = "some")]
    pub max_sessions: usize,
    /// Subscriptions of one client.
    #[serde(deserialize_with = "some")]
    pub max_subscriptions: usize,
    /// Retained messages.
    pub max_retained: usize,
    /// The same in bytes.
    pub max_retained_bytes: Size,
    /// How often the `$SYS` topics are told; 0 for never.
    pub sys_interval: Period,
    /// The id of the gateway, which another part of the config says.
    #[serde(skip)]
    pub gateway: Option<Arc<str>>,
}

/// Bytes that may wait for a commit, over all queues.
const TAIL_BYTES: usize = 16 << 20;
/// Bytes handed to one connection that it has not asked to go on from.
const OUTSTANDING_BYTES: usize = 256 << 10;
/// The largest packet of MQTT (MQTT 5.0, 2.1.4), its fixed header included.
const LARGEST_PACKET: u64 = 268_435_460;

/// Less is no queue at all.
const LEAST_ROOM: u64 = 1024;

/// A number that is not 0.
fn some<'de, D: Deserializer<'de>, N: Deserialize<'de> + Default + PartialEq>(deserializer: D) -> Result<N, D::Error> {
    let number = N::deserialize(deserializer)?;
    if number == N::default() {
        Err(D::Error::custom("this is at least 1: with 0 nobody is served"))
    } else {
        Ok(number)
    }
}

fn room<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    match Size::deserialize(deserializer)? {
        size if size.0 >= LEAST_ROOM => Ok(size),
        size => Err(D::Error::custom(format!("this is at least \"1KiB\", not {size}: no message could wait"))),
    }
}

fn packet_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    let size = Size::deserialize(deserializer)?;
    if size.0 == 256 << 20 {
        // Who writes so means all of MQTT: its largest packet is four bytes larger.
        Ok(Size(LARGEST_PACKET))
    } else if (1024..=LARGEST_PACKET).contains(&size.0) {
        Ok(size)
    } else {
        Err(D::Error::custom(format!("max-packet is from \"1KiB\" to \"256MiB\", not {size}")))
    }
}

fn connect_timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
    match Period::deserialize(deserializer)? {
        period if period.0 >= Duration::from_secs(1) => Ok(period),
        period => Err(D::Error::custom(format!("connect-timeout is at least 1s, not {period}: nobody is that fast"))),
    }
}

fn keep_alive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Period>, D::Error> {
    let period = Period::deserialize(deserializer)?;
    // MQTT counts it in seconds, in 16 bits.
    if (1..=u64::from(u16::MAX)).contains(&period.0.as_secs()) {
        Ok(Some(period))
    } else {
        Err(D::Error::custom(format!("max-keep-alive is from 1s to 18h, not {period}")))
    }
}

impl Config {
    /// All places to connect: `listen`, when there is one, then the listeners.
    pub fn listeners(&self) -> Vec<listener::config::Config> {
        let plain = (!self.listen.is_empty()).then(|| listener::config::Config::plain(self.listen.as_str()));
        plain.into_iter().chain(self.listeners.iter().cloned()).collect()
    }

    /// The bounds that the router keeps. `commit` is the store's window.
    pub(super) fn limits(&self, commit: Duration) -> Limits {
        let bytes = |size: Size| usize::try_from(size.0).unwrap_or(usize::MAX);
        Limits {
            commit,
            window: usize::from(self.max_inflight.max(1)),
            receive_maximum: self.receive_maximum,
            queue: Bound { entries: self.max_queued.max(1), bytes: bytes(self.max_queued_bytes).max(1) },
            total: bytes(self.max_queued_total),
            queue_full: self.queue_full,
            tail: TAIL_BYTES,
            outstanding: OUTSTANDING_BYTES,
            max_packet: u32::try_from(self.max_packet.0).unwrap_or(u32::MAX),
            sessions: self.max_sessions,
            subscriptions: self.max_subscriptions,
            retained: self.max_retained,
            retained_bytes: bytes(self.max_retained_bytes),
        }
    }

    /// Whether anything is denied to anybody.
    pub fn is_guarded(&self) -> bool {
        self.users.is_some() || !self.acl.is_empty()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:1883".into(),
            listeners: Vec::new(),
            users: None,
            anonymous: None,
            acl: Vec::new(),
            max_clients: 4000,
            max_waiting: 250,
            connect_timeout: Period(Duration::from_secs(10)),
            connection_rate: 100,
            max_keep_alive: None,
            max_packet: Size(1 << 20),
            max_inflight: 100,
            receive_maximum: NonZeroU16::new(1024).expect("not zero"),
            max_queued: 10_000,
            max_queued_bytes: Size(4 << 20),
            max_queued_total: Size(64 << 20),
            queue_full: QueueFull::DropNewest,
            max_sessions: 10_000,
            max_subscriptions: 1000,
            max_retained: 100_000,
            max_retained_bytes: Size(64 << 20),
            sys_interval: Period(Duration::from_secs(10)),
            gateway: None,
        }
    }
}
