//! The retained messages of new subscriptions, a slice at a time: as the reader takes them, and never so many at once that
//! others wait.

use std::sync::Arc;

use super::matching::Matches;
use super::route::Terms;
use super::{Effects, Now, Router};
use crate::broker::queue::Bound;
use crate::broker::topics::SessionKey;
use crate::message::{Message, QoS};
use crate::mqtt::SubscribeOptions;
use crate::store::Delivery;

/// Messages that enter a queue at once.
const SLICE: usize = 128;
/// Topics looked at without a break, over all sessions.
const SCAN: usize = 8192;
/// Retained messages are not lost to a reader that is slow: there is room for a slice beside what else waits.
const UNBOUND: Bound = Bound { entries: usize::MAX, bytes: usize::MAX };

impl Router {
    /// Notes that a session gets the retained messages that match.
    pub(super) fn owe(
        &mut self,
        key: SessionKey,
        filter: Arc<str>,
        options: SubscribeOptions,
        subscription_id: Option<u32>,
    ) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.owed.add(filter, options, subscription_id);
            self.owing.insert(key);
            self.search = SCAN;
        }
    }

    /// Puts the next retained messages into a session's queue, once the last ones have left it.
    pub(super) fn pay(&mut self, key: SessionKey, now: Now) {
        if self.owing.is_empty() || !self.owing.contains(&key) {
            return;
        }
        let stuck = self.is_stuck();
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let hungry = session.owed.is_hungry() || session.queue.len() == 0;
        // What is on disk comes first, and what the disk does not take has to wait.
        let waits =
            session.queue.is_spilling() || session.durable.is_some_and(|queue| stuck || self.full.contains(&queue));
        if session.connection.is_none() || !hungry || waits {
            return;
        }
        if self.search == 0 {
            self.searching = true;
            return;
        }
        let (slice, scanned) = session.owed.take(&self.retained, now.wall, SLICE, self.search);
        self.search -= scanned;
        if session.owed.is_empty() {
            self.owing.remove(&key);
        } else {
            self.searching |= slice.is_empty();
        }
        for (message, delivery) in slice {
            self.enter_retained(key, &message, delivery, now);
        }
    }

    /// Before a message enters the queues: what is retained of the same topic, and still owed, goes first, so that the
    /// older never comes last. A message that replaces it makes it needless.
    pub(super) fn pay_before(&mut self, matches: &Matches, message: &Message, now: Now) {
        if self.owing.is_empty() {
            return;
        }
        let older = self.retained.get(&message.topic, now.wall).filter(|_| !message.retain).cloned();
        if older.is_none() && !message.retain {
            return;
        }
        for (key, delivery) in &matches.first {
            let Some(session) = self.sessions.get_mut(key).filter(|session| !session.owed.is_empty()) else { continue };
            let is_kept = session.durable.is_some() && delivery.qos > QoS::AtMostOnce;
            if message.retain && !is_kept && !session.queue.has_room(self.room.bound()) {
                continue; // it will be lost: the one that is owed is then the only one
            }
            let before = session.owed.overtaken(&message.topic, older.as_deref());
            for (delivery, older) in before.into_iter().zip(older.iter().cycle()) {
                self.enter_retained(*key, older, delivery, now);
            }
        }
    }

    /// Goes on with every session that is still to get something.
    pub(super) fn pay_all(&mut self, now: Now, effects: &mut Effects) {
        self.searching = false;
        self.search = SCAN;
        for key in self.owing.iter().copied().collect::<Vec<_>>() {
            self.pump(key, now, effects);
        }
    }

    /// Whether to come back with [`super::Event::Continue`] as soon as others had their turn.
    pub fn has_more(&self) -> bool {
        self.searching
    }

    fn enter_retained(&mut self, key: SessionKey, message: &Arc<Message>, delivery: Delivery, now: Now) {
        let id = self.next_entry;
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.owed.entered(id);
        let is_kept = session.durable.is_some() && delivery.qos > QoS::AtMostOnce;
        let bound = (!is_kept).then_some(UNBOUND);
        self.enter(message, &[(key, delivery)], Terms { bound, ..Terms::default() }, now);
    }
}
