//! When to ask whom. Pure: it is told the time and what came of each request.
//!
//! Each block has a grid of moments, spread so that blocks of one period do not bunch. Who is due longest goes first;
//! a missed moment is skipped. A device that does not answer is asked no more, but for a probe now and then in time
//! that nobody else needs.

use std::time::Duration;

use tokio::time::Instant;

use super::plan::{Block, plan};
use super::{Bus, Device, Source};
use crate::backoff::Backoff;

/// The blocks of all devices of a bus, and when each is due. Devices go by their index in [`Bus`].
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    members: Vec<Member>,
    /// When a dead device was last probed.
    probed: Instant,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Read this block of this device.
    Ask { device: usize, block: usize },
    /// Nothing until then.
    Rest(Instant),
}

#[derive(Debug)]
struct Member {
    slots: Vec<Slot>,
    timeout: Duration,
    /// Failures since the last answer.
    misses: u32,
    /// When to probe it next, once it is dead.
    probe: Instant,
    backoff: Backoff,
    /// Leave it alone until then: it may still speak late.
    quiet: Instant,
}

#[derive(Debug)]
struct Slot {
    block: Block,
    phase: Duration,
    due: Instant,
    /// Failures since this block was last answered: some devices are silent on what they do not have.
    misses: u32,
}

/// So many failures in a row make a device dead. One lost frame does not.
const DEAD: u32 = 2;

/// The first probe of a dead device comes after about this long, and a failed block is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The longest time between probes.
const RARELY: Duration = Duration::from_secs(60);

/// On a bus with no time to spare a dead device is probed all the same, but one in this time.
const STARVED: Duration = Duration::from_secs(10);

impl Schedule {
    /// Everything is due at once at first, and then by its own grid.
    pub(crate) fn new(bus: &Bus, now: Instant) -> Self {
        let mut members: Vec<Member> = bus.devices.iter().map(|device| Member::new(device, now)).collect();
        let mut slots: Vec<&mut Slot> = members.iter_mut().flat_map(|m| &mut m.slots).collect();
        // By period, so that each period's blocks are spread evenly among themselves.
        slots.sort_by_key(|slot| slot.block.every);
        for same in slots.chunk_by_mut(|a, b| a.block.every == b.block.every) {
            let count = same.len() as u32;
            for (i, slot) in same.iter_mut().enumerate() {
                slot.phase = slot.block.every / count * i as u32;
            }
        }
        Self { start: now, members, probed: now }
    }

    /// What a turn reads.
    pub(crate) fn block(&self, device: usize, block: usize) -> &Block {
        &self.members[device].slots[block].block
    }

    /// Who is to be asked at `now`.
    pub(crate) fn select(&self, now: Instant) -> Turn {
        let mut next = now + Duration::from_secs(3600);
        let mut due: Option<(Instant, Turn)> = None;
        let mut probe: Option<(Instant, usize, Turn)> = None;
        for (device, member) in self.members.iter().enumerate() {
            // The first of those equally due: `min_by_key` keeps it.
            let Some((block, slot)) = member.slots.iter().enumerate().min_by_key(|(_, slot)| slot.due) else {
                continue;
            };
            let turn = Turn::Ask { device, block };
            let since = if member.is_dead() { member.probe } else { slot.due };
            let at = since.max(member.quiet);
            if at > now {
                next = next.min(at);
            } else if member.is_dead() {
                if probe.is_none_or(|(first, ..)| at < first) {
                    probe = Some((at, device, turn));
                }
            } else if due.is_none_or(|(first, _)| since < first) {
                due = Some((since, turn));
            }
        }
        if let Some((at, device, turn)) = probe {
            let starved = at.max(self.probed) + STARVED;
            let fits = due.is_none() && now + self.members[device].timeout <= self.next_well(now);
            if fits || starved <= now {
                return turn;
            }
            next = next.min(starved);
        }
        due.map_or(Turn::Rest(next), |(_, turn)| turn)
    }

    /// The device answered, be it with a refusal.
    pub(crate) fn answered(&mut self, device: usize, block: usize, now: Instant) {
        let start = self.start;
        let member = &mut self.members[device];
        if member.is_dead() {
            member.slots.iter_mut().for_each(|slot| slot.due = now);
        }
        member.misses = 0;
        member.backoff.reset();
        member.quiet = now;
        let slot = &mut member.slots[block];
        slot.misses = 0;
        slot.due = slot.after(start, now);
    }

    /// The device did not answer, or with nothing of use; it is left alone until `quiet`. Says whether it is dead.
    pub(crate) fn missed(&mut self, device: usize, block: usize, now: Instant, quiet: Option<Instant>) -> bool {
        let start = self.start;
        let member = &mut self.members[device];
        if member.is_dead() {
            self.probed = now;
        }
        member.misses += 1;
        member.quiet = quiet.unwrap_or(now);
        for (i, slot) in member.slots.iter_mut().enumerate() {
            if i == block {
                slot.misses += 1;
                slot.due = if slot.misses < DEAD {
                    slot.after(start, now).min(now + RETRY)
                } else {
                    slot.after(start, now).max(now + (RETRY * 2u32.pow(slot.misses.min(6))).min(RARELY))
                };
            } else if slot.due <= now {
                slot.due = slot.after(start, now);
            }
        }
        if member.is_dead() {
            member.probe = now + member.backoff.delay();
        }
        member.is_dead()
    }

    /// Whether the device is dead: only probed.
    pub(crate) fn is_dead(&self, device: usize) -> bool {
        self.members[device].is_dead()
    }

    /// Until when the device is to be left alone; in the past when it is not.
    pub(crate) fn quiet(&self, device: usize) -> Instant {
        self.members[device].quiet
    }

    /// The device failed to confirm a write and may still speak late.
    pub(crate) fn hush(&mut self, device: usize, until: Instant) {
        let quiet = &mut self.members[device].quiet;
        *quiet = until.max(*quiet);
    }

    /// Reads the block with this point as soon as possible: the point was written.
    pub(crate) fn soon(&mut self, device: usize, point: usize, now: Instant) {
        let slots = &mut self.members[device].slots;
        slots.iter_mut().filter(|slot| slot.block.points.contains(&point)).for_each(|slot| slot.due = now);
    }

    /// Reads each point of the block on its own from now on: the device refuses them together.
    pub(crate) fn split(&mut self, of: &Device, device: usize, block: usize, now: Instant) {
        let slots = &mut self.members[device].slots;
        let Slot { block: Block { table, every, points, .. }, phase, .. } = slots.remove(block);
        slots.extend(points.into_iter().map(|index| {
            let point = &of.points[index];
            let Source::Modbus { address, .. } = point.source else { unreachable!("a block is of Modbus points") };
            let count = if table.is_bits() { 1 } else { point.decode.words() };
            let block = Block { table, address, count, every, points: vec![index] };
            Slot { block, phase, due: now, misses: 0 }
        }));
    }

    /// The bus is back after it was down: everyone gets a new chance.
    pub(crate) fn restart(&mut self, now: Instant) {
        for member in &mut self.members {
            member.misses = 0;
            member.backoff.reset();
            for slot in &mut member.slots {
                slot.misses = 0;
                slot.due = slot.due.min(now);
            }
        }
    }

    /// When a device that answers is due next.
    fn next_well(&self, now: Instant) -> Instant {
        let well = self.members.iter().filter(|member| !member.is_dead());
        let due = well.flat_map(|member| member.slots.iter().map(|slot| slot.due.max(member.quiet)));
        due.min().unwrap_or(now + RARELY)
    }
}

impl Member {
    fn new(device: &Device, now: Instant) -> Self {
        let slot = |block| Slot { block, phase: Duration::ZERO, due: now, misses: 0 };
        Self {
            slots: plan(device).into_iter().map(slot).collect(),
            timeout: device.timeout,
            misses: 0,
            probe: now,
            backoff: Backoff::new(RETRY, RARELY),
            quiet: now,
        }
    }

    fn is_dead(&self) -> bool {
        self.misses >= DEAD
    }
}

impl Slot {
    /// The first moment of its grid after `now`.
    fn after(&self, start: Instant, now: Instant) -> Instant {
        let every = self.block.every.max(Duration::from_millis(1));
        let first = start + self.phase;
        if now < first {
            return first;
        }
        let turns = (now - first).as_nanos() / every.as_nanos() + 1;
        first + every * u32::try_from(turns).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
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
    async fn a_split_block_is_read_point_by_point() {
        let device = fixture::device("d", 1, &[0, 1]);
        let start = Instant::now();
        let mut schedule = Schedule::new(&fixture::bus(vec![device.clone()]), start);
        assert_eq!(schedule.block(0, 0).points, [0, 1]);
        schedule.split(&device, 0, 0, start);
        let blocks: Vec<_> = (0..2).map(|b| (schedule.block(0, b).address, schedule.block(0, b).count)).collect();
        assert_eq!(blocks, [(0, 1), (1, 1)]);
    }
}
