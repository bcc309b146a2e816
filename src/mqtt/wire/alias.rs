//! Topic aliases (MQTT 5.0, 3.3.2.3.4): numbers for topics, on one connection and in one direction. Pure.

use std::num::NonZeroU16;
use std::sync::Arc;

use super::read::text;
use super::{Error, bad};
use crate::mqtt::{Reason, Version, topic};

/// How many topic aliases a peer may set; announced in CONNACK and CONNECT.
pub const TOPIC_ALIAS_MAXIMUM: u16 = 64;

/// How many aliases we set at most, whatever the peer allows: each is looked at for each message.
const OUTGOING_MAXIMUM: usize = 32;

/// What an alias adds to a PUBLISH in bytes; it is of no use for a topic that is not longer.
const COST: usize = 3;

/// The topics that a peer publishes on.
#[derive(Debug, Default)]
pub(super) struct Topics {
    /// By alias, from 1.
    aliases: Vec<Option<Arc<str>>>,
    /// Of the last PUBLISH: many in a row have the same one, and share its memory.
    last: Option<Arc<str>>,
}

impl Topics {
    /// The topic of a PUBLISH with this name and alias.
    pub(super) fn resolve(
        &mut self,
        name: &[u8],
        alias: Option<NonZeroU16>,
        version: Version,
    ) -> Result<Arc<str>, Error> {
        let Some(alias) = alias else { return self.named(name, version) };
        if alias.get() > TOPIC_ALIAS_MAXIMUM {
            return bad(Reason::TOPIC_ALIAS_INVALID, "a topic alias above the maximum [MQTT-3.3.2-9]");
        }
        let place = usize::from(alias.get()) - 1;
        if name.is_empty() {
            return match self.aliases.get(place) {
                Some(Some(topic)) => Ok(topic.clone()),
                _ => bad(Reason::PROTOCOL_ERROR, "a topic alias that was never set (3.3.2.3.4)"),
            };
        }
        let topic = self.named(name, version)?;
        if self.aliases.len() <= place {
            self.aliases.resize(place + 1, None);
        }
        self.aliases[place] = Some(topic.clone());
        Ok(topic)
    }

    fn named(&mut self, name: &[u8], version: Version) -> Result<Arc<str>, Error> {
        if let Some(last) = self.last.as_ref().filter(|last| last.as_bytes() == name) {
            return Ok(last.clone());
        }
        if name.is_empty() && version == Version::V5 {
            return bad(Reason::PROTOCOL_ERROR, "a PUBLISH without topic and alias (3.3.2.1)");
        }
        let name = text(name)?;
        // One with too many levels for us is a topic name all the same: only its message is refused, by the router.
        if !matches!(topic::check_name(name), Ok(()) | Err(topic::Invalid::TooDeep)) {
            return bad(Reason::TOPIC_NAME_INVALID, "a PUBLISH on what is no topic name [MQTT-3.3.2-2]");
        }
        let topic: Arc<str> = name.into();
        self.last = Some(topic.clone());
        Ok(topic)
    }
}

/// The aliases that we have set.
///
/// The first topics get one and keep it. Replacing the one that was used least lately would look cleverer, but what a
/// gateway publishes comes in rounds, and in a round of more topics than aliases it would never meet one again.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    maximum: usize,
    topics: Vec<Arc<str>>,
}

/// How a topic is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Plainly,
    /// By its name and an alias for the next time: [`Aliases::set`] when it is sent.
    WithNew(NonZeroU16),
    ByAlias(NonZeroU16),
}

impl Aliases {
    /// Sets no more than the peer allows [MQTT-3.1.2-26], [MQTT-3.2.2-17].
    pub(super) fn set_maximum(&mut self, maximum: u16) {
        self.maximum = OUTGOING_MAXIMUM.min(maximum.into());
    }

    pub(super) fn say(&self, topic: &Arc<str>) -> Said {
        if self.maximum == 0 || topic.len() <= COST {
            return Said::Plainly;
        }
        let same = |known: &Arc<str>| Arc::ptr_eq(known, topic) || known == topic;
        match self.topics.iter().position(same) {
            Some(place) => alias(place).map_or(Said::Plainly, Said::ByAlias),
            None if self.topics.len() < self.maximum => alias(self.topics.len()).map_or(Said::Plainly, Said::WithNew),
            None => Said::Plainly,
        }
    }

    /// The new alias for `topic` is on its way.
    pub(super) fn set(&mut self, topic: &Arc<str>) {
        self.topics.push(topic.clone());
    }
}

fn alias(place: usize) -> Option<NonZeroU16> {
    NonZeroU16::new(u16::try_from(place + 1).ok()?)
}
