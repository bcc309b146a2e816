//! How important messages are when something has to give way: alarms outlive telemetry. Pure.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::mqtt::topic;

/// The class of what no rule names: the least important.
pub const NO_CLASS: u8 = u8::MAX;

/// `[[store.class]]`: the topics of one class. The first rule is the most important class, 0.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// Filters, as a subscription has them.
    #[serde(deserialize_with = "filters")]
    pub filters: Vec<String>,
}

/// All classes.
#[derive(Clone, Debug, Default)]
pub struct Classes(Vec<Rule>);

impl Classes {
    /// The classes of these rules, the most important first. There are 255; rules beyond that are of the last one.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// The class of a message on `topic`: that of the first rule that names it.
    pub fn of(&self, topic: &str) -> u8 {
        let names = |rule: &Rule| rule.filters.iter().any(|filter| topic::matches(filter, topic));
        let class = self.0.iter().position(names);
        class.map_or(NO_CLASS, |class| u8::try_from(class).unwrap_or(NO_CLASS).min(NO_CLASS - 1))
    }
}

fn filters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let filters = Vec::<String>::deserialize(deserializer)?;
    for filter in &filters {
        topic::check_filter(filter).map_err(|e| D::Error::custom(format!("`{filter}` is no topic filter: {e}")))?;
    }
    Ok(filters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_names_a_topic_decides() {
        let rule = |filters: &[&str]| Rule { filters: filters.iter().map(ToString::to_string).collect() };
        let classes = Classes::new(vec![rule(&["plant/+/alarm", "fire"]), rule(&["plant/#"])]);
        let of = ["plant/a/alarm", "fire", "plant/a/level", "other"].map(|topic| classes.of(topic));
        assert_eq!(of, [0, 0, 1, NO_CLASS]);
        assert_eq!(Classes::default().of("fire"), NO_CLASS);
    }

    #[test]
    fn what_is_no_filter_is_an_error() {
        let read = toml::from_str::<Rule>("filters = [\"a/#/b\"]");
        assert!(read.expect_err("it is none").message().contains("`a/#/b` is no topic filter"));
    }
}
