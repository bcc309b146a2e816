//! The peers in JavaScript, run by Node.js with the packages that `tests/run` has prepared.

use std::env;
use std::path::{Path, PathBuf};

use tokio::process::Command;

/// A command that runs one of the scripts in tests/it/peers.
///
/// # Panics
/// When the tests were not started by `tests/run`: a test that cannot run has failed.
pub fn script(name: &str) -> Command {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peers");
    let mut command = Command::new("node");
    command.env("NODE_PATH", packages()).arg(peers.join(name));
    command
}

/// A file of a package, such as `mqtt/dist/mqtt.min.js`.
///
/// # Panics
/// As [`script`].
pub fn file(path: &str) -> PathBuf {
    packages().join(path)
}

fn packages() -> PathBuf {
    let folder = env::var_os("FIELDPOST_TEST_NODE").unwrap_or_else(|| {
        panic!("this test needs packages of npm: run ./tests/run, which installs them and sets FIELDPOST_TEST_NODE")
    });
    PathBuf::from(folder).join("node_modules")
}
