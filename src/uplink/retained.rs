//! Retained messages for a cloud that has lost its own.
//!
//! They come from the local broker as to any new subscriber: a few at a time, behind what waits already, each as it is when
//! its turn comes, and before anything newer on its topic. So an older value never comes last.
//!
//! Whether a cloud has lost its own shows by our status: it is retained there since our first connection, `online` while we
//! are there, and `offline` by our will. A cloud that has none is new, or came back empty.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use crate::message::QoS;
use crate::mqtt::wire::{Reader, Writer};
use crate::mqtt::{Packet, PacketId, Publish, RetainHandling, Subscribe, SubscribeOptions};

/// When the retained messages of the local broker go up although they have not changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SendRetained {
    /// When somebody asks for it.
    #[default]
    Never,
    /// When the cloud has lost its own.
    WhenLost,
    /// At each connection.
    Always,
}

/// How long a cloud may take to send a retained message after the subscription: a cluster may have to look for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Ids of the two packets; no publish is under way yet.
const LOOK: PacketId = PacketId::MIN;
const LEAVE: PacketId = PacketId::MAX;

/// Looks whether the cloud has nothing retained on `topic`, where our status stands. What else came meanwhile is added to
/// `early`. A cloud that does not let us look counts as one that has lost nothing.
///
/// # Errors
/// When the connection is lost.
pub(super) async fn has_lost<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    topic: &Arc<str>,
    reader: &mut Reader<R>,
    writer: &mut Writer<W>,
    early: &mut Vec<Packet>,
) -> Result<bool, String> {
    let lost = |e: &dyn std::fmt::Display| format!("the connection was lost while looking for what is retained: {e}");
    let options = SubscribeOptions {
        qos: QoS::AtMostOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::Send,
    };
    let look = Subscribe { id: LOOK, filters: vec![(topic.clone(), options)], subscription_id: None };
    writer.queue(&Packet::Subscribe(Box::new(look))).map_err(|e| lost(&e))?;
    writer.flush().await.map_err(|e| lost(&e))?;
    let (mut found, mut allowed) = (false, None);
    let mut end = Instant::now() + PATIENCE;
    while !found && allowed != Some(false) {
        let Ok(packets) = timeout_at(end, reader.recv()).await else { break };
        for packet in packets.map_err(|e| lost(&e))? {
            match packet {
                Packet::SubAck { id: LOOK, reasons } => {
                    allowed = Some(!reasons.iter().any(|reason| reason.is_error()));
                    end = Instant::now() + PATIENCE;
                }
                Packet::Publish(Publish { id: None, retain: true, message, .. }) if message.topic == *topic => {
                    found = true
                }
                other => early.push(other),
            }
        }
    }
    writer.queue(&Packet::Unsubscribe { id: LEAVE, filters: vec![topic.clone()] }).map_err(|e| lost(&e))?;
    writer.flush().await.map_err(|e| lost(&e))?;
    let mut left = false;
    while !left {
        for packet in reader.recv().await.map_err(|e| lost(&e))? {
            match packet {
                Packet::UnsubAck { id: LEAVE, .. } => left = true,
                Packet::SubAck { id: LOOK, .. } => {}
                Packet::Publish(Publish { id: None, retain: true, message, .. }) if message.topic == *topic => {
                    found = true
                }
                other => early.push(other),
            }
        }
    }
    if allowed != Some(true) {
        tracing::warn!(
            "the cloud does not let us read {topic}, so it does not show whether it has lost what it retained"
        );
    }
    Ok(allowed == Some(true) && !found)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::mqtt::Version;
    use crate::mqtt::wire::Framed;

    /// What is found with a cloud that answers SUBSCRIBE with these bytes, and UNSUBSCRIBE as it has to.
    async fn look(answers: &'static [u8]) -> (bool, usize) {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let mut asked = [0; 256];
            for answer in [answers, LEFT] {
                assert!(theirs.read(&mut asked).await.unwrap() > 0);
                theirs.write_all(answer).await.unwrap();
            }
            // It stays open.
            theirs.read(&mut asked).await
        });
        let (mut reader, mut writer) = Framed::client(ours, Version::V311, 4096).split();
        let mut early = Vec::new();
        let lost = has_lost(&"s".into(), &mut reader, &mut writer, &mut early).await.unwrap();
        (lost, early.len())
    }

    // SUBACK, with leave and without, PUBLISH retained on `s`, PUBLISH on `t`, UNSUBACK (MQTT 3.1.1, 3.9, 3.3, 3.11).
    const GRANTED: &[u8] = &[0x90, 3, 0, 1, 0];
    const REFUSED: &[u8] = &[0x90, 3, 0, 1, 0x80];
    const OURS: &[u8] = &[0x31, 4, 0, 1, b's', b'x'];
    const OTHER: &[u8] = &[0x30, 4, 0, 1, b't', b'x'];
    const LEFT: &[u8] = &[0xB0, 2, 0xFF, 0xFF];

    #[tokio::test(start_paused = true)]
    async fn a_cloud_without_our_status_has_lost_what_it_retained() {
        for (answers, lost, early) in [
            ([GRANTED, OURS], false, 0),
            ([OURS, GRANTED], false, 0),
            ([GRANTED, OTHER], true, 1),
            ([GRANTED, &[]], true, 0),
            // It does not say.
            ([REFUSED, &[]], false, 0),
        ] {
            assert_eq!(look(answers.concat().leak()).await, (lost, early), "{answers:?}");
        }
    }
}
