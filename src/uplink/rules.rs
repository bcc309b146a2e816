//! Which topics are carried over, and how: the rules of `publish` and `subscribe`. Pure.
//!
//! Rules are read in order, and the first whose filter matches decides: also one that says that nothing is carried. What
//! begins with `$` is matched only by a filter that begins so.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::rename::{Filter, Rename, Template};
use crate::message::QoS;
use crate::mqtt::topic;
use crate::units::Period;

/// One rule of `publish` or `subscribe`: a filter, or a filter and more in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The topics it is for, as they are called where they come from: here for `publish`, at the cloud for `subscribe`.
    pub filter: Arc<str>,
    /// What becomes of them; none when they stay where they are.
    pub carry: Option<Carry>,
}

/// How a message is carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carry {
    pub rename: Rename,
    /// The most that is asked of a delivery.
    pub qos: QoS,
    pub retain: Retain,
    /// How old a message may get before somebody here has taken it; in `subscribe` only.
    pub max_age: Option<Duration>,
}

/// What becomes of a message's wish to be retained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retain {
    #[default]
    Keep,
    Clear,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.carry.is_none() { write!(f, "not {}", self.filter) } else { f.write_str(&self.filter) }
    }
}

/// The rule that decides about `name`, by its place: the first that matches.
pub fn decides<'a>(rules: &'a [Rule], name: &str) -> Option<(usize, &'a Rule)> {
    rules.iter().enumerate().find(|(_, rule)| topic::matches(&rule.filter, name))
}

/// What to subscribe to, so that all comes that the rules carry: each filter once, with the highest QoS asked for it.
pub fn filters(rules: &[Rule]) -> Vec<(Arc<str>, QoS)> {
    let mut filters: Vec<(Arc<str>, QoS)> = Vec::new();
    for rule in rules {
        let Some(carry) = &rule.carry else { continue };
        match filters.iter_mut().find(|(filter, _)| *filter == rule.filter) {
            Some((_, qos)) => *qos = carry.qos.max(*qos),
            None => filters.push((rule.filter.clone(), carry.qos)),
        }
    }
    filters
}

/// The rules that never decide, each with the earlier one that decides in its place.
pub fn shadowed(rules: &[Rule]) -> impl Iterator<Item = (usize, usize)> {
    rules.iter().enumerate().filter_map(|(n, rule)| {
        let earlier = rules[..n].iter().position(|earlier| topic::covers(&earlier.filter, &rule.filter));
        Some((n, earlier?))
    })
}

/// Reads the rules of `publish`.
///
/// # Errors
/// When a rule says what has a meaning on the way down only.
pub(super) fn read_up<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Rule>, D::Error> {
    struct Up(Rule);

    impl<'de> Deserialize<'de> for Up {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let rule = Rule::deserialize(deserializer)?;
            if rule.carry.as_ref().is_some_and(|carry| carry.max_age.is_some()) {
                return Err(de::Error::custom(
                    "`max-age` is for what comes down, in `subscribe`: what goes up is kept as [store] says",
                ));
            }
            Ok(Self(rule))
        }
    }

    Ok(Vec::<Up>::deserialize(deserializer)?.into_iter().map(|Up(rule)| rule).collect())
}

impl Rule {
    fn new(filter: Filter) -> Self {
        let (rename, retain) = Default::default();
        Self { filter: filter.0, carry: Some(Carry { rename, qos: at_least_once(), retain, max_age: None }) }
    }
}

/// A rule in a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    filter: Filter,
    strip: Option<String>,
    prefix: Option<String>,
    r#as: Option<Template>,
    qos: Option<QoS>,
    retain: Option<Retain>,
    #[serde(default, deserialize_with = "read_max_age")]
    max_age: Option<Duration>,
    #[serde(default)]
    drop: bool,
}

impl TryFrom<Table> for Rule {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let Table { filter: Filter(filter), strip, prefix, r#as, qos, retain, max_age, drop } = table;
        let affix = strip.is_some() || prefix.is_some();
        let more = affix || r#as.is_some() || qos.is_some() || retain.is_some() || max_age.is_some();
        if drop && more {
            return Err("with `drop` nothing is carried, so beside it there is `filter` only".into());
        }
        if drop {
            return Ok(Self { filter, carry: None });
        }
        let rename = match r#as {
            Some(_) if affix => return Err("`as` is the whole name: `strip` and `prefix` go without it".into()),
            Some(template) => Rename::Template(template),
            None => Rename::Affix { strip: strip.unwrap_or_default(), prefix: prefix.unwrap_or_default() },
        };
        rename.check(&filter)?;
        let (qos, retain) = (qos.unwrap_or_else(at_least_once), retain.unwrap_or_default());
        Ok(Self { filter, carry: Some(Carry { rename, qos, retain, max_age }) })
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RuleVisitor;

        impl<'de> Visitor<'de> for RuleVisitor {
            type Value = Rule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a topic filter such as \"plant/#\", or { filter = \"…\", prefix = \"…\", qos = 1 }")
            }

            fn visit_str<E: de::Error>(self, filter: &str) -> Result<Rule, E> {
                Filter::try_from(filter.to_owned()).map(Rule::new).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rule, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map))?.try_into().map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_any(RuleVisitor)
    }
}

fn at_least_once() -> QoS {
    QoS::AtLeastOnce
}

fn read_max_age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Period(age) = Period::deserialize(deserializer)?;
    // MQTT counts the life of a message in whole seconds.
    if age.as_secs() == 0 || age.subsec_nanos() != 0 || u32::try_from(age.as_secs()).is_err() {
        return Err(de::Error::custom("max-age is a number of whole seconds, such as \"10s\" or \"1h\""));
    }
    Ok(Some(age))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn rules(list: &str) -> Result<Vec<Rule>, String> {
        #[derive(Deserialize)]
        struct Rules {
            #[serde(deserialize_with = "read_up")]
            up: Vec<Rule>,
        }
        toml::from_str(&format!("up = {list}")).map(|r: Rules| r.up).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = rules(
            r##"["plant/private/ok", { filter = "plant/private/#", drop = true }, "plant/#", "$SYS/broker/load/#",
                { filter = "#", retain = "clear" }]"##,
        )
        .unwrap();
        let by = |name: &str| decides(&rules, name).map(|(n, _)| n);
        assert_eq!(by("plant/private/ok"), Some(0));
        assert_eq!(by("plant/private"), Some(1));
        assert_eq!(by("plant/private/x"), Some(1));
        assert_eq!(by("plant/x"), Some(2));
        assert_eq!(by("$SYS/broker/load/x"), Some(3));
        assert_eq!(by("$SYS/broker/uptime"), None);
        assert_eq!(by("other"), Some(4));
    }

    #[test]
    fn what_is_dropped_is_not_subscribed_to() {
        let rules = rules(
            r#"[{ filter = "a/private/#", drop = true }, "a/#", { filter = "b", qos = 0 }, { filter = "b", qos = 2 }]"#,
        );
        assert_eq!(filters(&rules.unwrap()), [("a/#".into(), QoS::AtLeastOnce), ("b".into(), QoS::ExactlyOnce)]);
    }

    #[test]
    fn a_rule_that_never_decides_is_found() {
        let rules = rules(r#"["a/#", "a/b", { filter = "+/b", drop = true }, "c/b", "c/+", "$SYS/#", "+/+/#"]"#);
        assert_eq!(shadowed(&rules.unwrap()).collect::<Vec<_>>(), [(1, 0), (3, 2)]);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (list, part) in [
            (r#"["a/#/b"]"#, "`#` can only be the last level"),
            (r#"["$share/g/a"]"#, "shared"),
            (r#"[{ filter = "a/#", prefix = "+/" }]"#, "prefix `+/`"),
            (r#"[{ filter = "a/#", strip = "b/" }]"#, "`strip` is `b/`"),
            (r#"[{ filter = "+/a", strip = "+/" }]"#, "`strip` is `+/`"),
            (r#"[{ filter = "a/#", prefx = "b/" }]"#, "unknown field `prefx`"),
            (r#"[{ filter = "a/#", qos = 3 }]"#, "qos is 0, 1 or 2"),
            (r#"[{ filter = "a/#", retain = "no" }]"#, "unknown variant `no`"),
            (r#"[{ filter = "a/#", as = "b/{1}" }]"#, "has no `+`"),
            (r#"[{ filter = "a/#", as = "b", strip = "a/" }]"#, "`as` is the whole name"),
            (r#"[{ filter = "a/#", drop = true, qos = 1 }]"#, "with `drop` nothing is carried"),
            (r#"[{ filter = "a/#", max-age = "10s" }]"#, "for what comes down"),
            (r#"[{ filter = "a/#", max-age = "0s" }]"#, "whole seconds"),
            (r#"[{ filter = "a/#", max-age = "1500ms" }]"#, "whole seconds"),
            (r#"[{ prefix = "a" }]"#, "missing field `filter`"),
            ("[1]", "a topic filter such as"),
        ] {
            let error = rules(list).expect_err(list);
            assert!(error.contains(part), "{list}: {error}");
        }
    }
}
