//! As what we log in at a cloud of MQTT 3.1.1: as a bridge, which is sent back nothing of its own, or as a plain client. Pure.
//!
//! A cloud that knows no bridges says so, or only hangs up. A connection that breaks looks like the latter, and a plain login
//! has its price: what would come back may not go up. So only an address that hangs up again and again, and at once, is
//! asked as a plain client; and the connection after that begins as a bridge again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::address::Address;

/// So many times in a row an address has to hang up.
const MOST: u32 = 3;

/// What each address made of us.
#[derive(Debug, Default)]
pub(super) struct Guises(Mutex<HashMap<Address, Known>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It has said that it knows no bridges.
    Refuses,
    /// So many times in a row it has hung up on a bridge.
    HungUp(u32),
}

impl Guises {
    /// Whether this address is told that we are a bridge.
    pub(super) fn is_bridge(&self, address: &Address) -> bool {
        !matches!(self.all().get(address), Some(Known::Refuses | Known::HungUp(MOST..)))
    }

    /// It knows no bridges, and said so.
    pub(super) fn refused(&self, address: &Address) {
        self.all().insert(address.clone(), Known::Refuses);
    }

    /// It hung up on our login, at once and without a word.
    pub(super) fn hung_up(&self, address: &Address) {
        let mut all = self.all();
        match all.entry(address.clone()).or_insert(Known::HungUp(0)) {
            Known::Refuses => {}
            // Plain or not is all the same to it.
            Known::HungUp(times @ MOST..) => *times = 0,
            Known::HungUp(times) => *times += 1,
        }
    }

    /// It answered, or could not be asked: it did not hang up.
    pub(super) fn did_not_hang_up(&self, address: &Address) {
        let mut all = self.all();
        if let Some(Known::HungUp(_)) = all.get(address) {
            all.remove(address);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Address, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Address {
        url.parse().expect("valid")
    }

    #[test]
    fn only_closes_in_a_row_at_one_address_make_us_plain_and_for_one_login() {
        let (guises, a, b) = (Guises::default(), address("mqtt://a"), address("mqtt://b"));
        for _ in 0..MOST - 1 {
            guises.hung_up(&a);
            guises.hung_up(&b);
            assert!(guises.is_bridge(&a) && guises.is_bridge(&b));
        }
        guises.did_not_hang_up(&b);
        guises.hung_up(&a);
        guises.hung_up(&b);
        assert!(!guises.is_bridge(&a) && guises.is_bridge(&b));
        // In, as a plain client; or hung up on as well.
        guises.did_not_hang_up(&a);
        assert!(guises.is_bridge(&a));
        (0..=MOST).for_each(|_| guises.hung_up(&a));
        assert!(guises.is_bridge(&a));
    }

    #[test]
    fn an_address_that_says_so_is_believed_for_ever() {
        let (guises, a, b) = (Guises::default(), address("mqtt://a"), address("mqtt://b"));
        guises.refused(&a);
        guises.did_not_hang_up(&a);
        guises.hung_up(&a);
        assert!(!guises.is_bridge(&a) && guises.is_bridge(&b));
    }
}
