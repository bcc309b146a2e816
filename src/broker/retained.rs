//! The last message of each topic that asked to be retained. Pure.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Moment;
use crate::message::Message;
use crate::mqtt::topic;

/// All retained messages, by topic.
#[derive(Debug, Default)]
pub struct Retained {
    messages: BTreeMap<Arc<str>, Arc<Message>>,
    bytes: usize,
    /// How many are on `$` topics: the gateway's own.
    own: usize,
}

/// Some of the messages that match a filter.
#[derive(Debug, Default)]
pub struct Slice {
    pub messages: Vec<Arc<Message>>,
    /// The topic behind which to go on; `None` when there are no more.
    pub last: Option<Arc<str>>,
    /// How many topics were looked at.
    pub scanned: usize,
}

impl Retained {
    /// Keeps `message` for its topic; an empty payload clears it (MQTT 5.0, 3.3.1.3).
    pub fn set(&mut self, message: &Arc<Message>) {
        let count = self.messages.len();
        let before = if message.payload.is_empty() {
            self.messages.remove(&message.topic)
        } else {
            self.bytes += message.size();
            self.messages.insert(message.topic.clone(), message.clone())
        };
        if message.topic.starts_with('$') {
            self.own = self.own + self.messages.len() - count;
        }
        self.bytes -= before.map_or(0, |before| before.size());
    }

    /// Whether `message` fits into a bound of so many messages and bytes: one that clears always does, one that takes no
    /// more room than the one that it replaces, and the gateway's own on `$` topics.
    pub fn has_room(&self, message: &Message, most: usize, bytes: usize) -> bool {
        if message.topic.starts_with('$') || message.payload.is_empty() {
            return true;
        }
        let before = self.messages.get(&message.topic).map(|before| before.size());
        let more = message.size().saturating_sub(before.unwrap_or(0));
        (before.is_some() || self.published() < most) && (more == 0 || self.bytes + more <= bytes)
    }

    /// The message of this topic.
    pub fn get(&self, topic: &str, now: Moment) -> Option<&Arc<Message>> {
        self.messages.get(topic).filter(|message| !message.expired(now))
    }

    /// The messages that match `filter` on topics behind `after`, in order, without those that have expired: at most
    /// `most`, found among the next `scan` topics.
    pub fn after(&self, filter: &str, after: Option<&str>, now: Moment, most: usize, scan: usize) -> Slice {
        let Some(wildcard) = filter.find(['+', '#']) else {
            let messages = self.get(filter, now).filter(|_| after.is_none()).cloned().into_iter().collect();
            return Slice { messages, last: None, scanned: 1 };
        };
        // Everything before the first wildcard is common to all matches, so that only a part of the map is looked at.
        let prefix = &filter[..wildcard];
        let prefix = prefix.strip_suffix('/').filter(|_| filter.ends_with("/#")).unwrap_or(prefix);
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let mut slice = Slice::default();
        let topics = self.messages.range::<str, _>((from, Bound::Unbounded));
        for (n, (topic, message)) in topics.take_while(|(topic, _)| topic.starts_with(prefix)).enumerate() {
            if n == scan || slice.messages.len() == most {
                return slice;
            }
            slice.last = Some(topic.clone());
            slice.scanned += 1;
            if topic::matches(filter, topic) && !message.expired(now) {
                slice.messages.push(message.clone());
            }
        }
        slice.last = None;
        slice
    }

    /// Forgets the messages that have expired; returns what clears them from the store.
    pub fn expire(&mut self, now: Moment) -> Vec<Arc<Message>> {
        let (mut bytes, mut own) = (0, 0);
        let cleared = self
            .messages
            .extract_if(.., |_, message| message.expired(now))
            .map(|(topic, message)| {
                bytes += message.size();
                own += usize::from(topic.starts_with('$'));
                Arc::new(Message::retained(topic, Bytes::new()))
            })
            .collect();
        self.bytes -= bytes;
        self.own -= own;
        cleared
    }

    /// The memory that they take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many of them are not the gateway's own of `$SYS`.
    pub fn published(&self) -> usize {
        self.messages.len() - self.own
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_filter_and_forgets_on_empty() {
        let mut retained = Retained::default();
        for topic in ["a", "a/b", "a/b/c", "a0", "ab", "b/b", "$SYS/x"] {
            retained.set(&Arc::new(Message::retained(topic, topic)));
        }
        let found = |retained: &Retained, filter: &str| {
            let slice = retained.after(filter, None, Moment::now(), usize::MAX, usize::MAX);
            assert_eq!(slice.last, None);
            slice.messages.iter().map(|m| m.topic.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(&retained, "a/#"), ["a", "a/b", "a/b/c"]);
        assert_eq!(found(&retained, "a"), ["a"]);
        assert_eq!(found(&retained, "+/b"), ["a/b", "b/b"]);
        assert_eq!(found(&retained, "a/+/c"), ["a/b/c"]);
        assert_eq!(found(&retained, "#").len(), 6);
        assert_eq!(found(&retained, "$SYS/#"), ["$SYS/x"]);
        assert_eq!((retained.len(), retained.published()), (7, 6));
        assert!(
            retained.has_room(&Message::retained("c", "x"), 7, 1 << 20),
            "what is the gateway's own takes no place"
        );
        assert!(!retained.has_room(&Message::retained("c", "x"), 6, 1 << 20));
        retained.set(&Arc::new(Message::retained("a/b", "")));
        assert_eq!(found(&retained, "a/#"), ["a", "a/b/c"]);
        assert_eq!(retained.len(), 6);
        for topic in ["a", "a/b/c", "a0", "ab", "b/b", "$SYS/x"] {
            retained.set(&Arc::new(Message::retained(topic, "another")));
            retained.set(&Arc::new(Message::retained(topic, "")));
        }
        assert_eq!((retained.len(), retained.bytes(), retained.published()), (0, 0, 0));
    }
}
