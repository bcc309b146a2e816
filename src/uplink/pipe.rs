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
use crate::clock::Timestamp;
use crate::message::{Message, QoS};
use crate::mqtt::{Ack, ConnAck, Packet, PacketId, Publish, Reason};

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
    pub(super) acknowledged: Option<Timestamp>,
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
        let Some((topic, _)) = route(&self.down, &publish.message.topic) else {
            tracing::warn!("the cloud sent {}, which was not asked for", publish.message.topic);
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
            self.tally.acknowledged = Some(Timestamp::now());
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
mod tests {
    use super::*;

    fn id(n: u16) -> PacketId {
        PacketId::new(n).expect("not 0")
    }

    fn ack(n: u16, reason: Reason) -> Ack {
        Ack { id: id(n), reason }
    }

    fn publish(n: u16, qos: QoS, topic: &str) -> Publish {
        Publish {
            id: PacketId::new(n),
            dup: false,
            qos,
            retain: true,
            message: Arc::new(Message::retained(topic, "1")),
            topic_alias: None,
            subscription_ids: vec![9],
        }
    }

    fn rule(filter: &str, prefix: &str) -> Rule {
        Rule { filter: filter.into(), strip: String::new(), prefix: prefix.into(), qos: QoS::ExactlyOnce }
    }

    fn pipe() -> Pipe {
        Pipe::new([rule("plant/#", "up/")].into(), [rule("cmd/#", "")].into(), false)
    }

    fn local(pipe: &mut Pipe, packet: Packet) -> Out {
        let mut out = Out::default();
        pipe.local_sent(packet, &mut out).expect("the connection goes on");
        out
    }

    fn cloud(pipe: &mut Pipe, packet: Packet) -> Out {
        let mut out = Out::default();
        pipe.cloud_sent(packet, &mut out).expect("the connection goes on");
        out
    }

    fn nothing() -> Out {
        Out::default()
    }

    fn to_local(packet: Packet) -> Out {
        Out { local: vec![packet], ..nothing() }
    }

    fn to_cloud(packet: Packet) -> Out {
        Out { cloud: vec![packet], ..nothing() }
    }

    #[test]
    fn a_publish_goes_up_under_its_new_name_and_is_done_at_puback() {
        let mut pipe = pipe();
        let out = local(&mut pipe, Packet::Publish(publish(7, QoS::AtLeastOnce, "plant/a")));
        let [Packet::Publish(sent)] = &out.cloud[..] else { panic!("{out:?}") };
        assert_eq!((&*sent.message.topic, sent.id, sent.retain), ("up/plant/a", Some(id(7)), true));
        assert!(sent.subscription_ids.is_empty() && out.local.is_empty() && pipe.in_flight());
        let done = cloud(&mut pipe, Packet::PubAck(ack(7, Reason::NO_MATCHING_SUBSCRIBERS)));
        assert_eq!(done, to_local(Packet::PubAck(Ack::ok(id(7)))));
        assert_eq!((pipe.tally.sent, pipe.in_flight()), (1, false));
        // A second acknowledgement is of nothing.
        assert_eq!(cloud(&mut pipe, Packet::PubAck(ack(7, Reason::SUCCESS))), nothing());
        assert_eq!(pipe.tally.sent, 1);
    }

    #[test]
    fn what_an_echoing_cloud_would_send_back_does_not_go_up() {
        let (up, down) = ([rule("plant/#", "")], [rule("plant/+/set", "")]);
        let command = || Packet::Publish(publish(7, QoS::AtLeastOnce, "plant/pump/set"));
        let mut echoing = Pipe::new(up.clone().into(), down.clone().into(), true);
        assert_eq!(local(&mut echoing, command()), to_local(Packet::PubAck(Ack::ok(id(7)))));
        let reading = local(&mut echoing, Packet::Publish(publish(8, QoS::AtLeastOnce, "plant/pump")));
        assert_eq!(reading.cloud.len(), 1);
        let mut other = Pipe::new(up.into(), down.into(), false);
        assert_eq!(local(&mut other, command()).cloud.len(), 1);
    }

    #[test]
    fn a_qos_2_publish_stays_in_the_queue_until_the_cloud_has_completed_it() {
        let mut pipe = pipe();
        local(&mut pipe, Packet::Publish(publish(7, QoS::ExactlyOnce, "plant/a")));
        let released = cloud(&mut pipe, Packet::PubRec(ack(7, Reason::SUCCESS)));
        assert_eq!(released, to_cloud(Packet::PubRel(Ack::ok(id(7)))));
        let completed = cloud(&mut pipe, Packet::PubComp(ack(7, Reason::SUCCESS)));
        assert_eq!(completed, to_local(Packet::PubRec(Ack::ok(id(7)))));
        let end = local(&mut pipe, Packet::PubRel(Ack::ok(id(7))));
        assert_eq!(end, to_local(Packet::PubComp(Ack::ok(id(7)))));
    }

    #[test]
    fn a_cloud_with_less_gets_less_and_the_local_session_gets_its_own_acknowledgement() {
        let mut pipe = pipe();
        let limits =
            ConnAck { maximum_qos: QoS::AtLeastOnce, retain_available: false, ..ConnAck::new(Reason::SUCCESS) };
        pipe.connected(&limits, &mut nothing());
        let out = local(&mut pipe, Packet::Publish(publish(7, QoS::ExactlyOnce, "plant/a")));
        let [Packet::Publish(sent)] = &out.cloud[..] else { panic!("{out:?}") };
        assert_eq!((sent.qos, sent.retain), (QoS::AtLeastOnce, false));
        let done = cloud(&mut pipe, Packet::PubAck(ack(7, Reason::SUCCESS)));
        assert_eq!(done, to_local(Packet::PubRec(Ack::ok(id(7)))));

        pipe.connected(&ConnAck { maximum_qos: QoS::AtMostOnce, ..limits }, &mut nothing());
        let out = local(&mut pipe, Packet::Publish(publish(8, QoS::AtLeastOnce, "plant/a")));
        let [Packet::Publish(sent)] = &out.cloud[..] else { panic!("{out:?}") };
        assert_eq!((sent.qos, sent.id), (QoS::AtMostOnce, None));
        assert_eq!(out.local, [Packet::PubAck(Ack::ok(id(8)))]);
    }

    #[test]
    fn what_the_cloud_refuses_is_counted_and_the_queue_goes_on() {
        let mut pipe = pipe();
        local(&mut pipe, Packet::Publish(publish(1, QoS::AtLeastOnce, "plant/a")));
        local(&mut pipe, Packet::Publish(publish(2, QoS::ExactlyOnce, "plant/a")));
        let large = local(&mut pipe, Packet::Publish(publish(3, QoS::AtLeastOnce, "plant/a")));
        let refused = cloud(&mut pipe, Packet::PubAck(ack(1, Reason::NOT_AUTHORIZED)));
        assert_eq!(refused, to_local(Packet::PubAck(Ack::ok(id(1)))));
        let refused = cloud(&mut pipe, Packet::PubRec(ack(2, Reason::TOPIC_NAME_INVALID)));
        assert_eq!(refused, to_local(Packet::PubRec(Ack::ok(id(2)))));
        let [Packet::Publish(large)] = &large.cloud[..] else { panic!("{large:?}") };
        let mut out = nothing();
        pipe.too_large(large, &mut out);
        assert_eq!(out, to_local(Packet::PubAck(Ack::ok(id(3)))));
        assert_eq!((pipe.tally.refused, pipe.tally.sent, pipe.in_flight()), (3, 0, false));
    }

    #[test]
    fn a_cloud_that_is_full_for_now_is_tried_again_and_nothing_is_lost() {
        let mut pipe = pipe();
        local(&mut pipe, Packet::Publish(publish(1, QoS::AtLeastOnce, "plant/a")));
        let mut out = nothing();
        let error = pipe.cloud_sent(Packet::PubAck(ack(1, Reason::QUOTA_EXCEEDED)), &mut out).expect_err("it ends");
        assert!(error.contains("quota exceeded"), "{error}");
        assert_eq!((out, pipe.tally.refused), (nothing(), 0));
    }

    #[test]
    fn what_no_rule_wants_any_more_leaves_the_queue() {
        let mut pipe = pipe();
        let out = local(&mut pipe, Packet::Publish(publish(1, QoS::AtLeastOnce, "old/a")));
        assert_eq!(out, to_local(Packet::PubAck(Ack::ok(id(1)))));
        assert!(!pipe.in_flight());
    }

    #[test]
    fn commands_come_down_and_are_acknowledged_when_the_router_says_so() {
        let mut pipe = pipe();
        let out = cloud(&mut pipe, Packet::Publish(publish(5, QoS::ExactlyOnce, "cmd/pump")));
        let [Packet::Publish(command)] = &out.local[..] else { panic!("{out:?}") };
        assert_eq!((command.id, command.retain, out.cloud.len()), (Some(id(5)), true, 0));
        for (from_router, packet) in [
            (true, Packet::PubRec(Ack::ok(id(5)))),
            (false, Packet::PubRel(Ack::ok(id(5)))),
            (true, Packet::PubComp(Ack::ok(id(5)))),
        ] {
            if from_router {
                assert_eq!(local(&mut pipe, packet.clone()), to_cloud(packet));
            } else {
                assert_eq!(cloud(&mut pipe, packet.clone()), to_local(packet));
            }
        }
        assert_eq!(pipe.tally.received, 1);
        // What was not asked for is taken and goes nowhere.
        let out = cloud(&mut pipe, Packet::Publish(publish(6, QoS::ExactlyOnce, "other")));
        assert_eq!(out, to_cloud(Packet::PubRec(Ack::ok(id(6)))));
        let out = cloud(&mut pipe, Packet::PubRel(Ack::ok(id(6))));
        assert_eq!(out, to_cloud(Packet::PubComp(Ack::ok(id(6)))));
    }

    #[test]
    fn what_the_router_has_no_room_for_waits_unacknowledged_and_is_offered_again() {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let answer = |reason| match qos {
                QoS::ExactlyOnce => Packet::PubRec(ack(5, reason)),
                _ => Packet::PubAck(ack(5, reason)),
            };
            let mut pipe = pipe();
            let offered = cloud(&mut pipe, Packet::Publish(publish(5, qos, "cmd/pump")));
            let again = |pipe: &mut Pipe| {
                let mut out = nothing();
                pipe.offer_again(&mut out);
                out
            };
            assert_eq!(again(&mut pipe), nothing());
            for _ in 0..2 {
                assert_eq!(local(&mut pipe, answer(Reason::QUOTA_EXCEEDED)), nothing());
                assert_eq!(again(&mut pipe), offered);
                // While the router has it, it is not offered twice.
                assert_eq!(again(&mut pipe), nothing());
            }
            // Room at last.
            assert_eq!(local(&mut pipe, answer(Reason::SUCCESS)), to_cloud(answer(Reason::SUCCESS)));
            assert_eq!((again(&mut pipe), pipe.tally.received), (nothing(), 1));
            // Any other refusal is final.
            cloud(&mut pipe, Packet::Publish(publish(5, qos, "cmd/pump")));
            let refusal = answer(Reason::NOT_AUTHORIZED);
            assert_eq!(local(&mut pipe, refusal.clone()), to_cloud(refusal));
            assert_eq!(again(&mut pipe), nothing());
        }
    }

    #[test]
    fn what_waits_for_the_router_is_bounded() {
        let mut pipe = pipe();
        let mut refused = |n| {
            let message = Arc::new(Message::new("cmd/pump", vec![0; 4 << 20]));
            let publish = Publish { message, ..publish(n, QoS::AtLeastOnce, "cmd/pump") };
            cloud(&mut pipe, Packet::Publish(publish));
            pipe.local_sent(Packet::PubAck(ack(n, Reason::QUOTA_EXCEEDED)), &mut nothing())
        };
        assert!((1..=3).all(|n| refused(n).is_ok()));
        assert!(refused(4).expect_err("too much").contains("full"));
    }

    #[test]
    fn a_command_cut_off_does_not_make_the_next_one_look_like_a_repetition() {
        let mut pipe = pipe();
        cloud(&mut pipe, Packet::Publish(publish(5, QoS::ExactlyOnce, "cmd/pump")));
        let mut out = nothing();
        pipe.connected(&ConnAck::new(Reason::SUCCESS), &mut out);
        assert_eq!(out, to_local(Packet::PubRel(Ack::ok(id(5)))));
        // The answer to that is not the cloud's, which uses the id anew.
        cloud(&mut pipe, Packet::Publish(publish(5, QoS::ExactlyOnce, "cmd/pump")));
        assert_eq!(local(&mut pipe, Packet::PubComp(Ack::ok(id(5)))), nothing());
        let released = cloud(&mut pipe, Packet::PubRel(Ack::ok(id(5))));
        assert_eq!(released, to_local(Packet::PubRel(Ack::ok(id(5)))));
    }

    #[test]
    fn while_ending_nothing_new_goes_up_but_what_is_under_way_is_finished() {
        let mut pipe = pipe();
        local(&mut pipe, Packet::Publish(publish(1, QoS::AtLeastOnce, "plant/a")));
        pipe.drain();
        assert_eq!(local(&mut pipe, Packet::Publish(publish(2, QoS::AtLeastOnce, "plant/a"))), nothing());
        assert_ne!(pipe.free_id(), id(1));
        cloud(&mut pipe, Packet::PubAck(ack(1, Reason::SUCCESS)));
        assert!(!pipe.in_flight());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_known_how_long_the_cloud_has_owed_an_acknowledgement() {
        let mut pipe = pipe();
        assert_eq!(pipe.waiting_since(), None);
        tokio::time::advance(std::time::Duration::from_secs(60)).await;
        let start = Instant::now();
        local(&mut pipe, Packet::Publish(publish(1, QoS::AtLeastOnce, "plant/a")));
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        local(&mut pipe, Packet::Publish(publish(2, QoS::AtLeastOnce, "plant/a")));
        assert_eq!(pipe.waiting_since(), Some(start));
        cloud(&mut pipe, Packet::PubAck(ack(1, Reason::SUCCESS)));
        assert_eq!(pipe.waiting_since(), Some(Instant::now()));
    }
}
