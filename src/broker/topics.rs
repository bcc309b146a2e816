//! Who subscribes to what: a trie of topic filters, one level a node. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::share::Share;
use crate::mqtt::{SubscribeOptions, topic};

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
    shared: usize,
}

/// What a topic name matches.
#[derive(Debug)]
pub enum Match<'a> {
    /// A session's own subscription.
    Own(&'a Subscriber),
    /// A shared one: one of its members is to be picked.
    Shared(&'a mut Share),
}

#[derive(Debug, Default)]
struct Node {
    /// The subscribers of the filter that ends here.
    here: Subscribers,
    /// The next level by its text; the wildcards `+` and `#` stand in `plus` and `hash`.
    children: HashMap<Arc<str>, Node>,
    plus: Option<Box<Node>>,
    /// The subscribers of the filter that goes on with `#`.
    hash: Subscribers,
}

/// The subscribers of one filter.
#[derive(Debug, Default)]
struct Subscribers {
    own: Vec<Subscriber>,
    shares: Vec<Share>,
}

impl Topics {
    /// Adds a subscription, or replaces that of the same session to the same filter. True when it is new.
    pub fn subscribe(&mut self, filter: &Arc<str>, subscriber: Subscriber) -> bool {
        let list = self.root.place(topic::unshared(filter));
        let is_shared = topic::split_share(filter).is_some();
        let new = if is_shared { list.share(filter).join(subscriber) } else { list.put(subscriber) };
        self.count += usize::from(new);
        self.shared += usize::from(new && is_shared);
        new
    }

    /// Removes a subscription, and the nodes that nobody needs any more. True when there was one.
    pub fn unsubscribe(&mut self, filter: &str, session: SessionKey) -> bool {
        let removed = self.root.remove(topic::unshared(filter), &mut |list| list.take(filter, session));
        self.count -= usize::from(removed);
        self.shared -= usize::from(removed && topic::split_share(filter).is_some());
        removed
    }

    /// Calls `each` with every subscription that matches the topic name `topic`; a session may come more than once.
    pub fn matching(&mut self, topic: &str, each: &mut impl FnMut(Match<'_>)) {
        // A wildcard at the first level does not match topics that begin with `$` (MQTT-4.7.2-1).
        self.root.matching(topic, !topic.starts_with('$'), each);
    }

    /// The share of this filter, `$share/` included, while it has members.
    pub fn share(&mut self, filter: &str) -> Option<&mut Share> {
        let list = self.root.find(topic::unshared(filter))?;
        list.shares.iter_mut().find(|share| **share.filter() == *filter)
    }

    /// How many subscriptions there are, shared ones included.
    pub fn len(&self) -> usize {
        self.count
    }

    #[cfg(test)]
    pub fn nodes(&self) -> usize {
        self.root.count()
    }

    /// How many of them are shared.
    pub fn shared(&self) -> usize {
        self.shared
    }
}

fn split(filter: &str) -> (&str, Option<&str>) {
    match filter.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (filter, None),
    }
}

impl Node {
    fn place(&mut self, filter: &str) -> &mut Subscribers {
        let (level, rest) = split(filter);
        let child = match level {
            "#" => return &mut self.hash,
            "+" => self.plus.get_or_insert_default(),
            text => self.children.entry(text.into()).or_default(),
        };
        match rest {
            Some(rest) => child.place(rest),
            None => &mut child.here,
        }
    }

    fn find(&mut self, filter: &str) -> Option<&mut Subscribers> {
        let (level, rest) = split(filter);
        let child = match level {
            "#" => return Some(&mut self.hash),
            "+" => self.plus.as_deref_mut(),
            text => self.children.get_mut(text),
        }?;
        match rest {
            Some(rest) => child.find(rest),
            None => Some(&mut child.here),
        }
    }

    fn remove(&mut self, filter: &str, take: &mut impl FnMut(&mut Subscribers) -> bool) -> bool {
        let (level, rest) = split(filter);
        let child = match level {
            "#" => return take(&mut self.hash),
            "+" => self.plus.as_deref_mut(),
            text => self.children.get_mut(text),
        };
        let Some(child) = child else { return false };
        let removed = match rest {
            Some(rest) => child.remove(rest, take),
            None => take(&mut child.here),
        };
        if child.is_empty() {
            match level {
                "+" => self.plus = None,
                text => {
                    self.children.remove(text);
                    if self.children.capacity() > 8 * (self.children.len() + 8) {
                        self.children.shrink_to_fit();
                    }
                }
            }
        }
        removed
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        let children = self.children.values().chain(self.plus.as_deref());
        1 + children.map(Node::count).sum::<usize>() + self.children.capacity() / 128
    }

    fn is_empty(&self) -> bool {
        self.here.is_empty() && self.hash.is_empty() && self.plus.is_none() && self.children.is_empty()
    }

    fn matching(&mut self, topic: &str, wildcards: bool, each: &mut impl FnMut(Match<'_>)) {
        if wildcards {
            self.hash.visit(each);
        }
        let (level, rest) = split(topic);
        let children = [self.children.get_mut(level), self.plus.as_deref_mut().filter(|_| wildcards)];
        for child in children.into_iter().flatten() {
            match rest {
                Some(rest) => child.matching(rest, true, each),
                None => {
                    child.here.visit(each);
                    // `a/#` matches `a` as well.
                    child.hash.visit(each);
                }
            }
        }
    }
}

impl Subscribers {
    fn put(&mut self, subscriber: Subscriber) -> bool {
        match self.own.iter_mut().find(|s| s.session == subscriber.session) {
            Some(present) => {
                *present = subscriber;
                false
            }
            None => {
                self.own.push(subscriber);
                true
            }
        }
    }

    fn share(&mut self, filter: &Arc<str>) -> &mut Share {
        let place = self.shares.iter().position(|share| share.filter() == filter).unwrap_or_else(|| {
            self.shares.push(Share::new(filter.clone()));
            self.shares.len() - 1
        });
        &mut self.shares[place]
    }

    fn take(&mut self, filter: &str, session: SessionKey) -> bool {
        if topic::split_share(filter).is_none() {
            let place = self.own.iter().position(|s| s.session == session);
            return place.map(|i| self.own.swap_remove(i)).is_some();
        }
        let Some(place) = self.shares.iter().position(|share| **share.filter() == *filter) else { return false };
        let left = self.shares[place].leave(session);
        if self.shares[place].is_empty() {
            self.shares.swap_remove(place);
        }
        left
    }

    fn visit(&mut self, each: &mut impl FnMut(Match<'_>)) {
        self.own.iter().for_each(|subscriber| each(Match::Own(subscriber)));
        self.shares.iter_mut().for_each(|share| each(Match::Shared(share)));
    }

    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.shares.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::share::Fitness;

    fn subscriber(session: u32) -> Subscriber {
        Subscriber { session: SessionKey(session), options: SubscribeOptions::default(), id: None }
    }

    /// Whose own subscriptions match, and the members of the shares that do, asked for once.
    fn found(topics: &mut Topics, name: &str) -> Vec<(u32, Option<u32>)> {
        let mut found = Vec::new();
        topics.matching(name, &mut |matched| match matched {
            Match::Own(s) => found.push((s.session.0, s.id)),
            Match::Shared(share) => {
                found.extend(share.pick(|_| Some(Fitness::Ready)).map(|s| (s.session.0, s.id)));
            }
        });
        found.sort_unstable();
        found
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
            assert!(topics.subscribe(&filter.as_str().into(), subscriber(i as u32)));
        }
        for name in texts.iter().filter(|t| topic::check_name(t).is_ok()) {
            let found: Vec<_> = found(&mut topics, name).into_iter().map(|(n, _)| n as usize).collect();
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
        let filter = Arc::from("a/+");
        assert!(topics.subscribe(&filter, subscriber(1)));
        assert!(!topics.subscribe(&filter, Subscriber { id: Some(9), ..subscriber(1) }));
        assert_eq!((found(&mut topics, "a/b"), topics.len()), (vec![(1, Some(9))], 1));
    }

    #[test]
    fn a_share_stands_beside_the_same_filter_and_goes_with_its_last_member() {
        let mut topics = Topics::default();
        for (filter, session) in [("a/#", 1), ("$share/g/a/#", 1), ("$share/g/a/#", 2), ("$share/h/a/#", 3)] {
            assert!(topics.subscribe(&filter.into(), subscriber(session)));
        }
        assert_eq!((topics.len(), topics.shared()), (4, 3));
        let sessions = |topics: &mut Topics| found(topics, "a/b").into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(sessions(&mut topics), [1, 1, 3]);
        assert_eq!(sessions(&mut topics), [1, 2, 3]);
        assert!(topics.share("$share/g/a/#").is_some() && topics.share("$share/g/a").is_none());
        assert!(topics.unsubscribe("$share/g/a/#", SessionKey(2)));
        assert!(!topics.unsubscribe("$share/g/a/#", SessionKey(3)));
        assert_eq!(sessions(&mut topics), [1, 1, 3]);
        for (filter, session) in [("a/#", 1), ("$share/g/a/#", 1), ("$share/h/a/#", 3)] {
            assert!(topics.unsubscribe(filter, SessionKey(session)));
        }
        assert!(topics.root.is_empty() && topics.len() == 0 && topics.shared() == 0);
    }
}
