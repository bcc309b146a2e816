//! Messages come in: PUBLISH and PUBREL, and the sessions that each message is for.

use std::sync::Arc;

use super::{Effects, Now, Router, Waiter};
use crate::broker::queue::{Bound, Queued};
use crate::broker::session::{Incoming, LinkId, Session};
use crate::broker::topics::SessionKey;
use crate::message::{Message, QoS};
use crate::mqtt::{Ack, Packet, Publish, Reason, Version};
use crate::store::{Delivery, EntryId, QueueId};

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
            if self.may_publish(key, &publish.message.topic) {
                self.publish(Some(key), publish.message, now, effects);
            } else {
                self.refused += 1;
            }
            return;
        };
        let qos = publish.qos;
        if qos == QoS::ExactlyOnce {
            match session.incoming.get(&id) {
                // The same again: it was routed, and its PUBREC goes out, or goes out again.
                Some(Incoming::Pending(_)) => return,
                Some(Incoming::Received) => return effects.send(link, Packet::PubRec(Ack::ok(id))),
                None => {}
            }
        }
        let number = self.publishes;
        let refused = if !self.may_publish(key, &publish.message.topic) {
            self.refused += 1;
            Some(Reason::NOT_AUTHORIZED)
        } else {
            if qos == QoS::ExactlyOnce
                && let Some(session) = self.session(key)
            {
                session.incoming.insert(id, Incoming::Pending(number));
            }
            let waiter = Waiter { session: key, link, id, qos, reason: Reason::SUCCESS, number };
            self.route(Some(key), publish.message, Some(waiter), now, effects).err()
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
                    session.incoming.insert(id, Incoming::Received); // PUBREL will follow
                }
                effects.send(link, Packet::PubRec(ack));
            }
        }
    }

    fn may_publish(&self, key: SessionKey, topic: &str) -> bool {
        let Some(session) = self.sessions.get(&key) else { return false };
        let trusted = session.connection.is_some_and(|c| c.trusted);
        trusted || self.access.may_publish(session.user.as_deref(), &session.client_id, topic)
    }

    /// PUBREL: the client will not send this message again.
    pub(super) fn rel(&mut self, key: SessionKey, link: LinkId, ack: Ack, effects: &mut Effects) {
        let known = self.session(key).is_some_and(|s| s.incoming.remove(&ack.id).is_some());
        let reason = if known { Reason::SUCCESS } else { Reason::PACKET_ID_NOT_FOUND };
        effects.send(link, Packet::PubComp(Ack { id: ack.id, reason }));
    }

    /// Gives a message to every session that wants it; nobody waits to hear of it.
    pub(super) fn publish(&mut self, from: Option<SessionKey>, message: Arc<Message>, now: Now, effects: &mut Effects) {
        self.route(from, message, None, now, effects).expect("only who waits is refused");
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
        waiter: Option<Waiter>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Reason> {
        self.received += 1;
        self.find_matches(from, &message);
        let mut matches = std::mem::take(&mut self.matches);
        let stuck = self.tail.bytes() >= self.limits.tail;
        if self.full || stuck {
            let sessions = &mut self.sessions;
            let kept = stuck && message.retain;
            if waiter.is_some() && (kept || matches.iter().any(|(key, d)| misses(sessions.get(key), d))) {
                self.matches = matches;
                return Err(Reason::QUOTA_EXCEEDED);
            }
            // The gateway's own readings go to those who listen now; the durable queues miss them, and it is counted.
            matches.retain(|(key, delivery)| {
                let session = sessions.get_mut(key);
                if !misses(session.as_deref(), delivery) {
                    return true;
                }
                self.dropped += 1;
                if let Some(session) = session {
                    session.dropped += 1;
                }
                false
            });
        }
        // A reading is read anew after a restart; what clients publish is not, and has to be kept.
        let keep = message.retain && self.retain(&message) && from.is_some() && !stuck;
        let id = self.new_entry();
        let mut queues = Vec::new();
        for (key, delivery) in &matches {
            if let Some(queue) = self.enqueue(*key, id, &message, delivery.clone(), self.limits.queue) {
                queues.push((queue, delivery.clone()));
            }
        }
        if queues.is_empty() && !keep {
            if let Some(waiter) = waiter {
                let reason = if matches.is_empty() { Reason::NO_MATCHING_SUBSCRIBERS } else { Reason::SUCCESS };
                self.release(Waiter { reason, ..waiter }, effects);
            }
        } else {
            self.tail.append(id, message, queues, keep, waiter, now.instant);
        }
        for (key, _) in matches.drain(..) {
            self.pump(key, now, effects);
        }
        self.matches = matches;
        Ok(())
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

    /// Fills `self.matches`: each session once, with the highest QoS and all identifiers of its filters that match.
    fn find_matches(&mut self, from: Option<SessionKey>, message: &Message) {
        self.publishes += 1;
        let (number, sessions, matches) = (self.publishes, &mut self.sessions, &mut self.matches);
        matches.clear();
        self.topics.matching(&message.topic, &mut |subscriber| {
            let Some(session) = sessions.get_mut(&subscriber.session) else { return };
            if subscriber.options.no_local && from == Some(subscriber.session) {
                return;
            }
            let qos = subscriber.options.qos.min(message.qos);
            let retain = subscriber.options.retain_as_published && message.retain;
            if session.matched.0 == number {
                let (_, delivery) = &mut matches[session.matched.1];
                delivery.qos = delivery.qos.max(qos);
                delivery.retain |= retain;
                delivery.subscription_ids.extend(subscriber.id);
            } else {
                session.matched = (number, matches.len());
                let subscription_ids = subscriber.id.into_iter().collect();
                matches.push((subscriber.session, Delivery { qos, retain, subscription_ids }));
            }
        });
    }

    /// Puts a message into a session's queue. Returns the queue in the store that it has to enter as well.
    pub(super) fn enqueue(
        &mut self,
        key: SessionKey,
        id: EntryId,
        message: &Arc<Message>,
        delivery: Delivery,
        bound: Bound,
    ) -> Option<QueueId> {
        let session = self.sessions.get_mut(&key)?;
        let durable = session.durable.filter(|_| delivery.qos > QoS::AtMostOnce);
        let entry = Queued { id, message: message.clone(), delivery };
        match durable {
            Some(_) => session.queue.push_durable(entry, bound),
            None if session.connection.is_none() => {} // QoS 0 is not kept for those who are away
            None => {
                if !session.queue.push(entry, bound) {
                    session.dropped += 1;
                    self.dropped += 1;
                }
            }
        }
        durable
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
