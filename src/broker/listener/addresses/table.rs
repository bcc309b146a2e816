//! A table that forgets: what was not asked for lately, and more than it may hold.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Rows at the same time.
pub(super) const MOST: usize = 4096;
/// A row is forgotten when nobody asked for it in this time.
const FORGET: Duration = Duration::from_secs(600);

/// The table; each row with the time at which it was last asked for.
#[derive(Debug)]
pub(super) struct Table<K, V>(HashMap<K, (Instant, V)>);

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash, V> Table<K, V> {
    /// The row of `key`, made when there is none.
    pub(super) fn get(&mut self, key: K, now: Instant, make: impl FnOnce() -> V) -> &mut V {
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            self.make_room(now);
        }
        let (seen, row) = self.0.entry(key).or_insert_with(|| (now, make()));
        *seen = now;
        row
    }

    /// Drops what is long ago; and when that is nothing, the one asked for least lately.
    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, (seen, _)| now.duration_since(*seen) < FORGET);
        if self.0.len() >= MOST
            && let Some(oldest) = self.0.iter().min_by_key(|(_, (seen, _))| *seen).map(|(key, _)| *key)
        {
            self.0.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_bounded_and_keeps_what_is_in_use() {
        let mut table = Table::default();
        for n in 0..10_000_u32 {
            tokio::time::advance(Duration::from_millis(1)).await;
            *table.get(n, Instant::now(), || 0) += 1;
            *table.get(0, Instant::now(), || 0) += 1;
        }
        assert_eq!((table.0.len(), table.0[&0].1), (MOST, 10_001));
        tokio::time::advance(FORGET).await;
        table.get(1, Instant::now(), || 0);
        assert_eq!(table.0.len(), 1);
    }
}
