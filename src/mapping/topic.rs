//! Topic templates: `plant/{device}/{point}`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::mqtt::topic::{Invalid, check_name};

/// A topic with placeholders for names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// What the placeholders stand for.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// `{gateway}`: the gateway's id.
    pub gateway: &'a str,
    /// `{bus}`: the name of the bus.
    pub bus: &'a str,
    /// `{device}`: the name of the device.
    pub device: &'a str,
    /// `{unit}`: its Modbus address.
    pub unit: u8,
    /// `{point}`: the name of the point.
    pub point: &'a str,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadTemplate {
    /// No such placeholder.
    Unknown(String),
    /// A `{` without its `}`.
    Unclosed,
    /// A `}` without its `{`.
    Unopened,
    /// Whatever the names are, the topic would not be valid.
    Topic(Invalid),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Gateway,
    Bus,
    Device,
    Unit,
    Point,
}

const PLACEHOLDERS: [(&str, Piece); 5] = [
    ("gateway", Piece::Gateway),
    ("bus", Piece::Bus),
    ("device", Piece::Device),
    ("unit", Piece::Unit),
    ("point", Piece::Point),
];

impl Template {
    /// The topic of one point.
    ///
    /// # Errors
    /// When a name makes the topic one that nothing can be published on, as one with `+` does.
    pub fn resolve(&self, names: &Names<'_>) -> Result<Arc<str>, Invalid> {
        let mut topic = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => topic.push_str(text),
                Piece::Gateway => topic.push_str(names.gateway),
                Piece::Bus => topic.push_str(names.bus),
                Piece::Device => topic.push_str(names.device),
                Piece::Unit => topic.push_str(&names.unit.to_string()),
                Piece::Point => topic.push_str(names.point),
            }
        }
        check_name(&topic)?;
        Ok(topic.into())
    }
}

impl FromStr for Template {
    type Err = BadTemplate;

    fn from_str(text: &str) -> Result<Self, BadTemplate> {
        check_name(text).map_err(BadTemplate::Topic)?;
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, after) = rest.split_once('{').map_or((rest, None), |(literal, after)| (literal, Some(after)));
            if literal.contains('}') {
                return Err(BadTemplate::Unopened);
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            let Some(after) = after else { break };
            let (name, after) = after.split_once('}').ok_or(BadTemplate::Unclosed)?;
            match PLACEHOLDERS.iter().find(|(placeholder, _)| *placeholder == name) {
                Some((_, piece)) => pieces.push(piece.clone()),
                None if name.contains('{') => return Err(BadTemplate::Unclosed),
                None => return Err(BadTemplate::Unknown(name.to_owned())),
            }
            rest = after;
        }
        Ok(Self(pieces))
    }
}

impl fmt::Display for BadTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadTemplate::Unknown(name) => {
                let names = PLACEHOLDERS.map(|(name, _)| format!("{{{name}}}")).join(", ");
                write!(f, "there is no placeholder {{{name}}}; there are {names}")
            }
            BadTemplate::Unclosed => f.write_str("a `{` has no `}`"),
            BadTemplate::Unopened => f.write_str("a `}` has no `{`"),
            BadTemplate::Topic(why) => write!(f, "this is no topic: {why}"),
        }
    }
}

impl std::error::Error for BadTemplate {}

/// As it is written.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match (piece, PLACEHOLDERS.iter().find(|(_, other)| other == piece)) {
            (Piece::Literal(text), _) => f.write_str(text),
            (_, Some((name, _))) => write!(f, "{{{name}}}"),
            (_, None) => unreachable!("every other piece is in PLACEHOLDERS"),
        })
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> = Names { gateway: "plant7", bus: "rs485", device: "meter", unit: 3, point: "voltage" };

    fn template(text: &str) -> Template {
        text.parse().expect(text)
    }

    #[test]
    fn fills_in_the_names() {
        let cases = [
            ("plant/{device}/{point}", "plant/meter/voltage"),
            ("{gateway}/{bus}/{unit}/{device}{point}/x", "plant7/rs485/3/metervoltage/x"),
            ("a/b", "a/b"),
            ("{point}", "voltage"),
        ];
        for (text, topic) in cases {
            assert_eq!(template(text).resolve(&NAMES).as_deref(), Ok(topic));
            assert_eq!(template(text).to_string(), text);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let cases = [
            ("a/{devise}", "no placeholder {devise}; there are {gateway}, {bus}, {device}, {unit}, {point}"),
            ("a/{}", "no placeholder {}"),
            ("a/{device", "a `{` has no `}`"),
            ("a/{device/{point}", "a `{` has no `}`"),
            ("a/device}", "a `}` has no `{`"),
            ("", "it is empty"),
            ("a/+/{point}", "wildcards"),
        ];
        for (text, says) in cases {
            let error = text.parse::<Template>().expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_name_cannot_make_a_wildcard() {
        let topic = template("plant/{device}").resolve(&Names { device: "#", ..NAMES });
        assert_eq!(topic, Err(Invalid::WildcardInName));
    }
}
