//! What is remembered of the addresses that clients come from: how often they connect, and which users' passwords they
//! got wrong. Bounded tables; no address delays another, and no user's wrong passwords another user's right one.

mod table;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};

use table::Table;

/// This many times the rate may come at once: a gateway behind which many clients come back together.
const BURST: f64 = 10.0;
/// Wrong passwords in a row for one user that cost nothing.
const FREE: u32 = 8;
/// The delay after the first one that does; each further doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(8);
/// Wrong passwords from one address, for whichever users, that cost nothing; and how long it takes until there is one
/// more of these.
const FREE_IN_ALL: f64 = 64.0;
const ONE_MORE: Duration = Duration::from_secs(2);
/// Who would wait longer for its turn is refused.
const PATIENCE: Duration = Duration::from_secs(10);
/// Logins of one address that may wait at the same time.
const MOST_WAITING: u32 = 64;
/// Passwords looked at, at the same time: that is slow on purpose, and the rest must go on.
const LOOKS: usize = 2;

/// The tables.
#[derive(Debug)]
pub(super) struct Addresses {
    /// New connections a second from one address; 0 for any number.
    rate: u32,
    tables: Mutex<Tables>,
    hasher: RandomState,
    looks: Semaphore,
}

#[derive(Debug, Default)]
struct Tables {
    networks: Table<IpAddr, Network>,
    users: Table<UserThere, Tries>,
}

/// One address.
#[derive(Debug)]
struct Network {
    /// Connections that it may make at once, and when that was so.
    tokens: f64,
    refilled: Instant,
    /// Wrong passwords that cost nothing, and when that was so.
    free: f64,
    freed: Instant,
    /// Logins that wait.
    waiting: u32,
    /// One password at a time: many at once do not take the place of other addresses.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A user, by a hash of the name, at an address.
type UserThere = (IpAddr, u64);

/// What a user has tried.
#[derive(Debug)]
struct Tries {
    /// Wrong passwords in a row.
    failures: u32,
    /// When the next password is looked at.
    next: Instant,
    /// The right one was among them: what others at the address do wrong does not delay this user.
    is_known: bool,
    /// One password at a time: many at once do not get around the delay.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Why a password was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unseen {
    /// Too many wrong ones have come for this user, or for many, from this address.
    TooManyWrong,
    /// Too many logins wait.
    Busy,
}

impl Addresses {
    pub(super) fn new(rate: u32) -> Self {
        Self { rate, tables: Mutex::default(), hasher: RandomState::new(), looks: Semaphore::new(LOOKS) }
    }

    /// Counts a new connection; false when too many have come lately. This machine's own programs come as they like.
    pub(super) fn may_connect(&self, from: IpAddr) -> bool {
        if self.rate == 0 || from.to_canonical().is_loopback() {
            return true;
        }
        let rate = f64::from(self.rate);
        self.network(network(from), |network, now| {
            let since = now.duration_since(network.refilled).as_secs_f64();
            network.tokens = (network.tokens + since * rate).min(rate * BURST);
            network.refilled = now;
            let may = network.tokens >= 1.0;
            network.tokens -= if may { 1.0 } else { 0.0 };
            may
        })
    }

    /// Carries out a look at a password of `user`, when it is its turn. After some wrong ones for this user, or many for
    /// any, the turn comes late.
    ///
    /// # Errors
    /// When it would come too late, or too many wait already.
    pub(super) async fn look<T, E>(
        &self,
        from: IpAddr,
        user: &str,
        look: impl Future<Output = Result<T, E>>,
    ) -> Result<Result<T, E>, Unseen> {
        let until = Instant::now() + PATIENCE;
        let from = network(from);
        let user = (from, self.hasher.hash_one(user));
        let _waiting = self.wait(from)?;
        let turn = self.user(user, |tries, _| tries.turn.clone());
        let Ok(_turn) = timeout_at(until, turn.lock()).await else {
            let failed = self.user(user, |tries, _| tries.failures >= FREE);
            return Err(if failed { Unseen::TooManyWrong } else { Unseen::Busy });
        };
        sleep_until(within(until, self.user(user, |tries, _| tries.next))?).await;
        let turn = self.network(from, |network, _| network.turn.clone());
        let _turn = loop {
            let turn = timeout_at(until, turn.lock()).await.map_err(|_| Unseen::Busy)?;
            let is_known = self.user(user, |tries, _| tries.is_known);
            match self.network(from, Network::free_at).filter(|_| !is_known) {
                None => break turn,
                // Others at this address go on meanwhile.
                Some(at) => {
                    drop(turn);
                    sleep_until(within(until, at)?).await;
                }
            }
        };
        let _look = timeout_at(until, self.looks.acquire()).await.map_err(|_| Unseen::Busy)?;
        let found = look.await;
        self.user(user, |tries, now| {
            tries.is_known |= found.is_ok();
            tries.failures = if found.is_ok() { 0 } else { tries.failures.saturating_add(1) };
            tries.next = now + delay(tries.failures);
        });
        if found.is_err() {
            self.network(from, |network, _| network.free = (network.free - 1.0).max(0.0));
        }
        Ok(found)
    }

    /// Takes one of the places of those who wait.
    fn wait(&self, from: IpAddr) -> Result<Waiting<'_>, Unseen> {
        self.network(from, |network, _| {
            if network.waiting >= MOST_WAITING {
                return Err(Unseen::Busy);
            }
            network.waiting += 1;
            Ok(Waiting { addresses: self, from })
        })
    }

    fn network<T>(&self, from: IpAddr, act: impl FnOnce(&mut Network, Instant) -> T) -> T {
        let (now, rate) = (Instant::now(), f64::from(self.rate));
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let network = tables.networks.get(from, now, || Network {
            tokens: rate * BURST,
            refilled: now,
            free: FREE_IN_ALL,
            freed: now,
            waiting: 0,
            turn: Arc::default(),
        });
        act(network, now)
    }

    fn user<T>(&self, user: UserThere, act: impl FnOnce(&mut Tries, Instant) -> T) -> T {
        let now = Instant::now();
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Tries { failures: 0, next: now, is_known: false, turn: Arc::default() };
        act(tables.users.get(user, now, new), now)
    }
}

impl Network {
    /// When a password of any user may be looked at; none for now.
    fn free_at(&mut self, now: Instant) -> Option<Instant> {
        let since = now.duration_since(self.freed).as_secs_f64();
        self.free = (self.free + since / ONE_MORE.as_secs_f64()).min(FREE_IN_ALL);
        self.freed = now;
        // A little more, or the sum of fractions would not be 1 then.
        let missing = ONE_MORE.mul_f64((1.0 - self.free).max(0.0)) + Duration::from_millis(1);
        (self.free < 1.0).then(|| now + missing)
    }
}

/// A login that waits.
struct Waiting<'a> {
    addresses: &'a Addresses,
    from: IpAddr,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // The record may have made room for others, and be a new one.
        self.addresses.network(self.from, |network, _| network.waiting = network.waiting.saturating_sub(1));
    }
}

fn within(until: Instant, at: Instant) -> Result<Instant, Unseen> {
    if at > until { Err(Unseen::TooManyWrong) } else { Ok(at) }
}

fn delay(failures: u32) -> Duration {
    match failures.checked_sub(FREE) {
        None | Some(0) => Duration::ZERO,
        Some(more) => FIRST_DELAY.saturating_mul(1 << (more - 1).min(10)).min(LONGEST_DELAY),
    }
}

/// What counts as one address: with IPv6 the /64, all of which one machine may have.
pub(super) fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests;
