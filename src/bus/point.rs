//! A point as it is written, in the config or in a profile: where it stands, what it means, who may write it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::decode::{Decode, KIND_NAMES, Kind, ORDER_NAMES, Order};
use super::{Point, Source, Table, Write};
use crate::units::Period;

/// One entry of `[device.x.points]` or of a profile's `[points]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The address of an input register.
    pub input: Option<Spanned<u32>>,
    /// The address of a holding register.
    pub holding: Option<Spanned<u32>>,
    /// The address of a coil.
    pub coil: Option<Spanned<u32>>,
    /// The address of a discrete input.
    pub discrete: Option<Spanned<u32>>,
    /// The type of an NMEA 0183 sentence, such as `GGA`.
    pub nmea: Option<Spanned<String>>,
    /// Which field of the sentence; 1 is the first after its name.
    pub field: Option<Spanned<u8>>,
    /// The type of the raw value.
    pub r#as: Option<Spanned<KindName>>,
    /// The order of its bytes.
    pub order: Option<OrderName>,
    /// The value is `raw * scale + offset`.
    pub scale: Option<Spanned<f64>>,
    /// See `scale`.
    pub offset: Option<Spanned<f64>>,
    /// The unit of the value, for people: `V`, `°C`.
    pub unit: Option<String>,
    /// Raw integers that mean "no value".
    pub null: Option<Vec<i64>>,
    /// How often it is read.
    pub every: Option<Spanned<Period>>,
    /// When it counts as stale without a good answer.
    pub stale_after: Option<Spanned<Period>>,
    /// Whether and how it may be written.
    pub write: Option<Spanned<Writable>>,
}

/// A type by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindName(pub Kind);

/// An order by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderName(pub Order);

/// `write = true`, or the limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Writable {
    No,
    Yes(Write),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    min: Option<f64>,
    max: Option<f64>,
}

/// How addresses are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Addressing {
    /// From 0, as on the wire.
    #[default]
    ZeroBased,
    /// As manuals of PLCs do: 00001 coils, 10001 discrete inputs, 30001 input registers, 40001 holding registers.
    Plc,
}

/// What a point has from its surroundings where it does not say itself.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    pub every: Duration,
    pub stale_after: Option<Duration>,
    pub order: Order,
    pub addressing: Addressing,
    /// Whether the bus is a `uart`, not Modbus.
    pub uart: bool,
}

/// What is wrong with a point, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Bytes of the text that the point was read from; none is the point as a whole.
    pub span: Option<std::ops::Range<usize>>,
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Config {
    /// This point, with what it does not say taken from `base`: the same point in the profile.
    pub fn over(self, base: &Config) -> Self {
        // A new source needs no remains of the old one: `holding` here replaces `input` there.
        let from = if self.has_source() { &Config::default() } else { base };
        Self {
            input: self.input.or_else(|| from.input.clone()),
            holding: self.holding.or_else(|| from.holding.clone()),
            coil: self.coil.or_else(|| from.coil.clone()),
            discrete: self.discrete.or_else(|| from.discrete.clone()),
            nmea: self.nmea.or_else(|| from.nmea.clone()),
            field: self.field.or_else(|| from.field.clone()),
            r#as: self.r#as.or_else(|| base.r#as.clone()),
            order: self.order.or(base.order),
            scale: self.scale.or_else(|| base.scale.clone()),
            offset: self.offset.or_else(|| base.offset.clone()),
            unit: self.unit.or_else(|| base.unit.clone()),
            null: self.null.or_else(|| base.null.clone()),
            every: self.every.or_else(|| base.every.clone()),
            stale_after: self.stale_after.or_else(|| base.stale_after.clone()),
            write: self.write.or_else(|| base.write.clone()),
        }
    }

    /// Whether it says where its value stands.
    pub fn has_source(&self) -> bool {
        !self.addresses().is_empty() || self.nmea.is_some()
    }

    /// The point that this means.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn resolve(&self, name: Arc<str>, around: &Surroundings) -> Result<Point, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut wrong = |span: Option<std::ops::Range<usize>>, message: String, help: Option<&str>| {
            problems.push(Problem { span, message, help: help.map(str::to_owned) });
        };
        let mut source = None;
        match (self.addresses().as_slice(), &self.nmea) {
            ([], None) => {
                let help = if around.uart {
                    "write `nmea = \"GGA\", field = 1`"
                } else {
                    "write `input`, `holding`, `coil` or `discrete` = its address"
                };
                wrong(None, "the point does not say where its value stands".into(), Some(help));
            }
            ([(_, address)], None) if around.uart => {
                wrong(
                    Some(address.span()),
                    "a `uart` bus has no registers".into(),
                    Some("write `nmea = \"GGA\", field = 1`, or put the device on a Modbus bus"),
                );
            }
            ([(table, address)], None) => match wire_address(*table, *address.get_ref(), around.addressing) {
                Ok(wire) => source = Some(Source::Modbus { table: *table, address: wire }),
                Err(why) => wrong(Some(address.span()), why, None),
            },
            ([], Some(nmea)) if !around.uart => wrong(
                Some(nmea.span()),
                "NMEA sentences come from a `uart` bus only".into(),
                Some("put the device on a `uart` bus, or write `input` or `holding` = an address"),
            ),
            ([], Some(nmea)) => {
                let sentence = nmea.get_ref();
                if sentence.len() != 3 || !sentence.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) {
                    let help = "the type has three letters and no talker: `GGA`, not `GPGGA`";
                    wrong(Some(nmea.span()), format!("`{sentence}` is no type of a sentence"), Some(help));
                } else {
                    match &self.field {
                        Some(field) if *field.get_ref() > 0 => {
                            source = Some(Source::Nmea { sentence: sentence.as_str().into(), field: *field.get_ref() });
                        }
                        Some(field) => wrong(Some(field.span()), "fields count from 1".into(), None),
                        None => wrong(Some(nmea.span()), "`field` is missing".into(), Some("add `field = 1`")),
                    }
                }
            }
            ([_, (_, second), ..], _) | ([(_, second)], Some(_)) => {
                wrong(Some(second.span()), "a point stands in one place only".into(), Some("keep one of them"));
            }
        }
        if let (Some(field), None) = (&self.field, &self.nmea) {
            wrong(Some(field.span()), "`field` belongs to `nmea`".into(), None);
        }
        let kind = source.as_ref().and_then(|source| match self.kind(source) {
            Ok(kind) => Some(kind),
            Err((span, message, help)) => {
                wrong(span, message, Some(help));
                None
            }
        });
        let number = |value: &Option<Spanned<f64>>, otherwise| value.as_ref().map_or(otherwise, |v| *v.get_ref());
        let (scale, offset) = (number(&self.scale, 1.0), number(&self.offset, 0.0));
        if let Some(value) = self.scale.as_ref().filter(|_| scale == 0.0 || !scale.is_finite()) {
            wrong(Some(value.span()), "`scale` is a number other than 0".into(), None);
        }
        if let Some(value) = self.offset.as_ref().filter(|_| !offset.is_finite()) {
            wrong(Some(value.span()), "`offset` is a finite number".into(), None);
        }
        for period in [&self.every, &self.stale_after].into_iter().flatten() {
            if let Err(why) = check_period(*period.get_ref()) {
                wrong(Some(period.span()), why.into(), Some("give a time such as \"1s\""));
            }
        }
        let every = self.every.as_ref().map_or(around.every, |every| every.get_ref().0);
        if let Some(own) = self.stale_after.as_ref().filter(|own| check_period(*own.get_ref()).is_ok())
            && own.get_ref().0 < every
        {
            let message = "it would be stale before it is read again: `stale-after` is shorter than `every`";
            wrong(Some(own.span()), message.into(), Some("leave it out for three times `every`"));
        }
        let mut write = None;
        if let Some(wish) = &self.write
            && let Writable::Yes(limits) = *wish.get_ref()
        {
            if !matches!(source, None | Some(Source::Modbus { table: Table::Coil | Table::Holding, .. })) {
                let help = "only coils and holding registers can be written";
                wrong(Some(wish.span()), "this point can only be read".into(), Some(help));
            }
            for (name, limit) in [("min", limits.min), ("max", limits.max)] {
                if limit.is_some_and(|limit| !limit.is_finite()) {
                    wrong(Some(wish.span()), format!("`{name}` is a finite number"), Some("leave it out for no limit"));
                }
            }
            if let (Some(min), Some(max)) = (limits.min, limits.max)
                && min > max
            {
                wrong(Some(wish.span()), format!("`min` ({min}) is above `max` ({max})"), None);
            }
            write = Some(limits);
        }
        let (Some(source), Some(kind)) = (source, kind) else { return Err(problems) };
        let order = self.order.map_or(around.order, |order| order.0);
        let decode = Decode { kind, order, scale, offset, null: self.null.clone().unwrap_or_default() };
        if let Source::Modbus { table, address } = source
            && !table.is_bits()
            && u32::from(address) + u32::from(decode.words()) > 1 << 16
        {
            let span = self.addresses().first().map(|(_, a)| a.span());
            let words = decode.words();
            let message = format!("{words} registers from {address} go beyond the last one, 65535");
            problems.push(Problem { span, message, help: None });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        // One time for all points of a device may be too short for those that are seldom read.
        let usual = every.saturating_mul(3);
        let inherited = || around.stale_after.map_or(usual, |all| all.max(usual));
        let stale_after = self.stale_after.as_ref().map_or_else(inherited, |own| own.get_ref().0);
        Ok(Point { name, source, decode, every, stale_after, write })
    }

    fn addresses(&self) -> Vec<(Table, &Spanned<u32>)> {
        let all = [
            (Table::Input, &self.input),
            (Table::Holding, &self.holding),
            (Table::Coil, &self.coil),
            (Table::Discrete, &self.discrete),
        ];
        all.into_iter().filter_map(|(table, address)| Some((table, address.as_ref()?))).collect()
    }

    /// The type, which must be one that the source can have.
    fn kind(&self, source: &Source) -> Result<Kind, (Option<std::ops::Range<usize>>, String, &'static str)> {
        let named = self.r#as.as_ref().map(|name| (name.get_ref().0, name.span()));
        let text = |kind| matches!(kind, Kind::Number | Kind::Text | Kind::Ddmm);
        match (source, named) {
            (Source::Modbus { table, .. }, None) if table.is_bits() => Ok(Kind::Bool),
            (Source::Modbus { table, .. }, Some((kind, span))) if table.is_bits() && kind != Kind::Bool => {
                Err((Some(span), "coils and discrete inputs are single bits".into(), "leave `as` out: they are `bool`"))
            }
            (Source::Modbus { .. }, None) => Err((
                self.addresses().first().map(|(_, a)| a.span()),
                "`as` is missing: a register does not tell its type".into(),
                "add `as = \"u16\"`, or i16, u32, i32, u64, i64, f32, f64, bool, string:LENGTH",
            )),
            (Source::Modbus { .. }, Some((kind, span))) if text(kind) => {
                Err((Some(span), "this type is for fields of text".into(), "registers have u16, i16, u32, f32, …"))
            }
            (Source::Nmea { .. }, None) => Ok(Kind::Number),
            (Source::Nmea { .. }, Some((kind, span))) if !text(kind) => {
                Err((Some(span), "this type is for registers".into(), "fields have `number`, `text` or `ddmm`"))
            }
            (_, Some((kind, _))) => Ok(kind),
        }
    }
}

/// Whether a time can be waited for.
///
/// # Errors
/// What is wrong with it.
pub fn check_period(period: Period) -> Result<(), &'static str> {
    if period.0.is_zero() {
        Err("the time is zero")
    } else if period.0 < Duration::from_millis(1) {
        Err("the time is shorter than 1ms")
    } else if period.0 > Duration::from_secs(30 * 24 * 3600) {
        Err("the time is longer than 30 days")
    } else {
        Ok(())
    }
}

/// The address on the wire (0 to 65535) of what the config calls `number`.
fn wire_address(table: Table, number: u32, addressing: Addressing) -> Result<u16, String> {
    if addressing == Addressing::ZeroBased {
        return u16::try_from(number).map_err(|_| {
            let plc = (100_001..=465_536).contains(&number);
            let hint =
                if plc { "; for numbers as in PLC manuals set `addressing = \"plc\"` on the device" } else { "" };
            format!("addresses go from 0 to 65535{hint}")
        });
    }
    let (found, address) = match number {
        1..=9_999 => (Table::Coil, number - 1),
        10_001..=19_999 => (Table::Discrete, number - 10_001),
        30_001..=39_999 => (Table::Input, number - 30_001),
        40_001..=49_999 => (Table::Holding, number - 40_001),
        100_001..=165_536 => (Table::Discrete, number - 100_001),
        300_001..=365_536 => (Table::Input, number - 300_001),
        400_001..=465_536 => (Table::Holding, number - 400_001),
        _ => return Err(format!("{number} is no number of a PLC manual: they begin at 1, 10001, 30001 and 40001")),
    };
    if found == table {
        u16::try_from(address).map_err(|_| "addresses go from 0 to 65535".to_owned())
    } else {
        let first = match table {
            Table::Coil => 1,
            Table::Discrete => 10_001,
            Table::Input => 30_001,
            Table::Holding => 40_001,
        };
        let (is, key, wanted) = (article(found), found.key(), table.key());
        Err(format!(
            "{number:05} is {is}: write `{key} = {number}`, or `{wanted} = {first}` and up for {}",
            article(table)
        ))
    }
}

fn article(table: Table) -> &'static str {
    match table {
        Table::Coil => "a coil",
        Table::Discrete => "a discrete input",
        Table::Input => "an input register",
        Table::Holding => "a holding register",
    }
}

impl Table {
    /// Its key in the config.
    pub fn key(self) -> &'static str {
        match self {
            Table::Coil => "coil",
            Table::Discrete => "discrete",
            Table::Input => "input",
            Table::Holding => "holding",
        }
    }
}

impl<'de> Deserialize<'de> for KindName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(KindName).map_err(|why| match text.starts_with("string") {
            true => de::Error::custom(why),
            false => de::Error::unknown_variant(&text, &KIND_NAMES),
        })
    }
}

impl<'de> Deserialize<'de> for OrderName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(OrderName).map_err(|_| de::Error::unknown_variant(&text, &ORDER_NAMES))
    }
}

impl<'de> Deserialize<'de> for Writable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WritableVisitor;

        impl<'de> Visitor<'de> for WritableVisitor {
            type Value = Writable;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or { min = …, max = … }")
            }

            fn visit_bool<E: de::Error>(self, yes: bool) -> Result<Writable, E> {
                Ok(if yes { Writable::Yes(Write::default()) } else { Writable::No })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Writable, A::Error> {
                let limits = Limits::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Writable::Yes(Write { min: limits.min, max: limits.max }))
            }
        }

        deserializer.deserialize_any(WritableVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plc_numbers_name_their_table() {
        let plc = |table, number| wire_address(table, number, Addressing::Plc);
        assert_eq!(plc(Table::Coil, 1), Ok(0));
        assert_eq!(plc(Table::Discrete, 10_001), Ok(0));
        assert_eq!(plc(Table::Input, 30_009), Ok(8));
        assert_eq!(plc(Table::Holding, 40_001), Ok(0));
        assert_eq!(plc(Table::Holding, 465_536), Ok(65_535));
        let other = plc(Table::Holding, 30_009).unwrap_err();
        assert!(other.contains("write `input = 30009`, or `holding = 40001` and up"), "{other}");
        for none in [0, 10_000, 20_001, 40_000, 465_537] {
            assert!(plc(Table::Holding, none).is_err(), "{none}");
        }
        assert_eq!(wire_address(Table::Input, 40_001, Addressing::ZeroBased), Ok(40_001));
        assert!(wire_address(Table::Input, 400_001, Addressing::ZeroBased).unwrap_err().contains("plc"));
    }

    fn resolved(text: &str, stale_after: Option<Duration>) -> Result<Point, Vec<Problem>> {
        let every = Duration::from_secs(1);
        let (order, addressing) = (Order::default(), Addressing::default());
        let around = Surroundings { every, stale_after, order, addressing, uart: false };
        toml::from_str::<Config>(text).expect("a point").resolve("level".into(), &around)
    }

    #[test]
    fn limits_are_finite() {
        for limits in ["min = nan", "max = inf", "min = -inf, max = 3"] {
            let problems =
                resolved(&format!("holding = 1\nas = 'u16'\nwrite = {{ {limits} }}"), None).expect_err(limits);
            assert!(problems[0].span.is_some() && problems[0].message.contains("finite"), "{limits}: {problems:?}");
        }
    }

    #[test]
    fn a_point_is_never_stale_before_it_is_read_again() {
        let seconds = Duration::from_secs;
        let slow = "input = 1\nas = 'u16'\nevery = '60s'";
        let stale = |text: &str, all: Option<u64>| resolved(text, all.map(seconds)).map(|point| point.stale_after);
        assert_eq!(stale(slow, None), Ok(seconds(180)));
        assert_eq!(stale(slow, Some(10)), Ok(seconds(180)), "that of the device is too short");
        assert_eq!(stale(slow, Some(600)), Ok(seconds(600)));
        assert_eq!(stale(&format!("{slow}\nstale-after = '60s'"), None), Ok(seconds(60)));
        let text = format!("{slow}\nstale-after = '10s'");
        let problems = stale(&text, None).expect_err("too short");
        assert_eq!(&text[problems[0].span.clone().expect("its place")], "'10s'");
    }

    #[test]
    fn a_point_takes_from_the_profile_what_it_does_not_say() {
        let base: Config = toml::from_str("input = 8\nas = 'f32'\nunit = 'V'").expect("a point");
        let same: Config = toml::from_str("every = '5s'").expect("a point");
        let same = same.over(&base);
        assert_eq!(same.input.map(Spanned::into_inner), Some(8));
        assert_eq!(same.every.map(|p| p.into_inner().0), Some(Duration::from_secs(5)));
        let moved: Config = toml::from_str("holding = 3").expect("a point");
        let moved = moved.over(&base);
        assert_eq!((moved.input, moved.unit), (None, Some("V".into())));
    }
}
