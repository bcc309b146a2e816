//! The state of each uplink on `$SYS/broker/connection/NAME/state`, as Mosquitto tells of its bridges.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::message::{Message, QoS};
use crate::status::{State, Uplink};

/// Tells the state of one uplink whenever it changes, until `stop`: `1` when it is connected, `0` when not.
pub(super) async fn run(mut uplink: watch::Receiver<Uplink>, broker: Broker, stop: CancellationToken) {
    let mut told = None;
    loop {
        let (name, up) = {
            let uplink = uplink.borrow_and_update();
            (uplink.name.clone(), uplink.state == State::Up)
        };
        if told != Some(up) {
            told = Some(up);
            let topic = format!("$SYS/broker/connection/{name}/state");
            let message = Message::retained(topic, if up { "1" } else { "0" });
            broker.publish(vec![Message { qos: QoS::AtMostOnce, ..message }]).await;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            // An uplink that has ended tells no more.
            changed = uplink.changed() => if changed.is_err() {
                return stop.cancelled().await;
            },
        }
    }
}
