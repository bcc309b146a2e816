//! From points to the fewest requests. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bus::link::silence::silence;
use crate::bus::{Device, Source, Table};

/// Registers, or bits, that are read in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub table: Table,
    /// The first, 0-based as on the wire.
    pub address: u16,
    /// How many, from `address`.
    pub count: u16,
    /// How often it is read.
    pub every: Duration,
    /// The points that it brings, as indices into [`Device::points`], by address.
    pub points: Vec<usize>,
}

/// The fewest requests that read all Modbus points of `device`, each as often as it wants: by period, table and address.
///
/// A value is never split between two requests: one that is longer than `max_registers` gets a request of its own,
/// which the device will refuse.
pub fn plan(device: &Device) -> Vec<Block> {
    let mut groups: BTreeMap<(Duration, Table), Vec<Span>> = BTreeMap::new();
    for (index, point) in device.points.iter().enumerate() {
        if let Source::Modbus { table, address } = point.source {
            let count = if table.is_bits() { 1 } else { point.decode.words() };
            groups.entry((point.every, table)).or_default().push(Span { address, count, index });
        }
    }
    let mut blocks = Vec::new();
    for ((every, table), mut spans) in groups {
        spans.sort_unstable_by_key(|span| (span.address, span.index));
        let most = if table.is_bits() { device.max_bits } else { device.max_registers };
        // From the lowest address, each block as long as it may be: no other division needs fewer.
        let mut open: Option<Block> = None;
        for span in spans {
            match open.as_mut().and_then(|block| Some((block.joined(&span, device.max_gap, most)?, block))) {
                Some((count, block)) => {
                    block.count = count;
                    block.points.push(span.index);
                }
                None => {
                    let block =
                        Block { table, address: span.address, count: span.count, every, points: vec![span.index] };
                    blocks.extend(open.replace(block));
                }
            }
        }
        blocks.extend(open);
    }
    blocks
}

/// How long reading `block` keeps a serial line busy, the device's own time to think aside: request, answer, and the
/// silence before the request.
///
/// `char_time` is that of one character with its start, parity and stop bits.
pub fn wire_time(block: &Block, char_time: Duration) -> Duration {
    let data = if block.table.is_bits() { u32::from(block.count).div_ceil(8) } else { 2 * u32::from(block.count) };
    // Request: unit, function, address, count, CRC. Answer: unit, function, length, data, CRC.
    char_time * (8 + 5 + data) + silence(char_time)
}

/// The part of a serial line's time that reading these blocks takes, 1 being all of it; above, points come late.
pub fn load<'a>(blocks: impl IntoIterator<Item = &'a Block>, char_time: Duration) -> f64 {
    let part = |block: &Block| wire_time(block, char_time).as_secs_f64() / block.every.as_secs_f64();
    blocks.into_iter().map(part).sum()
}

/// Where one point stands.
struct Span {
    address: u16,
    count: u16,
    index: usize,
}

impl Block {
    /// Whether it brings no point that `whole` does not.
    pub(super) fn is_part_of(&self, whole: &Block) -> bool {
        self.points.iter().all(|point| whole.points.contains(point))
    }

    /// How many registers this block has with `span` in it, if it may be; `span` begins no earlier.
    fn joined(&self, span: &Span, max_gap: u16, most: u16) -> Option<u16> {
        let end = u32::from(self.address) + u32::from(self.count);
        let gap = u32::from(span.address).saturating_sub(end);
        let count = end.max(u32::from(span.address) + u32::from(span.count)) - u32::from(self.address);
        // A point within what is read anyway costs nothing, however long that is.
        let fits = gap <= u32::from(max_gap) && (count <= u32::from(most) || count == u32::from(self.count));
        u16::try_from(count).ok().filter(|_| fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Point;
    use crate::bus::decode::Kind;

    const SECOND: Duration = Duration::from_secs(1);

    fn device(points: Vec<Point>) -> Device {
        Device {
            name: "meter".into(),
            unit: 1,
            timeout: SECOND,
            max_registers: 125,
            max_bits: 2000,
            max_gap: 4,
            points,
        }
    }

    fn point(table: Table, address: u16, kind: Kind, every: u64) -> Point {
        Point {
            name: format!("{table:?}{address}").into(),
            source: Source::Modbus { table, address },
            decode: kind.into(),
            every: SECOND * every as u32,
            stale_after: SECOND,
            write: None,
        }
    }

    fn inputs(of: &[(u16, Kind)]) -> Vec<Point> {
        of.iter().map(|(address, kind)| point(Table::Input, *address, *kind, 1)).collect()
    }

    /// Address, count and points of each block.
    fn planned(device: &Device) -> Vec<(u16, u16, Vec<usize>)> {
        plan(device).into_iter().map(|block| (block.address, block.count, block.points)).collect()
    }

    #[test]
    fn joins_neighbours_and_small_gaps() {
        let device =
            device(inputs(&[(10, Kind::F32), (0, Kind::U16), (1, Kind::F32), (7, Kind::U16), (17, Kind::U16)]));
        assert_eq!(planned(&device), [(0, 12, vec![1, 2, 3, 0]), (17, 1, vec![4])]);
        let device = Device { max_gap: 0, ..device };
        assert_eq!(planned(&device).len(), 4);
    }

    #[test]
    fn overlapping_points_share_their_registers() {
        let device = device(inputs(&[(0, Kind::String(20)), (2, Kind::U16), (2, Kind::F32), (9, Kind::U32)]));
        assert_eq!(planned(&device), [(0, 11, vec![0, 1, 2, 3])]);
    }

    #[test]
    fn keeps_to_the_limits_without_splitting_a_value() {
        let all: Vec<_> = (0..10).map(|i| (2 * i, Kind::F32)).collect();
        let seven = Device { max_registers: 7, ..device(inputs(&all)) };
        assert_eq!(planned(&seven).iter().map(|block| block.1).collect::<Vec<_>>(), [6, 6, 6, 2]);
        let long = Device { max_registers: 2, ..device(inputs(&[(0, Kind::F64), (1, Kind::U16), (4, Kind::U16)])) };
        assert_eq!(planned(&long), [(0, 4, vec![0, 1]), (4, 1, vec![2])]);
        let bits = (0..10).map(|i| point(Table::Coil, i, Kind::U32, 1)).collect();
        let bits = Device { max_bits: 8, ..device(bits) };
        assert_eq!(planned(&bits).iter().map(|block| block.1).collect::<Vec<_>>(), [8, 2]);
    }

    #[test]
    fn keeps_tables_and_periods_apart_and_leaves_sentences_out() {
        let mut points = vec![
            point(Table::Holding, 0, Kind::U16, 1),
            point(Table::Input, 1, Kind::U16, 1),
            point(Table::Input, 0, Kind::U16, 10),
            point(Table::Input, 0, Kind::U16, 1),
        ];
        points.push(Point {
            source: Source::Nmea { sentence: "GGA".into(), field: 2 },
            ..point(Table::Input, 0, Kind::Ddmm, 1)
        });
        let device = device(points);
        assert_eq!(planned(&device), [(0, 2, vec![3, 1]), (0, 1, vec![0]), (0, 1, vec![2])]);
        let blocks = plan(&device);
        assert_eq!(blocks[1].table, Table::Holding);
        assert_eq!(blocks[2].every, 10 * SECOND);
    }

    #[test]
    fn the_last_address_is_no_trouble() {
        let device = device(inputs(&[(65535, Kind::U16), (65534, Kind::U16), (65535, Kind::F64)]));
        assert_eq!(planned(&device), [(65534, 5, vec![1, 0, 2])]);
    }

    /// Every point is read once, whole, in a block of its table and period, within the limits.
    #[test]
    fn plans_of_random_devices_hold() {
        let mut random = fastrand::Rng::with_seed(7);
        let kinds = [Kind::U16, Kind::F32, Kind::F64, Kind::String(9), Kind::Bool];
        let tables = [Table::Coil, Table::Discrete, Table::Input, Table::Holding];
        for _ in 0..500 {
            let mut one = |_| {
                let (table, kind) = (tables[random.usize(..4)], kinds[random.usize(..5)]);
                point(table, random.u16(..200), kind, random.u64(1..3))
            };
            let points = (0..40).map(&mut one).collect();
            let device = Device { max_registers: 5 + random.u16(..60), max_bits: 16, ..device(points) };
            let blocks = plan(&device);
            let mut seen = vec![0; device.points.len()];
            for block in &blocks {
                let (limit, bits) = if block.table.is_bits() { (16, true) } else { (device.max_registers, false) };
                assert!(block.count <= limit);
                for index in &block.points {
                    seen[*index] += 1;
                    let point = &device.points[*index];
                    let Source::Modbus { table, address } = point.source else { panic!("only registers here") };
                    let words = if bits { 1 } else { point.decode.words() };
                    assert_eq!((table, point.every), (block.table, block.every));
                    assert!(address >= block.address && address + words <= block.address + block.count);
                }
            }
            assert!(seen.iter().all(|times| *times == 1));
            assert!(blocks.is_sorted_by_key(|block| (block.every, block.table, block.address)));
        }
    }

    #[test]
    fn the_time_on_the_wire_is_that_of_its_characters() {
        // 9600 8N1: 10 bits a character.
        let char_time = Duration::from_micros(1_041);
        let block = Block { table: Table::Input, address: 0, count: 2, every: SECOND, points: vec![0] };
        assert_eq!(wire_time(&block, char_time), char_time * (8 + 9) + char_time * 7 / 2);
        let coils = Block { table: Table::Coil, count: 9, ..block.clone() };
        assert_eq!(wire_time(&coils, char_time), char_time * (8 + 7) + char_time * 7 / 2);
        let both = load([&block, &coils], char_time);
        assert!((both - 0.0406).abs() < 0.001, "{both}");
    }
}
