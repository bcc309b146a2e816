//! Maps by the numbers that the broker itself counts up: links, sessions, queues. Pure.
//!
//! Every packet looks its session up several times. No client chooses these numbers, so that the hash has to resist nobody.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by a number of ours.
pub type ByKey<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;

/// Spreads numbers that follow each other over all bits: a multiplication by the golden ratio, both halves of which count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        let product = u128::from(self.0 ^ n) * 0x9E37_79B9_7F4A_7C15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// A hash table takes the place from the lowest bits, and tells neighbours apart by the highest seven.
    #[test]
    fn numbers_that_follow_each_other_spread_over_the_low_and_the_high_bits() {
        for step in [1_u64, 2, 16, 1024] {
            let hashes = (0..4096).map(|n| {
                let mut hasher = Spread::default();
                hasher.write_u64(n * step);
                hasher.finish()
            });
            let (low, high): (HashSet<_>, HashSet<_>) = hashes.map(|h| (h & 0xFFF, h >> 57)).unzip();
            // As many as chance would leave, at least: 1 - 1/e of the places.
            assert!(low.len() > 2400, "{} places of 4096, step {step}", low.len());
            assert_eq!(high.len(), 128, "step {step}");
        }
    }
}
