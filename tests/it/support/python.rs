//! The peers in Python, run by the interpreter that `tests/run` has prepared.

use std::env;
use std::path::PathBuf;

use tokio::process::Command;

use super::Process;

/// A command that runs one of the scripts in tests/it/peers.
///
/// # Panics
/// When the tests were not started by `tests/run`: a test that cannot run has failed.
pub fn script(name: &str) -> Command {
    let interpreter = env::var_os("FIELDPOST_TEST_PYTHON").unwrap_or_else(|| {
        panic!("this test needs Python packages: run ./tests/run, which installs them and sets FIELDPOST_TEST_PYTHON")
    });
    let mut command = Command::new(interpreter);
    // No __pycache__ among the sources.
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(path(name));
    command
}

/// Starts a script; see its head for what it wants and prints.
pub fn start(name: &str, args: &[&str]) -> Process {
    Process::start(name, script(name).args(args))
}

/// The next line that a script prints, which must be JSON.
pub async fn json(process: &mut Process) -> serde_json::Value {
    let line = process.line().await;
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("no JSON ({e}): {line}"))
}

/// Runs a script to its end and gives what it printed.
///
/// # Panics
/// When it fails, with what it wrote to stderr.
pub async fn run(name: &str, args: &[&str]) -> String {
    let output = script(name).args(args).kill_on_drop(true).output();
    let output = tokio::time::timeout(super::process::PATIENCE, output).await;
    let output = output.unwrap_or_else(|_| panic!("{name} does not end")).unwrap();
    assert!(output.status.success(), "{name} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/peers").join(name)
}
