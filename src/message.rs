//! What travels in the broker: a payload on a topic. Pure.

pub mod timed;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Moment;

/// Quality of service: how hard a delivery is tried (MQTT 5.0, section 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum QoS {
    /// 0: sent once, never acknowledged.
    #[default]
    AtMostOnce,
    /// 1: sent until acknowledged; may arrive twice.
    AtLeastOnce,
    /// 2: arrives once.
    ExactlyOnce,
}

impl From<QoS> for u8 {
    fn from(qos: QoS) -> u8 {
        qos as u8
    }
}

impl TryFrom<u8> for QoS {
    type Error = String;

    fn try_from(n: u8) -> Result<Self, String> {
        match n {
            0 => Ok(QoS::AtMostOnce),
            1 => Ok(QoS::AtLeastOnce),
            2 => Ok(QoS::ExactlyOnce),
            _ => Err(format!("qos is 0, 1 or 2, not {n}")),
        }
    }
}

/// The memory of a message beside its topic, payload and properties.
const OVERHEAD: usize = 128;

/// One application message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The topic name: no wildcard, not empty.
    pub topic: Arc<str>,
    /// The bytes, unchanged from publisher to subscriber.
    pub payload: Bytes,
    /// The quality of service that the publisher chose.
    pub qos: QoS,
    /// Whether the publisher asked for the message to be retained.
    pub retain: bool,
    /// When it entered the broker.
    pub at: Moment,
    /// Whether the payload is of this gateway's making and tells a time: see [`timed`].
    pub timed: bool,
    /// What MQTT 5 carries beside it.
    pub properties: Option<Box<Properties>>,
}

impl Message {
    /// A message of this gateway's own making: QoS 1, `now`, no properties.
    pub fn new(topic: impl Into<Arc<str>>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            at: Moment::now(),
            timed: false,
            properties: None,
        }
    }

    /// The same, to be retained.
    pub fn retained(topic: impl Into<Arc<str>>, payload: impl Into<Bytes>) -> Self {
        Self { retain: true, ..Self::new(topic, payload) }
    }

    /// About how many bytes of memory it takes: what the bounds of queues count.
    pub fn size(&self) -> usize {
        let properties = self.properties.as_ref().map_or(0, |properties| properties.size());
        OVERHEAD + self.topic.len() + self.payload.len() + properties
    }

    /// Whether the message expiry interval (MQTT 5.0, 3.3.2.3.3) has passed at `now`; not while that is not known.
    pub fn expired(&self, now: Moment) -> bool {
        self.properties
            .as_ref()
            .and_then(|p| p.expiry)
            .is_some_and(|seconds| self.at.age_at(now).as_secs() >= u64::from(seconds))
    }

    /// The message as it is told `now`: one that entered while the clock was not trusted has the right times if the
    /// clock has been set since.
    pub fn told(self: &Arc<Self>, now: Moment) -> Arc<Self> {
        let at = self.at.corrected(now);
        if self.at.trusted || !at.trusted {
            return self.clone();
        }
        Arc::new((**self).clone().corrected(at))
    }

    /// The same, of which it is known by now that it entered at this trusted moment.
    #[must_use]
    pub fn corrected(self, at: Moment) -> Self {
        let later = at.wall.0.saturating_sub(self.at.wall.0);
        let payload = Some(&self.payload).filter(|_| self.timed).and_then(|payload| timed::moved(payload, later));
        Self { at, payload: payload.unwrap_or(self.payload), ..self }
    }
}

/// The properties of an MQTT 5 PUBLISH that a server forwards unchanged (MQTT 5.0, section 3.3.2.3).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Properties {
    /// Whether the payload is UTF-8 text: the payload format indicator, as far as there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utf8: Option<bool>,
    /// Message expiry interval, in seconds from [`Message::at`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<u32>,
    /// Content type, such as a MIME type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<Arc<str>>,
    /// Where the answer is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_topic: Option<Arc<str>>,
    /// What the answer has to carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Vec<u8>>,
    /// User properties, in order; a name may come more than once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user: Vec<(Arc<str>, Arc<str>)>,
}

impl Properties {
    fn size(&self) -> usize {
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        let user: usize = self.user.iter().map(|(name, value)| name.len() + value.len() + OVERHEAD).sum();
        let correlation = self.correlation.as_ref().map_or(0, Vec::len);
        OVERHEAD + text(&self.content_type) + text(&self.response_topic) + correlation + user
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Timestamp, Uptime};

    const NOON: i64 = 1_795_176_000_000;

    fn moment(wall: i64, uptime: i64, trusted: bool) -> Moment {
        Moment { wall: Timestamp(wall), uptime: Some(Uptime::of(uptime * 1000)), trusted }
    }

    #[test]
    fn what_was_made_before_the_clock_was_set_is_told_with_the_right_time() {
        let payload = r#"{"v":1,"t":"1970-01-01T00:00:07.000Z","q":"good","clock":"unsynced"}"#;
        let message = Message { at: moment(7000, 60, false), timed: true, ..Message::new("t", payload) };
        let message = Arc::new(message);
        assert!(Arc::ptr_eq(&message.told(moment(9000, 62, false)), &message), "nobody knows better yet");
        let told = message.told(moment(NOON, 160, true));
        assert_eq!(told.at, moment(NOON - 100_000, 60, true));
        assert_eq!(told.payload, r#"{"v":1,"t":"2026-11-20T11:58:20.000Z","q":"good"}"#);
        // What somebody else wrote stays as it is, and so does what was right.
        let foreign = Arc::new(Message { timed: false, ..(*message).clone() });
        let told = foreign.told(moment(NOON, 160, true));
        assert_eq!((told.at.wall.0, &told.payload), (NOON - 100_000, &foreign.payload));
        let right = Arc::new(Message { at: moment(NOON, 60, true), ..(*message).clone() });
        assert!(Arc::ptr_eq(&right.told(moment(NOON + 5, 160, true)), &right));
    }

    #[test]
    fn no_step_of_the_clock_makes_a_message_expire() {
        let properties = Properties { expiry: Some(3600), ..Properties::default() };
        let message =
            Message { at: moment(NOON, 60, true), properties: Some(Box::new(properties)), ..Message::new("t", "x") };
        assert!(!message.expired(moment(NOON + 5 * 3_600_000, 61, true)));
        assert!(message.expired(moment(NOON - 5 * 3_600_000, 60 + 3600, true)));
        let of_another_start = Message { at: Moment { uptime: None, ..message.at }, ..message };
        assert!(!of_another_start.expired(moment(NOON + 5 * 3_600_000, 61, false)), "by a clock that is not trusted");
        assert!(of_another_start.expired(moment(NOON + 5 * 3_600_000, 61, true)));
        assert!(of_another_start.expired(moment(0, 3600, false)), "the computer runs for longer than that");
    }

    #[test]
    fn the_payload_format_is_read_as_it_ever_was_written() {
        for (text, utf8) in [("{}", None), (r#"{"utf8":true}"#, Some(true)), (r#"{"utf8":false}"#, Some(false))] {
            let properties: Properties = serde_json::from_str(text).unwrap();
            assert_eq!(properties.utf8, utf8);
            assert_eq!(serde_json::to_string(&properties).unwrap(), text);
        }
    }
}
