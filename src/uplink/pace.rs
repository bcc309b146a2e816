//! How fast messages go up: what has come from the local session and may not go yet. Pure.
//!
//! Only publishes wait here. Acknowledgements and pings pass by.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::mqtt::Publish;
use crate::rate::{Bucket, Rate};

/// Bytes that may wait here before QoS 0 finds no room: the local session's window bounds all else.
const MOST: usize = 4 << 20;

/// The pace, with what it holds back.
#[derive(Debug)]
pub(super) struct Pace {
    bucket: Option<Bucket>,
    held: VecDeque<Publish>,
    /// The bytes of `held`.
    bytes: usize,
    /// When the first of `held` may go.
    next_at: Option<Instant>,
}

impl Pace {
    /// As fast as `rate`; without one, nothing is held back.
    pub(super) fn new(rate: Option<Rate>) -> Self {
        let bucket = rate.map(|rate| Bucket::new(rate, Instant::now()));
        Self { bucket, held: VecDeque::new(), bytes: 0, next_at: None }
    }

    /// Adds a publish behind those that wait.
    pub(super) fn push(&mut self, publish: Publish) {
        self.bytes += publish.message.size();
        self.held.push_back(publish);
    }

    /// Takes the first publish, if it may go now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Publish> {
        self.next_at = None;
        let message = &self.held.front()?.message;
        let bytes = message.topic.len() + message.payload.len();
        if let Some(Err(at)) = self.bucket.as_mut().map(|bucket| bucket.take(bytes, now)) {
            self.next_at = Some(at);
            return None;
        }
        let publish = self.held.pop_front()?;
        self.bytes -= publish.message.size();
        Some(publish)
    }

    /// When [`Pace::next`] has one, after it had none; none while nothing waits.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    /// Whether more at QoS 0 may be pushed.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < MOST
    }

    /// Forgets what waits: it comes again over the next connection. The pace stays.
    pub(super) fn clear(&mut self) {
        self.held.clear();
        (self.bytes, self.next_at) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::message::{Message, QoS};
    use crate::mqtt::PacketId;

    fn publish(n: u16) -> Publish {
        Publish {
            id: PacketId::new(n),
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            message: Arc::new(Message::new("t", vec![b'x'; 99])),
            topic_alias: None,
            subscription_ids: Vec::new(),
            place: None,
        }
    }

    fn ids(pace: &mut Pace, now: Instant) -> Vec<u16> {
        std::iter::from_fn(|| pace.next(now)).map(|publish| publish.id.map_or(0, PacketId::get)).collect()
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let mut pace = Pace::new(None);
        (1..=3).for_each(|n| pace.push(publish(n)));
        assert_eq!((ids(&mut pace, Instant::now()), pace.next_at()), (vec![1, 2, 3], None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_goes_in_order_when_its_time_has_come() {
        let mut pace = Pace::new(Some(Rate { messages: Some(2), bytes: None }));
        (1..=5).for_each(|n| pace.push(publish(n)));
        let start = Instant::now();
        assert_eq!(ids(&mut pace, start), [1, 2]);
        let at = pace.next_at().expect("three wait");
        assert_eq!(at - start, Duration::from_millis(500));
        assert_eq!(ids(&mut pace, at), [3]);
        assert_eq!(ids(&mut pace, start + Duration::from_secs(10)), [4, 5]);
        assert_eq!(pace.next_at(), None);
    }

    #[test]
    fn so_much_waits_and_no_more_and_a_lost_connection_takes_it() {
        let mut pace = Pace::new(Some(Rate { messages: Some(1), bytes: None }));
        let each = publish(1).message.size();
        (0..MOST.div_ceil(each)).for_each(|_| pace.push(publish(1)));
        assert!(!pace.has_room());
        assert_eq!(ids(&mut pace, Instant::now()).len(), 1);
        pace.clear();
        assert!(pace.has_room() && pace.next_at().is_none());
        pace.push(publish(2));
        assert!(ids(&mut pace, Instant::now()).is_empty(), "the pace stays");
    }
}
