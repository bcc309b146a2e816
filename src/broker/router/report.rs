//! How the broker is, for those who look on.

use std::sync::Arc;

use super::Router;
use crate::broker::session::Session;
use crate::broker::sys;
use crate::status;

impl Router {
    /// What a client, connected or not, is subscribed to.
    pub fn subscriptions(&self, client_id: &str) -> Vec<Arc<str>> {
        let session = self.by_client.get(client_id).and_then(|key| self.sessions.get(key));
        session.map(|s| s.subscriptions.keys().cloned().collect()).unwrap_or_default()
    }

    /// The client ids of all sessions.
    pub fn clients(&self) -> Vec<Arc<str>> {
        self.by_client.keys().cloned().collect()
    }

    /// How the broker is, for those who look on. `listeners` is left to the caller.
    pub fn status(&self) -> status::Broker {
        let connected = |s: &&Session| s.connection.is_some_and(|c| !c.trusted);
        let mut queues: Vec<_> = self
            .sessions
            .values()
            // A session that lives in RAM only is shown once it has lost something.
            .filter(|s| s.durable.is_some() || s.dropped.total() > 0)
            .map(|s| {
                let inflight = s.published().next().filter(|entry| !s.queue.has_before(entry.id));
                let oldest = inflight.or_else(|| s.queue.oldest()).map(|entry| entry.message.at);
                let oldest = oldest.or(s.oldest_on_disk.filter(|_| s.queue.has_spilled()));
                status::Queue {
                    session: s.client_id.clone(),
                    connected: s.connection.is_some(),
                    entries: s.depth(),
                    backlog: s.backlog(),
                    drain: s.connection.map_or(0.0, |_| s.drain.rate()),
                    catch_up: s.connection.and_then(|_| s.drain.expected(s.backlog())).filter(|_| s.backlog() > 0),
                    inflight: s.inflight.len(),
                    oldest: oldest.or_else(|| self.tail.oldest(s.durable.filter(|_| s.queue.len() > 0)?)),
                    dropped: s.dropped.total(),
                    causes: s.dropped.clone(),
                }
            })
            .collect();
        queues.sort_by(|a, b| a.session.cmp(&b.session));
        status::Broker {
            listeners: Vec::new(),
            clients: self.sessions.values().filter(connected).count(),
            sessions: self.sessions.len(),
            subscriptions: self.topics.len(),
            retained: self.retained.published(),
            received: self.received,
            sent: self.sent,
            dropped: self.dropped.total(),
            causes: self.dropped.clone(),
            refused: self.refused,
            queues,
        }
    }

    /// How the broker is, for the `$SYS` topics. `traffic` is left to the caller.
    pub fn sys_state(&self) -> sys::State {
        let connected = self.sessions.values().filter(|s| s.connection.is_some_and(|c| !c.trusted)).count();
        // The gateway's own parts are no clients.
        let disconnected =
            self.sessions.values().filter(|s| s.connection.is_none() && !s.client_id.starts_with('$')).count();
        let queued: u64 = self.sessions.values().map(Session::depth).sum();
        sys::State {
            dropped: self.dropped.total(),
            connected,
            disconnected,
            expired: self.expired,
            subscriptions: self.topics.len(),
            shared: self.topics.shared(),
            retained: self.retained.len(),
            stored: self.retained.len() as u64 + queued,
            stored_bytes: (self.retained.bytes() + self.room.held()) as u64,
            ..sys::State::default()
        }
    }
}
