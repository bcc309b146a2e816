//! Who subscribes to what: a trie of topic filters, one level a node. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use crate::mqtt::SubscribeOptions;

/// A session's place in the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub u32);

/// One session's subscription to one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    pub session: SessionKey,
    pub options: SubscribeOptions,
    /// The subscription identifier (MQTT 5.0, 3.8.2.1.2).
    pub id: Option<u32>,
}

/// All subscriptions.
#[derive(Debug, Default)]
pub struct Topics {
    root: Node,
    count: usize,
}

#[derive(Debug, Default)]
struct Node {
    /// The subscribers of the filter that ends here.
    subscribers: Vec<Subscriber>,
    /// The next level by its text; the wildcards `+` and `#` stand in `plus` and `hash`.
    children: HashMap<Arc<str>, Node>,
    plus: Option<Box<Node>>,
    /// The subscribers of the filter that goes on with `#`.
    hash: Vec<Subscriber>,
}

impl Topics {
    /// Adds a subscription, or replaces that of the same session to the same filter. True when it is new.
    pub fn subscribe(&mut self, filter: &str, subscriber: Subscriber) -> bool {
        let list = self.root.place(filter);
        match list.iter_mut().find(|s| s.session == subscriber.session) {
            Some(present) => {
                *present = subscriber;
                false
            }
            None => {
                list.push(subscriber);
                self.count += 1;
                true
            }
        }
    }

    /// Removes a subscription, and the nodes that nobody needs any more. True when there was one.
    pub fn unsubscribe(&mut self, filter: &str, session: SessionKey) -> bool {
        let removed = self.root.remove(filter, session);
        self.count -= usize::from(removed);
        removed
    }

    /// Calls `each` with every subscription that matches the topic name `topic`; a session may come more than once.
    pub fn matching(&self, topic: &str, each: &mut impl FnMut(&Subscriber)) {
        // A wildcard at the first level does not match topics that begin with `$` (MQTT-4.7.2-1).
        self.root.matching(topic, !topic.starts_with('$'), each);
    }

    /// How many subscriptions there are.
    pub fn len(&self) -> usize {
        self.count
    }
}

fn split(filter: &str) -> (&str, Option<&str>) {
    match filter.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (filter, None),
    }
}

impl Node {
    fn place(&mut self, filter: &str) -> &mut Vec<Subscriber> {
        let (level, rest) = split(filter);
        let child = match level {
            "#" => return &mut self.hash,
            "+" => self.plus.get_or_insert_default(),
            text => self.children.entry(text.into()).or_default(),
        };
        match rest {
            Some(rest) => child.place(rest),
            None => &mut child.subscribers,
        }
    }

    fn remove(&mut self, filter: &str, session: SessionKey) -> bool {
        let take = |list: &mut Vec<Subscriber>| {
            let place = list.iter().position(|s| s.session == session);
            place.map(|i| list.swap_remove(i)).is_some()
        };
        let (level, rest) = split(filter);
        let child = match level {
            "#" => return take(&mut self.hash),
            "+" => self.plus.as_deref_mut(),
            text => self.children.get_mut(text),
        };
        let Some(child) = child else { return false };
        let removed = match rest {
            Some(rest) => child.remove(rest, session),
            None => take(&mut child.subscribers),
        };
        if child.is_empty() {
            match level {
                "+" => self.plus = None,
                text => {
                    self.children.remove(text);
                }
            }
        }
        removed
    }

    fn is_empty(&self) -> bool {
        self.subscribers.is_empty() && self.hash.is_empty() && self.plus.is_none() && self.children.is_empty()
    }

    fn matching(&self, topic: &str, wildcards: bool, each: &mut impl FnMut(&Subscriber)) {
        if wildcards {
            self.hash.iter().for_each(&mut *each);
        }
        let (level, rest) = split(topic);
        let children = [self.children.get(level), self.plus.as_deref().filter(|_| wildcards)];
        for child in children.into_iter().flatten() {
            match rest {
                Some(rest) => child.matching(rest, true, each),
                None => {
                    child.subscribers.iter().for_each(&mut *each);
                    // `a/#` matches `a` as well.
                    child.hash.iter().for_each(&mut *each);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::topic;

    fn subscriber(session: u32) -> Subscriber {
        Subscriber { session: SessionKey(session), options: SubscribeOptions::default(), id: None }
    }

    /// The trie and the plain matching function agree on every pair of a filter and a name made of few levels.
    #[test]
    fn agrees_with_matching_one_by_one() {
        let levels = ["a", "b", "", "+", "#", "$x"];
        let mut texts: Vec<String> = levels.iter().map(|l| (*l).to_owned()).collect();
        for _ in 0..2 {
            texts = texts
                .iter()
                .flat_map(|t| levels.iter().map(move |l| format!("{t}/{l}")))
                .chain(texts.clone())
                .collect();
            texts.sort();
            texts.dedup();
        }
        let filters: Vec<_> = texts.iter().filter(|t| topic::check_filter(t).is_ok()).collect();
        let mut topics = Topics::default();
        for (i, filter) in filters.iter().enumerate() {
            assert!(topics.subscribe(filter, subscriber(i as u32)));
        }
        for name in texts.iter().filter(|t| topic::check_name(t).is_ok()) {
            let mut found = Vec::new();
            topics.matching(name, &mut |s| found.push(s.session.0 as usize));
            found.sort_unstable();
            let expected: Vec<_> = (0..filters.len()).filter(|i| topic::matches(filters[*i], name)).collect();
            assert_eq!(found, expected, "{name}");
        }
        for (i, filter) in filters.iter().enumerate() {
            assert!(topics.unsubscribe(filter, SessionKey(i as u32)), "{filter}");
            assert!(!topics.unsubscribe(filter, SessionKey(i as u32)), "{filter}");
        }
        assert!(topics.root.is_empty() && topics.len() == 0, "unused nodes are gone");
    }

    #[test]
    fn a_second_subscription_to_the_same_filter_replaces_the_first() {
        let mut topics = Topics::default();
        assert!(topics.subscribe("a/+", subscriber(1)));
        assert!(!topics.subscribe("a/+", Subscriber { id: Some(9), ..subscriber(1) }));
        let mut found = Vec::new();
        topics.matching("a/b", &mut |s| found.push(s.id));
        assert_eq!((found, topics.len()), (vec![Some(9)], 1));
    }
}
