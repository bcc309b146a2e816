//! What a member of a share leaves behind when its session ends goes to the others (MQTT 5.0, 4.8.2).
//!
//! Only a durable queue keeps a publisher waiting, and a delivery that moves from one durable queue to another keeps it
//! waiting until the new one has it: the entry is appended anew before the old queue ends, and one transaction does both.

use std::collections::HashMap;
use std::sync::Arc;

use super::matching::{delivery, fitness};
use super::{Effects, Now, Router, Waiter};
use crate::broker::queue::Queued;
use crate::broker::session::Session;
use crate::broker::topics::SessionKey;
use crate::message::{Message, QoS};
use crate::store::Delivery;

/// Publishers that wait for more than one entry, by the number of the publish: for how many more.
#[derive(Debug, Default)]
pub(super) struct Gates(HashMap<u64, usize>);

impl Gates {
    /// The publisher waits for one more entry.
    pub(super) fn hold(&mut self, number: u64) {
        *self.0.entry(number).or_default() += 1;
    }

    /// One of its entries is durable. True when the publisher waits for no other.
    pub(super) fn opens(&mut self, number: u64) -> bool {
        let Some(more) = self.0.get_mut(&number) else { return true };
        *more -= 1;
        if *more == 0 {
            self.0.remove(&number);
        }
        false
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Router {
    /// Puts a message once more into the queue of a session that has it already, as an entry of its own.
    pub(super) fn enter_again(
        &mut self,
        key: SessionKey,
        message: &Arc<Message>,
        delivery: Delivery,
        waiter: Option<Waiter>,
        now: Now,
    ) {
        let id = self.new_entry();
        if let Some(queue) = self.enqueue(key, id, message, delivery.clone(), self.room.bound()) {
            self.tail.append(id, message.clone(), vec![(queue, delivery)], false, waiter, now.instant);
        }
    }

    /// Gives what a session got by a share, and has not acknowledged, to the other members. The session has left its
    /// shares already, and its queue in the store has not ended yet.
    pub(super) fn hand_over(&mut self, mut session: Session, now: Now, effects: &mut Effects) {
        let sent = session.inflight.into_iter().filter(|i| !i.released).map(|i| i.entry);
        // A QoS 2 message that was sent is nobody else's any more (MQTT-4.8.2-5).
        let sent = sent.filter(|entry| entry.delivery.qos == QoS::AtLeastOnce);
        let left: Vec<_> = sent.chain(session.queue.drain()).filter(|entry| entry.delivery.share.is_some()).collect();
        let mut heirs = Vec::new();
        for entry in left {
            heirs.extend(self.pass_on(entry, session.durable.is_some(), now));
        }
        heirs.sort_unstable();
        heirs.dedup();
        for heir in heirs {
            self.pump(heir, now, effects);
        }
    }

    /// Gives one entry to another member of its share; returns to whom.
    fn pass_on(&mut self, entry: Queued, was_durable: bool, now: Now) -> Option<SessionKey> {
        let Queued { id: old, message, delivery: was } = entry;
        let share = self.topics.share(was.share.as_ref()?)?;
        let (sessions, outstanding, bound) = (&self.sessions, self.limits.outstanding, self.room.bound());
        let heir =
            share.pick(|member| fitness(sessions.get(&member.session)?, member, &message, outstanding, bound))?;
        let delivery = Delivery { share: was.share, ..delivery(&heir, &message) };
        let id = self.new_entry();
        if let Some(queue) = self.enqueue(heir.session, id, &message, delivery.clone(), self.room.bound()) {
            let waiter = self.tail.waiter(old).filter(|_| was_durable).copied();
            if let Some(waiter) = waiter {
                self.gates.hold(waiter.number);
            }
            // As old as the window: it is in the transaction that ends the old queue.
            let entered = now.instant.checked_sub(self.limits.commit).unwrap_or(now.instant);
            self.tail.append(id, message, vec![(queue, delivery)], false, waiter, entered);
        }
        Some(heir.session)
    }
}
