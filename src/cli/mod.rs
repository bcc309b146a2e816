//! The command line: one file a subcommand. Data goes to stdout, messages to stderr, exit codes are those of sysexits.

mod bridge;
mod check;
mod demo;
mod output;
mod run;
mod store;
mod user;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::config::{Config, Diagnostics};

/// Exit codes (sysexits.h).
pub mod exit {
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// Data given to the command is wrong.
    pub const DATA: u8 = 65;
    /// Something that must be reached is not.
    pub const UNAVAILABLE: u8 = 69;
    /// The output cannot be written.
    pub const IO: u8 = 74;
    /// Not allowed.
    pub const PERMISSION: u8 = 77;
    /// The config is wrong.
    pub const CONFIG: u8 = 78;
    /// Ended by a signal, as shells have it for SIGINT.
    pub const INTERRUPTED: u8 = 130;
}

/// Where the config is when nothing says otherwise.
const CONFIG: &str = "/etc/fieldpost/fieldpost.toml";

/// Modbus and serial sensors to MQTT topics, with a broker, a durable store and a status page.
#[derive(Debug, Parser)]
#[command(name = "fieldpost", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Run {
        /// The config
        #[arg(default_value = CONFIG)]
        config: PathBuf,
    },
    /// See it all work, on simulated devices and a simulated cloud
    Demo(demo::Args),
    /// Check a config, and show what it means: requests, load of the buses, topics
    Check(check::Args),
    /// See what the rules of the uplinks do, or have what is retained sent once more
    #[command(subcommand)]
    Bridge(bridge::Command),
    /// Look into the store, and change what it keeps; beside a running gateway or without one
    #[command(subcommand)]
    Store(store::Command),
    /// Manage the users of the broker
    #[command(subcommand)]
    User(user::Command),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(asked) if matches!(asked.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return output::print(&asked.to_string());
        }
        Err(wrong) => {
            output::complain(&wrong.to_string());
            return exit::USAGE.into();
        }
    };
    match cli.command {
        Command::Run { config: path } => match load(&path) {
            Ok(config) => run::run(path, config),
            Err(code) => code,
        },
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Bridge(command) => bridge::run(&command),
        Command::Store(command) => store::run(command),
        Command::User(command) => user::run(&command),
    }
}

/// Loads a config and tells on stderr what is wrong with it, warnings included.
///
/// # Errors
/// The exit code, when it cannot be used.
fn load(path: &Path) -> Result<Config, ExitCode> {
    match Config::load(path) {
        Ok(config) => {
            tell(&config.warnings);
            Ok(config)
        }
        Err(errors) => {
            tell(&errors);
            let denied = fs::File::open(path).is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
            Err(if denied { exit::PERMISSION } else { exit::CONFIG }.into())
        }
    }
}

fn tell(diagnostics: &Diagnostics) {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    output::complain(&diagnostics.render(colour));
}
