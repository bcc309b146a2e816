//! «Remove the kept session of a client that is gone», with its queue and its subscriptions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Answer;
use crate::broker::Broker;
use crate::broker::order::Order;

/// The request. Counts the messages that waited; refused while the client is connected.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Forget {
    pub queue: Arc<str>,
}

impl Forget {
    pub(super) async fn carry_out(self, broker: &Broker) -> Answer {
        broker.order(Order::Forget { queue: self.queue }).await.into()
    }
}
