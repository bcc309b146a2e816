//! The way between here and one cloud: what becomes of a message, both ways, or why it stays where it is. Pure.
//!
//! A message never comes round. What came down from a cloud does not go up to it again, by No Local of the local session
//! and by its [`trail`]; what has been at this gateway does not come in once more. A cloud before MQTT 5 sends a subscriber
//! its own messages, unless it knows bridges: what it would send back does not go up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::rules::{Carry, Retain, Rule, decides};
use crate::message::{Message, QoS};
use crate::mqtt::topic;
use crate::trail;

/// Whether the gateway marks its own messages on their way up, so that they do not come round by other brokers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trail {
    /// Those that came from elsewhere; its own, too, where it has to be: beside another uplink that brings something down.
    #[default]
    Auto,
    /// All.
    Always,
    /// None, and no heed is paid to marks: for a chain of brokers that is known to be no ring.
    Never,
}

/// What holds on the way to one cloud.
#[derive(Clone, Debug)]
pub struct Way {
    /// The gateway's id, and the uplink's name.
    pub gateway: Arc<str>,
    pub uplink: Arc<str>,
    /// The other uplinks to this cloud.
    pub siblings: Arc<[Arc<str>]>,
    pub up: Arc<[Rule]>,
    pub down: Arc<[Rule]>,
    pub trail: Trail,
    /// The cloud speaks MQTT 5, and so carries trails.
    pub five: bool,
    /// The cloud sends us back what we publish on topics that we are subscribed to.
    pub echoes: bool,
}

/// How a message goes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The rule that decided, by its place.
    pub rule: usize,
    pub topic: Arc<str>,
    /// At most.
    pub qos: QoS,
    pub retain: Retain,
    pub max_age: Option<Duration>,
}

/// Why a message does not go over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stay {
    /// No rule is for its topic.
    NoRule,
    /// The first rule that is says so.
    Dropped { rule: usize },
    /// It would be called what no topic may be called there.
    Name { rule: usize, name: String, why: String },
    /// Its topic has more levels than are taken here.
    TooDeep,
    /// The cloud would send it back: this rule of `subscribe` is for it.
    Echo { name: Arc<str>, rule: usize },
    /// It came down from this very cloud.
    CameDown,
    /// It has been at this gateway before.
    CameRound,
    /// It came from a cloud or another gateway, and this cloud cannot carry its trail.
    NoTrail,
    /// It has come by too many gateways.
    TooFar,
}

impl Stay {
    /// Whether it is for want of a way that does not lead round, rather than of a rule.
    pub fn is_loop(&self) -> bool {
        use Stay::*;
        matches!(self, Echo { .. } | CameDown | CameRound | NoTrail | TooFar)
    }
}

impl fmt::Display for Stay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stay::NoRule => f.write_str("no rule is for it"),
            Stay::Dropped { rule } => write!(f, "rule {} drops it", rule + 1),
            Stay::Name { rule, name, why } => {
                write!(f, "rule {} would call it `{name}`, which cannot be: {why}", rule + 1)
            }
            Stay::TooDeep => f.write_str("its topic has more than 200 levels"),
            Stay::Echo { name, rule } => write!(
                f,
                "the cloud would send `{name}` back, as rule {} of `subscribe` is for it, and before MQTT 5 it cannot be \
                 told not to unless it knows bridges",
                rule + 1
            ),
            Stay::CameDown => f.write_str("it came down from there"),
            Stay::CameRound => f.write_str("it has been at this gateway before"),
            Stay::NoTrail => f.write_str(
                "it came from a cloud or another gateway, and might come round: before MQTT 5 it cannot carry the marks \
                 that would stop it (`trail = \"never\"` lets it go)",
            ),
            Stay::TooFar => write!(f, "it has come by {} gateways, which looks like a ring", trail::MOST),
        }
    }
}

impl Way {
    /// How a message of the local broker goes up.
    ///
    /// # Errors
    /// Why it stays here.
    pub fn up(&self, message: &Message) -> Result<Passage, Stay> {
        let (rule, carry) = decided(&self.up, &message.topic)?;
        if self.trail != Trail::Never {
            let by = |uplink: &Arc<str>| trail::came_by(message, &self.gateway, uplink);
            if by(&self.uplink) || self.siblings.iter().any(by) {
                return Err(Stay::CameDown);
            }
            if trail::is_full(message) {
                return Err(Stay::TooFar);
            }
            if !self.five && trail::hops(message).next().is_some() {
                return Err(Stay::NoTrail);
            }
        }
        let passage = passage(rule, carry, &self.up[rule].filter, &message.topic)?;
        // What the cloud sends on a topic that the rules drop is dropped.
        match decides(&self.down, &passage.topic).filter(|(_, down)| self.echoes && down.carry.is_some()) {
            Some((rule, _)) => Err(Stay::Echo { name: passage.topic, rule }),
            None => Ok(passage),
        }
    }

    /// Whether a message that stays here for this reason is lost to the cloud: one of this gateway's own clients, which no
    /// cloud has had. What came down here by an uplink is not, nor what the config does not want up there.
    pub fn withholds(&self, message: &Message, why: &Stay) -> bool {
        match why {
            Stay::Echo { .. } => true,
            Stay::NoTrail => !trail::has_passed(message, &self.gateway),
            _ => false,
        }
    }

    /// How a message of the cloud's comes down.
    ///
    /// # Errors
    /// Why it does not.
    pub fn down(&self, message: &Message) -> Result<Passage, Stay> {
        let (rule, carry) = decided(&self.down, &message.topic)?;
        if self.trail != Trail::Never {
            if trail::has_passed(message, &self.gateway) {
                return Err(Stay::CameRound);
            }
            if trail::is_full(message) {
                return Err(Stay::TooFar);
            }
        }
        let passage = passage(rule, carry, &self.down[rule].filter, &message.topic)?;
        if passage.topic.starts_with("$SYS/") {
            let (name, why) =
                (passage.topic.to_string(), "`$SYS/` is what the local broker tells of itself".to_owned());
            return Err(Stay::Name { rule, name, why });
        }
        Ok(passage)
    }

    /// The message as it goes up: renamed, with the mark of this gateway where it needs one.
    pub fn sent(&self, message: Arc<Message>, passage: &Passage) -> Arc<Message> {
        let marks = self.five
            && match self.trail {
                Trail::Never => false,
                Trail::Always => !trail::has_passed(&message, &self.gateway),
                Trail::Auto => trail::hops(&message).next().is_some() && !trail::has_passed(&message, &self.gateway),
            };
        if message.topic == passage.topic && !marks {
            return message;
        }
        let mut message = Message { topic: passage.topic.clone(), ..(*message).clone() };
        if marks {
            trail::add(&mut message, self.gateway.clone());
        }
        Arc::new(message)
    }

    /// The message as it comes down: renamed, with the mark of where it came from, and no longer of use than its rule has it.
    pub fn received(&self, message: Arc<Message>, passage: &Passage) -> Arc<Message> {
        let mut message = Arc::unwrap_or_clone(message);
        message.topic = passage.topic.clone();
        message.retain &= passage.retain == Retain::Keep;
        if let Some(most) = passage.max_age.map(|age| u32::try_from(age.as_secs()).unwrap_or(u32::MAX)) {
            let expiry = &mut message.properties.get_or_insert_default().expiry;
            *expiry = Some(expiry.map_or(most, |sender| sender.min(most)));
        }
        if self.trail != Trail::Never {
            trail::add(&mut message, format!("{}/{}", self.gateway, self.uplink));
        }
        Arc::new(message)
    }
}

fn decided<'a>(rules: &'a [Rule], name: &str) -> Result<(usize, &'a Carry), Stay> {
    let (n, rule) = decides(rules, name).ok_or(Stay::NoRule)?;
    Ok((n, rule.carry.as_ref().ok_or(Stay::Dropped { rule: n })?))
}

fn passage(rule: usize, carry: &Carry, filter: &str, name: &Arc<str>) -> Result<Passage, Stay> {
    let fails = |name: &str, why: String| Stay::Name { rule, name: name.to_owned(), why };
    let topic = carry.rename.apply(filter, name).map_err(|why| fails(name, why))?;
    if topic::is_too_deep(&topic) {
        return Err(Stay::TooDeep);
    }
    if !Arc::ptr_eq(&topic, name) {
        topic::check_name(&topic).map_err(|why| fails(&topic, why.to_string()))?;
    }
    Ok(Passage { rule, topic, qos: carry.qos, retain: carry.retain, max_age: carry.max_age })
}

#[cfg(test)]
mod tests;
