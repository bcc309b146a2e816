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
use crate::store::tail::Entering;

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
        let open: Vec<_> = self.enqueue(key, id, message, delivery, self.room.bound()).into_iter().collect();
        if !open.is_empty() {
            // In one transaction with the first.
            let (message, entered, urgent) = (message.clone(), now.instant, true);
            self.tail.append(Entering { id, message, open, retain: false, entered, waiter, with: None, urgent });
        }
    }

    /// Gives what a session got by a share, and has not acknowledged, to the other members. The session has left its
    /// shares already, and its queue in the store has not ended yet.
    pub(super) fn hand_over(&mut self, mut session: Session, now: Now, effects: &mut Effects) {
        // A QoS 2 message that was sent is nobody else's any more (MQTT-4.8.2-5).
        let sent = session.published().filter(|entry| entry.delivery.qos == QoS::AtLeastOnce).cloned();
        let mut left: Vec<_> = sent.collect();
        left.extend(session.queue.drain());
        left.retain(|entry| entry.delivery.share.is_some());
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
        let open: Vec<_> = self.enqueue(heir.session, id, &message, delivery, self.room.bound()).into_iter().collect();
        if !open.is_empty() {
            let waiter = self.tail.waiter(old).filter(|_| was_durable).copied();
            if let Some(Waiter::Publisher(publisher)) = waiter {
                self.gates.hold(publisher.number);
            }
            // In the transaction that ends the old queue.
            let (entered, urgent) = (now.instant, true);
            self.tail.append(Entering { id, message, open, retain: false, entered, waiter, with: None, urgent });
        }
        Some(heir.session)
    }
}
