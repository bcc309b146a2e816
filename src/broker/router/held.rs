//! What clients publish that cannot be told of a full queue: MQTT 3.1.1 has no refusal but to close the connection, and a
//! client that is closed comes back at once with the same message. So its messages wait a while, unacknowledged and in
//! order; when there is room again, nobody has noticed more than that.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::{Effects, Now, Router};
use crate::broker::session::LinkId;
use crate::mqtt::Publish;

/// How long a message waits before its client is closed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of one client may wait: who sends on without being acknowledged is closed sooner.
const MOST: usize = 1000;
const MOST_BYTES: usize = 1 << 20;

/// The messages that wait, by the connection on which they came.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<LinkId, Waiting>);

#[derive(Debug)]
struct Waiting {
    since: Instant,
    publishes: VecDeque<Publish>,
    bytes: usize,
}

impl Held {
    /// Whether something waits: what comes behind it waits as well.
    pub(super) fn has(&self, link: LinkId) -> bool {
        !self.0.is_empty() && self.0.contains_key(&link)
    }

    /// The connection is gone; its client has kept what was not acknowledged.
    pub(super) fn forget(&mut self, link: LinkId) {
        self.0.remove(&link);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Router {
    /// Lets a message wait that was refused, or came behind one that was.
    pub(super) fn hold(&mut self, link: LinkId, publish: Publish, now: Now, effects: &mut Effects) {
        let new = || Waiting { since: now.instant, publishes: VecDeque::new(), bytes: 0 };
        let waiting = self.held.0.entry(link).or_insert_with(new);
        waiting.bytes += publish.message.size();
        waiting.publishes.push_back(publish);
        if waiting.publishes.len() > MOST || waiting.bytes > MOST_BYTES {
            effects.close.push(link);
            self.gone(link, now, effects);
        }
    }

    /// Tries what waits again, and closes those who have waited for long enough.
    pub(super) fn retry_held(&mut self, now: Now, effects: &mut Effects) {
        for (link, mut waiting) in std::mem::take(&mut self.held.0) {
            let Some(key) = self.session_of(link) else { continue };
            while let Some(publish) = waiting.publishes.pop_front() {
                waiting.bytes -= publish.message.size();
                self.published(key, link, publish, now, effects);
                // Refused again: it leads the others.
                if let Some(first) = self.held.0.remove(&link) {
                    waiting.bytes += first.bytes;
                    first.publishes.into_iter().rev().for_each(|publish| waiting.publishes.push_front(publish));
                    break;
                }
            }
            if waiting.publishes.is_empty() {
                continue;
            }
            if now.instant - waiting.since >= PATIENCE {
                effects.close.push(link);
                self.gone(link, now, effects);
            } else {
                self.held.0.insert(link, waiting);
            }
        }
    }
}
