//! `fieldpost bridge`: what the uplinks' rules do, and wishes to the uplinks of a running gateway.

mod republish;
mod test;

use std::process::ExitCode;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show which rules are for a topic, and what comes out, or why nothing does. Exits with 0 when something goes over,
    /// and with 1 when nothing does
    Test(test::Args),
    /// Send what is retained to a cloud once more
    Republish(republish::Args),
}

pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::Test(args) => test::run(args),
        Command::Republish(args) => republish::run(args),
    }
}
