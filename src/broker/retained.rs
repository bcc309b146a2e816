//! The last message of each topic that asked to be retained. Pure.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::message::Message;
use crate::mqtt::topic;

/// All retained messages, by topic.
#[derive(Debug, Default)]
pub struct Retained {
    messages: BTreeMap<Arc<str>, Arc<Message>>,
}

impl Retained {
    /// Keeps `message` for its topic; an empty payload clears it (MQTT 5.0, 3.3.1.3).
    pub fn set(&mut self, message: &Arc<Message>) {
        if message.payload.is_empty() {
            self.messages.remove(&message.topic);
        } else {
            self.messages.insert(message.topic.clone(), message.clone());
        }
    }

    /// Whether `message` fits into a bound of so many messages: a replaced or cleared one always does.
    pub fn has_room(&self, message: &Message, most: usize) -> bool {
        message.payload.is_empty() || self.messages.len() < most || self.messages.contains_key(&message.topic)
    }

    /// The messages whose topics match `filter`, without those that have expired.
    pub fn matching(&self, filter: &str, now: Timestamp) -> Vec<Arc<Message>> {
        // Everything before the first wildcard is common to all matches, so that only a part of the map is looked at.
        let prefix = &filter[..filter.find(['+', '#']).unwrap_or(filter.len())];
        let prefix = prefix.strip_suffix('/').filter(|_| filter.ends_with("/#")).unwrap_or(prefix);
        self.messages
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(topic, _)| topic.starts_with(prefix))
            .filter(|(topic, message)| topic::matches(filter, topic) && !message.expired(now))
            .map(|(_, message)| message.clone())
            .collect()
    }

    /// Forgets the messages that have expired; returns what clears them from the store.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Arc<Message>> {
        self.messages
            .extract_if(.., |_, message| message.expired(now))
            .map(|(topic, _)| Arc::new(Message::retained(topic, Bytes::new())))
            .collect()
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
            let messages = retained.matching(filter, Timestamp::now());
            messages.iter().map(|m| m.topic.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(&retained, "a/#"), ["a", "a/b", "a/b/c"]);
        assert_eq!(found(&retained, "a"), ["a"]);
        assert_eq!(found(&retained, "+/b"), ["a/b", "b/b"]);
        assert_eq!(found(&retained, "a/+/c"), ["a/b/c"]);
        assert_eq!(found(&retained, "#").len(), 6);
        assert_eq!(found(&retained, "$SYS/#"), ["$SYS/x"]);
        retained.set(&Arc::new(Message::retained("a/b", "")));
        assert_eq!(found(&retained, "a/#"), ["a", "a/b/c"]);
        assert_eq!(retained.len(), 6);
    }
}
