//! Reading a queue: the next entries in order, with their messages.

use std::sync::Arc;

use rusqlite::{Connection, Result};

use super::books::Books;
use super::clocks::Clocks;
use super::list::Item;
use super::rows::{entry_id, int, message};
use super::runs::Run;
use super::{Delivery, Entry, EntryId, QueueId};

/// Ids that are not further from each other are read in one go, and what is between them is passed over.
const NEAR: u64 = 16;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub(super) queue: QueueId,
    /// The entries behind this one,
    pub(super) after: EntryId,
    /// so many at most,
    pub(super) limit: usize,
    /// and no more than that, unless the first alone has more.
    pub(super) max_bytes: usize,
}

impl Page {
    /// The entries, in order: at least one, unless there are none. True when they are the last.
    pub(super) fn read(mut self, c: &Connection, books: &Books, clocks: &Clocks) -> Result<(Vec<Entry>, bool)> {
        loop {
            let (items, complete) = self.items(c, books)?;
            let (entries, whole) = self.entries(c, clocks, &items)?;
            match items.last() {
                // None of them has a message: it is gone since, or lost.
                Some((_, last)) if entries.is_empty() && !complete => self.after = last.id,
                _ => return Ok((entries, whole && complete)),
            }
        }
    }

    /// The entries of these items, as far as their bytes go; true when that is all of them.
    fn entries(&self, c: &Connection, clocks: &Clocks, items: &[(u8, Item)]) -> Result<(Vec<Entry>, bool)> {
        let (mut entries, mut bytes) = (Vec::with_capacity(items.len()), 0);
        let mut select = c.prepare_cached(
            "SELECT topic, payload, qos, retain, at, properties, clock, timed, id FROM message \
             WHERE id BETWEEN ?1 AND ?2 ORDER BY id",
        )?;
        for near in items.chunk_by(|(_, a), (_, b)| b.id.0 - a.id.0 <= NEAR) {
            let mut wanted = near.iter().peekable();
            let ends = [near[0].1.id, near[near.len() - 1].1.id].map(int);
            let mut rows = select.query(ends)?;
            while let Some(row) = rows.next()? {
                let id = entry_id(row.get(8)?)?;
                while wanted.next_if(|(_, item)| item.id < id).is_some() {}
                let Some((class, item)) = wanted.next_if(|(_, item)| item.id == id) else { continue };
                let message = message(row, clocks)?;
                bytes += message.topic.len() + message.payload.len();
                if bytes > self.max_bytes && !entries.is_empty() {
                    return Ok((entries, false));
                }
                entries.push(Entry { id, message: Arc::new(message), delivery: delivery(item, *class) });
            }
        }
        Ok((entries, true))
    }

    /// Which they are, by class, as far as their number goes.
    fn items(&self, c: &Connection, books: &Books) -> Result<(Vec<(u8, Item)>, bool)> {
        let (mut found, mut classes, mut complete) = (Vec::new(), 0, true);
        for (class, _) in books.classes(self.queue) {
            classes += 1;
            let (mut from, mut of_class) = (self.after.0.saturating_add(1), 0);
            while let Some(run) = Run::at(c, self.queue, class, EntryId(from))? {
                if of_class >= self.limit {
                    complete = false;
                    break;
                }
                let behind = run.items.into_iter().filter(|item| item.id > self.after);
                let before = found.len();
                found.extend(behind.map(|item| (class, item)));
                of_class += found.len() - before;
                from = run.last.0.saturating_add(1);
            }
        }
        if classes > 1 {
            found.sort_by_key(|(_, item)| item.id);
        }
        complete &= found.len() <= self.limit;
        found.truncate(self.limit);
        Ok((found, complete))
    }
}

fn delivery(item: &Item, class: u8) -> Delivery {
    Delivery {
        qos: item.qos,
        retain: item.retain,
        subscription_ids: item.subscription_ids.clone(),
        seq: item.seq,
        class,
        share: None,
    }
}
