//! How the store is, on a topic beside the gateway's own: whether it writes, how full it and the disk are, and what was
//! dropped of which queue for which cause.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::message::{Message, QoS};
use crate::status::{self, Causes, State};

/// How often it is told at most.
const EVERY: Duration = Duration::from_secs(10);

/// What is told.
#[derive(Serialize)]
struct Told<'a> {
    state: &'a State,
    entries: u64,
    bytes: u64,
    max_bytes: u64,
    /// Bytes that the disk has left, and how many of them the store leaves to others.
    free: Option<u64>,
    reserve: u64,
    short: bool,
    /// Queues that are full and take nothing new.
    refusing: usize,
    /// By session and cause, since the start.
    dropped: BTreeMap<&'a Arc<str>, &'a Causes>,
}

/// Tells it retained on `topic` whenever it has changed, until `stop`. At QoS 0: what is told later replaces it.
pub(super) async fn run(
    topic: String,
    (store, queues): (watch::Receiver<status::Store>, watch::Receiver<status::Broker>),
    broker: Broker,
    stop: CancellationToken,
) {
    let mut due = interval(EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = due.tick() => {}
        }
        let now = text(&store.borrow(), &queues.borrow());
        if now != told {
            let message = Message::retained(topic.clone(), now.clone());
            broker.publish(vec![Message { qos: QoS::AtMostOnce, ..message }]).await;
            told = now;
        }
    }
}

fn text(store: &status::Store, broker: &status::Broker) -> String {
    let lost = broker.queues.iter().filter(|queue| queue.dropped > 0);
    let told = Told {
        state: &store.state,
        entries: store.entries,
        bytes: store.bytes,
        max_bytes: store.max_bytes,
        free: store.free,
        reserve: store.reserve,
        short: store.short,
        refusing: store.refusing,
        dropped: lost.map(|queue| (&queue.session, &queue.causes)).collect(),
    };
    serde_json::to_string(&told).expect("text and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Cause, Queue};

    #[test]
    fn it_says_how_the_store_is_and_who_lost_what() {
        let store = status::Store { state: State::Down("disk full".into()), free: Some(9), ..Default::default() };
        let mut queue = Queue { session: "$uplink/cloud".into(), dropped: 3, ..Queue::default() };
        queue.causes.add(Cause::StoreSize, 3);
        let broker = status::Broker { queues: vec![queue, Queue::default()], ..Default::default() };
        assert_eq!(
            text(&store, &broker),
            r#"{"state":{"down":"disk full"},"entries":0,"bytes":0,"max_bytes":0,"free":9,"reserve":0,"short":false,"#
                .to_owned()
                + r#""refusing":0,"dropped":{"$uplink/cloud":{"store-size":3}}}"#
        );
    }
}
