//! Devices that answer for real, and a cloud that goes away: for `demo`, tests and benches.
//!
//! In reading order: a [`device`] is what has registers; [`serve`] answers a request out of them, and [`tcp`] and
//! [`rtu`] carry requests and answers; [`nmea`] talks unasked; a [`pty`] is the serial port that a client opens; and
//! the [`plant`] is all of this together, with a [`meter`] and a [`tank`] whose values move. The [`cloud`] at the other
//! end comes and goes.

pub mod device;
pub mod serve;
pub mod tcp;
pub mod rtu;
pub mod nmea;
pub mod pty;
pub mod meter;
pub mod tank;
pub mod plant;
pub mod cloud;

pub use cloud::Cloud;
pub use device::{Device, Registers, Units};
pub use plant::Plant;
pub use pty::Pty;
