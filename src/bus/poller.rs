//! When to ask whom.

/// Polls one bus.
#[derive(Debug)]
pub struct Poller;
