//! A message on its way to the sessions that want it.
//!
//! [`Router::enter`] is the one place where a message becomes an entry of queues: in RAM, and in the tail on its way to the
//! disk where a queue outlives the gateway.

use std::sync::Arc;

use bytes::Bytes;

use super::{Effects, Now, Publisher, Router, Waiter};
use crate::broker::queue::{Bound, Queued};
use crate::broker::topics::SessionKey;
use crate::message::{Message, QoS};
use crate::mqtt::Reason;
use crate::status::Cause;
use crate::store::tail::{Entering, With};
use crate::store::{Delivery, EntryId, QueueId};

/// Where a message comes from.
pub(super) enum Origin {
    /// One of the gateway's own, such as a reading.
    Gateway,
    /// A client that does not wait to hear of it.
    Client(SessionKey),
    /// One that does.
    Publisher(Publisher),
    /// The will of a client, of this session.
    Will(SessionKey, Arc<str>),
}

impl Origin {
    fn session(&self) -> Option<SessionKey> {
        match self {
            Origin::Gateway => None,
            Origin::Client(session) | Origin::Will(session, _) => Some(*session),
            Origin::Publisher(publisher) => Some(publisher.session),
        }
    }
}

/// What comes with an entry.
#[derive(Default)]
pub(super) struct Terms {
    /// Who waits for it to be durable.
    pub publisher: Option<Publisher>,
    /// The client whose will it was: the store forgets that with it.
    pub will_of: Option<Arc<str>>,
    /// It is kept on disk as its topic's retained message as well.
    pub retain: bool,
    /// It has to be in the next transaction.
    pub urgent: bool,
    /// How much a queue may hold; [`super::room::Room::bound`] when it says nothing.
    pub bound: Option<Bound>,
}

/// So few entries on their way to the disk do not wait for the window when a publisher waits for them.
const FEW: usize = 8;

impl Router {
    /// Gives a message to every session that wants it; nobody waits to hear of it.
    pub(super) fn publish(&mut self, origin: Origin, message: Arc<Message>, now: Now, effects: &mut Effects) {
        self.route(origin, message, now, effects).expect("only who waits is refused");
    }

    /// Gives a message to every session that wants it. Its publisher, if it waits, is told when the message is durable:
    /// at once when no durable queue wants it and it is not retained.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED` when a durable queue wants it and the store takes no more; then nobody got it. Only a publisher
    /// that waits is refused.
    pub(super) fn route(
        &mut self,
        origin: Origin,
        message: Arc<Message>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Reason> {
        let from = origin.session();
        let (publisher, will_of) = match origin {
            Origin::Publisher(publisher) => (Some(publisher), None),
            Origin::Will(_, client_id) => (None, Some(client_id)),
            Origin::Gateway | Origin::Client(_) => (None, None),
        };
        if self.came_round(from, &message) {
            let reason = Reason::NO_MATCHING_SUBSCRIBERS;
            self.is_not_kept(publisher.map(|publisher| Publisher { reason, ..publisher }), will_of, effects);
            return Ok(());
        }
        let message = self.marked(from, message);
        // What the broker tells of itself is nobody's message.
        self.received += u64::from(!message.topic.starts_with("$SYS/"));
        self.find_matches(from, &message);
        let mut matches = std::mem::take(&mut self.matches);
        if publisher.is_none() && self.is_stuck() {
            self.give_up_oldest(now);
        }
        let stuck = self.is_stuck();
        if stuck || !self.full.is_empty() {
            let kept = stuck && message.retain;
            if publisher.is_some() && (kept || matches.all().any(|(key, d)| self.misses(*key, d).is_some())) {
                self.matches = matches;
                return Err(Reason::QUOTA_EXCEEDED);
            }
            // The gateway's own readings go to those who listen now; the durable queues miss them, and it is counted.
            let mut missed = Vec::new();
            matches.retain(|key, delivery| {
                let cause = self.misses(key, delivery);
                missed.extend(cause.map(|cause| (key, cause)));
                cause.is_none()
            });
            missed.into_iter().for_each(|(key, cause)| self.lost(key, 1, cause));
        }
        self.pay_before(&matches, &message, now);
        // A reading is read anew after a restart; what clients publish is not, and has to be kept.
        let retain = message.retain && self.retain(from, &message, now) && from.is_some() && !stuck;
        // Whoever gets it twice has two entries, in one transaction: what is recorded with one of them holds for all.
        let urgent = !matches.again.is_empty();
        let terms = Terms { publisher, will_of: will_of.clone(), retain, urgent, bound: None };
        let mut held = self.enter(&message, &matches.first, terms, now);
        for delivery in matches.again.drain(..) {
            let terms = Terms { publisher, will_of: will_of.clone(), urgent, ..Terms::default() };
            held |= self.enter(&message, std::slice::from_ref(&delivery), terms, now);
        }
        if !held {
            let reason = if matches.is_empty() { Reason::NO_MATCHING_SUBSCRIBERS } else { Reason::SUCCESS };
            let publisher = publisher.map(|publisher| Publisher { reason, ..publisher });
            self.is_not_kept(publisher, will_of, effects);
        }
        for (key, _) in matches.first.drain(..) {
            self.pump(key, now, effects);
        }
        self.matches = matches;
        Ok(())
    }

    /// Puts a message into the queues of sessions, each of them once. Returns whether it is on its way to the disk: whoever
    /// waits for that is told when it is there.
    pub(super) fn enter(
        &mut self,
        message: &Arc<Message>,
        deliveries: &[(SessionKey, Delivery)],
        terms: Terms,
        now: Now,
    ) -> bool {
        let id = self.new_entry();
        let bound = terms.bound.unwrap_or(self.room.bound());
        let class = self.classes.of(&message.topic);
        let (mut open, mut urgent) = (Vec::new(), terms.urgent);
        for (key, delivery) in deliveries {
            let qos = delivery.qos;
            let delivery = Delivery { class, ..delivery.clone() };
            open.extend(self.enqueue(*key, id, message, delivery, bound));
            urgent |= self.sessions.get(key).is_some_and(|s| s.waits_for_disk(qos));
        }
        let held = terms.retain || !open.is_empty();
        // No reader can spare the disk this one, and whoever publishes one after the other waits for each. Many together
        // wait for the window.
        let is_away =
            |(key, _): &(SessionKey, Delivery)| self.sessions.get(key).is_some_and(|s| s.connection.is_none());
        urgent |= terms.publisher.is_some()
            && self.tail.held() < FEW
            && (terms.retain || !open.is_empty() && deliveries.iter().any(is_away));
        if held {
            let received = terms.publisher.and_then(|publisher| self.records(publisher));
            let received = received.map(|(queue, handshake)| With::Received(queue, handshake));
            let waiter = terms.publisher.map(|publisher| {
                self.gates.hold(publisher.number);
                Waiter::Publisher(publisher)
            });
            self.tail.append(Entering {
                id,
                message: message.clone(),
                open,
                retain: terms.retain,
                entered: now.instant,
                waiter,
                with: terms.will_of.map(With::Will).or(received),
                urgent,
            });
        }
        held
    }

    /// No durable queue wants a message: its publisher is told, and the will that it was is done.
    fn is_not_kept(&mut self, publisher: Option<Publisher>, will_of: Option<Arc<str>>, effects: &mut Effects) {
        if let Some(publisher) = publisher {
            self.nobody_keeps(publisher, effects);
        }
        if let Some(client_id) = will_of {
            self.tail.set_will(client_id, None);
        }
    }

    /// Tells a publisher whose message no durable queue wants: at once, or when its own session's side of it is durable.
    fn nobody_keeps(&mut self, publisher: Publisher, effects: &mut Effects) {
        match self.records(publisher) {
            Some((queue, received)) => {
                self.tail.shake_hands(queue, received, true, Some(Waiter::Publisher(publisher)));
            }
            None => self.taken(publisher, effects),
        }
    }

    /// Sets or clears the retained message of a topic; false when there is no room. The older one of its topic goes then
    /// as well: it would be taken for the newest.
    fn retain(&mut self, from: Option<SessionKey>, message: &Arc<Message>, now: Now) -> bool {
        if !self.retained.has_room(message, self.limits.retained, self.limits.retained_bytes) {
            tracing::debug!("{} is not retained: {} messages are already", message.topic, self.retained.len());
            self.not_retained(from);
            if self.retained.get(&message.topic, now.wall).is_some() {
                let cleared = Arc::new(Message::retained(message.topic.clone(), Bytes::new()));
                self.retained.set(&cleared);
                self.tail.clear_retained(cleared);
            }
            return false;
        }
        self.retained.set(message);
        true
    }

    /// Puts a message into a session's queue. Returns the queue in the store that it has to enter as well, and how.
    fn enqueue(
        &mut self,
        key: SessionKey,
        id: EntryId,
        message: &Arc<Message>,
        mut delivery: Delivery,
        bound: Bound,
    ) -> Option<(QueueId, Delivery)> {
        self.grow(message.size());
        self.make_room(key, bound);
        let session = self.sessions.get_mut(&key)?;
        let durable = session.durable.filter(|_| delivery.qos > QoS::AtMostOnce);
        if delivery.qos > QoS::AtMostOnce {
            delivery.seq = session.next_seq();
            if session.reserve() {
                self.unsaved.insert(key);
            }
        }
        let open = durable.map(|queue| (queue, delivery.clone()));
        let entry = Queued { id, message: message.clone(), delivery, historical: false, gone: false };
        match durable {
            Some(_) => {
                let lost = session.queue.push_durable(entry, bound);
                self.lost(key, lost, Cause::TooSlow);
            }
            None if session.connection.is_none() => {} // QoS 0 is not kept for those who are away
            None => {
                if !session.queue.push(entry, bound) {
                    self.lost(key, 1, Cause::TooSlow);
                }
            }
        }
        open
    }

    fn new_entry(&mut self) -> EntryId {
        let id = self.next_entry;
        self.next_entry = EntryId(id.0 + 1);
        id
    }
}
