//! A client that is in: packets between its wire and the router, until one of them ends.

use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::door::{Admission, Door};
use super::life::Life;
use crate::broker::Link;
use crate::broker::quota::Quota;
use crate::message::QoS;
use crate::mqtt::wire::{Error, Reader, Writer};
use crate::mqtt::{Ack, Packet, Reason, Version};

/// How long a closing connection may take to write its last packets.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client that was told to go may go on sending.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that wait for a slow socket before nothing more is taken, from it or for it.
const HIGH_WATER: usize = 256 * 1024;
/// Far away: there is no keep alive.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What is kept of a client while it is in.
pub(super) struct Guest {
    pub from: IpAddr,
    pub version: Version,
    pub keep_alive: Duration,
    pub admission: Admission,
    pub quota: Quota,
    pub life: Life,
}

impl Guest {
    /// Carries packets between the wire and the router until one of them ends. `early` came with CONNECT.
    ///
    /// # Errors
    /// Why it ended, when that was not as MQTT has it.
    pub(super) async fn carry<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        mut self,
        (mut reader, mut writer): (Reader<R>, Writer<W>),
        mut link: Link,
        early: Vec<Packet>,
        door: &mut watch::Receiver<Door>,
    ) -> Result<(), Error> {
        // One and a half times the keep alive (MQTT 5.0, 3.1.2.10).
        let patience = if self.keep_alive.is_zero() { FOR_EVER } else { self.keep_alive.mul_f64(1.5) };
        let mut early = Some(early).filter(|packets| !packets.is_empty());
        // Whether it is heard at the moment, and since when: what it says while we do not listen waits on the way.
        let (mut listens, mut since) = (true, Instant::now());
        let mut deadline = since + patience;
        loop {
            let pending = writer.pending();
            let listened = std::mem::replace(&mut listens, pending < HIGH_WATER && !self.quota.is_used_up());
            if listens && !listened {
                since = Instant::now();
                deadline = since + patience;
            }
            let came = async {
                match early.take() {
                    Some(packets) => Ok(packets),
                    None => reader.recv().await,
                }
            };
            let (reason, why) = tokio::select! {
                packets = came, if listens => match packets {
                    Ok(packets) => match self.quota.came(&packets) {
                        Ok(()) => {
                            link.send(packets).await;
                            since = Instant::now();
                            continue;
                        }
                        Err(reason) => (reason, "more publishes than the receive maximum at the same time"),
                    },
                    Err(Error::Bad(reason, what)) => (reason, what),
                    Err(error) => return Err(error),
                },
                packets = link.recv(), if pending < HIGH_WATER => match packets {
                    Some(packets) => {
                        self.quota.went(&packets);
                        send(&mut writer, &link, &packets).await?;
                        continue;
                    }
                    None => {
                        part(reader, writer).await;
                        return Ok(());
                    }
                },
                written = writer.write_some(), if pending > 0 => {
                    written?;
                    continue;
                }
                Ok(()) = door.changed() => match door.borrow_and_update().still_admits(self.from, &self.admission) {
                    Ok(()) => continue,
                    Err(why) => (Reason::ADMINISTRATIVE_ACTION, why),
                },
                () = sleep_until(deadline), if listens => {
                    // Much of a large packet is a sign of life as well.
                    deadline = self.life.heard().max(since) + patience;
                    if deadline > Instant::now() {
                        continue;
                    }
                    (Reason::KEEP_ALIVE_TIMEOUT, "nothing came within one and a half times the keep alive")
                }
            };
            // The router learns at once, not when the client has taken its leave.
            drop(link);
            if self.version == Version::V5 {
                // Without it the client learns by the end of the stream.
                let _ = writer.queue_because(&Packet::Disconnect { reason, expiry: None }, why);
            }
            part(reader, writer).await;
            return Err(Error::Bad(reason, why));
        }
    }
}

/// Gathers packets of the router for the wire.
///
/// # Errors
/// When one cannot be sent, other than a message that is too large for the client.
pub(super) async fn send<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    link: &Link,
    packets: &[Packet],
) -> Result<(), Error> {
    for packet in packets {
        match (writer.queue(packet), packet) {
            // A message that the client says it cannot take is done with, as if it had been sent (MQTT-3.1.2-25).
            (Err(Error::TooLarge), Packet::Publish(publish)) => {
                tracing::debug!("a message on {} is larger than its subscriber takes", publish.message.topic);
                if let Some(id) = publish.id {
                    let ack = Ack { id, reason: Reason::PACKET_TOO_LARGE };
                    let once = publish.qos == QoS::AtLeastOnce;
                    link.send(vec![if once { Packet::PubAck(ack) } else { Packet::PubRec(ack) }]).await;
                }
            }
            (result, _) => result?,
        }
    }
    Ok(())
}

/// Writes the last words and closes.
pub(super) async fn part<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(mut reader: Reader<R>, mut writer: Writer<W>) {
    let said = async { writer.flush().await.is_ok() && writer.shutdown().await.is_ok() };
    if timeout(CLOSE_TIMEOUT, said).await == Ok(true) {
        // Closing on what it still sends would be a reset, which takes our last words from it.
        let _ = timeout(LINGER, reader.discard()).await;
    }
}
