//! «Forget what was set aside», by its numbers in the store.

use serde::{Deserialize, Serialize};

use super::Answer;
use crate::broker::Broker;
use crate::broker::order::Order;

/// The request. Counts the numbers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ForgetAside {
    pub numbers: Vec<u64>,
}

impl ForgetAside {
    pub(super) async fn carry_out(self, broker: &Broker) -> Answer {
        broker.order(Order::ForgetAside { numbers: self.numbers }).await.into()
    }
}
