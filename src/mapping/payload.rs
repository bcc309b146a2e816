//! What a reading looks like on its topic.

use std::io::Write;

use bytes::Bytes;
use serde::Deserialize;

use crate::reading::{Quality, Reading};

/// How a reading is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `{"v":231.4,"t":"2026-11-20T10:00:00.123Z","q":"good"}`: value, time of reading, quality; and when that is not
    /// good, the reason as `"e"`.
    #[default]
    Json,
    /// The bare value: `231.4`, `true`, `text`; `null` for none.
    Value,
}

impl Format {
    /// The payload for `reading`.
    pub fn payload(self, reading: &Reading) -> Bytes {
        let mut payload = Vec::with_capacity(64);
        match self {
            Format::Value => write!(payload, "{}", reading.value),
            Format::Json => json(&mut payload, reading),
        }
        .expect("writing to memory does not fail");
        payload.into()
    }
}

fn json(out: &mut Vec<u8>, reading: &Reading) -> std::io::Result<()> {
    out.write_all(br#"{"v":"#)?;
    serde_json::to_writer(&mut *out, &reading.value)?;
    let quality = match reading.quality {
        Quality::Good => "good",
        Quality::Stale => "stale",
        Quality::Bad => "bad",
    };
    write!(out, r#","t":"{}","q":"{quality}""#, reading.at)?;
    if let (Quality::Stale | Quality::Bad, Some(fault)) = (reading.quality, &reading.fault) {
        out.write_all(br#","e":"#)?;
        serde_json::to_writer(&mut *out, &fault.to_string())?;
    }
    out.write_all(b"}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::reading::{Fault, Value};

    fn reading(value: Value) -> Reading {
        Reading {
            device: "meter".into(),
            point: "voltage".into(),
            value,
            quality: Quality::Good,
            at: Timestamp(1_763_632_800_123),
            fault: None,
        }
    }

    fn both(reading: &Reading) -> [String; 2] {
        [Format::Json, Format::Value]
            .map(|format| String::from_utf8(format.payload(reading).to_vec()).expect("payloads are text"))
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
}
