//! Which topics are carried over, and what they are called on the other side. Pure.

use std::fmt;
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::message::QoS;
use crate::mqtt::topic;

/// One rule of `publish` or `subscribe`: a filter, or a filter and more in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The topics it is for, as they are called where they come from: here for `publish`, at the cloud for `subscribe`.
    pub filter: Arc<str>,
    /// What is taken from the front of their names; the filter begins with it.
    pub strip: String,
    /// What is then put in front of them, as it stands: a `/` is part of it.
    pub prefix: String,
    /// The most that is asked of a delivery.
    pub qos: QoS,
}

/// What `name` is called on the other side, and with which quality of service at most: the first rule that is for it
/// decides. None when no rule is.
pub fn route(rules: &[Rule], name: &Arc<str>) -> Option<(Arc<str>, QoS)> {
    rules.iter().find_map(|rule| Some((rule.rename(name)?, rule.qos)))
}

impl Rule {
    fn rename(&self, name: &Arc<str>) -> Option<Arc<str>> {
        if !topic::matches(&self.filter, name) {
            return None;
        }
        if self.strip.is_empty() && self.prefix.is_empty() {
            return Some(name.clone());
        }
        // `a/#` is for `a` as well, from which `a/` cannot be taken.
        let renamed = format!("{}{}", self.prefix, name.strip_prefix(&*self.strip)?);
        topic::check_name(&renamed).is_ok().then(|| renamed.into())
    }

    fn check(self) -> Result<Self, String> {
        let Self { filter, strip, prefix, .. } = &self;
        topic::check_filter(filter).map_err(|e| format!("the filter `{filter}` cannot be used: {e}"))?;
        if filter.starts_with("$share/") {
            return Err(format!("the filter `{filter}` is shared, which an uplink does not support"));
        }
        if prefix.contains(['+', '#', '\0']) {
            return Err(format!("the prefix `{prefix}` becomes part of topics, which cannot contain `+`, `#` or NUL"));
        }
        if strip.contains(['+', '#']) || !filter.starts_with(&**strip) {
            return Err(format!("`strip` is `{strip}`, but the filter `{filter}` does not begin with just that"));
        }
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct Table {
            filter: Arc<str>,
            #[serde(default)]
            strip: String,
            #[serde(default)]
            prefix: String,
            #[serde(default = "at_least_once")]
            qos: QoS,
        }

        struct RuleVisitor;

        impl<'de> Visitor<'de> for RuleVisitor {
            type Value = Rule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a topic filter such as \"plant/#\", or { filter = \"…\", prefix = \"…\", qos = 1 }")
            }

            fn visit_str<E: de::Error>(self, filter: &str) -> Result<Rule, E> {
                let (strip, prefix) = Default::default();
                Rule { filter: filter.into(), strip, prefix, qos: at_least_once() }.check().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rule, A::Error> {
                let Table { filter, strip, prefix, qos } = Table::deserialize(MapAccessDeserializer::new(map))?;
                Rule { filter, strip, prefix, qos }.check().map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_any(RuleVisitor)
    }
}

fn at_least_once() -> QoS {
    QoS::AtLeastOnce
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(list: &str) -> Result<Vec<Rule>, String> {
        #[derive(Deserialize)]
        struct Rules {
            list: Vec<Rule>,
        }
        toml::from_str(&format!("list = {list}")).map(|r: Rules| r.list).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = rules(
            r#"[{ filter = "plant/private/#", prefix = "p/", qos = 0 }, "plant/#",
                { filter = "site/a/#", strip = "site/", prefix = "s-", qos = 2 }]"#,
        )
        .expect("they are rules");
        let routed = |name: &str| route(&rules, &name.into()).map(|(name, qos)| (name.to_string(), u8::from(qos)));
        let to = |name: &str, qos| Some((name.to_owned(), qos));
        assert_eq!(routed("plant/private/x"), to("p/plant/private/x", 0));
        assert_eq!(routed("plant/x"), to("plant/x", 1));
        assert_eq!(routed("site/a/x"), to("s-a/x", 2));
        assert_eq!(routed("other"), None);
        assert_eq!(routed("$SYS/x"), None);
    }

    #[test]
    fn a_name_that_the_other_side_cannot_have_goes_nowhere() {
        let rules = rules(r#"[{ filter = "a/#", strip = "a/" }]"#).expect("a rule");
        assert_eq!(route(&rules, &"a/b".into()), Some(("b".into(), QoS::AtLeastOnce)));
        assert_eq!(route(&rules, &"a".into()), None);
        assert_eq!(route(&rules, &"a/".into()), None);
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
            (r#"[{ prefix = "a" }]"#, "missing field `filter`"),
            ("[1]", "a topic filter such as"),
        ] {
            let error = rules(list).expect_err(list);
            assert!(error.contains(part), "{list}: {error}");
        }
    }
}
