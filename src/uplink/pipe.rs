//! What becomes of a packet between the local session and the cloud. Pure.
//!
//! Upwards the local session's packet ids are used at the cloud as well, so its in-flight window is the window. A
//! publish is acknowledged to the local session when the cloud is done with it: at PUBACK, or at PUBCOMP. (At PUBREC a
//! cloud may still forget a message when the connection ends; then the local session has to send it again.)
//!
//! Downwards it is the cloud that chooses the ids, and the router's acknowledgements are passed on as they come; but
//! what the router cannot take for now waits here and is offered again, as the cloud would take a refusal for final.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::address::Address;
use super::aside::{self, Asides};
use super::end::End;
use super::flight::{Flight, Leg};
use super::gate::{Gate, Outward};
use super::kept::{Begin, Kept};
use super::life::way;
use super::mark::Mark;
use super::pace::Pace;
use super::rules::Retain;
use super::strikes::{Ending, Strikes};
use super::way::{Stay, Way};
use crate::clock::Moment;
use crate::message::{Message, QoS};
use crate::mqtt::{Ack, ConnAck, Packet, PacketId, Publish, Reason};
use crate::rate::Rate;

/// Bytes from the cloud that may wait for the router.
const MAX_WAITING: usize = 16 << 20;

/// The state between the two sides.
#[derive(Debug)]
pub(super) struct Pipe {
    way: Way,
    maximum_qos: QoS,
    retain_available: bool,
    /// What has to wait before it goes up, what is on its way, and what is held against the first of it.
    gate: Gate,
    flight: Flight,
    strikes: Strikes,
    /// How long the cloud may owe an acknowledgement; none for ever.
    stuck: Option<Duration>,
    /// Whether the cloud has acknowledged something over this connection.
    acknowledged: bool,
    /// What the session that the cloud keeps for us knows of exchanges at QoS 2.
    kept: Kept,
    /// Publishes from the cloud that the router has not answered with more than "not now".
    offered: BTreeMap<PacketId, Offer>,
    /// QoS 2 publishes from the cloud that the router has not seen the end of. Outlives the connection.
    open: BTreeSet<PacketId>,
    /// Those whose end the router was told on the cloud's behalf; its answer is for nobody.
    closing: BTreeSet<PacketId>,
    mark: Mark,
    /// What waits for its time to go up.
    pace: Pace,
    /// Ending: nothing new goes up.
    draining: bool,
    /// The log has told of a message that is not carried over.
    told: bool,
    asides: Asides,
    pub(super) tally: Tally,
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Set aside, as the cloud takes them in no case, by reason.
    pub(super) aside: BTreeMap<&'static str, u64>,
    /// How often the cloud took no more for a while.
    pub(super) pauses: u64,
    pub(super) acknowledged: Option<Moment>,
    /// When the newest of those had entered.
    pub(super) newest: Option<Moment>,
}

/// Packets to be sent, by side.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Out {
    pub(super) cloud: Vec<Packet>,
    pub(super) local: Vec<Packet>,
}

impl Pipe {
    pub(super) fn new(way: Way) -> Self {
        Self {
            way,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            gate: Gate::new(),
            flight: Flight::new(),
            strikes: Strikes::default(),
            stuck: None,
            acknowledged: false,
            kept: Kept::default(),
            offered: BTreeMap::new(),
            open: BTreeSet::new(),
            closing: BTreeSet::new(),
            mark: Mark::None,
            pace: Pace::new(None),
            draining: false,
            told: false,
            asides: Asides::default(),
            tally: Tally::default(),
        }
    }

    /// The same, with messages marked and sent no faster than that.
    pub(super) fn with(self, mark: Mark, rate: Option<Rate>) -> Self {
        Self { mark, pace: Pace::new(rate), ..self }
    }

    /// The same, with a cloud that may owe an acknowledgement for so long.
    pub(super) fn patient(self, stuck: Duration) -> Self {
        Self { stuck: Some(stuck), ..self }
    }

    /// The next connection is to this address; `taken` when our status was published there and acknowledged.
    pub(super) fn heads_for(&mut self, address: &Address, taken: bool) {
        self.kept.heads_for(address);
        if taken {
            self.strikes.took_another();
        }
    }

    /// Both sides are connected anew, the cloud with these limits. Whether it `echoes` may differ each time.
    pub(super) fn connected(&mut self, cloud: &ConnAck, echoes: bool, out: &mut Out) {
        self.way.echoes = echoes;
        self.maximum_qos = cloud.maximum_qos;
        self.retain_available = cloud.retain_available;
        self.flight = Flight::new();
        self.pace.clear();
        self.gate.begin(self.strikes.caution());
        self.acknowledged = false;
        self.kept.connected(cloud.session_present);
        self.offered.clear();
        if cloud.session_present {
            // The cloud goes on with its exchanges where they were cut off, and so does the router.
            self.closing.clear();
            return;
        }
        // The cloud uses these ids for other messages now; the router would take those for repetitions.
        self.closing = std::mem::take(&mut self.open);
        out.local.extend(self.closing.iter().map(|id| Packet::PubRel(Ack::ok(*id))));
    }

    /// The connection has ended so: it tells how the next one is to begin.
    pub(super) fn ended(&mut self, end: &End) {
        let alone = self.gate.alone().and_then(|id| Some((id, self.flight.get(id)?.publish.message.size())));
        let ending = Ending {
            acknowledged: self.acknowledged,
            in_flight: !self.flight.is_empty(),
            alone,
            hung_up: end.hung_up,
            overdue: self.is_overdue(),
        };
        self.strikes.ended(ending);
    }

    /// Whether the cloud has owed an acknowledgement for too long.
    fn is_overdue(&self) -> bool {
        let Some(stuck) = self.stuck else { return false };
        let late = |since: Instant| since.elapsed() >= stuck + way(self.flight.largest());
        self.flight.waiting_since().is_some_and(late) || self.flight.passed_since().is_some_and(late)
    }

    /// Nothing new goes up from here on: what the local session sends now, it sends again next time.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.pace.clear();
        self.gate.clear();
    }

    /// What is under way to the cloud.
    pub(super) fn flight(&self) -> &Flight {
        &self.flight
    }

    /// Whether the cloud has acknowledged something over this connection.
    pub(super) fn has_acknowledged(&self) -> bool {
        self.acknowledged
    }

    /// Offers the router again what it had no room for.
    pub(super) fn offer_again(&mut self, out: &mut Out) {
        for offer in self.offered.values_mut().filter(|offer| offer.waits) {
            offer.waits = false;
            out.local.push(Packet::Publish(offer.publish.clone()));
        }
    }

    /// When the next publish that waits for its time goes up; none while none waits.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.pace.next_at()
    }

    /// Sends up what has waited for its time.
    pub(super) fn go_on(&mut self, out: &mut Out) {
        while let Some(publish) = self.pace.next(Instant::now()) {
            self.go_up(publish, out);
        }
    }

    /// A packet id that no publish under way uses.
    pub(super) fn free_id(&self) -> PacketId {
        let ids = (1..=u16::MAX).rev().filter_map(PacketId::new);
        ids.into_iter().find(|id| !self.flight.has(*id) && !self.kept.has(*id)).unwrap_or(PacketId::MAX)
    }

    /// A packet from the local session.
    ///
    /// # Errors
    /// When the connection to the cloud cannot go on; the text says why.
    pub(super) fn local_sent(&mut self, packet: Packet, out: &mut Out) -> Result<(), String> {
        match packet {
            // Nobody is owed this one, and there are more than may go up. To stop reading would hold up what the router has
            // to say as well, such as the acknowledgements of commands. All else is bounded by the session's window.
            Packet::Publish(publish) if publish.qos == QoS::AtMostOnce && !self.has_room() => {
                *self.tally.aside.entry(aside::TOO_FAST).or_default() += 1;
                self.asides.say_too_fast(&publish.message.topic);
            }
            Packet::Publish(publish) => {
                self.pace.push(publish);
                self.go_on(out);
            }
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
    pub(super) fn cloud_sent(&mut self, packet: Packet, out: &mut Out) -> Result<(), End> {
        self.strikes.heard();
        match packet {
            Packet::Publish(publish) => self.come_down(publish, out),
            Packet::PubAck(ack) => return self.done(ack, out),
            Packet::PubRec(ack) if ack.reason.is_error() => return self.done(ack, out),
            Packet::PubRec(ack) => {
                if self.flight.receive(ack.id) {
                    self.kept.received(ack.id);
                }
                out.cloud.push(Packet::PubRel(Ack::ok(ack.id)));
            }
            // The answer to a PUBREL that went before: see `Kept`.
            Packet::PubComp(ack) if self.flight.get(ack.id).is_none_or(|leg| !leg.received) => {}
            Packet::PubComp(ack) if ack.reason == Reason::PACKET_ID_NOT_FOUND => return self.forgotten(ack.id, out),
            // The cloud has had the message and is done with it.
            Packet::PubComp(ack) => return self.done(Ack::ok(ack.id), out),
            Packet::PubRel(ack) if self.open.contains(&ack.id) => out.local.push(Packet::PubRel(ack)),
            Packet::PubRel(ack) => out.cloud.push(Packet::PubComp(Ack::ok(ack.id))),
            Packet::Disconnect { reason, .. } => {
                return Err(End::disconnected(reason));
            }
            _ => {}
        }
        Ok(())
    }

    /// A publish that was to go up and is too large for the cloud: the queue goes on without it.
    pub(super) fn too_large(&mut self, publish: &Publish, out: &mut Out) {
        let Some(id) = publish.id else { return self.count_aside(&publish.message.topic, Reason::PACKET_TOO_LARGE) };
        if let Some(leg) = self.flight.take(id) {
            self.gate.arrived(id);
            self.set_aside(id, &leg, Reason::PACKET_TOO_LARGE, out);
            self.flow(out);
        }
    }

    /// Whether there is room for what nobody is owed.
    fn has_room(&self) -> bool {
        self.gate.has_room() && self.pace.has_room()
    }

    /// Sends what waited for its time.
    pub(super) fn flow(&mut self, out: &mut Out) {
        while let Some(outward) = self.gate.next() {
            self.set_out(outward, out);
        }
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
        let Publish { id, dup, qos, retain, message, place, .. } = publish;
        let passage = match self.way.up(&message) {
            Ok(passage) => passage,
            Err(why) => {
                // It entered the queue under a rule that the config no longer has, or it would come round.
                self.stays(&message, &why);
                let mut reason = Reason::SUCCESS;
                if self.way.withholds(&message, &why) {
                    reason = Reason::WOULD_COME_BACK;
                    self.count_aside(&message.topic, reason);
                }
                if let Some(id) = id {
                    answer(Ack { id, reason }, qos, out);
                }
                return;
            }
        };
        let up = qos.min(passage.qos).min(self.maximum_qos);
        let sent = Publish {
            id: id.filter(|_| up > QoS::AtMostOnce),
            dup: dup && up > QoS::AtMostOnce,
            qos: up,
            retain: retain && self.retain_available && passage.retain == Retain::Keep,
            message: place
                .iter()
                .fold(self.way.sent(message, &passage), |message, place| self.mark.on(message, *place)),
            topic_alias: None,
            subscription_ids: Vec::new(),
            place: None,
        };
        self.gate.push(Outward { publish: sent, local: (id, qos) });
        self.flow(out);
    }

    fn set_out(&mut self, Outward { publish, local: (local, qos) }: Outward, out: &mut Out) {
        let Some(id) = publish.id else {
            self.tally.sent += 1;
            if let Some(id) = local {
                acknowledge(id, qos, out);
            }
            return out.cloud.push(Packet::Publish(publish));
        };
        let begin = if publish.qos == QoS::ExactlyOnce { self.kept.begin(id, self.way.five) } else { Begin::Publish };
        self.flight.set_out(id, publish.clone(), qos, begin == Begin::Release);
        if self.gate.alone() == Some(id)
            && let Some(reason) = self.strikes.sends(id)
            && let Some(leg) = self.flight.take(id)
        {
            self.gate.arrived(id);
            self.kept.forget(id);
            return self.set_aside(id, &leg, reason, out);
        }
        if begin != Begin::Publish {
            out.cloud.push(Packet::PubRel(Ack::ok(id)));
        }
        if begin != Begin::Release {
            out.cloud.push(Packet::Publish(publish));
        }
        // The answer comes from behind the message: whether the cloud swallows it, or has not come to it.
        if self.gate.alone() == Some(id) {
            out.cloud.push(Packet::PingReq);
        }
    }

    fn come_down(&mut self, publish: Publish, out: &mut Out) {
        let passage = match self.way.down(&publish.message) {
            Ok(passage) => passage,
            Err(why) => {
                self.stays(&publish.message, &why);
                match publish.id {
                    Some(id) if publish.qos == QoS::AtLeastOnce => out.cloud.push(Packet::PubAck(Ack::ok(id))),
                    Some(id) => out.cloud.push(Packet::PubRec(Ack::ok(id))),
                    None => {}
                }
                return;
            }
        };
        if let Some(id) = publish.id.filter(|_| publish.qos == QoS::ExactlyOnce) {
            self.open.insert(id);
        }
        self.tally.received += 1;
        let retain = publish.retain && passage.retain == Retain::Keep;
        let message = self.way.received(publish.message, &passage);
        let publish = Publish { message, retain, topic_alias: None, subscription_ids: Vec::new(), ..publish };
        if let Some(id) = publish.id {
            self.offered.insert(id, Offer { publish: publish.clone(), waits: false, waited: false });
        }
        out.local.push(Packet::Publish(publish));
    }

    /// The cloud is done with a publish.
    fn done(&mut self, ack: Ack, out: &mut Out) -> Result<(), End> {
        let Some(leg) = self.flight.arrive(ack.id) else { return Ok(()) };
        self.kept.over(ack.id);
        match ack.reason {
            Reason::QUOTA_EXCEEDED => {
                let outward = Outward { local: (Some(ack.id), leg.local), publish: leg.publish };
                if self.gate.pause(outward) {
                    self.tally.pauses += 1;
                    self.asides.say_pause();
                }
                return Ok(());
            }
            // A session of ours that the cloud has and we do not know.
            Reason::PACKET_ID_IN_USE => {
                self.kept.forget(ack.id);
                return Err("the cloud has another message with the id of ours (0x91)".to_owned().into());
            }
            _ => {}
        }
        self.acknowledged = true;
        self.strikes.acknowledged(ack.id);
        self.gate.arrived(ack.id);
        if ack.reason.is_error() {
            self.set_aside(ack.id, &leg, ack.reason, out);
        } else {
            self.tally.sent += 1;
            self.tally.acknowledged = Some(Moment::now());
            self.tally.newest = newer(self.tally.newest, leg.publish.message.at);
            acknowledge(ack.id, leg.local, out);
        }
        self.flow(out);
        Ok(())
    }

    /// The cloud knows nothing of an exchange that was to be finished. If it has come back with an older session it has
    /// lost the message; if only its PUBCOMP was lost the message is there twice, which is the lesser evil.
    fn forgotten(&mut self, id: PacketId, out: &mut Out) -> Result<(), End> {
        let Some(publish) = self.flight.restart(id) else { return self.done(Ack::ok(id), out) };
        self.kept.over(id);
        out.cloud.push(Packet::Publish(publish));
        Ok(())
    }

    /// A message is not carried over.
    fn stays(&mut self, message: &Message, why: &Stay) {
        // One such message is worth telling; what comes round comes often.
        if std::mem::replace(&mut self.told, true) {
            tracing::debug!("{} is not carried over: {why}", message.topic);
        } else {
            tracing::warn!(
                "{} is not carried over: {why}. (Of others like it only the debug log tells.)",
                message.topic
            );
        }
    }

    /// The cloud will not have this one: the local session is told, and keeps it elsewhere.
    fn set_aside(&mut self, id: PacketId, leg: &Leg, reason: Reason, out: &mut Out) {
        self.count_aside(&leg.publish.message.topic, reason);
        answer(Ack { id, reason }, leg.local, out);
    }

    fn count_aside(&mut self, topic: &str, reason: Reason) {
        *self.tally.aside.entry(aside::name(reason)).or_default() += 1;
        self.asides.say(topic, reason);
    }

    fn warn_if_refused(&self, ack: Ack) {
        if ack.reason.is_error() {
            tracing::warn!("the local broker refused a message from the cloud: {}", super::login::meaning(ack.reason));
        }
    }
}

/// The newer of two moments of entering.
fn newer(known: Option<Moment>, entered: Moment) -> Option<Moment> {
    Some(known.filter(|known| known.wall > entered.wall).unwrap_or(entered))
}

/// Tells the local session that a publish of its `qos` has arrived.
fn acknowledge(id: PacketId, qos: QoS, out: &mut Out) {
    answer(Ack::ok(id), qos, out);
}

fn answer(ack: Ack, qos: QoS, out: &mut Out) {
    out.local.push(match qos {
        QoS::ExactlyOnce => Packet::PubRec(ack),
        _ => Packet::PubAck(ack),
    });
}

#[cfg(test)]
mod tests;
