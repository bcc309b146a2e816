//! The room of those who have connected and are not in yet: they have not said CONNECT, or their password is still to be
//! looked at. It is small. When it is full, whoever comes takes the place of the one who has been in it longest, of those
//! from the address that has the most places: so neither silent sockets nor one address keep anybody out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::addresses::network;

/// The room.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    most: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    places: usize,
    /// By address, and of each by the order in which they came.
    waiting: HashMap<IpAddr, BTreeMap<u64, CancellationToken>>,
}

/// A place in the room; dropping it leaves the room.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<WaitingRoom>,
    from: IpAddr,
    number: u64,
    lost: CancellationToken,
}

impl WaitingRoom {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), inside: Mutex::default() })
    }

    /// Goes in.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr) -> Place {
        let from = network(from);
        let mut inside = self.lock();
        while inside.places >= self.most {
            let heaviest = inside
                .waiting
                .iter()
                .max_by_key(|(_, places)| (places.len(), Reverse(places.first_key_value().map(|(number, _)| *number))));
            let oldest = heaviest.and_then(|(from, places)| Some((*from, *places.first_key_value()?.0)));
            let Some((from, number)) = oldest else { break };
            if let Some(lost) = inside.remove(from, number) {
                lost.cancel();
            }
        }
        let (number, lost) = (inside.next, CancellationToken::new());
        inside.next += 1;
        inside.places += 1;
        inside.waiting.entry(from).or_default().insert(number, lost.clone());
        Place { room: self.clone(), from, number, lost }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn remove(&mut self, from: IpAddr, number: u64) -> Option<CancellationToken> {
        let places = self.waiting.get_mut(&from)?;
        let found = places.remove(&number)?;
        if places.is_empty() {
            self.waiting.remove(&from);
        }
        self.places -= 1;
        Some(found)
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
        self.room.lock().remove(self.from, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_oldest_makes_place() {
        let room = WaitingRoom::new(2);
        let enter = || room.enter(ip("192.0.2.1"));
        let (one, two) = (enter(), enter());
        drop(two);
        let three = enter();
        assert!(!one.lost.is_cancelled());
        let four = enter();
        assert!(one.lost.is_cancelled() && !three.lost.is_cancelled() && !four.lost.is_cancelled());
        drop((one, three, four));
        let inside = room.inside.lock().unwrap();
        assert!(inside.waiting.is_empty() && inside.places == 0);
    }

    #[test]
    fn an_address_takes_no_place_from_one_that_has_fewer() {
        let room = WaitingRoom::new(3);
        let slow = room.enter(ip("192.0.2.1"));
        let first = room.enter(ip("2001:db8::1"));
        let flood: Vec<_> = (2..100).map(|n| room.enter(ip(&format!("2001:db8::{n}")))).collect();
        assert!(!slow.lost.is_cancelled() && first.lost.is_cancelled());
        assert_eq!(flood.iter().filter(|place| !place.lost.is_cancelled()).count(), 2);
        let other = room.enter(ip("192.0.2.2"));
        assert!(!slow.lost.is_cancelled() && !other.lost.is_cancelled());
    }
}
