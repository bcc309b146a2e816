//! From words and fields to values, and back for writes. Pure.
//!
//! Scaling is done in [`decimal`], so that a value looks as its device means it: 2314 by 0.1 is 231.4.

mod decimal;
mod encode;
mod kind;

use std::sync::Arc;

use crate::reading::Value;

use decimal::Decimal;
pub use encode::{encode, encode_bit};
pub(crate) use kind::{KIND_NAMES, ORDER_NAMES};
pub use kind::{Kind, Order};

/// What the words or the field of a point mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Decode {
    pub kind: Kind,
    /// In which order the bytes of a value come.
    pub order: Order,
    /// The value is `raw * scale + offset`.
    pub scale: f64,
    pub offset: f64,
    /// Raw integers that mean "no value"; for an integer type either as the type shows them or as their bits
    /// (−32768 and 0x8000 are the same `i16`).
    pub null: Vec<i64>,
}

/// As the device has it: no scale, no offset, no sentinel, big endian.
impl From<Kind> for Decode {
    fn from(kind: Kind) -> Self {
        Self { kind, order: Order::Abcd, scale: 1.0, offset: 0.0, null: Vec::new() }
    }
}

impl Decode {
    /// How many registers the value takes; 1 for a bit in a table of bits.
    pub fn words(&self) -> u16 {
        match self.kind {
            Kind::Bool | Kind::U16 | Kind::I16 | Kind::Number | Kind::Text | Kind::Ddmm => 1,
            Kind::U32 | Kind::I32 | Kind::F32 => 2,
            Kind::U64 | Kind::I64 | Kind::F64 => 4,
            Kind::String(bytes) => bytes.div_ceil(2).max(1),
        }
    }
}

/// The value in the registers of a point, as they came off the wire.
///
/// A whole number stays one when `scale` and `offset` are whole; NaN, the infinities and the sentinels of
/// [`Decode::null`] are [`Value::Null`].
///
/// # Errors
/// When there are not [`Decode::words`] of them, when they are no text, or when the type is one of text fields.
pub fn registers(decode: &Decode, words: &[u16]) -> Result<Value, String> {
    let wanted = usize::from(decode.words());
    if words.len() != wanted {
        return Err(format!("a {} takes {wanted} registers, not {}", decode.kind, words.len()));
    }
    Ok(match decode.kind {
        Kind::Bool if is_null_bits(decode, bits(decode, words), 16) => Value::Null,
        Kind::Bool => Value::Bool(words[0] != 0),
        Kind::F32 => {
            // Four bytes: two words, so the bits fit.
            let x = f32::from_bits(bits(decode, words) as u32);
            number(decode, f64::from(x), |short| short as f32 == x)
        }
        Kind::F64 => float(decode, f64::from_bits(bits(decode, words))),
        Kind::String(length) => {
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| decode.order.of_text(*word).to_be_bytes()).collect();
            bytes.truncate(usize::from(length));
            // What stands behind a NUL is whatever the device had there before.
            bytes.truncate(bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()));
            match std::str::from_utf8(&bytes) {
                Ok(text) => Value::Text(Arc::from(text.trim_end_matches(' '))),
                Err(_) => return Err(format!("these bytes are no UTF-8 text: {}", bytes.escape_ascii())),
            }
        }
        Kind::Number | Kind::Text | Kind::Ddmm => return Err(format!("`{}` is a type of text fields", decode.kind)),
        Kind::U16 | Kind::I16 | Kind::U32 | Kind::I32 | Kind::U64 | Kind::I64 => {
            let bits = bits(decode, words);
            if is_null_bits(decode, bits, 16 * words.len() as u32) { Value::Null } else { integer(decode, bits) }
        }
    })
}

/// The value of a coil or a discrete input: a [`Value::Bool`], or for an integer or float type 0 or 1, scaled.
pub fn bit(decode: &Decode, bit: bool) -> Value {
    match decode.kind {
        Kind::Bool | Kind::String(_) | Kind::Text | Kind::Ddmm => Value::Bool(bit),
        Kind::F32 | Kind::F64 | Kind::Number => float(decode, f64::from(u8::from(bit))),
        _ => whole(decode, i128::from(bit)),
    }
}

/// The value of a text field; `next` is the field after it, where a [`Kind::Ddmm`] has its hemisphere.
/// An empty field is [`Value::Null`].
///
/// # Errors
/// When the field is not what the type says, or the type is one of registers.
pub fn text(decode: &Decode, field: &str, next: Option<&str>) -> Result<Value, String> {
    let trimmed = field.trim();
    match decode.kind {
        _ if trimmed.is_empty() => Ok(Value::Null),
        Kind::Text => Ok(Value::Text(Arc::from(field))),
        Kind::Number => field_number(decode, trimmed),
        Kind::Ddmm => Ok(float(decode, degrees(trimmed, next.unwrap_or("").trim())?)),
        kind => Err(format!("`{kind}` is a type of registers; a field is a number, text or ddmm")),
    }
}

/// A whole number where the field has neither fraction nor exponent: 9 satellites are 9, not 9.0.
fn field_number(decode: &Decode, field: &str) -> Result<Value, String> {
    match (field.parse::<i64>(), field.parse()) {
        (Ok(raw), _) if decode.null.contains(&raw) => Ok(Value::Null),
        (Ok(raw), _) => Ok(whole(decode, raw.into())),
        (Err(_), Ok(x)) => Ok(float(decode, x)),
        (Err(_), Err(_)) => Err(format!("`{}` is not a number", field.escape_debug())),
    }
}

/// The words' bits in one number, most significant first, after undoing the order.
fn bits(decode: &Decode, words: &[u16]) -> u64 {
    decode.order.arranged(words).fold(0, |bits, word| bits << 16 | u64::from(word))
}

/// Whether the lowest `width` bits, which are all of `bits`, are a sentinel's.
fn is_null_bits(decode: &Decode, bits: u64, width: u32) -> bool {
    let range = -(1_i128 << (width - 1))..1_i128 << width;
    // The cast keeps a negative sentinel's two's complement.
    decode.null.iter().any(|null| range.contains(&i128::from(*null)) && *null as u64 & u64::MAX >> (64 - width) == bits)
}

fn integer(decode: &Decode, bits: u64) -> Value {
    let raw = match decode.kind {
        // The casts to a narrower type drop bits that are 0; those to a signed one take the sign from the highest.
        Kind::I16 => i128::from(bits as u16 as i16),
        Kind::I32 => i128::from(bits as u32 as i32),
        Kind::I64 => i128::from(bits as i64),
        _ => i128::from(bits),
    };
    whole(decode, raw)
}

/// Scales a whole number.
fn whole(decode: &Decode, raw: i128) -> Value {
    if decode.scale.fract() == 0.0 && decode.offset.fract() == 0.0 {
        let scaled = raw.checked_mul(decode.scale as i128).and_then(|x| x.checked_add(decode.offset as i128));
        if let Some(int) = scaled {
            return Value::Int(int);
        }
    }
    scaled(decode, Some(Decimal::from(raw)), raw as f64)
}

/// Scales a number of 64 bits.
fn float(decode: &Decode, raw: f64) -> Value {
    number(decode, raw, |short| short == raw)
}

/// Scales a number which any other that is the `same` stands for as well: the shortest of them is what was meant.
fn number(decode: &Decode, raw: f64, same: impl Fn(f64) -> bool) -> Value {
    if !raw.is_finite() || decode.null.iter().any(|null| *null as f64 == raw) {
        return Value::Null;
    }
    scaled(decode, Decimal::shortest(raw, same), raw)
}

/// `raw * scale + offset`: exactly where all three are decimals of reasonable length, else as floats do it.
fn scaled(decode: &Decode, decimal: Option<Decimal>, raw: f64) -> Value {
    let exact = || decimal?.times(Decimal::of(decode.scale)?)?.plus(Decimal::of(decode.offset)?);
    let x = exact().map_or_else(|| raw * decode.scale + decode.offset, Decimal::to_f64);
    if x.is_finite() { Value::Float(x) } else { Value::Null }
}

/// Degrees from `ddmm.mmmm` (NMEA 0183, latitude and longitude fields), negative in the south and the west.
fn degrees(field: &str, hemisphere: &str) -> Result<f64, String> {
    let wrong = || format!("`{}` is no latitude or longitude as ddmm.mmmm", field.escape_debug());
    let (most, sign) = match hemisphere {
        "N" => (90, 1.0),
        "S" => (90, -1.0),
        "E" => (180, 1.0),
        "W" => (180, -1.0),
        other => return Err(format!("the field after it is N, S, E or W, not `{}`", other.escape_debug())),
    };
    let (whole, fraction) = field.split_once('.').unwrap_or((field, ""));
    let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !(3..=5).contains(&whole.len()) || fraction.len() > 9 || !is_digits(whole) || !is_digits(fraction) {
        return Err(wrong());
    }
    let number = |text: &str| text.bytes().fold(0_u64, |n, digit| n * 10 + u64::from(digit - b'0'));
    let (degrees, minutes) = whole.split_at(whole.len() - 2);
    // One division, of two whole numbers that a float holds exactly: the nearest float to the true angle.
    let per_minute = 10_u64.pow(fraction.len() as u32);
    let angle = (number(degrees) * 60 + number(minutes)) * per_minute + number(fraction);
    if number(minutes) >= 60 || angle > most * 60 * per_minute {
        return Err(wrong());
    }
    Ok(sign * (angle as f64 / (60 * per_minute) as f64))
}

#[cfg(test)]
mod tests;
