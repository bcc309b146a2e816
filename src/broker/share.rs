//! A shared subscription: several sessions, one of which gets each message (MQTT 5.0, 4.8.2). Pure.

use std::sync::Arc;

use super::topics::{SessionKey, Subscriber};

/// The sessions that share one filter under one name.
#[derive(Debug)]
pub struct Share {
    /// `$share/NAME/FILTER`.
    filter: Arc<str>,
    members: Vec<Subscriber>,
    /// Whose turn it is.
    next: usize,
}

/// How well a member would serve a message; the first is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fitness {
    /// It can be sent to at once.
    Ready,
    /// Connected, and its queue has room.
    Slow,
    /// Not connected, but its queue outlives that.
    Away,
    /// Connected, and its queue would lose something.
    Full,
}

impl Share {
    /// Nobody's share yet of `filter`, `$share/` included.
    pub fn new(filter: Arc<str>) -> Self {
        Self { filter, members: Vec::new(), next: 0 }
    }

    /// `$share/NAME/FILTER`.
    pub fn filter(&self) -> &Arc<str> {
        &self.filter
    }

    /// The member whose turn it is among the fittest; the turn goes on behind it. Who has no fitness is never picked.
    pub fn pick(&mut self, fitness: impl Fn(&Subscriber) -> Option<Fitness>) -> Option<Subscriber> {
        let turns = (self.next..self.members.len()).chain(0..self.next.min(self.members.len()));
        let mut best: Option<(Fitness, usize)> = None;
        for turn in turns {
            match fitness(&self.members[turn]) {
                Some(fit) if best.is_none_or(|(so_far, _)| fit < so_far) => best = Some((fit, turn)),
                _ => {}
            }
            if matches!(best, Some((Fitness::Ready, _))) {
                break;
            }
        }
        let (_, turn) = best?;
        self.next = (turn + 1) % self.members.len();
        Some(self.members[turn])
    }

    /// Adds a member, or changes how it is subscribed. True when it is new.
    pub(super) fn join(&mut self, subscriber: Subscriber) -> bool {
        match self.members.iter_mut().find(|m| m.session == subscriber.session) {
            Some(present) => {
                *present = subscriber;
                false
            }
            None => {
                self.members.push(subscriber);
                true
            }
        }
    }

    /// Removes a member; false when it was none. The turn stays with whom it was.
    pub(super) fn leave(&mut self, session: SessionKey) -> bool {
        let place = self.members.iter().position(|m| m.session == session);
        if let Some(place) = place {
            self.members.remove(place);
            self.next -= usize::from(place < self.next);
        }
        place.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::SubscribeOptions;

    fn share(members: u32) -> Share {
        let mut share = Share::new("$share/g/t".into());
        for n in 0..members {
            let session = SessionKey(n);
            assert!(share.join(Subscriber { session, options: SubscribeOptions::default(), id: None }));
        }
        share
    }

    fn picks(share: &mut Share, times: usize, fitness: impl Fn(u32) -> Option<Fitness>) -> Vec<Option<u32>> {
        (0..times).map(|_| share.pick(|m| fitness(m.session.0)).map(|m| m.session.0)).collect()
    }

    #[test]
    fn members_take_turns() {
        let mut share = share(3);
        let all = |_| Some(Fitness::Ready);
        assert_eq!(picks(&mut share, 4, all), [0, 1, 2, 0].map(Some));
        assert!(share.leave(SessionKey(0)) && !share.leave(SessionKey(0)));
        assert_eq!(picks(&mut share, 3, all), [1, 2, 1].map(Some));
        assert!(share.leave(SessionKey(2)));
        assert_eq!(picks(&mut share, 2, all), [1, 1].map(Some));
        assert!(share.leave(SessionKey(1)) && share.is_empty());
        assert_eq!(picks(&mut share, 1, all), [None]);
    }

    #[test]
    fn the_fittest_take_turns_among_themselves() {
        let mut share = share(4);
        let fitness = [Some(Fitness::Away), Some(Fitness::Slow), None, Some(Fitness::Slow)];
        assert_eq!(picks(&mut share, 3, |n| fitness[n as usize]), [1, 3, 1].map(Some));
        assert_eq!(picks(&mut share, 2, |n| fitness[n as usize].filter(|_| n % 2 == 0)), [0, 0].map(Some));
    }
}
