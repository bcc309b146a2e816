//! From words and fields to values, and back for writes. Pure.

/// What the words or the field of a point mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Decode {
    pub kind: Kind,
    /// In which order the bytes of a value come.
    pub order: Order,
    /// The value is `raw * scale + offset`.
    pub scale: f64,
    pub offset: f64,
    /// Raw integers that mean "no value".
    pub null: Vec<i64>,
}

/// The type of a raw value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
    /// Text of this many bytes in registers, two each; padding (NUL, spaces at the end) is cut.
    String(u16),
    /// A number in a text field.
    Number,
    /// A text field, as it is.
    Text,
    /// A latitude or longitude as NMEA writes it, `ddmm.mmmm`, its hemisphere in the next field; in degrees.
    Ddmm,
}

/// The order of the bytes of a value of two or four registers, named by where A, the most significant byte, stands:
/// `ABCD` (big endian), `CDAB` (words swapped), `BADC` (bytes swapped), `DCBA` (little endian).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    Abcd,
    Cdab,
    Badc,
    Dcba,
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
