//! What a message says of itself at the cloud: its number and whether it is late. Pure.
//!
//! The number is its place in the uplink's queue: it grows by one a message, a repetition has the number of the first
//! time, and it goes on over restarts. With it the cloud can tell doubles, and see what it is missing. Gaps are messages
//! that were dropped, had expired or were refused; those that no rule carries; and a jump after the gateway was killed.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::message::{Message, Properties};
use crate::mqtt::Place;

/// How a message carries its number, `seq`, and that it is late, `historical`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// Not at all.
    #[default]
    None,
    /// As user properties of MQTT 5: `seq` with the number, and `historical` with `true` when it is late.
    Properties,
    /// Within payloads that are a JSON object: `"seq":17`, and `"historical":true` when it is late. Other payloads, and
    /// members that are there already, stay as they are.
    Json,
}

const SEQ: &str = "seq";
const HISTORICAL: &str = "historical";

impl Mark {
    /// The message with its mark. One without a number, at QoS 0, carries none.
    pub(super) fn on(self, message: Arc<Message>, place: Place) -> Arc<Message> {
        if place.seq == 0 {
            return message;
        }
        match self {
            Mark::None => message,
            Mark::Properties => {
                let mut properties = message.properties.as_deref().cloned().unwrap_or_default();
                add_user(&mut properties, place);
                Arc::new(Message { properties: Some(Box::new(properties)), ..(*message).clone() })
            }
            Mark::Json => match with_members(&message.payload, place) {
                Some(payload) => Arc::new(Message { payload, ..(*message).clone() }),
                None => message,
            },
        }
    }
}

fn add_user(properties: &mut Properties, place: Place) {
    properties.user.push((SEQ.into(), place.seq.to_string().into()));
    if place.historical {
        properties.user.push((HISTORICAL.into(), "true".into()));
    }
}

/// The payload with the members in front of its last brace; none when it is no JSON object, or has them all.
fn with_members(payload: &Bytes, place: Place) -> Option<Bytes> {
    let Members { any, seq, historical } = serde_json::from_slice(payload).ok()?;
    let mut added = BytesMut::with_capacity(48);
    let mut add = |text: &str| {
        if any || !added.is_empty() {
            added.put_u8(b',');
        }
        added.put_slice(text.as_bytes());
    };
    if !seq {
        add(&format!("\"{SEQ}\":{}", place.seq));
    }
    if place.historical && !historical {
        add(&format!("\"{HISTORICAL}\":true"));
    }
    if added.is_empty() {
        return None;
    }
    let end = payload.iter().rposition(|byte| *byte == b'}')?;
    let mut marked = BytesMut::with_capacity(payload.len() + added.len());
    marked.put_slice(&payload[..end]);
    marked.put_slice(&added);
    marked.put_slice(&payload[end..]);
    Some(marked.freeze())
}

/// What has to be known of the members of a JSON object.
#[derive(Default)]
struct Members {
    any: bool,
    seq: bool,
    historical: bool,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members::default();
                while let Some((name, _)) = map.next_entry::<std::borrow::Cow<'_, str>, IgnoredAny>()? {
                    members.any = true;
                    members.seq |= name == SEQ;
                    members.historical |= name == HISTORICAL;
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Place = Place { seq: 7, historical: false };
    const LATE: Place = Place { seq: 8, historical: true };

    fn json(payload: &str, place: Place) -> String {
        let marked = Mark::Json.on(Arc::new(Message::new("t", payload.to_owned())), place);
        String::from_utf8(marked.payload.to_vec()).expect("it was text")
    }

    #[test]
    fn a_json_object_gets_the_members_and_stays_as_it_is_otherwise() {
        for (payload, fresh, late) in [
            (r#"{"v": 1.50}"#, r#"{"v": 1.50,"seq":7}"#, r#"{"v": 1.50,"seq":8,"historical":true}"#),
            ("{}", r#"{"seq":7}"#, r#"{"seq":8,"historical":true}"#),
            (" { } \n", " { \"seq\":7} \n", " { \"seq\":8,\"historical\":true} \n"),
            (r#"{"a":{"seq":1}}"#, r#"{"a":{"seq":1},"seq":7}"#, r#"{"a":{"seq":1},"seq":8,"historical":true}"#),
            (r#"{"seq":1}"#, r#"{"seq":1}"#, r#"{"seq":1,"historical":true}"#),
            (r#"{"s\u0065q":1}"#, r#"{"s\u0065q":1}"#, r#"{"s\u0065q":1,"historical":true}"#),
        ] {
            assert_eq!((json(payload, FRESH), json(payload, LATE)), (fresh.into(), late.into()), "{payload}");
            assert!(serde_json::from_str::<serde_json::Value>(&json(payload, LATE)).is_ok());
        }
    }

    #[test]
    fn what_is_no_json_object_stays_as_it_is() {
        for payload in
            ["", "1.5", "[{}]", "null", "\"}\"", "{abc}", "{\"a\":1", "{\"a\":1}}", "{\"a\":1,}", "\u{feff}{}"]
        {
            assert_eq!(json(payload, LATE), payload);
        }
        let binary = Arc::new(Message::new("t", vec![b'{', 0xff, b'}']));
        assert_eq!(Mark::Json.on(binary.clone(), LATE), binary);
    }

    #[test]
    fn properties_come_behind_those_of_the_publisher() {
        let user = |name: &str, value: &str| -> (Arc<str>, Arc<str>) { (name.into(), value.into()) };
        let properties = Properties { expiry: Some(9), user: vec![user("a", "b")], ..Properties::default() };
        let message = Arc::new(Message { properties: Some(Box::new(properties)), ..Message::new("t", "x") });
        let marked = Mark::Properties.on(message, LATE);
        let properties = marked.properties.as_ref().expect("they were added");
        assert_eq!(properties.user, [user("a", "b"), user("seq", "8"), user("historical", "true")]);
        assert_eq!((properties.expiry, &marked.payload[..]), (Some(9), &b"x"[..]));
        let fresh = Mark::Properties.on(Arc::new(Message::new("t", "x")), FRESH);
        assert_eq!(fresh.properties.as_ref().expect("they were added").user, [user("seq", "7")]);
    }

    #[test]
    fn a_message_without_a_number_carries_none() {
        let message = Arc::new(Message::new("t", "{}"));
        for mark in [Mark::None, Mark::Properties, Mark::Json] {
            assert_eq!(mark.on(message.clone(), Place { seq: 0, historical: true }), message);
        }
        assert_eq!(Mark::None.on(message.clone(), LATE), message);
    }
}
