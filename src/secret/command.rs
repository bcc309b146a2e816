//! A program that prints a secret: a token that expires, or one that lives in some other program's store.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::Instant;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What MQTT has room for in a password, and the line break behind it.
const MOST: u64 = 65_535 + 2;

/// Of the first line that it says on stderr, no more is repeated.
const MOST_SAID: usize = 200;

/// Runs the program with its arguments, without a shell; what it prints is the secret, without a line break at its end.
///
/// # Errors
/// When it cannot be started, fails, prints nothing, too much or no UTF-8, or is not done in time; it is ended then, with
/// what it has started. The text says what it wrote to stderr, and never what it printed.
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
    let (printed, said) = (read(child.stdout.take()), read(child.stderr.take()));
    let end = Instant::now() + patience;
    let left = || end.saturating_duration_since(Instant::now());
    let (Ok(printed), Ok(said)) = (printed.recv_timeout(left()), said.recv_timeout(left())) else {
        end_all(&mut child);
        return Err(failed(io::ErrorKind::TimedOut, format!("was not done within {} s", patience.as_secs_f32())));
    };
    // Both ends were seen, or more than is wanted; a program that then goes on is none that prints a secret.
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if left().is_zero() || printed.len() as u64 >= MOST => {
                end_all(&mut child);
                break child.wait()?;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    if printed.len() as u64 >= MOST {
        return Err(failed(io::ErrorKind::InvalidData, "printed more than 65535 bytes".into()));
    }
    if !status.success() {
        return Err(failed(io::ErrorKind::Other, format!("ended with {status}{}", first_line(&said))));
    }
    let secret = String::from_utf8(printed)
        .map_err(|_| failed(io::ErrorKind::InvalidData, "printed something else than UTF-8 text".into()))?;
    let secret = secret.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(failed(io::ErrorKind::InvalidData, format!("printed nothing{}", first_line(&said))));
    }
    Ok(secret.to_owned())
}

/// Reads a stream to its end, or to the bound, in a thread of its own: a program that fills one while the other is read
/// would wait for ever.
fn read(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(stream) = stream {
            // What came before an error counts; nobody may be left to hear it.
            let _ = stream.take(MOST).read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

fn end_all(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn first_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line: String = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().into();
    let line: String = line.chars().filter(|c| !c.is_control()).take(MOST_SAID).collect();
    if line.is_empty() { line } else { format!(": {line}") }
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
    fn errors_repeat_what_it_said_and_never_what_it_printed() {
        for (command, part) in [
            (
                shell("echo geheim; echo; echo 'no key: \u{1b}[1m' >&2; echo more >&2; exit 3"),
                "exit status: 3: no key: [1m",
            ),
            (shell("echo; echo why >&2"), "printed nothing: why"),
            (shell("printf '\\377geheim'"), "UTF-8"),
            (shell("head -c 70000 /dev/zero"), "more than 65535"),
            (shell("yes geheim"), "more than 65535"),
            (vec!["/nowhere/get-token".into()], "/nowhere/get-token cannot be started"),
        ] {
            let error = run(&command).expect_err("it fails").to_string();
            assert!(error.contains(part) && !error.contains("geheim") && !error.contains("more\n"), "{error}");
        }
    }

    #[test]
    fn one_that_does_not_end_is_ended_with_what_it_has_started() {
        let patience = Duration::from_millis(100);
        let error = run_for(&shell("sleep 1000"), patience).expect_err("it takes long");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // The shell is gone; the pipe is held by what it left behind.
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; echo token", file.display());
        let error = run_for(&shell(&script), patience).expect_err("its end is not seen");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let pid: i32 = std::fs::read_to_string(file).expect("it began").trim().parse().expect("a number");
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let gone = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            state().is_empty() || state().contains(") Z ")
        });
        assert!(gone, "{}", state());
    }
}
