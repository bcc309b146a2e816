//! A bus for tests.

use std::sync::Arc;
use std::time::Duration;

use super::decode::{Decode, Kind, Order};
use super::{Bus, Device, Point, Source, Table, Write, link};

/// A bus over TCP with these devices; tests lay their own wire.
pub(crate) fn bus(devices: Vec<Device>) -> Bus {
    let link = link::Config::ModbusTcp(link::Tcp { host: "test".into(), port: 502 });
    Bus { name: "bus".into(), link, devices }
}

/// A device with a writable `u16` holding register at each address, `r<address>`, read every second, stale after
/// three.
pub(crate) fn device(name: &str, unit: u8, registers: &[u16]) -> Device {
    let point = |address: &u16| Point {
        name: format!("r{address}").into(),
        source: Source::Modbus { table: Table::Holding, address: *address },
        decode: Decode { kind: Kind::U16, order: Order::Abcd, scale: 1.0, offset: 0.0, null: Vec::new() },
        every: Duration::from_secs(1),
        stale_after: Duration::from_secs(3),
        write: Some(Write { min: None, max: Some(1000.0) }),
    };
    Device {
        name: Arc::from(name),
        unit,
        timeout: Duration::from_millis(500),
        max_registers: 125,
        max_bits: 2000,
        max_gap: 0,
        points: registers.iter().map(point).collect(),
    }
}
