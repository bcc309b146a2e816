//! Messages come in, and what their publishers are told.
//!
//! A QoS 2 publish of one packet id, as the session keeps it ([`Incoming`]); what the disk knows is in brackets:
//!
//! | state | PUBLISH | it is durable | PUBREL | the disk has forgotten |
//! |---|---|---|---|---|
//! | none | routed: Pending | | PUBCOMP 0x92 | |
//! | Pending | nothing | PUBREC: Received [id] | PUBCOMP 0x92 | |
//! | Received [id] | PUBREC | | Closing | |
//! | Closing | routed: Pending | | nothing | PUBCOMP: none |
//!
//! Only of a session that outlives its connection does the disk know anything; of others PUBREL leads from Received to
//! none. So it is with the gateway's own parts: an uplink begins its exchanges anew with each connection to its cloud.

use std::collections::HashMap;

use super::route::Origin;
use super::{Effects, Now, Publisher, Router, Waiter};
use crate::broker::session::{Incoming, LinkId};
use crate::broker::topics::SessionKey;
use crate::message::QoS;
use crate::mqtt::{Ack, Packet, PacketId, Publish, Reason, Version, topic};
use crate::store::{Handshake, QueueId};

/// For how many entries a publisher waits, by the number of the publish.
#[derive(Debug, Default)]
pub(super) struct Gates(HashMap<u64, usize>);

impl Gates {
    /// The publisher waits for one more entry.
    pub(super) fn hold(&mut self, number: u64) {
        *self.0.entry(number).or_default() += 1;
    }

    /// One of its entries is durable. True when the publisher waits for no other.
    fn opens(&mut self, number: u64) -> bool {
        let Some(left) = self.0.get_mut(&number) else { return true };
        *left -= 1;
        let opens = *left == 0;
        if opens {
            self.0.remove(&number);
        }
        opens
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Router {
    pub(super) fn published(
        &mut self,
        key: SessionKey,
        link: LinkId,
        publish: Publish,
        now: Now,
        effects: &mut Effects,
    ) {
        if self.held.has(link) {
            return self.hold(link, publish, now, effects);
        }
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some(connection) = session.connection else { return };
        let Some(id) = publish.id else {
            match self.may_publish(key, &publish.message.topic) {
                Ok(()) => self.publish(Origin::Client(key), publish.message, now, effects),
                Err(reason) => {
                    self.refused += 1;
                    self.complain(key, reason, "publish on", &publish.message.topic);
                }
            }
            return;
        };
        let qos = publish.qos;
        if qos == QoS::ExactlyOnce {
            match session.incoming.get(&id) {
                // The same again: it was routed, and its PUBREC goes out, or goes out again.
                Some(Incoming::Pending(_)) => return,
                Some(Incoming::Received { .. }) => return effects.send(link, Packet::PubRec(Ack::ok(id))),
                // It may not be used again before PUBCOMP; but if it is, its old exchange is over for the client.
                Some(Incoming::Closing) | None => {}
            }
        }
        let number = self.publishes;
        let refused = if let Err(reason) = self.may_publish(key, &publish.message.topic) {
            self.refused += 1;
            self.complain(key, reason, "publish on", &publish.message.topic);
            Some(reason)
        } else {
            if qos == QoS::ExactlyOnce
                && let Some(session) = self.session(key)
            {
                session.incoming.insert(id, Incoming::Pending(number));
            }
            let publisher = Publisher { session: key, link, id, qos, reason: Reason::SUCCESS, number };
            self.route(Origin::Publisher(publisher), publish.message.clone(), now, effects).err()
        };
        let Some(reason) = refused else { return };
        if let Some(session) = self.session(key) {
            session.incoming.remove(&id);
        }
        let ack = Ack { id, reason };
        match (connection.version, reason) {
            (Version::V31 | Version::V311, Reason::QUOTA_EXCEEDED) => self.hold(link, publish, now, effects),
            (_, _) if qos == QoS::AtLeastOnce => effects.send(link, Packet::PubAck(ack)),
            (version, _) => {
                if version != Version::V5
                    && let Some(session) = self.session(key)
                {
                    // PUBREL will follow.
                    session.incoming.insert(id, Incoming::Received { recorded: false });
                }
                effects.send(link, Packet::PubRec(ack));
            }
        }
    }

    fn may_publish(&self, key: SessionKey, topic: &str) -> Result<(), Reason> {
        if topic::is_too_deep(topic) {
            return Err(Reason::TOPIC_NAME_INVALID);
        }
        let session = self.sessions.get(&key).ok_or(Reason::UNSPECIFIED)?;
        let trusted = session.connection.is_some_and(|c| c.trusted);
        let may = trusted || self.access.may_publish(session.user.as_deref(), &session.client_id, topic);
        if may { Ok(()) } else { Err(Reason::NOT_AUTHORIZED) }
    }

    /// Tells the log what a client may not do.
    pub(super) fn complain(&self, key: SessionKey, reason: Reason, what: &str, topic: &str) {
        let Some(session) = self.sessions.get(&key) else { return };
        let (client, user) = (&session.client_id, session.user.as_deref().unwrap_or("none"));
        self.complaints.say(&format!("client {client}, user {user}, may not {what} {topic}: {}", reason.text()));
    }

    /// PUBREL: the client will not send this message again.
    pub(super) fn rel(&mut self, key: SessionKey, link: LinkId, ack: Ack, effects: &mut Effects) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        match (session.incoming.get(&ack.id), session.durable) {
            (Some(Incoming::Closing), _) => {}
            // It was not asked for yet. What is on its way to the disk is not called back: PUBREC will follow.
            (Some(Incoming::Pending(_)), Some(_)) if !session.is_of_the_gateway() => {
                let reason = Reason::PACKET_ID_NOT_FOUND;
                effects.send(link, Packet::PubComp(Ack { id: ack.id, reason }));
            }
            (Some(Incoming::Received { recorded: true }), Some(queue)) => {
                session.incoming.insert(ack.id, Incoming::Closing);
                let releaser = Waiter::Releaser { session: key, id: ack.id };
                self.tail.shake_hands(queue, Handshake::Received(ack.id), false, Some(releaser));
            }
            (known, _) => {
                let reason = if known.is_some() { Reason::SUCCESS } else { Reason::PACKET_ID_NOT_FOUND };
                session.incoming.remove(&ack.id);
                effects.send(link, Packet::PubComp(Ack { id: ack.id, reason }));
            }
        }
    }

    /// PUBCOMP: the disk has forgotten the id.
    pub(super) fn complete(&mut self, key: SessionKey, id: PacketId, effects: &mut Effects) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if session.incoming.get(&id) == Some(&Incoming::Closing) {
            session.incoming.remove(&id);
            if let Some(connection) = session.connection {
                effects.send(connection.link, Packet::PubComp(Ack::ok(id)));
            }
        }
    }

    /// Tells a publisher that its message is durable.
    pub(super) fn taken(&mut self, publisher: Publisher, effects: &mut Effects) {
        let Publisher { session, link, id, qos, reason, number } = publisher;
        if !self.gates.opens(number) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&session) else { return };
        let connection = session.connection.map(|c| c.link);
        if qos == QoS::AtLeastOnce {
            // A client that lost its connection meanwhile sends it again.
            if connection == Some(link) {
                effects.send(link, Packet::PubAck(Ack { id, reason }));
            }
        } else if session.incoming.get(&id) == Some(&Incoming::Pending(number)) {
            let recorded = self.records(publisher).is_some();
            let Some(session) = self.sessions.get_mut(&publisher.session) else { return };
            session.incoming.insert(id, Incoming::Received { recorded });
            if let Some(link) = connection {
                effects.send(link, Packet::PubRec(Ack { id, reason }));
            }
        }
    }

    /// Where the disk has to know of this publish: of QoS 2, by a client that may come back after the gateway's end.
    pub(super) fn records(&self, publisher: Publisher) -> Option<(QueueId, Handshake)> {
        let session = self.sessions.get(&publisher.session).filter(|s| !s.is_of_the_gateway())?;
        (publisher.qos == QoS::ExactlyOnce).then_some((session.durable?, Handshake::Received(publisher.id)))
    }
}
