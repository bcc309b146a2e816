//! Orders from the command line: each is told done when all that follows from it is on the disk.

use std::sync::Arc;

use bytes::Bytes;

use super::route::Terms;
use super::{Effects, Now, Router};
use crate::broker::order::{Order, Outcome, Refusal};
use crate::broker::topics::SessionKey;
use crate::clock::Timestamp;
use crate::message::{Message, QoS};
use crate::store::{Delivery, EntryId, Lost, NO_CLASS, QueueId};

/// Which order an [`Outcome`] is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// The orders that are carried out, and not yet on the disk.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// With what comes next, and with what is being written.
    next: Vec<Waiting>,
    written: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    count: u64,
    /// The last entry that has to be on the disk.
    until: EntryId,
    /// The queue of which the store says how much went.
    purged: Option<QueueId>,
}

impl Orders {
    /// Whether somebody waits for the next batch.
    pub(super) fn is_waiting(&self) -> bool {
        !self.next.is_empty()
    }

    /// A batch was handed to the store. The entries from `left` on had no room in it, and who needs them waits for them.
    pub(super) fn handed_over(&mut self, left: Option<EntryId>) {
        self.written.extend(self.next.extract_if(.., |w| left.is_none_or(|left| w.until < left)));
    }

    /// The batch is on the disk.
    pub(super) fn committed(&mut self, effects: &mut Effects) {
        effects.outcomes.extend(self.written.drain(..).map(|w| (w.ticket, Ok(w.count))));
    }

    /// There is nothing to write.
    pub(super) fn nothing_to_write(&mut self, effects: &mut Effects) {
        effects.outcomes.extend(self.next.drain(..).map(|w| (w.ticket, Ok(w.count))));
    }

    fn purged(&mut self, queue: QueueId, entries: u64) {
        // The first, which may wait for entries of a later batch.
        let mut waiting = self.written.iter_mut().chain(&mut self.next);
        if let Some(waiting) = waiting.find(|w| w.purged == Some(queue)) {
            waiting.purged = None;
            waiting.count = entries;
        }
    }
}

impl Router {
    /// Carries an order out. Its outcome is among the effects, now or later.
    pub(super) fn order(&mut self, ticket: Ticket, order: Order, now: Now, effects: &mut Effects) {
        let mut purged = None;
        let done = match order {
            _ if self.stopping => Err(Refusal::Stopping),
            Order::WriteOut => Ok(0),
            Order::Put { queue, messages, aside } => self.put(&queue, messages, now, effects).inspect(|_| {
                self.tail.forget_aside(aside);
            }),
            Order::ForgetAside { numbers } => {
                let count = numbers.len() as u64;
                self.tail.forget_aside(numbers);
                Ok(count)
            }
            Order::Purge { queue, until } => self.durable_session(&queue).map(|(_, queue)| {
                self.tail.purge(queue, until);
                purged = Some(queue);
                0
            }),
            Order::Forget { queue } => self.forget(&queue, now, effects),
            Order::ClearRetained { filter, before, count_only } => {
                let matching = self.retained_before(&filter, before, now);
                let count = matching.len() as u64;
                if !count_only {
                    matching.into_iter().for_each(|topic| self.clear_retained(topic));
                }
                Ok(count)
            }
        };
        match done {
            Ok(count) => self.orders.next.push(Waiting { ticket, count, until: self.tail.last(), purged }),
            Err(refusal) => effects.outcomes.push((ticket, Err(refusal))),
        }
    }

    /// The store has taken entries out of a queue.
    pub(super) fn purged(&mut self, queue: QueueId, lost: Lost) {
        self.orders.purged(queue, lost.entries);
        self.gone_from_disk(queue, lost);
    }

    fn put(&mut self, queue: &Arc<str>, messages: Vec<Message>, now: Now, effects: &mut Effects) -> Outcome {
        let (key, id) = self.durable_session(queue)?;
        if self.full.contains(&id) || self.tail.bytes() >= self.limits.tail {
            return Err(Refusal::Full);
        }
        let count = messages.len() as u64;
        for message in messages {
            let delivery = Delivery {
                qos: message.qos.max(QoS::AtLeastOnce),
                retain: message.retain,
                subscription_ids: Vec::new(),
                seq: 0,
                class: NO_CLASS,
                share: None,
            };
            self.received += 1;
            self.enter(&Arc::new(message), &[(key, delivery)], Terms::default(), now);
        }
        self.pump(key, now, effects);
        Ok(count)
    }

    fn forget(&mut self, queue: &Arc<str>, now: Now, effects: &mut Effects) -> Outcome {
        let (key, _) = self.durable_session(queue)?;
        let session = self.sessions.get(&key).filter(|session| session.connection.is_none());
        let Some(session) = session else { return Err(Refusal::Connected(queue.clone())) };
        if session.is_of_the_gateway() && !session.subscriptions.is_empty() {
            return Err(Refusal::InUse(queue.clone()));
        }
        let count = session.depth();
        tracing::info!("the kept session of {queue} is removed, by order; {count} messages go with it");
        self.end(key, now, effects);
        Ok(count)
    }

    fn retained_before(&self, filter: &str, before: Option<Timestamp>, now: Now) -> Vec<Arc<str>> {
        let found = self.retained.after(filter, None, now.wall, usize::MAX, usize::MAX).messages;
        let is_older = |message: &&Arc<Message>| before.is_none_or(|before| message.at.wall < before);
        found.iter().filter(is_older).map(|message| message.topic.clone()).collect()
    }

    fn clear_retained(&mut self, topic: Arc<str>) {
        let cleared = Arc::new(Message::retained(topic, Bytes::new()));
        self.retained.set(&cleared);
        self.tail.clear_retained(cleared);
    }

    fn durable_session(&self, queue: &Arc<str>) -> Result<(SessionKey, QueueId), Refusal> {
        let key = self.by_client.get(queue).copied();
        let durable = |key: SessionKey| self.sessions.get(&key).and_then(|session| session.durable);
        key.and_then(|key| Some((key, durable(key)?))).ok_or_else(|| {
            let sessions = self.sessions.values().filter(|session| session.durable.is_some());
            let mut known: Vec<_> = sessions.map(|session| session.client_id.clone()).collect();
            known.sort();
            Refusal::NoQueue { asked: queue.clone(), known }
        })
    }
}
