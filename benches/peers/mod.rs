//! What the benchmarks share: brokers under test, and the bytes to talk to them.

#![allow(dead_code)] // each benchmark uses its part

pub mod packet;
pub mod peer;
pub mod wire;

use std::path::PathBuf;

/// Where Mosquitto is: as Debian installs it, or in the `PATH`.
pub fn mosquitto() -> PathBuf {
    let places = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"].map(PathBuf::from);
    places.into_iter().find(|path| path.exists()).unwrap_or_else(|| "mosquitto".into())
}

/// The value below which so much of `sorted` lies.
pub fn percentile(sorted: &[f64], part: f64) -> f64 {
    let place = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The middle one.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    percentile(&values, 0.5)
}
