//! Tells systemd that the gateway lives: only while every loop that does the work goes round.

use std::time::Duration;

use tokio::time::interval;

use crate::status::Pulse;

/// A loop that has not gone round for this long is stuck, whatever systemd's own patience is.
const PATIENCE: Duration = Duration::from_secs(20);

/// Pings systemd's watchdog, if it watches (sd_watchdog_enabled(3)), while all pulses beat.
pub(super) async fn run(pulses: Vec<(String, Pulse)>) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = interval(period / 3);
    loop {
        ticks.tick().await;
        match pulses.iter().find(|(_, pulse)| pulse.age() > PATIENCE.max(period)) {
            Some((name, pulse)) => {
                tracing::error!(
                    "{name} has not gone round for {:?}: the watchdog is not told that all is well",
                    pulse.age()
                );
            }
            None => {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
        }
    }
}
