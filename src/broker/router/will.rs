//! Wills: kept while their client is connected, due when it is gone without a good-bye.

use std::sync::Arc;
use std::time::Duration;

use super::route::Origin;
use super::{Effects, Now, Router};
use crate::broker::topics::SessionKey;
use crate::clock::Moment;
use crate::mqtt::Will;
use crate::store;

impl Router {
    /// The will of a client that connects, or that it has none. The store knows as well: the gateway may end first.
    pub(super) fn set_will(&mut self, key: SessionKey, will: Option<Will>) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let had = std::mem::replace(&mut session.will, will).is_some();
        if had || session.will.is_some() {
            self.save_will(key, None);
        }
    }

    /// The client is gone without a good-bye: its will is published, now or after its delay.
    pub(super) fn will_due(&mut self, key: SessionKey, now: Now, effects: &mut Effects) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some(will) = &session.will else { return };
        let delay = will.delay.min(Duration::from_secs(session.expiry.into()));
        if delay.is_zero() {
            return self.publish_will(key, now, effects);
        }
        session.will_due = Some(now.instant + delay);
        self.deadlines.insert((now.instant + delay, key));
        self.save_will(key, Some(now.wall.after(delay)));
    }

    pub(super) fn publish_will(&mut self, key: SessionKey, now: Now, effects: &mut Effects) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some(mut will) = session.will.take() else { return };
        // Rights may have changed since it was accepted, in this run or before it.
        let (user, client_id) = (session.user.as_deref(), &session.client_id);
        if !session.is_of_the_gateway() && !self.access.may_publish(user, client_id, &will.message.topic) {
            tracing::warn!("{client_id} may not publish its will on {} any more", will.message.topic);
            self.tail.set_will(client_id.clone(), None);
            return;
        }
        let origin = Origin::Will(key, session.client_id.clone());
        will.message.at = now.wall;
        self.publish(origin, Arc::new(will.message), now, effects);
    }

    pub(super) fn save_will(&mut self, key: SessionKey, due: Option<Moment>) {
        let Some(session) = self.sessions.get(&key) else { return };
        let saved = session.will.as_ref().map(|will| store::Will {
            message: will.message.clone(),
            delay: u32::try_from(will.delay.as_secs()).unwrap_or(u32::MAX),
            due,
        });
        self.tail.set_will(session.client_id.clone(), saved);
    }
}
