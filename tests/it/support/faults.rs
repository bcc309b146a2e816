//! What goes wrong with a program's disk and clock: tests/it/peers/faults.c, loaded into it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::compiled::compiled;

/// `errno` of a full disk, and of one that fails.
pub const ENOSPC: i32 = 28;
pub const EIO: i32 = 5;

/// The faults of one program, from its start on none.
#[derive(Debug)]
pub struct Faults {
    folder: TempDir,
    control: File,
}

impl Faults {
    /// Prepares them.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let control = OpenOptions::new().create_new(true).write(true).open(path).unwrap();
        let faults = Self { folder, control };
        faults.set(12, &(-1_i32).to_ne_bytes());
        faults.shift_clock(0);
        faults.boot("");
        faults
    }

    /// The program and its arguments that start another one with these faults.
    pub fn wrapper(&self) -> Vec<String> {
        let shim = compiled("faults.c", &["-shared", "-fPIC", "-O1", "-ldl"]);
        let control = self.folder.path().join("control");
        vec!["env".into(), format!("LD_PRELOAD={}", shim.display()), format!("FAULTS_CONTROL={}", control.display())]
    }

    /// As [`Faults::wrapper`], and what is done to the files is recorded in [`Faults::log`].
    pub fn recording(&self) -> Vec<String> {
        [self.wrapper(), vec![format!("FAULTS_LOG={}", self.log().display())]].concat()
    }

    /// The record.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Writes fail with this `errno`, none with 0. With [`ENOSPC`] only those that make a file longer.
    pub fn fail_writes(&self, errno: i32) {
        self.set(0, &errno.to_ne_bytes());
    }

    /// Syncs fail with this `errno`, none with 0.
    pub fn fail_syncs(&self, errno: i32) {
        self.set(4, &errno.to_ne_bytes());
    }

    /// Each sync takes so long.
    pub fn slow_syncs(&self, time: Duration) {
        self.set(8, &i32::try_from(time.as_millis()).unwrap().to_ne_bytes());
    }

    /// The wall clock is ahead by so many milliseconds.
    pub fn shift_clock(&self, millis: i64) {
        self.set(16, &millis.to_ne_bytes());
    }

    /// Whether the kernel says that the clock was set (`adjtimex`).
    pub fn clock_is_set(&self, set: bool) {
        self.set(12, &if set { 0_i32 } else { 5 }.to_ne_bytes());
    }

    /// Which start of the computer it is, from the program's next start on.
    pub fn boot(&self, id: &str) {
        let mut bytes = [0; 40];
        bytes[..id.len()].copy_from_slice(id.as_bytes());
        self.set(24, &bytes);
    }

    fn set(&self, at: u64, bytes: &[u8]) {
        self.control.write_all_at(bytes, at).unwrap();
    }
}
