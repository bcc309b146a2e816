//! Modbus: who is asked what and when, and which answers count.
//!
//! In reading order: a `conversation` asks the devices of a bus in the order of its `schedule`, in the fewest requests
//! by [`plan`], and carries out commands as `command` says. [`pdu`] builds requests and reads answers; the [`guard`]
//! joins the two and lets no stale or damaged answer through.

pub(super) mod conversation;
mod schedule;
pub mod plan;
mod command;
pub mod guard;
pub mod pdu;

/// CRC-16/MODBUS over `bytes` (Modbus over serial line V1.02, 6.2.2); sent low byte first.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 })
    })
}
