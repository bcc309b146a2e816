//! What waits to be written on a connection. Pure.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::read::SHARE_FROM;

/// An empty outbox keeps no more memory than this: most connections are idle most of the time.
const KEEP: usize = 1024;

/// Bytes to be written, in order. Large payloads stand in it as what they are, shared with everybody who gets them:
/// a payload of many megabytes to many subscribers is in memory once.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// How much of `bytes` has been written.
    written: usize,
    /// Payloads, and the place in `bytes` that each stands at.
    large: VecDeque<(usize, Bytes)>,
    /// The bytes of `large`.
    large_bytes: usize,
    /// How much stood in `bytes` when it was last written to its end: about as much will again.
    last: usize,
}

impl Outbox {
    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written + self.large_bytes
    }

    /// The memory that is kept.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity() + self.large.capacity() * size_of::<(usize, Bytes)>()
    }

    /// Where the next packet is written to.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(self.last);
        } else if self.written > self.bytes.len() / 2 {
            // The peer is slow: what it has taken makes room for what comes.
            self.bytes.drain(..self.written);
            self.large.iter_mut().for_each(|(place, _)| *place -= self.written);
            self.written = 0;
        }
        &mut self.bytes
    }

    /// Puts a payload behind the bytes.
    pub(super) fn put(&mut self, payload: &Bytes) {
        if payload.len() < SHARE_FROM {
            self.bytes.extend_from_slice(payload);
        } else {
            self.large.push_back((self.bytes.len(), payload.clone()));
            self.large_bytes += payload.len();
        }
    }

    /// The next bytes; empty when there are none.
    pub(super) fn front(&self) -> &[u8] {
        match self.large.front() {
            Some((place, payload)) if *place == self.written => payload,
            Some((place, _)) => &self.bytes[self.written..*place],
            None => &self.bytes[self.written..],
        }
    }

    /// So many bytes of the front are written.
    pub(super) fn advance(&mut self, n: usize) {
        match self.large.front_mut() {
            Some((place, payload)) if *place == self.written => {
                payload.advance(n);
                self.large_bytes -= n;
                if payload.is_empty() {
                    self.large.pop_front();
                }
            }
            _ => self.written += n,
        }
        if self.len() == 0 {
            self.last = self.bytes.len();
            self.written = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEEP {
                self.bytes = Vec::new();
            }
            if self.large.capacity() > 0 {
                self.large = VecDeque::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut outbox, mut expected, mut left) = (Outbox::default(), Vec::new(), Vec::new());
        for n in 0..2000 {
            let head = vec![n as u8; random.usize(1..40)];
            outbox.bytes().extend_from_slice(&head);
            let large = random.u8(..10) == 0;
            let payload = Bytes::from(vec![!(n as u8); if large { SHARE_FROM + 1 } else { random.usize(..50) }]);
            outbox.put(&payload);
            expected.extend([&head[..], &payload].concat());
            for _ in 0..random.usize(..4) {
                let n = random.usize(..=outbox.front().len());
                left.extend_from_slice(&outbox.front()[..n]);
                outbox.advance(n);
            }
            assert_eq!(outbox.len(), expected.len() - left.len());
        }
        while outbox.len() > 0 {
            left.extend_from_slice(outbox.front());
            outbox.advance(outbox.front().len());
        }
        assert!(left == expected, "the same bytes");
        assert!(outbox.held() <= KEEP, "and nothing is kept");
    }
}
