//! Topic names and filters: which are valid, and which match (MQTT 5.0, section 4.7). Pure.

use std::fmt;

/// Levels of a topic at most: far more than anybody names, and few enough to walk down one by one.
const MAX_LEVELS: usize = 200;

/// Whether a name has more levels than may be published on here. Cheap, for who asks for every message.
pub fn is_too_deep(name: &str) -> bool {
    name.len() >= MAX_LEVELS && name.bytes().filter(|byte| *byte == b'/').count() >= MAX_LEVELS
}

/// Why a text is no topic name or filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    Empty,
    TooLong,
    TooDeep,
    Nul,
    WildcardInName,
    HashNotLast,
    WildcardNotAlone,
    ShareName,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Invalid::Empty => "it is empty",
            Invalid::TooLong => "it is longer than 65535 bytes",
            Invalid::TooDeep => "it has more than 200 levels",
            Invalid::Nul => "it contains the NUL character",
            Invalid::WildcardInName => "a topic name cannot contain the wildcards `+` and `#`",
            Invalid::HashNotLast => "`#` can only be the last level",
            Invalid::WildcardNotAlone => "a wildcard must be a whole level, as in `a/+/b` or `a/#`",
            Invalid::ShareName => "a shared filter is `$share/NAME/FILTER`, and NAME has no wildcard",
        })
    }
}

impl std::error::Error for Invalid {}

/// Checks a topic name: what a message may be published on.
///
/// # Errors
/// When it is empty, too long, has too many levels, or contains NUL or a wildcard.
pub fn check_name(name: &str) -> Result<(), Invalid> {
    check_text(name)?;
    if name.contains(['+', '#']) { Err(Invalid::WildcardInName) } else { Ok(()) }
}

/// Checks a topic filter: what can be subscribed to, `$share/…` included.
///
/// # Errors
/// When it is empty, too long, has too many levels, contains NUL, or has a wildcard in a wrong place.
pub fn check_filter(filter: &str) -> Result<(), Invalid> {
    check_text(filter)?;
    let filter = match (filter.starts_with("$share/"), split_share(filter)) {
        (_, Some((name, filter))) if !name.is_empty() && !name.contains(['+', '#']) && !filter.is_empty() => filter,
        (true, _) => return Err(Invalid::ShareName),
        (false, _) => filter,
    };
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level == "#" && levels.peek().is_some() {
            return Err(Invalid::HashNotLast);
        }
        if level.len() > 1 && level.contains(['+', '#']) {
            return Err(Invalid::WildcardNotAlone);
        }
    }
    Ok(())
}

/// The name and the filter within a shared filter, `$share/NAME/FILTER` (MQTT 5.0, 4.8.2); `None` for any other.
pub fn split_share(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix("$share/")?.split_once('/')
}

/// What a filter matches by: itself, or what stands within a shared one.
pub fn unshared(filter: &str) -> &str {
    split_share(filter).map_or(filter, |(_, filter)| filter)
}

/// Whether a message on `name` is wanted by `filter` (both valid; no `$share/`).
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filter, mut name) = (filter.split('/'), name.split('/'));
    loop {
        match (filter.next(), name.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// Whether every name that `narrow` matches is matched by `wide` as well (both valid; no `$share/`).
pub fn covers(wide: &str, narrow: &str) -> bool {
    if narrow.starts_with('$') && wide.starts_with(['+', '#']) {
        return false;
    }
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(wide), Some(narrow)) if wide == narrow => {}
            _ => return false,
        }
    }
}

/// Whether there is a name that both filters match (both valid; no `$share/`).
pub fn overlap(one: &str, other: &str) -> bool {
    let is_wild = |filter: &str| filter.starts_with(['+', '#']);
    if one.starts_with('$') && is_wild(other) || other.starts_with('$') && is_wild(one) {
        return false;
    }
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

fn check_text(text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        Err(Invalid::Empty)
    } else if text.len() > usize::from(u16::MAX) {
        Err(Invalid::TooLong)
    } else if is_too_deep(text) {
        Err(Invalid::TooDeep)
    } else if text.contains('\0') {
        Err(Invalid::Nul)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_the_specification_says() {
        let yes = [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("#", "a/b"),
            ("+", "a"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("sport/+", "sport/"),
            ("$SYS/#", "$SYS/x"),
            ("$SYS/+", "$SYS/x"),
            ("a//b", "a//b"),
        ];
        let no = [
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/x"),
            ("+/x", "$SYS/x"),
            ("a/b", "a/b/c"),
            ("a/b/c", "a/b"),
            ("A", "a"),
        ];
        for (filter, name) in yes {
            assert!(matches(filter, name), "{filter} {name}");
        }
        for (filter, name) in no {
            assert!(!matches(filter, name), "{filter} {name}");
        }
    }

    #[test]
    fn knows_which_filters_cover_and_overlap() {
        for (wide, narrow) in [("#", "a/+"), ("a/#", "a"), ("a/#", "a/+/#"), ("+/b", "a/b"), ("+/+", "+/b"), ("a", "a")]
        {
            assert!(covers(wide, narrow) && overlap(wide, narrow) && overlap(narrow, wide), "{wide} {narrow}");
        }
        for (one, other) in [("a/+", "+/b"), ("a/+/x", "a/#"), ("+/x", "#"), ("a/#", "+/b/c"), ("a/#", "+")] {
            assert!(!covers(one, other) && overlap(one, other) && overlap(other, one), "{one} {other}");
        }
        for (one, other) in
            [("a", "b"), ("a/+", "a"), ("a/b/#", "+/c"), ("#", "$SYS/#"), ("+/x", "$SYS/x"), ("/a", "a")]
        {
            assert!(!covers(one, other) && !overlap(one, other) && !overlap(other, one), "{one} {other}");
        }
    }

    #[test]
    fn checks_names_and_filters() {
        assert_eq!(check_name("a/b"), Ok(()));
        assert_eq!(check_name("a/+"), Err(Invalid::WildcardInName));
        assert_eq!(check_name(""), Err(Invalid::Empty));
        assert_eq!(check_name("a\0b"), Err(Invalid::Nul));
        assert_eq!(check_name(&"/".repeat(199)), Ok(()));
        assert_eq!(check_name(&"/".repeat(200)), Err(Invalid::TooDeep));
        assert_eq!(check_filter(&"+/".repeat(200)), Err(Invalid::TooDeep));
        for good in ["#", "+", "+/tennis/#", "/", "a/+/b", "$share/g/a/#", "$SYS/#"] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        for bad in ["", "a/#/b", "a#", "a+/b", "#/a", "$share/g", "$share//a", "$share/+/a", "$share/g/"] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }
}
