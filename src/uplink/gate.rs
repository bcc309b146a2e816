//! What the local session has sent and the cloud is not to have yet, and when it goes on. Pure.
//!
//! | state | who may go | until |
//! |---|---|---|
//! | Open | all | |
//! | Quiet | nobody | its time is over: then Alone |
//! | Alone | the first of QoS 1 or 2, and what goes before it | that one is acknowledged: then Open |
//! | Paused | nobody | its time is over: then Open |
//!
//! A connection begins Open. After one that ended with nothing acknowledged, it begins with one message Alone: if that is
//! what the cloud cannot bear, no other is blamed for it. How many wait is bounded by the local session's window.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::strikes::Caution;
use crate::message::QoS;
use crate::mqtt::{PacketId, Publish};

/// How long a connection has to hold before it is put to the test.
const QUIET: Duration = Duration::from_secs(1);

/// Messages of QoS 0 have no window: with so many bytes here they find no room.
const MOST: usize = 8 << 20;

/// How long the cloud is left alone when it takes no more: from, and to.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A publish on its way up, as it is to be sent.
#[derive(Clone, Debug)]
pub(super) struct Outward {
    pub(super) publish: Publish,
    /// What it is to the local session.
    pub(super) local: (Option<PacketId>, QoS),
}

/// The gate of one connection.
#[derive(Debug)]
pub(super) struct Gate {
    state: State,
    held: VecDeque<Outward>,
    bytes: usize,
    /// How many at the front of `held` were sent before, and not taken.
    again: usize,
    pause: Duration,
    /// Not the first goes alone, but this one in turn of those behind it.
    other: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Quiet(Instant),
    Alone(Option<PacketId>),
    Paused(Instant),
}

impl Gate {
    pub(super) fn new() -> Self {
        Self { state: State::Open, held: VecDeque::new(), bytes: 0, again: 0, pause: PAUSE.0, other: None }
    }

    /// The gate of the next connection; what waited comes again from the local session.
    pub(super) fn begin(&mut self, caution: Caution) {
        let state = match caution {
            Caution::None => State::Open,
            Caution::Alone => State::Alone(None),
            Caution::AloneAfterAWhile | Caution::OtherAfterAWhile(_) => State::Quiet(Instant::now() + QUIET),
        };
        let other = if let Caution::OtherAfterAWhile(turn) = caution { Some(turn) } else { None };
        // How long the cloud was left alone outlives the connection.
        *self = Self { state, other, pause: self.pause, ..Self::new() };
    }

    pub(super) fn push(&mut self, outward: Outward) {
        self.bytes += outward.publish.message.size();
        self.held.push_back(outward);
    }

    /// The next that may go.
    pub(super) fn next(&mut self) -> Option<Outward> {
        match self.state {
            State::Quiet(until) if Instant::now() >= until => self.state = State::Alone(None),
            State::Paused(until) if Instant::now() >= until => self.state = State::Open,
            _ => {}
        }
        if !matches!(self.state, State::Open | State::Alone(None)) {
            return None;
        }
        let outward = match self.other() {
            Some(place) => self.held.remove(place),
            None => self.held.pop_front(),
        }?;
        self.bytes -= outward.publish.message.size();
        self.again = self.again.saturating_sub(1);
        if let (State::Alone(None), Some(id)) = (self.state, outward.publish.id) {
            self.state = State::Alone(Some(id));
        }
        Some(outward)
    }

    /// The place of the one that goes in place of the first; none when it is the first's turn, or no other waits.
    fn other(&mut self) -> Option<usize> {
        let turn = self.other.take()?;
        let places = self.held.iter().enumerate().filter(|(_, outward)| outward.publish.id.is_some());
        let behind: Vec<_> = places.skip(1).map(|(place, _)| place).collect();
        behind.get(turn.checked_rem(behind.len())?).copied()
    }

    /// Which one is alone under way.
    pub(super) fn alone(&self) -> Option<PacketId> {
        if let State::Alone(id) = self.state { id } else { None }
    }

    /// The cloud is done with a publish: it takes what it is sent.
    pub(super) fn arrived(&mut self, id: PacketId) {
        self.pause = PAUSE.0;
        if self.alone() == Some(id) {
            self.state = State::Open;
        }
    }

    /// The cloud takes no more for now: this one goes again, before all that waits, after a while that doubles from pause
    /// to pause. True when a pause begins.
    pub(super) fn pause(&mut self, outward: Outward) -> bool {
        self.bytes += outward.publish.message.size();
        self.held.insert(self.again, outward);
        self.again += 1;
        let begins = !matches!(self.state, State::Paused(_));
        if begins {
            self.state = State::Paused(Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(PAUSE.1);
        }
        begins
    }

    /// Whether more at QoS 0 finds room.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < MOST
    }

    /// Forgets what waits: the local session has it.
    pub(super) fn clear(&mut self) {
        (self.held, self.bytes, self.again) = (VecDeque::new(), 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::advance;

    use super::*;
    use crate::message::Message;

    fn outward(n: u16) -> Outward {
        let publish = Publish {
            id: PacketId::new(n),
            dup: false,
            qos: if n == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
            retain: false,
            message: Arc::new(Message::new("t", "x")),
            topic_alias: None,
            subscription_ids: Vec::new(),
            place: None,
        };
        Outward { local: (publish.id, publish.qos), publish }
    }

    fn out(gate: &mut Gate) -> Vec<u16> {
        std::iter::from_fn(|| gate.next()).map(|o| o.publish.id.map_or(0, PacketId::get)).collect()
    }

    fn id(n: u16) -> PacketId {
        PacketId::new(n).expect("not 0")
    }

    #[tokio::test(start_paused = true)]
    async fn one_goes_alone_until_it_is_acknowledged() {
        for (caution, wait) in [(Caution::Alone, Duration::ZERO), (Caution::AloneAfterAWhile, QUIET)] {
            let mut gate = Gate::new();
            gate.begin(caution);
            [0, 1, 2, 0].map(outward).into_iter().for_each(|o| gate.push(o));
            if !wait.is_zero() {
                assert!(out(&mut gate).is_empty());
            }
            advance(wait).await;
            assert_eq!((out(&mut gate), gate.alone()), (vec![0, 1], Some(id(1))));
            gate.arrived(id(9));
            assert!(out(&mut gate).is_empty());
            gate.arrived(id(1));
            assert_eq!((out(&mut gate), gate.alone()), (vec![2, 0], None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_goes_before_the_first_if_one_waits() {
        for (waiting, turn, first) in
            [(&[1, 0, 2, 3][..], 0, 2), (&[1, 0, 2, 3], 1, 3), (&[1, 0, 2, 3], 2, 2), (&[1], 4, 1)]
        {
            let mut gate = Gate::new();
            gate.begin(Caution::OtherAfterAWhile(turn));
            waiting.iter().for_each(|n| gate.push(outward(*n)));
            advance(QUIET).await;
            assert_eq!((out(&mut gate), gate.alone()), (vec![first], Some(id(first))));
            gate.arrived(id(first));
            let rest: Vec<_> = waiting.iter().copied().filter(|n| *n != first).collect();
            assert_eq!(out(&mut gate), rest);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_taken_goes_again_first_and_in_its_order_after_a_while_that_doubles() {
        let mut gate = Gate::new();
        let mut wait = 1;
        for _ in 0..8 {
            gate.push(outward(7));
            assert!(gate.pause(outward(5)) && !gate.pause(outward(6)));
            advance(Duration::from_secs(wait) - Duration::from_millis(1)).await;
            assert!(out(&mut gate).is_empty());
            advance(Duration::from_millis(1)).await;
            assert_eq!(out(&mut gate), [5, 6, 7]);
            wait = (wait * 2).min(30);
        }
        gate.arrived(id(5));
        gate.pause(outward(5));
        advance(PAUSE.0).await;
        assert_eq!((out(&mut gate), gate.has_room(), gate.bytes), (vec![5], true, 0));
    }
}
