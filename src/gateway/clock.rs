//! Whether the wall clock is trusted, on a topic of its own.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::clock::trust::Standing;
use crate::message::Message;
use crate::status::{SYNCED, UNSYNCED};

/// Tells it on `topic`, retained, whenever it changes, until `stop`.
pub(super) async fn run(mut clock: watch::Receiver<Standing>, topic: String, broker: Broker, stop: CancellationToken) {
    let mut told = None;
    loop {
        let synced = clock.borrow_and_update().synced;
        if told.replace(synced) != Some(synced) {
            let state = if synced { SYNCED } else { UNSYNCED };
            broker.publish(vec![Message::retained(&*topic, state)]).await;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            // Nobody looks at the clock any more.
            changed = clock.changed() => if changed.is_err() {
                return stop.cancelled().await;
            },
        }
    }
}
