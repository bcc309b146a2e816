//! The state of each uplink on topics of the local broker, and the wish of somebody there that it send again what is
//! retained.
//!
//! `fieldpost/GATEWAY/uplink/NAME/status` is `online` or `offline`, `$SYS/broker/connection/NAME/state` is `1` or `0`, as
//! Mosquitto tells of its bridges. A message on `fieldpost/GATEWAY/uplink/NAME/republish` is the wish.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::message::{Message, QoS};
use crate::mqtt::{Ack, Connect, Packet, PacketId, Subscribe, SubscribeOptions, Version};
use crate::status::{OFFLINE, ONLINE, State, Uplink, uplink_topic};

/// Tells of one uplink of `gateway`, whenever its state changes, and at `stop` that it is gone: that is to come when the
/// uplink has ended. `sys` when `$SYS` topics are told.
pub(super) async fn tell(
    gateway: Arc<str>,
    sys: bool,
    mut uplink: watch::Receiver<Uplink>,
    broker: Broker,
    stop: CancellationToken,
) {
    let mut told = None;
    loop {
        let (name, state) = {
            let uplink = uplink.borrow_and_update();
            (uplink.name.clone(), uplink.state == State::Up)
        };
        let up = state && !stop.is_cancelled();
        if told != Some(up) {
            told = Some(up);
            let status = Message::retained(uplink_topic(&gateway, &name, "status"), if up { ONLINE } else { OFFLINE });
            let topic = format!("$SYS/broker/connection/{name}/state");
            let state = Message { qos: QoS::AtMostOnce, ..Message::retained(topic, if up { "1" } else { "0" }) };
            broker.publish([Some(status), sys.then_some(state)].into_iter().flatten().collect()).await;
        }
        if stop.is_cancelled() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            // An uplink that has ended tells no more.
            changed = uplink.changed() => if changed.is_err() {
                stop.cancelled().await;
            },
        }
    }
}

/// Passes wishes on to the uplinks of `gateway`, by name, until `stop`.
pub(super) async fn listen(
    gateway: Arc<str>,
    uplinks: HashMap<Arc<str>, Arc<Notify>>,
    broker: Broker,
    stop: CancellationToken,
) {
    let wishes: HashMap<String, Arc<Notify>> =
        uplinks.into_iter().map(|(name, wish)| (uplink_topic(&gateway, &name, "republish"), wish)).collect();
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..Default::default() };
    let filters: Vec<_> = wishes.keys().map(|topic| (topic.as_str().into(), options)).collect();
    if filters.is_empty() {
        return stop.cancelled().await;
    }
    let mut link = broker.link().await;
    let subscribe = Subscribe { id: PacketId::MIN, filters, subscription_id: None };
    let connect = Connect::new(Version::V5, "$republish");
    link.send(vec![Packet::Connect(Box::new(connect)), Packet::Subscribe(Box::new(subscribe))]).await;
    loop {
        let packets = tokio::select! {
            () = stop.cancelled() => return,
            packets = link.recv() => packets,
        };
        // The broker ends behind this part.
        let Some(packets) = packets else { return stop.cancelled().await };
        for packet in packets {
            let Packet::Publish(publish) = packet else { continue };
            if let Some(id) = publish.id {
                link.send(vec![Packet::PubAck(Ack::ok(id))]).await;
            }
            // A wish that is retained would come again at each start.
            if let Some(wish) = wishes.get(&*publish.message.topic).filter(|_| !publish.retain) {
                wish.notify_one();
            }
        }
    }
}
