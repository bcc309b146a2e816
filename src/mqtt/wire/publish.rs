//! PUBLISH (MQTT 5.0, 3.3; MQTT 3.1.1, 3.3), the packet that counts: no copy but that of its payload. Pure.

use std::num::NonZeroU16;
use std::sync::Arc;

use super::alias::Topics;
use super::connect::qos;
use super::header::{Kind, Peer};
use super::properties::{self, Property, misplaced};
use super::read::Cursor;
use super::write::Put;
use super::{Error, bad};
use crate::clock::Moment;
use crate::message::{Message, Properties, QoS};
use crate::mqtt::{Publish, Reason, Version};

const DUP: u8 = 0x08;
const RETAIN: u8 = 0x01;

/// The properties of a message that are forwarded unchanged (MQTT 5.0, 3.3.2.3), as they are gathered.
#[derive(Debug, Default)]
pub(super) struct Forwarded(Option<Box<Properties>>);

impl Forwarded {
    /// Takes a property if it is one of them.
    pub(super) fn take(&mut self, property: &Property) -> bool {
        match *property {
            Property::PayloadFormat(utf8) => self.get().utf8 = Some(utf8),
            Property::MessageExpiry(seconds) => self.get().expiry = Some(seconds),
            Property::ContentType(text) => self.get().content_type = Some(text.into()),
            Property::ResponseTopic(text) => self.get().response_topic = Some(text.into()),
            Property::Correlation(bytes) => self.get().correlation = Some(bytes.into()),
            Property::User(name, value) => self.get().user.push((name.into(), value.into())),
            _ => return false,
        }
        true
    }

    pub(super) fn into_properties(self) -> Option<Box<Properties>> {
        self.0
    }

    fn get(&mut self) -> &mut Properties {
        self.0.get_or_insert_default()
    }
}

/// The properties of a message that are forwarded unchanged, and what is left of its life.
pub(super) fn forwarded(message: &Message, expiry: Option<u32>) -> impl Iterator<Item = Property<'_>> {
    let properties = message.properties.as_deref();
    let single = properties.map(|p| {
        [
            p.utf8.map(Property::PayloadFormat),
            expiry.map(Property::MessageExpiry),
            p.content_type.as_deref().map(Property::ContentType),
            p.response_topic.as_deref().map(Property::ResponseTopic),
            p.correlation.as_deref().map(Property::Correlation),
        ]
    });
    let user = properties.map_or(&[][..], |p| &p.user).iter().map(|(name, value)| Property::User(name, value));
    single.into_iter().flatten().flatten().chain(user)
}

/// What stands behind the fixed header, whose flags are known to be good.
pub(super) fn read(
    first: u8,
    (version, peer): (Version, Peer),
    from: &mut Cursor,
    topics: &mut Topics,
    at: Moment,
) -> Result<Publish, Error> {
    let (qos, retain) = (qos(first >> 1 & 3), first & RETAIN != 0);
    let topic = from.binary()?;
    let id = if qos == QoS::AtMostOnce { None } else { Some(from.id()?) };
    let mut forwarded = Forwarded::default();
    let (mut alias, mut subscription_ids) = (None, Vec::new());
    if version == Version::V5 {
        let mut properties = properties::Properties::read(from)?;
        while let Some(property) = properties.next()? {
            match property {
                Property::TopicAlias(it) => alias = Some(it),
                Property::SubscriptionId(id) if peer == Peer::Server => subscription_ids.push(id),
                Property::SubscriptionId(_) => {
                    return bad(
                        Reason::PROTOCOL_ERROR,
                        "a PUBLISH from a client with a subscription identifier [MQTT-3.3.4-6]",
                    );
                }
                property if forwarded.take(&property) => {}
                _ => return misplaced(),
            }
        }
    }
    let topic = topics.resolve(topic, alias, version)?;
    let message = Message {
        topic,
        payload: from.payload(),
        qos,
        retain,
        at,
        timed: false,
        properties: forwarded.into_properties(),
    };
    let dup = first & DUP != 0;
    Ok(Publish { id, dup, qos, retain, message: Arc::new(message), topic_alias: None, subscription_ids, place: None })
}

/// A PUBLISH as it goes out over one connection: all but its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    publish: &'a Publish,
    version: Version,
    /// Empty when the alias says it.
    topic: &'a str,
    alias: Option<NonZeroU16>,
    expiry: Option<u32>,
}

impl<'a> Head<'a> {
    pub(super) fn new(publish: &'a Publish, version: Version, topic: &'a str, alias: Option<NonZeroU16>) -> Self {
        let expiry = publish.message.properties.as_ref().and_then(|p| p.expiry);
        // The time a message has waited here is taken off [MQTT-3.3.2-6]. One that has expired is not sent at all; one
        // that expires on this very way is on its way, and is not to look as if it had lived for ever or not at all.
        let left = |seconds: u32| {
            let waited = publish.message.at.age_at(Moment::now()).as_secs();
            seconds.saturating_sub(u32::try_from(waited).unwrap_or(u32::MAX)).max(seconds.min(1))
        };
        Self { publish, version, topic, alias, expiry: expiry.map(left) }
    }

    pub(super) fn first_byte(&self) -> u8 {
        let Publish { dup, qos, retain, .. } = *self.publish;
        // DUP says nothing at QoS 0 and must not be there [MQTT-3.3.1-2].
        let dup = if dup && qos > QoS::AtMostOnce { DUP } else { 0 };
        Kind::Publish.first_byte() | dup | u8::from(qos) << 1 | u8::from(retain)
    }

    pub(super) fn write<P: Put>(&self, to: &mut P) {
        to.text(self.topic);
        if let Some(id) = self.publish.id.filter(|_| self.publish.qos > QoS::AtMostOnce) {
            to.u16(id.get());
        }
        if self.version != Version::V5 {
            return;
        }
        let Publish { message, subscription_ids, .. } = self.publish;
        if self.alias.is_none() && subscription_ids.is_empty() && message.properties.is_none() {
            return to.u8(0);
        }
        properties::write(to, || {
            let alias = self.alias.map(Property::TopicAlias);
            let subscriptions = subscription_ids.iter().map(|id| Property::SubscriptionId(*id));
            alias.into_iter().chain(forwarded(message, self.expiry)).chain(subscriptions)
        });
    }
}
