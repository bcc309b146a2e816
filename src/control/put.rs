//! «Put these messages into this queue», and into no other.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Answer;
use crate::broker::Broker;
use crate::broker::order::Order;
use crate::record::Record;

/// The request. Counts the messages; they are in the queue all, or none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Put {
    pub queue: Arc<str>,
    pub messages: Vec<Record>,
    /// Where they were set aside: these numbers go in the same transaction.
    #[serde(default)]
    pub aside: Vec<u64>,
}

impl Put {
    pub(super) async fn carry_out(self, broker: &Broker) -> Answer {
        let messages = self.messages.iter().map(Record::message).collect::<Result<Vec<_>, _>>();
        match messages {
            Ok(messages) => broker.order(Order::Put { queue: self.queue, messages, aside: self.aside }).await.into(),
            Err(why) => Answer::wrong(why),
        }
    }
}
