//! Whether the connection to the cloud still lives: keep alive both ways, and acknowledgements that are overdue.

use std::time::Duration;

use tokio::time::Instant;

use super::flight::Flight;

/// The slowest way that is one, in bytes a second: a poor radio link. A message may take that long.
const SLOWEST: u64 = 1024;

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
    pub(super) received: Instant,
    pinged: Instant,
}

/// How long bytes may take on their way.
pub(super) fn way(bytes: usize) -> Duration {
    Duration::from_secs(bytes as u64 / SLOWEST)
}

impl Life {
    pub(super) fn new(keep_alive: Duration, stuck: Duration, tick: Duration) -> Self {
        let now = Instant::now();
        let keep_alive = (!keep_alive.is_zero()).then_some(keep_alive);
        Self { keep_alive, stuck, tick, sent: now, received: now, pinged: now }
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
        if let Some(keep_alive) = self.keep_alive
            && self.received.elapsed() >= keep_alive.mul_f64(1.5) + way
        {
            return Some(format!("no sign of the cloud for {} s", self.received.elapsed().as_secs()));
        }
        let late = |since: &Instant| since.elapsed() >= self.stuck + way;
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
}
