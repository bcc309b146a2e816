//! `fieldpost user`: the users of the broker and their passwords.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

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
        Ok(Some(password)) if password.is_empty() => return fail(exit::DATA, "the password is empty"),
        Ok(Some(password)) => password,
        Ok(None) => return fail(exit::DATA, "the two passwords differ; nothing is changed"),
        Err(e) => return fail(exit::IO, &format!("cannot read the password: {e}")),
    };
    match users.add(name, &password) {
        Ok(()) => save(&users, file),
        Err(why) => fail(exit::DATA, &why),
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

/// Asks on the terminal for what is not to be seen.
fn ask(question: &str) -> io::Result<String> {
    let stdin = io::stdin();
    write!(io::stderr(), "{question}")?;
    let before = rustix::termios::tcgetattr(&stdin)?;
    let mut quiet = before.clone();
    quiet.local_modes -= rustix::termios::LocalModes::ECHO;
    rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &quiet)?;
    let read = line();
    rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &before)?;
    writeln!(io::stderr())?;
    read
}

fn line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn save(users: &Users, file: &Path) -> ExitCode {
    match users.save(file) {
        Ok(()) => {
            output::complain(&format!(
                "{} is written; `systemctl reload fieldpost` puts it in force\n",
                file.display()
            ));
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
