//! What the system counts of this process.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Bytes written since the process began.
pub struct Written {
    /// Handed to the system in calls.
    pub calls: u64,
    /// Whole pages that had to go to a disk.
    pub disk: u64,
}

/// What was written so far.
pub fn written() -> io::Result<Written> {
    let text = fs::read_to_string("/proc/self/io")?;
    Ok(Written { calls: number(&text, "wchar:")?, disk: number(&text, "write_bytes:")? })
}

/// The CPU time of all threads so far.
pub fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// The memory it has now, in bytes.
pub fn memory() -> io::Result<u64> {
    Ok(number(&fs::read_to_string("/proc/self/status")?, "VmRSS:")? * 1024)
}

fn number(text: &str, name: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("there is no {name} among what the system counts")))
}
