//! What the store's last run left: sessions with their queues and exchanges, wills, retained messages.

use std::sync::Arc;
use std::time::Duration;

use super::{Now, Router};
use crate::broker::lanes::Lanes;
use crate::broker::session::{InFlight, Incoming, Session, Stage};
use crate::broker::topics::{SessionKey, Subscriber};
use crate::mqtt::{Will, topic};
use crate::store::{self, Depth, Handshake, QueueId, Recovered};

impl Router {
    /// Takes up what was found in the store. A database is input like any other.
    pub(super) fn recover(&mut self, recovered: Recovered, now: Now) {
        for message in recovered.retained.iter().filter(|m| topic::check_name(&m.topic).is_ok()) {
            self.retained.set(message);
        }
        for (saved, depth) in recovered.sessions {
            self.recover_session(saved, depth, now);
        }
        for (queue, handshake) in recovered.handshakes {
            self.recover_handshake(queue, handshake);
        }
        for (client_id, will) in recovered.wills {
            self.recover_will(client_id, will, now);
        }
    }

    fn recover_session(&mut self, saved: store::Session, depth: Depth, now: Now) {
        let key = self.new_key();
        let mut session = Session::new(saved.client_id.clone(), Lanes::recovered(depth.entries));
        session.durable = Some(saved.queue);
        session.user = saved.user;
        session.expiry = saved.expiry;
        // Of a session that was connected when the last run ended, a whole window may have been sent.
        let first = if depth.first == 0 { saved.sent } else { depth.first };
        session.sent_before = match saved.left {
            Some(_) => saved.sent,
            None => first.saturating_add(self.limits.window as u64).min(depth.last),
        };
        session.last_seq = depth.last.max(saved.sent);
        // A session that was connected when the last run ended was left by that end.
        let left = saved.left.unwrap_or(now.wall);
        session.left = Some(left);
        let unknown = saved.left.is_none() && saved.expiry != u32::MAX;
        session.oldest_on_disk = depth.oldest;
        if saved.expiry != u32::MAX {
            let ends = now.instant + Duration::from_secs(saved.expiry.into()).saturating_sub(left.age_at(now.wall));
            session.ends = Some(ends);
            self.deadlines.insert((ends, key));
        }
        for subscription in saved.subscriptions.into_iter().filter(|s| topic::check_filter(&s.filter).is_ok()) {
            let subscriber = Subscriber { session: key, options: subscription.options, id: subscription.id };
            self.topics.subscribe(&subscription.filter, subscriber);
            session.subscriptions.insert(subscription.filter, (subscription.options, subscription.id));
        }
        self.by_client.insert(saved.client_id, key);
        self.by_queue.insert(saved.queue, key);
        self.next_queue = self.next_queue.max(saved.queue.0.saturating_add(1));
        self.sessions.insert(key, session);
        if unknown {
            self.save(key);
        }
    }

    fn recover_handshake(&mut self, queue: QueueId, handshake: Handshake) {
        let Some(session) = self.by_queue.get(&queue).and_then(|key| self.sessions.get_mut(key)) else { return };
        match handshake {
            Handshake::Received(_) if session.is_of_the_gateway() => {}
            Handshake::Received(id) => {
                session.incoming.insert(id, Incoming::Received { recorded: true });
            }
            Handshake::Released(seq) => {
                session.last_seq = session.last_seq.max(seq);
                session.set_in_flight(InFlight { seq, stage: Stage::Released { recorded: true } });
            }
        }
    }

    /// A client whose will is kept was connected when the last run ended, or had just gone. A session that did not
    /// outlive that has its will published at once.
    fn recover_will(&mut self, client_id: Arc<str>, saved: store::Will, now: Now) {
        if topic::check_name(&saved.message.topic).is_err() {
            return;
        }
        let key = self.by_client.get(&client_id).copied().unwrap_or_else(|| self.recover_ended(client_id, now));
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let delay = Duration::from_secs(saved.delay.min(session.expiry).into());
        let gone = saved.due.map(|due| due.before(delay));
        let waited = gone.map_or(Duration::ZERO, |gone| gone.age_at(now.wall));
        let due = now.instant + delay.saturating_sub(waited);
        session.will = Some(Will { message: saved.message, delay });
        session.will_due = Some(due);
        self.deadlines.insert((due, key));
    }

    /// A session that ends as soon as time goes on.
    fn recover_ended(&mut self, client_id: Arc<str>, now: Now) -> SessionKey {
        let key = self.add_session(&client_id);
        if let Some(session) = self.sessions.get_mut(&key) {
            session.ends = Some(now.instant);
        }
        self.deadlines.insert((now.instant, key));
        key
    }
}
