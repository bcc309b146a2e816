//! Rows as the nouns they keep, and back.

use bytes::Bytes;
use rusqlite::{Error, Result, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::clocks::Clocks;
use super::{EntryId, Handshake, QueueId, Session, Subscription};
use crate::clock::Timestamp;
use crate::message::{Message, QoS};
use crate::mqtt::PacketId;

/// The last id of an entry that leaves room for new ones; this program comes to none that is larger.
pub(super) const LAST_ID: i64 = i64::MAX >> 1;

/// The last id of a queue that leaves room for new ones.
pub(super) const LAST_QUEUE: u32 = u32::MAX - (1 << 24);

/// A session of the columns queue, client_id, expiry, left_at, subscriptions, user, sent, left_clock.
pub(super) fn session(row: &Row<'_>, clocks: &Clocks) -> Result<Session> {
    let left = row.get::<_, Option<i64>>(3)?.map(Timestamp);
    let clock = row.get(7)?;
    Ok(Session {
        queue: queue_id(row.get(0)?)?,
        client_id: row.get(1)?,
        expiry: row.get(2)?,
        left: left.map(|at| clocks.best(at, clock)),
        subscriptions: subscriptions(&row.get::<_, String>(1)?, &row.get::<_, String>(4)?),
        user: row.get(5)?,
        sent: seq(row.get(6)?)?,
    })
}

/// An exchange as its two columns: whose message it is about, and its packet id or place.
pub(super) fn handshake_columns(handshake: Handshake) -> (bool, i64) {
    match handshake {
        Handshake::Received(id) => (true, id.get().into()),
        Handshake::Released(seq) => (false, int(EntryId(seq))),
    }
}

/// An exchange of the columns queue, incoming, number.
pub(super) fn handshake(row: &Row<'_>) -> Result<(QueueId, Handshake)> {
    let number: i64 = row.get(2)?;
    let handshake = if row.get(1)? {
        let id = u16::try_from(number).ok().and_then(PacketId::new);
        Handshake::Received(id.ok_or(Error::IntegralValueOutOfRange(2, number))?)
    } else {
        Handshake::Released(seq(number)?)
    };
    Ok((queue_id(row.get(0)?)?, handshake))
}

/// A client whose list cannot be read keeps its queue, and is told nothing new until it subscribes again.
fn subscriptions(client_id: &str, list: &str) -> Vec<Subscription> {
    serde_json::from_str(list).unwrap_or_else(|e| {
        tracing::error!(
            "the subscriptions of {client_id} cannot be read from the store ({e}): it has to subscribe again"
        );
        Vec::new()
    })
}

/// A message of the columns topic, payload, qos, retain, at, properties, clock, timed.
pub(super) fn message(row: &Row<'_>, clocks: &Clocks) -> Result<Message> {
    let (at, clock) = (Timestamp(row.get(4)?), row.get(6)?);
    let message = Message {
        topic: row.get(0)?,
        payload: Bytes::from(row.get::<_, Vec<u8>>(1)?),
        qos: qos(row.get(2)?),
        retain: row.get(3)?,
        at: clocks.moment(at, clock),
        timed: row.get(7)?,
        properties: from_json(row.get(5)?),
    };
    Ok(match clocks.correction(at, clock) {
        Some(right) => message.corrected(right),
        None => message,
    })
}

/// A queue's id, with room behind it.
pub(super) fn queue_id(n: i64) -> Result<QueueId> {
    match u32::try_from(n) {
        Ok(id) if id <= LAST_QUEUE => Ok(QueueId(id)),
        _ => Err(Error::IntegralValueOutOfRange(0, n)),
    }
}

/// An entry's id, with room behind it.
pub(super) fn entry_id(n: i64) -> Result<EntryId> {
    match u64::try_from(n) {
        Ok(id) if n <= LAST_ID => Ok(EntryId(id)),
        _ => Err(Error::IntegralValueOutOfRange(0, n)),
    }
}

/// The place of a delivery in its queue: bounded as entries' ids are.
pub(super) fn seq(n: i64) -> Result<u64> {
    entry_id(n).map(|id| id.0)
}

/// What is no quality of service is treated as the one that loses nothing.
pub(super) fn qos(n: u8) -> QoS {
    QoS::try_from(n).unwrap_or(QoS::AtLeastOnce)
}

/// SQLite counts to 2^63 - 1, which no id reaches.
pub(super) fn int(id: EntryId) -> i64 {
    i64::try_from(id.0).unwrap_or(i64::MAX)
}

pub(super) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("lists and structs of text and numbers are JSON")
}

pub(super) fn from_json<T: DeserializeOwned>(text: Option<String>) -> Option<T> {
    serde_json::from_str(&text?).ok()
}
