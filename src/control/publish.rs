//! «Publish these messages»: all that want them get them.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::Answer;
use crate::broker::{Broker, Link};
use crate::message::{Message, QoS};
use crate::mqtt::{Ack, Connect, Packet, PacketId, Publish as PublishPacket, Version};
use crate::record::Record;

/// The request. Counts the messages; those before one that is refused are published.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Publish {
    pub messages: Vec<Record>,
}

impl Publish {
    pub(super) async fn carry_out(self, broker: &Broker) -> Answer {
        let messages = self.messages.iter().map(Record::message).collect::<Result<Vec<_>, _>>();
        let messages = match messages {
            Ok(messages) => messages,
            Err(why) => return Answer::wrong(why),
        };
        let mut link = broker.link().await;
        // Each request is a client of its own: two at the same time do not take each other's place.
        let connect = Connect::new(Version::V5, format!("$control/{:016x}", fastrand::u64(..)));
        link.send(vec![Packet::Connect(Box::new(connect))]).await;
        let count = messages.len() as u64;
        // A publisher has so many packet ids.
        let mut rest = messages.into_iter().peekable();
        while rest.peek().is_some() {
            let packets: Vec<_> = rest.by_ref().zip(1..=u16::MAX).map(|(message, id)| publish(message, id)).collect();
            if let Err(why) = acknowledged(&mut link, packets).await {
                return Answer::unavailable(why);
            }
        }
        Answer::Done(count)
    }
}

fn publish(message: Message, id: u16) -> Packet {
    let id = NonZeroU16::new(id).filter(|_| message.qos > QoS::AtMostOnce);
    // At QoS 2 there would be another exchange, and with nothing between the two of us it brings nothing.
    let qos = message.qos.min(QoS::AtLeastOnce);
    let retain = message.retain;
    Packet::Publish(PublishPacket {
        id,
        dup: false,
        qos,
        retain,
        message: message.into(),
        topic_alias: None,
        subscription_ids: Vec::new(),
        place: None,
    })
}

/// Sends publishes, and returns when all of them are acknowledged: that is when they are kept wherever they have to be.
async fn acknowledged(link: &mut Link, packets: Vec<Packet>) -> Result<(), String> {
    let mut open: Vec<PacketId> =
        packets.iter().filter_map(|p| if let Packet::Publish(p) = p { p.id } else { None }).collect();
    let mut refused = None;
    link.send(packets).await;
    while !open.is_empty() {
        let Some(packets) = link.recv().await else { return Err("the gateway stops".into()) };
        for packet in packets {
            if let Packet::PubAck(Ack { id, reason }) = packet {
                open.retain(|open| *open != id);
                if reason.is_error() {
                    refused = Some(format!("the broker refuses a message: {}", reason.text()));
                }
            }
        }
    }
    refused.map_or(Ok(()), Err)
}
