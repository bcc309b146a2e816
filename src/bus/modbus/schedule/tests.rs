//! The schedule against devices that answer or do not.

use super::*;
use crate::bus::fixture;

const SECOND: Duration = Duration::from_secs(1);

/// Runs the schedule for `length`, each answer taking 10 ms and each miss the device's timeout; says who was asked
/// when.
fn run(
    schedule: &mut Schedule,
    start: Instant,
    length: Duration,
    answers: impl Fn(usize, Duration) -> bool,
) -> Vec<(usize, Duration)> {
    let mut now = start;
    let mut asked = Vec::new();
    while now < start + length {
        match schedule.select(now) {
            Turn::Rest(until) => {
                assert!(until > now, "a rest must end later");
                now = until;
            }
            Turn::Ask { device, block } => {
                asked.push((device, now - start));
                if answers(device, now - start) {
                    now += Duration::from_millis(10);
                    schedule.answered(device, block, now);
                } else {
                    now += schedule.members[device].timeout;
                    schedule.missed(device, block, now, Some(now + schedule.members[device].timeout));
                }
            }
        }
    }
    asked
}

fn of_devices(count: usize) -> (Schedule, Instant) {
    let devices = (0..count).map(|i| fixture::device(&format!("d{i}"), i as u8 + 1, &[0])).collect();
    let now = Instant::now();
    (Schedule::new(&fixture::bus(devices), now), now)
}

fn times(asked: &[(usize, Duration)], device: usize) -> Vec<Duration> {
    asked.iter().filter(|(d, _)| *d == device).map(|(_, at)| *at).collect()
}

#[tokio::test(start_paused = true)]
async fn everyone_is_asked_at_once_and_then_evenly_spread() {
    let (mut schedule, start) = of_devices(4);
    let asked = run(&mut schedule, start, 10 * SECOND, |_, _| true);
    assert!(asked[..4].iter().all(|(_, at)| *at < Duration::from_millis(50)));
    for device in 0..4 {
        let times = times(&asked, device);
        assert!((10..=11).contains(&times.len()), "{times:?}");
        let phase = SECOND / 4 * device as u32;
        assert!(times[2..].windows(2).all(|w| w[1] - w[0] == SECOND), "{times:?}");
        assert_eq!(times[2].as_millis() % 1000, phase.as_millis());
    }
}

#[tokio::test(start_paused = true)]
async fn missed_turns_are_skipped() {
    let (mut schedule, start) = of_devices(1);
    schedule.answered(0, 0, start + SECOND * 7 / 2);
    assert_eq!(schedule.select(start + SECOND * 7 / 2), Turn::Rest(start + 4 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_dead_device_costs_the_others_two_timeouts_and_then_spare_time_only() {
    let (mut schedule, start) = of_devices(3);
    let asked = run(&mut schedule, start, 120 * SECOND, |device, _| device != 1);
    let dead = times(&asked, 1);
    assert!((4..12).contains(&dead.len()), "{dead:?}");
    for device in [0, 2] {
        let times = times(&asked, device);
        assert!(times.len() >= 120);
        let late = times
            .iter()
            .filter(|at| **at > 3 * SECOND)
            .all(|at| at.as_millis() % 1000 == (SECOND / 3 * device as u32).as_millis());
        assert!(late, "{times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_full_bus_a_dead_device_is_still_probed_now_and_then() {
    let mut devices = vec![fixture::device("busy", 1, &[0]), fixture::device("dead", 2, &[0])];
    devices[0].points[0].every = Duration::from_millis(5);
    let start = Instant::now();
    let mut schedule = Schedule::new(&fixture::bus(devices), start);
    let asked = run(&mut schedule, start, 60 * SECOND, |device, at| device == 0 || at > 50 * SECOND);
    let probes = times(&asked, 1);
    let early = probes.iter().filter(|at| **at > 2 * SECOND && **at < 50 * SECOND).count();
    assert!((2..=5).contains(&early), "{probes:?}");
    assert!(!schedule.is_dead(1), "it is found again");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_came_back_is_read_in_full_at_once() {
    let device = fixture::device("d", 1, &[0, 1000, 2000]);
    let start = Instant::now();
    let mut schedule = Schedule::new(&fixture::bus(vec![device]), start);
    let asked = run(&mut schedule, start, 30 * SECOND, |_, at| at > 5 * SECOND);
    let back: Vec<_> = times(&asked, 0).into_iter().filter(|at| *at > 5 * SECOND).collect();
    assert!(back[2] - back[0] < Duration::from_millis(50), "{back:?}");
}

#[tokio::test(start_paused = true)]
async fn a_block_that_is_never_answered_does_not_make_its_device_dead() {
    let device = fixture::device("d", 1, &[0, 1000]);
    let start = Instant::now();
    let mut schedule = Schedule::new(&fixture::bus(vec![device]), start);
    let mut now = start;
    let (mut first, mut second) = (0, 0);
    while now < start + 120 * SECOND {
        match schedule.select(now) {
            Turn::Rest(until) => now = until,
            Turn::Ask { block: 0, .. } => {
                (now, first) = (now + SECOND / 2, first + 1);
                schedule.missed(0, 0, now, None);
            }
            Turn::Ask { block, .. } => {
                (now, second) = (now + SECOND / 100, second + 1);
                schedule.answered(0, block, now);
            }
        }
    }
    assert!(first < 15 && second > 100, "{first} {second}");
}

#[tokio::test(start_paused = true)]
async fn devices_of_one_unit_are_left_alone_together() {
    let devices = [("a", 1), ("b", 1), ("c", 2)].map(|(name, unit)| fixture::device(name, unit, &[0]));
    let now = Instant::now();
    let mut schedule = Schedule::new(&fixture::bus(devices.into()), now);
    let quiet = now + 5 * SECOND;
    schedule.missed(0, 0, now, Some(quiet));
    assert_eq!([0, 1, 2].map(|device| schedule.quiet(device)), [quiet, quiet, now]);
    assert_eq!(schedule.select(now), Turn::Ask { device: 2, block: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_split_block_is_read_point_by_point() {
    let device = fixture::device("d", 1, &[0, 1]);
    let start = Instant::now();
    let mut schedule = Schedule::new(&fixture::bus(vec![device.clone()]), start);
    assert_eq!(schedule.block(0, 0).points, [0, 1]);
    schedule.split(&device, 0, 0, start);
    let blocks: Vec<_> = (0..2).map(|b| (schedule.block(0, b).address, schedule.block(0, b).count)).collect();
    assert_eq!(blocks, [(0, 1), (1, 1)]);
}

/// A device with two points in a block that was refused, and how often it was asked in all when its parts answer so.
fn after_a_split(length: Duration, answers: impl Fn(u16, Duration) -> bool) -> (Schedule, Vec<(Duration, u16, u16)>) {
    let device = fixture::device("d", 1, &[0, 1]);
    let start = Instant::now();
    let mut schedule = Schedule::new(&fixture::bus(vec![device.clone()]), start);
    schedule.split(&device, 0, 0, start);
    let (mut now, mut asked) = (start, Vec::new());
    while now < start + length {
        match schedule.select(now) {
            Turn::Rest(until) => now = until,
            Turn::Ask { device, block } => {
                let Block { address, count, .. } = *schedule.block(device, block);
                asked.push((now - start, address, count));
                now += Duration::from_millis(10);
                if answers(address, now - start) {
                    schedule.answered(device, block, now);
                    schedule.rejoin(device, now);
                } else {
                    schedule.missed(device, block, now, None);
                }
            }
        }
    }
    (schedule, asked)
}

fn whole(asked: &[(Duration, u16, u16)]) -> Option<Duration> {
    asked.iter().find(|(_, _, count)| *count == 2).map(|(at, ..)| *at)
}

#[tokio::test(start_paused = true)]
async fn a_split_block_is_joined_again_when_all_parts_answer_for_long() {
    let (schedule, asked) = after_a_split(REJOIN + 5 * SECOND, |_, _| true);
    let at = whole(&asked).expect("tried as a whole");
    assert!(at >= REJOIN && at < REJOIN + 2 * SECOND, "{at:?}");
    assert_eq!((schedule.members[0].slots.len(), schedule.members[0].splits.len()), (1, 0));
    let (schedule, asked) = after_a_split(2 * REJOIN, |address, _| address == 0);
    assert_eq!((whole(&asked), schedule.members[0].slots.len()), (None, 2), "one part is silent");
}

#[tokio::test(start_paused = true)]
async fn a_split_block_is_joined_again_when_the_device_was_away() {
    let (_, asked) = after_a_split(60 * SECOND, |_, at| at < 5 * SECOND || at > 20 * SECOND);
    let at = whole(&asked).expect("tried as a whole");
    assert!(at > 20 * SECOND && at < 60 * SECOND, "{at:?}");
}
