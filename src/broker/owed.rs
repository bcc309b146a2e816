//! The retained messages that a session is still to get: a cursor into all of them for each new subscription, so that
//! however many there are, only the next few wait in its queue. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::retained::Retained;
use crate::clock::Moment;
use crate::message::Message;
use crate::mqtt::{SubscribeOptions, topic};
use crate::store::{Delivery, EntryId, NO_CLASS};

/// How many topics one subscription remembers that were overtaken: all of them would be memory without bound.
const AHEAD: usize = 10_000;

/// What is owed to one session.
#[derive(Debug, Default)]
pub struct Owed {
    cursors: Vec<Cursor>,
    /// The last entry that was taken from here, and the last one that left the session's queue.
    taken: EntryId,
    left: EntryId,
}

#[derive(Debug)]
struct Cursor {
    filter: Arc<str>,
    options: SubscribeOptions,
    subscription_id: Option<u32>,
    /// The last topic that was looked at.
    after: Option<Arc<str>>,
    /// Later topics of which the session has got something already.
    ahead: BTreeSet<Arc<str>>,
}

impl Owed {
    /// Owes all messages that match `filter`; once, also when they are owed already.
    pub fn add(&mut self, filter: Arc<str>, options: SubscribeOptions, subscription_id: Option<u32>) {
        self.remove(&filter);
        self.cursors.push(Cursor { filter, options, subscription_id, after: None, ahead: BTreeSet::new() });
    }

    /// The subscription to `filter` ended.
    pub fn remove(&mut self, filter: &str) {
        self.cursors.retain(|cursor| *cursor.filter != *filter);
    }

    pub fn is_empty(&self) -> bool {
        self.cursors.is_empty()
    }

    /// The next messages, of `most` at most, found among the next `scan` topics; and at how many it looked.
    pub fn take(
        &mut self,
        retained: &Retained,
        now: Moment,
        most: usize,
        scan: usize,
    ) -> (Vec<(Arc<Message>, Delivery)>, usize) {
        let (mut taken, mut scanned) = (Vec::new(), 0);
        if let Some(cursor) = self.cursors.first_mut() {
            let slice = retained.after(&cursor.filter, cursor.after.as_deref(), now, most, scan);
            scanned = slice.scanned;
            for message in slice.messages {
                if !cursor.ahead.remove(&message.topic) {
                    let delivery = cursor.delivery(&message);
                    taken.push((message, delivery));
                }
            }
            match slice.last {
                Some(last) => {
                    // Topics that were cleared meanwhile are not met any more.
                    cursor.ahead = cursor.ahead.split_off(&last);
                    cursor.after = Some(last);
                }
                None => drop(self.cursors.remove(0)),
            }
        }
        (taken, scanned)
    }

    /// Something newer on `topic` is about to enter the session's queue. How the retained message of that topic has to
    /// be delivered before, by each filter; it is not owed any more.
    pub fn overtaken(&mut self, topic: &str, retained: Option<&Message>) -> Vec<Delivery> {
        let mut before = Vec::new();
        for cursor in &mut self.cursors {
            if cursor.after.as_deref().is_none_or(|after| after < topic)
                && topic::matches(&cursor.filter, topic)
                && !cursor.ahead.contains(topic)
            {
                // Beyond that many it may come once more, with what is then the last value.
                if cursor.ahead.len() < AHEAD {
                    cursor.ahead.insert(topic.into());
                }
                before.extend(retained.map(|message| cursor.delivery(message)));
            }
        }
        before
    }

    /// Notes that an entry taken from here entered the queue.
    pub fn entered(&mut self, entry: EntryId) {
        self.taken = entry;
    }

    /// Notes that an entry left the queue.
    pub fn popped(&mut self, entry: EntryId) {
        self.left = entry;
    }

    /// Whether everything taken from here has left the queue.
    pub fn is_hungry(&self) -> bool {
        self.left >= self.taken
    }
}

impl Cursor {
    fn delivery(&self, message: &Message) -> Delivery {
        Delivery {
            qos: self.options.qos.min(message.qos),
            retain: true,
            subscription_ids: self.subscription_id.into_iter().collect(),
            seq: 0,
            class: NO_CLASS,
            share: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn retained(topics: &[&str]) -> Retained {
        let mut retained = Retained::default();
        topics.iter().for_each(|topic| retained.set(&Arc::new(Message::retained(*topic, "x"))));
        retained
    }

    fn owed(filter: &str) -> Owed {
        let mut owed = Owed::default();
        owed.add(filter.into(), SubscribeOptions::default(), Some(7));
        owed
    }

    fn next(owed: &mut Owed, retained: &Retained) -> Vec<String> {
        let (taken, _) = owed.take(retained, Timestamp(0).into(), 2, 3);
        assert!(taken.iter().all(|(_, delivery)| delivery.retain && delivery.subscription_ids == [7]));
        taken.iter().map(|(message, _)| message.topic.to_string()).collect()
    }

    #[test]
    fn slices_come_in_order_and_end() {
        let retained = retained(&["a/1", "a/2", "a/3", "b", "c", "d", "e", "f"]);
        let mut owed = owed("a/+");
        assert_eq!(next(&mut owed, &retained), ["a/1", "a/2"]);
        assert_eq!(next(&mut owed, &retained), ["a/3"]);
        assert!(owed.is_empty());
    }

    #[test]
    fn a_sparse_filter_goes_on_where_the_last_look_ended() {
        let retained = retained(&["a", "b", "c", "d/x", "e", "f/x"]);
        let mut owed = owed("+/x");
        assert_eq!(next(&mut owed, &retained), [""; 0]);
        assert_eq!(next(&mut owed, &retained), ["d/x", "f/x"]);
        assert_eq!(next(&mut owed, &retained), [""; 0]);
        assert!(owed.is_empty());
    }

    #[test]
    fn what_is_set_behind_the_cursor_does_not_come_and_what_is_replaced_before_it_comes_fresh() {
        let mut all = retained(&["a", "b", "c", "d"]);
        let mut owed = owed("#");
        assert_eq!(next(&mut owed, &all), ["a", "b"]);
        for topic in ["aa", "d"] {
            all.set(&Arc::new(Message::retained(topic, "new")));
        }
        let (rest, _) = owed.take(&all, Timestamp(0).into(), 2, 3);
        let rest: Vec<_> = rest.iter().map(|(m, _)| (&*m.topic, &m.payload[..])).collect();
        assert_eq!(rest, [("c", &b"x"[..]), ("d", b"new")]);
    }

    #[test]
    fn what_was_overtaken_does_not_come_again() {
        let all = retained(&["a", "b", "c"]);
        let mut owed = owed("#");
        let message = Message::retained("b", "x");
        assert_eq!(owed.overtaken("b", Some(&message)).len(), 1, "before the newer one");
        assert_eq!(owed.overtaken("b", Some(&message)).len(), 0, "and only once");
        assert_eq!(owed.overtaken("$b", None).len(), 0);
        assert_eq!(next(&mut owed, &all), ["a"]);
        assert_eq!(owed.overtaken("b", Some(&message)).len(), 0, "it has passed");
        assert_eq!(next(&mut owed, &all), ["c"]);
    }

    #[test]
    fn the_same_filter_is_owed_once_and_not_at_all_when_it_is_no_longer_subscribed_to() {
        let mut owed = owed("#");
        owed.add("#".into(), SubscribeOptions::default(), Some(7));
        let all = retained(&["a"]);
        assert_eq!(next(&mut owed, &all), ["a"]);
        assert!(owed.is_empty());
        owed.add("#".into(), SubscribeOptions::default(), Some(7));
        owed.remove("#");
        assert!(owed.is_empty());
    }
}
