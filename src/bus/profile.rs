//! A device type as data: which points it has and where they stand, with the document that says so.
//!
//! A profile is a TOML file. Its examples are answers as such a device gives them; one test proves that every example
//! decodes to what it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::decode::Order;
use super::point::{self, Addressing, OrderName, Problem, Surroundings};
use super::{Point, Source};
use crate::units::Period;

/// A profile.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Maker and type, for people.
    pub name: String,
    /// What it is, in a sentence.
    pub description: String,
    /// Where the addresses are from: document and page.
    pub source: String,
    /// Whether it is for a `uart` bus rather than Modbus.
    #[serde(default)]
    pub uart: bool,
    /// What holds for all points that do not say otherwise.
    #[serde(default)]
    pub defaults: Defaults,
    /// The points.
    pub points: BTreeMap<Spanned<String>, point::Config>,
    /// Recorded answers.
    #[serde(default)]
    pub example: Vec<Example>,
}

/// What can be said for a device as a whole, or in a profile's `[defaults]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Defaults {
    /// How often points are read.
    pub every: Option<Spanned<Period>>,
    /// When they count as stale.
    pub stale_after: Option<Spanned<Period>>,
    /// The order of the bytes of a value.
    pub order: Option<OrderName>,
    /// How addresses are counted.
    pub addressing: Option<Addressing>,
    /// How long an answer may take.
    pub timeout: Option<Spanned<Period>>,
    /// The most registers in one request.
    pub max_registers: Option<Spanned<u16>>,
    /// The most bits in one request.
    pub max_bits: Option<Spanned<u16>>,
    /// The most registers to read across.
    pub max_gap: Option<u16>,
}

/// An answer as the device gives it, and what it means.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Example {
    /// From which table: `input` or `holding`.
    pub table: String,
    /// The address of the first word, 0-based.
    pub address: u16,
    /// The registers.
    pub words: Vec<u16>,
    /// A line of text instead, for a `uart` profile.
    pub line: String,
    /// What the points have to say.
    pub expect: BTreeMap<String, toml::Value>,
}

impl Defaults {
    /// These, with what they do not say taken from `base`.
    pub fn over(self, base: &Defaults) -> Self {
        Self {
            every: self.every.or_else(|| base.every.clone()),
            stale_after: self.stale_after.or_else(|| base.stale_after.clone()),
            order: self.order.or(base.order),
            addressing: self.addressing.or(base.addressing),
            timeout: self.timeout.or_else(|| base.timeout.clone()),
            max_registers: self.max_registers.or_else(|| base.max_registers.clone()),
            max_bits: self.max_bits.or_else(|| base.max_bits.clone()),
            max_gap: self.max_gap.or(base.max_gap),
        }
    }

    /// What they give a point.
    pub fn surroundings(&self, every: Duration, uart: bool) -> Surroundings {
        let period = |p: &Option<Spanned<Period>>| p.as_ref().map(|p| p.get_ref().0);
        Surroundings {
            every: period(&self.every).unwrap_or(every),
            stale_after: period(&self.stale_after),
            order: self.order.map_or(Order::default(), |order| order.0),
            addressing: self.addressing.unwrap_or_default(),
            uart,
        }
    }
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// The first error, with its place in `text`.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Its points in the order of the file.
    pub fn points(&self) -> Vec<(&Spanned<String>, &point::Config)> {
        let mut points: Vec<_> = self.points.iter().collect();
        points.sort_by_key(|(name, _)| name.span().start);
        points
    }

    /// Its points, resolved without a config.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn resolve(&self) -> Result<Vec<Point>, Vec<Problem>> {
        let around = self.defaults.surroundings(Duration::from_secs(1), self.uart);
        let mut points = Vec::new();
        let mut problems = Vec::new();
        for (name, config) in self.points() {
            match config.resolve(Arc::from(name.get_ref().as_str()), &around) {
                Ok(point) => points.push(point),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(points) } else { Err(problems) }
    }
}

impl Example {
    /// The words of a point in this answer; none when they are not all there.
    pub fn words_of(&self, point: &Point) -> Option<&[u16]> {
        let Source::Modbus { table, address } = &point.source else { return None };
        if table.key() != self.table {
            return None;
        }
        let first = usize::from(address.checked_sub(self.address)?);
        self.words.get(first..first + usize::from(point.decode.words()))
    }
}

/// The text of a profile that comes with the program.
pub fn shipped(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(shipped, _)| *shipped == name).map(|(_, text)| *text)
}

macro_rules! ship {
    ($($name:literal),+ $(,)?) => {
        /// The profiles that come with the program: name and text.
        pub const SHIPPED: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../config/profiles/", $name, ".toml")))),+
        ];
    };
}

ship![
    "abb-b23",
    "chint-dtsu666",
    "eastron-sdm120",
    "eastron-sdm230",
    "eastron-sdm630",
    "nmea-gps",
    "pzem-016",
    "xy-md02",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bus::decode;
    use crate::reading::Value;

    #[test]
    fn every_file_comes_with_the_program() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config/profiles");
        let files = std::fs::read_dir(folder).expect("it is there").map(|file| file.expect("a file").file_name());
        let files: BTreeSet<String> =
            files.map(|name| name.to_string_lossy().strip_suffix(".toml").expect("a TOML file").to_owned()).collect();
        assert_eq!(files, SHIPPED.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    #[test]
    fn every_example_decodes_to_what_it_says() {
        for (name, text) in SHIPPED {
            let profile = Profile::parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            let points = profile.resolve().unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
            assert!(!profile.example.is_empty(), "{name} has no example");
            for example in &profile.example {
                assert!(!example.expect.is_empty(), "{name} has an example that expects nothing");
                for (wanted, expected) in &example.expect {
                    let point = points.iter().find(|p| *p.name == **wanted);
                    let point = point.unwrap_or_else(|| panic!("{name} has no point {wanted}"));
                    let value = read(point, example).unwrap_or_else(|why| panic!("{name}, {wanted}: {why}"));
                    assert!(same(&value, expected), "{name}, {wanted}: {value:?} is not {expected:?}");
                }
            }
        }
    }

    #[test]
    fn no_two_points_of_a_profile_overlap() {
        for (name, text) in SHIPPED {
            let profile = Profile::parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut taken = BTreeSet::new();
            for point in profile.resolve().expect("it is valid") {
                if let Source::Modbus { table, address } = point.source {
                    for word in 0..point.decode.words() {
                        assert!(taken.insert((table, address + word)), "{name}, {}: {address}", point.name);
                    }
                }
            }
        }
    }

    fn read(point: &Point, example: &Example) -> Result<Value, String> {
        match &point.source {
            Source::Modbus { .. } => {
                let words = example.words_of(point).ok_or("its words are not in the example")?;
                decode::registers(&point.decode, words)
            }
            Source::Nmea { sentence, field } => {
                let fields: Vec<&str> = example.line.split(['$', ',', '*']).skip(1).collect();
                if !fields[0].ends_with(&**sentence) {
                    return Err(format!("the line is no {sentence}"));
                }
                let n = usize::from(*field);
                decode::text(&point.decode, fields[n], fields.get(n + 1).copied())
            }
        }
    }

    fn same(value: &Value, expected: &toml::Value) -> bool {
        match (value, expected) {
            (Value::Null, toml::Value::String(text)) => text == "null",
            (Value::Int(int), toml::Value::Integer(wanted)) => *int == i128::from(*wanted),
            (Value::Float(x), toml::Value::Float(wanted)) => x == wanted,
            (Value::Float(x), toml::Value::Integer(wanted)) => *x == *wanted as f64,
            (Value::Bool(bit), toml::Value::Boolean(wanted)) => bit == wanted,
            _ => false,
        }
    }
}
