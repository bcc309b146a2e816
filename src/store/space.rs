//! The room on the disk: the store stops to grow while some is left, and has what it needs to go on when there is none.
//!
//! Other programs may fill the disk all the same. Then a database in WAL mode can be stuck for ever: to delete rows it has
//! to write them to its log; the log can begin anew only when all of it has gone into the database; and for that the
//! database may have to grow. So its blocks are taken from the disk before they are needed: for the database those that
//! the next transactions may add, for the log as many as it ever has. Within these, entries come and go on a disk that is
//! full. (This is why the log is never cut to nothing.) For a start on a full disk, when there is no log yet, some blocks
//! are put by in a file of their own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use super::renewal::beside;

/// The most that is put by.
const PUT_BY: u64 = 8 << 20;

/// What the log has: the size to which it is kept, and a transaction.
const LOG: u64 = (4 << 20) + AHEAD;

/// What a transaction may add to the database or the log, and a little more: see `BATCH` in [`super::tail`].
const AHEAD: u64 = 3 << 20;

/// So much of the file stays free while the disk is short: what a transaction needs beside the rows that it adds.
const SPARE: u64 = 256 << 10;

/// The room on the disk of one database.
#[derive(Debug)]
pub(super) struct Space {
    /// None for one in memory.
    disk: Option<Disk>,
    short: bool,
    /// Whether the database and its log have what the next transaction may need.
    ahead: bool,
}

#[derive(Debug)]
struct Disk {
    folder: PathBuf,
    database: PathBuf,
    log: PathBuf,
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
            let (folder, put_by, log) = (folder.into(), beside(path, ".reserve"), beside(path, "-wal"));
            // One that an earlier run left is as good as a new one.
            let held = put_by.exists();
            Disk { folder, database: path.into(), log, put_by, held, reserve, seen: Seen::default() }
        };
        Self { disk: (!in_memory && reserve > 0).then(disk), short: false, ahead: true }
    }

    /// Looks at the disk, and takes from it what a database of `size` bytes needs to go on. Returns what is seen, unless the
    /// disk does not tell.
    pub(super) fn look(&mut self, size: u64) -> Option<Seen> {
        let disk = self.disk.as_mut()?;
        let at = statvfs(&disk.folder).ok()?;
        let reserve = disk.reserve.min((at.f_blocks * at.f_frsize) / 4);
        let seen = Seen { free: at.f_bavail * at.f_frsize, reserve };
        // Once it is short it is so until there is some more: nobody is helped by a store that changes its mind often.
        self.short = seen.free < if self.short { reserve + reserve / 8 } else { reserve };
        disk.seen = seen;
        let put_by = PUT_BY.min(reserve / 2);
        if !disk.held && seen.free >= reserve + put_by + reserve / 8 {
            disk.held = self::put_by(&disk.put_by, put_by).is_ok();
        }
        let (small, log) = (reserve / 8, LOG.min(reserve));
        self.ahead =
            take(&disk.log, log, log) & take(&disk.database, size + AHEAD.min(small), size + 2 * AHEAD.min(small));
        Some(seen)
    }

    /// The size to which the database may grow for certain; none when there is no telling, and no need for it.
    pub(super) fn bound(&self) -> Option<u64> {
        let disk = self.disk.as_ref().filter(|_| self.short && !self.ahead)?;
        fs::metadata(&disk.database).ok().map(|file| file.len().max(file.blocks() * 512))
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

/// Sees to it that a file has blocks for `least` bytes, however long it is: if not, that it gets them for `size`. False
/// when the disk has none.
fn take(path: &Path, least: u64, size: u64) -> bool {
    let Ok(file) = File::options().write(true).open(path) else { return false };
    if file.metadata().is_ok_and(|file| file.blocks() * 512 >= least) {
        return true;
    }
    match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, size) {
        Err(Errno::NOSPC | Errno::DQUOT) => false,
        // What a file system cannot do it cannot be asked for.
        _ => true,
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
    fn a_file_gets_its_blocks_before_it_is_that_long() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("db");
        assert!(!take(&path, 1, 1), "there is no file");
        fs::write(&path, "short").expect("written");
        assert!(take(&path, 1 << 20, 2 << 20));
        let file = fs::metadata(&path).expect("it is there");
        assert_eq!((file.len(), file.blocks() * 512), (5, 2 << 20));
    }

    #[test]
    fn what_is_put_by_has_its_blocks_and_gives_them_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("db");
        let mut space = Space::new(&path, 1 << 20);
        let seen = space.look(0).expect("a disk");
        assert!(seen.reserve == 1 << 20 && seen.free > seen.reserve && !space.is_short());
        let file = folder.path().join("db.reserve");
        assert_eq!(fs::metadata(&file).expect("it is there").len(), 1 << 19);
        assert!(space.release() && !file.exists() && space.is_short());
        assert!(!space.release(), "only once");
        space.look(0);
        assert!(file.exists() && !space.is_short(), "there is room again");
        // More than any disk has: a quarter of it, which this one has.
        assert!(Space::new(&path, u64::MAX).look(0).expect("a disk").reserve < u64::MAX / 4);
        assert_eq!(Space::new(&path, 0).look(0), None);
        assert_eq!(Space::new(Path::new(":memory:"), 1).look(0), None);
    }
}
