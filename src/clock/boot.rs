//! Which start of the computer this is.

use std::fmt;
use std::path::Path;

/// Where Linux tells it.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// One start of the computer: the kernel's random id of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Boot(String);

impl Boot {
    /// The start since which this program can have been running.
    pub fn current() -> Self {
        Self::read(Path::new(BOOT_ID))
    }

    /// Without an id nothing is known to have been in this start: it is like no other.
    fn read(file: &Path) -> Self {
        match std::fs::read_to_string(file) {
            Ok(id) if !id.trim().is_empty() => Self(id.trim().to_owned()),
            _ => Self(format!("unknown-{:032x}", fastrand::u128(..))),
        }
    }
}

/// What [`Boot`] shows.
impl From<String> for Boot {
    fn from(id: String) -> Self {
        Self(id)
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_start_has_one_id_and_without_one_none_is_like_another() {
        assert_eq!(Boot::current(), Boot::current());
        let nowhere = Path::new("/nowhere/boot_id");
        assert_ne!(Boot::read(nowhere), Boot::read(nowhere));
    }
}
