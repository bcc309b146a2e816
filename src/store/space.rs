//! The room on the disk: the store stops to grow while some is left, and has a little put by for when there is none.
//!
//! Other programs may fill the disk all the same. Then a database in WAL mode is stuck: to delete rows it has to write
//! them to its log, the log can begin anew only when all of it has gone into the database, and for that the database
//! has to grow. So a file beside it holds some blocks, and gives them back for that moment. From then on the database
//! has all the pages that it needs, its log the blocks that it has had before, and entries come and go within both on a
//! disk that is full. (This is why the log is never cut to nothing.)

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::renewal::beside;

/// The most that is put by: the log when it is largest, twice.
const PUT_BY: u64 = 8 << 20;

/// So much of the file stays free while the disk is short: what a transaction needs beside the rows that it adds.
const SPARE: u64 = 256 << 10;

/// The room on the disk of one database.
#[derive(Debug)]
pub(super) struct Space {
    /// None for one in memory.
    disk: Option<Disk>,
    short: bool,
}

#[derive(Debug)]
struct Disk {
    folder: PathBuf,
    /// What is put by, and whether it is.
    put_by: PathBuf,
    held: bool,
    /// How much is to stay free, before it is looked how large the disk is.
    reserve: u64,
    /// As last seen.
    seen: Seen,
}

/// The disk at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// For this user.
    pub(super) free: u64,
    /// What is to stay free.
    pub(super) reserve: u64,
}

impl Space {
    /// The room for the database at `path`, of which `reserve` bytes are to stay free: of a small disk a quarter at
    /// most. Nothing of it is kept for one in memory.
    pub(super) fn new(path: &Path, reserve: u64) -> Self {
        let in_memory = path == Path::new(":memory:");
        let disk = || {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let (folder, put_by) = (folder.into(), beside(path, ".reserve"));
            // One that an earlier run left is as good as a new one.
            let held = put_by.exists();
            Disk { folder, put_by, held, reserve, seen: Seen::default() }
        };
        Self { disk: (!in_memory && reserve > 0).then(disk), short: false }
    }

    /// Looks at the disk. Returns what is seen there, unless it does not tell.
    pub(super) fn look(&mut self) -> Option<Seen> {
        let disk = self.disk.as_mut()?;
        let Ok(at) = statvfs(&disk.folder) else { return None };
        let reserve = disk.reserve.min((at.f_blocks * at.f_frsize) / 4);
        let seen = Seen { free: at.f_bavail * at.f_frsize, reserve };
        let size = PUT_BY.min(reserve / 2);
        // Once it is short it is so until there is some more: nobody is helped by a store that changes its mind often.
        self.short = seen.free < if self.short { reserve + reserve / 8 } else { reserve };
        disk.seen = seen;
        if !disk.held && seen.free >= reserve + size + reserve / 8 {
            // A file system that cannot do it has nothing put by.
            disk.held = put_by(&disk.put_by, size).is_ok();
        }
        Some(seen)
    }

    /// As last seen: nothing of a disk that does not tell.
    pub(super) fn seen(&self) -> Option<Seen> {
        self.disk.as_ref().map(|disk| disk.seen)
    }

    /// Whether the disk has too little left for the store to grow.
    pub(super) fn is_short(&self) -> bool {
        self.short
    }

    /// How many bytes of messages the store may hold, which may hold `max`, does hold `held`, and has `spare` bytes in
    /// its file that are not in use.
    pub(super) fn limit(&self, max: u64, held: u64, spare: u64) -> u64 {
        if !self.short {
            return max;
        }
        // A row takes more of a page than its message counts.
        let (more, less) = (spare.saturating_sub(SPARE) / 4 * 3, SPARE.saturating_sub(spare));
        // A store that is all but empty gives nothing away: it is not what fills the disk.
        let floor = self.seen().map_or(0, |seen| seen.reserve / 8);
        max.min((held + more).saturating_sub(less).max(floor))
    }

    /// The disk is full, whatever it says. Gives back what was put by; false when there was nothing.
    pub(super) fn release(&mut self) -> bool {
        let Some(disk) = &mut self.disk else { return false };
        self.short = true;
        let released = fs::remove_file(&disk.put_by).is_ok();
        disk.held = false;
        released
    }
}

/// Makes a file that has its blocks, all of them or none.
fn put_by(path: &Path, size: u64) -> io::Result<()> {
    let file = File::create(path)?;
    let made = fallocate(&file, FallocateFlags::empty(), 0, size);
    if made.is_err() {
        fs::remove_file(path)?;
    }
    Ok(made?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(reserve: u64) -> Space {
        let mut space = Space::new(Path::new("/nowhere/db"), reserve);
        space.short = true;
        space.disk.as_mut().expect("it has one").seen = Seen { free: 0, reserve };
        space
    }

    #[test]
    fn a_store_on_a_short_disk_grows_into_its_own_file_only() {
        let space = short(64 << 20);
        let (max, held) = (512 << 20, 100 << 20);
        assert_eq!(space.limit(max, held, 0), held - SPARE, "room for a transaction");
        assert_eq!(space.limit(max, held, SPARE), held);
        assert_eq!(space.limit(max, held, SPARE + 4096), held + 3072);
        assert_eq!(space.limit(held / 2, held, 0), held / 2, "max-size holds as well");
        assert_eq!(space.limit(max, 1000, 0), 8 << 20, "a store that is all but empty may take something");
        assert_eq!(Space::new(Path::new("/nowhere/db"), 1).limit(max, held, 0), max);
    }

    #[test]
    fn what_is_put_by_has_its_blocks_and_gives_them_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("db");
        let mut space = Space::new(&path, 1 << 20);
        let seen = space.look().expect("a disk");
        assert!(seen.reserve == 1 << 20 && seen.free > seen.reserve && !space.is_short());
        let file = folder.path().join("db.reserve");
        assert_eq!(fs::metadata(&file).expect("it is there").len(), 1 << 19);
        assert!(space.release() && !file.exists() && space.is_short());
        assert!(!space.release(), "only once");
        space.look();
        assert!(file.exists() && !space.is_short(), "there is room again");
        // More than any disk has: a quarter of it, which this one has.
        assert!(Space::new(&path, u64::MAX).look().expect("a disk").reserve < u64::MAX / 4);
        assert_eq!(Space::new(&path, 0).look(), None);
        assert_eq!(Space::new(Path::new(":memory:"), 1).look(), None);
    }
}
