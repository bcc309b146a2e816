//! What happened, in its order: to the files of a gateway (see tests/it/peers/faults.c), and between it and its peers.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::Name;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Act(Act),
    /// The gateway acknowledged a message to its publisher.
    Acknowledged(Name),
    /// The cloud has a message.
    Got(Name),
}

/// Something done to the files in a folder. Files are told apart by their inode, while they have a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    Create {
        name: String,
        inode: u64,
    },
    Write {
        inode: u64,
        offset: usize,
        data: Vec<u8>,
    },
    Truncate {
        inode: u64,
        size: usize,
    },
    Sync {
        inode: u64,
    },
    Unlink {
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
    /// The folder itself was synced.
    SyncFolder,
}

/// Whoever notes something in a record that a program is writing.
#[derive(Clone)]
pub struct Notes(Arc<File>);

/// The length of what is before each name and its data.
const HEAD: usize = 24;

impl Notes {
    /// Appends to the record at `path`.
    pub fn to(path: &Path) -> Self {
        Self(Arc::new(OpenOptions::new().append(true).create(true).open(path).unwrap()))
    }

    pub fn acknowledged(&self, name: Name) {
        self.note(b'A', name);
    }

    pub fn got(&self, name: Name) {
        self.note(b'G', name);
    }

    fn note(&self, kind: u8, (qos, number): Name) {
        let mut head = [0; HEAD];
        head[0] = kind;
        head[8..16].copy_from_slice(&u64::from(number).to_ne_bytes());
        head[16..24].copy_from_slice(&u64::from(qos).to_ne_bytes());
        (&*self.0).write_all(&head).unwrap();
    }
}

/// Reads a record.
pub fn read(path: &Path) -> Vec<Event> {
    let bytes = std::fs::read(path).unwrap();
    let (mut rest, mut events) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let (head, more) = rest.split_at(HEAD);
        let number = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().unwrap());
        let length = u32::from_ne_bytes(head[4..8].try_into().unwrap()) as usize;
        let (name, more) = more.split_at(usize::from(head[1]));
        let (data, more) = more.split_at(length);
        rest = more;
        let (offset, inode) = (number(8), number(16));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let said = (inode as u8, offset as u32);
        events.push(match head[0] {
            b'A' => Event::Acknowledged(said),
            b'G' => Event::Got(said),
            b'c' => Event::Act(Act::Create { name: text(name), inode }),
            b'w' => Event::Act(Act::Write { inode, offset: offset as usize, data: data.to_vec() }),
            b't' => Event::Act(Act::Truncate { inode, size: offset as usize }),
            b's' => Event::Act(Act::Sync { inode }),
            b'u' => Event::Act(Act::Unlink { name: text(name) }),
            b'r' => Event::Act(Act::Rename { from: text(name), to: text(data) }),
            b'f' => Event::Act(Act::SyncFolder),
            other => panic!("{other} is nothing that can be done to a file"),
        });
    }
    events
}
