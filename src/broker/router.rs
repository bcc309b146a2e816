//! Who gets what: the single owner of all sessions. Pure: events in, effects out, no socket, no clock, no `async`.
//!
//! One rule carries the promise of the whole: a publisher's PUBACK (or PUBREC) goes out when its message is durable for
//! every durable queue that it entered, which the [`Tail`] knows. At QoS 2 the same holds for each further step of an
//! exchange that a session has to remember.
//!
//! Its doings stand in files of their own, in the order of a message's way: [`connect`](self::connect) (sessions come and
//! go), [`subscribe`], [`incoming`] (what clients publish, and what they are told), [`held`] (what has to wait for room), [`route`] (to whom it goes),
//! [`matching`] (who wants it), [`deliver`] (it goes out and is acknowledged). Beside that way: [`will`], [`retain`]
//! (retained messages for new subscriptions), [`ring`] (what other gateways bring), [`share`] (what a member of a share
//! leaves behind), [`room`] (how much may wait, and who lost what), [`recover`] (what the store's last run left), [`report`]
//! and [`order`] (what the command line asks for).

mod connect;
mod deliver;
mod held;
mod incoming;
mod matching;
pub mod order;
mod recover;
mod report;
mod retain;
mod ring;
mod room;
mod route;
mod share;
mod subscribe;
mod will;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::access::Access;
use super::complaints::Complaints;
use super::keys::ByKey;
use super::order::{Order, Outcome};
use super::queue::{Bound, QueueFull};
use super::replay::Replay;
use super::retained::Retained;
use super::session::{LinkId, Session};
use super::topics::{SessionKey, Topics};
use crate::clock::Moment;
use crate::message::{Message, QoS};
use crate::mqtt::{Packet, PacketId, Reason};
use crate::status::Causes;
use crate::store::class::Classes;
use crate::store::tail::Tail;
use crate::store::{self, Batch, EntryId, Lost, QueueId, Recovered};
use held::Held;
use incoming::Gates;
use matching::Matches;
use order::{Orders, Ticket};
use room::{Losses, Room};
use route::Origin;

/// How often expired retained messages are let go.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What happens to the router.
#[derive(Debug)]
pub enum Event {
    /// A connection was opened; `own` when it is one of the gateway's parts, with how that reads.
    Opened { link: LinkId, own: Option<Replay> },
    /// A packet came.
    Packet { link: LinkId, packet: Packet },
    /// The connection has written this many bytes of messages to its wire.
    Drained { link: LinkId, bytes: usize },
    /// The connection is gone, without a word.
    Gone { link: LinkId },
    /// The gateway itself publishes.
    Publish(Message),
    /// It has more to do, and let others go first: see [`Router::has_more`].
    Continue,
    /// The store has something to say.
    Store(store::Event),
    /// Other users and rules are in force.
    Access(Arc<Access>),
    /// The command line asks for something.
    Order(Ticket, Order),
    /// Time goes by: the commit window, wills and expiries are looked at.
    Tick,
    /// The gateway stops: sessions are told, and everything open is written.
    Stop,
}

/// What the router wants done, in this order.
#[derive(Debug, Default)]
pub struct Effects {
    /// Packets to send, by connection.
    pub packets: BTreeMap<LinkId, Vec<Packet>>,
    /// Connections to close behind their packets.
    pub close: Vec<LinkId>,
    /// A transaction for the store.
    pub commit: Option<Batch>,
    /// Queues to read on from the store, behind this entry.
    pub loads: Vec<(QueueId, EntryId)>,
    /// What became of orders.
    pub outcomes: Vec<(Ticket, Outcome)>,
}

/// The time, as told to the router.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub instant: Instant,
    /// For what is told or kept: see [`Moment`].
    pub wall: Moment,
}

/// The bounds that the router keeps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long an entry may wait for its acknowledgement before it is written.
    pub commit: Duration,
    /// Deliveries in flight to one client.
    pub window: usize,
    /// Publishes of QoS 1 and 2 that a client may have unacknowledged, announced to MQTT 5 clients.
    pub receive_maximum: NonZeroU16,
    /// How much of a queue stays in RAM.
    pub queue: Bound,
    /// Bytes that wait in RAM, over all sessions.
    pub total: usize,
    /// What gives way in a queue that lives in RAM only.
    pub queue_full: QueueFull,
    /// Bytes of entries waiting for a commit; beyond it, new ones are refused.
    pub tail: usize,
    /// Bytes handed to one connection and not yet on its wire.
    pub outstanding: usize,
    /// The largest packet taken, announced to MQTT 5 clients.
    pub max_packet: u32,
    /// Sessions, connected or not; a client that would be one more is refused.
    pub sessions: usize,
    /// Subscriptions of one client; one more is refused.
    pub subscriptions: usize,
    /// Retained messages; one on a new topic is not retained beyond it.
    pub retained: usize,
    /// The bytes of all of them.
    pub retained_bytes: usize,
}

/// Who waits for something to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiter {
    /// A publisher for its message: PUBACK or PUBREC.
    Publisher(Publisher),
    /// A reader that has a QoS 2 delivery, at this place: PUBREL.
    Reader { session: SessionKey, seq: u64 },
    /// A publisher that knows of that: PUBCOMP.
    Releaser { session: SessionKey, id: PacketId },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Publisher {
    session: SessionKey,
    link: LinkId,
    id: PacketId,
    qos: QoS,
    reason: Reason,
    /// Which publish it was: an id may be used again before an old publish is durable.
    number: u64,
}

/// The router.
#[derive(Debug)]
pub struct Router {
    limits: Limits,
    access: Arc<Access>,
    /// The id of the gateway that it is of, if that is known.
    gateway: Option<Arc<str>>,
    links: ByKey<LinkId, Link>,
    sessions: ByKey<SessionKey, Session>,
    by_client: HashMap<Arc<str>, SessionKey>,
    by_queue: ByKey<QueueId, SessionKey>,
    next_key: u32,
    next_queue: u32,
    next_entry: EntryId,
    /// Entries up to this one are on the disk, unless they are done.
    durable: EntryId,
    /// Sessions whose next delivery waits for that.
    waiting: BTreeSet<SessionKey>,
    /// Sessions whose backlog goes on at this time.
    paced: BTreeMap<SessionKey, Instant>,
    topics: Topics,
    retained: Retained,
    tail: Tail<Waiter>,
    /// Sessions that are still to get retained messages, and whether one has not finished looking for them.
    owing: BTreeSet<SessionKey>,
    searching: bool,
    /// Topics that may be looked at before others have their turn.
    search: usize,
    /// When sessions end or wills are due; looked up again when the time has come.
    deadlines: BTreeSet<(Instant, SessionKey)>,
    /// Sessions that have changed since the last commit.
    unsaved: BTreeSet<SessionKey>,
    /// The queues that take nothing new, as the store says.
    full: BTreeSet<QueueId>,
    stopping: bool,
    publishes: u64,
    /// When retained messages were last looked through for expired ones.
    swept: Instant,
    /// Scratch: the sessions that a publish matches.
    matches: Matches,
    gates: Gates,
    held: Held,
    /// Which messages outlive others.
    classes: Classes,
    room: Room,
    losses: Losses,
    received: u64,
    sent: u64,
    dropped: Causes,
    /// Sessions that ended because nobody came back.
    expired: u64,
    /// Publishes that the rules forbid.
    refused: u64,
    complaints: Complaints,
    orders: Orders,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    own: Option<Replay>,
    session: Option<SessionKey>,
}

impl Router {
    /// A router that goes on where the store's last run ended.
    pub fn new(limits: Limits, access: Arc<Access>, recovered: Recovered, now: Now) -> Self {
        let mut router = Self {
            room: Room::new(limits.queue, limits.total),
            losses: Losses::default(),
            limits,
            access,
            gateway: None,
            links: ByKey::default(),
            sessions: ByKey::default(),
            by_client: HashMap::new(),
            by_queue: ByKey::default(),
            next_key: 0,
            next_queue: recovered.next_queue.max(1),
            next_entry: recovered.next_id.max(EntryId(1)),
            durable: EntryId(recovered.next_id.0.saturating_sub(1)),
            waiting: BTreeSet::new(),
            paced: BTreeMap::new(),
            topics: Topics::default(),
            retained: Retained::default(),
            tail: Tail::default(),
            owing: BTreeSet::new(),
            searching: false,
            search: 0,
            deadlines: BTreeSet::new(),
            unsaved: BTreeSet::new(),
            full: BTreeSet::new(),
            stopping: false,
            publishes: 0,
            swept: now.instant,
            matches: Matches::default(),
            gates: Gates::default(),
            held: Held::default(),
            classes: Classes::default(),
            received: 0,
            sent: 0,
            dropped: Causes::default(),
            expired: 0,
            refused: 0,
            complaints: Complaints::default(),
            orders: Orders::default(),
        };
        router.recover(recovered, now);
        router
    }

    /// The same, of the gateway with this id: what has been there before is not let in again.
    #[must_use]
    pub fn of(self, gateway: Option<Arc<str>>) -> Self {
        Self { gateway, ..self }
    }

    /// Which messages outlive others from now on, when something has to give way.
    pub fn set_classes(&mut self, classes: Classes) {
        self.classes = classes;
    }

    /// Takes an event and adds what follows from it to `effects`.
    pub fn apply(&mut self, event: Event, now: Now, effects: &mut Effects) {
        match event {
            Event::Opened { link, own } => {
                self.links.insert(link, Link { own, session: None });
            }
            Event::Packet { link, packet } => self.packet(link, packet, now, effects),
            Event::Drained { link, bytes } => {
                if let Some(key) = self.session_of(link) {
                    if let Some(connection) = self.session(key).and_then(|s| s.connection.as_mut()) {
                        connection.outstanding = connection.outstanding.saturating_sub(bytes);
                    }
                    self.pump(key, now, effects);
                }
            }
            Event::Gone { link } => self.gone(link, now, effects),
            Event::Publish(message) => {
                self.publish(Origin::Gateway, Arc::new(message), now, effects);
            }
            Event::Store(store::Event::Committed { dropped, full }) => self.committed(&dropped, full, now, effects),
            Event::Store(store::Event::Room { dropped, full }) => self.gave_way(&dropped, full),
            Event::Store(store::Event::Loaded { queue, entries, complete }) => {
                self.loaded(queue, entries, complete, now, effects);
            }
            Event::Store(store::Event::Purged { queue, lost }) => self.purged(queue, lost),
            Event::Order(ticket, order) => self.order(ticket, order, now, effects),
            Event::Continue => self.pay_all(now, effects),
            Event::Access(access) => self.set_access(access),
            Event::Tick => {
                self.pay_all(now, effects);
                self.deadlines(now, effects);
                self.measure();
                self.sessions.values_mut().for_each(|session| session.look(now.instant));
                self.tell_losses(now);
                self.retry_held(now, effects);
                if now.instant - self.swept >= SWEEP_EVERY {
                    self.swept = now.instant;
                    self.shrink();
                    self.retained.expire(now.wall).into_iter().for_each(|cleared| self.tail.clear_retained(cleared));
                }
                self.commit(now, effects);
            }
            Event::Stop => self.stop(now, effects),
        }
    }

    fn packet(&mut self, link: LinkId, packet: Packet, now: Now, effects: &mut Effects) {
        let Some(Link { session, .. }) = self.links.get(&link).copied() else { return };
        let key = match (packet, session) {
            (Packet::Connect(connect), None) => return self.connect(link, *connect, now, effects),
            (packet, Some(key)) => match packet {
                Packet::Publish(publish) => return self.published(key, link, publish, now, effects),
                Packet::PubAck(ack) => return self.acked(key, ack, now, effects),
                Packet::PubRec(ack) => return self.rec(key, ack, now, effects),
                Packet::PubComp(ack) => return self.comp(key, ack, now, effects),
                Packet::PubRel(ack) => return self.rel(key, link, ack, effects),
                Packet::Subscribe(subscribe) => return self.subscribe(key, link, *subscribe, now, effects),
                Packet::Unsubscribe { id, filters } => return self.unsubscribe(key, link, id, &filters, effects),
                Packet::PingReq => return effects.send(link, Packet::PingResp),
                Packet::Disconnect { reason, expiry } => {
                    return self.disconnect(key, link, reason, expiry, now, effects);
                }
                _ => Some(key),
            },
            (_, None) => None,
        };
        // What is left: a second CONNECT, AUTH, anything before CONNECT.
        if key.is_some() {
            effects.send(link, Packet::Disconnect { reason: Reason::PROTOCOL_ERROR, expiry: None });
        }
        effects.close.push(link);
        self.gone(link, now, effects);
    }

    /// Does what is due, such as handing a batch to the store when somebody waits for that: to be called when all that
    /// has come is applied. When there will be something later, returns the time.
    pub fn hurry(&mut self, now: Now, effects: &mut Effects) -> Option<Instant> {
        let paced = self.go_on_paced(now, effects);
        if self.orders.is_waiting() {
            self.commit(now, effects);
        }
        let urgent = self.tail.urgent_at(self.limits.commit, now.instant);
        if urgent.is_some_and(|at| at <= now.instant) {
            self.commit(now, effects);
            return paced;
        }
        [paced, urgent].into_iter().flatten().min()
    }

    fn committed(&mut self, dropped: &[(QueueId, Lost)], full: Vec<QueueId>, now: Now, effects: &mut Effects) {
        let (released, until) = self.tail.committed();
        if let Some(until) = until {
            self.durable = until;
            self.sessions.values_mut().filter(|s| s.durable.is_some()).for_each(|s| s.queue.committed(until));
        }
        self.orders.committed(effects);
        self.gave_way(dropped, full);
        for waiter in released {
            self.tell(waiter, effects);
        }
        for key in std::mem::take(&mut self.waiting) {
            self.pump(key, now, effects);
        }
        if self.stopping {
            self.commit(now, effects);
        }
    }

    /// Tells somebody that what was waited for is durable.
    fn tell(&mut self, waiter: Waiter, effects: &mut Effects) {
        match waiter {
            Waiter::Publisher(publisher) => self.taken(publisher, effects),
            Waiter::Reader { session, seq } => self.release(session, seq, true, effects),
            Waiter::Releaser { session, id } => self.complete(session, id, effects),
        }
    }

    fn commit(&mut self, now: Now, effects: &mut Effects) {
        for key in std::mem::take(&mut self.unsaved) {
            if let Some(saved) = self.sessions.get(&key).and_then(Session::to_store) {
                self.tail.save(saved);
            }
        }
        let now_all = self.stopping || self.orders.is_waiting();
        let window = if now_all { Duration::ZERO } else { self.limits.commit };
        let (sessions, by_queue) = (&self.sessions, &self.by_queue);
        let reading =
            |queue| by_queue.get(&queue).and_then(|key| sessions.get(key)).is_some_and(|s| s.connection.is_some());
        if let Some(batch) = self.tail.take(window, now.instant, reading) {
            self.orders.handed_over(self.tail.left());
            effects.commit = Some(batch);
        } else if !self.tail.is_writing() {
            self.orders.nothing_to_write(effects);
        }
    }

    fn deadlines(&mut self, now: Now, effects: &mut Effects) {
        while self.deadlines.first().is_some_and(|(at, _)| *at <= now.instant) {
            let Some((_, key)) = self.deadlines.pop_first() else { return };
            let Some(session) = self.sessions.get_mut(&key) else { continue };
            if session.will_due.take_if(|due| *due <= now.instant).is_some() {
                self.publish_will(key, now, effects);
            }
            if self.sessions.get(&key).is_some_and(|s| s.ends.is_some_and(|ends| ends <= now.instant)) {
                self.expired += 1;
                self.end(key, now, effects);
            }
        }
    }

    fn stop(&mut self, now: Now, effects: &mut Effects) {
        self.stopping = true;
        let links: Vec<_> = self.links.iter().map(|(id, link)| (*id, link.session)).collect();
        for (link, session) in links {
            if session.is_some() {
                effects.send(link, Packet::Disconnect { reason: Reason::SERVER_SHUTTING_DOWN, expiry: None });
            }
            effects.close.push(link);
            self.gone(link, now, effects);
        }
        let numbered = self.sessions.iter_mut().filter_map(|(key, s)| s.unreserve().then_some(*key));
        self.unsaved.extend(numbered);
        self.commit(now, effects);
    }

    /// Whether everything that has to be on disk is there.
    pub fn is_drained(&self) -> bool {
        self.stopping && !self.tail.is_writing()
    }

    fn session_of(&self, link: LinkId) -> Option<SessionKey> {
        self.links.get(&link).and_then(|l| l.session)
    }

    fn session(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions.get_mut(&key)
    }

    fn new_key(&mut self) -> SessionKey {
        self.next_key = self.next_key.wrapping_add(1);
        SessionKey(self.next_key)
    }
}

impl Effects {
    fn send(&mut self, link: LinkId, packet: Packet) {
        self.packets.entry(link).or_default().push(packet);
    }
}
