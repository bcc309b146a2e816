//! What a disk may have after a power cut.
//!
//! What was synced is there. Of what was written since, each write may be there, be missing, or be there in part, by
//! sectors; whatever the others are. Names are made and removed in their order, and the last of that may be missing, unless
//! the folder was synced.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fastrand::Rng;

use super::record::Act;

/// A write that is cut off is there by blocks of one of these sizes.
const SECTORS: [usize; 2] = [512, 4096];

/// The disk, at one moment of a record.
#[derive(Clone, Debug)]
pub struct Disk {
    /// It says that SQLite's log is synced, and it is not: as `PRAGMA synchronous = NORMAL` leaves it.
    lies: bool,
    files: Vec<Content>,
    /// Names as they are, and as they would be after a cut, without `changes`.
    names: BTreeMap<String, usize>,
    kept: BTreeMap<String, usize>,
    changes: Vec<Change>,
    inodes: BTreeMap<u64, usize>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    synced: Vec<u8>,
    since: Vec<Write>,
}

#[derive(Clone, Debug)]
enum Write {
    Data(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone, Debug)]
enum Change {
    Name(String, usize),
    Unlink(String),
    Rename(String, String),
}

/// Which of the last writes a cut leaves.
#[derive(Clone, Copy)]
enum Left {
    None,
    All,
    Any,
}

impl Disk {
    pub fn new(lies: bool) -> Self {
        Self {
            lies,
            files: Vec::new(),
            names: BTreeMap::new(),
            kept: BTreeMap::new(),
            changes: Vec::new(),
            inodes: BTreeMap::new(),
        }
    }

    /// One on which everything in this folder is synced.
    pub fn of(folder: &Path) -> Self {
        let mut disk = Self::new(false);
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            disk.inodes.insert(entry.metadata().unwrap().ino(), disk.files.len());
            disk.names.insert(entry.file_name().into_string().unwrap(), disk.files.len());
            disk.files.push(Content { synced: std::fs::read(entry.path()).unwrap(), since: Vec::new() });
        }
        disk.kept = disk.names.clone();
        disk
    }

    /// Does what was done.
    pub fn take(&mut self, act: &Act) {
        match act {
            Act::Create { name, inode } => {
                self.inodes.insert(*inode, self.files.len());
                self.change(Change::Name(name.clone(), self.files.len()));
                self.files.push(Content::default());
            }
            Act::Write { inode, offset, data } => self.file(*inode).since.push(Write::Data(*offset, data.clone())),
            Act::Truncate { inode, size } => self.file(*inode).since.push(Write::Truncate(*size)),
            Act::Sync { inode } => {
                let file = self.inodes[inode];
                let log = self.names.iter().any(|(name, of)| *of == file && name.ends_with("-wal"));
                if !(self.lies && log) {
                    self.files[file].sync();
                }
            }
            Act::Unlink { name } => self.change(Change::Unlink(name.clone())),
            Act::Rename { from, to } => self.change(Change::Rename(from.clone(), to.clone())),
            Act::SyncFolder => {
                self.kept = self.names.clone();
                self.changes.clear();
            }
        }
    }

    /// Writes what is there after a cut into a folder.
    pub fn after_a_cut(&self, folder: &Path, random: &mut Rng) {
        let mut names = self.kept.clone();
        let changes = match left(random) {
            Left::None => 0,
            Left::All => self.changes.len(),
            Left::Any => random.usize(..=self.changes.len()),
        };
        self.changes[..changes].iter().for_each(|change| change.apply(&mut names));
        for (name, file) in names {
            std::fs::write(folder.join(name), self.files[file].after_a_cut(random)).unwrap();
        }
    }

    fn file(&mut self, inode: u64) -> &mut Content {
        &mut self.files[self.inodes[&inode]]
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Change::Name(name, file) => drop(names.insert(name.clone(), *file)),
            Change::Unlink(name) => drop(names.remove(name)),
            Change::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

impl Content {
    fn sync(&mut self) {
        let mut synced = std::mem::take(&mut self.synced);
        self.since.drain(..).for_each(|write| write.apply(&mut synced));
        self.synced = synced;
    }

    fn after_a_cut(&self, random: &mut Rng) -> Vec<u8> {
        let (mut content, left) = (self.synced.clone(), left(random));
        for write in &self.since {
            match left {
                Left::None => {}
                Left::All => write.apply(&mut content),
                Left::Any => match random.u8(..3) {
                    0 => {}
                    1 => write.apply(&mut content),
                    _ => write.apply_in_part(&mut content, random),
                },
            }
        }
        content
    }
}

impl Write {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Write::Data(offset, data) => {
                content.resize(content.len().max(offset + data.len()), 0);
                content[*offset..offset + data.len()].copy_from_slice(data);
            }
            Write::Truncate(size) => content.resize(*size, 0),
        }
    }

    fn apply_in_part(&self, content: &mut Vec<u8>, random: &mut Rng) {
        let Write::Data(offset, data) = self else { return };
        let sector = SECTORS[random.usize(..2)];
        let mut at = *offset;
        while at < offset + data.len() {
            let end = ((at / sector + 1) * sector).min(offset + data.len());
            if random.bool() {
                Write::Data(at, data[at - offset..end - offset].to_vec()).apply(content);
            }
            at = end;
        }
    }
}

fn left(random: &mut Rng) -> Left {
    [Left::None, Left::All, Left::Any, Left::Any][random.usize(..4)]
}
