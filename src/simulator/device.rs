//! A simulated Modbus device: its four tables of registers, shared by what serves them and what moves them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bus::Table;

/// The devices on one line or behind one TCP port, by unit.
pub type Units = BTreeMap<u8, Device>;

/// One device. Clones are the same device.
#[derive(Clone, Debug, Default)]
pub struct Device(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    registers: Registers,
    silent: bool,
}

impl Device {
    /// A device that answers with these registers.
    pub fn new(registers: Registers) -> Self {
        Self(Arc::new(Mutex::new(State { registers, silent: false })))
    }

    /// Reads or changes its registers; nobody sees them half changed.
    pub fn with<T>(&self, change: impl FnOnce(&mut Registers) -> T) -> T {
        change(&mut self.lock().registers)
    }

    /// Whether it lies dead: it neither answers nor obeys.
    pub fn is_silent(&self) -> bool {
        self.lock().silent
    }

    /// Lets it fall silent, or speak again.
    pub fn set_silent(&self, silent: bool) {
        self.lock().silent = silent;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Registers are plain numbers: whatever panicked while it held them, they are still registers.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The four tables. An address that was never set does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    coils: BTreeMap<u16, bool>,
    discrete: BTreeMap<u16, bool>,
    input: BTreeMap<u16, u16>,
    holding: BTreeMap<u16, u16>,
}

impl Registers {
    /// Sets the bits from `address` on, and makes those that did not exist. A table of registers is left as it is.
    pub fn set_bits(&mut self, table: Table, address: u16, bits: &[bool]) {
        if let Some(cells) = self.bit_table(table) {
            cells.extend((address..=u16::MAX).zip(bits.iter().copied()));
        }
    }

    /// Sets the registers from `address` on, and makes those that did not exist. A table of bits is left as it is.
    pub fn set_words(&mut self, table: Table, address: u16, words: &[u16]) {
        if let Some(cells) = self.word_table(table) {
            cells.extend((address..=u16::MAX).zip(words.iter().copied()));
        }
    }

    /// Sets two registers to an IEEE 754 single, most significant word first (order `ABCD`).
    pub fn set_f32(&mut self, table: Table, address: u16, value: f32) {
        let [a, b, c, d] = value.to_be_bytes();
        self.set_words(table, address, &[u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
    }

    /// `count` bits from `address` on; none when one of them does not exist.
    pub fn bits(&self, table: Table, address: u16, count: u16) -> Option<Vec<bool>> {
        match table {
            Table::Coil => run(&self.coils, address, count),
            Table::Discrete => run(&self.discrete, address, count),
            Table::Input | Table::Holding => None,
        }
    }

    /// `count` registers from `address` on; none when one of them does not exist.
    pub fn words(&self, table: Table, address: u16, count: u16) -> Option<Vec<u16>> {
        match table {
            Table::Input => run(&self.input, address, count),
            Table::Holding => run(&self.holding, address, count),
            Table::Coil | Table::Discrete => None,
        }
    }

    fn bit_table(&mut self, table: Table) -> Option<&mut BTreeMap<u16, bool>> {
        match table {
            Table::Coil => Some(&mut self.coils),
            Table::Discrete => Some(&mut self.discrete),
            Table::Input | Table::Holding => None,
        }
    }

    fn word_table(&mut self, table: Table) -> Option<&mut BTreeMap<u16, u16>> {
        match table {
            Table::Input => Some(&mut self.input),
            Table::Holding => Some(&mut self.holding),
            Table::Coil | Table::Discrete => None,
        }
    }
}

/// The cells from `address` on; none when there is a hole or the end of the address space among them.
fn run<T: Copy>(cells: &BTreeMap<u16, T>, address: u16, count: u16) -> Option<Vec<T>> {
    let last = address.checked_add(count.checked_sub(1)?)?;
    let run: Vec<T> = cells.range(address..=last).map(|(_, cell)| *cell).collect();
    (run.len() == usize::from(count)).then_some(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_registers_exists_only_without_a_hole() {
        let mut registers = Registers::default();
        registers.set_words(Table::Input, 10, &[1, 2]);
        registers.set_words(Table::Input, 13, &[4]);
        assert_eq!(registers.words(Table::Input, 10, 2), Some(vec![1, 2]));
        assert_eq!(registers.words(Table::Input, 10, 4), None);
        assert_eq!(registers.words(Table::Holding, 10, 1), None);
    }

    #[test]
    fn the_address_space_ends_at_65535() {
        let mut registers = Registers::default();
        registers.set_bits(Table::Coil, u16::MAX, &[true, true]);
        assert_eq!(registers.bits(Table::Coil, u16::MAX, 1), Some(vec![true]));
        assert_eq!(registers.bits(Table::Coil, u16::MAX, 2), None);
        assert_eq!(registers.bits(Table::Coil, 0, 1), None);
    }

    #[test]
    fn clones_are_the_same_device() {
        let device = Device::default();
        device.clone().with(|registers| registers.set_f32(Table::Input, 0, 1.0));
        assert_eq!(device.with(|registers| registers.words(Table::Input, 0, 2)), Some(vec![0x3F80, 0]));
        device.clone().set_silent(true);
        assert!(device.is_silent());
    }
}
