//! What is remembered of the addresses that clients come from: how often they connect, and how often they give a wrong
//! password. A bounded table, and no address delays another.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

/// Addresses remembered at the same time.
const MOST: usize = 4096;
/// What an address did is forgotten after this time without a sign of it.
const FORGET: Duration = Duration::from_secs(600);
/// This many times the rate may come at once: a gateway behind which many clients come back together.
const BURST: f64 = 10.0;
/// Wrong passwords in a row that cost nothing.
const FREE: u32 = 8;
/// The delay after the first one that does; each further doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(8);
/// Who would wait longer for its turn is refused.
const PATIENCE: Duration = Duration::from_secs(10);

/// The table.
#[derive(Debug)]
pub(super) struct Addresses {
    /// New connections a second from one address; 0 for any number.
    rate: u32,
    records: Mutex<HashMap<IpAddr, Record>>,
}

#[derive(Debug)]
struct Record {
    /// When it was last heard of.
    seen: Instant,
    /// Connections that it may make at once, at `seen`.
    tokens: f64,
    /// Wrong passwords in a row.
    failures: u32,
    /// When the next password is looked at.
    next: Instant,
    /// One password at a time: many at once do not get around the delay, nor take the place of other addresses.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Too many wrong passwords have come from this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Addresses {
    pub(super) fn new(rate: u32) -> Self {
        Self { rate, records: Mutex::default() }
    }

    /// Counts a new connection; false when too many have come lately. This machine's own programs come as they like.
    pub(super) fn may_connect(&self, from: IpAddr) -> bool {
        if self.rate == 0 || from.to_canonical().is_loopback() {
            return true;
        }
        let rate = f64::from(self.rate);
        self.with(from, |record, now| {
            let since = now.duration_since(record.seen).as_secs_f64();
            record.tokens = (record.tokens + since * rate).min(rate * BURST);
            let may = record.tokens >= 1.0;
            record.tokens -= if may { 1.0 } else { 0.0 };
            may
        })
    }

    /// Carries out a look at a password, when it is this address's turn. After some wrong ones the turn comes late.
    ///
    /// # Errors
    /// When it would come too late.
    pub(super) async fn look<T, E>(
        &self,
        from: IpAddr,
        look: impl Future<Output = Result<T, E>>,
    ) -> Result<Result<T, E>, TooMany> {
        let until = Instant::now() + PATIENCE;
        let turn = self.with(from, |record, _| record.turn.clone());
        let _turn = timeout_at(until, turn.lock()).await.map_err(|_| TooMany)?;
        let next = self.with(from, |record, _| record.next);
        if next > until {
            return Err(TooMany);
        }
        sleep_until(next).await;
        let found = look.await;
        self.with(from, |record, now| {
            record.failures = if found.is_ok() { 0 } else { record.failures.saturating_add(1) };
            record.next = now + delay(record.failures);
        });
        Ok(found)
    }

    fn with<T>(&self, from: IpAddr, act: impl FnOnce(&mut Record, Instant) -> T) -> T {
        let (now, key) = (Instant::now(), network(from));
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() >= MOST && !records.contains_key(&key) {
            make_room(&mut records, now);
        }
        let record = records.entry(key).or_insert_with(|| Record {
            seen: now,
            tokens: f64::from(self.rate) * BURST,
            failures: 0,
            next: now,
            turn: Arc::default(),
        });
        let result = act(record, now);
        record.seen = now;
        result
    }
}

/// Drops what is long ago; and when that is nothing, the one heard of least lately.
fn make_room(records: &mut HashMap<IpAddr, Record>, now: Instant) {
    records.retain(|_, record| now.duration_since(record.seen) < FORGET);
    if records.len() >= MOST
        && let Some(oldest) = records.iter().min_by_key(|(_, record)| record.seen).map(|(key, _)| *key)
    {
        records.remove(&oldest);
    }
}

fn delay(failures: u32) -> Duration {
    match failures.checked_sub(FREE) {
        None | Some(0) => Duration::ZERO,
        Some(more) => FIRST_DELAY.saturating_mul(1 << (more - 1).min(10)).min(LONGEST_DELAY),
    }
}

/// What counts as one address: with IPv6 the /64, all of which one machine may have.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    async fn wrong(addresses: &Addresses, from: &str) -> Result<Duration, TooMany> {
        let start = Instant::now();
        addresses.look(ip(from), async { Err::<(), ()>(()) }).await.map(|_| start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_passwords_delay_their_address_more_and_more_and_no_other() {
        let addresses = Addresses::new(0);
        for _ in 0..=FREE {
            assert_eq!(wrong(&addresses, "2001:db8::1").await, Ok(Duration::ZERO));
        }
        for millis in [500, 1000, 2000, 4000, 8000, 8000] {
            let took = wrong(&addresses, "2001:db8::2:1").await.unwrap();
            assert_eq!(took.as_millis(), millis, "the whole /64 is one");
        }
        for other in ["2001:db8:0:1::1", "127.0.0.1"] {
            assert_eq!(wrong(&addresses, other).await, Ok(Duration::ZERO));
        }
        // The right one is let in, in its turn, and all is well again.
        let start = Instant::now();
        assert_eq!(addresses.look(ip("2001:db8::1"), async { Ok::<_, ()>(7) }).await, Ok(Ok(7)));
        assert_eq!(start.elapsed(), Duration::from_secs(8));
        assert_eq!(wrong(&addresses, "2001:db8::1").await, Ok(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_once_do_not_get_around_it() {
        let addresses = Arc::new(Addresses::new(0));
        let tries: Vec<_> = (0..100)
            .map(|_| {
                let addresses = addresses.clone();
                tokio::spawn(async move { wrong(&addresses, "192.0.2.1").await })
            })
            .collect();
        let mut looked = 0;
        for one in tries {
            looked += u32::from(one.await.unwrap().is_ok());
        }
        assert_eq!(looked, FREE + 1 + 4, "those that came in time: after 0.5, 1.5, 3.5 and 7.5 s");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_may_connect_so_often() {
        let addresses = Addresses::new(5);
        let tries = |from: &str| (0..100).filter(|_| addresses.may_connect(ip(from))).count();
        assert_eq!(tries("192.0.2.1"), 50);
        assert_eq!(tries("::ffff:192.0.2.1"), 0, "the same");
        assert_eq!(tries("192.0.2.2"), 50);
        assert_eq!(tries("127.0.0.1"), 100);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(tries("192.0.2.1"), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded() {
        let addresses = Addresses::new(1);
        for n in 0..10_000_u32 {
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(addresses.may_connect(IpAddr::V4(0x0A00_0000_u32.wrapping_add(n).into())));
        }
        assert_eq!(addresses.records.lock().unwrap().len(), MOST);
    }
}
