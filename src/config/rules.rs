//! What is odd about the rules of uplinks, and what one has to know of the others.

use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::section::Section;
use super::source::Span;
use crate::mqtt::topic;
use crate::uplink;
use crate::uplink::config::Protocol;
use crate::uplink::rules::{Rule, filters, shadowed};
use crate::uplink::way::Trail;

/// Where the rules of one uplink stand.
#[derive(Debug)]
pub(super) struct Places {
    uplink: Span,
    publish: Vec<Span>,
    subscribe: Vec<Span>,
}

impl Places {
    /// Those of a section, before its keys are taken; its name stands at `uplink`.
    pub(super) fn of(section: &Section<'_>, uplink: Span) -> Self {
        Self { uplink, publish: section.places("publish"), subscribe: section.places("subscribe") }
    }

    /// Warns of rules that never decide, of an uplink that carries nothing up, and of what would be sent back.
    pub(super) fn check(&self, config: &uplink::Config, out: &mut Diagnostics) {
        if filters(&config.publish).is_empty() {
            let help = "say what goes up with publish = [\"plant/#\"]".to_owned();
            out.push(Diagnostic::warning("nothing goes up by this uplink").at(self.uplink.clone()).help(help));
        }
        never_decide(&config.publish, &self.publish, out);
        never_decide(&config.subscribe, &self.subscribe, out);
        if config.protocol == Protocol::V311 && !config.bridge {
            self.come_back(config, out);
        }
    }

    fn come_back(&self, config: &uplink::Config, out: &mut Diagnostics) {
        let down = || config.subscribe.iter().zip(&self.subscribe).filter(|(rule, _)| rule.carry.is_some());
        for (up, at) in config.publish.iter().zip(&self.publish) {
            let Some(there) = up.carry.as_ref().map(|carry| carry.rename.filter(&up.filter)) else { continue };
            if let Some((_, back)) = down().find(|(down, _)| topic::overlap(&there, &down.filter)) {
                let why = "what both of these are for does not go up: the cloud would send it back";
                let help =
                    "take `bridge = false` away if the cloud knows bridges, as Mosquitto does; or use protocol = \"5\""
                        .to_owned();
                out.push(Diagnostic::warning(why).at(at.clone()).mark(back.clone(), "comes down again").help(help));
            }
        }
    }
}

fn never_decide(rules: &[Rule], places: &[Span], out: &mut Diagnostics) {
    for (rule, by) in shadowed(rules) {
        let (Some(at), Some(before)) = (places.get(rule), places.get(by)) else { continue };
        let why = format!("this rule never decides: all that `{}` is for is decided before", rules[rule].filter);
        let help = "the first rule that is for a topic decides: put the narrower one first".to_owned();
        out.push(Diagnostic::warning(why).at(at.clone()).mark(before.clone(), "by this one").help(help));
    }
}

/// Tells each uplink what it has to know of the others: which lead to the same cloud; and whether its messages need marks,
/// as they may come down by another.
pub(super) fn introduce(uplinks: &mut [(Arc<str>, uplink::Config)]) {
    let known: Vec<_> = uplinks
        .iter()
        .map(|(name, uplink)| (name.clone(), uplink.url.clone(), !filters(&uplink.subscribe).is_empty()))
        .collect();
    for (name, uplink) in uplinks {
        let others = || known.iter().filter(|(other, ..)| other != name);
        let same = others().filter(|(_, url, _)| url.0.iter().any(|address| uplink.url.0.contains(address)));
        uplink.siblings = same.map(|(other, ..)| other.clone()).collect();
        if uplink.trail == Trail::Auto && others().any(|(.., brings)| *brings) {
            uplink.trail = Trail::Always;
        }
    }
}
