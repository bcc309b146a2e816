//! What a reading looks like on its topic.

use std::io::Write;

use bytes::Bytes;
use serde::Deserialize;

use crate::clock::Moment;
use crate::message::timed;
use crate::reading::{Quality, Reading};

/// How a reading is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `{"v":231.4,"t":"2026-11-20T10:00:00.123Z","q":"good"}`: value, time of reading, quality; and when that is not
    /// good, the reason as `"e"`; and `"clock":"unsynced"` while nobody has set the clock by which the time is.
    #[default]
    Json,
    /// The bare value: `231.4`, `true`, `text`; `null` for none.
    Value,
}

impl Format {
    /// The payload for `reading`, as it is published `now`.
    pub fn payload(self, reading: &Reading, now: Moment) -> Bytes {
        let mut payload = Vec::with_capacity(64);
        match self {
            Format::Value => write!(payload, "{}", reading.value),
            Format::Json => json(&mut payload, reading, now),
        }
        .expect("writing to memory does not fail");
        payload.into()
    }

    /// Whether it tells a time: see [`timed`].
    pub fn is_timed(self) -> bool {
        self == Format::Json
    }
}

fn json(out: &mut Vec<u8>, reading: &Reading, now: Moment) -> std::io::Result<()> {
    out.write_all(br#"{"v":"#)?;
    serde_json::to_writer(&mut *out, &reading.value)?;
    let quality = match reading.quality {
        Quality::Good => "good",
        Quality::Stale => "stale",
        Quality::Bad => "bad",
    };
    write!(out, r#","t":"{}","q":"{quality}""#, reading.at.corrected(now).wall)?;
    if let (Quality::Stale | Quality::Bad, Some(fault)) = (reading.quality, &reading.fault) {
        out.write_all(br#","e":"#)?;
        serde_json::to_writer(&mut *out, &fault.to_string())?;
    }
    if !now.trusted {
        out.write_all(timed::UNSYNCED.as_bytes())?;
    }
    out.write_all(b"}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Timestamp, Uptime};
    use crate::reading::{Fault, Value};

    const AT: Timestamp = Timestamp(1_763_632_800_123);

    fn reading(value: Value) -> Reading {
        Reading {
            device: "meter".into(),
            point: "voltage".into(),
            value,
            quality: Quality::Good,
            at: AT.into(),
            fault: None,
        }
    }

    fn both(reading: &Reading) -> [String; 2] {
        [Format::Json, Format::Value]
            .map(|format| String::from_utf8(format.payload(reading, AT.into()).to_vec()).expect("payloads are text"))
    }

    #[test]
    fn good_values() {
        let cases = [
            (Value::Float(231.4), "231.4", "231.4"),
            (Value::Int(-3), "-3", "-3"),
            (Value::Int(u64::MAX.into()), "18446744073709551615", "18446744073709551615"),
            (Value::Bool(true), "true", "true"),
            (Value::Text("a \"b\"\n".into()), r#""a \"b\"\n""#, "a \"b\"\n"),
            (Value::Null, "null", "null"),
        ];
        for (value, in_json, bare) in cases {
            let json = format!(r#"{{"v":{in_json},"t":"2025-11-20T10:00:00.123Z","q":"good"}}"#);
            assert_eq!(both(&reading(value)), [json, bare.to_owned()]);
        }
    }

    #[test]
    fn the_fault_stands_beside_a_value_that_is_not_good() {
        let fault = Some(Fault::Frame("a \"0\" too many".into()));
        let stale = Reading { quality: Quality::Stale, fault, ..reading(Value::Int(1)) };
        let wanted = r#"{"v":1,"t":"2025-11-20T10:00:00.123Z","q":"stale","e":"bad frame: a \"0\" too many"}"#;
        assert_eq!(both(&stale), [wanted, "1"]);
        let never = Reading { quality: Quality::Bad, fault: Some(Fault::Timeout), ..reading(Value::Null) };
        let wanted = r#"{"v":null,"t":"2025-11-20T10:00:00.123Z","q":"bad","e":"no answer"}"#;
        assert_eq!(both(&never), [wanted, "null"]);
    }

    #[test]
    fn while_nobody_has_set_the_clock_the_time_is_marked() {
        let moment = |wall, uptime: i64, trusted| Moment {
            wall: Timestamp(wall),
            uptime: Some(Uptime::of(uptime * 1000)),
            trusted,
        };
        let stale = Reading { at: moment(5000, 60, false), ..reading(Value::Int(1)) };
        let text = |format: Format, now| String::from_utf8(format.payload(&stale, now).to_vec()).unwrap();
        let marked = r#"{"v":1,"t":"1970-01-01T00:00:05.000Z","q":"good","clock":"unsynced"}"#;
        assert_eq!(text(Format::Json, moment(9000, 64, false)), marked);
        assert_eq!(text(Format::Value, moment(9000, 64, false)), "1");
        // A step of a clock that is not trusted either: all times are by the same clock.
        let marked = r#"{"v":1,"t":"1970-01-01T01:00:00.000Z","q":"good","clock":"unsynced"}"#;
        assert_eq!(text(Format::Json, moment(3_604_000, 64, false)), marked);
        let right = r#"{"v":1,"t":"2025-11-20T09:59:00.123Z","q":"good"}"#;
        assert_eq!(text(Format::Json, moment(AT.0, 120, true)), right);
    }
}
