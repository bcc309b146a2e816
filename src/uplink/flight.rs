//! What is under way to the cloud: publishes that were sent and are not done, in the order in which they set out. Pure.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;

use crate::message::QoS;
use crate::mqtt::{PacketId, Publish};

/// All that is under way over one connection.
#[derive(Debug)]
pub(super) struct Flight {
    legs: HashMap<PacketId, Leg>,
    order: BTreeMap<u64, PacketId>,
    /// How many have set out.
    last: u64,
    /// When the first of them set out, or the last acknowledgement came.
    progress: Instant,
    /// Since when the cloud has acknowledged a later one than some that it has not, and which.
    passed: Option<(Instant, u64)>,
}

/// One publish.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    /// As it was sent.
    pub(super) publish: Publish,
    /// What it is to the local session.
    pub(super) local: QoS,
    /// QoS 2: the cloud has it (PUBREC).
    pub(super) received: bool,
    /// It had it over an earlier connection, and may have forgotten it.
    resumed: bool,
    number: u64,
}

impl Flight {
    pub(super) fn new() -> Self {
        Self { legs: HashMap::new(), order: BTreeMap::new(), last: 0, progress: Instant::now(), passed: None }
    }

    /// A publish of `local` quality of service sets out; `received` when the cloud had it over an earlier connection.
    pub(super) fn set_out(&mut self, id: PacketId, publish: Publish, local: QoS, received: bool) {
        if self.legs.is_empty() {
            self.progress = Instant::now();
        }
        self.last += 1;
        self.order.insert(self.last, id);
        if let Some(before) =
            self.legs.insert(id, Leg { publish, local, received, resumed: received, number: self.last })
        {
            self.order.remove(&before.number);
        }
    }

    /// The publish with this id.
    pub(super) fn get(&self, id: PacketId) -> Option<&Leg> {
        self.legs.get(&id)
    }

    /// The cloud has it. False when it is not under way.
    pub(super) fn receive(&mut self, id: PacketId) -> bool {
        let Some(leg) = self.legs.get_mut(&id) else { return false };
        leg.received = true;
        self.progress = Instant::now();
        true
    }

    /// The cloud does not know it: what is to be sent again if that is possible, which is the case for what it had over an
    /// earlier connection only.
    pub(super) fn restart(&mut self, id: PacketId) -> Option<Publish> {
        let leg = self.legs.get_mut(&id).filter(|leg| leg.received && leg.resumed)?;
        (leg.received, leg.resumed) = (false, false);
        self.progress = Instant::now();
        Some(leg.publish.clone())
    }

    /// The cloud is done with it.
    pub(super) fn arrive(&mut self, id: PacketId) -> Option<Leg> {
        let leg = self.take(id)?;
        self.progress = Instant::now();
        if self.is_older(leg.number) {
            self.passed.get_or_insert((self.progress, leg.number));
        }
        Some(leg)
    }

    /// Takes one off the way, without a word of the cloud.
    pub(super) fn take(&mut self, id: PacketId) -> Option<Leg> {
        let leg = self.legs.remove(&id)?;
        self.order.remove(&leg.number);
        if self.passed.is_some_and(|(_, number)| !self.is_older(number)) {
            self.passed = None;
        }
        Some(leg)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.legs.is_empty()
    }

    /// Whether this id is in use.
    pub(super) fn has(&self, id: PacketId) -> bool {
        self.legs.contains_key(&id)
    }

    /// Since when the cloud owes an acknowledgement; none while it owes nothing.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        (!self.is_empty()).then_some(self.progress)
    }

    /// Since when it has left one out and acknowledged later ones.
    pub(super) fn passed_since(&self) -> Option<Instant> {
        self.passed.map(|(since, _)| since)
    }

    /// The bytes of the largest: the next acknowledgement may wait until those are through. What stands behind it has not
    /// to be, as each is acknowledged when it is.
    pub(super) fn largest(&self) -> usize {
        self.legs.values().map(|leg| leg.publish.message.size()).max().unwrap_or(0)
    }

    /// Whether one is under way that set out before this one.
    fn is_older(&self, number: u64) -> bool {
        self.order.first_key_value().is_some_and(|(first, _)| *first < number)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::message::Message;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(n: u16) -> PacketId {
        PacketId::new(n).expect("not 0")
    }

    fn set_out(flight: &mut Flight, n: u16) {
        let publish = Publish {
            id: PacketId::new(n),
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            message: Arc::new(Message::new("t", vec![0; n.into()])),
            topic_alias: None,
            subscription_ids: Vec::new(),
            place: None,
        };
        flight.set_out(id(n), publish, QoS::AtLeastOnce, false);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_known_how_long_the_cloud_has_owed_an_acknowledgement() {
        let mut flight = Flight::new();
        assert_eq!(flight.waiting_since(), None);
        advance(60 * SECOND).await;
        let start = Instant::now();
        set_out(&mut flight, 1);
        advance(5 * SECOND).await;
        set_out(&mut flight, 2);
        assert_eq!(flight.waiting_since(), Some(start));
        flight.arrive(id(1));
        assert_eq!(flight.waiting_since(), Some(Instant::now()));
        flight.arrive(id(2));
        assert!(flight.waiting_since().is_none() && flight.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_left_out_shows_however_many_others_arrive() {
        let mut flight = Flight::new();
        (1..=3).for_each(|n| set_out(&mut flight, n));
        flight.arrive(id(1));
        assert_eq!(flight.passed_since(), None);
        flight.arrive(id(3));
        let since = Instant::now();
        for n in 4..10 {
            advance(SECOND).await;
            set_out(&mut flight, n);
            flight.arrive(id(n));
            assert_eq!(flight.passed_since(), Some(since));
        }
        // One that sets out later has been passed by nobody.
        set_out(&mut flight, 10);
        flight.arrive(id(2));
        assert_eq!((flight.passed_since(), flight.largest() > 10), (None, true));
    }
}
