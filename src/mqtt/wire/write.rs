//! Where the bytes of a packet go, and the data types of MQTT as they are written (MQTT 5.0, 1.5). Pure.
//!
//! Each packet is written twice by the same code: into a [`Count`], for the lengths that stand before it, and then into
//! the buffer. So there is no second description of its size, and no memory but the buffer.

/// Takes bytes.
pub(super) trait Put {
    fn put(&mut self, bytes: &[u8]);

    /// Takes note that a field does not fit its length of two bytes.
    fn overflow(&mut self) {}

    fn u8(&mut self, n: u8) {
        self.put(&[n]);
    }

    fn u16(&mut self, n: u16) {
        self.put(&n.to_be_bytes());
    }

    fn u32(&mut self, n: u32) {
        self.put(&n.to_be_bytes());
    }

    /// A variable byte integer in as few bytes as it needs [MQTT-1.5.5-1].
    fn var(&mut self, mut n: usize) {
        while n >= 0x80 {
            self.u8((n & 0x7F) as u8 | 0x80);
            n >>= 7;
        }
        self.u8(n as u8);
    }

    /// Binary data or a text, with its length before it.
    fn binary(&mut self, bytes: &[u8]) {
        match u16::try_from(bytes.len()) {
            Ok(length) => {
                self.u16(length);
                self.put(bytes);
            }
            Err(_) => self.overflow(),
        }
    }

    fn text(&mut self, text: &str) {
        self.binary(text.as_bytes());
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn u8(&mut self, n: u8) {
        self.push(n);
    }
}

/// Counts bytes instead of keeping them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) bytes: usize,
    /// A field was longer than MQTT can say.
    pub(super) overflow: bool,
}

impl Put for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
    }

    fn overflow(&mut self) {
        self.overflow = true;
    }
}
