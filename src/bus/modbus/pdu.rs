//! Modbus requests and answers, and the two frames that carry them. Pure.
//!
//! PDU: function and data (Modbus application protocol V1.1b3, section 6). RTU: unit, PDU, CRC (Modbus over serial
//! line V1.02, 2.5.1). MBAP: transaction, protocol, length, unit, PDU (Modbus messaging on TCP/IP V1.0b, 3.1.3).

use super::crc16;
use crate::bus::Table;
use crate::reading::Fault;

/// What a device is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Functions 1 to 4: `count` bits (at most 2000) or registers (at most 125) from `address`.
    Read { table: Table, address: u16, count: u16 },
    /// Function 5.
    WriteCoil { address: u16, value: bool },
    /// Function 6.
    WriteRegister { address: u16, value: u16 },
    /// Function 15, at most 1968 coils.
    WriteCoils { address: u16, values: Vec<bool> },
    /// Function 16, at most 123 registers.
    WriteRegisters { address: u16, values: Vec<u16> },
}

/// What a device answers, checked against its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As many as were asked for.
    Bits(Vec<bool>),
    /// As many as were asked for.
    Registers(Vec<u16>),
    /// The write was confirmed.
    Written,
}

impl Request {
    /// The function code.
    pub fn function(&self) -> u8 {
        match self {
            Request::Read { table: Table::Coil, .. } => 1,
            Request::Read { table: Table::Discrete, .. } => 2,
            Request::Read { table: Table::Holding, .. } => 3,
            Request::Read { table: Table::Input, .. } => 4,
            Request::WriteCoil { .. } => 5,
            Request::WriteRegister { .. } => 6,
            Request::WriteCoils { .. } => 15,
            Request::WriteRegisters { .. } => 16,
        }
    }

    /// The PDU as sent.
    pub fn pdu(&self) -> Vec<u8> {
        let mut pdu = vec![self.function()];
        match self {
            Request::Read { address, count, .. } => words(&mut pdu, &[*address, *count]),
            Request::WriteCoil { address, value } => words(&mut pdu, &[*address, if *value { 0xFF00 } else { 0 }]),
            Request::WriteRegister { address, value } => words(&mut pdu, &[*address, *value]),
            Request::WriteCoils { address, values } => {
                words(&mut pdu, &[*address, values.len() as u16]);
                pdu.push(values.len().div_ceil(8) as u8);
                pdu.extend(
                    values.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit))),
                );
            }
            Request::WriteRegisters { address, values } => {
                words(&mut pdu, &[*address, values.len() as u16]);
                pdu.push((2 * values.len()) as u8);
                words(&mut pdu, values);
            }
        }
        pdu
    }

    /// The read of what this writes, where the right answer to the write is the request itself.
    pub fn read_back(&self) -> Option<Request> {
        match self {
            Request::WriteCoil { address, .. } => {
                Some(Request::Read { table: Table::Coil, address: *address, count: 1 })
            }
            Request::WriteRegister { address, .. } => {
                Some(Request::Read { table: Table::Holding, address: *address, count: 1 })
            }
            _ => None,
        }
    }

    /// The frame for a serial line.
    pub fn rtu(&self, unit: u8) -> Vec<u8> {
        let mut frame = vec![unit];
        frame.extend(self.pdu());
        let crc = crc16(&frame);
        frame.extend(crc.to_le_bytes());
        frame
    }

    /// The frame for TCP.
    pub fn mbap(&self, transaction: u16, unit: u8) -> Vec<u8> {
        let pdu = self.pdu();
        let mut frame = Vec::with_capacity(7 + pdu.len());
        words(&mut frame, &[transaction, 0, 1 + pdu.len() as u16]);
        frame.push(unit);
        frame.extend(pdu);
        frame
    }

    /// How many bytes the PDU of its answer has when it is no exception.
    pub fn answer_len(&self) -> usize {
        match self {
            Request::Read { .. } => 2 + self.data_len(),
            _ => 5,
        }
    }

    /// Reads the PDU of an answer: function, size and what it echoes must be those of this request.
    ///
    /// # Errors
    /// [`Fault::Exception`] when the device refused; [`Fault::Frame`] when this is no answer to this request.
    pub fn answer(&self, pdu: &[u8]) -> Result<Answer, Fault> {
        let [function, data @ ..] = pdu else { return Err(Fault::Frame("an answer without a function".into())) };
        if *function == self.function() | 0x80 {
            return match data {
                [code] => Err(Fault::Exception(*code)),
                _ => Err(Fault::Frame(format!("an exception of {} bytes, not 2", pdu.len()))),
            };
        }
        if *function != self.function() {
            return Err(Fault::Frame(format!("function {function}, not {}", self.function())));
        }
        if pdu.len() != self.answer_len() {
            return Err(Fault::Frame(format!("{} bytes, not {}", pdu.len(), self.answer_len())));
        }
        match self {
            Request::Read { table, count, .. } => {
                let (bytes, data) = (usize::from(data[0]), &data[1..]);
                if bytes != self.data_len() {
                    return Err(Fault::Frame(format!("{bytes} bytes of data, not {}", self.data_len())));
                }
                Ok(if table.is_bits() {
                    Answer::Bits((0..usize::from(*count)).map(|i| data[i / 8] >> (i % 8) & 1 == 1).collect())
                } else {
                    Answer::Registers(data.chunks_exact(2).map(|w| u16::from_be_bytes([w[0], w[1]])).collect())
                })
            }
            // A write echoes address and value, or address and count.
            _ if *data == self.pdu()[1..5] => Ok(Answer::Written),
            _ => Err(Fault::Frame("a confirmation of another write".into())),
        }
    }

    /// The byte count in the answer to a read.
    fn data_len(&self) -> usize {
        match self {
            Request::Read { table, count, .. } if table.is_bits() => usize::from(*count).div_ceil(8),
            Request::Read { count, .. } => 2 * usize::from(*count),
            _ => 0,
        }
    }
}

/// The PDU of the first RTU frame in `bytes` that answers `request` from `unit`, whatever noise stands before it.
///
/// A place in `bytes` counts only when unit, function, size and CRC are right there.
pub fn find_rtu<'a>(bytes: &'a [u8], unit: u8, request: &Request) -> Option<&'a [u8]> {
    let function = request.function();
    (0..bytes.len()).find_map(|start| {
        let rest = &bytes[start..];
        let len = match rest {
            [u, f, ..] if *u == unit && *f == function => 1 + request.answer_len() + 2,
            [u, f, ..] if *u == unit && *f == function | 0x80 => 5,
            _ => return None,
        };
        let (body, crc) = rest.get(..len)?.split_at(len - 2);
        let pdu = &body[1..];
        let answers = !matches!(request.answer(pdu), Err(Fault::Frame(_)));
        (crc == crc16(body).to_le_bytes() && answers).then_some(pdu)
    })
}

/// Says what is wrong with `bytes`, in which [`find_rtu`] found nothing; none when there are no bytes at all.
pub fn explain_rtu(bytes: &[u8], unit: u8, request: &Request) -> Fault {
    let expected = 1 + request.answer_len() + 2;
    let what = match bytes {
        [] => return Fault::Timeout,
        _ if bytes.len() >= 4 && crc16(bytes) == 0 && bytes[0] != unit => format!("an answer of unit {}", bytes[0]),
        _ if bytes.len() >= 4 && crc16(bytes) == 0 => match request.answer(&bytes[1..bytes.len() - 2]) {
            Err(Fault::Frame(what)) => what,
            _ => "a frame out of place".into(),
        },
        _ if bytes.len() < expected => format!("{} of {expected} bytes", bytes.len()),
        _ => format!("{} bytes without an answer with a right CRC", bytes.len()),
    };
    Fault::Frame(what)
}

fn words(out: &mut Vec<u8>, words: &[u16]) {
    out.extend(words.iter().flat_map(|w| w.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Request = Request::Read { table: Table::Holding, address: 0x6B, count: 3 };

    #[test]
    fn requests_are_those_of_the_specification() {
        // The examples of Modbus application protocol V1.1b3, 6.1 to 6.12.
        let cases: [(Request, &[u8]); 7] = [
            (Request::Read { table: Table::Coil, address: 19, count: 19 }, &[1, 0, 19, 0, 19]),
            (Request::Read { table: Table::Discrete, address: 196, count: 22 }, &[2, 0, 196, 0, 22]),
            (READ, &[3, 0, 0x6B, 0, 3]),
            (Request::WriteCoil { address: 172, value: true }, &[5, 0, 0xAC, 0xFF, 0]),
            (Request::WriteRegister { address: 1, value: 3 }, &[6, 0, 1, 0, 3]),
            (
                Request::WriteCoils {
                    address: 19,
                    values: [1, 0, 1, 1, 0, 0, 1, 1, 1, 0].map(|bit| bit == 1).to_vec(),
                },
                &[15, 0, 19, 0, 10, 2, 0xCD, 1],
            ),
            (Request::WriteRegisters { address: 1, values: vec![10, 0x102] }, &[16, 0, 1, 0, 2, 4, 0, 10, 1, 2]),
        ];
        for (request, pdu) in cases {
            assert_eq!(request.pdu(), pdu, "{request:?}");
        }
    }

    #[test]
    fn frames_carry_unit_crc_and_transaction() {
        let request = Request::Read { table: Table::Holding, address: 0, count: 10 };
        assert_eq!(request.rtu(1), [1, 3, 0, 0, 0, 10, 0xC5, 0xCD]);
        assert_eq!(request.mbap(0x0102, 7), [1, 2, 0, 0, 0, 6, 7, 3, 0, 0, 0, 10]);
    }

    #[test]
    fn answers_are_read() {
        assert_eq!(READ.answer(&[3, 6, 2, 0x2B, 0, 0, 0, 0x64]), Ok(Answer::Registers(vec![0x22B, 0, 0x64])));
        let coils = Request::Read { table: Table::Coil, address: 0, count: 10 };
        let bits = [1, 0, 1, 1, 0, 0, 1, 1, 1, 0].map(|bit| bit == 1).to_vec();
        assert_eq!(coils.answer(&[1, 2, 0xCD, 1]), Ok(Answer::Bits(bits)));
        assert_eq!(READ.answer(&[0x83, 2]), Err(Fault::Exception(2)));
        let write = Request::WriteRegister { address: 1, value: 3 };
        assert_eq!(write.answer(&[6, 0, 1, 0, 3]), Ok(Answer::Written));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let wrong: [&[u8]; 6] = [&[], &[3], &[4, 2, 0, 0], &[3, 4, 0, 0, 0, 0, 0, 0], &[3, 6, 0, 0], &[0x83, 2, 0]];
        for pdu in wrong {
            assert!(matches!(READ.answer(pdu), Err(Fault::Frame(_))), "{pdu:?}");
        }
        let write = Request::WriteRegister { address: 1, value: 3 };
        assert!(matches!(write.answer(&[6, 0, 1, 0, 4]), Err(Fault::Frame(_))));
    }

    #[test]
    fn a_frame_is_found_behind_noise_and_only_a_whole_right_one() {
        let mut frame = vec![1, 3, 6, 2, 0x2B, 0, 0, 0, 0x64];
        frame.extend(crc16(&frame).to_le_bytes());
        let noisy = [&[1, 3, 6, 0xFF][..], &frame].concat();
        assert_eq!(find_rtu(&noisy, 1, &READ), Some(&frame[1..9]));
        assert_eq!(find_rtu(&noisy[..noisy.len() - 1], 1, &READ), None);
        assert_eq!(find_rtu(&noisy, 2, &READ), None);
        frame[4] ^= 1;
        assert_eq!(find_rtu(&frame, 1, &READ), None);
    }
}
