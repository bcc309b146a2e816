//! `fieldpost user`: the users of the broker and their passwords.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::{exit, output};
use crate::broker::access::{Users, UsersError};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a user, or change the password; it is read from standard input
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
        Command::Remove { file, name } => match Users::load(file) {
            Ok(mut users) => {
                if users.remove(name) {
                    save(&users, file)
                } else {
                    fail(exit::DATA, &format!("{} has no user `{name}`", file.display()))
                }
            }
            Err(error) => refuse(&error),
        },
        Command::List { file } => match Users::load(file) {
            Ok(users) => output::print(&users.names().map(|name| format!("{name}\n")).collect::<String>()),
            Err(error) => refuse(&error),
        },
    }
}

fn add(file: &Path, name: &str) -> ExitCode {
    let mut users = match Users::load(file) {
        Ok(users) => users,
        Err(UsersError::Read(_, e)) if e.kind() == io::ErrorKind::NotFound => Users::default(),
        Err(error) => return refuse(&error),
    };
    let password = match password(name) {
        Ok(password) if password.is_empty() => return fail(exit::DATA, "the password is empty"),
        Ok(password) => password,
        Err(e) => return fail(exit::IO, &format!("cannot read the password: {e}")),
    };
    match users.add(name, &password) {
        Ok(()) => save(&users, file),
        Err(why) => fail(exit::DATA, &why),
    }
}

/// A line of standard input; from a terminal it is asked for and not shown.
fn password(name: &str) -> io::Result<String> {
    let stdin = io::stdin();
    let mut line = String::new();
    if stdin.is_terminal() {
        write!(io::stderr(), "Password for {name}: ")?;
        let before = rustix::termios::tcgetattr(&stdin)?;
        let mut quiet = before.clone();
        quiet.local_modes -= rustix::termios::LocalModes::ECHO;
        rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &quiet)?;
        let read = stdin.lock().read_line(&mut line);
        rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &before)?;
        writeln!(io::stderr())?;
        read?;
    } else {
        stdin.lock().read_line(&mut line)?;
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn save(users: &Users, file: &Path) -> ExitCode {
    match users.save(file) {
        Ok(()) => {
            output::complain(&format!("{} is written; restart the gateway to use it\n", file.display()));
            ExitCode::SUCCESS
        }
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            fail(exit::PERMISSION, &format!("cannot write {}: {e}", file.display()))
        }
        Err(e) => fail(exit::IO, &format!("cannot write {}: {e}", file.display())),
    }
}

fn refuse(error: &UsersError) -> ExitCode {
    let denied = matches!(error, UsersError::Read(_, e) if e.kind() == io::ErrorKind::PermissionDenied);
    fail(if denied { exit::PERMISSION } else { exit::DATA }, &error.to_string())
}

fn fail(code: u8, why: &str) -> ExitCode {
    output::complain(&format!("{why}\n"));
    code.into()
}
