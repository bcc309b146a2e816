//! Rows as the nouns they keep, and back.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Result, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Delivery, Entry, EntryId, QueueId, Session};
use crate::clock::Timestamp;
use crate::message::{Message, QoS};

/// A session of the columns queue, client_id, expiry, left_at, subscriptions.
pub(super) fn session(row: &Row<'_>) -> Result<Session> {
    Ok(Session {
        queue: QueueId(row.get(0)?),
        client_id: row.get(1)?,
        expiry: row.get(2)?,
        left: row.get::<_, Option<i64>>(3)?.map(Timestamp),
        subscriptions: from_json(Some(row.get(4)?)).unwrap_or_default(),
    })
}

/// A message of the columns topic, payload, qos, retain, at, properties.
pub(super) fn message(row: &Row<'_>) -> Result<Message> {
    Ok(Message {
        topic: row.get(0)?,
        payload: Bytes::from(row.get::<_, Vec<u8>>(1)?),
        qos: qos(row.get(2)?),
        retain: row.get(3)?,
        at: Timestamp(row.get(4)?),
        properties: from_json(row.get(5)?),
    })
}

/// An entry of the columns of [`message`], then id, qos, retain, subscription_ids.
pub(super) fn entry(row: &Row<'_>) -> Result<Entry> {
    Ok(Entry {
        id: EntryId(row.get::<_, i64>(6)?.unsigned_abs()),
        message: Arc::new(message(row)?),
        delivery: Delivery {
            qos: qos(row.get(7)?),
            retain: row.get(8)?,
            subscription_ids: from_json(row.get(9)?).unwrap_or_default(),
        },
    })
}

/// What is no quality of service is treated as the one that loses nothing.
fn qos(n: u8) -> QoS {
    QoS::try_from(n).unwrap_or(QoS::AtLeastOnce)
}

/// SQLite counts to 2^63 - 1, which no id reaches.
pub(super) fn int(id: EntryId) -> i64 {
    i64::try_from(id.0).unwrap_or(i64::MAX)
}

pub(super) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("lists and structs of text and numbers are JSON")
}

fn from_json<T: DeserializeOwned>(text: Option<String>) -> Option<T> {
    serde_json::from_str(&text?).ok()
}
