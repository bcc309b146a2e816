//! Taking entries out, and the messages that nobody wants any more with them.

use rusqlite::{Connection, OptionalExtension, Result};

use super::books::{Books, Held};
use super::list::Item;
use super::loss::Dropped;
use super::runs::Run;
use super::{EntryId, Lost, QueueId, WhenFull, waste};
use crate::message::Message;
use crate::status::Cause;

/// What is taken at a time from the queue with the oldest entries, where all queues lose some.
const SLICE: u64 = 64;

/// What a message counts: its bytes, and about what its rows need beside them.
pub(super) fn size(message: &Message, properties: Option<&str>) -> u64 {
    (message.topic.len() + message.payload.len() + properties.map_or(0, str::len) + 48) as u64
}

/// [`size`] of the row of a message.
pub(super) const SIZE: &str =
    "(octet_length(topic) + octet_length(payload) + coalesce(octet_length(properties), 0) + 48)";

/// Which entries of a queue and class are to go: the oldest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Oldest {
    /// Those up to this id,
    pub(super) to: EntryId,
    /// as long as fewer than so many
    pub(super) entries: u64,
    /// with fewer bytes than that are gone.
    pub(super) bytes: u64,
}

impl Oldest {
    /// All up to this id.
    pub(super) fn up_to(to: EntryId) -> Self {
        Self { to, entries: u64::MAX, bytes: u64::MAX }
    }
}

/// What takes rows out within a transaction.
pub(super) struct Removal<'t> {
    connection: &'t Connection,
    /// Ids of messages that no queue holds any more, as first and last.
    orphans: Vec<(u64, u64)>,
}

impl<'t> Removal<'t> {
    pub(super) fn new(connection: &'t Connection) -> Self {
        Self { connection, orphans: Vec::new() }
    }

    /// Takes the entries up to `to` out of `queue`; messages that no queue holds any more go too.
    pub(super) fn take_up_to(&mut self, books: &mut Books, queue: QueueId, to: EntryId) -> Result<()> {
        let classes: Vec<_> = books.classes(queue).map(|(class, _)| class).collect();
        for class in classes {
            self.take(books, queue, class, Oldest::up_to(to))?;
        }
        Ok(())
    }

    /// Takes single entries out of `queue`; as [`Self::take_up_to`] does.
    pub(super) fn take_each(&mut self, books: &mut Books, queue: QueueId, ids: &[EntryId]) -> Result<()> {
        let classes: Vec<_> = books.classes(queue).collect();
        for (class, held) in classes {
            let mut rest: Vec<_> = ids.iter().copied().filter(|id| (held.first..=held.last).contains(id)).collect();
            rest.sort_unstable();
            while let Some(first) = rest.first().copied() {
                let Some(run) = Run::at(self.connection, queue, class, first)? else { break };
                // What stands before this run stands in none.
                let of_run = rest.partition_point(|id| *id <= run.last);
                let wanted: Vec<_> = rest.drain(..of_run).collect();
                self.split(books, run, |item| wanted.binary_search(&item.id).is_err())?;
            }
        }
        Ok(())
    }

    /// Takes the oldest entries of a class out of `queue`. Returns how many there were, with what their messages count and
    /// the last of them.
    pub(super) fn take(&mut self, books: &mut Books, queue: QueueId, class: u8, oldest: Oldest) -> Result<Held> {
        let Oldest { to, entries, bytes } = oldest;
        let mut gone = Held::default();
        while gone.entries < entries && gone.bytes < bytes {
            let Some(run) = Run::at(self.connection, queue, class, EntryId(0))? else { break };
            if run.items[0].id > to {
                break;
            }
            let mut so_far = gone;
            let stays = |item: &Item| {
                let goes = item.id <= to && so_far.entries < entries && so_far.bytes < bytes;
                if goes {
                    so_far.entries += 1;
                    so_far.bytes += item.size;
                    so_far.last = item.id;
                }
                !goes
            };
            let next = self.split(books, run, stays)?;
            books.begins(queue, class, next);
            gone = so_far;
        }
        Ok(gone)
    }

    /// Drops the oldest `excess` entries of one queue, of the least important class first. Adds to `dropped` what it lost.
    pub(super) fn shorten(
        &mut self,
        books: &mut Books,
        queue: QueueId,
        excess: Held,
        cause: Cause,
        dropped: &mut Dropped,
    ) -> Result<()> {
        let (mut entries, mut bytes) = (excess.entries, excess.bytes);
        let classes: Vec<_> = books.classes(queue).rev().map(|(class, _)| class).collect();
        for class in classes {
            // As many as are needed for both.
            for bound in [(entries, u64::MAX), (u64::MAX, bytes)] {
                let oldest = Oldest { entries: bound.0, bytes: bound.1, ..Oldest::up_to(LAST) };
                let gone = self.take(books, queue, class, oldest)?;
                entries = entries.saturating_sub(gone.entries);
                bytes = bytes.saturating_sub(gone.bytes);
                dropped.note(queue, lost(cause, class, gone));
            }
        }
        Ok(())
    }

    /// Drops the oldest messages, in all queues where they are to give way (`all` says what does where nothing else is
    /// said), of the least important class first, for as long as more than `keep` bytes are held, and that helps. Adds to
    /// `dropped` what each queue lost.
    pub(super) fn drop_oldest(
        &mut self,
        books: &mut Books,
        keep: u64,
        (all, cause): (WhenFull, Cause),
        dropped: &mut Dropped,
    ) -> Result<()> {
        // What a queue holds that gives nothing away stays, whatever others lose.
        let firm = books.queues().filter(|queue| books.when_full(*queue, all) == WhenFull::RefuseNew);
        let stays = firm.map(|queue| books.total(queue).bytes).fold(0, u64::saturating_add);
        // Where that is all there may be, the others have a little beside it, and are bounded all the same.
        let keep = if stays >= keep { stays.saturating_add(keep / 8) } else { keep };
        while books.bytes > keep {
            let before = books.bytes;
            let give_way = |queue: QueueId| books.when_full(queue, all) == WhenFull::DropOldest;
            let least = books.held().filter(|(queue, ..)| give_way(*queue)).map(|(_, class, _)| class).max();
            let Some(class) = least else { return Ok(()) };
            let of_class = books.held().filter(|(queue, of, _)| *of == class && give_way(*queue));
            let queues: Vec<_> = of_class.map(|(queue, _, held)| (held.first, queue)).collect();
            let Some((_, oldest)) = queues.iter().min().copied() else { return Ok(()) };
            let entries = if queues.len() == 1 { u64::MAX } else { SLICE };
            let some = Oldest { entries, bytes: books.bytes - keep, ..Oldest::up_to(LAST) };
            let gone = self.take(books, oldest, class, some)?;
            if gone.entries == 0 {
                return Ok(());
            }
            dropped.note(oldest, lost(cause, class, gone));
            for (_, queue) in queues.into_iter().filter(|(_, queue)| *queue != oldest) {
                let gone = self.take(books, queue, class, Oldest::up_to(gone.last))?;
                dropped.note(queue, lost(cause, class, gone));
            }
            if books.bytes == before {
                // All of these stay for queues that give nothing away: it is those which are full.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Drops all messages up to `last`, in all queues, as too old. Adds to `dropped` what each of them lost.
    pub(super) fn expire(&mut self, books: &mut Books, last: EntryId, dropped: &mut Dropped) -> Result<()> {
        let old = books.held().filter(|(.., held)| held.first <= last);
        let old: Vec<_> = old.map(|(queue, class, _)| (queue, class)).collect();
        for (queue, class) in old {
            let gone = self.take(books, queue, class, Oldest::up_to(last))?;
            // Age spares no class.
            dropped.note(queue, lost(Cause::Age, 0, gone));
        }
        // Those as well that nobody knows of.
        waste::delete(self.connection, 0, last.0)
    }

    /// Deletes the messages that no queue holds any more, `most` of them; the rest later: see [`waste`].
    pub(super) fn finish(&mut self, books: &mut Books, most: u64) -> Result<()> {
        let mut most = most;
        for (first, last) in self.orphans.drain(..) {
            let now = most.min(last - first + 1);
            if now > 0 {
                waste::delete(self.connection, first, first + now - 1)?;
            }
            if first + now <= last {
                waste::add(self.connection, first + now, last)?;
                books.waste = true;
            }
            most -= now;
        }
        if books.waste && most > 0 {
            books.waste = waste::clean(self.connection, most)?;
        }
        Ok(())
    }

    /// Keeps of a run only the items that stay. Returns the first of them, or the id behind the run.
    fn split(&mut self, books: &mut Books, run: Run, mut stays: impl FnMut(&Item) -> bool) -> Result<EntryId> {
        let Run { queue, class, last, items } = run;
        let (stay, go): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| stays(item));
        let next = stay.first().map_or(EntryId(last.0.saturating_add(1)), |item| item.id);
        if !go.is_empty() {
            let rest = Run { queue, class, last, items: stay };
            if rest.items.is_empty() {
                rest.delete(self.connection)?
            } else {
                rest.write(self.connection)?
            }
            books.left(queue, class, Held::of(&go));
            self.orphan(books, queue, &go)?;
        }
        Ok(next)
    }

    /// Entries of `queue` are gone: so are the messages that no other queue holds.
    fn orphan(&mut self, books: &mut Books, queue: QueueId, gone: &[Item]) -> Result<()> {
        let shared: Vec<EntryId> = gone.iter().filter(|item| !item.alone).map(|item| item.id).collect();
        let held = if shared.is_empty() { Vec::new() } else { self.held_elsewhere(books, queue, &shared)? };
        for item in gone {
            if held.binary_search(&item.id).is_ok() {
                continue;
            }
            books.freed(item.size);
            match self.orphans.last_mut() {
                Some((_, last)) if *last + 1 == item.id.0 => *last = item.id.0,
                _ => self.orphans.push((item.id.0, item.id.0)),
            }
        }
        Ok(())
    }

    /// Those of `ids`, which ascend, that other queues than `queue` hold; in order.
    fn held_elsewhere(&self, books: &Books, queue: QueueId, ids: &[EntryId]) -> Result<Vec<EntryId>> {
        let (first, last) = (ids[0], ids[ids.len() - 1]);
        let mut found = Vec::new();
        for (other, class, held) in books.held() {
            if other == queue || held.first > last || held.last < first {
                continue;
            }
            let mut from = first;
            while let Some(run) = Run::at(self.connection, other, class, from)? {
                let among = run.items.iter().map(|item| item.id).filter(|id| ids.binary_search(id).is_ok());
                found.extend(among);
                if run.last >= last {
                    break;
                }
                from = EntryId(run.last.0 + 1);
            }
            if found.len() >= ids.len() {
                found.sort_unstable();
                found.dedup();
                if found.len() == ids.len() {
                    return Ok(found);
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Behind all ids.
const LAST: EntryId = EntryId(u64::MAX);

fn lost(cause: Cause, class: u8, gone: Held) -> Lost {
    Lost { cause, entries: gone.entries, until: gone.last, class }
}

/// The largest id of a message there is.
pub(super) fn largest(c: &Connection) -> Result<Option<i64>> {
    c.prepare_cached("SELECT id FROM message ORDER BY id DESC LIMIT 1")?.query_row([], |row| row.get(0)).optional()
}
