//! Messages go out: as many as the client's window takes, and each until it is acknowledged.

use super::{Effects, Now, Router};
use crate::broker::queue::Queued;
use crate::broker::session::InFlight;
use crate::broker::topics::SessionKey;
use crate::message::QoS;
use crate::mqtt::{Ack, Packet, Publish, Reason};
use crate::store::{Entry, EntryId, QueueId};

impl Router {
    /// Sends what the session's connection has room for.
    pub(super) fn pump(&mut self, key: SessionKey, now: Now, effects: &mut Effects) {
        loop {
            self.pay(key, now);
            let outstanding = self.limits.outstanding;
            let Some(session) = self.sessions.get_mut(&key) else { return };
            let Some(connection) = session.connection.as_mut() else { return };
            if connection.outstanding >= outstanding {
                return;
            }
            let Some(next) = session.queue.front() else {
                if let (Some(queue), Some(after)) = (session.durable, session.queue.wants_load()) {
                    effects.loads.push((queue, after));
                }
                return;
            };
            if next.delivery.qos > QoS::AtMostOnce && session.inflight.len() >= connection.window {
                return;
            }
            let entry = session.queue.pop().expect("it has a front");
            session.owed.popped(entry.id);
            if entry.message.expired(now.wall) {
                let oldest = session.inflight.iter().all(|i| i.released);
                self.settle(key, entry.id, entry.delivery.qos, oldest, effects);
                continue;
            }
            connection.outstanding += entry.message.size();
            let link = connection.link;
            let id = (entry.delivery.qos > QoS::AtMostOnce).then(|| session.free_id());
            let publish = Publish {
                id,
                dup: false,
                qos: entry.delivery.qos,
                retain: entry.delivery.retain,
                message: entry.message.clone(),
                topic_alias: None,
                subscription_ids: entry.delivery.subscription_ids.clone(),
            };
            if let Some(id) = id {
                session.inflight.push_back(InFlight { id, entry, released: false });
            }
            self.sent += 1;
            effects.send(link, Packet::Publish(publish));
        }
    }

    /// PUBACK: the client has it (or refuses it for good).
    pub(super) fn acked(&mut self, key: SessionKey, ack: Ack, now: Now, effects: &mut Effects) {
        if let Some(place) = self.session(key).and_then(|s| s.inflight_place(ack.id, QoS::AtLeastOnce, false)) {
            self.done(key, place, effects);
            self.pump(key, now, effects);
        }
    }

    /// PUBREC: the client has it; PUBREL tells it that it will not come again.
    pub(super) fn rec(&mut self, key: SessionKey, ack: Ack, now: Now, effects: &mut Effects) {
        let Some(session) = self.session(key) else { return };
        let Some(link) = session.connection.map(|c| c.link) else { return };
        match session.inflight_place(ack.id, QoS::ExactlyOnce, false) {
            Some(place) if ack.reason.is_error() => {
                self.done(key, place, effects);
                self.pump(key, now, effects);
            }
            Some(place) => {
                session.inflight[place].released = true;
                let entry = session.inflight[place].entry.id;
                let oldest = session.inflight.iter().take(place).all(|i| i.released);
                self.settle(key, entry, QoS::ExactlyOnce, oldest, effects);
                effects.send(link, Packet::PubRel(Ack::ok(ack.id)));
            }
            None if ack.reason.is_error() => {}
            None => {
                let known = session.inflight_place(ack.id, QoS::ExactlyOnce, true).is_some();
                let reason = if known { Reason::SUCCESS } else { Reason::PACKET_ID_NOT_FOUND };
                effects.send(link, Packet::PubRel(Ack { id: ack.id, reason }));
            }
        }
    }

    /// PUBCOMP: the id is free again.
    pub(super) fn comp(&mut self, key: SessionKey, ack: Ack, now: Now, effects: &mut Effects) {
        let Some(session) = self.session(key) else { return };
        if let Some(place) = session.inflight_place(ack.id, QoS::ExactlyOnce, true) {
            session.inflight.remove(place);
            self.pump(key, now, effects);
        }
    }

    fn done(&mut self, key: SessionKey, place: usize, effects: &mut Effects) {
        let Some(session) = self.session(key) else { return };
        let oldest = session.inflight.iter().take(place).all(|i| i.released);
        if let Some(InFlight { entry, .. }) = session.inflight.remove(place) {
            self.settle(key, entry.id, entry.delivery.qos, oldest, effects);
        }
    }

    /// A session is done with an entry: its queue in the store forgets it, and its publisher may be told.
    fn settle(&mut self, key: SessionKey, entry: EntryId, qos: QoS, oldest: bool, effects: &mut Effects) {
        let queue = self.sessions.get(&key).and_then(|s| s.durable).filter(|_| qos > QoS::AtMostOnce);
        if let Some(queue) = queue
            && let Some(waiter) = self.tail.ack(queue, entry, oldest)
        {
            self.release(waiter, effects);
        }
    }

    /// Entries came back from the disk.
    pub(super) fn loaded(
        &mut self,
        queue: QueueId,
        entries: Vec<Entry>,
        complete: bool,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(key) = self.by_queue.get(&queue).copied() else { return };
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let entries = entries.into_iter().map(|e| Queued { id: e.id, message: e.message, delivery: e.delivery });
        session.queue.loaded(entries, complete);
        self.pump(key, now, effects);
    }
}
