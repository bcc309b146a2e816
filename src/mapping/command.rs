//! Commands: what a message on `<topic>/set` wants, and what it is told.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::clock::{Moment, Timestamp};
use crate::message::{Message, Properties};
use crate::reading::Value;

/// A wish to write a point; whether the value fits is for the bus to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// The device's name in the config.
    pub device: Arc<str>,
    /// The point's name within its device.
    pub point: Arc<str>,
    /// The value wanted, in the point's unit. Words such as `on` are text: the point's type says what they mean.
    pub value: Value,
}

/// Why a message on a command topic is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// The value that a command's message carries.
pub(super) fn value(message: &Message) -> Result<Value, Refusal> {
    // It would be carried out again after every restart, long after anybody wanted it.
    if message.retain {
        return Err(Refusal("retained commands are not carried out".into()));
    }
    let payload = std::str::from_utf8(&message.payload).map_err(|_| wrong("the payload is no UTF-8 text"))?.trim();
    if payload.is_empty() {
        return Err(wrong("the payload is empty"));
    }
    let json = match serde_json::from_str(payload) {
        Ok(json) => json,
        Err(_) if payload.starts_with(['{', '[', '"']) => return Err(wrong("the payload is no JSON")),
        Err(_) => return Ok(Value::Text(payload.into())),
    };
    let json = match json {
        serde_json::Value::Object(mut fields) => fields.remove("v").ok_or_else(|| wrong("the object has no \"v\""))?,
        json => json,
    };
    match json {
        serde_json::Value::Bool(on) => Ok(Value::Bool(on)),
        serde_json::Value::String(text) => Ok(Value::Text(text.into())),
        serde_json::Value::Number(number) => {
            let int = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
            let float = || number.as_f64().filter(|x| x.is_finite()).map(Value::Float);
            int.map(Value::Int).or_else(float).ok_or_else(|| wrong("the number is too large"))
        }
        serde_json::Value::Null => Err(wrong("null cannot be written")),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => Err(wrong("this is not one value")),
    }
}

fn wrong(what: &str) -> Refusal {
    Refusal(format!("{what}; send a value such as 42.5, true, \"text\" or on, or an object such as {{\"v\":42.5}}"))
}

/// What became of a command, as JSON: `{"ok":true,"v":42.5,"t":"…"}` or `{"ok":false,"error":"…","t":"…"}`; while nobody
/// has set the clock, marked as readings are.
pub(super) fn outcome(outcome: Result<&Value, &str>, now: Moment) -> Bytes {
    #[derive(Serialize)]
    struct Outcome<'a> {
        ok: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        v: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
        t: Timestamp,
        #[serde(skip_serializing_if = "Option::is_none")]
        clock: Option<&'a str>,
    }
    // As `message::timed` has it.
    let clock = (!now.trusted).then_some("unsynced");
    let outcome = Outcome { ok: outcome.is_ok(), v: outcome.ok(), error: outcome.err(), t: now.wall, clock };
    serde_json::to_vec(&outcome).expect("plain fields always serialize").into()
}

/// The answer to a request (MQTT 5.0, 4.10): the same payload with the request's correlation data.
pub(super) fn response(topic: &Arc<str>, request: &Properties, payload: Bytes) -> Message {
    let properties = Properties { utf8: Some(true), correlation: request.correlation.clone(), ..Properties::default() };
    Message { properties: Some(Box::new(properties)), ..Message::new(topic.clone(), payload) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &str) -> Result<Value, Refusal> {
        value(&Message::new("t/set", payload.to_owned()))
    }

    #[test]
    fn reads_scalars_and_objects() {
        let cases = [
            ("42.5", Value::Float(42.5)),
            (" 42\n", Value::Int(42)),
            ("-1", Value::Int(-1)),
            ("18446744073709551615", Value::Int(u64::MAX.into())),
            ("1e3", Value::Float(1000.0)),
            ("true", Value::Bool(true)),
            ("false\n", Value::Bool(false)),
            ("True", Value::Text("True".into())),
            ("ON", Value::Text("ON".into())),
            ("off", Value::Text("off".into())),
            ("1", Value::Int(1)),
            ("two words", Value::Text("two words".into())),
            ("1e999", Value::Text("1e999".into())),
            (r#""te\"xt""#, Value::Text("te\"xt".into())),
            (r#"{"v":42.5}"#, Value::Float(42.5)),
            (r#"{"v":true,"by":"hand"}"#, Value::Bool(true)),
        ];
        for (payload, value) in cases {
            assert_eq!(read(payload), Ok(value), "{payload}");
        }
    }

    #[test]
    fn refuses_the_rest_and_says_what_would_do() {
        let nested = "[".repeat(100_000);
        let cases = [
            ("", "empty"),
            (" ", "empty"),
            ("{\"v\":1", "no JSON"),
            ("\"half", "no JSON"),
            ("{\"v\":1e999}", "no JSON"),
            ("null", "null cannot"),
            ("[1]", "not one value"),
            ("{}", "no \"v\""),
            (r#"{"value":1}"#, "no \"v\""),
            (r#"{"v":{"v":1}}"#, "not one value"),
            (&nested, "no JSON"),
        ];
        for (payload, says) in cases {
            let refusal = read(payload).expect_err(payload).to_string();
            assert!(refusal.contains(says) && refusal.contains("42.5"), "{refusal}");
        }
        assert!(value(&Message::new("t/set", vec![0xFF])).is_err_and(|refusal| refusal.0.contains("UTF-8")));
        assert!(value(&Message::retained("t/set", "1")).is_err_and(|refusal| refusal.0.contains("retained")));
    }
}
