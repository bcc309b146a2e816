//! The places of a new database while it replaces a damaged one: at any moment, one of the two is whole and is found.
//!
//! It is built as `path.new`. Once it holds all that could be read it becomes `path.salvaged`, and from then on it is
//! the one that counts: the damaged one moves aside, and it takes its place. A start finishes what an end cut off.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::clock::Timestamp;

/// A database and what SQLite keeps beside it.
const PARTS: [&str; 3] = ["", "-wal", "-shm"];

/// `path` with `ending` behind its name.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Where the new database for `path` is to be built. Nothing is there: what an earlier try left is removed.
pub(super) fn begin(path: &Path) -> io::Result<PathBuf> {
    let new = building(path);
    for part in PARTS {
        found(fs::remove_file(beside(&new, part)))?;
    }
    Ok(new)
}

/// Puts the new database, which is complete and closed, in the place of the one at `path`. Returns where that is now.
pub(super) fn complete(path: &Path) -> io::Result<PathBuf> {
    fs::rename(building(path), salvaged(path))?;
    // Without this a power cut could undo the first rename and keep the later ones.
    sync_folder(path)?;
    move_in(path)
}

/// Finishes or undoes a renewal that was cut off. True when a new database took the place of a damaged one.
pub(super) fn resume(path: &Path) -> io::Result<bool> {
    begin(path)?;
    let cut_off = salvaged(path).try_exists()?;
    if cut_off {
        move_in(path)?;
    }
    Ok(cut_off)
}

fn move_in(path: &Path) -> io::Result<PathBuf> {
    let time = Timestamp::now().to_string().replace([':', '.'], "-");
    let aside = beside(path, &format!(".damaged-{time}"));
    // Its log too: SQLite would play it into the new database.
    for part in PARTS {
        found(fs::rename(beside(path, part), beside(&aside, part)))?;
    }
    sync_folder(path)?;
    fs::rename(salvaged(path), path)?;
    sync_folder(path)?;
    Ok(aside)
}

fn building(path: &Path) -> PathBuf {
    beside(path, ".new")
}

fn salvaged(path: &Path) -> PathBuf {
    beside(path, ".salvaged")
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// A file that is not there needs nothing done to it.
fn found(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("the folder is there");
        let mut names: Vec<_> =
            entries.map(|e| e.expect("an entry").file_name().into_string().expect("a name")).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_not_complete_is_removed_and_what_was_takes_its_place_with_no_log_of_the_old() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("db");
        let write = |ending: &str, text: &str| fs::write(beside(&path, ending), text).expect("written");
        write("", "old");
        write(".new", "half");
        write(".new-wal", "half");
        assert!(!resume(&path).expect("it works"));
        assert_eq!(names(folder.path()), ["db"]);

        // Cut off after the log had moved, before the database had.
        write("-shm", "old shm");
        write(".salvaged", "whole");
        assert!(resume(&path).expect("it works"));
        assert_eq!(fs::read_to_string(&path).expect("there"), "whole");
        let left = names(folder.path());
        assert_eq!((left.len(), left[0].as_str()), (3, "db"));
        assert!(left[1].starts_with("db.damaged-") && left[2].ends_with("-shm"), "{left:?}");
    }
}
