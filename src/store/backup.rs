//! A copy of the database as it is at one moment, made while a gateway goes on with it. The copy is a store of its own.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::renewal::beside;
use super::{Inspect, OpenError};

/// Why there is no copy.
#[derive(Debug)]
pub enum BackupError {
    /// The store cannot be read.
    Store(OpenError),
    /// Something is there already, and nobody said that it may go.
    Exists(PathBuf),
    /// The copy cannot be written.
    Write(PathBuf, io::Error),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupError::Store(e) => e.fmt(f),
            BackupError::Exists(path) => {
                write!(f, "{} is there already: name another file, or overwrite it with --force", path.display())
            }
            BackupError::Write(path, e) => write!(f, "cannot write {}: {e}", path.display()),
        }
    }
}

impl std::error::Error for BackupError {}

impl Inspect {
    /// Copies the database to `to`, which is there whole, and on its disk, or not at all. Returns its size in bytes.
    ///
    /// # Errors
    /// When something is there and `force` is not given, or one of the two cannot be read or written.
    pub fn backup(&self, to: &Path, force: bool) -> Result<u64, BackupError> {
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists(to.into()),
            _ => BackupError::Write(to.into(), e),
        };
        if !force && to.symlink_metadata().is_ok() {
            return Err(BackupError::Exists(to.into()));
        }
        if self.is_ours(to) {
            let e = io::Error::other("that is the store itself");
            return Err(failed(e));
        }
        let part = beside(to, ".part");
        let copied = self.copy(&part).and_then(|size| {
            let flags = if force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
            renameat_with(CWD, &part, CWD, to, flags).map_err(|e| failed(e.into()))?;
            // The name, too, has to be on the disk.
            let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
            Ok(size)
        });
        if copied.is_err() {
            let _ = fs::remove_file(&part);
        }
        copied
    }

    /// Whether this is the store, or one of the files that belong to it.
    fn is_ours(&self, to: &Path) -> bool {
        let id = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
        let ours = ["", "-wal", "-shm", ".lock"].map(|ending| beside(self.path(), ending));
        id(to).is_some_and(|to| ours.iter().any(|ours| id(ours) == Some(to)))
    }

    fn copy(&self, part: &Path) -> Result<u64, BackupError> {
        let failed = |e: io::Error| BackupError::Write(part.into(), e);
        let _ = fs::remove_file(part);
        // SQLite takes an empty file; made here, it is for this user's eyes only.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part).map_err(failed)?;
        let name = part
            .to_str()
            .ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidInput, "SQLite wants a name that is UTF-8")))?;
        // One view of the database, whatever is written meanwhile; the copy has no gaps.
        self.connection().execute("VACUUM INTO ?1", [name]).map_err(|e| match e.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => failed(io::ErrorKind::StorageFull.into()),
            Some(rusqlite::ErrorCode::CannotOpen) => failed(io::Error::other(e)),
            _ => BackupError::Store(self.unreadable(&e)),
        })?;
        file.sync_all().map_err(failed)?;
        Ok(file.metadata().map_err(failed)?.len())
    }
}
