//! `fieldpost user`: the users of the broker and their passwords.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::{exit, output};
use crate::broker::access::{Users, UsersError};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a user, or change the password: asked for twice on a terminal, else a line of standard input
    Add {
        /// The user list; made when it is not there
        file: PathBuf,
        /// The user's name
        name: String,
    },
    /// Remove a user
    Remove {
        /// The user list
        file: PathBuf,
        /// The user's name
        name: String,
    },
    /// List the users' names
    List {
        /// The user list
        file: PathBuf,
    },
}

pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::Add { file, name } => add(file, name),
        Command::Remove { file, name } => {
            if let Err(error) = Users::load(file) {
                return refuse(&error);
            }
            edit(file, |users| match users.remove(name) {
                true => Ok(()),
                false => Err(Failure::Data(format!("{} has no user `{name}`", file.display()))),
            })
        }
        Command::List { file } => match Users::load(file) {
            Ok(users) => output::print(&users.names().map(|name| format!("{name}\n")).collect::<String>()),
            Err(error) => refuse(&error),
        },
    }
}

fn add(file: &Path, name: &str) -> ExitCode {
    // What is wrong already is told before anything is asked.
    match Users::load(file) {
        Err(UsersError::Read(_, e)) if e.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return refuse(&error),
        Ok(_) => {}
    }
    let password = match password(name) {
        Ok(Some(password)) if password.is_empty() => return fail(exit::DATA, "the password is empty"),
        Ok(Some(password)) => password,
        Ok(None) => return fail(exit::DATA, "the two passwords differ; nothing is changed"),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => return fail(exit::INTERRUPTED, "nothing is changed"),
        Err(e) => return fail(exit::IO, &format!("cannot read the password: {e}")),
    };
    edit(file, |users| users.add(name, &password).map_err(Failure::Data))
}

/// Why a user file is not changed.
enum Failure {
    File(UsersError),
    Io(io::Error),
    Data(String),
}

impl From<UsersError> for Failure {
    fn from(e: UsersError) -> Self {
        Self::File(e)
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

fn edit(file: &Path, change: impl FnOnce(&mut Users) -> Result<(), Failure>) -> ExitCode {
    match Users::edit(file, change) {
        Ok(()) => {
            output::complain(&format!(
                "{} is written; `systemctl reload fieldpost` puts it in force\n",
                file.display()
            ));
            ExitCode::SUCCESS
        }
        Err(Failure::File(error)) => refuse(&error),
        Err(Failure::Data(why)) => fail(exit::DATA, &why),
        Err(Failure::Io(e)) => {
            let code = if e.kind() == io::ErrorKind::PermissionDenied { exit::PERMISSION } else { exit::IO };
            fail(code, &format!("cannot write {}: {e}", file.display()))
        }
    }
}

/// A line of standard input. On a terminal it is asked for twice; none when the two differ.
fn password(name: &str) -> io::Result<Option<String>> {
    if !io::stdin().is_terminal() {
        return line().map(Some);
    }
    let once = ask(&format!("Password for {name}: "))?;
    Ok((once == ask("The same again: ")?).then_some(once))
}

/// Asks on the terminal for what is not to be seen. The terminal is as it was afterwards, also when a signal ends it.
///
/// # Errors
/// `Interrupted` for a signal, and when the terminal fails.
fn ask(question: &str) -> io::Result<String> {
    let stdin = io::stdin();
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let read = runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut hangup = signal(SignalKind::hangup())?;
        write!(io::stderr(), "{question}")?;
        let before = tcgetattr(&stdin)?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO;
        tcsetattr(&stdin, OptionalActions::Now, &quiet)?;
        let read = tokio::select! {
            read = tokio::task::spawn_blocking(line) => read.map_err(io::Error::other).flatten(),
            _ = interrupt.recv() => Err(io::ErrorKind::Interrupted.into()),
            _ = terminate.recv() => Err(io::ErrorKind::Interrupted.into()),
            _ = hangup.recv() => Err(io::ErrorKind::Interrupted.into()),
        };
        tcsetattr(&stdin, OptionalActions::Now, &before)?;
        read
    });
    // A thread may wait for a line that nobody is to read any more.
    runtime.shutdown_background();
    writeln!(io::stderr())?;
    read
}

fn line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn refuse(error: &UsersError) -> ExitCode {
    let denied = matches!(error, UsersError::Read(_, e) if e.kind() == io::ErrorKind::PermissionDenied);
    fail(if denied { exit::PERMISSION } else { exit::DATA }, &error.to_string())
}

fn fail(code: u8, why: &str) -> ExitCode {
    output::complain(&format!("{why}\n"));
    code.into()
}
