//! The whole: build the parts from the config, watch over them, stop them in order.

use std::process::ExitCode;

/// Runs the gateway until it is told to stop.
pub fn run(config: crate::config::Config) -> ExitCode {
    eprintln!("fieldpost: gateway {} cannot run yet", config.gateway.id);
    ExitCode::FAILURE
}
