//! Messages go out: as many as the client's window takes, and each until it is acknowledged.
//!
//! A delivery in flight, as the session keeps it ([`Stage`]); what the disk knows, of a session that outlives its connection,
//! is in brackets:
//!
//! | state | PUBACK | PUBREC | the disk knows | PUBCOMP | a new connection |
//! |---|---|---|---|---|---|
//! | Published [entry] | done | Received | | | PUBLISH again, with DUP |
//! | Received | | | PUBREL: Released [place] | | |
//! | Released [place] | | PUBREL | | done | PUBREL again |

use tokio::time::Instant;

use super::{Effects, Now, Router, Waiter};
use crate::broker::lanes::{Lane, Lanes};
use crate::broker::queue::Queued;
use crate::broker::retained::Retained;
use crate::broker::session::{InFlight, Stage, packet_id};
use crate::broker::topics::SessionKey;
use crate::message::QoS;
use crate::mqtt::{Ack, Packet, PacketId, Reason};
use crate::store::{Aside, Delivery, Entry, EntryId, Handshake, QueueId};

impl Router {
    /// Sends what the session's connection has room for.
    pub(super) fn pump(&mut self, key: SessionKey, now: Now, effects: &mut Effects) {
        loop {
            self.pay(key, now);
            let (outstanding, bound, most) = (self.limits.outstanding, self.room.bound(), self.limits.queue);
            let Some(session) = self.sessions.get_mut(&key) else { return };
            let Some(connection) = session.connection else { return };
            if connection.outstanding >= outstanding {
                return;
            }
            if let Some(queue) = session.durable
                && let Some(after) = session.queue.wants_load()
            {
                effects.loads.push((queue, after));
            }
            let Some((lane, next)) = session.queue.front() else { return };
            let Delivery { qos, seq, .. } = next.delivery;
            // What is sent and not acknowledged takes memory as what waits does.
            let bytes = if connection.trusted { connection.window_bytes.min(most.bytes) } else { bound.bytes };
            if qos > QoS::AtMostOnce && !session.has_window(&connection, bytes) {
                return;
            }
            if lane == Lane::Backlog && !session.may_send_backlog(&connection, bytes) {
                return;
            }
            if qos > QoS::AtMostOnce && session.is_id_in_use(seq) {
                // An uplink has one that overtook 65 535 others: the next acknowledgement goes on here.
                if connection.trusted {
                    return;
                }
                let client = session.client_id.clone();
                tracing::warn!(
                    "{client} has left a delivery unacknowledged for 65 535 others: it is cut off, and gets it again"
                );
                effects.send(connection.link, Packet::Disconnect { reason: Reason::UNSPECIFIED, expiry: None });
                effects.close.push(connection.link);
                return self.gone(connection.link, now, effects);
            }
            if next.id > self.durable && session.waits_for_disk(qos) {
                self.waiting.insert(key);
                return;
            }
            let payload = next.message.topic.len() + next.message.payload.len();
            if lane == Lane::Backlog
                && let Some(bucket) = &mut session.backlog_bucket
                && let Err(at) = bucket.take(payload, now.instant)
            {
                self.paced.insert(key, at);
                return;
            }
            let mut entry = session.queue.pop().expect("it has a front");
            session.owed.popped(entry.id);
            if entry.message.expired(now.wall) {
                let oldest = session.published().next().is_none() && !session.queue.has_before(entry.id);
                self.settle(key, entry.id, entry.delivery.qos, oldest, effects);
                continue;
            }
            entry.delivery.retain &= !is_outdated(&self.retained, &session.queue, &entry, now);
            let mut publish = entry.publish(now.wall, connection.trusted);
            if let Some(connection) = session.connection.as_mut() {
                connection.outstanding += publish.message.size();
            }
            if qos > QoS::AtMostOnce {
                // After a restart it may be the second time.
                publish.dup = seq <= session.sent_before;
                session.sent = session.sent.max(seq);
                session.set_in_flight(InFlight { seq, stage: Stage::Published(entry) });
            }
            self.sent += 1;
            effects.send(connection.link, Packet::Publish(publish));
        }
    }

    /// Goes on with the backlogs whose time has come; when the next one's comes.
    pub(super) fn go_on_paced(&mut self, now: Now, effects: &mut Effects) -> Option<Instant> {
        let due: Vec<_> = self.paced.iter().filter(|(_, at)| **at <= now.instant).map(|(key, _)| *key).collect();
        for key in due {
            self.paced.remove(&key);
            self.pump(key, now, effects);
        }
        self.paced.values().min().copied()
    }

    /// PUBACK: the client has it (or refuses it for good).
    pub(super) fn acked(&mut self, key: SessionKey, ack: Ack, now: Now, effects: &mut Effects) {
        let Some((place, Stage::Published(entry))) = self.in_flight(key, ack.id) else { return };
        if entry.delivery.qos == QoS::AtLeastOnce {
            self.done(key, (place, ack.reason), now, effects);
            self.pump(key, now, effects);
        }
    }

    /// PUBREC: the client has it. PUBREL, which tells it that it will not come again, has to wait until the disk knows.
    pub(super) fn rec(&mut self, key: SessionKey, ack: Ack, now: Now, effects: &mut Effects) {
        let Some(link) = self.session(key).and_then(|s| s.connection).map(|c| c.link) else { return };
        let found = self.in_flight(key, ack.id).map(|(place, stage)| (place, stage.clone()));
        match found {
            Some((_, Stage::Published(entry))) if entry.delivery.qos != QoS::ExactlyOnce => {}
            Some((place, Stage::Published(_))) if ack.reason.is_error() => {
                self.done(key, (place, ack.reason), now, effects);
                self.pump(key, now, effects);
            }
            Some((place, Stage::Published(entry))) => self.received(key, place, &entry, effects),
            Some((_, Stage::Received)) => {}
            _ if ack.reason.is_error() => {}
            Some((_, Stage::Released { .. })) => effects.send(link, Packet::PubRel(Ack::ok(ack.id))),
            None => effects.send(link, Packet::PubRel(Ack { id: ack.id, reason: Reason::PACKET_ID_NOT_FOUND })),
        }
    }

    fn received(&mut self, key: SessionKey, place: usize, entry: &Queued, effects: &mut Effects) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let oldest = session.is_oldest(place, entry.id);
        let seq = session.inflight[place].seq;
        session.take_in_flight(place, Some(Stage::Received));
        let recorded = session.durable.filter(|_| session.waits_for_disk(QoS::ExactlyOnce));
        match recorded {
            Some(queue) => {
                let reader = Waiter::Reader { session: key, seq };
                self.tail.shake_hands(queue, Handshake::Released(seq), true, Some(reader));
            }
            None => self.release(key, seq, false, effects),
        }
        self.settle(key, entry.id, QoS::ExactlyOnce, oldest, effects);
    }

    /// Sends PUBREL for the delivery at this place; `recorded` when the disk knows of it.
    pub(super) fn release(&mut self, key: SessionKey, seq: u64, recorded: bool, effects: &mut Effects) {
        let Some(session) = self.session(key) else { return };
        let link = session.connection.map(|c| c.link);
        let Some(place) = session.inflight_place(packet_id(seq)) else { return };
        session.inflight[place].stage = Stage::Released { recorded };
        if let Some(link) = link {
            effects.send(link, Packet::PubRel(Ack::ok(packet_id(seq))));
        }
    }

    /// PUBCOMP: the id is free again.
    pub(super) fn comp(&mut self, key: SessionKey, ack: Ack, now: Now, effects: &mut Effects) {
        let Some((place, Stage::Released { recorded })) = self.in_flight(key, ack.id) else { return };
        let recorded = *recorded;
        let Some(session) = self.session(key) else { return };
        let done = session.inflight.remove(place);
        if let (Some(queue), Some(InFlight { seq, .. }), true) = (session.durable, done, recorded) {
            self.tail.shake_hands(queue, Handshake::Released(seq), false, None);
        }
        self.pump(key, now, effects);
    }

    fn in_flight(&self, key: SessionKey, id: PacketId) -> Option<(usize, &Stage)> {
        let session = self.sessions.get(&key)?;
        let place = session.inflight_place(id)?;
        Some((place, &session.inflight[place].stage))
    }

    /// The client is done with a delivery that it was sent, or will not have it for this reason.
    fn done(&mut self, key: SessionKey, (place, reason): (usize, Reason), now: Now, effects: &mut Effects) {
        let Some(session) = self.session(key) else { return };
        // An uplink speaks for a cloud there, which says so of what it never takes.
        let aside = reason.is_error() && session.connection.is_some_and(|c| c.trusted);
        let client_id = session.client_id.clone();
        let Some(entry) = session.take_in_flight(place, None) else { return };
        let oldest = session.is_oldest(place, entry.id);
        if !aside {
            return self.settle(key, entry.id, entry.delivery.qos, oldest, effects);
        }
        let waiter = self.acknowledge(key, entry.id, entry.delivery.qos, oldest);
        let Delivery { qos, retain, .. } = entry.delivery;
        let aside = Aside { session: client_id, message: entry.message, qos, retain, reason, at: now.wall };
        let gone = self.tail.set_aside(aside, waiter);
        if gone > 0 {
            tracing::error!("{gone} messages that were set aside are lost: the store does not write them");
        }
    }

    /// A session is done with an entry: its queue in the store forgets it, and its publisher may be told.
    fn settle(&mut self, key: SessionKey, entry: EntryId, qos: QoS, oldest: bool, effects: &mut Effects) {
        if let Some(waiter) = self.acknowledge(key, entry, qos, oldest) {
            self.tell(waiter, effects);
        }
    }

    /// The queue in the store forgets an entry. Returns who may be told.
    fn acknowledge(&mut self, key: SessionKey, entry: EntryId, qos: QoS, oldest: bool) -> Option<Waiter> {
        let queue = self.sessions.get(&key)?.durable.filter(|_| qos > QoS::AtMostOnce)?;
        self.tail.ack(queue, entry, oldest)
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
        let queued =
            |e: Entry| Queued { id: e.id, message: e.message, delivery: e.delivery, historical: false, gone: false };
        session.queue.loaded(entries.into_iter().map(queued).collect(), complete);
        self.pump(key, now, effects);
    }
}

/// Whether a message of the backlog must not become the retained one of its topic any more: a live one, which may have
/// overtaken it, has set another since, or has cleared it.
pub(super) fn is_outdated(retained: &Retained, queue: &Lanes, entry: &Queued, now: Now) -> bool {
    let Queued { message, delivery, historical, .. } = entry;
    *historical
        && delivery.retain
        && queue.is_live_first()
        && match retained.get(&message.topic, now.wall) {
            Some(newest) => newest.payload != message.payload,
            None => queue.has_cleared(&message.topic),
        }
}
