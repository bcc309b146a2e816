//! A PLC at a water tank: a pump fills it, a tap empties it.
//!
//! | what     | where      | as                                                |
//! |----------|------------|---------------------------------------------------|
//! | level    | input 8    | u16, in 0.1 m                                     |
//! | flow     | holding 16 | f32, order CDAB: what the pump delivers, in m³/h  |
//! | setpoint | holding 20 | u16: how hard the pump works when on, in percent  |
//! | pump     | coil 3     | on or off                                         |
//! | high     | discrete 0 | whether the level is above 9 m                    |

use std::time::Duration;

use super::device::{Device, Registers};
use crate::bus::Table;

const LEVEL: u16 = 8;
const FLOW: u16 = 16;
const SETPOINT: u16 = 20;
const PUMP: u16 = 3;
const HIGH: u16 = 0;

/// Metres to the brim.
const HEIGHT: f64 = 10.0;
/// Square metres. A slim tank: its level moves while one looks.
const GROUND: f64 = 0.2;
/// What the pump delivers at 100 %, in m³/h.
const FULL_FLOW: f64 = 100.0;
/// What the tap lets out of the full tank, in m³/h.
const FULL_DRAIN: f64 = 30.0;

/// The tank, its pump and its tap.
#[derive(Debug)]
pub struct Tank {
    device: Device,
    random: fastrand::Rng,
    /// In metres.
    level: f64,
}

impl Tank {
    /// A tank filled up to `level` metres, the pump off and set to 60 %.
    pub fn new(level: f64, random: fastrand::Rng) -> Self {
        let mut registers = Registers::default();
        registers.set_bits(Table::Coil, 0, &[false; 8]);
        registers.set_bits(Table::Discrete, 0, &[false; 8]);
        registers.set_words(Table::Input, 0, &[0; 16]);
        registers.set_words(Table::Holding, 0, &[0; 32]);
        registers.set_words(Table::Holding, SETPOINT, &[60]);
        let mut tank = Self { device: Device::new(registers), random, level };
        tank.step(Duration::ZERO);
        tank
    }

    /// What answers on the network.
    pub fn device(&self) -> Device {
        self.device.clone()
    }

    /// Lets time pass.
    pub fn step(&mut self, passed: Duration) {
        let Self { device, random, level } = self;
        device.with(|registers| {
            let pump = registers.bits(Table::Coil, PUMP, 1).is_some_and(|bits| bits[0]);
            let percent = registers.words(Table::Holding, SETPOINT, 1).map_or(0, |words| words[0].min(100));
            let flow = match pump {
                true => FULL_FLOW * f64::from(percent) / 100.0 * (0.98 + 0.04 * random.f64()),
                false => 0.0,
            };
            // Torricelli: what runs out goes with the root of the level.
            let drain = FULL_DRAIN * (*level / HEIGHT).sqrt();
            *level = (*level + (flow - drain) / 3600.0 / GROUND * passed.as_secs_f64()).clamp(0.0, HEIGHT);

            registers.set_words(Table::Input, LEVEL, &[(*level * 10.0).round() as u16]);
            registers.set_bits(Table::Discrete, HIGH, &[*level > 9.0]);
            let [a, b, c, d] = (flow as f32).to_be_bytes();
            registers.set_words(Table::Holding, FLOW, &[u16::from_be_bytes([c, d]), u16::from_be_bytes([a, b])]);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(tank: &Tank) -> u16 {
        tank.device.with(|r| r.words(Table::Input, LEVEL, 1)).unwrap()[0]
    }

    fn run(tank: &mut Tank, seconds: u64) {
        for _ in 0..seconds * 10 {
            tank.step(Duration::from_millis(100));
        }
    }

    #[test]
    fn the_pump_makes_the_level_rise_and_the_tap_makes_it_fall() {
        let mut tank = Tank::new(4.0, fastrand::Rng::with_seed(1));
        assert_eq!(level(&tank), 40);
        run(&mut tank, 30);
        let low = level(&tank);
        assert!((25..40).contains(&low), "{low}");

        tank.device.with(|r| r.set_bits(Table::Coil, PUMP, &[true]));
        run(&mut tank, 30);
        assert!(level(&tank) > low + 10, "{}", level(&tank));
        let words = tank.device.with(|r| r.words(Table::Holding, FLOW, 2)).unwrap();
        let flow = f32::from_bits(u32::from(words[1]) << 16 | u32::from(words[0]));
        assert!((58.0..62.1).contains(&flow), "{flow} m³/h at 60 %");
    }

    #[test]
    fn the_setpoint_drives_the_pump() {
        let risen = |percent| {
            let mut tank = Tank::new(2.0, fastrand::Rng::with_seed(1));
            tank.device.with(|r| {
                r.set_bits(Table::Coil, PUMP, &[true]);
                r.set_words(Table::Holding, SETPOINT, &[percent]);
            });
            run(&mut tank, 20);
            level(&tank)
        };
        assert!(risen(0) < 20 && risen(100) > risen(50), "{} {} {}", risen(0), risen(50), risen(100));
    }

    #[test]
    fn it_neither_overflows_nor_runs_below_empty() {
        let mut tank = Tank::new(4.0, fastrand::Rng::with_seed(1));
        run(&mut tank, 3600);
        assert_eq!(level(&tank), 0);
        tank.device.with(|r| {
            r.set_bits(Table::Coil, PUMP, &[true]);
            r.set_words(Table::Holding, SETPOINT, &[u16::MAX]);
        });
        run(&mut tank, 3600);
        assert_eq!(level(&tank), 100);
        assert_eq!(tank.device.with(|r| r.bits(Table::Discrete, HIGH, 1)), Some(vec![true]));
    }
}
