//! The room of those who have connected and not said CONNECT yet. It is small; whoever has been in it longest makes
//! place for one who comes, so that silent sockets keep nobody out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// The room.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    most: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    /// By the order in which they came.
    waiting: BTreeMap<u64, CancellationToken>,
}

/// A place in the room; dropping it leaves the room.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<WaitingRoom>,
    number: u64,
    lost: CancellationToken,
}

impl WaitingRoom {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), inside: Mutex::default() })
    }

    /// Goes in; the one who has waited longest goes out when the room is full.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        while inside.waiting.len() >= self.most {
            if let Some((_, oldest)) = inside.waiting.pop_first() {
                oldest.cancel();
            }
        }
        let (number, lost) = (inside.next, CancellationToken::new());
        inside.next += 1;
        inside.waiting.insert(number, lost.clone());
        Place { room: self.clone(), number, lost }
    }
}

impl Place {
    /// Waits until this place was given to another.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.inside.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_place() {
        let room = WaitingRoom::new(2);
        let (one, two) = (room.enter(), room.enter());
        drop(two);
        let three = room.enter();
        assert!(!one.lost.is_cancelled());
        let four = room.enter();
        assert!(one.lost.is_cancelled() && !three.lost.is_cancelled() && !four.lost.is_cancelled());
        drop((one, three, four));
        assert!(room.inside.lock().unwrap().waiting.is_empty());
    }
}
