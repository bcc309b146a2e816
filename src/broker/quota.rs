//! How many of a client's QoS 1 and 2 publishes are open: flow control towards the gateway (MQTT 5.0, 4.9). Pure.

use crate::mqtt::{Packet, Reason, Version};

/// The count of one connection, as its client has to keep it too.
#[derive(Debug)]
pub struct Quota {
    version: Version,
    /// The Receive Maximum that the client was told.
    most: usize,
    open: usize,
}

impl Quota {
    /// Nothing is open on a new connection, whatever the session was doing on the last one.
    pub fn new(version: Version, receive_maximum: u16) -> Self {
        Self { version, most: receive_maximum.into(), open: 0 }
    }

    /// Counts what the client sent.
    ///
    /// # Errors
    /// `RECEIVE_MAXIMUM_EXCEEDED` when it sent more than it may; a client before MQTT 5 cannot know.
    pub fn came(&mut self, packets: &[Packet]) -> Result<(), Reason> {
        for packet in packets {
            if matches!(packet, Packet::Publish(publish) if publish.id.is_some()) {
                self.open += 1;
                if self.version == Version::V5 && self.open > self.most {
                    return Err(Reason::RECEIVE_MAXIMUM_EXCEEDED);
                }
            }
        }
        Ok(())
    }

    /// Counts what is sent to the client.
    pub fn went(&mut self, packets: &[Packet]) {
        let ends = |packet: &&Packet| match (packet, self.version) {
            (Packet::PubAck(_), _) => true,
            (Packet::PubComp(_), Version::V5) => true,
            (Packet::PubRec(ack), Version::V5) => ack.reason.is_error(),
            // What is left of the exchange is the client's: it must not wait for us, nor we for it.
            (Packet::PubRec(_), _) => true,
            _ => false,
        };
        self.open = self.open.saturating_sub(packets.iter().filter(ends).count());
    }

    /// Whether to read nothing more for now: only a client before MQTT 5 is held up so.
    pub fn is_used_up(&self) -> bool {
        self.version != Version::V5 && self.open >= self.most
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::{Message, QoS};
    use crate::mqtt::{Ack, PacketId, Publish};

    fn publish(id: u16) -> Packet {
        let qos = if id == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let message = Arc::new(Message::new("t", "x"));
        let (dup, retain, topic_alias) = (false, false, None);
        Packet::Publish(Publish {
            id: PacketId::new(id),
            dup,
            qos,
            retain,
            message,
            topic_alias,
            subscription_ids: vec![],
            place: None,
        })
    }

    fn ack(reason: Reason) -> Ack {
        Ack { id: PacketId::MIN, reason }
    }

    #[test]
    fn counts_from_publish_to_the_last_acknowledgement() {
        let mut quota = Quota::new(Version::V5, 2);
        assert_eq!(quota.came(&[publish(0), publish(1), publish(2), publish(0)]), Ok(()));
        quota.went(&[Packet::PubRec(ack(Reason::SUCCESS))]);
        assert!(!quota.is_used_up(), "it is cut off, not held up");
        assert_eq!(quota.came(&[publish(3)]), Err(Reason::RECEIVE_MAXIMUM_EXCEEDED));
        for end in [
            Packet::PubAck(ack(Reason::QUOTA_EXCEEDED)),
            Packet::PubComp(ack(Reason::SUCCESS)),
            Packet::PubRec(ack(Reason::NOT_AUTHORIZED)),
        ] {
            let mut quota = Quota::new(Version::V5, 1);
            assert_eq!(quota.came(&[publish(1)]), Ok(()));
            quota.went(&[end]);
            assert_eq!(quota.came(&[publish(2)]), Ok(()));
            assert_eq!(quota.came(&[publish(3)]), Err(Reason::RECEIVE_MAXIMUM_EXCEEDED));
        }
    }

    #[test]
    fn what_ends_an_older_exchange_gives_no_more_than_all() {
        let mut quota = Quota::new(Version::V5, 1);
        quota.went(&[Packet::PubComp(ack(Reason::SUCCESS))]);
        assert_eq!(quota.came(&[publish(1), publish(2)]), Err(Reason::RECEIVE_MAXIMUM_EXCEEDED));
    }

    #[test]
    fn an_older_client_is_held_up() {
        let mut quota = Quota::new(Version::V311, 2);
        assert_eq!(quota.came(&[publish(1), publish(2), publish(3)]), Ok(()));
        assert!(quota.is_used_up());
        quota.went(&[Packet::PubRec(ack(Reason::SUCCESS)), Packet::PubAck(ack(Reason::SUCCESS))]);
        assert!(!quota.is_used_up());
    }
}
