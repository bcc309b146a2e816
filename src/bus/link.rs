//! How a bus is reached: a TCP connection or a serial port.

use std::path::PathBuf;

/// The way to a bus, resolved from `[bus.x]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Config {
    /// Modbus TCP.
    ModbusTcp(Tcp),
    /// Modbus RTU frames over a TCP connection, as serial servers pass them.
    ModbusRtuOverTcp(Tcp),
    /// Modbus RTU over a serial port.
    ModbusRtu(Serial),
    /// A serial port on which devices talk unasked.
    Uart(Serial),
}

/// A TCP endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    pub host: String,
    pub port: u16,
}

/// A serial port and its line settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serial {
    /// Preferably a stable path such as `/dev/serial/by-id/…`.
    pub port: PathBuf,
    pub baud: u32,
    pub parity: Parity,
    /// 5 to 8.
    pub data_bits: u8,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// The parity bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parity {
    #[default]
    None,
    Even,
    Odd,
}
