//! What the broker knows of one client, connected or not. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::owed::Owed;
use super::queue::{Queue, Queued};
use crate::clock::Timestamp;
use crate::message::QoS;
use crate::mqtt::{PacketId, SubscribeOptions, Version, Will};
use crate::store::{self, QueueId};

/// A connection to the router, by the order in which they were opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// The state of a session (MQTT 5.0, 4.1).
#[derive(Debug)]
pub struct Session {
    pub client_id: Arc<str>,
    /// As whom its client connected.
    pub user: Option<Arc<str>>,
    /// Its queue in the store, when it outlives its connection.
    pub durable: Option<QueueId>,
    /// Session expiry interval, in seconds; `u32::MAX` never expires.
    pub expiry: u32,
    /// Its connection, while there is one.
    pub connection: Option<Connection>,
    /// When its client left.
    pub left: Option<Timestamp>,
    /// When it ends, if its client does not come back.
    pub ends: Option<Instant>,
    pub subscriptions: BTreeMap<Arc<str>, (SubscribeOptions, Option<u32>)>,
    pub queue: Queue,
    /// Retained messages that are not in the queue yet.
    pub owed: Owed,
    /// Deliveries sent and not done, in the order they were sent.
    pub inflight: VecDeque<InFlight>,
    next_id: u16,
    /// QoS 2 publishes of the client between PUBLISH and PUBREL.
    pub incoming: HashMap<PacketId, Incoming>,
    pub will: Option<Will>,
    /// When the will is due: its client is gone and its delay runs.
    pub will_due: Option<Instant>,
    /// When the oldest entry on disk had entered, as the store was opened.
    pub oldest_on_disk: Option<Timestamp>,
    /// Deliveries dropped: too slow a reader, or no room in the store.
    pub dropped: u64,
    /// The publish that last matched, and where in its list of matches: to deliver once for overlapping filters.
    pub matched: (u64, usize),
}

/// The connection of a session.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    pub link: LinkId,
    pub version: Version,
    /// One of the gateway's own parts.
    pub trusted: bool,
    /// How many deliveries may be in flight.
    pub window: usize,
    /// Bytes of messages handed to the connection and not yet known to be on the wire.
    pub outstanding: usize,
}

/// A delivery that was sent.
#[derive(Clone, Debug)]
pub struct InFlight {
    pub id: PacketId,
    pub entry: Queued,
    /// QoS 2: the client has it (PUBREC), PUBREL was sent.
    pub released: bool,
}

/// How far an incoming QoS 2 publish is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Routed, not yet durable: PUBREC is still to be sent. The number is that of the publish.
    Pending(u64),
    /// PUBREC was sent.
    Received,
}

impl Session {
    /// A session without subscriptions.
    pub fn new(client_id: Arc<str>, queue: Queue) -> Self {
        Self {
            client_id,
            user: None,
            durable: None,
            expiry: 0,
            connection: None,
            left: None,
            ends: None,
            subscriptions: BTreeMap::new(),
            queue,
            owed: Owed::default(),
            inflight: VecDeque::new(),
            next_id: 0,
            incoming: HashMap::new(),
            will: None,
            will_due: None,
            oldest_on_disk: None,
            dropped: 0,
            matched: (0, 0),
        }
    }

    /// A packet id that is not in flight. The window is far smaller than the 65 535 ids, so there is one.
    pub fn free_id(&mut self) -> PacketId {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if let Some(id) = PacketId::new(self.next_id)
                && !self.inflight.iter().any(|i| i.id == id)
            {
                return id;
            }
        }
    }

    /// Where in flight the delivery with this id and state is.
    pub fn inflight_place(&self, id: PacketId, qos: QoS, released: bool) -> Option<usize> {
        self.inflight.iter().position(|i| i.id == id && i.entry.delivery.qos == qos && i.released == released)
    }

    /// Entries not yet acknowledged by the reader.
    pub fn depth(&self) -> u64 {
        self.queue.len() + self.inflight.iter().filter(|i| !i.released).count() as u64
    }

    /// As the store keeps it, when it does.
    pub fn to_store(&self) -> Option<store::Session> {
        Some(store::Session {
            client_id: self.client_id.clone(),
            queue: self.durable?,
            expiry: self.expiry,
            left: self.left,
            subscriptions: self
                .subscriptions
                .iter()
                .map(|(filter, (options, id))| store::Subscription {
                    filter: filter.clone(),
                    options: *options,
                    id: *id,
                })
                .collect(),
        })
    }
}
