//! What clients do wrong goes to the log, but no client may fill it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many lines in so long; the others are counted.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    said: u32,
    more: u64,
}

impl Complaints {
    const MOST: u32 = 20;
    const IN: Duration = Duration::from_secs(10);

    pub(crate) fn say(&self, what: &str) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| since.elapsed() >= Self::IN) {
            (state.since, state.said) = (Some(Instant::now()), 0);
        }
        if state.said >= Self::MOST {
            state.more += 1;
            return;
        }
        state.said += 1;
        match std::mem::take(&mut state.more) {
            0 => tracing::warn!("{what}"),
            more => tracing::warn!("{what} (and {more} other complaints about clients before)"),
        }
    }
}
