//! An energy meter whose values move: the input registers of an Eastron SDM120 (SDM120-Modbus protocol V2.3).

use std::time::Duration;

use super::device::{Device, Registers};
use crate::bus::Table;

/// A single-phase meter at a load that swings about its mean.
#[derive(Debug)]
pub struct Meter {
    device: Device,
    random: fastrand::Rng,
    elapsed: Duration,
    /// The mean load, in watts.
    load: f64,
    /// The energy counted, in kilowatt-hours.
    energy: f64,
}

impl Meter {
    /// A meter with a mean load in watts that has counted some energy, in kilowatt-hours, before.
    pub fn new(load: f64, energy: f64, random: fastrand::Rng) -> Self {
        let mut registers = Registers::default();
        // The device answers zero between the registers that it documents.
        registers.set_words(Table::Input, 0x0000, &[0; 0x005C]);
        registers.set_words(Table::Input, 0x0102, &[0; 8]);
        registers.set_words(Table::Input, 0x0156, &[0; 4]);
        let mut meter = Self { device: Device::new(registers), random, elapsed: Duration::ZERO, load, energy };
        meter.step(Duration::ZERO);
        meter
    }

    /// What answers on the line.
    pub fn device(&self) -> Device {
        self.device.clone()
    }

    /// Lets time pass.
    pub fn step(&mut self, passed: Duration) {
        self.elapsed += passed;
        let voltage = 230.0 + 2.5 * self.wave(97.0) + self.noise(0.2);
        let power = self.load * (1.0 + 0.35 * self.wave(53.0) + self.noise(0.02));
        let factor = 0.95 + 0.02 * self.wave(71.0);
        let apparent = power / factor;
        let frequency = 50.0 + 0.02 * self.wave(31.0) + self.noise(0.003);
        self.energy += power * passed.as_secs_f64() / 3_600_000.0;

        let values = [
            (0x0000, voltage),
            (0x0006, apparent / voltage),
            (0x000C, power),
            (0x0012, apparent),
            (0x0018, (apparent.powi(2) - power.powi(2)).sqrt()),
            (0x001E, factor),
            (0x0046, frequency),
            (0x0048, self.energy),
            (0x0156, self.energy),
        ];
        self.device.with(|registers| {
            for (address, value) in values {
                registers.set_f32(Table::Input, address, value as f32);
            }
        });
    }

    /// -1 to 1, a full swing in `seconds`.
    fn wave(&self, seconds: f64) -> f64 {
        (self.elapsed.as_secs_f64() / seconds * std::f64::consts::TAU).sin()
    }

    /// Up to `amplitude` either way.
    fn noise(&mut self, amplitude: f64) -> f64 {
        amplitude * (2.0 * self.random.f64() - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(meter: &Meter, address: u16) -> f64 {
        let words = meter.device.with(|r| r.words(Table::Input, address, 2)).unwrap();
        f32::from_bits(u32::from(words[0]) << 16 | u32::from(words[1])).into()
    }

    #[test]
    fn values_are_plausible_at_all_times() {
        let mut meter = Meter::new(2400.0, 1284.0, fastrand::Rng::with_seed(3));
        let mut before = value(&meter, 0x0048);
        for _ in 0..3600 {
            meter.step(Duration::from_secs(1));
            let (voltage, current, power) = (value(&meter, 0), value(&meter, 6), value(&meter, 0x0C));
            assert!((226.0..234.0).contains(&voltage), "{voltage} V");
            assert!((1400.0..3400.0).contains(&power), "{power} W");
            assert!((0.92..0.98).contains(&(power / voltage / current)), "{voltage} V, {current} A, {power} W");
            assert!((49.9..50.1).contains(&value(&meter, 0x46)));
            let energy = value(&meter, 0x48);
            assert!(energy > before, "{energy} kWh after {before} kWh");
            before = energy;
        }
        // An hour at about 2.4 kW.
        assert!((before - 1286.4).abs() < 0.1, "{before} kWh");
    }
}
