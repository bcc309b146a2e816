//! Modbus RTU: the devices on one serial line (Modbus over serial line V1.02, 2.5.1).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::device::Units;
use super::serve::answer;
use crate::bus::modbus::crc16;

/// After this much silence an unfinished frame is given up. Longer than t3.5, because a pseudoterminal and a USB
/// adapter hand bytes over in lumps.
const SILENCE: Duration = Duration::from_millis(50);

/// The smallest frame: unit, function and CRC.
const MIN_FRAME: usize = 4;

/// The largest frame: unit, PDU and CRC.
const MAX_FRAME: usize = 256;

/// Answers the requests that come over `line`, each after `pause`, as long as the future is polled.
///
/// Requests to other units and frames with a wrong CRC stay without answer, as on a real line. Unit 0 is everybody: its
/// writes are carried out without answer (2.1).
///
/// # Errors
/// When the line ends ([`io::ErrorKind::UnexpectedEof`]) or fails.
pub async fn serve(mut line: impl AsyncRead + AsyncWrite + Unpin, units: Units, pause: Duration) -> io::Result<()> {
    let mut heard = Vec::new();
    loop {
        while let Some(frame) = take_frame(&mut heard) {
            if let Some(answer) = react(&units, &frame) {
                sleep(pause).await;
                line.write_all(&answer).await?;
            }
        }
        let mut bytes = [0; MAX_FRAME];
        let read = if heard.is_empty() {
            line.read(&mut bytes).await?
        } else {
            match timeout(SILENCE, line.read(&mut bytes)).await {
                Ok(read) => read?,
                Err(_) => {
                    heard.clear();
                    continue;
                }
            }
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        heard.extend_from_slice(&bytes[..read]);
    }
}

/// Takes the next whole frame with a right CRC out of what was heard. With a wrong one, all of it goes: where the next
/// frame begins shows only after silence.
fn take_frame(heard: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = match frame_length(heard) {
        Length::Known(length) => length,
        Length::Unknown => heard.len(),
        Length::Open => return None,
    };
    if heard.len() < length {
        return None;
    }
    if crc16(&heard[..length]) == 0 {
        return Some(heard.drain(..length).collect());
    }
    // A frame of unknown length may only not be whole yet.
    if matches!(frame_length(heard), Length::Known(_)) || heard.len() >= MAX_FRAME {
        heard.clear();
    }
    None
}

/// How long the frame is that begins what was heard.
enum Length {
    Known(usize),
    /// Too little heard to say.
    Open,
    /// A function that we do not know.
    Unknown,
}

fn frame_length(heard: &[u8]) -> Length {
    match heard {
        [_, 1..=6, ..] => Length::Known(8),
        [_, 15 | 16, _, _, _, _, bytes, ..] => Length::Known(9 + usize::from(*bytes)),
        [_, function, ..] if ![15, 16].contains(function) && heard.len() >= MIN_FRAME => Length::Unknown,
        _ => Length::Open,
    }
}

/// Carries out the request of a frame; the answer's frame, when there is to be one.
fn react(units: &Units, frame: &[u8]) -> Option<Vec<u8>> {
    let (unit, pdu) = (frame[0], &frame[1..frame.len() - 2]);
    if unit == 0 {
        if matches!(pdu[0], 5 | 6 | 15 | 16) {
            for device in units.values().filter(|device| !device.is_silent()) {
                device.with(|registers| answer(registers, pdu));
            }
        }
        return None;
    }
    let device = units.get(&unit).filter(|device| !device.is_silent())?;
    let mut frame = vec![unit];
    frame.extend(device.with(|registers| answer(registers, pdu)));
    let crc = crc16(&frame);
    frame.extend(crc.to_le_bytes());
    Some(frame)
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio::task::JoinSet;
    use tokio::time::Instant;

    use super::*;
    use crate::bus::Table;
    use crate::simulator::device::{Device, Registers};

    const READ: [u8; 6] = [1, 3, 0, 0, 0, 1];
    const NOTHING: [u8; 0] = [];

    /// A line with units 1 and 2.
    fn line() -> (DuplexStream, Units, JoinSet<io::Result<()>>) {
        let device = || {
            let mut registers = Registers::default();
            registers.set_words(Table::Holding, 0, &[0x1234]);
            Device::new(registers)
        };
        let units = Units::from([(1, device()), (2, device())]);
        let (near, far) = tokio::io::duplex(1024);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(far, units.clone(), Duration::from_millis(5)));
        (near, units, tasks)
    }

    fn sealed(bytes: &[u8]) -> Vec<u8> {
        [bytes, &crc16(bytes).to_le_bytes()].concat()
    }

    /// What comes within a second.
    async fn heard(line: &mut DuplexStream) -> Vec<u8> {
        let mut all = Vec::new();
        let end = Instant::now() + Duration::from_secs(1);
        while let Ok(Ok(byte)) = tokio::time::timeout_at(end, line.read_u8()).await {
            all.push(byte);
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn answers_its_units_and_no_other() {
        let (mut line, units, _task) = line();
        line.write_all(&sealed(&READ)).await.unwrap();
        assert_eq!(heard(&mut line).await, sealed(&[1, 3, 2, 0x12, 0x34]));
        line.write_all(&sealed(&[3, 3, 0, 0, 0, 1])).await.unwrap();
        assert_eq!(heard(&mut line).await, NOTHING);
        units[&1].set_silent(true);
        line.write_all(&sealed(&READ)).await.unwrap();
        assert_eq!(heard(&mut line).await, NOTHING);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_may_come_byte_by_byte() {
        let (mut line, units, _task) = line();
        for byte in sealed(&[2, 16, 0, 0, 0, 1, 2, 0xAA, 0x55]) {
            line.write_u8(byte).await.unwrap();
            sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(heard(&mut line).await, sealed(&[2, 16, 0, 0, 0, 1]));
        assert_eq!(units[&2].with(|r| r.words(Table::Holding, 0, 1)), Some(vec![0xAA55]));
    }

    #[tokio::test(start_paused = true)]
    async fn damaged_and_broken_frames_are_not_answered_and_do_no_harm_to_the_next() {
        let (mut line, units, _task) = line();
        let mut damaged = sealed(&[1, 6, 0, 0, 0, 1]);
        damaged[5] ^= 0x40;
        for bad in [&damaged[..], &[1, 3, 0], &[0xFF], &[1, 99, 1, 2, 3, 4, 5, 6, 7, 8, 9]] {
            line.write_all(bad).await.unwrap();
            assert_eq!(heard(&mut line).await, NOTHING, "{bad:?}");
            line.write_all(&sealed(&READ)).await.unwrap();
            assert_eq!(heard(&mut line).await, sealed(&[1, 3, 2, 0x12, 0x34]), "after {bad:?}");
        }
        assert_eq!(units[&1].with(|r| r.words(Table::Holding, 0, 1)), Some(vec![0x1234]));
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_functions_are_refused() {
        let (mut line, _, _task) = line();
        for request in [&[1, 7][..], &[1, 43, 14, 1, 0]] {
            line.write_all(&sealed(request)).await.unwrap();
            assert_eq!(heard(&mut line).await, sealed(&[1, request[1] | 0x80, 1]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broadcast_reaches_all_and_nobody_answers() {
        let (mut line, units, _task) = line();
        line.write_all(&sealed(&[0, 6, 0, 0, 0, 7])).await.unwrap();
        assert_eq!(heard(&mut line).await, NOTHING);
        for device in units.values() {
            assert_eq!(device.with(|r| r.words(Table::Holding, 0, 1)), Some(vec![7]));
        }
        line.write_all(&sealed(&[0, 3, 0, 0, 0, 1])).await.unwrap();
        assert_eq!(heard(&mut line).await, NOTHING);
    }
}
