//! What a topic is called on the other side. Pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;

use crate::mqtt::topic;

/// How a rule renames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rename {
    /// `strip` goes from the front, then `prefix` is put there as it stands: a `/` is part of it.
    Affix { strip: String, prefix: String },
    /// The whole name anew.
    Template(Template),
}

/// A name with places: `{1}` is what the first `+` of the filter stands for, `{2}` the second; `{#}` is all the levels
/// that the `#` stands for. When those are none, the level of `{#}` goes with its `/`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// By the number of the `+`, from 0.
    Level(usize),
    Rest,
}

impl Default for Rename {
    fn default() -> Self {
        Rename::Affix { strip: String::new(), prefix: String::new() }
    }
}

impl Rename {
    /// What `name`, which `filter` matches, becomes. It may be no topic name.
    ///
    /// # Errors
    /// When it becomes nothing; the text says why.
    pub fn apply(&self, filter: &str, name: &Arc<str>) -> Result<Arc<str>, String> {
        match self {
            Rename::Affix { strip, prefix } if strip.is_empty() && prefix.is_empty() => Ok(name.clone()),
            Rename::Affix { strip, prefix } => {
                // `a/#` is for `a` as well, from which `a/` cannot be taken.
                let rest = name.strip_prefix(&**strip).ok_or_else(|| format!("it does not begin with `{strip}`"))?;
                Ok(format!("{prefix}{rest}").into())
            }
            Rename::Template(template) => Ok(template.fill(filter, name).into()),
        }
    }

    /// A filter for all that it makes of what `filter` matches; it may match more.
    pub fn filter(&self, filter: &str) -> String {
        match self {
            Rename::Affix { strip, prefix } => format!("{prefix}{}", filter.strip_prefix(&**strip).unwrap_or(filter)),
            Rename::Template(template) => template.filter(),
        }
    }

    /// Checks that it fits to the filter of its rule.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn check(&self, filter: &str) -> Result<(), String> {
        match self {
            Rename::Affix { strip, prefix } => {
                if prefix.contains(['+', '#', '\0']) {
                    return Err(format!(
                        "the prefix `{prefix}` becomes part of topics, which cannot contain `+`, `#` or NUL"
                    ));
                }
                if strip.contains(['+', '#']) || !filter.starts_with(&**strip) {
                    return Err(format!(
                        "`strip` is `{strip}`, but the filter `{filter}` does not begin with just that"
                    ));
                }
                Ok(())
            }
            Rename::Template(template) => template.check(filter),
        }
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("`as` is empty: it is what the topic is called on the other side".into());
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some(open) = rest.find('{') {
            let (before, from) = rest.split_at(open);
            let close = from.find('}').ok_or_else(|| format!("`{{` without `}}` in `{text}`"))?;
            let after = &from[close + 1..];
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(match &from[1..close] {
                "#" if (before.is_empty() && parts.is_empty() || before.ends_with('/'))
                    && (after.is_empty() || after.starts_with('/')) =>
                {
                    Part::Rest
                }
                "#" => return Err(format!("`{{#}}` stands for whole levels: write `/{{#}}` in `{text}`")),
                place => match place.parse::<usize>() {
                    Ok(n) if n > 0 => Part::Level(n - 1),
                    _ => {
                        return Err(format!(
                            "`{{{place}}}` in `{text}` stands for nothing: there are {{1}}, {{2}} … for each `+` of the \
                             filter, and {{#}} for its `#`"
                        ));
                    }
                },
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let is_wrong = |part: &Part| matches!(part, Part::Text(text) if text.contains(['+', '#', '\0', '}']));
        if parts.iter().any(is_wrong) {
            return Err(format!(
                "`{text}` becomes a topic, which cannot contain `+`, `#`, NUL or a `}}` alone; {{1}} is the first `+` of the filter"
            ));
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Template {
    fn check(&self, filter: &str) -> Result<(), String> {
        let levels = filter.split('/').filter(|level| *level == "+").count();
        for part in &self.parts {
            match part {
                Part::Level(n) if *n >= levels => {
                    let has = match levels {
                        0 => "no `+`".to_owned(),
                        1 => "only one `+`".to_owned(),
                        n => format!("only {n} `+`"),
                    };
                    return Err(format!(
                        "`{{{}}}` in `{self}` stands for nothing: the filter `{filter}` has {has}",
                        n + 1
                    ));
                }
                Part::Rest if !filter.ends_with('#') => {
                    return Err(format!("`{{#}}` in `{self}` stands for nothing: the filter `{filter}` has no `#`"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn filter(&self) -> String {
        let mut levels = Vec::new();
        for level in self.text.split('/') {
            if level == "{#}" {
                levels.push("#");
                break;
            }
            levels.push(if level.contains('{') { "+" } else { level });
        }
        levels.join("/")
    }

    fn fill(&self, filter: &str, name: &str) -> String {
        let (levels, rest) = caught(filter, name);
        let (mut filled, mut skip) = (String::with_capacity(self.text.len() + name.len()), false);
        for part in &self.parts {
            match (part, rest) {
                (Part::Text(text), _) if std::mem::take(&mut skip) => filled.push_str(text.trim_start_matches('/')),
                (Part::Text(text), _) => filled.push_str(text),
                (Part::Level(n), _) => filled.push_str(levels.get(*n).copied().unwrap_or_default()),
                (Part::Rest, Some(rest)) => filled.push_str(rest),
                (Part::Rest, None) => skip = filled.pop().is_none(),
            }
        }
        filled
    }
}

/// What each `+` of a filter stands for in a name that it matches, and the `#`: nothing, when it stands for no level.
fn caught<'a>(filter: &str, name: &'a str) -> (Vec<&'a str>, Option<&'a str>) {
    let (mut levels, mut rest) = (Vec::new(), Some(name));
    for wanted in filter.split('/') {
        if wanted == "#" {
            return (levels, rest);
        }
        let Some(here) = rest else { break };
        let (level, behind) = here.split_once('/').map_or((here, None), |(level, behind)| (level, Some(behind)));
        if wanted == "+" {
            levels.push(level);
        }
        rest = behind;
    }
    (levels, None)
}

/// A topic filter of a rule: valid, and not shared.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Filter(pub(super) Arc<str>);

impl TryFrom<String> for Filter {
    type Error = String;

    fn try_from(filter: String) -> Result<Self, String> {
        topic::check_filter(&filter).map_err(|e| format!("the filter `{filter}` cannot be used: {e}"))?;
        if filter.starts_with("$share/") {
            return Err(format!("the filter `{filter}` is shared, which an uplink does not support"));
        }
        Ok(Self(filter.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_takes_what_the_wildcards_stand_for() {
        for (filter, template, name, renamed) in [
            ("plant/+/+/set", "cmd/{1}/{2}", "plant/tank/pump/set", "cmd/tank/pump"),
            ("plant/+/+/set", "cmd/{2}/{1}", "plant/tank/pump/set", "cmd/pump/tank"),
            ("+/+", "{1}-{2}/{1}", "a/b", "a-b/a"),
            ("plant/#", "site/7/{#}", "plant/a/b", "site/7/a/b"),
            ("plant/#", "site/7/{#}", "plant", "site/7"),
            ("plant/#", "site/7/{#}", "plant/", "site/7/"),
            ("plant/#", "{#}/up", "plant", "up"),
            ("plant/#", "{#}/up", "plant/a", "a/up"),
            ("plant/#", "x/{#}/y", "plant", "x/y"),
            ("+/#", "{#}/{1}", "a/b/c", "b/c/a"),
            ("#", "all/{#}", "a//b", "all/a//b"),
            ("+/a", "fixed", "x/a", "fixed"),
            ("/+", "{1}", "/a", "a"),
        ] {
            let template: Template = template.parse().unwrap();
            template.check(filter).unwrap();
            assert!(topic::matches(filter, name));
            assert_eq!(template.fill(filter, name), renamed, "{filter} {template} {name}");
            assert!(topic::matches(&template.filter(), renamed), "{template} {renamed}");
        }
    }

    #[test]
    fn errors_say_what_stands_for_nothing() {
        for (filter, template, part) in [
            ("a/#", "", "`as` is empty"),
            ("a/+", "b/{1", "`{` without `}`"),
            ("a/+", "b/{0}", "`{0}` in `b/{0}` stands for nothing"),
            ("a/+", "b/{device}", "`{device}` in `b/{device}` stands for nothing"),
            ("a/+", "b/{2}", "the filter `a/+` has only one `+`"),
            ("a/b", "b/{1}", "has no `+`"),
            ("a/+", "b/{#}", "has no `#`"),
            ("a/#", "b{#}", "whole levels"),
            ("a/#", "{#}b", "whole levels"),
            ("a/+", "b/+", "cannot contain"),
            ("a/+", "b/}", "cannot contain"),
        ] {
            let checked = template.parse::<Template>().and_then(|template| template.check(filter));
            let error = checked.expect_err(template);
            assert!(error.contains(part), "{template}: {error}");
        }
    }
}
