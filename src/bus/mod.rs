//! The wires: who is polled when, over which link, and what the answer means.
//!
//! In reading order: a [`Poller`] owns one bus and keeps its [`link`] open. On it either a Modbus conversation asks the
//! devices ([`modbus`]), or a listener hears what they say unasked ([`uart`]). [`decode`] turns words and fields into
//! values, and the `desk` tells them, and when they have grown stale. [`point`] is a point as it is written, and
//! [`profile`] a device type as data.

pub mod poller;
pub mod link;
pub mod modbus;
pub mod uart;
pub mod decode;
mod desk;
pub mod point;
pub mod profile;
#[cfg(test)]
mod fixture;

use std::sync::Arc;
use std::time::Duration;

pub use poller::Poller;

/// One bus and all that hangs on it, resolved from the config.
#[derive(Clone, Debug, PartialEq)]
pub struct Bus {
    /// Its name in the config.
    pub name: Arc<str>,
    /// How it is reached.
    pub link: link::Config,
    /// The devices on it, in the config's order.
    pub devices: Vec<Device>,
}

/// One device on a bus.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Its name in the config.
    pub name: Arc<str>,
    /// Its Modbus address (1 to 247 on a serial line, 0 to 255 over TCP); unused on a `uart` bus.
    pub unit: u8,
    /// How long an answer may take, measured from the request's last byte.
    pub timeout: Duration,
    /// The most registers it allows in one request (at most 125).
    pub max_registers: u16,
    /// The most coils or discrete inputs it allows in one request (at most 2000).
    pub max_bits: u16,
    /// Read across this many registers that nobody asked for, when that saves a request.
    pub max_gap: u16,
    /// What to read from it.
    pub points: Vec<Point>,
}

/// One value of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its name within the device.
    pub name: Arc<str>,
    /// Where it stands.
    pub source: Source,
    /// What its words or its field mean.
    pub decode: decode::Decode,
    /// How often it is read.
    pub every: Duration,
    /// When it counts as stale without a good answer; by default three times `every`.
    pub stale_after: Duration,
    /// Whether and how it may be written.
    pub write: Option<Write>,
}

/// Where a point's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Modbus: `decode.words()` registers, or one bit, from `address` (0-based, as on the wire).
    Modbus { table: Table, address: u16 },
    /// Field `field` (1 is the first after the sentence's name) of an NMEA 0183 sentence with this type, such as `GGA`,
    /// whoever the talker is.
    Nmea { sentence: Arc<str>, field: u8 },
}

/// The four tables of Modbus (Modbus application protocol V1.1b3, 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Read and written: functions 1, 5, 15.
    Coil,
    /// Read only: function 2.
    Discrete,
    /// Read only: function 4.
    Input,
    /// Read and written: functions 3, 6, 16.
    Holding,
}

impl Table {
    /// Whether it holds single bits rather than 16-bit registers.
    pub fn is_bits(self) -> bool {
        matches!(self, Table::Coil | Table::Discrete)
    }
}

/// The limits of a writable point, in the point's unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Write {
    pub min: Option<f64>,
    pub max: Option<f64>,
}
