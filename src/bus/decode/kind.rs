//! The types that raw values have, and the orders that their bytes come in.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// The type of a raw value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True unless it is 0.
    Bool,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
    /// Text of this many bytes in registers, two each; padding (NUL, spaces at the end) is cut. Its registers come in
    /// order; [`Order::Badc`] and [`Order::Dcba`] swap the two bytes in each.
    String(u16),
    /// A number in a text field.
    Number,
    /// A text field, as it is.
    Text,
    /// A latitude or longitude as NMEA writes it, `ddmm.mmmm`, its hemisphere in the next field; in degrees.
    Ddmm,
}

/// The order of the bytes of a value of two or four registers, named by where A, the most significant byte, stands:
/// `ABCD` (big endian), `CDAB` (words reversed), `BADC` (bytes swapped in each word), `DCBA` (little endian: both).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    Abcd,
    Cdab,
    Badc,
    Dcba,
}

/// The most bytes of text that one request can read: 125 registers.
const LONGEST: u16 = 250;

const KINDS: [(&str, Kind); 12] = [
    ("bool", Kind::Bool),
    ("u16", Kind::U16),
    ("i16", Kind::I16),
    ("u32", Kind::U32),
    ("i32", Kind::I32),
    ("u64", Kind::U64),
    ("i64", Kind::I64),
    ("f32", Kind::F32),
    ("f64", Kind::F64),
    ("number", Kind::Number),
    ("text", Kind::Text),
    ("ddmm", Kind::Ddmm),
];

const ORDERS: [(&str, Order); 4] =
    [("ABCD", Order::Abcd), ("CDAB", Order::Cdab), ("BADC", Order::Badc), ("DCBA", Order::Dcba)];

/// The names of all types, for errors.
pub(crate) const KIND_NAMES: [&str; KINDS.len() + 1] = names(&KINDS, "string:LENGTH");

/// The names of all orders, for errors.
pub(crate) const ORDER_NAMES: [&str; ORDERS.len()] = names(&ORDERS, "");

/// The names of `all`, and `last` where there is room left.
const fn names<T, const N: usize, const M: usize>(
    all: &[(&'static str, T); N],
    last: &'static str,
) -> [&'static str; M] {
    let mut names = [last; M];
    let mut i = 0;
    while i < N {
        names[i] = all[i].0;
        i += 1;
    }
    names
}

/// `u16`, `f32`, `string:16` (16 bytes), `number`, …
impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == text) {
            return Ok(*kind);
        }
        if let Some(length) = text.strip_prefix("string") {
            return match length.strip_prefix(':').and_then(|length| length.parse().ok()) {
                Some(bytes @ 1..=LONGEST) => Ok(Kind::String(bytes)),
                _ => Err(format!(
                    "`{text}` lacks its length: write the number of bytes behind it, 1 to {LONGEST}, as in \"string:16\""
                )),
            };
        }
        Err(format!("`{text}` is not a type; there are {}", KIND_NAMES.join(", ")))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, KINDS.iter().find(|(_, kind)| kind == self)) {
            (Kind::String(bytes), _) => write!(f, "string:{bytes}"),
            (_, Some((name, _))) => f.write_str(name),
            (_, None) => unreachable!("every other kind is in KINDS"),
        }
    }
}

/// `ABCD`, `cdab`, …
impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match ORDERS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            Some((_, order)) => Ok(*order),
            None => Err(format!("`{text}` is not a byte order; there are {}", ORDER_NAMES.join(", "))),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::Abcd => "ABCD",
            Order::Cdab => "CDAB",
            Order::Badc => "BADC",
            Order::Dcba => "DCBA",
        })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Order {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Kind {
    /// The least and the greatest raw value of an integer type.
    pub(super) fn range(self) -> Option<(i128, i128)> {
        Some(match self {
            Kind::U16 => (0, u16::MAX.into()),
            Kind::I16 => (i16::MIN.into(), i16::MAX.into()),
            Kind::U32 => (0, u32::MAX.into()),
            Kind::I32 => (i32::MIN.into(), i32::MAX.into()),
            Kind::U64 => (0, u64::MAX.into()),
            Kind::I64 => (i64::MIN.into(), i64::MAX.into()),
            _ => return None,
        })
    }
}

impl Order {
    /// The words of a number, from big endian to this order or back: it is its own inverse.
    pub(super) fn arranged(self, words: &[u16]) -> impl Iterator<Item = u16> {
        let reversed = matches!(self, Order::Cdab | Order::Dcba);
        (0..words.len())
            .map(move |i| words[if reversed { words.len() - 1 - i } else { i }])
            .map(move |word| self.of_text(word))
    }

    /// The same for one register of text.
    pub(super) fn of_text(self, word: u16) -> u16 {
        if matches!(self, Order::Badc | Order::Dcba) { word.swap_bytes() } else { word }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (name, kind) in KINDS {
            assert_eq!((name.parse(), kind.to_string().as_str()), (Ok(kind), name));
        }
        for (name, order) in ORDERS {
            assert_eq!((name.parse(), order.to_string().as_str()), (Ok(order), name));
            assert_eq!(name.to_lowercase().parse(), Ok(order));
        }
        assert_eq!("string:16".parse(), Ok(Kind::String(16)));
        assert_eq!(Kind::String(16).to_string(), "string:16");
    }

    #[test]
    fn wrong_names_get_the_right_ones() {
        for wrong in ["", "u8", "U16", "float"] {
            let error = wrong.parse::<Kind>().expect_err(wrong);
            assert!(error.contains("u16, i16") && error.contains("string:LENGTH"), "{error}");
        }
        for wrong in ["string", "string:", "string:0", "string:251", "string:x", "strings"] {
            assert!(wrong.parse::<Kind>().expect_err(wrong).contains("string:16"), "{wrong}");
        }
        let error = "ACBD".parse::<Order>().expect_err("no order");
        assert!(error.contains("ABCD, CDAB, BADC, DCBA"), "{error}");
    }

    #[test]
    fn arranges_words_and_bytes() {
        let arranged = |order: Order, words: &[u16]| order.arranged(words).collect::<Vec<_>>();
        let four = [0xA0A1, 0xB0B1, 0xC0C1, 0xD0D1];
        assert_eq!(arranged(Order::Abcd, &four), four);
        assert_eq!(arranged(Order::Cdab, &four), [0xD0D1, 0xC0C1, 0xB0B1, 0xA0A1]);
        assert_eq!(arranged(Order::Badc, &four), [0xA1A0, 0xB1B0, 0xC1C0, 0xD1D0]);
        assert_eq!(arranged(Order::Dcba, &four), [0xD1D0, 0xC1C0, 0xB1B0, 0xA1A0]);
    }
}
