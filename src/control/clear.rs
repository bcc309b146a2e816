//! «Forget these retained messages»: nobody is told, whoever subscribes later does not get them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Answer;
use crate::broker::Broker;
use crate::broker::order::Order;
use crate::clock::Timestamp;
use crate::mqtt::topic;

/// The request. Counts the messages.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Clear {
    /// Which topics.
    pub filter: Arc<str>,
    /// Only what entered before this time.
    pub before: Option<Timestamp>,
    /// They stay.
    #[serde(default)]
    pub count_only: bool,
}

impl Clear {
    pub(super) async fn carry_out(self, broker: &Broker) -> Answer {
        let Self { filter, before, count_only } = self;
        if let Err(e) = topic::check_filter(&filter) {
            return Answer::wrong(format!("`{filter}` is no filter: {e}"));
        }
        broker.order(Order::ClearRetained { filter, before, count_only }).await.into()
    }
}
