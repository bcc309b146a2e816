//! Whether the connection to the cloud still lives: keep alive both ways, and acknowledgements that are overdue.

use std::time::Duration;

use tokio::time::Instant;

use super::flight::Flight;
use super::traffic::{LONGEST, SLOWEST, Traffic, flows};

/// When the connection was last used, in both directions.
#[derive(Debug)]
pub(super) struct Life {
    /// None when the cloud wants no keep alive.
    keep_alive: Option<Duration>,
    /// How long the cloud may owe an acknowledgement, besides what the way takes.
    stuck: Duration,
    /// How often somebody looks.
    tick: Duration,
    pub(super) sent: Instant,
    received: Instant,
    pinged: Instant,
    /// When the cloud last took some of what waited to be sent.
    taken: Instant,
    /// When bytes last moved at the pace of a slow way: what is overdue may stand behind them.
    flowed: Instant,
    /// When somebody looked last, and what had come and gone then.
    looked: (Instant, u64, u64),
}

/// How long bytes may take on their way.
pub(super) fn way(bytes: usize) -> Duration {
    Duration::from_secs(bytes as u64 / SLOWEST)
}

impl Life {
    pub(super) fn new(keep_alive: Duration, stuck: Duration, tick: Duration) -> Self {
        let now = Instant::now();
        let keep_alive = (!keep_alive.is_zero()).then_some(keep_alive);
        Self {
            keep_alive,
            stuck,
            tick,
            sent: now,
            received: now,
            pinged: now,
            taken: now,
            flowed: now,
            looked: (now, 0, 0),
        }
    }

    /// Looks what has moved since the last time. What is not in the way of anything `unsent` says nothing: the kernel takes
    /// it for a cloud that is gone as well.
    pub(super) fn look(&mut self, traffic: &Traffic, unsent: bool) {
        let (now, received, sent) = (Instant::now(), traffic.received(), traffic.sent());
        let (since, came, went) = std::mem::replace(&mut self.looked, (now, received, sent));
        let (came, went) = (received - came, if unsent { sent - went } else { 0 });
        if came > 0 {
            self.received = now;
        }
        if went > 0 {
            self.taken = now;
        }
        if flows(came.max(went), now - since) {
            self.flowed = now;
        }
    }

    /// Whether the cloud waits for a sign of us, or we for one of it.
    pub(super) fn ping_is_due(&mut self) -> bool {
        let Some(keep_alive) = self.keep_alive else { return false };
        let due = self.sent.min(self.received).max(self.pinged) + keep_alive.saturating_sub(self.tick);
        let due = Instant::now() >= due;
        if due {
            self.pinged = Instant::now();
        }
        due
    }

    /// Why the connection counts as dead, if it does.
    pub(super) fn over(&self, flight: &Flight) -> Option<String> {
        // A ping and its answer wait behind what is under way as well.
        let way = way(flight.largest());
        let sign = self.received.max(self.taken);
        if let Some(keep_alive) = self.keep_alive
            && sign.elapsed() >= keep_alive.mul_f64(1.5) + way
        {
            return Some(format!("no sign of the cloud for {} s", sign.elapsed().as_secs()));
        }
        let behind = |since: Instant| since.max(self.flowed.min(since + LONGEST));
        let late = |since: &Instant| behind(*since).elapsed() >= self.stuck + way;
        if let Some(owed) = flight.waiting_since().filter(late) {
            return Some(format!("the cloud acknowledges nothing for {} s", owed.elapsed().as_secs()));
        }
        let passed = flight.passed_since().filter(late)?;
        let seconds = passed.elapsed().as_secs();
        Some(format!("the cloud has left out a message and acknowledged later ones for {seconds} s"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::advance;

    use super::*;
    use crate::message::{Message, QoS};
    use crate::mqtt::{PacketId, Publish};

    const SECOND: Duration = Duration::from_secs(1);

    fn life(keep_alive: Duration) -> Life {
        Life::new(keep_alive, 20 * SECOND, SECOND / 2)
    }

    /// Under way are so many of this size.
    fn flight(count: u16, bytes: usize) -> Flight {
        let mut flight = Flight::new();
        for id in (1..=count).filter_map(PacketId::new) {
            let publish = Publish {
                id: Some(id),
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                message: Arc::new(Message::new("a", vec![0; bytes])),
                topic_alias: None,
                subscription_ids: Vec::new(),
                place: None,
            };
            flight.set_out(id, publish, QoS::AtLeastOnce, false);
        }
        flight
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_way_is_given_the_time_that_it_takes() {
        // 200 KiB over 64 kbit/s take 26 s.
        let (small, large, life) = (flight(1, 10), flight(1, 200 << 10), life(Duration::ZERO));
        advance(20 * SECOND).await;
        assert!(life.over(&small).is_some_and(|why| why.contains("acknowledges nothing for 20 s")));
        assert_eq!(life.over(&large), None);
        advance(199 * SECOND).await;
        assert_eq!(life.over(&large), None);
        advance(SECOND).await;
        assert!(life.over(&large).is_some());
    }

    /// 10 kB/s: a whole window is on its way for 25 s, but something arrives all the time.
    #[tokio::test(start_paused = true)]
    async fn a_full_window_on_a_slow_line_is_no_reason_and_one_on_a_dead_line_is_found_soon() {
        let (mut flight, life) = (flight(250, 1000), life(Duration::ZERO));
        for id in (1..=200).filter_map(PacketId::new) {
            advance(SECOND / 10).await;
            assert_eq!(life.over(&flight), None);
            flight.arrive(id);
        }
        advance(21 * SECOND).await;
        assert!(life.over(&flight).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_acknowledgement_that_is_swallowed_is_missed_while_others_come() {
        let (mut flight, life) = (flight(40, 10), life(Duration::ZERO));
        let mut why = None;
        for id in (2..=40).filter_map(PacketId::new) {
            flight.arrive(id);
            advance(SECOND).await;
            why = why.or(life.over(&flight).map(|why| (id.get(), why)));
        }
        let (id, why) = why.expect("it is missed");
        assert!(id == 21 && why.contains("left out"), "{id}: {why}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_a_ping_may_wait_behind_what_is_under_way() {
        let (mut large, life) = (flight(1, 200 << 10), life(4 * SECOND));
        advance(10 * SECOND).await;
        assert_eq!(life.over(&large), None);
        large.arrive(PacketId::MIN);
        assert!(life.over(&large).is_some_and(|why| why.contains("no sign of the cloud")));
    }

    /// 10 kB/s; a packet of 1 MB comes down or goes up.
    #[tokio::test(start_paused = true)]
    async fn bytes_that_move_are_a_sign_of_life_and_what_is_overdue_may_stand_behind_them() {
        for up in [false, true] {
            let (mut life, flight, traffic) = (life(4 * SECOND), flight(1, 10), Traffic::default());
            for _ in 0..200 {
                advance(SECOND / 2).await;
                traffic.add(5000 * u64::from(!up), 5000 * u64::from(up));
                life.look(&traffic, true);
                assert_eq!(life.over(&flight), None);
            }
            for _ in 0..12 {
                advance(SECOND / 2).await;
                // What the kernel takes when nothing is in the way says nothing.
                traffic.add(0, 5000);
                life.look(&traffic, false);
            }
            assert!(life.over(&flight).is_some_and(|why| why.contains("no sign of the cloud for 6 s")));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_to_pings_do_not_stand_for_acknowledgements() {
        let (mut life, flight, traffic) = (life(4 * SECOND), flight(1, 10), Traffic::default());
        for _ in 0..10 {
            assert_eq!(life.over(&flight), None);
            advance(2 * SECOND).await;
            traffic.add(26, 26);
            life.look(&traffic, true);
        }
        assert!(life.over(&flight).is_some_and(|why| why.contains("acknowledges nothing for 20 s")));
    }
}
