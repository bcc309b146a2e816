//! «Write what is in RAM only»: behind it, the file holds all that the gateway has acknowledged.

use serde::{Deserialize, Serialize};

use super::Answer;
use crate::broker::Broker;
use crate::broker::order::Order;

/// The request; it counts nothing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteOut {}

impl WriteOut {
    pub(super) async fn carry_out(self, broker: &Broker) -> Answer {
        broker.order(Order::WriteOut).await.into()
    }
}
