//! What becomes of a packet between the local session and the cloud. Pure.
//!
//! Upwards the local session's packet ids are used at the cloud as well, so its in-flight window is the window. A
//! publish is acknowledged to the local session when the cloud is done with it: at PUBACK, or at PUBCOMP. (At PUBREC a
//! cloud may still forget a message when the connection ends; then the local session has to send it again.)
//!
//! Downwards it is the cloud that chooses the ids, and the router's acknowledgements are passed on as they come; but
//! what the router cannot take for now waits here and is offered again, as the cloud would take a refusal for final.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::rules::{Rule, route};
use crate::clock::Moment;
use crate::message::{Message, QoS};
use crate::mqtt::{Ack, ConnAck, Packet, PacketId, Publish, Reason, topic};

/// Bytes from the cloud that may wait for the router.
const MAX_WAITING: usize = 16 << 20;

/// The state between the two sides.
#[derive(Debug)]
pub(super) struct Pipe {
    up: Arc<[Rule]>,
    down: Arc<[Rule]>,
    /// The cloud sends us back what we publish on topics that we are subscribed to.
    echoes: bool,
    maximum_qos: QoS,
    retain_available: bool,
    /// Publishes under way to the cloud.
    legs: HashMap<PacketId, Leg>,
    /// When the first of `legs` set out, or the last acknowledgement came.
    progress: Instant,
    /// The bytes of `legs`.
    under_way: usize,
    /// Publishes from the cloud that the router has not answered with more than "not now".
    offered: BTreeMap<PacketId, Offer>,
    /// QoS 2 publishes from the cloud that the router has not seen the end of. Outlives the connection.
    open: BTreeSet<PacketId>,
    /// Those whose end the router was told on the cloud's behalf; its answer is for nobody.
    closing: BTreeSet<PacketId>,
    /// Ending: nothing new goes up.
    draining: bool,
    pub(super) tally: Tally,
}

/// A publish on its way up.
#[derive(Debug)]
struct Leg {
    local: QoS,
    topic: Arc<str>,
    bytes: usize,
}

/// A publish on its way down.
#[derive(Debug)]
struct Offer {
    publish: Publish,
    /// Whether the router had no room for it the last time; not while it has it, or it would have it twice.
    waits: bool,
    /// Whether it ever had none.
    waited: bool,
}

/// What was carried, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) refused: u64,
    pub(super) acknowledged: Option<Moment>,
}

/// Packets to be sent, by side.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Out {
    pub(super) cloud: Vec<Packet>,
    pub(super) local: Vec<Packet>,
}

impl Pipe {
    pub(super) fn new(up: Arc<[Rule]>, down: Arc<[Rule]>, echoes: bool) -> Self {
        Self {
            up,
            down,
            echoes,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            legs: HashMap::new(),
            progress: Instant::now(),
            under_way: 0,
            offered: BTreeMap::new(),
            open: BTreeSet::new(),
            closing: BTreeSet::new(),
            draining: false,
            tally: Tally::default(),
        }
    }

    /// Both sides are connected anew, the cloud with these limits.
    pub(super) fn connected(&mut self, cloud: &ConnAck, out: &mut Out) {
        self.maximum_qos = cloud.maximum_qos;
        self.retain_available = cloud.retain_available;
        self.legs.clear();
        self.under_way = 0;
        self.offered.clear();
        // The cloud uses these ids for other messages now; the router would take those for repetitions.
        self.closing = std::mem::take(&mut self.open);
        out.local.extend(self.closing.iter().map(|id| Packet::PubRel(Ack::ok(*id))));
    }

    /// Nothing new goes up from here on: what the local session sends now, it sends again next time.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether publishes are under way to the cloud.
    pub(super) fn in_flight(&self) -> bool {
        !self.legs.is_empty()
    }

    /// Since when the cloud owes an acknowledgement; none while it owes nothing.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.in_flight().then_some(self.progress)
    }

    /// The bytes of what the cloud has not acknowledged.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Offers the router again what it had no room for.
    pub(super) fn offer_again(&mut self, out: &mut Out) {
        for offer in self.offered.values_mut().filter(|offer| offer.waits) {
            offer.waits = false;
            out.local.push(Packet::Publish(offer.publish.clone()));
        }
    }

    /// A packet id that no publish under way uses.
    pub(super) fn free_id(&self) -> PacketId {
        let ids = (1..=u16::MAX).rev().filter_map(PacketId::new);
        ids.into_iter().find(|id| !self.legs.contains_key(id)).unwrap_or(PacketId::MAX)
    }

    /// A packet from the local session.
    ///
    /// # Errors
    /// When the connection to the cloud cannot go on; the text says why.
    pub(super) fn local_sent(&mut self, packet: Packet, out: &mut Out) -> Result<(), String> {
        match packet {
            Packet::Publish(publish) => self.go_up(publish, out),
            // The session has handed the message over; the cloud's part of it is done.
            Packet::PubRel(ack) => out.local.push(Packet::PubComp(Ack::ok(ack.id))),
            Packet::PubAck(ack) | Packet::PubRec(ack) if ack.reason == Reason::QUOTA_EXCEEDED => {
                return self.wait(ack.id);
            }
            Packet::PubAck(ack) => {
                self.warn_if_refused(ack);
                self.offered.remove(&ack.id);
                out.cloud.push(Packet::PubAck(ack));
            }
            Packet::PubRec(ack) => {
                self.warn_if_refused(ack);
                self.offered.remove(&ack.id);
                if ack.reason.is_error() {
                    self.open.remove(&ack.id);
                }
                out.cloud.push(Packet::PubRec(ack));
            }
            Packet::PubComp(ack) if self.closing.remove(&ack.id) => {}
            Packet::PubComp(ack) => {
                self.open.remove(&ack.id);
                out.cloud.push(Packet::PubComp(ack));
            }
            _ => {}
        }
        Ok(())
    }

    /// A packet from the cloud.
    ///
    /// # Errors
    /// When the connection cannot go on; the text says why.
    pub(super) fn cloud_sent(&mut self, packet: Packet, out: &mut Out) -> Result<(), String> {
        match packet {
            Packet::Publish(publish) => self.come_down(publish, out),
            Packet::PubAck(ack) => return self.done(ack, out),
            Packet::PubRec(ack) if ack.reason.is_error() => return self.done(ack, out),
            Packet::PubRec(ack) => {
                self.progress = Instant::now();
                out.cloud.push(Packet::PubRel(Ack::ok(ack.id)));
            }
            // Whatever its code: the cloud has had the message and is done with it.
            Packet::PubComp(ack) => return self.done(Ack::ok(ack.id), out),
            Packet::PubRel(ack) if self.open.contains(&ack.id) => out.local.push(Packet::PubRel(ack)),
            Packet::PubRel(ack) => out.cloud.push(Packet::PubComp(Ack::ok(ack.id))),
            Packet::Disconnect { reason, .. } => {
                return Err(format!("the cloud ended the connection: {}", super::mqtt::meaning(reason)));
            }
            _ => {}
        }
        Ok(())
    }

    /// A publish that was to go up and is too large for the cloud: the queue goes on without it.
    pub(super) fn too_large(&mut self, publish: &Publish, out: &mut Out) {
        self.refuse(&publish.message.topic, "it is larger than the cloud takes");
        if let Some(leg) = publish.id.and_then(|id| Some((id, self.arrive(id)?))) {
            acknowledge(leg.0, leg.1.local, out);
        }
    }

    /// Takes a publish off the way up.
    fn arrive(&mut self, id: PacketId) -> Option<Leg> {
        let leg = self.legs.remove(&id)?;
        self.under_way = self.under_way.saturating_sub(leg.bytes);
        Some(leg)
    }

    /// The router has no room for a publish from the cloud.
    fn wait(&mut self, id: PacketId) -> Result<(), String> {
        let Some(offer) = self.offered.get_mut(&id) else { return Ok(()) };
        offer.waits = true;
        if !offer.waited {
            offer.waited = true;
            let topic = &offer.publish.message.topic;
            tracing::warn!("the local broker has no room for {topic} from the cloud: it waits until there is some");
        }
        // Ending the connection at once would be worse: what went up over it is what makes room.
        let waiting = self.offered.values().filter(|offer| offer.waited);
        if waiting.map(|offer| offer.publish.message.size()).sum::<usize>() > MAX_WAITING {
            return Err("the local broker has no room for what the cloud sends: its store is full".into());
        }
        Ok(())
    }

    fn go_up(&mut self, publish: Publish, out: &mut Out) {
        if self.draining {
            return;
        }
        let Publish { id, dup, qos, retain, message, .. } = publish;
        let Some((topic, most)) = route(&self.up, &message.topic) else {
            // It entered the queue under a rule that the config no longer has.
            tracing::debug!("{} no longer goes to the cloud", message.topic);
            if let Some(id) = id {
                acknowledge(id, qos, out);
            }
            return;
        };
        if self.echoes && route(&self.down, &topic).is_some() {
            tracing::debug!("{topic} comes down, and so does not go up: the cloud would send it back");
            if let Some(id) = id {
                acknowledge(id, qos, out);
            }
            return;
        }
        let up = qos.min(most).min(self.maximum_qos);
        let sent = Publish {
            id: id.filter(|_| up > QoS::AtMostOnce),
            dup: dup && up > QoS::AtMostOnce,
            qos: up,
            retain: retain && self.retain_available,
            message: renamed(message, topic.clone()),
            topic_alias: None,
            subscription_ids: Vec::new(),
        };
        match sent.id {
            Some(id) => {
                if self.legs.is_empty() {
                    self.progress = Instant::now();
                }
                let bytes = sent.message.size();
                self.under_way += bytes;
                self.legs.insert(id, Leg { local: qos, topic, bytes });
            }
            None => {
                self.tally.sent += 1;
                if let Some(id) = id {
                    acknowledge(id, qos, out);
                }
            }
        }
        out.cloud.push(Packet::Publish(sent));
    }

    fn come_down(&mut self, publish: Publish, out: &mut Out) {
        let deep = topic::is_too_deep(&publish.message.topic);
        let Some((topic, _)) = route(&self.down, &publish.message.topic).filter(|_| !deep) else {
            let why = if deep { "which has more than 200 levels: it is dropped" } else { "which was not asked for" };
            tracing::warn!("the cloud sent {}, {why}", publish.message.topic);
            match publish.id {
                Some(id) if publish.qos == QoS::AtLeastOnce => out.cloud.push(Packet::PubAck(Ack::ok(id))),
                Some(id) => out.cloud.push(Packet::PubRec(Ack::ok(id))),
                None => {}
            }
            return;
        };
        if let Some(id) = publish.id.filter(|_| publish.qos == QoS::ExactlyOnce) {
            self.open.insert(id);
        }
        self.tally.received += 1;
        let message = renamed(publish.message, topic);
        let publish = Publish { message, topic_alias: None, subscription_ids: Vec::new(), ..publish };
        if let Some(id) = publish.id {
            self.offered.insert(id, Offer { publish: publish.clone(), waits: false, waited: false });
        }
        out.local.push(Packet::Publish(publish));
    }

    /// The cloud is done with a publish.
    fn done(&mut self, ack: Ack, out: &mut Out) -> Result<(), String> {
        // "Quota exceeded" passes; the message is sent again over the next connection.
        if ack.reason == Reason::QUOTA_EXCEEDED {
            return Err("the cloud takes no more for now: quota exceeded (0x97)".into());
        }
        let Some(leg) = self.arrive(ack.id) else { return Ok(()) };
        self.progress = Instant::now();
        if ack.reason.is_error() {
            self.refuse(&leg.topic, &super::mqtt::meaning(ack.reason));
        } else {
            self.tally.sent += 1;
            self.tally.acknowledged = Some(Moment::now());
        }
        acknowledge(ack.id, leg.local, out);
        Ok(())
    }

    fn refuse(&mut self, topic: &str, why: &str) {
        self.tally.refused += 1;
        tracing::error!("the cloud refused a message on {topic}: {why}. It is dropped, and the next ones go on");
    }

    fn warn_if_refused(&self, ack: Ack) {
        if ack.reason.is_error() {
            tracing::warn!("the local broker refused a message from the cloud: {}", super::mqtt::meaning(ack.reason));
        }
    }
}

/// Tells the local session that a publish of its `qos` has arrived.
fn acknowledge(id: PacketId, qos: QoS, out: &mut Out) {
    out.local.push(match qos {
        QoS::ExactlyOnce => Packet::PubRec(Ack::ok(id)),
        _ => Packet::PubAck(Ack::ok(id)),
    });
}

fn renamed(message: Arc<Message>, topic: Arc<str>) -> Arc<Message> {
    if message.topic == topic { message } else { Arc::new(Message { topic, ..(*message).clone() }) }
}

#[cfg(test)]
mod tests;
