//! What gave way in the database, by queue and cause, until the broker is told. Pure.

use std::collections::BTreeMap;

use super::{EntryId, Lost, QueueId};
use crate::status::{Cause, Causes};

/// What gave way.
#[derive(Clone, Debug, Default)]
pub(super) struct Dropped(BTreeMap<(QueueId, Cause, u8), (u64, EntryId)>);

impl Dropped {
    /// `queue` lost `entries` of the class `class` or less important ones, all of them up to `until`.
    pub(super) fn note(&mut self, queue: QueueId, lost: Lost) {
        if lost.entries == 0 {
            return;
        }
        let (entries, until) = self.0.entry((queue, lost.cause, lost.class)).or_default();
        *entries += lost.entries;
        *until = (*until).max(lost.until);
    }

    /// Adds what another knows.
    pub(super) fn append(&mut self, more: Self) {
        more.into_iter().for_each(|(queue, lost)| self.note(queue, lost));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much for which cause, over all queues.
    pub(super) fn causes(&self) -> Causes {
        let mut causes = Causes::default();
        self.0.iter().for_each(|((_, cause, _), (entries, _))| causes.add(*cause, *entries));
        causes
    }

    /// By queue, then by cause.
    pub(super) fn into_iter(self) -> impl Iterator<Item = (QueueId, Lost)> {
        self.0
            .into_iter()
            .map(|((queue, cause, class), (entries, until))| (queue, Lost { cause, entries, until, class }))
    }
}
