//! `[store]`: where the database is, what it may hold, and what gives way.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::class;
use crate::units::{Period, Size};

/// `[store]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The database file; `:memory:` keeps nothing.
    pub path: PathBuf,
    /// The bound on the bytes of all messages kept.
    pub max_size: Size,
    /// The bound on their age.
    pub max_age: Period,
    /// The bound on the messages kept for one client; the uplinks have none of their own.
    pub max_per_client: u64,
    /// What gives way when `max-size` is reached.
    pub when_full: WhenFull,
    /// How much of the disk stays free: with less, the database does not grow. Of a small disk a quarter at most.
    pub reserve: Size,
    /// The window: how long an entry may wait in RAM for its acknowledgement before it is written.
    pub commit: Commit,
    /// Which messages outlive others when something has to give way, the most important first.
    #[serde(rename = "class")]
    pub classes: Vec<class::Rule>,
    /// What holds for the queues of some sessions instead, by client id.
    #[serde(skip)]
    pub queues: Vec<(Arc<str>, QueueBound)>,
}

/// What holds for one queue, where it is not what holds for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueBound {
    /// The bytes of its messages; only the store's own bound without it.
    pub max_size: Option<Size>,
    /// What gives way when it, or the store, is full.
    pub when_full: Option<WhenFull>,
}

/// What gives way when the store is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The oldest messages.
    DropOldest,
    /// The newest: they are refused, and their publishers are told.
    RefuseNew,
}

/// The commit window: `"250ms"`; or `"strict"`, which leaves a message in RAM for no longer than a disk needs anyhow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit(pub Duration);

impl Commit {
    /// What `"strict"` means.
    pub const STRICT: Self = Self(Duration::from_millis(20));
}

impl<'de> Deserialize<'de> for Commit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "strict" {
            return Ok(Self::STRICT);
        }
        let window: Period = text.parse().map_err(|e| D::Error::custom(format!("{e}; or \"strict\"")))?;
        Ok(Self(window.0))
    }
}

impl Config {
    /// Whether it keeps nothing: see [`Config::path`].
    pub fn in_memory(&self) -> bool {
        self.path.as_os_str() == ":memory:"
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: "/var/lib/fieldpost/store.db".into(),
            max_size: Size(512 << 20),
            max_age: Period(Duration::from_secs(30 * 24 * 3600)),
            max_per_client: 100_000,
            when_full: WhenFull::DropOldest,
            reserve: Size(64 << 20),
            commit: Commit(Duration::from_millis(250)),
            classes: Vec::new(),
            queues: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_time_or_strict() {
        let read = |text: &str| toml::from_str::<Config>(text).map_err(|e| e.message().to_owned());
        assert_eq!(read("commit = \"1s\"").expect("a time").commit, Commit(Duration::from_secs(1)));
        assert_eq!(read("commit = \"strict\"").expect("strict").commit, Commit(Duration::from_millis(20)));
        assert!(read("commit = \"lax\"").expect_err("neither").ends_with("or \"strict\""));
    }
}
