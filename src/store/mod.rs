//! What outlives the process: the durable queues, the sessions that own them, retained messages. The only SQL.
//!
//! Two halves. [`tail`] is pure and lives in the broker's router: entries newer than the last commit, and who waits for
//! them to be durable; an entry that all its queues acknowledge before the commit window ends never touches the disk.
//! [`Store`] is a thread that owns the one SQLite connection: each batch is one transaction, and `answer` tells when
//! the disk hangs in one, `space` how much room there is on it, `wear` how much is written, and `loss` who lost what. `tables`, `removal` and
//! `age` are what a transaction does, `page` is what is read, `file` is how the database is opened, `recovery` what it holds
//! then, `renewal` and `salvage` how a damaged one is replaced and what is read from it. [`Inspect`]
//! looks into the file from outside, and copies it.
//!
//! A message is a row, however many queues want it; what a queue has to know of it stands with that of its neighbours in one
//! row, a run (`runs`). `books` knows in RAM how much each queue holds. An acknowledgement shortens runs, and the messages
//! that no queue holds any more go with them, or a little later (`waste`). Entry ids only ever grow, over restarts too, and
//! order all queues.

pub mod tail;
pub mod class;
mod config;
pub mod aside;
mod db;
mod writer;
mod answer;
mod space;
mod wear;
mod loss;
mod tables;
mod books;
mod runs;
mod list;
mod page;
mod removal;
mod waste;
mod age;
mod clocks;
mod rows;
mod file;
mod recovery;
mod migration;
mod renewal;
mod salvage;
mod inspect;
mod backup;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::clock::Moment;
use crate::message::{Message, QoS};
use crate::mqtt::{PacketId, SubscribeOptions};
use crate::status::Cause;

pub use aside::Aside;
pub use backup::BackupError;
pub use class::NO_CLASS;
pub use config::{Commit, Config, QueueBound, WhenFull};
pub use db::Store;
pub use file::{OpenError, is_in_use};
pub use inspect::{Inspect, Usage};

/// The place of a message in all queues; grows, and is never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u64);

/// A durable queue: one a session that outlives its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u32);

/// How one queue is to deliver a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub qos: QoS,
    pub retain: bool,
    pub subscription_ids: Vec<u32>,
    /// Its place among the queue's deliveries of QoS 1 and 2, from 1; its packet id follows from it. 0 at QoS 0.
    pub seq: u64,
    /// How important it is when something has to give way: 0 the most, [`NO_CLASS`] the least. See [`class`].
    pub class: u8,
    /// The shared filter by which this queue got it instead of another; not kept on disk.
    pub share: Option<Arc<str>>,
}

/// A message that entered one or more queues.
#[derive(Clone, Debug)]
pub struct Append {
    pub id: EntryId,
    pub message: Arc<Message>,
    pub queues: Vec<(QueueId, Delivery)>,
}

/// A session as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    pub client_id: Arc<str>,
    /// As whom its client connected.
    pub user: Option<Arc<str>>,
    pub queue: QueueId,
    /// Session expiry interval, in seconds; `u32::MAX` never expires.
    pub expiry: u32,
    /// When its client left; none while it is connected.
    pub left: Option<Moment>,
    /// The last [`Delivery::seq`] that was sent, as of when its client left.
    pub sent: u64,
    pub subscriptions: Vec<Subscription>,
}

/// A subscription of a kept session.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Subscription {
    pub filter: Arc<str>,
    pub options: SubscribeOptions,
    pub id: Option<u32>,
}

/// An exchange at QoS 2 that a session has to remember (MQTT 5.0, 4.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handshake {
    /// The client's message with this packet id was taken (PUBREC); its PUBREL is to come.
    Received(PacketId),
    /// The client took the delivery with this [`Delivery::seq`] (PUBREC); its PUBCOMP is to come.
    Released(u64),
}

/// A will as it is kept, for the case that the gateway ends before its client.
#[derive(Clone, Debug, PartialEq)]
pub struct Will {
    pub message: Message,
    /// Will delay interval, in seconds.
    pub delay: u32,
    /// When it is due, once its client is gone.
    pub due: Option<Moment>,
}

/// What one transaction changes. Applied in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Sessions that ended: they and their queues go. A new one with the same client id may be among `sessions`.
    pub ended: Vec<QueueId>,
    /// Sessions made or changed: inserted or replaced by their queue id.
    pub sessions: Vec<Session>,
    /// New entries, ids ascending.
    pub appends: Vec<Append>,
    /// Queues whose entries up to and with this id are done.
    pub acked: Vec<(QueueId, EntryId)>,
    /// Single entries that are done, in queues that have older ones still open.
    pub acked_single: Vec<(QueueId, EntryId)>,
    /// Retained messages set (a payload) or cleared (an empty one).
    pub retained: Vec<Arc<Message>>,
    /// Exchanges begun (true) or ended (false).
    pub handshakes: Vec<(QueueId, Handshake, bool)>,
    /// Wills by client id: set, or no longer wanted.
    pub wills: Vec<(Arc<str>, Option<Will>)>,
    /// What was taken out of a queue, as its reader will never have it.
    pub aside: Vec<Aside>,
    /// Numbers of messages that were set aside, and that nobody wants there any more.
    pub aside_done: Vec<u64>,
    /// Queues whose entries up to and with this id go unread. [`Event::Purged`] tells how many that were.
    pub purged: Vec<(QueueId, EntryId)>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
            && self.appends.is_empty()
            && self.acked.is_empty()
            && self.acked_single.is_empty()
            && self.ended.is_empty()
            && self.retained.is_empty()
            && self.handshakes.is_empty()
            && self.wills.is_empty()
            && self.aside.is_empty()
            && self.aside_done.is_empty()
            && self.purged.is_empty()
    }

    /// Takes out the acknowledgements that stand for themselves: those of queues of which nothing else has to be in the
    /// same transaction.
    fn take_done(&mut self) -> Self {
        let alone = |queue: &QueueId| self.aside.is_empty() && !self.handshakes.iter().any(|(of, ..)| of == queue);
        let acked = self.acked.extract_if(.., |(queue, _)| alone(queue)).collect();
        let acked_single = self.acked_single.extract_if(.., |(queue, _)| alone(queue)).collect();
        Self { acked, acked_single, ..Self::default() }
    }
}

/// What the store tells the broker.
#[derive(Clone, Debug)]
pub enum Event {
    /// The batch is on the disk. Comes once for each [`Store::commit`], in order; a batch that fails is kept and tried
    /// again until it succeeds.
    Committed {
        /// Entries that gave way, by queue: too old, or the oldest of a full store.
        dropped: Vec<(QueueId, Lost)>,
        /// The queues that are full and take nothing new ([`WhenFull::RefuseNew`]).
        full: Vec<QueueId>,
    },
    /// The same between two commits, when it has changed.
    Room { dropped: Vec<(QueueId, Lost)>, full: Vec<QueueId> },
    /// What a batch was to purge is gone; comes before the batch is said to be committed.
    Purged { queue: QueueId, lost: Lost },
    /// The answer to a [`Store::load`].
    Loaded {
        queue: QueueId,
        /// In order.
        entries: Vec<Entry>,
        /// Whether these are the last of the queue on disk, as of all batches committed so far.
        complete: bool,
    },
}

/// What a queue lost on disk for one cause: its oldest entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub cause: Cause,
    pub entries: u64,
    /// No entry up to this id is left that is of this class or less important.
    pub until: EntryId,
    pub class: u8,
}

/// An entry of a queue, read back from the disk.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: EntryId,
    pub message: Arc<Message>,
    pub delivery: Delivery,
}

/// What an opened store held.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Larger than every id used before.
    pub next_id: EntryId,
    /// Larger than every queue id used before.
    pub next_queue: u32,
    pub sessions: Vec<(Session, Depth)>,
    pub retained: Vec<Arc<Message>>,
    pub handshakes: Vec<(QueueId, Handshake)>,
    /// By client id; not every one belongs to a kept session.
    pub wills: Vec<(Arc<str>, Will)>,
    /// How many milliseconds the last trusted clock since this start of the computer was ahead of the time since then.
    pub clock: Option<i64>,
}

/// How much a queue holds on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    pub entries: u64,
    /// When its oldest entry entered the broker.
    pub oldest: Option<Moment>,
    /// The first and the last [`Delivery::seq`] in it; 0 when it is empty.
    pub first: u64,
    pub last: u64,
}

impl Session {
    /// Whether it is one of the gateway's own parts'.
    fn is_own(&self) -> bool {
        self.client_id.starts_with('$')
    }
}
