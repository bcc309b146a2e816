//! Packets to bytes: which packet it is, its length, and what the peer has said about the packets it takes. Pure.

use super::alias::{Aliases, Said};
use super::header::{Kind, MAX_REMAINING};
use super::outbox::Outbox;
use super::publish::Head;
use super::write::{Count, Put};
use super::{Error, acks, connack, connect, subscribe};
use crate::message::QoS;
use crate::mqtt::{ConnAck, Connect, Packet, Publish, Reason, Version};

/// What a peer takes, as its CONNECT or CONNACK says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest packet, in bytes.
    pub max_packet: Option<u32>,
    /// How many topic aliases may be set.
    pub topic_aliases: u16,
    /// Whether reason strings may stand in more than CONNACK and DISCONNECT [MQTT-3.1.2-29].
    pub problem_info: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_packet: None, topic_aliases: 0, problem_info: true }
    }
}

impl From<&Connect> for Limits {
    fn from(connect: &Connect) -> Self {
        Self {
            max_packet: connect.maximum_packet_size,
            topic_aliases: connect.topic_alias_maximum,
            problem_info: connect.problem_info,
        }
    }
}

impl From<&ConnAck> for Limits {
    fn from(ack: &ConnAck) -> Self {
        Self { max_packet: ack.maximum_packet_size, topic_aliases: ack.topic_alias_maximum, problem_info: true }
    }
}

/// Writes the packets of one connection.
#[derive(Debug)]
pub(super) struct Encoder {
    version: Version,
    limits: Limits,
    aliases: Aliases,
}

impl Encoder {
    pub(super) fn new(version: Version) -> Self {
        Self { version, limits: Limits::default(), aliases: Aliases::default() }
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.aliases.set_maximum(if self.version == Version::V5 { limits.topic_aliases } else { 0 });
    }

    pub(super) fn set_max_packet(&mut self, bytes: Option<u32>) {
        self.limits.max_packet = bytes;
    }

    /// Puts a packet into `out`; `why` is its reason string instead of the one that its code has. What this version does
    /// not have is left out: a DISCONNECT that is an error.
    pub(super) fn encode(&mut self, packet: &Packet, why: Option<&str>, out: &mut Outbox) -> Result<(), Error> {
        let v5 = self.version == Version::V5;
        let kind = match packet {
            Packet::Publish(publish) => return self.publish(publish, out),
            Packet::Disconnect { reason, .. } if !v5 && *reason != Reason::SUCCESS => return Ok(()),
            Packet::Connect(_) => Kind::Connect,
            Packet::ConnAck(_) => Kind::ConnAck,
            Packet::PubAck(_) => Kind::PubAck,
            Packet::PubRec(_) => Kind::PubRec,
            Packet::PubRel(_) => Kind::PubRel,
            Packet::PubComp(_) => Kind::PubComp,
            Packet::Subscribe(_) => Kind::Subscribe,
            Packet::SubAck { .. } => Kind::SubAck,
            Packet::Unsubscribe { .. } => Kind::Unsubscribe,
            Packet::UnsubAck { .. } => Kind::UnsubAck,
            Packet::PingReq => Kind::PingReq,
            Packet::PingResp => Kind::PingResp,
            Packet::Disconnect { .. } => Kind::Disconnect,
        };
        let text = if v5 { self.text(packet, why) } else { None };
        match self.length(|count| self.body(packet, text, count)) {
            Ok(length) => {
                out.bytes().u8(kind.first_byte());
                out.bytes().var(length);
                self.body(packet, text, out.bytes());
                Ok(())
            }
            // A reason string that is too much for the peer is left out [MQTT-3.4.2-2].
            Err(_) if text.is_some() => {
                let length = self.length(|count| self.body(packet, None, count))?;
                out.bytes().u8(kind.first_byte());
                out.bytes().var(length);
                self.body(packet, None, out.bytes());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn publish(&mut self, publish: &Publish, out: &mut Outbox) -> Result<(), Error> {
        let Publish { id, qos, message, .. } = publish;
        if id.is_none() && *qos > QoS::AtMostOnce {
            let what = "a PUBLISH of QoS 1 or 2 needs a packet identifier";
            return Err(Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidInput, what)));
        }
        let mut said = if publish.topic_alias.is_some() { Said::Plainly } else { self.aliases.say(&message.topic) };
        let (head, length) = loop {
            let head = match said {
                Said::Plainly => Head::new(publish, self.version, &message.topic, publish.topic_alias),
                Said::WithNew(alias) => Head::new(publish, self.version, &message.topic, Some(alias)),
                Said::ByAlias(alias) => Head::new(publish, self.version, "", Some(alias)),
            };
            let length = self.length(|count| {
                head.write(count);
                count.bytes += message.payload.len();
            });
            match (length, said) {
                // It may be the alias that is too much: another message sets it.
                (Err(Error::TooLarge), Said::WithNew(_)) => said = Said::Plainly,
                (length, _) => break (head, length?),
            }
        };
        let bytes = out.bytes();
        bytes.u8(head.first_byte());
        bytes.var(length);
        head.write(bytes);
        out.put(&message.payload);
        if let Said::WithNew(_) = said {
            self.aliases.set(&message.topic);
        }
        Ok(())
    }

    /// The remaining length of a packet with this body.
    fn length(&self, body: impl FnOnce(&mut Count)) -> Result<usize, Error> {
        let mut count = Count::default();
        body(&mut count);
        let length = count.bytes;
        count.var(length);
        let size = 1 + count.bytes;
        let too_large = self.limits.max_packet.is_some_and(|max| size > max as usize);
        if count.overflow || length > MAX_REMAINING || too_large { Err(Error::TooLarge) } else { Ok(length) }
    }

    /// The reason string of a packet: failures have one.
    fn text<'a>(&self, packet: &'a Packet, why: Option<&'a str>) -> Option<&'a str> {
        let said = |reason: &Reason| reason.is_error().then(|| why.unwrap_or(reason.text()));
        match packet {
            Packet::ConnAck(ack) => ack.reason_string.as_deref().or_else(|| said(&ack.reason)),
            Packet::Disconnect { reason, .. } => said(reason),
            _ if !self.limits.problem_info => None,
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => said(&ack.reason),
            Packet::SubAck { reasons, .. } | Packet::UnsubAck { reasons, .. } => reasons.iter().find_map(said),
            _ => None,
        }
    }

    fn body<P: Put>(&self, packet: &Packet, text: Option<&str>, to: &mut P) {
        let version = self.version;
        match packet {
            Packet::Connect(it) => connect::write(it, to),
            Packet::ConnAck(it) => connack::write(it, version, text, to),
            Packet::PubAck(it) | Packet::PubRec(it) | Packet::PubRel(it) | Packet::PubComp(it) => {
                acks::write(*it, version, text, to);
            }
            Packet::Subscribe(it) => subscribe::write(it, version, to),
            Packet::SubAck { id, reasons } => subscribe::write_suback(*id, reasons, version, text, to),
            Packet::Unsubscribe { id, filters } => subscribe::write_unsubscribe(*id, filters, version, to),
            Packet::UnsubAck { id, reasons } => subscribe::write_unsuback(*id, reasons, version, text, to),
            Packet::Disconnect { reason, expiry } => acks::write_disconnect(*reason, *expiry, version, text, to),
            Packet::PingReq | Packet::PingResp | Packet::Publish(_) => {}
        }
    }
}
