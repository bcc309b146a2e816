//! How much may wait in RAM, for one session and for all; and what is lost for want of room: counted and named.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Limits, Now, Router};
use crate::broker::queue::{Bound, QueueFull};
use crate::broker::session::{Session, Stage};
use crate::broker::topics::SessionKey;
use crate::message::QoS;
use crate::status::{Cause, Causes};
use crate::store::{Delivery, EntryId, Lost, QueueId};

/// The room that there is.
#[derive(Debug)]
pub(super) struct Room {
    /// What one queue may hold now.
    bound: Bound,
    /// Bytes in all queues as last measured, and what has entered since.
    held: usize,
    entered: usize,
    /// When there was nothing in the tail that could be given up.
    nothing_to_give_up: Option<Instant>,
    /// When to measure again: so many bytes held and entered.
    measure_at: usize,
}

/// The losses that the log has not told yet: no client may fill it.
#[derive(Debug, Default)]
pub(super) struct Losses {
    by_client: BTreeMap<Arc<str>, Causes>,
    told: Option<Instant>,
}

/// How often the log tells of losses, at most, and how many clients it names at once.
const TELL_EVERY: Duration = Duration::from_secs(10);
const NAMES: usize = 8;

/// Which part of the tail is given up at once: it is looked through for that.
const GIVE_UP: usize = 8;

/// How long it is not looked through again when that was for nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Room {
    pub(super) fn new(bound: Bound, total: usize) -> Self {
        Self { bound, held: 0, entered: 0, nothing_to_give_up: None, measure_at: total / 2 }
    }

    /// What one queue may hold: its own bound; from half of the total on no more than its fair share of that half; and
    /// no more than one message when there is no room at all.
    pub(super) fn bound(&self) -> Bound {
        self.bound
    }

    /// Bytes in all queues when they were last measured.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Looks how full it is, over all sessions. Returns the fair share of each when there is no room at all.
    fn measure<'a>(&mut self, own: Bound, total: usize, sessions: impl Iterator<Item = &'a Session>) -> Option<Bound> {
        let held = sessions.map(|session| session.queue.bytes() + session.inflight_bytes).filter(|bytes| *bytes > 0);
        let (sum, queues) = held.fold((0, 0), |(sum, queues), bytes| (sum + bytes, queues + 1));
        let fair = Bound { bytes: own.bytes.min(total / 2 / queues.max(1)), ..own };
        self.bound = match sum {
            sum if sum >= total => Bound { bytes: 1, ..own },
            sum if sum >= total / 2 => fair,
            _ => own,
        };
        (self.held, self.entered) = (sum, 0);
        self.measure_at = (total / 2).max(sum + total / 16);
        (sum >= total).then_some(fair)
    }
}

impl Losses {
    fn note(&mut self, client: &Arc<str>, n: u64, cause: Cause) {
        match self.by_client.get_mut(client) {
            Some(causes) => causes.add(cause, n),
            None => self.by_client.entry(client.clone()).or_default().add(cause, n),
        }
    }

    /// What to say now, if anything.
    fn tell(&mut self, now: Instant) -> Option<String> {
        if self.by_client.is_empty() || self.told.is_some_and(|told| now - told < TELL_EVERY) {
            return None;
        }
        self.told = Some(now);
        let mut losses: Vec<_> = std::mem::take(&mut self.by_client).into_iter().collect();
        losses.sort_by_key(|(_, causes)| std::cmp::Reverse(causes.total()));
        let name = |(client, causes): &(Arc<str>, Causes)| format!("{client} {causes}");
        let named: Vec<_> = losses.iter().take(NAMES).map(name).collect();
        let more = match losses.len().saturating_sub(NAMES) {
            0 => String::new(),
            clients => format!(" and {clients} other clients"),
        };
        Some(format!("messages were dropped: {}{more}", named.join(", ")))
    }
}

impl Router {
    /// Notes that this many bytes enter a queue.
    pub(super) fn grow(&mut self, bytes: usize) {
        self.room.entered += bytes;
        if self.room.held + self.room.entered >= self.room.measure_at {
            self.measure();
        }
    }

    /// Looks how much waits over all sessions. When that is too much, the longest queues lose first.
    pub(super) fn measure(&mut self) {
        let Limits { queue, total, queue_full, .. } = self.limits;
        let (own, durable) = (queue, self.durable);
        let measured = self.room.measure(queue, total, self.sessions.values());
        if self.room.bound.bytes < own.bytes {
            // What is on disk as well need not wait here for those who are away.
            let away = self.sessions.values_mut().filter(|s| s.durable.is_some() && s.connection.is_none());
            away.for_each(|session| session.queue.unload(durable));
        }
        let measured = measured.and_then(|_| self.room.measure(queue, total, self.sessions.values()));
        let Some(fair) = measured else { return };
        // What is kept on disk as well goes there sooner, and is not lost.
        let live = self.sessions.iter_mut().filter(|(_, s)| s.durable.is_none() && s.owed.is_hungry());
        let gone: Vec<_> = live.map(|(key, session)| (*key, session.queue.shorten(fair, queue_full))).collect();
        gone.into_iter().for_each(|(key, n)| self.lost(key, n, Cause::TooSlow));
        self.room.measure(queue, total, self.sessions.values());
    }

    /// Lets the oldest of a session's queue give way, if that is wanted and they are not kept otherwise.
    pub(super) fn make_room(&mut self, key: SessionKey, bound: Bound) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        // Retained messages that a new subscription was promised do not give way.
        let may = self.limits.queue_full == QueueFull::DropOldest && session.durable.is_none();
        if may && session.owed.is_hungry() {
            let gone = session.queue.shorten(bound, QueueFull::DropOldest);
            self.lost(key, gone, Cause::TooSlow);
        }
    }

    /// Counts deliveries that a session lost.
    pub(super) fn lost(&mut self, key: SessionKey, n: u64, cause: Cause) {
        if n == 0 {
            return;
        }
        self.dropped.add(cause, n);
        if let Some(session) = self.sessions.get_mut(&key) {
            session.dropped.add(cause, n);
            self.losses.note(&session.client_id, n, cause);
        }
    }

    /// Whether no more can wait in RAM for the disk.
    pub(super) fn is_stuck(&self) -> bool {
        self.tail.bytes() >= self.limits.tail
    }

    /// Makes room in RAM for something new that nobody can be refused: what is older and nobody waits for goes, the least
    /// important first. So after hours with a disk that takes nothing the newest readings are there, and not the first.
    pub(super) fn give_up_oldest(&mut self, now: Now) {
        if self.room.nothing_to_give_up.is_some_and(|at| now.instant - at < LOOK_AGAIN) {
            return;
        }
        let mut gone: BTreeMap<QueueId, Vec<EntryId>> = BTreeMap::new();
        for (queue, id) in self.tail.give_up(self.limits.tail / GIVE_UP) {
            gone.entry(queue).or_default().push(id);
        }
        self.room.nothing_to_give_up = gone.is_empty().then_some(now.instant);
        for (queue, mut ids) in gone {
            ids.sort_unstable();
            let Some(key) = self.by_queue.get(&queue).copied() else { continue };
            let lost = self.sessions.get_mut(&key).map_or(0, |session| session.queue.give_up(&ids));
            self.lost(key, lost, Cause::NoStore);
        }
    }

    /// Why a session cannot have this delivery now: its queue takes nothing new, or nothing can wait for the disk.
    pub(super) fn misses(&self, key: SessionKey, delivery: &Delivery) -> Option<Cause> {
        let queue = self.sessions.get(&key)?.durable.filter(|_| delivery.qos > QoS::AtMostOnce)?;
        if self.full.contains(&queue) {
            return Some(Cause::Refused);
        }
        self.is_stuck().then_some(Cause::NoStore)
    }

    /// Takes over what gave way in the store, and which queues take nothing new.
    pub(super) fn gave_way(&mut self, dropped: &[(QueueId, Lost)], full: Vec<QueueId>) {
        self.full = full.into_iter().collect();
        dropped.iter().for_each(|(queue, lost)| self.gone_from_disk(*queue, *lost));
    }

    /// Takes over what a queue lost in the store.
    pub(super) fn gone_from_disk(&mut self, queue: QueueId, lost: Lost) {
        let Some(key) = self.by_queue.get(&queue).copied() else {
            return self.dropped.add(lost.cause, lost.entries);
        };
        self.lost(key, lost.entries, lost.cause);
        if let Some(session) = self.sessions.get_mut(&key) {
            // What is on its way goes on.
            let mut on_way = 0;
            for inflight in &mut session.inflight {
                let Stage::Published(entry) = &mut inflight.stage else { continue };
                let gone = entry.id <= lost.until && entry.delivery.class >= lost.class;
                // Each of them once, however often something is dropped meanwhile.
                on_way += u64::from(gone && !entry.gone);
                entry.gone |= gone;
            }
            session.queue.dropped(Lost { entries: lost.entries.saturating_sub(on_way), ..lost });
        }
    }

    /// Counts a message that its publisher wanted to be retained, and for which there is no room.
    pub(super) fn not_retained(&mut self, from: Option<SessionKey>) {
        self.dropped.add(Cause::NotRetained, 1);
        let publisher = from.and_then(|key| self.sessions.get(&key)).map(|session| session.client_id.clone());
        self.losses.note(&publisher.unwrap_or_else(|| "the gateway itself".into()), 1, Cause::NotRetained);
    }

    /// Gives back the memory of bursts that are over.
    pub(super) fn shrink(&mut self) {
        fn shrink<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
            if map.capacity() > 4 * (map.len() + 16) {
                map.shrink_to_fit();
            }
        }
        shrink(&mut self.links);
        shrink(&mut self.sessions);
        shrink(&mut self.by_client);
        shrink(&mut self.by_queue);
        for session in self.sessions.values_mut() {
            shrink(&mut session.incoming);
            session.queue.shrink();
            if session.inflight.capacity() > 4 * (session.inflight.len() + 16) {
                session.inflight.shrink_to_fit();
            }
        }
    }

    /// Says who lost what, from time to time.
    pub(super) fn tell_losses(&mut self, now: Now) {
        if let Some(line) = self.losses.tell(now.instant) {
            tracing::warn!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_who_lost_most_and_not_too_often() {
        let (mut losses, now) = (Losses::default(), Instant::now());
        assert_eq!(losses.tell(now), None);
        losses.note(&"slow".into(), 2, Cause::TooSlow);
        losses.note(&"slow".into(), 3, Cause::TooSlow);
        losses.note(&"away".into(), 9, Cause::NoStore);
        let said = losses.tell(now).unwrap();
        assert_eq!(
            said,
            "messages were dropped: away 9 (the store cannot write), slow 5 (it reads too slowly: see max-queued)"
        );
        (0..10).for_each(|n| losses.note(&format!("c{n}").into(), 1, Cause::StoreSize));
        assert_eq!(losses.tell(now + TELL_EVERY / 2), None);
        assert!(losses.tell(now + TELL_EVERY).unwrap().ends_with(" and 2 other clients"));
        assert_eq!(losses.tell(now + 2 * TELL_EVERY), None);
    }
}
