//! When to ask whom. Pure: it is told the time and what came of each request.
//!
//! Each block has a grid of moments, spread so that blocks of one period do not bunch. Who is due longest goes first;
//! a missed moment is skipped. A device that does not answer is asked no more, but for a probe now and then in time
//! that nobody else needs.

use std::time::Duration;

use tokio::time::Instant;

use super::plan::{Block, plan};
use crate::backoff::Backoff;
use crate::bus::{Bus, Device, Source};

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
    splits: Vec<Split>,
    unit: u8,
    timeout: Duration,
    /// Failures since the last answer.
    misses: u32,
    /// When to probe it next, once it is dead.
    probe: Instant,
    backoff: Backoff,
    /// Leave it alone until then: it may still speak late.
    quiet: Instant,
}

/// A block that is read in parts.
#[derive(Debug)]
struct Split {
    block: Block,
    phase: Duration,
    /// Since when all parts are answered, or might have been.
    fine: Instant,
    /// Whether it is to be tried as a whole again.
    ripe: bool,
}

#[derive(Debug)]
struct Slot {
    block: Block,
    phase: Duration,
    due: Instant,
    /// Whether the wire was found closed when it was last to be read.
    turned_back: bool,
    /// Whether the wire broke when it was last asked for.
    broke: bool,
    /// Failures since this block was last answered: some devices are silent on what they do not have.
    misses: u32,
}

/// So many failures in a row make a device dead. One lost frame does not.
const DEAD: u32 = 2;

/// The first probe of a dead device comes after about this long, and a failed block is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The longest time between probes.
const RARELY: Duration = Duration::from_secs(60);

/// A block that was split is tried as a whole again when all its parts were answered for this long, and for two
/// periods: what split it may have been a passing fault.
const REJOIN: Duration = Duration::from_secs(600);

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
            member.splits.iter_mut().for_each(|split| split.ripe = true);
        }
        member.misses = 0;
        member.backoff.reset();
        let slot = &mut member.slots[block];
        (slot.misses, slot.turned_back, slot.broke) = (0, false, false);
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
        member.part_failed(block, now);
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
        self.hush(device, quiet);
        self.is_dead(device)
    }

    /// The same when the wire broke instead of an answer. Some servers hang up on what they do not have, so all other
    /// blocks of this period come first.
    pub(crate) fn broke(&mut self, device: usize, block: usize, now: Instant, quiet: Option<Instant>) -> bool {
        let dead = self.missed(device, block, now, quiet);
        let slot = &mut self.members[device].slots[block];
        slot.broke = true;
        slot.due = slot.due.max(now + slot.block.every.max(RETRY));
        dead
    }

    /// The wire was found closed before the block was asked for; says whether it is forgiven and asked for again as it
    /// was. Once, until it is answered.
    pub(crate) fn turned_back(&mut self, device: usize, block: usize) -> bool {
        !std::mem::replace(&mut self.members[device].slots[block].turned_back, true)
    }

    /// Leaves the device alone until `quiet`, and all that have the same unit: one answer looks like the other.
    pub(crate) fn hush(&mut self, device: usize, quiet: Option<Instant>) {
        let Some(quiet) = quiet else { return };
        let unit = self.members[device].unit;
        let same = self.members.iter_mut().filter(|member| member.unit == unit);
        same.for_each(|member| member.quiet = member.quiet.max(quiet));
    }

    /// Whether the device is dead: only probed.
    pub(crate) fn is_dead(&self, device: usize) -> bool {
        self.members[device].is_dead()
    }

    /// Until when the device is to be left alone; in the past when it is not.
    pub(crate) fn quiet(&self, device: usize) -> Instant {
        self.members[device].quiet
    }

    /// The device did not confirm a write; it is left alone until `quiet`. Says whether it is dead.
    pub(crate) fn unconfirmed(&mut self, device: usize, now: Instant, quiet: Option<Instant>) -> bool {
        let member = &mut self.members[device];
        member.misses += 1;
        if member.is_dead() {
            member.probe = now + member.backoff.delay();
        }
        self.hush(device, quiet);
        self.is_dead(device)
    }

    /// Reads the block with this point as soon as possible: the point was written.
    pub(crate) fn soon(&mut self, device: usize, point: usize, now: Instant) {
        let slots = &mut self.members[device].slots;
        slots.iter_mut().filter(|slot| slot.block.points.contains(&point)).for_each(|slot| slot.due = now);
    }

    /// Reads the block again soon: the device was busy.
    pub(crate) fn later(&mut self, device: usize, block: usize, now: Instant) {
        let slot = &mut self.members[device].slots[block];
        slot.due = slot.due.min(now + RETRY);
    }

    /// Reads each point of the block on its own from now on: the device refuses them together.
    pub(crate) fn split(&mut self, of: &Device, device: usize, block: usize, now: Instant) {
        let Member { slots, splits, .. } = &mut self.members[device];
        let Slot { block, phase, .. } = slots.remove(block);
        let Block { table, every, points, .. } = block.clone();
        splits.push(Split { block, phase, fine: now, ripe: false });
        slots.extend(points.into_iter().map(|index| {
            let point = &of.points[index];
            let Source::Modbus { address, .. } = point.source else { unreachable!("a block is of Modbus points") };
            let count = if table.is_bits() { 1 } else { point.decode.words() };
            let block = Block { table, address, count, every, points: vec![index] };
            Slot { block, phase, due: now, turned_back: false, broke: false, misses: 0 }
        }));
    }

    /// A part of a block was refused.
    pub(crate) fn refused(&mut self, device: usize, block: usize, now: Instant) {
        self.members[device].part_failed(block, now);
    }

    /// Reads as a whole again what was split and may be given together by now: the device was away, or has answered
    /// all parts for long.
    pub(crate) fn rejoin(&mut self, device: usize, now: Instant) {
        let Member { slots, splits, .. } = &mut self.members[device];
        splits.retain(|Split { block, phase, fine, ripe }| {
            let whole = *ripe || now >= *fine + REJOIN.max(2 * block.every);
            if whole {
                slots.retain(|slot| !slot.block.is_part_of(block));
                let (block, phase) = (block.clone(), *phase);
                slots.push(Slot { block, phase, due: now, turned_back: false, broke: false, misses: 0 });
            }
            !whole
        });
    }

    /// The bus is back after it was down: the dead get a new chance, and so does what was being read when it went
    /// down. The others keep their turns.
    pub(crate) fn restart(&mut self, now: Instant) {
        let broken = self.members.iter_mut().flat_map(|member| &mut member.slots).filter(|slot| slot.broke);
        broken.for_each(|slot| slot.due = slot.due.min(now));
        for member in self.members.iter_mut().filter(|member| member.is_dead()) {
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
        let slot = |block| Slot { block, phase: Duration::ZERO, due: now, turned_back: false, broke: false, misses: 0 };
        Self {
            slots: plan(device).into_iter().map(slot).collect(),
            splits: Vec::new(),
            unit: device.unit,
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

    /// If `block` is part of one that was split, that is not yet to be joined again.
    fn part_failed(&mut self, block: usize, now: Instant) {
        let part = &self.slots[block].block;
        let of = self.splits.iter_mut().filter(|split| part.is_part_of(&split.block));
        of.for_each(|split| split.fine = now);
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
mod tests;
