//! What a person at the command line has done to queues and kept messages, beside what clients do.

use std::fmt;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::message::Message;
use crate::store::EntryId;

/// An order. Queues are named by their session's client id.
#[derive(Debug)]
pub enum Order {
    /// Write to the disk whatever is in RAM only.
    WriteOut,
    /// Put messages into one queue, behind what waits there; at QoS 0 they would not be kept. With them goes what they were
    /// as while they were set aside, by its numbers in the store.
    Put { queue: Arc<str>, messages: Vec<Message>, aside: Vec<u64> },
    /// Take what waits in a queue on the disk, up to and with this entry, out. What is on its way to the reader already
    /// may still arrive.
    Purge { queue: Arc<str>, until: EntryId },
    /// End the kept session of a client that is not connected, with its queue.
    Forget { queue: Arc<str> },
    /// Forget what was set aside, by its numbers in the store.
    ForgetAside { numbers: Vec<u64> },
    /// Forget the retained messages on topics that match `filter` and entered before this time; or only count them.
    ClearRetained { filter: Arc<str>, before: Option<Timestamp>, count_only: bool },
}

/// How many messages it was about; known when all of it is on the disk.
pub type Outcome = Result<u64, Refusal>;

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No session has this queue; those that have one.
    NoQueue { asked: Arc<str>, known: Vec<Arc<str>> },
    /// Its client is connected.
    Connected(Arc<str>),
    /// It is one of the gateway's own parts', which would miss what comes.
    InUse(Arc<str>),
    /// The store takes no more.
    Full,
    /// The gateway stops.
    Stopping,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoQueue { asked, known } if known.is_empty() => {
                write!(f, "there is no queue `{asked}`, nor any other")
            }
            Refusal::NoQueue { asked, known } => {
                write!(f, "there is no queue `{asked}`; there are {}", known.join(", "))
            }
            Refusal::Connected(client) => {
                write!(f, "`{client}` is connected: its session can be removed when it is gone")
            }
            Refusal::InUse(own) => write!(
                f,
                "`{own}` is the gateway's own: leave `--session` away to empty its queue; the session goes once the uplink \
                 is out of the config and the gateway was started anew"
            ),
            Refusal::Full => f.write_str("the store takes no more: it is full, or its disk takes nothing"),
            Refusal::Stopping => f.write_str("the gateway stops"),
        }
    }
}
