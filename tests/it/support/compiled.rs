//! The peers in C, compiled once in each run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// What is made of tests/it/peers/`SOURCE` by `cc` with these arguments after it.
///
/// # Panics
/// When it cannot be compiled: a test that cannot run has failed.
pub fn compiled(source: &str, arguments: &[&str]) -> PathBuf {
    static ALL: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut all = ALL.lock().unwrap();
    all.entry(source.to_owned()).or_insert_with(|| compile(source, arguments)).clone()
}

fn compile(source: &str, arguments: &[&str]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("peers");
    std::fs::create_dir_all(&folder).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peers").join(source);
    let done = folder.join(source.strip_suffix(".c").expect("it is written in C"));
    // Under another name first: a second run of the tests may be using the program.
    let fresh = done.with_extension(std::process::id().to_string());
    let mut cc = Command::new("cc");
    cc.arg("-o").arg(&fresh).arg(&path).args(arguments);
    let output = cc.output().unwrap_or_else(|e| panic!("cannot run cc: {e}; ./tests/run says what is missing"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cannot compile {source}; ./tests/run installs what it needs\n{said}");
    std::fs::rename(&fresh, &done).unwrap();
    done
}
