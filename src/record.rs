//! A message as a line of text outside of Fieldpost: what `fieldpost store export` writes and `import` reads. Pure.
//!
//! As JSON: `{"topic":"plant/tank/level","payload":"4.2","qos":1,"at":"2026-11-20T10:00:00.123Z"}`. A payload that is no
//! UTF-8 is in `payload-base64` instead. Whoever writes a line by hand needs a topic and a payload.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::{Moment, Timestamp};
use crate::message::{Message, Properties, QoS};
use crate::mqtt::topic;

/// The line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Record {
    /// The queue in which it waits, by its session; none for a retained message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Arc<str>>,
    /// Its place among all entries of that store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    pub topic: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// 1 when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<QoS>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retain: bool,
    /// When it entered the broker; now, when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The clock that told `at` had not been set yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unsynced: bool,
    /// What MQTT 5 carries beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<Box<Properties>>,
    /// Why the cloud did not take it, and when it was set aside for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_aside: Option<Timestamp>,
}

/// The columns of [`Record::csv`].
pub const CSV_HEADER: &str = "queue,id,at,topic,qos,retain,payload,payload-base64,properties,reason,set-aside\r\n";

impl Record {
    /// The line of a message.
    pub fn new(message: &Message) -> Self {
        let (payload, payload_base64) = match std::str::from_utf8(&message.payload) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(&message.payload))),
        };
        Self {
            topic: message.topic.clone(),
            payload,
            payload_base64,
            qos: Some(message.qos),
            retain: message.retain,
            at: Some(message.at.wall),
            unsynced: !message.at.trusted,
            properties: message.properties.clone(),
            ..Self::default()
        }
    }

    /// Reads a line of JSON, which has to be a message.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn read(line: &str) -> Result<Self, String> {
        let record: Self = serde_json::from_str(line).map_err(|e| match e.classify() {
            // Of a line, only the column is of use.
            serde_json::error::Category::Data => strip_line(&e),
            _ => format!("this is no JSON object: {}", strip_line(&e)),
        })?;
        record.message()?;
        Ok(record)
    }

    /// The message that it is.
    ///
    /// # Errors
    /// What is wrong or missing, for a person.
    pub fn message(&self) -> Result<Message, String> {
        if self.topic.is_empty() {
            return Err("there is no `topic`".into());
        }
        topic::check_name(&self.topic).map_err(|e| format!("`topic`: {e}"))?;
        let payload = match (&self.payload, &self.payload_base64) {
            (Some(text), None) => Bytes::from(text.clone()),
            (None, Some(coded)) => {
                Bytes::from(STANDARD.decode(coded).map_err(|e| format!("`payload-base64` is no base64: {e}"))?)
            }
            (None, None) => return Err("there is neither `payload` nor `payload-base64`".into()),
            (Some(_), Some(_)) => return Err("there are both `payload` and `payload-base64`".into()),
        };
        Ok(Message {
            topic: self.topic.clone(),
            payload,
            qos: self.qos.unwrap_or(QoS::AtLeastOnce),
            retain: self.retain,
            at: self.at.map_or_else(Moment::now, |at| Moment { trusted: !self.unsynced, ..at.into() }),
            timed: false,
            properties: self.properties.clone(),
        })
    }

    /// As a line of JSON, with its end.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("text and numbers are JSON") + "\n"
    }

    /// As a row of CSV (RFC 4180), with its end.
    pub fn csv(&self) -> String {
        let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
        let properties = |p: &Properties| serde_json::to_string(p).expect("text and numbers are JSON");
        let cells = [
            self.queue.as_deref().unwrap_or_default().to_owned(),
            self.id.map(|id| id.to_string()).unwrap_or_default(),
            time(self.at),
            self.topic.to_string(),
            self.qos.map(|qos| u8::from(qos).to_string()).unwrap_or_default(),
            self.retain.to_string(),
            self.payload.clone().unwrap_or_default(),
            self.payload_base64.clone().unwrap_or_default(),
            self.properties.as_deref().map(properties).unwrap_or_default(),
            self.reason.as_deref().unwrap_or_default().to_owned(),
            time(self.set_aside),
        ];
        cells.map(quoted).join(",") + "\r\n"
    }
}

/// What serde_json says, without «at line 1 column 7» where that is no help.
fn strip_line(e: &serde_json::Error) -> String {
    let text = e.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what} (at column {})", e.column()),
        None => text,
    }
}

fn quoted(cell: String) -> String {
    if cell.contains([',', '"', '\r', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_brings_the_message_back() {
        let properties = Properties { content_type: Some("text/plain".into()), ..Properties::default() };
        let text = Message { properties: Some(Box::new(properties)), retain: true, ..Message::new("a/ü", "4.2") };
        let bytes = Message { qos: QoS::ExactlyOnce, ..Message::new("b", vec![0_u8, 255]) };
        let empty = Message::new("c", "");
        for message in [text, bytes, empty] {
            let line = Record::new(&message).json();
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            // The time since this computer was started is of no use outside of it.
            let message = Message { at: message.at.wall.into(), ..message };
            assert_eq!(Record::read(&line).unwrap().message().unwrap(), message, "{line}");
        }
    }

    #[test]
    fn topic_and_payload_are_enough() {
        let message = Record::read(r#"{"topic":"a","payload":"1"}"#).unwrap().message().unwrap();
        assert_eq!((message.qos, message.retain), (QoS::AtLeastOnce, false));
    }

    #[test]
    fn a_line_that_is_no_message_says_why() {
        for (line, said) in [
            ("", "no JSON object"),
            ("[1]", "invalid"),
            (r#"{"topic":"a""#, "no JSON object"),
            (r#"{"payload":"1"}"#, "no `topic`"),
            (r#"{"topic":"a/#","payload":"1"}"#, "`topic`"),
            (r#"{"topic":"a"}"#, "neither"),
            (r#"{"topic":"a","payload":"1","payload-base64":"MQ=="}"#, "both"),
            (r#"{"topic":"a","payload-base64":"?"}"#, "no base64"),
            (r#"{"topic":"a","payload":"1","qos":3}"#, "qos is 0, 1 or 2"),
            (r#"{"topic":"a","payload":"1","at":"yesterday"}"#, "`yesterday` is no time"),
            (r#"{"topic":"a","payload":"1","paylod":"1"}"#, "unknown field `paylod`"),
        ] {
            let error = Record::read(line).expect_err(line);
            assert!(error.contains(said), "{line}: {error}");
        }
    }

    #[test]
    fn csv_quotes_what_would_break_it() {
        let message = Message { at: Timestamp(0).into(), ..Message::new("a", "{\"v\":1,\"q\":\"good\"}\n") };
        let row = Record { queue: Some("$uplink/cloud".into()), id: Some(7), ..Record::new(&message) }.csv();
        let payload = "\"{\"\"v\"\":1,\"\"q\"\":\"\"good\"\"}\n\"";
        assert_eq!(row, format!("$uplink/cloud,7,1970-01-01T00:00:00.000Z,a,1,false,{payload},,,,\r\n"));
        assert_eq!(CSV_HEADER.matches(',').count(), Record::default().csv().matches(',').count());
    }
}
