//! A place in the bytes of a packet, and the data types of MQTT that are read there (MQTT 5.0, 1.5). Pure.

use bytes::Bytes;

use super::{Error, bad};
use crate::mqtt::{PacketId, Reason};

/// Payloads of this size and more stay where they were read; smaller ones are copied out, so that a message that is
/// kept for long does not keep more than itself.
pub(super) const SHARE_FROM: usize = 16 * 1024;

/// What is left to read of a packet, or of a part of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// The memory that `rest` lies in, when parts of it may be kept.
    shared: Option<&'a Bytes>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest, shared: None }
    }

    /// Over `memory` from `start`; large payloads are then kept without copying them.
    pub(super) fn sharing(memory: &'a Bytes, start: usize) -> Self {
        Self { rest: &memory[start..], shared: Some(memory) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let Some((taken, rest)) = self.rest.split_at_checked(n) else {
            return bad(Reason::MALFORMED, "a packet ends before its last field");
        };
        self.rest = rest;
        Ok(taken)
    }

    /// All that is left.
    pub(super) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next `n` bytes as a cursor of their own.
    pub(super) fn part(&mut self, n: usize) -> Result<Self, Error> {
        Ok(Self { rest: self.take(n)?, shared: self.shared })
    }

    pub(super) fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    /// A variable byte integer, in as few bytes as it needs [MQTT-1.5.5-1].
    pub(super) fn var(&mut self) -> Result<u32, Error> {
        let mut value = 0;
        for place in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                if byte == 0 && place > 0 {
                    return bad(Reason::MALFORMED, "a length in more bytes than it needs [MQTT-1.5.5-1]");
                }
                return Ok(value);
            }
        }
        bad(Reason::MALFORMED, "a variable byte integer of five bytes")
    }

    /// A packet identifier: not 0 [MQTT-2.2.1-3].
    pub(super) fn id(&mut self) -> Result<PacketId, Error> {
        match PacketId::new(self.u16()?) {
            Some(id) => Ok(id),
            None => bad(Reason::MALFORMED, "packet identifier 0 [MQTT-2.2.1-3]"),
        }
    }

    /// Binary data with its length before it (MQTT 5.0, 1.5.6).
    pub(super) fn binary(&mut self) -> Result<&'a [u8], Error> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// A UTF-8 encoded string; see [`text`].
    pub(super) fn text(&mut self) -> Result<&'a str, Error> {
        self.binary().and_then(text)
    }

    /// All that is left, to be kept.
    pub(super) fn payload(&mut self) -> Bytes {
        let rest = self.take_rest();
        match self.shared {
            Some(memory) if rest.len() >= SHARE_FROM => memory.slice_ref(rest),
            _ => Bytes::copy_from_slice(rest),
        }
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), Error> {
        if self.is_empty() { Ok(()) } else { bad(Reason::MALFORMED, "a packet goes on behind its last field") }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let Some((taken, rest)) = self.rest.split_first_chunk() else {
            return bad(Reason::MALFORMED, "a packet ends before its last field");
        };
        self.rest = rest;
        Ok(*taken)
    }
}

/// A text of MQTT: UTF-8 without surrogates [MQTT-1.5.4-1] and without U+0000 [MQTT-1.5.4-2]. A byte order mark stays
/// what it is, a character [MQTT-1.5.4-3].
pub(super) fn text(bytes: &[u8]) -> Result<&str, Error> {
    match std::str::from_utf8(bytes) {
        Ok(_) if bytes.contains(&0) => bad(Reason::MALFORMED, "a text with U+0000 [MQTT-1.5.4-2]"),
        Ok(text) => Ok(text),
        Err(_) => bad(Reason::MALFORMED, "a text that is not UTF-8 [MQTT-1.5.4-1]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_the_specification_s_table_has_them() {
        let cases: [(&[u8], u32); 8] = [
            (&[0x00], 0),
            (&[0x7F], 127),
            (&[0x80, 0x01], 128),
            (&[0xFF, 0x7F], 16_383),
            (&[0x80, 0x80, 0x01], 16_384),
            (&[0xFF, 0xFF, 0x7F], 2_097_151),
            (&[0x80, 0x80, 0x80, 0x01], 2_097_152),
            (&[0xFF, 0xFF, 0xFF, 0x7F], 268_435_455),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Cursor::new(bytes).var().unwrap(), expected, "{bytes:02x?}");
        }
        for bad in [&[0x80][..], &[0x80, 0x00], &[0xFF, 0x80, 0x00], &[0x80, 0x80, 0x80, 0x80, 0x01]] {
            assert!(Cursor::new(bad).var().is_err(), "{bad:02x?}");
        }
    }

    #[test]
    fn texts_are_utf_8_without_what_mqtt_forbids() {
        for good in [&b""[..], "täst".as_bytes(), "\u{FEFF}a".as_bytes(), "\u{10FFFF}\u{1}".as_bytes()] {
            assert_eq!(text(good).unwrap().as_bytes(), good);
        }
        // A surrogate, an overlong slash and NUL, a character above the last, a half one, NUL.
        let wrong: [&[u8]; 6] = [b"\xED\xA0\x80", b"\xC0\xAF", b"\xC0\x80", b"\xF4\x90\x80\x80", b"\xC3", b"a\0b"];
        for bad in wrong {
            assert!(text(bad).is_err(), "{bad:02x?}");
        }
    }

    #[test]
    fn large_payloads_share_their_memory_and_small_ones_do_not() {
        for (size, shared) in [(SHARE_FROM, true), (SHARE_FROM - 1, false)] {
            let memory = Bytes::from(vec![7; size + 1]);
            let payload = Cursor::sharing(&memory, 1).payload();
            assert_eq!(payload.len(), size);
            assert_eq!(payload.as_ptr() == memory[1..].as_ptr(), shared);
        }
    }
}
