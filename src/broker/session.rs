//! What the broker knows of one client, connected or not. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::drain::Drain;
use super::lanes::Lanes;
use super::owed::Owed;
use super::queue::Queued;
use super::replay::{Precedence, Replay};
use crate::clock::Moment;
use crate::message::QoS;
use crate::mqtt::{PacketId, SubscribeOptions, Version, Will};
use crate::rate::Bucket;
use crate::status::Causes;
use crate::store::{self, EntryId, QueueId};

/// A connection to the router, by the order in which they were opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// The state of a session (MQTT 5.0, 4.1).
#[derive(Debug)]
pub struct Session {
    pub client_id: Arc<str>,
    /// As whom its client connected.
    pub user: Option<Arc<str>>,
    /// The gateway whose uplink it is, as far as that is known.
    pub gateway: Option<Arc<str>>,
    /// Its queue in the store, when it outlives its connection.
    pub durable: Option<QueueId>,
    /// Session expiry interval, in seconds; `u32::MAX` never expires.
    pub expiry: u32,
    /// Its connection, while there is one.
    pub connection: Option<Connection>,
    /// When its client left.
    pub left: Option<Moment>,
    /// When it ends, if its client does not come back.
    pub ends: Option<Instant>,
    pub subscriptions: BTreeMap<Arc<str>, (SubscribeOptions, Option<u32>)>,
    pub queue: Lanes,
    /// Retained messages that are not in the queue yet.
    pub owed: Owed,
    /// Deliveries sent and not done, in the order of their places.
    pub inflight: VecDeque<InFlight>,
    /// The bytes of those that the client has not said to have.
    pub inflight_bytes: usize,
    /// The place of the last delivery of QoS 1 or 2.
    pub last_seq: u64,
    /// The last place that was sent, and up to which one a delivery may have been sent before.
    pub sent: u64,
    pub sent_before: u64,
    /// Its reader looks at the places: none may come again after a kill, even when it left no trace on the disk. Up to
    /// which one they are spoken for there.
    pub numbered: bool,
    pub reserved: u64,
    /// How fast its backlog may go, when it is not read in order.
    pub backlog_bucket: Option<Bucket>,
    /// How fast its reader catches up.
    pub drain: Drain,
    /// QoS 2 publishes of the client between PUBLISH and PUBCOMP.
    pub incoming: HashMap<PacketId, Incoming>,
    pub will: Option<Will>,
    /// When the will is due: its client is gone and its delay runs.
    pub will_due: Option<Instant>,
    /// When the oldest entry on disk had entered, as the store was opened.
    pub oldest_on_disk: Option<Moment>,
    /// Deliveries dropped: too slow a reader, or no room in the store.
    pub dropped: Causes,
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
    /// How many bytes of one of the gateway's own parts; the last delivery may be too many.
    pub window_bytes: usize,
    /// Bytes of messages handed to the connection and not yet known to be on the wire.
    pub outstanding: usize,
}

/// A delivery that was sent.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// Its place: [`store::Delivery::seq`].
    pub seq: u64,
    pub stage: Stage,
}

/// How far an outgoing QoS 1 or 2 delivery is.
#[derive(Clone, Debug)]
pub enum Stage {
    /// PUBLISH was sent.
    Published(Queued),
    /// QoS 2: PUBREC came. PUBREL is sent when that is on the disk.
    Received,
    /// QoS 2: PUBREL was sent. `recorded` when the disk knows.
    Released { recorded: bool },
}

/// How far an incoming QoS 2 publish is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Routed, not yet durable: PUBREC is still to be sent. The number is that of the publish.
    Pending(u64),
    /// PUBREC was sent. `recorded` when the disk knows.
    Received { recorded: bool },
    /// PUBREL came. PUBCOMP is sent when the disk has forgotten the id: it may then be used for another message.
    Closing,
}

/// The packet id of the delivery at this place. As deliveries are sent in order and only so many are in flight, no two
/// of them have the same (where some overtake others, [`Session::is_id_in_use`] sees to it); and after a restart each has
/// the one that it had before.
pub fn packet_id(seq: u64) -> PacketId {
    let id = u16::try_from(seq.wrapping_sub(1) % IDS + 1).expect("65535 at most");
    PacketId::new(id).expect("1 at least")
}

/// So many places are spoken for at once.
const RESERVED: u64 = 100_000;

/// How many packet ids there are.
pub const IDS: u64 = 65_535;

impl Session {
    /// A session without subscriptions.
    pub fn new(client_id: Arc<str>, queue: Lanes) -> Self {
        Self {
            client_id,
            user: None,
            gateway: None,
            durable: None,
            expiry: 0,
            connection: None,
            left: None,
            ends: None,
            subscriptions: BTreeMap::new(),
            queue,
            owed: Owed::default(),
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            last_seq: 0,
            sent: 0,
            sent_before: 0,
            numbered: false,
            reserved: 0,
            backlog_bucket: None,
            drain: Drain::default(),
            incoming: HashMap::new(),
            will: None,
            will_due: None,
            oldest_on_disk: None,
            dropped: Causes::default(),
            matched: (0, 0),
        }
    }

    /// Gives the next place to a delivery of QoS 1 or 2.
    pub fn next_seq(&mut self) -> u64 {
        self.last_seq += 1;
        self.last_seq
    }

    /// Speaks for more places when those that are spoken for on the disk run out; true when that has to be saved. It is
    /// done long before they do: the disk is written once in so many messages, and a kill skips some places.
    pub fn reserve(&mut self) -> bool {
        let runs_out = self.numbered && self.last_seq + RESERVED / 2 > self.reserved;
        if runs_out {
            self.reserved = self.last_seq + RESERVED;
        }
        runs_out
    }

    /// Gives back the places that are spoken for and were not given, at an end in peace; true when that has to be saved.
    pub fn unreserve(&mut self) -> bool {
        self.reserved = self.last_seq;
        self.numbered
    }

    /// Whether the packet id of the delivery at this place is still in use by another one.
    pub fn is_id_in_use(&self, seq: u64) -> bool {
        let ends = [self.inflight.front(), self.inflight.back()];
        let far = ends.into_iter().flatten().any(|i| seq.abs_diff(i.seq) >= IDS);
        far && self.inflight.iter().any(|i| seq.abs_diff(i.seq) % IDS == 0)
    }

    /// Whether one more delivery of QoS 1 or 2 may be in flight: by their number, and by their bytes, of which the last
    /// one may be too many.
    pub fn has_window(&self, connection: &Connection, bytes: usize) -> bool {
        self.inflight.len() < connection.window && self.inflight_bytes < bytes
    }

    /// Puts a delivery in flight.
    pub fn set_in_flight(&mut self, inflight: InFlight) {
        if let Stage::Published(entry) = &inflight.stage {
            self.inflight_bytes += entry.message.size();
        }
        // In front of others when it was overtaken, and after a restart: an older one that was released then is known
        // before those on disk.
        if self.inflight.back().is_none_or(|newest| newest.seq < inflight.seq) {
            self.inflight.push_back(inflight);
        } else {
            let place = self.inflight.partition_point(|i| i.seq < inflight.seq);
            self.inflight.insert(place, inflight);
        }
    }

    /// Takes the entry of the delivery at this place in flight, which goes on as this stage, or is done without one.
    pub fn take_in_flight(&mut self, place: usize, next: Option<Stage>) -> Option<Queued> {
        let stage = match next {
            Some(next) => std::mem::replace(&mut self.inflight.get_mut(place)?.stage, next),
            None => self.inflight.remove(place)?.stage,
        };
        let Stage::Published(entry) = stage else { return None };
        self.inflight_bytes -= entry.message.size();
        Some(entry)
    }

    /// Where in flight the delivery with this packet id is.
    pub fn inflight_place(&self, id: PacketId) -> Option<usize> {
        let (oldest, newest) = (self.inflight.front()?.seq, self.inflight.back()?.seq);
        if packet_id(oldest) == id {
            return Some(0);
        }
        if newest - oldest >= IDS {
            // Some have overtaken so many that the ids have gone round since.
            return self.inflight.iter().position(|i| packet_id(i.seq) == id);
        }
        let ahead = (u64::from(id.get()) + IDS - u64::from(packet_id(oldest).get())) % IDS;
        self.inflight.binary_search_by_key(&(oldest + ahead), |i| i.seq).ok()
    }

    /// Whether all that entered before this entry is done: it is, or was, at this place in flight.
    pub fn is_oldest(&self, place: usize, entry: EntryId) -> bool {
        let mut before = self.inflight.iter().take(place);
        before.all(|i| !matches!(i.stage, Stage::Published(_))) && !self.queue.has_before(entry)
    }

    /// Notes how its new connection reads it; `next` is the entry that will enter next.
    pub fn replay(&mut self, replay: Replay, next: EntryId, now: Instant) {
        self.queue.connected(replay.order, next);
        self.numbered = replay.numbered;
        self.drain = Drain::default();
        let paced = replay.backlog_rate.filter(|_| replay.order == Precedence::LiveFirst);
        self.backlog_bucket = paced.map(|rate| Bucket::new(rate, now));
    }

    /// Whether one more of the backlog may be in flight: a part of the window stays for what overtakes it, which
    /// otherwise would wait for the backlog's acknowledgements.
    pub fn may_send_backlog(&self, connection: &Connection, bytes: usize) -> bool {
        let (window, bytes) = (connection.window - connection.window / 4, bytes - bytes / 4);
        !self.queue.is_live_first() || self.inflight.len() < window && self.inflight_bytes < bytes
    }

    /// The entries that were sent and are not done, in order.
    pub fn published(&self) -> impl Iterator<Item = &Queued> {
        self.inflight.iter().filter_map(|i| if let Stage::Published(entry) = &i.stage { Some(entry) } else { None })
    }

    /// Whether it is one of the gateway's own parts'.
    pub fn is_of_the_gateway(&self) -> bool {
        self.client_id.starts_with('$')
    }

    /// Whether a delivery has to be on the disk before it may be sent: at QoS 2, if it were sent and then lost here,
    /// its publisher would send it again, and the client would have it twice. The gateway's own parts see to that
    /// themselves.
    pub fn waits_for_disk(&self, qos: QoS) -> bool {
        qos == QoS::ExactlyOnce && self.durable.is_some() && self.connection.is_some_and(|c| !c.trusted)
    }

    /// Entries not yet acknowledged by the reader.
    pub fn depth(&self) -> u64 {
        self.queue.len() + self.published().count() as u64
    }

    /// How many of them were not sent when they were fresh, and are to be caught up with.
    pub fn backlog(&self) -> u64 {
        self.queue.backlog() + self.published().filter(|entry| entry.historical).count() as u64
    }

    /// Looks how fast its reader catches up.
    pub fn look(&mut self, now: Instant) {
        if self.durable.is_some() && self.connection.is_some() {
            let left = if self.queue.is_live_first() { self.backlog() } else { self.depth() };
            self.drain.look(left, now);
        }
    }

    /// As the store keeps it, when it does.
    pub fn to_store(&self) -> Option<store::Session> {
        Some(store::Session {
            client_id: self.client_id.clone(),
            user: self.user.clone(),
            queue: self.durable?,
            expiry: self.expiry,
            // Where `sent` speaks for places that were not given yet, it does not tell what was sent.
            left: self.left.filter(|_| !self.numbered),
            sent: self.sent.max(self.reserved),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Delivery, NO_CLASS};

    #[test]
    fn packet_ids_go_round_and_lead_back_to_their_place() {
        assert_eq!([1, 65_535, 65_536].map(|seq| packet_id(seq).get()), [1, 65_535, 1]);
        let mut session = Session::new("c".into(), Lanes::default());
        session.last_seq = 65_530;
        for _ in 0..10 {
            let seq = session.next_seq();
            session.inflight.push_back(InFlight { seq, stage: Stage::Received });
        }
        session.inflight.remove(3);
        for (place, inflight) in session.inflight.iter().enumerate() {
            assert_eq!(session.inflight_place(packet_id(inflight.seq)), Some(place));
        }
        assert_eq!(session.inflight_place(packet_id(65_534)), None, "it is done");
        assert_eq!(session.inflight_place(packet_id(65_541)), None, "it was not sent");
        assert!(!session.is_id_in_use(65_531 + IDS - 1) && session.is_id_in_use(65_531 + IDS));
        assert!(!session.is_id_in_use(65_534 + IDS), "it is done");
    }

    #[test]
    fn only_what_is_published_counts_as_not_yet_delivered() {
        let mut session = Session::new("c".into(), Lanes::default());
        let delivery = Delivery {
            qos: QoS::ExactlyOnce,
            retain: false,
            subscription_ids: Vec::new(),
            seq: 1,
            class: NO_CLASS,
            share: None,
        };
        let message = Arc::new(crate::message::Message::new("t", "x"));
        let entry = Queued { id: EntryId(1), message, delivery, historical: false, gone: false };
        for stage in [Stage::Published(entry), Stage::Received, Stage::Released { recorded: true }] {
            let seq = session.next_seq();
            session.inflight.push_back(InFlight { seq, stage });
        }
        assert_eq!(session.depth(), 1);
    }
}
