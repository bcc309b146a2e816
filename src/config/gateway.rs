//! `[gateway]`: who this is, and what holds for all points that do not say otherwise.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::route::Routing;
use super::section::Section;
use crate::bus::point::check_period;
use crate::clock::trust::Rule;
use crate::mqtt::topic;
use crate::units::Period;

/// How often a point is read when nothing says otherwise.
pub(crate) const EVERY: Duration = Duration::from_secs(10);

/// What to log when nothing says otherwise.
pub(crate) const LOG: &str = "info";

/// The gateway itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its name among gateways; a level of its status topics.
    pub id: Arc<str>,
    /// What to log: a level, or levels by target as in `info,fieldpost::bus=debug`.
    pub log: String,
    /// When the wall clock is trusted.
    pub clock: Rule,
}

/// The keys of `[gateway]` but for those of [`Routing`].
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Keys {
    id: Option<Spanned<String>>,
    log: Option<Spanned<String>>,
    every: Option<Spanned<Period>>,
}

/// Apart, so that a wrong word hides no other error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Clock {
    clock: Rule,
}

/// A word alone would be taken as a target of which everything is logged, and nothing of the others.
fn check_log(log: &str) -> Result<(), String> {
    log.parse::<Targets>().map_err(|e| e.to_string())?;
    match log.split(',').find(|part| !part.contains('=') && part.trim().parse::<LevelFilter>().is_err()) {
        Some(word) => Err(format!("`{word}`")),
        None => Ok(()),
    }
}

/// Reads the section; also what it says for all points.
pub(super) fn read(section: Option<Section<'_>>, out: &mut Diagnostics) -> (Gateway, Routing, Duration) {
    let (keys, Clock { clock }, routing) = match section {
        Some(mut section) => {
            let taken = (section.take::<Keys>(out), section.take::<Clock>(out), section.take::<Routing>(out));
            section.finish(out);
            taken
        }
        None => Default::default(),
    };
    if let Some(id) = &keys.id
        && let Err(why) = check_level(id.get_ref())
    {
        out.push(Diagnostic::error(format!("the id is a level of topics: {why}")).at(id.span()));
    }
    if let Some(log) = &keys.log
        && let Err(why) = check_log(log.get_ref())
    {
        let help = "write \"error\", \"warn\", \"info\", \"debug\" or \"trace\"".to_owned();
        out.push(Diagnostic::error(format!("this is no log level: {why}")).at(log.span()).help(help));
    }
    if let Some(every) = &keys.every
        && let Err(why) = check_period(*every.get_ref())
    {
        let help = "give a time such as \"1s\"".to_owned();
        out.push(Diagnostic::error(why).at(every.span()).help(help));
    }
    let every = keys.every.map_or(EVERY, |every| every.into_inner().0);
    let id = keys.id.map_or_else(host_name, Spanned::into_inner);
    let log = keys.log.map_or_else(|| LOG.to_owned(), Spanned::into_inner);
    (Gateway { id: id.into(), log, clock }, routing, every)
}

/// Whether a text can be one level of a topic.
pub(super) fn check_level(text: &str) -> Result<(), String> {
    topic::check_name(text).map_err(|why| why.to_string())?;
    if text.contains('/') { Err("it cannot contain `/`".into()) } else { Ok(()) }
}

/// The host's name, without what cannot stand in a topic.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().replace(['/', '+', '#'], "-");
    if name.is_empty() { "fieldpost".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_section_the_host_names_the_gateway() {
        let mut out = Diagnostics::default();
        let (gateway, _, every) = read(None, &mut out);
        assert_eq!((check_level(&gateway.id), gateway.log.as_str(), every), (Ok(()), LOG, EVERY));
        assert!(out.is_empty());
    }
}
