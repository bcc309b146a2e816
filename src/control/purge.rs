//! «Take what waits in this queue out», up to an entry.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Answer;
use crate::broker::Broker;
use crate::broker::order::Order;
use crate::store::EntryId;

/// The request. Counts the entries; what is on its way to the reader already may still arrive.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Purge {
    pub queue: Arc<str>,
    /// The last entry that goes.
    pub until: u64,
}

impl Purge {
    pub(super) async fn carry_out(self, broker: &Broker) -> Answer {
        broker.order(Order::Purge { queue: self.queue, until: EntryId(self.until) }).await.into()
    }
}
