//! A program that prints a secret: a token that expires, or one that lives in some other program's store.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::Instant;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What MQTT has room for in a password, and the line break behind it.
const MOST: usize = 65_535 + 2;

/// Of the first line that it says on stderr, no more gets into the log.
const MOST_SAID: usize = 200;

/// How often somebody looks what it has printed, and whether it has ended.
const TURN: Duration = Duration::from_millis(5);

/// Reads at one turn: one that never stops printing does not hold up the clock.
const READS: usize = 16;

/// Runs the program with its arguments, without a shell; what it prints is the secret, without a line break at its end.
///
/// # Errors
/// When it cannot be started, fails, prints nothing, too much or no UTF-8, or is not done in time; it is ended then, with
/// what it has started. The text says nothing of what it printed, nor of what it wrote to stderr, as there may be a secret
/// in that as well: its first line is in the log at debug level.
///
/// What it leaves running behind itself is not waited for.
pub(super) fn run(command: &[String]) -> io::Result<String> {
    run_for(command, PATIENCE)
}

fn run_for(command: &[String], patience: Duration) -> io::Result<String> {
    let Some((program, arguments)) = command.split_first() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let failed = |kind, why: String| io::Error::new(kind, format!("the command {program} {why}"));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that what it starts can be ended with it.
        .process_group(0)
        .spawn()
        .map_err(|e| failed(e.kind(), format!("cannot be started: {e}")))?;
    let (mut printed, mut said) = (Printed::new(child.stdout.take())?, Printed::new(child.stderr.take())?);
    let end = Instant::now() + patience;
    let ended = loop {
        // First this: what it printed before it ended is in the pipe then. Others may hold the pipe open for ever.
        let ended = child.try_wait()?;
        printed.read();
        said.read();
        match ended {
            Some(status) => break Some(status),
            None if printed.bytes.len() >= MOST || Instant::now() >= end => {
                end_all(&mut child);
                break None;
            }
            None => std::thread::sleep(TURN),
        }
    };
    let said = first_line(&said.bytes);
    if !said.is_empty() {
        tracing::debug!("the command {program} said: {said}");
    }
    let hint = if said.is_empty() { "" } else { "; its error output is in the log at debug level" };
    let printed = printed.bytes;
    if printed.len() >= MOST {
        return Err(failed(io::ErrorKind::InvalidData, "printed more than 65535 bytes".into()));
    }
    let Some(status) = ended else {
        let why = format!("was not done within {} s{hint}", patience.as_secs_f32());
        return Err(failed(io::ErrorKind::TimedOut, why));
    };
    if !status.success() {
        return Err(failed(io::ErrorKind::Other, format!("ended with {status}{hint}")));
    }
    let secret = String::from_utf8(printed)
        .map_err(|_| failed(io::ErrorKind::InvalidData, "printed something else than UTF-8 text".into()))?;
    let secret = secret.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(failed(io::ErrorKind::InvalidData, format!("printed nothing{hint}")));
    }
    Ok(secret.to_owned())
}

/// What came through a pipe.
struct Printed<R> {
    /// None after its end.
    pipe: Option<R>,
    /// The first of it, up to the bound.
    bytes: Vec<u8>,
}

impl<R: Read + AsFd> Printed<R> {
    fn new(pipe: Option<R>) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Self { pipe, bytes: Vec::new() })
    }

    /// Takes what is there. What is beyond the bound is dropped, so that a program that says much is not held up.
    fn read(&mut self) {
        let mut place = [0; 8192];
        for _ in 0..READS {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut place) {
                Ok(n) if n > 0 => {
                    let n = n.min(MOST - self.bytes.len());
                    self.bytes.extend_from_slice(&place[..n]);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // What came before the end, or an error, counts.
                Ok(_) | Err(_) => self.pipe = None,
            }
        }
    }
}

fn end_all(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The first line with something in it, fit for a log.
fn first_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(MOST_SAID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn what_it_prints_is_the_secret() {
        let command = ["printf", "%s\\n", "a b\"c"].map(str::to_owned);
        assert_eq!(run(&command).expect("it runs"), "a b\"c");
        let loud = shell("seq 1 20000 >&2; echo token");
        assert_eq!(run(&loud).expect("it runs"), "token");
    }

    #[test]
    fn errors_repeat_neither_what_it_printed_nor_what_it_said() {
        for (command, part) in [
            (
                shell("echo geheim; echo; echo 'no key: geheim' >&2; exit 3"),
                "exit status: 3; its error output is in the log at debug level",
            ),
            (shell("echo; echo geheim >&2"), "printed nothing; its error"),
            (shell("exit 4"), "ended with exit status: 4"),
            (shell("printf '\\377geheim'"), "UTF-8"),
            (shell("head -c 70000 /dev/zero"), "more than 65535"),
            (shell("yes geheim"), "more than 65535"),
            (vec!["/nowhere/get-token".into()], "/nowhere/get-token cannot be started"),
        ] {
            let error = run(&command).expect_err("it fails").to_string();
            assert!(error.contains(part) && !error.contains("geheim"), "{error}");
        }
    }

    #[test]
    fn one_that_does_not_end_is_ended_with_what_it_has_started() {
        let patience = Duration::from_millis(100);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; echo token; wait", file.display());
        let error = run_for(&shell(&script), patience).expect_err("it takes long");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let pid: i32 = std::fs::read_to_string(file).expect("it began").trim().parse().expect("a number");
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let gone = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            state().is_empty() || state().contains(") Z ")
        });
        assert!(gone, "{}", state());
    }

    #[test]
    fn what_it_leaves_behind_is_not_waited_for_and_its_pipes_are_let_go() {
        // It says that it still runs, and whether somebody still listens, by a pipe of its own.
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("closed");
        let behind = format!("(trap '' PIPE; while echo x; do sleep 0.02; done; : > {}) & echo token", file.display());
        let start = std::time::Instant::now();
        let secret = run(&shell(&behind)).expect("it has ended");
        assert_eq!(secret.lines().find(|line| *line != "x"), Some("token"));
        assert!(start.elapsed() < PATIENCE);
        let closed = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            file.exists()
        });
        assert!(closed, "the pipe is still open");
    }

    #[test]
    fn of_what_it_said_the_first_line_is_made_fit_for_the_log() {
        assert_eq!(first_line(b"\n no key: \x1b[1m\nmore"), "no key: [1m");
        assert_eq!(first_line(&[b'x'; 1000]).len(), MOST_SAID);
    }
}
