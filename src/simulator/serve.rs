//! From a request's PDU to its answer (Modbus application protocol V1.1b3, section 6). Pure.

use super::device::Registers;
use crate::bus::Table;

/// The largest PDU.
pub const MAX_PDU: usize = 253;

/// Why a request is refused (section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Illegal {
    Function = 1,
    DataAddress = 2,
    DataValue = 3,
}

/// Carries out the request and gives the answer's PDU: of functions 1 to 6, 15 and 16, or an exception.
pub fn answer(registers: &mut Registers, pdu: &[u8]) -> Vec<u8> {
    let function = pdu.first().copied().unwrap_or(0);
    let result = match (function, pdu.get(1..).unwrap_or_default()) {
        (1, data) => read_bits(registers, Table::Coil, data),
        (2, data) => read_bits(registers, Table::Discrete, data),
        (3, data) => read_words(registers, Table::Holding, data),
        (4, data) => read_words(registers, Table::Input, data),
        (5, data) => write_coil(registers, data),
        (6, data) => write_register(registers, data),
        (15, data) => write_coils(registers, data),
        (16, data) => write_registers(registers, data),
        _ => Err(Illegal::Function),
    };
    match result {
        Ok(data) => [vec![function], data].concat(),
        Err(illegal) => exception_pdu(function, illegal as u8),
    }
}

/// The PDU that refuses a request of this function.
pub(super) fn exception_pdu(function: u8, code: u8) -> Vec<u8> {
    vec![function | 0x80, code]
}

fn read_bits(registers: &Registers, table: Table, data: &[u8]) -> Result<Vec<u8>, Illegal> {
    let (address, count) = range(data, 2000)?;
    let bits = registers.bits(table, address, count).ok_or(Illegal::DataAddress)?;
    let packed: Vec<u8> =
        bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |packed, bit| packed << 1 | u8::from(*bit))).collect();
    Ok(counted(packed))
}

fn read_words(registers: &Registers, table: Table, data: &[u8]) -> Result<Vec<u8>, Illegal> {
    let (address, count) = range(data, 125)?;
    let words = registers.words(table, address, count).ok_or(Illegal::DataAddress)?;
    Ok(counted(words.iter().flat_map(|word| word.to_be_bytes()).collect()))
}

fn write_coil(registers: &mut Registers, data: &[u8]) -> Result<Vec<u8>, Illegal> {
    let (address, value) = two(data)?;
    let on = match value {
        0xFF00 => true,
        0x0000 => false,
        _ => return Err(Illegal::DataValue),
    };
    registers.bits(Table::Coil, address, 1).ok_or(Illegal::DataAddress)?;
    registers.set_bits(Table::Coil, address, &[on]);
    Ok(data.to_vec())
}

fn write_register(registers: &mut Registers, data: &[u8]) -> Result<Vec<u8>, Illegal> {
    let (address, value) = two(data)?;
    registers.words(Table::Holding, address, 1).ok_or(Illegal::DataAddress)?;
    registers.set_words(Table::Holding, address, &[value]);
    Ok(data.to_vec())
}

fn write_coils(registers: &mut Registers, data: &[u8]) -> Result<Vec<u8>, Illegal> {
    let Block { head, address, count, values } = block(data, 1968)?;
    if values.len() != usize::from(count).div_ceil(8) {
        return Err(Illegal::DataValue);
    }
    registers.bits(Table::Coil, address, count).ok_or(Illegal::DataAddress)?;
    let bits: Vec<bool> = (0..usize::from(count)).map(|bit| values[bit / 8] >> (bit % 8) & 1 == 1).collect();
    registers.set_bits(Table::Coil, address, &bits);
    Ok(head.to_vec())
}

fn write_registers(registers: &mut Registers, data: &[u8]) -> Result<Vec<u8>, Illegal> {
    let Block { head, address, count, values } = block(data, 123)?;
    if values.len() != usize::from(count) * 2 {
        return Err(Illegal::DataValue);
    }
    registers.words(Table::Holding, address, count).ok_or(Illegal::DataAddress)?;
    let words: Vec<u16> = values.chunks_exact(2).map(|word| u16::from_be_bytes([word[0], word[1]])).collect();
    registers.set_words(Table::Holding, address, &words);
    Ok(head.to_vec())
}

/// Address and count of a read.
fn range(data: &[u8], max: u16) -> Result<(u16, u16), Illegal> {
    let (address, count) = two(data)?;
    if (1..=max).contains(&count) { Ok((address, count)) } else { Err(Illegal::DataValue) }
}

/// A write of many.
struct Block<'a> {
    /// Address and count as they came: what the answer repeats.
    head: &'a [u8],
    address: u16,
    count: u16,
    values: &'a [u8],
}

fn block(data: &[u8], max: u16) -> Result<Block<'_>, Illegal> {
    let (head, rest) = data.split_at_checked(4).ok_or(Illegal::DataValue)?;
    let (address, count) = range(head, max)?;
    match rest {
        [bytes, values @ ..] if usize::from(*bytes) == values.len() => Ok(Block { head, address, count, values }),
        _ => Err(Illegal::DataValue),
    }
}

fn two(data: &[u8]) -> Result<(u16, u16), Illegal> {
    match *data {
        [a, b, c, d] => Ok((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))),
        _ => Err(Illegal::DataValue),
    }
}

/// The bytes behind their count.
fn counted(bytes: Vec<u8>) -> Vec<u8> {
    let count = u8::try_from(bytes.len()).expect("at most 250 bytes: range() bounds the count");
    [vec![count], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers() -> Registers {
        let mut registers = Registers::default();
        registers.set_bits(Table::Coil, 19, &[true, false, true, true, false, false, true, true, false, true]);
        registers.set_bits(Table::Discrete, 0, &[true; 2000]);
        registers.set_words(Table::Holding, 107, &[0x022B, 0x0000, 0x0064]);
        registers.set_words(Table::Input, 8, &[0x000A]);
        registers
    }

    #[test]
    fn reads_as_in_the_specification() {
        let registers = &mut registers();
        assert_eq!(answer(registers, &[1, 0, 19, 0, 10]), [1, 2, 0xCD, 0x02]);
        assert_eq!(answer(registers, &[2, 0, 0, 0, 3]), [2, 1, 0x07]);
        // 6.3: read holding registers 108 to 110.
        assert_eq!(answer(registers, &[3, 0, 107, 0, 3]), [3, 6, 0x02, 0x2B, 0x00, 0x00, 0x00, 0x64]);
        // 6.4: read input register 9.
        assert_eq!(answer(registers, &[4, 0, 8, 0, 1]), [4, 2, 0x00, 0x0A]);
    }

    #[test]
    fn the_largest_reads_fit() {
        let mut registers = registers();
        registers.set_words(Table::Input, 0, &[7; 126]);
        assert_eq!(answer(&mut registers, &[2, 0, 0, 0x07, 0xD0]).len(), 2 + 250);
        assert_eq!(answer(&mut registers, &[4, 0, 0, 0, 125]).len(), 2 + 250);
        assert_eq!(answer(&mut registers, &[4, 0, 0, 0, 126]), [0x84, 3]);
        assert_eq!(answer(&mut registers, &[2, 0, 0, 0x07, 0xD1]), [0x82, 3]);
    }

    #[test]
    fn writes_land_and_are_confirmed() {
        let registers = &mut registers();
        assert_eq!(answer(registers, &[5, 0, 20, 0xFF, 0]), [5, 0, 20, 0xFF, 0]);
        assert_eq!(registers.bits(Table::Coil, 20, 1), Some(vec![true]));
        assert_eq!(answer(registers, &[6, 0, 108, 0, 3]), [6, 0, 108, 0, 3]);
        assert_eq!(registers.words(Table::Holding, 108, 1), Some(vec![3]));
        // 6.11: ten coils from 20 on.
        assert_eq!(answer(registers, &[15, 0, 19, 0, 10, 2, 0xCD, 0x01]), [15, 0, 19, 0, 10]);
        let written = [true, false, true, true, false, false, true, true, true, false];
        assert_eq!(registers.bits(Table::Coil, 19, 10), Some(written.to_vec()));
        assert_eq!(answer(registers, &[16, 0, 107, 0, 2, 4, 0, 0x0A, 1, 2]), [16, 0, 107, 0, 2]);
        assert_eq!(registers.words(Table::Holding, 107, 3), Some(vec![0x000A, 0x0102, 0x0064]));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let registers = &mut registers();
        assert_eq!(answer(registers, &[7]), [0x87, 1]);
        assert_eq!(answer(registers, &[]), [0x80, 1]);
    }

    #[test]
    fn refuses_addresses_that_do_not_exist() {
        let before = registers();
        for request in [
            &[1, 0, 18, 0, 2][..],
            &[3, 0, 107, 0, 4],
            &[4, 0xFF, 0xFF, 0, 2],
            &[5, 0, 0, 0, 0],
            &[6, 0, 0, 0, 0],
            &[15, 0, 28, 0, 2, 1, 0],
            &[16, 0, 109, 0, 2, 4, 0, 1, 0, 1],
        ] {
            let mut registers = before.clone();
            assert_eq!(answer(&mut registers, request), [request[0] | 0x80, 2], "{request:?}");
            assert_eq!(registers, before, "{request:?}");
        }
    }

    #[test]
    fn refuses_values_and_lengths_that_are_wrong() {
        let before = registers();
        for request in [
            &[1, 0, 19, 0, 0][..],
            &[3, 0, 107],
            &[3, 0, 107, 0, 1, 0],
            &[5, 0, 19, 0, 1],
            &[15, 0, 19, 0, 9, 1, 0],
            &[15, 0, 19, 0, 8, 2, 0],
            &[16, 0, 107, 0, 0, 0],
            &[16, 0, 107, 0, 1, 1, 0],
            &[16, 0, 107, 0, 1],
        ] {
            let mut registers = before.clone();
            assert_eq!(answer(&mut registers, request), [request[0] | 0x80, 3], "{request:?}");
            assert_eq!(registers, before, "{request:?}");
        }
    }
}
