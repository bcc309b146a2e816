//! Payloads of this gateway's own making that tell a time: JSON objects with a `t` that is not their first field, and
//! with a mark while the clock was not to be trusted. Pure.

use bytes::Bytes;

use crate::clock::Timestamp;

/// The mark, behind another field: the time is by a clock that nobody had set.
pub const UNSYNCED: &str = r#","clock":"unsynced""#;

/// What stands before the time. Within a JSON text no quotation mark stands without a backslash before it.
const BEFORE: &[u8] = br#","t":""#;

/// How many bytes a time has: `2026-11-20T10:00:00.123Z`.
const TIME: usize = 24;

/// The same payload `millis` later and without the mark; none when it has no time.
pub(super) fn moved(payload: &[u8], millis: i64) -> Option<Bytes> {
    let at = find(payload, BEFORE)? + BEFORE.len();
    let told = std::str::from_utf8(payload.get(at..at + TIME)?).ok()?;
    let time = Timestamp::parse(told)?.plus(millis).to_string();
    let rest = &payload[at + TIME..];
    let mark = UNSYNCED.as_bytes();
    let (before, behind) = match find(rest, mark) {
        Some(mark_at) => (&rest[..mark_at], &rest[mark_at + mark.len()..]),
        None => (rest, &[][..]),
    };
    Some([&payload[..at], time.as_bytes(), before, behind].concat().into())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(payload: &str, millis: i64) -> Option<String> {
        moved(payload.as_bytes(), millis).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn the_time_moves_and_the_mark_goes() {
        let was = r#"{"v":1,"t":"1970-01-01T00:01:40.250Z","q":"good","clock":"unsynced"}"#;
        let is = r#"{"v":1,"t":"2026-11-20T10:00:00.250Z","q":"good"}"#;
        assert_eq!(later(was, 1_795_168_800_000 - 100_000).as_deref(), Some(is));
        let result = r#"{"ok":true,"v":80,"t":"2026-11-20T10:00:00.250Z","clock":"unsynced"}"#;
        let earlier = r#"{"ok":true,"v":80,"t":"2026-11-20T09:00:00.250Z"}"#;
        assert_eq!(later(result, -3_600_000).as_deref(), Some(earlier));
    }

    #[test]
    fn a_value_that_looks_like_a_time_or_a_mark_stays() {
        let text = serde_json::to_string(r#"a","t":"1999-01-01T00:00:00.000Z","clock":"unsynced""#).unwrap();
        let payload = |time| format!(r#"{{"v":{text},"t":"{time}","q":"good"}}"#);
        let moved = later(&payload("2026-11-20T10:00:00.000Z"), 1);
        assert_eq!(moved, Some(payload("2026-11-20T10:00:00.001Z")));
    }

    #[test]
    fn what_tells_no_time_is_left_alone() {
        for payload in ["", "231.4", r#"{"v":1}"#, r#"{"v":1,"t":"now"}"#, r#"{"v":1,"t":"2026-11-20T10:00:00.25"#] {
            assert_eq!(later(payload, 1), None, "{payload}");
        }
    }
}
