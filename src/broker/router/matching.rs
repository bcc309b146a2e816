//! Whom a message reaches: each session once for its own filters, and one member of each share.

use std::sync::Arc;

use super::Router;
use crate::broker::queue::Bound;
use crate::broker::session::Session;
use crate::broker::share::Fitness;
use crate::broker::topics::{Match, SessionKey, Subscriber};
use crate::message::{Message, QoS};
use crate::store::{Delivery, NO_CLASS};

/// The deliveries of one publish.
#[derive(Debug, Default)]
pub(super) struct Matches {
    /// Each session at most once: with the highest QoS and all identifiers of its own filters that match, or by a share.
    pub(super) first: Vec<(SessionKey, Delivery)>,
    /// Sessions that get it once more, by a share beside their own filter: entries of their own.
    pub(super) again: Vec<(SessionKey, Delivery)>,
    /// Scratch: who was picked of which share.
    picked: Vec<(Subscriber, Arc<str>)>,
}

impl Matches {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &(SessionKey, Delivery)> {
        self.first.iter().chain(&self.again)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Keeps the deliveries that `keep` wants.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(SessionKey, &Delivery) -> bool) {
        self.first.retain(|(key, delivery)| keep(*key, delivery));
        self.again.retain(|(key, delivery)| keep(*key, delivery));
    }
}

impl Router {
    /// Fills `self.matches`.
    pub(super) fn find_matches(&mut self, from: Option<SessionKey>, message: &Message) {
        self.publishes += 1;
        let (number, sessions) = (self.publishes, &mut self.sessions);
        let (outstanding, bound) = (self.limits.outstanding, self.room.bound());
        let Matches { first, again, picked } = &mut self.matches;
        first.clear();
        again.clear();
        self.topics.matching(&message.topic, &mut |matched| {
            let subscriber = match matched {
                Match::Own(subscriber) => subscriber,
                Match::Shared(share) => {
                    let fitness = |member: &Subscriber| {
                        fitness(sessions.get(&member.session)?, member, message, outstanding, bound)
                    };
                    picked.extend(share.pick(fitness).map(|member| (member, share.filter().clone())));
                    return;
                }
            };
            let Some(session) = sessions.get_mut(&subscriber.session) else { return };
            if subscriber.options.no_local && from == Some(subscriber.session) {
                return;
            }
            let delivery = delivery(subscriber, message);
            if session.matched.0 == number {
                let (_, so_far) = &mut first[session.matched.1];
                so_far.qos = so_far.qos.max(delivery.qos);
                so_far.retain |= delivery.retain;
                so_far.subscription_ids.extend(subscriber.id);
            } else {
                session.matched = (number, first.len());
                first.push((subscriber.session, delivery));
            }
        });
        // Only now is it known who gets it by a filter of its own as well: that is a second delivery.
        for (member, share) in picked.drain(..) {
            let Some(session) = sessions.get_mut(&member.session) else { continue };
            let delivery = Delivery { share: Some(share), ..delivery(&member, message) };
            if session.matched.0 == number {
                again.push((member.session, delivery));
            } else {
                session.matched = (number, first.len());
                first.push((member.session, delivery));
            }
        }
    }
}

/// How `message` is delivered by a subscription.
pub(super) fn delivery(subscriber: &Subscriber, message: &Message) -> Delivery {
    Delivery {
        qos: subscriber.options.qos.min(message.qos),
        retain: subscriber.options.retain_as_published && message.retain,
        subscription_ids: subscriber.id.into_iter().collect(),
        seq: 0,
        class: NO_CLASS,
        share: None,
    }
}

/// How well a member of a share would serve `message`. Who is away gets only what is kept for it.
pub(super) fn fitness(
    session: &Session,
    member: &Subscriber,
    message: &Message,
    outstanding: usize,
    bound: Bound,
) -> Option<Fitness> {
    let qos = member.options.qos.min(message.qos);
    let is_kept = session.durable.is_some() && qos > QoS::AtMostOnce;
    let Some(connection) = &session.connection else { return is_kept.then_some(Fitness::Away) };
    let window = qos == QoS::AtMostOnce || session.has_window(connection, bound.bytes);
    Some(if session.queue.len() == 0 && window && connection.outstanding < outstanding {
        Fitness::Ready
    } else if is_kept || session.queue.has_room(bound) {
        Fitness::Slow
    } else {
        Fitness::Full
    })
}
