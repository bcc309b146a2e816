//! What a device said: a value, when it was read, and how far to trust it. Pure.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use tokio::sync::oneshot;

use crate::clock::Moment;

/// The value of a point, after scaling.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// The device said that it has no value (a sentinel), or nothing was ever read.
    Null,
    /// A coil, a discrete input, or a register read as `bool`.
    Bool(bool),
    /// A whole number: an integer type with a whole `scale` and `offset`.
    Int(i128),
    /// A number, in the point's unit. Never NaN or infinite: those become [`Value::Null`].
    Float(f64),
    /// Text, as read by `as = "string"` or from a line.
    Text(Arc<str>),
}

/// The bare value: `231.4`, `true`, `text`, and `null` for none.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(b) => b.fmt(f),
            Value::Int(i) => i.fmt(f),
            Value::Float(x) => x.fmt(f),
            Value::Text(t) => f.write_str(t),
        }
    }
}

/// The value as JSON has it.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(b) => serializer.serialize_bool(*b),
            Value::Int(i) => match i64::try_from(*i) {
                Ok(i) => serializer.serialize_i64(i),
                Err(_) => match u64::try_from(*i) {
                    Ok(u) => serializer.serialize_u64(u),
                    Err(_) => serializer.serialize_f64(*i as f64),
                },
            },
            Value::Float(x) => serializer.serialize_f64(*x),
            Value::Text(t) => serializer.serialize_str(t),
        }
    }
}

/// How far a value is to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// Just read, from a checked frame.
    Good,
    /// The last good value; the point has stopped answering since.
    Stale,
    /// There is no value to trust: never read, or the device refuses this point.
    Bad,
}

/// Why a point has no fresh value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bus's port or connection is not there; the text says why.
    LinkDown(String),
    /// No answer within the timeout.
    Timeout,
    /// An answer came but its frame was wrong (length, CRC, unit, function); the text says what.
    Frame(String),
    /// The device answered with a Modbus exception code (Modbus application protocol V1.1b3, section 7).
    Exception(u8),
    /// The words were read but do not make a value; the text says why.
    Decode(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::LinkDown(why) => write!(f, "the bus is down: {why}"),
            Fault::Timeout => f.write_str("no answer"),
            Fault::Frame(what) => write!(f, "bad frame: {what}"),
            Fault::Exception(code) => {
                let name = match code {
                    1 => "illegal function",
                    2 => "illegal data address",
                    3 => "illegal data value",
                    4 => "server device failure",
                    5 => "acknowledge",
                    6 => "server device busy",
                    8 => "memory parity error",
                    10 => "gateway path unavailable",
                    11 => "gateway target device failed to respond",
                    _ => "unknown",
                };
                write!(f, "exception {code} ({name})")
            }
            Fault::Decode(why) => write!(f, "cannot decode: {why}"),
        }
    }
}

impl std::error::Error for Fault {}

/// One point, read once (or found not to answer).
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The device's name in the config.
    pub device: Arc<str>,
    /// The point's name within its device.
    pub point: Arc<str>,
    /// The value; the last good one when the quality is [`Quality::Stale`].
    pub value: Value,
    /// How far to trust it.
    pub quality: Quality,
    /// When the value was read: for a stale value, when the last good answer came.
    pub at: Moment,
    /// Why it is not good.
    pub fault: Option<Fault>,
}

/// What a bus has to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// Points read in one answer, or found stale together.
    Readings(Vec<Reading>),
    /// A device began or ceased to answer.
    Device {
        /// The device's name in the config.
        device: Arc<str>,
        /// Whether it answers now.
        online: bool,
    },
}

/// A wish to write a point, on its way to the device.
#[derive(Debug)]
pub struct Command {
    /// The device's name in the config.
    pub device: Arc<str>,
    /// The point's name within its device.
    pub point: Arc<str>,
    /// The value wanted, in the point's unit (before scaling is undone).
    pub value: Value,
    /// Where the result goes; dropped when nobody waits for it.
    pub reply: oneshot::Sender<Result<(), CommandError>>,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// No such point, or it has no `write`.
    NotWritable,
    /// The value does not fit the point: its type, its limits; the text says what would.
    BadValue(String),
    /// The device or the line failed; whether the write took effect is unknown after a timeout.
    Fault(Fault),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::NotWritable => f.write_str("this point cannot be written"),
            CommandError::BadValue(why) => f.write_str(why),
            CommandError::Fault(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for CommandError {}
