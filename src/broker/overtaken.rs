//! Which deliveries of a queue have overtaken its backlog. Pure.
//!
//! While the disk has not forgotten them, reading the backlog from it brings them again: they are known by their places
//! here, and passed over. Places follow each other, so that ranges of them are few: one for each time that the live
//! messages were held up.

/// Ranges at most: behind so many nothing overtakes until the backlog has passed some.
const MOST: usize = 1024;

/// The places, in ranges.
#[derive(Debug, Default)]
pub struct Overtaken(Vec<(u64, u64)>);

impl Overtaken {
    /// Notes that the delivery at this place has overtaken others.
    pub fn add(&mut self, seq: u64) {
        let at = self.0.partition_point(|(first, _)| *first <= seq);
        if let Some((_, last)) = at.checked_sub(1).map(|before| &mut self.0[before]) {
            if *last + 1 == seq {
                *last = seq;
                return;
            }
            if *last >= seq {
                return;
            }
        }
        self.0.insert(at, (seq, seq));
    }

    /// Whether the delivery at this place has.
    pub fn contains(&self, seq: u64) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < seq);
        self.0.get(at).is_some_and(|(first, _)| *first <= seq)
    }

    /// Forgets those that the backlog has passed, which is at this place.
    pub fn passed(&mut self, seq: u64) {
        let gone = self.0.partition_point(|(_, last)| *last < seq);
        self.0.drain(..gone);
    }

    /// Whether there is no room for another range.
    pub fn is_full(&self) -> bool {
        self.0.len() >= MOST
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ranges_are_a_set() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut ranges, mut set) = (Overtaken::default(), BTreeSet::new());
            for _ in 0..200 {
                let seq = random.u64(1..40);
                match random.u8(..8) {
                    0 => {
                        let at = seq / 4;
                        ranges.passed(at);
                        // Whole ranges only: a part of one may stay.
                        set.retain(|seq| *seq >= at || ranges.contains(*seq));
                    }
                    _ => {
                        ranges.add(seq);
                        set.insert(seq);
                    }
                }
                assert!((1..40).all(|seq| ranges.contains(seq) == set.contains(&seq)), "seed {seed}: {ranges:?}");
                assert!(ranges.0.is_sorted() && ranges.0.iter().all(|(first, last)| first <= last), "seed {seed}");
            }
        }
    }

    #[test]
    fn those_that_follow_each_other_are_one_range() {
        let mut ranges = Overtaken::default();
        (1..=100_000).for_each(|seq| ranges.add(seq));
        assert_eq!(ranges.0, [(1, 100_000)]);
        (1..=MOST as u64).for_each(|n| ranges.add(100_000 + 2 * n));
        assert!(ranges.is_full());
        ranges.passed(100_005);
        assert!(!ranges.is_full());
    }
}
