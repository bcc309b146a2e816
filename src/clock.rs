//! Wall time, as readings and messages carry it, and how far it is to be trusted.
//!
//! Schedules never look here: they use tokio's monotonic time, so that a step of the wall clock disturbs nothing. What has
//! to be compared over a restart is a [`Moment`]: the wall clock's time, and how long the computer had been running.
//!
//! A computer without a clock battery starts with a wrong time. [`trust`] is the rule by which the wall clock is believed
//! (pure), [`kernel`] and [`battery`] what it goes by, [`observer`] the task that looks, [`boot`] from one start of the
//! computer to the next.

pub mod moment;
pub mod boot;
pub mod trust;
pub mod observer;
mod kernel;
mod battery;

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use moment::{Moment, Uptime};

/// A clock that shows less is wrong: this version was not there yet. A test holds it to the version.
pub const RELEASED: (&str, Timestamp) = ("0.1.0", Timestamp(1_793_491_200_000)); // 2026-11-01

/// A moment of wall time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The wall clock's time now.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Reads what [`Timestamp`] shows; none when it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let since = humantime::parse_rfc3339(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok().map(Self)
    }

    /// So much later; earlier when it is negative.
    #[must_use]
    pub fn plus(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// How long before `later` this was; zero when it was not.
    pub fn age_at(self, later: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-11-20T10:00:00.123Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Later than the year 9999 is no time a clock shows; RFC 3339 ends there as well.
        let millis = u64::try_from(self.0).unwrap_or(0).min(253_402_300_799_999);
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        humantime::format_rfc3339_millis(time).fmt(f)
    }
}

/// RFC 3339 in UTC; the part of a second, and the `Z`, may be missing.
impl FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = humantime::parse_rfc3339_weak(text)
            .map_err(|_| format!("`{text}` is no time such as 2026-11-20T10:00:00Z"))?;
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_shows() {
        let at = Timestamp(1_763_632_800_123);
        assert_eq!(Timestamp::parse(&at.to_string()), Some(at));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn each_version_has_its_date() {
        assert_eq!(RELEASED.0, env!("CARGO_PKG_VERSION"), "a new version: set the date as well");
        assert_eq!(RELEASED.1.to_string(), "2026-11-01T00:00:00.000Z");
        assert!(RELEASED.1 <= Timestamp::now(), "not in the future");
    }

    #[test]
    fn shows_rfc3339_with_milliseconds() {
        assert_eq!(Timestamp(1_763_632_800_123).to_string(), "2025-11-20T10:00:00.123Z");
        assert_eq!("2025-11-20T10:00:00.123Z".parse(), Ok(Timestamp(1_763_632_800_123)));
        assert_eq!("2025-11-20 10:00:00".parse(), Ok(Timestamp(1_763_632_800_000)));
        assert_eq!(Timestamp(-5).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(i64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }
}
