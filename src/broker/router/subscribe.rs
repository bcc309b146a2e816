//! SUBSCRIBE and UNSUBSCRIBE.

use std::sync::Arc;

use super::{Effects, Now, Router};
use crate::broker::owed::Owed;
use crate::broker::session::LinkId;
use crate::broker::topics::{SessionKey, Subscriber};
use crate::mqtt::{Packet, PacketId, Reason, RetainHandling, Subscribe, topic};

impl Router {
    pub(super) fn subscribe(
        &mut self,
        key: SessionKey,
        link: LinkId,
        subscribe: Subscribe,
        now: Now,
        effects: &mut Effects,
    ) {
        // Who shares a filter cannot know whose message comes to it (MQTT-3.8.3-4).
        if subscribe.filters.iter().any(|(filter, options)| options.no_local && filter.starts_with("$share/")) {
            effects.send(link, Packet::Disconnect { reason: Reason::PROTOCOL_ERROR, expiry: None });
            effects.close.push(link);
            return self.gone(link, now, effects);
        }
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        let mut granted = Vec::new();
        let mut changed = false;
        for (filter, options) in subscribe.filters {
            let reason = self.grant(key, &filter);
            if let Err(why) = reason {
                self.complain(key, why, "subscribe to", &filter);
            }
            reasons.push(reason.err().unwrap_or(Reason(options.qos.into())));
            if reason.is_ok() {
                let subscriber = Subscriber { session: key, options, id: subscribe.subscription_id };
                let new = self.topics.subscribe(&filter, subscriber);
                if let Some(session) = self.sessions.get_mut(&key) {
                    let is = (options, subscribe.subscription_id);
                    changed |= session.subscriptions.insert(filter.clone(), is) != Some(is);
                }
                // A share gets no retained messages (MQTT 5.0, 4.8.2).
                if topic::split_share(&filter).is_none() {
                    granted.push((filter, options, new));
                }
            }
        }
        // Many clients subscribe anew at each connection: that is no reason to write.
        if changed {
            self.save(key);
            // A client that finds its session again does not subscribe anew.
            self.tail.hurry();
        }
        effects.send(link, Packet::SubAck { id: subscribe.id, reasons });
        for (filter, options, new) in granted {
            if options.retain_handling == RetainHandling::Send
                || options.retain_handling == RetainHandling::SendIfNew && new
            {
                self.owe(key, filter, options, subscribe.subscription_id);
            }
        }
        self.pump(key, now, effects);
    }

    fn grant(&self, key: SessionKey, filter: &str) -> Result<(), Reason> {
        topic::check_filter(filter).map_err(|_| Reason::TOPIC_FILTER_INVALID)?;
        let session = self.sessions.get(&key).ok_or(Reason::UNSPECIFIED)?;
        let trusted = session.connection.is_some_and(|c| c.trusted);
        if !trusted
            && session.subscriptions.len() >= self.limits.subscriptions
            && !session.subscriptions.contains_key(filter)
        {
            return Err(Reason::QUOTA_EXCEEDED);
        }
        if !trusted && !self.access.may_subscribe(session.user.as_deref(), &session.client_id, filter) {
            return Err(Reason::NOT_AUTHORIZED);
        }
        Ok(())
    }

    pub(super) fn unsubscribe(
        &mut self,
        key: SessionKey,
        link: LinkId,
        id: PacketId,
        filters: &[Arc<str>],
        effects: &mut Effects,
    ) {
        let reasons: Vec<_> = filters
            .iter()
            .map(|filter| {
                if topic::check_filter(filter).is_err() {
                    return Reason::TOPIC_FILTER_INVALID;
                }
                if let Some(session) = self.sessions.get_mut(&key) {
                    session.subscriptions.remove(filter);
                    session.owed.remove(filter);
                }
                if self.topics.unsubscribe(filter, key) { Reason::SUCCESS } else { Reason::NO_SUBSCRIPTION_EXISTED }
            })
            .collect();
        if reasons.contains(&Reason::SUCCESS) {
            self.save(key);
        }
        effects.send(link, Packet::UnsubAck { id, reasons });
    }

    /// Ends all subscriptions of a session; what waits for it stays.
    pub fn unsubscribe_all(&mut self, client_id: &str) {
        let Some(key) = self.by_client.get(client_id).copied() else { return };
        if let Some(session) = self.sessions.get_mut(&key) {
            session.owed = Owed::default();
            for filter in std::mem::take(&mut session.subscriptions).into_keys() {
                self.topics.unsubscribe(&filter, key);
            }
        }
        self.save(key);
    }
}
