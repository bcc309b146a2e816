//! Sessions come and go: CONNECT, takeover, DISCONNECT, lost connections, expiry; and what rights they have.

use std::sync::Arc;
use std::time::Duration;

use super::deliver::is_outdated;
use super::ring::gateway_of;
use super::{Effects, Link, Now, Router};
use crate::broker::access::Access;
use crate::broker::lanes::Lanes;
use crate::broker::session::{Connection, LinkId, Session, Stage, packet_id};
use crate::broker::topics::SessionKey;
use crate::mqtt::wire::TOPIC_ALIAS_MAXIMUM;
use crate::mqtt::{Ack, ConnAck, Connect, Packet, Publish, Reason, Version};
use crate::status::Cause;
use crate::store::QueueId;
use crate::trail;

/// Whether a bridge of Mosquitto's tells here that it is up or down, by default also at the other end. That is not passed
/// on, as nothing of clients is that goes to `$`; but neither is the bridge kept out for it.
fn is_state_of_bridge(topic: &str) -> bool {
    topic.starts_with("$SYS/broker/connection/") && topic.ends_with("/state")
}

impl Router {
    pub(super) fn connect(&mut self, link: LinkId, mut connect: Connect, now: Now, effects: &mut Effects) {
        let own = self.links.get(&link).and_then(|l| l.own);
        let trusted = own.is_some();
        connect.will.take_if(|will| !trusted && is_state_of_bridge(&will.message.topic));
        if let Err(reason) = self.refuse(&connect, trusted) {
            effects.send(link, Packet::ConnAck(Box::new(ConnAck::new(reason))));
            effects.close.push(link);
            self.links.remove(&link);
            return;
        }
        let assigned = connect.client_id.is_empty().then(|| Arc::from(format!("auto-{:016x}", fastrand::u64(..))));
        let client_id = assigned.clone().unwrap_or_else(|| connect.client_id.clone());
        if let Some(key) = self.by_client.get(&client_id).copied() {
            self.take_over(key, now, effects);
        }
        // Of a connection that the last run lost, too, and whose session went with it.
        if let Some(key) = self.by_client.get(&client_id).copied()
            && self.sessions.get(&key).is_some_and(|s| s.durable.is_none())
        {
            self.end(key, now, effects);
        }
        // The old session may have ended with its connection.
        let present = self.by_client.get(&client_id).copied();
        let fresh = connect.clean_start || present.is_some_and(|key| !trusted && !self.is_same_user(key, &connect));
        if let Some(key) = present.filter(|_| fresh) {
            self.end(key, now, effects);
        }
        let present = present.filter(|_| !fresh);
        let key = present.unwrap_or_else(|| self.add_session(&client_id));
        let most = if trusted { TRUSTED_WINDOW } else { self.limits.window };
        let window = usize::from(connect.receive_maximum.get()).min(most);
        let session = self.sessions.get_mut(&key).expect("just found or added");
        let other_user = session.user != connect.user;
        session.user = connect.user;
        let of = connect.will.as_ref().and_then(|will| gateway_of(&will.message.topic)).filter(|_| !trusted);
        session.gateway = of.map(Arc::from);
        let replay = own.unwrap_or_default();
        let (version, window_bytes) = (connect.version, replay.window_bytes);
        session.connection = Some(Connection { link, version, trusted, window, window_bytes, outstanding: 0 });
        session.replay(replay, self.next_entry, now.instant);
        for at in [session.ends.take(), session.will_due.take()].into_iter().flatten() {
            self.deadlines.remove(&(at, key));
        }
        let was_saved_as_left = session.left.take().is_some() && session.expiry != u32::MAX;
        self.links.insert(link, Link { own, session: Some(key) });
        // It may be published in another run, which does not know who left it.
        if let (Some(gateway), Some(will)) =
            (self.sessions.get(&key).and_then(|s| s.gateway.clone()), &mut connect.will)
        {
            trail::add(&mut will.message, gateway);
        }
        self.set_will(key, connect.will);
        let changed = self.set_expiry(key, connect.expiry);
        let reserves = self.sessions.get_mut(&key).is_some_and(Session::reserve);
        if changed || was_saved_as_left || other_user || reserves || present.is_none() {
            self.save(key);
        }
        if !trusted {
            self.drop_forbidden(key);
        }
        effects.send(
            link,
            Packet::ConnAck(Box::new(ConnAck {
                // The byte is reserved in 3.1.
                session_present: present.is_some() && connect.version != Version::V31,
                assigned_client_id: assigned,
                receive_maximum: self.limits.receive_maximum,
                maximum_packet_size: Some(self.limits.max_packet),
                topic_alias_maximum: TOPIC_ALIAS_MAXIMUM,
                ..ConnAck::new(Reason::SUCCESS)
            })),
        );
        self.resume(key, now, effects);
        self.pump(key, now, effects);
    }

    fn refuse(&self, connect: &Connect, trusted: bool) -> Result<(), Reason> {
        if trusted {
            return Ok(());
        }
        // `$` is for the gateway's own sessions: an uplink's queue is nobody else's to read.
        if connect.client_id.starts_with('$') {
            return Err(Reason::CLIENT_ID_NOT_VALID);
        }
        if connect.authentication_method.is_some() {
            return Err(Reason::BAD_AUTHENTICATION_METHOD);
        }
        if connect.client_id.is_empty() && !connect.clean_start && connect.version != Version::V5 {
            return Err(Reason::CLIENT_ID_NOT_VALID);
        }
        let full = || self.sessions.values().filter(|s| !s.is_of_the_gateway()).count() >= self.limits.sessions;
        if self.sessions.len() >= self.limits.sessions && !self.by_client.contains_key(&connect.client_id) && full() {
            return Err(Reason::QUOTA_EXCEEDED);
        }
        let may = |topic: &str| self.access.may_publish(connect.user.as_deref(), &connect.client_id, topic);
        if connect.will.as_ref().is_some_and(|will| !may(&will.message.topic)) {
            return Err(Reason::NOT_AUTHORIZED);
        }
        Ok(())
    }

    /// A session that goes on may have subscriptions of a time when its client had more rights.
    fn drop_forbidden(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(&key) else { return };
        let (user, client_id) = (session.user.as_deref(), &*session.client_id);
        let forbidden = session.subscriptions.keys().filter(|f| !self.access.may_subscribe(user, client_id, f));
        for filter in forbidden.cloned().collect::<Vec<_>>() {
            self.revoke(key, &filter);
        }
    }

    /// Whether a client may go on with the session of its id: as the same user.
    fn is_same_user(&self, key: SessionKey, connect: &Connect) -> bool {
        let Some(session) = self.sessions.get(&key) else { return false };
        session.user.is_none() || session.user == connect.user
    }

    /// Puts other rights in force. What a client is subscribed to and may not read any more, it gets no more; a will that
    /// it may not publish any more is forgotten.
    pub(super) fn set_access(&mut self, access: Arc<Access>) {
        self.access = access;
        let (mut revoked, mut forgotten) = (Vec::new(), Vec::new());
        for (key, session) in &mut self.sessions {
            // Of a session of the gateway's own, none of this was asked.
            if session.client_id.starts_with('$') || session.connection.is_some_and(|c| c.trusted) {
                continue;
            }
            let (access, user, client_id) = (&self.access, session.user.as_deref(), &*session.client_id);
            if session.will.take_if(|will| !access.may_publish(user, client_id, &will.message.topic)).is_some() {
                forgotten.push(*key);
            }
            // Of a session that came with the store, it is not known whose it is: that is seen when its client comes.
            if session.user.is_some() || session.connection.is_some() {
                let lost = |filter: &&Arc<str>| !access.may_subscribe(user, client_id, filter);
                revoked.extend(session.subscriptions.keys().filter(lost).map(|filter| (*key, filter.clone())));
            }
        }
        forgotten.into_iter().for_each(|key| self.save_will(key, None));
        revoked.into_iter().for_each(|(key, filter)| self.revoke(key, &filter));
    }

    /// Ends a subscription to what a client may not read any more.
    fn revoke(&mut self, key: SessionKey, filter: &str) {
        self.topics.unsubscribe(filter, key);
        if let Some(session) = self.sessions.get_mut(&key) {
            tracing::info!("{} may not read {filter} any more, and is unsubscribed", session.client_id);
            session.subscriptions.remove(filter);
            session.owed.remove(filter);
        }
        self.save(key);
    }

    pub(super) fn add_session(&mut self, client_id: &Arc<str>) -> SessionKey {
        let key = self.new_key();
        self.by_client.insert(client_id.clone(), key);
        self.sessions.insert(key, Session::new(client_id.clone(), Lanes::default()));
        key
    }

    /// A session that outlives its connection has a queue in the store. True when that changed.
    fn set_expiry(&mut self, key: SessionKey, expiry: u32) -> bool {
        let Some(session) = self.sessions.get_mut(&key) else { return false };
        let changed = session.expiry != expiry;
        session.expiry = expiry;
        if expiry > 0 && session.durable.is_none() {
            let queue = QueueId(self.next_queue);
            self.next_queue += 1;
            session.durable = Some(queue);
            self.by_queue.insert(queue, key);
        }
        changed
    }

    /// Sends again what was in flight (MQTT 5.0, 4.4).
    fn resume(&mut self, key: SessionKey, now: Now, effects: &mut Effects) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some(Connection { link, window, trusted, .. }) = session.connection else { return };
        // A smaller window than last time: what does not fit waits again, in its place.
        for place in (0..session.inflight.len()).rev() {
            if session.inflight.len() <= window {
                break;
            }
            if matches!(session.inflight[place].stage, Stage::Published(_))
                && let Some(entry) = session.take_in_flight(place, None)
            {
                session.queue.put_back(entry);
            }
        }
        let mut outstanding = 0;
        for inflight in &session.inflight {
            let packet = match &inflight.stage {
                Stage::Published(entry) => {
                    let publish = entry.publish(now.wall, trusted);
                    outstanding += publish.message.size();
                    let retain = publish.retain && !is_outdated(&self.retained, &session.queue, entry, now);
                    Packet::Publish(Publish { dup: true, retain, ..publish })
                }
                // PUBREL follows when the disk knows.
                Stage::Received => continue,
                Stage::Released { .. } => Packet::PubRel(Ack::ok(packet_id(inflight.seq))),
            };
            effects.send(link, packet);
        }
        if let Some(connection) = &mut session.connection {
            connection.outstanding += outstanding;
        }
        // What is sent again for want of window was sent before, too.
        session.sent_before = session.sent_before.max(session.sent);
    }

    fn take_over(&mut self, key: SessionKey, now: Now, effects: &mut Effects) {
        if let Some(connection) = self.session(key).and_then(|s| s.connection) {
            let reason = Reason::SESSION_TAKEN_OVER;
            effects.send(connection.link, Packet::Disconnect { reason, expiry: None });
            effects.close.push(connection.link);
            self.gone(connection.link, now, effects);
        }
    }

    pub(super) fn disconnect(
        &mut self,
        key: SessionKey,
        link: LinkId,
        reason: Reason,
        expiry: Option<u32>,
        now: Now,
        effects: &mut Effects,
    ) {
        if let Some(session) = self.sessions.get_mut(&key) {
            // A session that began without an expiry may not get one now (MQTT 5.0, 3.14.2.2.2): that is no good-bye.
            let wrong = session.expiry == 0 && expiry.is_some_and(|expiry| expiry > 0);
            if wrong {
                effects.send(link, Packet::Disconnect { reason: Reason::PROTOCOL_ERROR, expiry: None });
            } else if reason == Reason::SUCCESS {
                self.set_will(key, None);
            }
            let expiry = expiry.filter(|_| !wrong);
            if expiry.is_some_and(|expiry| self.set_expiry(key, expiry)) {
                self.save(key);
            }
        }
        effects.close.push(link);
        self.gone(link, now, effects);
    }

    /// The connection is no more: the will is due, and the session ends, now or when it expires.
    pub(super) fn gone(&mut self, link: LinkId, now: Now, effects: &mut Effects) {
        self.held.forget(link);
        let Some(Link { session: Some(key), .. }) = self.links.remove(&link) else { return };
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if session.connection.take_if(|c| c.link == link).is_none() {
            return;
        }
        session.left = Some(now.wall);
        let expiry = session.expiry;
        let lost = session.queue.disconnected(self.room.bound());
        self.paced.remove(&key);
        self.lost(key, lost, Cause::TooSlow);
        self.will_due(key, now, effects);
        if expiry == 0 {
            return self.end(key, now, effects);
        }
        if expiry != u32::MAX {
            let ends = now.instant + Duration::from_secs(expiry.into());
            self.deadlines.insert((ends, key));
            if let Some(session) = self.sessions.get_mut(&key) {
                session.ends = Some(ends);
            }
            self.save(key);
        }
    }

    /// Forgets a session and all that waits for it.
    pub(super) fn end(&mut self, key: SessionKey, now: Now, effects: &mut Effects) {
        self.publish_will(key, now, effects);
        let Some(session) = self.sessions.remove(&key) else { return };
        self.by_client.remove(&session.client_id);
        for at in [session.ends, session.will_due].into_iter().flatten() {
            self.deadlines.remove(&(at, key));
        }
        self.owing.remove(&key);
        for filter in session.subscriptions.keys() {
            self.topics.unsubscribe(filter, key);
        }
        let durable = session.durable;
        self.hand_over(session, now, effects);
        if let Some(queue) = durable {
            self.by_queue.remove(&queue);
            for waiter in self.tail.end(queue) {
                self.tell(waiter, effects);
            }
        }
    }

    /// Notes that a session is to be written as it is at the next commit: whole, however often it changes until then.
    pub(super) fn save(&mut self, key: SessionKey) {
        self.unsaved.insert(key);
    }
}

/// Deliveries in flight to one of the gateway's own parts, at most: an uplink sets its windows itself.
const TRUSTED_WINDOW: usize = 65_535;
