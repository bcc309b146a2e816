//! Devices that answer for real: Modbus TCP and RTU servers and an NMEA talker, for `demo`, tests and benches.

pub mod pty;

pub use pty::Pty;
