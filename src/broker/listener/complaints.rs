//! What clients do wrong goes to the log, but no client may fill it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One line every [`Complaints::PAUSE`]; the others are counted.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<(Option<Instant>, u64)>);

impl Complaints {
    const PAUSE: Duration = Duration::from_secs(10);

    pub(super) fn say(&self, what: &str) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, more) = &mut *state;
        if last.is_some_and(|last| last.elapsed() < Self::PAUSE) {
            *more += 1;
            return;
        }
        match std::mem::take(more) {
            0 => tracing::warn!("{what}"),
            more => tracing::warn!("{what} (and {more} other complaints about clients before)"),
        }
        *last = Some(Instant::now());
    }
}
