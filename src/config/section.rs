//! A table of the config, read key by key: each part takes the keys that its own type knows, and what nobody takes is
//! unknown.
//!
//! Reading piece by piece tells of several errors at once, and keeps every place, where `flatten` would lose it.

use serde::Deserialize;
use serde::de::value::Error as NoValue;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::diagnostic::{Diagnostic, Diagnostics, did_you_mean};
use super::source::Span;

/// A name in the config, and where it stands.
pub(crate) type Name = Spanned<String>;

/// A value in the config, not yet read.
pub(crate) type Raw<'i> = Spanned<DeValue<'i>>;

/// A table that is being read.
#[derive(Debug)]
pub(crate) struct Section<'i> {
    table: DeTable<'i>,
    span: Span,
    known: Vec<&'static str>,
}

impl<'i> Section<'i> {
    /// The section that a value is; an error when it is no table.
    pub fn new(raw: Raw<'i>, what: &str, out: &mut Diagnostics) -> Option<Self> {
        let span = raw.span();
        match raw.into_inner() {
            DeValue::Table(table) => Some(Self { table, span, known: Vec::new() }),
            other => {
                out.push(Diagnostic::error(format!("{what} is a table, not {}", kind_of(&other))).at(span));
                None
            }
        }
    }

    /// Where the table stands: its header, or its braces.
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    /// The texts of a key that is a text or a list of texts, without taking it.
    pub fn texts(&self, key: &str) -> Vec<(&str, Span)> {
        let one = |value: &'_ Raw<'i>| value.span();
        match self.table.get(key) {
            Some(value) => match value.get_ref() {
                DeValue::Array(list) => {
                    list.iter().filter_map(|item| Some((item.get_ref().as_str()?, one(item)))).collect()
                }
                other => other.as_str().map(|text| (text, one(value))).into_iter().collect(),
            },
            None => Vec::new(),
        }
    }

    /// Where the items in the list of `key` stand, without taking it.
    pub fn places(&self, key: &str) -> Vec<Span> {
        let list = self.table.get(key).and_then(|value| value.get_ref().as_array());
        list.into_iter().flatten().map(Spanned::span).collect()
    }

    /// The text of `inner` in the table of `key`, without taking it.
    pub fn text_within(&self, key: &str, inner: &str) -> Option<(&str, Span)> {
        let value = self.table.get(key)?.get_ref().as_table()?.get(inner)?;
        Some((value.get_ref().as_str()?, value.span()))
    }

    /// The tables in the list of `key`, copied, without taking it.
    pub fn parts(&self, key: &str) -> Vec<Self> {
        let list = self.table.get(key).and_then(|value| value.get_ref().as_array()).into_iter().flatten();
        let part = |raw: &Raw<'i>| {
            let table = raw.get_ref().as_table()?.clone();
            Some(Self { table, span: raw.span(), known: Vec::new() })
        };
        list.filter_map(part).collect()
    }

    /// The table of `key`, copied, without taking it.
    pub fn part(&self, key: &str) -> Option<Self> {
        let raw = self.table.get(key)?;
        Some(Self { table: raw.get_ref().as_table()?.clone(), span: raw.span(), known: Vec::new() })
    }

    /// Whether a key is there and is `true`.
    pub fn is_true(&self, key: &str) -> bool {
        self.table.get(key).and_then(|value| value.get_ref().as_bool()) == Some(true)
    }

    /// Whether it has no key at all.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether a key is there.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Takes the keys that `T` knows and reads them; its default after an error.
    pub fn take<T: DeserializeOwned + Default>(&mut self, out: &mut Diagnostics) -> T {
        self.try_take(out).unwrap_or_default()
    }

    /// Takes the keys that `T` knows and reads them; none after an error.
    pub fn try_take<T: DeserializeOwned>(&mut self, out: &mut Diagnostics) -> Option<T> {
        let keys = keys_of::<T>();
        self.known.extend(keys);
        let mut mine = DeTable::new();
        for key in keys {
            if let Some((key, value)) = self.table.remove_entry(*key) {
                mine.insert(key, value);
            }
        }
        read(Spanned::new(self.span(), DeValue::Table(mine)), out)
    }

    /// Takes one key, whatever its value.
    pub fn take_raw(&mut self, key: &'static str) -> Option<(Name, Raw<'i>)> {
        self.known.push(key);
        let (key, value) = self.table.remove_entry(key)?;
        Some((Spanned::new(key.span(), key.into_inner().into_owned()), value))
    }

    /// Takes a key that is a table of named things, in the order of the file.
    pub fn take_named(&mut self, key: &'static str, out: &mut Diagnostics) -> Vec<(Name, Raw<'i>)> {
        let Some((_, raw)) = self.take_raw(key) else { return Vec::new() };
        Section::new(raw, &format!("`{key}`"), out).map(Section::into_named).unwrap_or_default()
    }

    /// All that is left, in the order of the file.
    pub fn into_named(self) -> Vec<(Name, Raw<'i>)> {
        let mut all: Vec<_> = self
            .table
            .into_iter()
            .map(|(key, value)| (Spanned::new(key.span(), key.into_inner().into_owned()), value))
            .collect();
        all.sort_by_key(|(name, _)| name.span().start);
        all
    }

    /// Tells of every key that nobody took.
    pub fn finish(self, out: &mut Diagnostics) {
        for (key, _) in self.table {
            let name = key.get_ref();
            out.push(
                Diagnostic::error(format!("unknown key `{name}`"))
                    .at(key.span())
                    .help(did_you_mean(name, self.known.iter().copied())),
            );
        }
    }
}

/// Reads a value as a `T`; none after an error.
pub(crate) fn read<T: DeserializeOwned>(raw: Raw<'_>, out: &mut Diagnostics) -> Option<T> {
    let span = raw.span();
    T::deserialize(ValueDeserializer::from(raw)).map_err(|e| out.push(explain(&e, span))).ok()
}

/// What the TOML library says, in this project's words.
pub(crate) fn explain(error: &toml::de::Error, otherwise: Span) -> Diagnostic {
    let (message, help) = rephrase(error.message());
    Diagnostic::error(message).at(error.span().unwrap_or(otherwise)).help(help)
}

fn rephrase(message: &str) -> (String, Option<String>) {
    for unknown in ["unknown field `", "unknown variant `"] {
        if let Some((name, rest)) = message.strip_prefix(unknown).and_then(|m| m.split_once('`')) {
            let known = rest.split('`').skip(1).step_by(2);
            let message = match unknown {
                "unknown field `" => format!("unknown key `{name}`"),
                _ => format!("`{name}` is not known here"),
            };
            return (message, did_you_mean(name, known));
        }
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return (format!("{name} is missing"), None);
    }
    for wrong in ["invalid type: ", "invalid value: "] {
        if let Some((found, expected)) = message.strip_prefix(wrong).and_then(|m| m.rsplit_once(", expected ")) {
            let expected = match expected {
                "u8" => "a whole number from 0 to 255",
                "u16" => "a whole number from 0 to 65535",
                "u32" | "u64" | "usize" => "a whole number, not negative",
                "i64" => "a whole number",
                "f64" => "a number",
                "a boolean" => "true or false",
                "a string" => "text in quotes",
                "a sequence" => "a list in brackets",
                "a map" => "a table",
                other if other.starts_with("struct ") => "a table",
                other => other,
            };
            let found = match found {
                "map" => "a table",
                "sequence" => "a list",
                other => other,
            };
            return (format!("expected {expected}, found {found}"), None);
        }
    }
    (message.to_owned(), None)
}

/// What a value is, as a person would say.
fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The names of the fields that a struct reads.
pub(crate) fn keys_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    /// Asks for nothing but the names; the answer is always an error.
    struct Ask<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Ask<'_> {
        type Error = NoValue;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
            Err(NoValue::custom("only a struct has keys"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, NoValue> {
            *self.0 = fields;
            Err(NoValue::custom("asked for the keys only"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut keys: &'static [&'static str] = &[];
    // Always the error above.
    let _ = T::deserialize(Ask(&mut keys));
    keys
}
