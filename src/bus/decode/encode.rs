//! From values back to words, for writes.

use super::decimal::Decimal;
use super::{Decode, Kind, bit, whole};
use crate::reading::Value;

/// The registers that read back as `value`, or as the nearest to it that the point can hold: scale and offset are
/// undone and the raw number is rounded.
///
/// # Errors
/// When the value does not fit the point's type; the text says what would.
pub fn encode(decode: &Decode, value: &Value) -> Result<Vec<u16>, String> {
    if let Some((least, most)) = decode.kind.range() {
        let raw = raw_integer(decode, value).filter(|raw| (least..=most).contains(raw)).ok_or_else(|| {
            let ends = [whole(decode, least), whole(decode, most)];
            let [low, high] = if decode.scale < 0.0 { [&ends[1], &ends[0]] } else { [&ends[0], &ends[1]] };
            refusal(value, &format!("a number from {low} to {high}"))
        })?;
        // In range, so only copies of the sign are cut.
        return Ok(words(decode, raw as u64));
    }
    match decode.kind {
        Kind::Bool => truth(value).map(|on| words(decode, u64::from(on))),
        Kind::F32 => {
            let raw = raw_float(decode, value).map(|x| x as f32).filter(|x| x.is_finite());
            raw.map(|x| words(decode, x.to_bits().into())).ok_or_else(|| refusal(value, "a number of 32 bits"))
        }
        Kind::F64 => {
            let raw = raw_float(decode, value).filter(|x| x.is_finite());
            raw.map(|x| words(decode, x.to_bits())).ok_or_else(|| refusal(value, "a number of 64 bits"))
        }
        Kind::String(length) => match value {
            Value::Text(text) if text.len() <= usize::from(length) && !text.contains('\0') => {
                let mut bytes = text.as_bytes().to_vec();
                bytes.resize(2 * usize::from(decode.words()), 0);
                let word = |pair: &[u8]| decode.order.of_text(u16::from_be_bytes([pair[0], pair[1]]));
                Ok(bytes.chunks_exact(2).map(word).collect())
            }
            _ => Err(refusal(value, &format!("text of at most {length} bytes"))),
        },
        kind => Err(format!("a `{kind}` is a text field: it cannot be written")),
    }
}

/// The state of the coil that reads back as `value`.
///
/// # Errors
/// When the value is not one of the two that the coil can have; the text says which.
pub fn encode_bit(decode: &Decode, value: &Value) -> Result<bool, String> {
    let states = [false, true];
    match decode.kind {
        Kind::Bool | Kind::String(_) | Kind::Text | Kind::Ddmm => truth(value),
        _ => states.into_iter().find(|on| number(&bit(decode, *on)) == number(value)).ok_or_else(|| {
            let [off, on] = states.map(|state| bit(decode, state));
            refusal(value, &format!("{off} or {on}"))
        }),
    }
}

fn refusal(value: &Value, fits: &str) -> String {
    match value {
        Value::Text(text) => format!("`{}` does not fit; {fits} would", text.escape_debug()),
        _ => format!("{value} does not fit; {fits} would"),
    }
}

/// On or off, in the words that people and home automation use for it.
fn truth(value: &Value) -> Result<bool, String> {
    let word = |text: &str, words: [&str; 3]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    match value {
        Value::Bool(on) => Ok(*on),
        Value::Int(0) => Ok(false),
        Value::Int(1) => Ok(true),
        Value::Float(x) if *x == 0.0 => Ok(false),
        Value::Float(x) if *x == 1.0 => Ok(true),
        Value::Text(text) if word(text, ["on", "true", "1"]) => Ok(true),
        Value::Text(text) if word(text, ["off", "false", "0"]) => Ok(false),
        _ => Err(refusal(value, "true or false (also on, off, 1, 0)")),
    }
}

/// Only numbers are numbers: a `true` for a setpoint is a mistake, not a 1.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(int) => Some(*int as f64),
        Value::Float(x) => Some(*x),
        Value::Null | Value::Bool(_) | Value::Text(_) => None,
    }
}

fn raw_integer(decode: &Decode, value: &Value) -> Option<i128> {
    let wanted = match value {
        Value::Int(int) => Some(Decimal::from(*int)),
        value => Decimal::of(number(value)?),
    };
    let exact = || wanted?.plus(Decimal::of(decode.offset)?.negative())?.over(Decimal::of(decode.scale)?);
    // A cast would make something of an infinity or of what is beyond every type.
    let rounded = || raw_float(decode, value).map(f64::round).filter(|x| x.abs() < 1e20).map(|x| x as i128);
    exact().or_else(rounded)
}

fn raw_float(decode: &Decode, value: &Value) -> Option<f64> {
    Some((number(value)? - decode.offset) / decode.scale)
}

fn words(decode: &Decode, bits: u64) -> Vec<u16> {
    let bytes = bits.to_be_bytes();
    let all = [0, 2, 4, 6].map(|i| u16::from_be_bytes([bytes[i], bytes[i + 1]]));
    decode.order.arranged(&all[4 - usize::from(decode.words())..]).collect()
}
