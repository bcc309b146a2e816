//! How one of the gateway's own parts wants to be sent what waits for it: what [`super::Broker::link_as`] takes.

use serde::Deserialize;

use crate::rate::Rate;

/// How a session is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    pub order: Precedence,
    /// The bound on the backlog alone, with [`Precedence::LiveFirst`].
    pub backlog_rate: Option<Rate>,
    /// The reader looks at [`crate::mqtt::Place::seq`], so that no number may come twice, not even after a kill.
    pub numbered: bool,
    /// So many bytes of messages are unacknowledged at a time; one message goes in any case.
    pub window_bytes: usize,
}

impl Default for Replay {
    fn default() -> Self {
        Self { order: Precedence::default(), backlog_rate: None, numbered: false, window_bytes: usize::MAX }
    }
}

/// What goes first after an outage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precedence {
    /// What has waited longest: everything in the order in which it came.
    #[default]
    InOrder,
    /// What comes while the reader is connected. What waited follows beside it, in order as well.
    LiveFirst,
}
