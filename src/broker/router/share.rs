//! What a member of a share leaves behind when its session ends goes to the others (MQTT 5.0, 4.8.2).
//!
//! Only a durable queue keeps a publisher waiting, and a delivery that moves from one durable queue to another keeps it
//! waiting until the new one has it: the entry is appended anew before the old queue ends, and one transaction does both.

use super::matching::{delivery, fitness};
use super::route::Terms;
use super::{Effects, Now, Router, Waiter};
use crate::broker::queue::Queued;
use crate::broker::session::Session;
use crate::broker::topics::SessionKey;
use crate::message::QoS;
use crate::store::Delivery;

impl Router {
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
        if session.durable.is_some() && !heirs.is_empty() {
            self.tail.keep_together();
        }
        heirs.sort_unstable();
        heirs.dedup();
        for heir in heirs {
            self.pump(heir, now, effects);
        }
    }

    /// Gives one entry to another member of its share; returns to whom.
    fn pass_on(&mut self, entry: Queued, was_durable: bool, now: Now) -> Option<SessionKey> {
        let Queued { id: old, message, delivery: was, .. } = entry;
        let share = self.topics.share(was.share.as_ref()?)?;
        let (sessions, outstanding, bound) = (&self.sessions, self.limits.outstanding, self.room.bound());
        let heir =
            share.pick(|member| fitness(sessions.get(&member.session)?, member, &message, outstanding, bound))?;
        let delivery = Delivery { share: was.share, ..delivery(&heir, &message) };
        // Who waited for the old entry waits for this one, in the transaction that ends the old queue.
        let waiter = self.tail.waiter(old).filter(|_| was_durable).copied();
        let publisher = waiter.and_then(|w| if let Waiter::Publisher(publisher) = w { Some(publisher) } else { None });
        let terms = Terms { publisher, urgent: true, ..Terms::default() };
        self.enter(&message, &[(heir.session, delivery)], terms, now);
        Some(heir.session)
    }
}
