//! Which readings are worth a message.

use std::time::Duration;

use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

use crate::reading::{Quality, Reading, Value};
use crate::units::Period;

/// When a reading is published: always by default, else when it changed, and now and then although it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// How far a number must be from the one published last, in the point's unit. Any other value, or a number where
    /// this is absent or 0, need only differ.
    #[serde(deserialize_with = "change")]
    pub change: Option<f64>,
    /// After how long a reading is published although nothing changed.
    #[serde(deserialize_with = "period")]
    pub at_least: Option<Duration>,
}

/// What was published last.
#[derive(Clone, Debug)]
pub struct Last {
    value: Value,
    quality: Quality,
    at: Instant,
}

impl Rule {
    /// Whether `reading`, which came `now`, is to be published after `last`; if so, it becomes that.
    pub fn wants(&self, reading: &Reading, last: &mut Option<Last>, now: Instant) -> bool {
        let wanted = last.as_ref().is_none_or(|last| {
            *self == Rule::default()
                || last.quality != reading.quality
                || self.changed(&last.value, &reading.value)
                || self.at_least.is_some_and(|at_least| now.duration_since(last.at) >= early(at_least))
        });
        if wanted {
            *last = Some(Last { value: reading.value.clone(), quality: reading.quality, at: now });
        }
        wanted
    }

    fn changed(&self, last: &Value, new: &Value) -> bool {
        match (number(last), number(new)) {
            // 1.15 - 1.1 is a little less than 0.05 in floats.
            (Some(last), Some(new)) => new != last && (new - last).abs() >= self.change.unwrap_or(0.0) * (1.0 - 1e-9),
            _ => last != new,
        }
    }
}

/// Readings come with the jitter of the bus: one that is a little early must not wait for a whole period more.
fn early(at_least: Duration) -> Duration {
    at_least - at_least / 20
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(int) => Some(*int as f64),
        Value::Float(x) => Some(*x),
        Value::Null | Value::Bool(_) | Value::Text(_) => None,
    }
}

fn change<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    match f64::deserialize(deserializer)? {
        x if x.is_finite() && x >= 0.0 => Ok(Some(x)),
        x => Err(D::Error::invalid_value(Unexpected::Float(x), &"a number that is not negative")),
    }
}

fn period<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Ok(Some(Period::deserialize(deserializer)?.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    const SECOND: Duration = Duration::from_secs(1);

    fn reading(value: Value, quality: Quality) -> Reading {
        Reading { device: "d".into(), point: "p".into(), value, quality, at: Timestamp(0).into(), fault: None }
    }

    /// Which of these values, good and a second apart, are published.
    fn published(rule: Rule, values: &[Value]) -> Vec<bool> {
        let (mut last, mut now) = (None, Instant::now());
        let mut one = |value: &Value| {
            now += SECOND;
            rule.wants(&reading(value.clone(), Quality::Good), &mut last, now)
        };
        values.iter().map(&mut one).collect()
    }

    fn floats(of: &[f64]) -> Vec<Value> {
        of.iter().copied().map(Value::Float).collect()
    }

    #[test]
    fn without_a_rule_every_reading_is() {
        assert_eq!(published(Rule::default(), &floats(&[1.0, 1.0, 1.0])), [true; 3]);
    }

    #[test]
    fn change_counts_from_what_was_published_last() {
        let rule = Rule { change: Some(0.05), at_least: None };
        let values = floats(&[1.10, 1.12, 1.149, 1.15, 1.11, 1.10, 1.10]);
        assert_eq!(published(rule, &values), [true, false, false, true, false, true, false]);
        let zero = Rule { change: Some(0.0), at_least: None };
        assert_eq!(published(zero, &floats(&[1.0, 1.0, 1.001])), [true, false, true]);
    }

    #[test]
    fn any_change_of_what_is_no_number_counts() {
        let rule = Rule { change: Some(100.0), at_least: None };
        let text = |text: &str| Value::Text(text.into());
        let values =
            [text("a"), text("a"), text("b"), Value::Bool(true), Value::Bool(false), Value::Null, Value::Int(0)];
        assert_eq!(published(rule, &values), [true, false, true, true, true, true, true]);
    }

    #[test]
    fn at_least_repeats_what_did_not_change() {
        let rule = Rule { change: Some(1.0), at_least: Some(3 * SECOND) };
        let values = floats(&[5.0, 5.0, 5.0, 5.0, 9.0, 9.0, 9.0, 9.0]);
        assert_eq!(published(rule, &values), [true, false, false, true, true, false, false, true]);
        // Alone it leaves every change in.
        let rule = Rule { change: None, ..rule };
        let values = floats(&[5.0, 5.1, 5.1, 5.1, 5.1]);
        assert_eq!(published(rule, &values), [true, true, false, false, true]);
    }

    #[test]
    fn a_little_jitter_does_not_cost_a_period() {
        let rule = Rule { change: Some(1.0), at_least: Some(60 * SECOND) };
        let (mut last, now) = (None, Instant::now());
        let same = reading(Value::Int(1), Quality::Good);
        assert!(rule.wants(&same, &mut last, now));
        assert!(!rule.wants(&same, &mut last, now + 50 * SECOND));
        assert!(rule.wants(&same, &mut last, now + Duration::from_millis(59_990)));
    }

    #[test]
    fn a_change_of_quality_always_counts() {
        let rule = Rule { change: Some(10.0), at_least: None };
        let mut last = None;
        let steps = [(Quality::Good, true), (Quality::Stale, true), (Quality::Stale, false), (Quality::Good, true)];
        for (quality, wanted) in steps {
            assert_eq!(rule.wants(&reading(Value::Int(1), quality), &mut last, Instant::now()), wanted);
        }
    }

    #[test]
    fn is_read_from_the_config() {
        let rule = |text: &str| toml::from_str::<Rule>(text);
        let wanted = Rule { change: Some(0.05), at_least: Some(60 * SECOND) };
        assert_eq!(rule("change = 0.05\nat-least = \"60s\""), Ok(wanted));
        assert_eq!(rule("change = 2"), Ok(Rule { change: Some(2.0), at_least: None }));
        for wrong in ["change = -1", "change = nan", "at-least = 5", "chnage = 1"] {
            assert!(rule(wrong).is_err(), "{wrong}");
        }
    }
}
