//! The entries of a run as bytes: a few for many that are alike. Pure.
//!
//! A list is stretches of entries with consecutive ids and places that are delivered alike. Of each:
//!
//! ```text
//! id of the first, less that of the entry before     varint
//! number of entries                                  varint
//! flags: QoS (2 bits), RETAIN, ALONE, PLACE, IDS, SIZES
//! PLACE: that of the first, less what is expected    varint, zigzag
//! IDS:   how many subscription ids, and they         varints
//! size of each message, or once with SIZES           varints
//! ```

use crate::message::QoS;
use crate::store::EntryId;
use crate::store::rows::LAST_ID;

/// An entry of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) id: EntryId,
    /// Its place: [`crate::store::Delivery::seq`].
    pub(super) seq: u64,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) subscription_ids: Vec<u32>,
    /// What its message counts.
    pub(super) size: u64,
    /// No other queue has ever held its message.
    pub(super) alone: bool,
}

const RETAIN: u8 = 1 << 2;
const ALONE: u8 = 1 << 3;
const PLACE: u8 = 1 << 4;
const IDS: u8 = 1 << 5;
const SIZES: u8 = 1 << 6;

/// The most entries that a list may have; this program makes none that is longer.
const MOST: usize = 1 << 16;

/// Subscription ids in a stretch, those of all its entries together.
const MOST_IDS: u64 = 1 << 22;

impl Item {
    /// Whether `next` may stand in one stretch with it.
    fn is_followed_by(&self, next: &Self) -> bool {
        self.id.0.checked_add(1) == Some(next.id.0)
            && self.seq.checked_add(1) == Some(next.seq)
            && (self.qos, self.retain, self.alone) == (next.qos, next.retain, next.alone)
            // Most have none, and this is asked of every entry.
            && (self.subscription_ids.is_empty() && next.subscription_ids.is_empty()
                || self.subscription_ids == next.subscription_ids)
    }
}

/// `items`, their ids ascending, as bytes.
pub(super) fn encode(items: &[Item]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut last, mut expected) = (0, 0);
    for stretch in items.chunk_by(Item::is_followed_by) {
        let Item { id, seq, qos, retain, ref subscription_ids, size, alone } = stretch[0];
        let same = stretch.iter().all(|item| item.size == size);
        let flag = |is: bool, flag| if is { flag } else { 0 };
        let flags = u8::from(qos)
            | flag(retain, RETAIN)
            | flag(alone, ALONE)
            | flag(seq != expected, PLACE)
            | flag(!subscription_ids.is_empty(), IDS)
            | flag(same, SIZES);
        put(&mut bytes, id.0.wrapping_sub(last));
        put(&mut bytes, stretch.len() as u64);
        bytes.push(flags);
        if seq != expected {
            let by = seq.wrapping_sub(expected).cast_signed();
            put(&mut bytes, ((by << 1) ^ (by >> 63)).cast_unsigned());
        }
        if !subscription_ids.is_empty() {
            put(&mut bytes, subscription_ids.len() as u64);
            subscription_ids.iter().for_each(|id| put(&mut bytes, u64::from(*id)));
        }
        let sizes = if same { &stretch[..1] } else { stretch };
        sizes.iter().for_each(|item| put(&mut bytes, item.size));
        let length = stretch.len() as u64;
        (last, expected) = (id.0 + length - 1, seq.wrapping_add(length));
    }
    bytes
}

/// The items of a list; none when no fieldpost wrote it.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<Item>> {
    let bytes = &mut bytes;
    let mut items: Vec<Item> = Vec::new();
    let (mut last, mut expected) = (0_u64, 0_u64);
    while !bytes.is_empty() {
        let first = last.checked_add(take(bytes)?)?;
        let length = take(bytes)?;
        if length == 0 || (first <= last && !items.is_empty()) || length > (MOST - items.len()) as u64 {
            return None;
        }
        let flags = byte(bytes)?;
        let qos = QoS::try_from(flags & 3).ok()?;
        let mut seq = expected;
        if flags & PLACE != 0 {
            let by = take(bytes)?;
            seq = seq.wrapping_add((by >> 1) ^ (by & 1).wrapping_neg());
        }
        let mut subscription_ids = Vec::new();
        if flags & IDS != 0 {
            let ids = take(bytes)?;
            // Each entry has its own copy of them.
            if ids.saturating_mul(length) > MOST_IDS {
                return None;
            }
            for _ in 0..ids {
                subscription_ids.push(u32::try_from(take(bytes)?).ok()?);
            }
        }
        let mut size = if flags & SIZES != 0 { take(bytes)? } else { 0 };
        (last, expected) = (first.checked_add(length - 1)?, seq.checked_add(length)?);
        if last.max(expected) > LAST_ID.cast_unsigned() {
            return None;
        }
        for n in 0..length {
            if flags & SIZES == 0 {
                size = take(bytes)?;
            }
            items.push(Item {
                id: EntryId(first + n),
                seq: seq + n,
                qos,
                retain: flags & RETAIN != 0,
                subscription_ids: subscription_ids.clone(),
                size: u64::from(u32::try_from(size).ok()?),
                alone: flags & ALONE != 0,
            });
        }
    }
    (!items.is_empty()).then_some(items)
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn put(bytes: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        bytes.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let next = byte(bytes)?;
        n |= u64::from(next & 0x7f) << shift;
        if next < 0x80 {
            return Some(n);
        }
    }
    None
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: u64) -> Item {
        let subscription_ids = Vec::new();
        Item {
            id: EntryId(id),
            seq: id,
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids,
            size: 150,
            alone: true,
        }
    }

    #[test]
    fn what_is_alike_costs_next_to_nothing() {
        let items: Vec<_> = (1_000_000..1_001_000).map(item).collect();
        let bytes = encode(&items);
        assert!(bytes.len() < 16, "{}", bytes.len());
        assert_eq!(decode(&bytes), Some(items));
    }

    #[test]
    fn a_short_list_does_not_become_a_long_one() {
        let mut bytes = Vec::new();
        [1, 1 << 16].into_iter().for_each(|n| put(&mut bytes, n));
        bytes.push(IDS | SIZES);
        [1000].into_iter().chain([1; 1000]).chain([100]).for_each(|n| put(&mut bytes, n));
        assert_eq!(decode(&bytes), None, "each of 65 536 entries would have a thousand");
        bytes.clear();
        [1, u64::MAX].into_iter().for_each(|n| put(&mut bytes, n));
        assert_eq!(decode(&bytes), None);
    }

    #[test]
    fn every_list_comes_back_as_it_was() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut id, mut seq, mut items) = (random.u64(..1 << 40), random.u64(..1 << 40), Vec::new());
            for _ in 0..random.usize(1..60) {
                let odd = random.u8(..4) == 0;
                id += if odd { random.u64(1..1000) } else { 1 };
                seq = if random.u8(..8) == 0 { random.u64(..1 << 41) } else { seq + 1 };
                items.push(Item {
                    seq,
                    qos: if odd { QoS::ExactlyOnce } else { QoS::AtLeastOnce },
                    retain: random.u8(..9) == 0,
                    subscription_ids: if random.u8(..9) == 0 { vec![7, u32::MAX] } else { Vec::new() },
                    size: 100 + random.u64(..2) * 100_000,
                    alone: random.bool(),
                    ..item(id)
                });
            }
            assert_eq!(decode(&encode(&items)), Some(items), "seed {seed}");
        }
    }

    #[test]
    fn bytes_that_are_no_list_are_refused_and_cost_no_memory() {
        assert_eq!(decode(&[]), None);
        // A stretch of 2^63 entries.
        let mut bomb = vec![1];
        put(&mut bomb, 1 << 63);
        bomb.extend([1 | SIZES, 1]);
        assert_eq!(decode(&bomb), None);
        let sound = encode(&(5..9).map(item).collect::<Vec<_>>());
        for cut in 0..sound.len() {
            assert_eq!(decode(&sound[..cut]), None, "{cut}");
        }
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let bytes: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
            if let Some(items) = decode(&bytes) {
                assert!(items.is_sorted_by(|a, b| a.id < b.id) && items.len() <= MOST);
            }
        }
    }
}
