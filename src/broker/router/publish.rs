//! Messages come in: PUBLISH and PUBREL, and the sessions that each message is for.

use std::sync::Arc;

use super::room::Loss;
use super::{Effects, Now, Publisher, Router, Waiter};
use crate::broker::queue::{Bound, Queued};
use crate::broker::session::{Incoming, LinkId, Session};
use crate::broker::topics::SessionKey;
use crate::message::{Message, QoS};
use crate::mqtt::{Ack, Packet, PacketId, Publish, Reason, Version, topic};
use crate::store::tail::{Entering, With};
use crate::store::{Delivery, EntryId, Handshake, QueueId};

impl Router {
    pub(super) fn published(
        &mut self,
        key: SessionKey,
        link: LinkId,
        publish: Publish,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some(connection) = session.connection else { return };
        let Some(id) = publish.id else {
            match self.may_publish(key, &publish.message.topic) {
                Ok(()) => self.publish(Some(key), publish.message, None, now, effects),
                Err(_) => self.refused += 1,
            }
            return;
        };
        let qos = publish.qos;
        if qos == QoS::ExactlyOnce {
            match session.incoming.get(&id) {
                // The same again: it was routed, and its PUBREC goes out, or goes out again.
                Some(Incoming::Pending(_)) => return,
                Some(Incoming::Received { .. }) => return effects.send(link, Packet::PubRec(Ack::ok(id))),
                // It may not be used again before PUBCOMP; but if it is, its old exchange is over for the client.
                Some(Incoming::Closing) | None => {}
            }
        }
        let number = self.publishes;
        let refused = if let Err(reason) = self.may_publish(key, &publish.message.topic) {
            self.refused += 1;
            Some(reason)
        } else {
            if qos == QoS::ExactlyOnce
                && let Some(session) = self.session(key)
            {
                session.incoming.insert(id, Incoming::Pending(number));
            }
            let publisher = Publisher { session: key, link, id, qos, reason: Reason::SUCCESS, number };
            self.route(Some(key), publish.message, Some(publisher), None, now, effects).err()
        };
        let Some(reason) = refused else { return };
        if let Some(session) = self.session(key) {
            session.incoming.remove(&id);
        }
        let ack = Ack { id, reason };
        match (connection.version, reason) {
            // 3.1.1 has no refusal but to close: the client keeps its message and comes back with it.
            (Version::V31 | Version::V311, Reason::QUOTA_EXCEEDED) => {
                effects.close.push(link);
                self.gone(link, now, effects);
            }
            (_, _) if qos == QoS::AtLeastOnce => effects.send(link, Packet::PubAck(ack)),
            (version, _) => {
                if version != Version::V5
                    && let Some(session) = self.session(key)
                {
                    // PUBREL will follow.
                    session.incoming.insert(id, Incoming::Received { recorded: false });
                }
                effects.send(link, Packet::PubRec(ack));
            }
        }
    }

    fn may_publish(&self, key: SessionKey, topic: &str) -> Result<(), Reason> {
        if topic::is_too_deep(topic) {
            return Err(Reason::TOPIC_NAME_INVALID);
        }
        let session = self.sessions.get(&key).ok_or(Reason::UNSPECIFIED)?;
        let trusted = session.connection.is_some_and(|c| c.trusted);
        let may = trusted || self.access.may_publish(session.user.as_deref(), &session.client_id, topic);
        if may { Ok(()) } else { Err(Reason::NOT_AUTHORIZED) }
    }

    /// PUBREL: the client will not send this message again.
    pub(super) fn rel(&mut self, key: SessionKey, link: LinkId, ack: Ack, effects: &mut Effects) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        match (session.incoming.get(&ack.id), session.durable) {
            (Some(Incoming::Closing), _) => {}
            (Some(Incoming::Received { recorded: true }), Some(queue)) => {
                session.incoming.insert(ack.id, Incoming::Closing);
                let releaser = Waiter::Releaser { session: key, id: ack.id };
                self.tail.shake_hands(queue, Handshake::Received(ack.id), false, Some(releaser));
            }
            (known, _) => {
                let reason = if known.is_some() { Reason::SUCCESS } else { Reason::PACKET_ID_NOT_FOUND };
                session.incoming.remove(&ack.id);
                effects.send(link, Packet::PubComp(Ack { id: ack.id, reason }));
            }
        }
    }

    /// PUBCOMP: the disk has forgotten the id.
    pub(super) fn complete(&mut self, key: SessionKey, id: PacketId, effects: &mut Effects) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if session.incoming.get(&id) == Some(&Incoming::Closing) {
            session.incoming.remove(&id);
            if let Some(connection) = session.connection {
                effects.send(connection.link, Packet::PubComp(Ack::ok(id)));
            }
        }
    }

    /// Tells a publisher that its message is durable.
    pub(super) fn taken(&mut self, publisher: Publisher, effects: &mut Effects) {
        let Publisher { session, link, id, qos, reason, number } = publisher;
        if !self.gates.opens(number) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&session) else { return };
        let connection = session.connection.map(|c| c.link);
        if qos == QoS::AtLeastOnce {
            // A client that lost its connection meanwhile sends it again.
            if connection == Some(link) {
                effects.send(link, Packet::PubAck(Ack { id, reason }));
            }
        } else if session.incoming.get(&id) == Some(&Incoming::Pending(number)) {
            let recorded = session.durable.is_some();
            session.incoming.insert(id, Incoming::Received { recorded });
            if let Some(link) = connection {
                effects.send(link, Packet::PubRec(Ack { id, reason }));
            }
        }
    }

    /// Gives a message to every session that wants it; nobody waits to hear of it. `will_of` is the client whose will
    /// it was: the store forgets that with it.
    pub(super) fn publish(
        &mut self,
        from: Option<SessionKey>,
        message: Arc<Message>,
        will_of: Option<Arc<str>>,
        now: Now,
        effects: &mut Effects,
    ) {
        let with = will_of.map(With::Will);
        self.route(from, message, None, with, now, effects).expect("only who waits is refused");
    }

    /// Gives a message to every session that wants it. Its publisher, if it waits, is told when the message is durable:
    /// at once when no durable queue wants it and it is not retained.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED` when a durable queue wants it and the store takes no more; then nobody got it. Only a publisher that waits is refused.
    fn route(
        &mut self,
        from: Option<SessionKey>,
        message: Arc<Message>,
        publisher: Option<Publisher>,
        with: Option<With>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Reason> {
        // What the broker tells of itself is nobody's message.
        self.received += u64::from(!message.topic.starts_with("$SYS/"));
        self.find_matches(from, &message);
        let mut matches = std::mem::take(&mut self.matches);
        let stuck = self.tail.bytes() >= self.limits.tail;
        if self.full || stuck {
            let sessions = &self.sessions;
            let kept = stuck && message.retain;
            if publisher.is_some() && (kept || matches.all().any(|(key, d)| misses(sessions.get(key), d))) {
                self.matches = matches;
                return Err(Reason::QUOTA_EXCEEDED);
            }
            // The gateway's own readings go to those who listen now; the durable queues miss them, and it is counted.
            let mut missed = Vec::new();
            matches.retain(|key, delivery| {
                let misses = misses(sessions.get(&key), delivery);
                missed.extend(misses.then_some(key));
                !misses
            });
            missed.into_iter().for_each(|key| self.lost(key, 1, Loss::NoStore));
        }
        self.pay_before(&matches, &message, now);
        // A reading is read anew after a restart; what clients publish is not, and has to be kept.
        let keep = message.retain && self.retain(&message) && from.is_some() && !stuck;
        let id = self.new_entry();
        let (mut open, mut urgent) = (Vec::new(), false);
        for (key, delivery) in &matches.first {
            open.extend(self.enqueue(*key, id, &message, delivery.clone(), self.room.bound()));
            urgent |= self.sessions.get(key).is_some_and(|s| s.waits_for_disk(delivery.qos));
        }
        let again = matches.again.iter().filter(|(key, d)| misses(self.sessions.get(key), d)).count();
        // Each entry that it waits for beyond the first. What is recorded with one of them holds for all.
        urgent |= again > 0;
        let waits = usize::from(keep || !open.is_empty()) + again;
        if let Some(publisher) = publisher {
            (1..waits).for_each(|_| self.gates.hold(publisher.number));
        }
        let waiter = publisher.map(Waiter::Publisher);
        if open.is_empty() && !keep {
            if let Some(publisher) = publisher.filter(|_| again == 0) {
                let reason = if matches.is_empty() { Reason::NO_MATCHING_SUBSCRIBERS } else { Reason::SUCCESS };
                let publisher = Publisher { reason, ..publisher };
                match self.receipt(publisher) {
                    Some(With::Received(queue, received)) => {
                        self.tail.shake_hands(queue, received, true, Some(Waiter::Publisher(publisher)));
                    }
                    _ => self.taken(publisher, effects),
                }
            }
            if let Some(With::Will(client_id)) = with {
                self.tail.set_will(client_id, None);
            }
        } else {
            let with = with.or_else(|| self.receipt(publisher?));
            let (message, retain, entered) = (message.clone(), keep, now.instant);
            self.tail.append(Entering { id, message, open, retain, entered, waiter, with, urgent });
        }
        for (key, delivery) in matches.again.drain(..) {
            self.enter_again(key, &message, delivery, waiter, now);
        }
        for (key, _) in matches.first.drain(..) {
            self.pump(key, now, effects);
        }
        self.matches = matches;
        Ok(())
    }

    /// What is to be recorded with the message of a QoS 2 publisher that may come back after the gateway's end.
    fn receipt(&self, publisher: Publisher) -> Option<With> {
        let queue = self.sessions.get(&publisher.session)?.durable?;
        let received = With::Received(queue, Handshake::Received(publisher.id));
        (publisher.qos == QoS::ExactlyOnce).then_some(received)
    }

    /// Sets or clears the retained message of a topic; false when there is no room for one more.
    fn retain(&mut self, message: &Arc<Message>) -> bool {
        if !self.retained.has_room(message, self.limits.retained) {
            self.dropped += 1;
            tracing::debug!("{} is not retained: {} messages are already", message.topic, self.retained.len());
            return false;
        }
        self.retained.set(message);
        true
    }

    /// Puts a message into a session's queue. Returns the queue in the store that it has to enter as well, and how.
    pub(super) fn enqueue(
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
        }
        let open = durable.map(|queue| (queue, delivery.clone()));
        let entry = Queued { id, message: message.clone(), delivery };
        match durable {
            Some(_) => session.queue.push_durable(entry, bound),
            None if session.connection.is_none() => {} // QoS 0 is not kept for those who are away
            None => {
                if !session.queue.push(entry, bound) {
                    self.lost(key, 1, Loss::TooSlow);
                }
            }
        }
        open
    }

    pub(super) fn new_entry(&mut self) -> EntryId {
        let id = self.next_entry;
        self.next_entry = EntryId(id.0 + 1);
        id
    }
}

/// Whether a session would need the store for this delivery, which takes no more.
fn misses(session: Option<&Session>, delivery: &Delivery) -> bool {
    delivery.qos > QoS::AtMostOnce && session.is_some_and(|s| s.durable.is_some())
}
