//! Whether the computer has a clock that goes on without power, and the wall clock was set by it.

use std::path::Path;

use super::Timestamp;

/// Where Linux shows such clocks.
const CLOCKS: &str = "/sys/class/rtc";

/// How far the wall clock may have gone from a clock with a battery since it was set by it: some weeks of drift.
const DRIFT: u64 = 5 * 60 * 1000;

/// Whether the wall clock, which shows `wall`, is that of a battery.
///
/// A PC has one, and a virtual machine on one gets its host's time; on the boards that this runs on otherwise there is one
/// only if the kernel shows it.
pub(super) fn keeps(wall: Timestamp) -> bool {
    cfg!(any(target_arch = "x86_64", target_arch = "x86")) || one_agrees(Path::new(CLOCKS), wall)
}

/// Whether one of the clocks in this folder shows the same time. One without a battery begins long ago.
fn one_agrees(clocks: &Path, wall: Timestamp) -> bool {
    let shows = |clock: std::fs::DirEntry| {
        let seconds: i64 = std::fs::read_to_string(clock.path().join("since_epoch")).ok()?.trim().parse().ok()?;
        Some(seconds.saturating_mul(1000))
    };
    let clocks = std::fs::read_dir(clocks).into_iter().flatten().flatten();
    clocks.filter_map(shows).any(|shown| shown.abs_diff(wall.0) <= DRIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn a_clock_counts_when_it_shows_the_same() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!one_agrees(folder.path(), WALL));
        assert!(!one_agrees(&folder.path().join("none"), WALL));
        let clock = |name: &str, shows: &str| {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("since_epoch"), shows).unwrap();
        };
        clock("rtc0", "17\n");
        clock("rtc1", "nothing");
        assert!(!one_agrees(folder.path(), WALL), "one that began anew, and one that cannot be read");
        clock("rtc2", "1800000100\n");
        assert!(one_agrees(folder.path(), WALL));
        assert!(!one_agrees(folder.path(), WALL.plus(3_600_000)));
    }
}
