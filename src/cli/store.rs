//! `fieldpost store`: what waits, what is retained, what was set aside; shown, taken out, brought in, copied.
//!
//! Reading looks into the file ([`Inspect`]), beside a running gateway too, once that has written what it has in RAM only.
//! What changes something goes through the broker that owns the store: that of the running gateway, over its control
//! socket, or one that runs for the length of the command ([`gate`]).

mod backup;
mod export;
mod gate;
mod import;
mod ls;
mod purge;
mod retry;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;

use super::{exit, output};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::control::{Answer, AskError, Kind};
use crate::record::Record;
use crate::store::{Aside, BackupError, Inspect, OpenError, QueueId, Recovered};
use crate::units::Period;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// What the store holds: queues, retained messages, what was set aside
    Ls(ls::Args),
    /// Print messages, in order, a line each
    Export(export::Args),
    /// Bring messages in, from lines as `export` prints them
    Import(import::Args),
    /// Remove messages, or the kept session of a client that is gone
    Purge(purge::Args),
    /// Put what was set aside back into its queues, once the cloud takes it
    Retry(retry::Args),
    /// Copy the store to a file, which is a store of its own
    Backup(backup::Args),
}

pub(super) fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::Ls(args) => ls::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Purge(args) => purge::run(&args),
        Command::Retry(args) => retry::run(&args),
        Command::Backup(args) => backup::run(&args),
    };
    done.unwrap_or_else(|Failure { code, why }| {
        output::complain(&why);
        code
    })
}

/// Why a command fails.
#[derive(Debug)]
struct Failure {
    code: ExitCode,
    /// With the ends of its lines.
    why: String,
}

impl Failure {
    fn new(code: u8, why: impl fmt::Display) -> Self {
        Self { code: code.into(), why: format!("{why}\n") }
    }

    /// No queue has this name.
    fn no_queue(asked: &str, recovered: &Recovered) -> Self {
        let mut known: Vec<_> = recovered.sessions.iter().map(|(session, _)| &*session.client_id).collect();
        known.sort_unstable();
        let others =
            if known.is_empty() { "nor any other".to_owned() } else { format!("there are {}", known.join(", ")) };
        Self::new(exit::DATA, format!("there is no queue `{asked}`; {others}"))
    }
}

/// A config that cannot be used has told why.
impl From<ExitCode> for Failure {
    fn from(code: ExitCode) -> Self {
        Self { code, why: String::new() }
    }
}

impl From<OpenError> for Failure {
    fn from(e: OpenError) -> Self {
        let code = match e {
            OpenError::Denied { .. } => exit::PERMISSION,
            OpenError::Locked { .. } | OpenError::Missing { .. } | OpenError::Io { .. } => exit::UNAVAILABLE,
            OpenError::Newer { .. }
            | OpenError::Older { .. }
            | OpenError::Foreign { .. }
            | OpenError::Damaged { .. } => exit::DATA,
        };
        Self::new(code, e)
    }
}

impl From<BackupError> for Failure {
    fn from(e: BackupError) -> Self {
        match e {
            BackupError::Store(e) => e.into(),
            BackupError::Exists(_) => Self::new(exit::DATA, e),
            BackupError::Write(_, ref error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Self::new(exit::PERMISSION, e)
            }
            BackupError::Write(..) => Self::new(exit::IO, e),
        }
    }
}

impl From<AskError> for Failure {
    fn from(e: AskError) -> Self {
        let code = if matches!(e, AskError::TooLong) { exit::DATA } else { exit::UNAVAILABLE };
        Self::new(code, e)
    }
}

/// The count that an answer tells.
fn count(answer: Answer) -> Result<u64, Failure> {
    match answer {
        Answer::Done(count) => Ok(count),
        Answer::Refused(refused) => {
            let code = if refused.kind == Kind::Wrong { exit::DATA } else { exit::UNAVAILABLE };
            Err(Failure::new(code, refused.why))
        }
    }
}

/// Which gateway's store.
#[derive(Debug, clap::Args)]
struct Of {
    /// The gateway's config
    #[arg(default_value = super::CONFIG)]
    config: PathBuf,
}

impl Of {
    fn load(&self) -> Result<Config, Failure> {
        let config = super::load(&self.config)?;
        if config.store.in_memory() {
            return Err(Failure::new(
                exit::DATA,
                "this gateway keeps its store in memory only (`path = \":memory:\"`)",
            ));
        }
        Ok(config)
    }
}

/// A look into the store, as of now: a running gateway has written what it has in RAM.
fn look(config: &Config) -> Result<(Inspect, Recovered), Failure> {
    gate::write_out(config)?;
    Ok(Inspect::open(&config.store.path)?)
}

/// The queue of the session of this name.
fn queue(name: &str, recovered: &Recovered) -> Result<QueueId, Failure> {
    let found = recovered.sessions.iter().find(|(session, _)| *session.client_id == *name);
    found.map(|(session, _)| session.queue).ok_or_else(|| Failure::no_queue(name, recovered))
}

/// The queues, by the names of their sessions.
fn queues(recovered: &Recovered) -> Vec<(Arc<str>, QueueId)> {
    let mut queues: Vec<_> =
        recovered.sessions.iter().map(|(session, _)| (session.client_id.clone(), session.queue)).collect();
    queues.sort();
    queues
}

/// What was set aside, as a line.
fn record(number: u64, aside: &Aside) -> Record {
    Record {
        queue: Some(aside.session.clone()),
        id: Some(number),
        qos: Some(aside.qos),
        retain: aside.retain,
        reason: Some(aside.reason.text().into()),
        set_aside: Some(aside.at.wall),
        ..Record::new(&aside.message)
    }
}

/// A time, or how long ago it was: `2026-11-20T10:00:00Z`, `7d`.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(Period(ago)) = text.parse::<Period>() {
        let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        return Ok(Timestamp(Timestamp::now().0.saturating_sub(ago)));
    }
    text.parse().map_err(|_| format!("`{text}` is neither a time such as 2026-11-20T10:00:00Z nor an age such as 7d"))
}
