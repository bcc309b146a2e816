//! One connection, in a task of its own: handshakes, CONNECT and login, then packets between its wire and the router.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::addresses::TooMany;
use super::config::Config;
use super::door::{Door, Identity};
use super::house::House;
use super::tls::Certificate;
use super::upgrade;
use super::waiting::Place;
use crate::broker::quota::Quota;
use crate::broker::traffic::Metered;
use crate::broker::{Broker, Link};
use crate::mqtt::wire::{Error, Reader, Writer};
use crate::mqtt::{Ack, ConnAck, Connect, Packet, Reason, Version};

/// How long a connection may be silent before the kernel probes it.
const PROBE_AFTER: Duration = Duration::from_secs(120);
/// How long a closing connection may take to write its last packets.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client that was told to go may go on sending.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that wait for a slow socket before nothing more is taken, from it or for it.
const HIGH_WATER: usize = 256 * 1024;
/// Somebody who runs the broker has ended the connection (MQTT 5.0, 3.14.2.1).
const ADMINISTRATIVE_ACTION: Reason = Reason(0x98);
/// Too many logins in too short a time (MQTT 5.0, 3.2.2.2).
const RATE_EXCEEDED: Reason = Reason(0x9F);

/// What carries the bytes, whichever way the client came.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}
type Stream = Box<dyn Socket>;
type Wire = (Reader<Metered<ReadHalf<Stream>>>, Writer<Metered<WriteHalf<Stream>>>);

/// A connection that was accepted.
pub(super) struct Connection {
    pub peer: SocketAddr,
    pub broker: Broker,
    pub house: Arc<House>,
    pub door: watch::Receiver<Door>,
    pub config: Arc<Config>,
}

/// A client that has said CONNECT.
struct Arrival {
    wire: Wire,
    connect: Connect,
    certificate: Certificate,
    /// CONNECT, and what came with it.
    packets: Vec<Packet>,
}

impl Connection {
    /// Serves the client until one side ends it. `place` is its own in the room of those who have not said CONNECT.
    ///
    /// # Errors
    /// Why it ended, when that was not as MQTT has it.
    pub(super) async fn serve(mut self, stream: TcpStream, place: Place) -> Result<(), Error> {
        let arrival = tokio::select! {
            // Boxed: its room is given back when it is done, and the connection may live for months.
            arrival = Box::pin(self.arrive(stream)) => arrival?,
            () = place.lost() => {
                return Err(Error::Bad(RATE_EXCEEDED, "it had not said CONNECT, and too many others wait to"));
            }
        };
        drop(place);
        let Arrival { wire: (reader, mut writer), mut connect, certificate, mut packets } = arrival;
        let Ok(permit) = self.house.clients.clone().try_acquire_owned() else {
            return refuse(reader, writer, Reason::QUOTA_EXCEEDED, "`max-clients` are connected already").await;
        };
        let identity = match self.login(certificate, &connect).await {
            Ok(identity) => identity,
            Err((reason, why)) => {
                drop(permit);
                return refuse(reader, writer, reason, why).await;
            }
        };
        if let Identity::Certificate(name) = &identity {
            connect.user = Some(name.clone());
            packets[0] = Packet::Connect(Box::new(connect.clone()));
        }
        let mut link = self.broker.open(false).await;
        link.send(packets).await;
        // CONNACK goes before all else, also to a client whose next packet is a bad one.
        let Some(mut answer) = link.recv().await else { return Ok(()) };
        if let (Some(bound), Some(Packet::ConnAck(ack))) = (self.shorter_keep_alive(&connect), answer.first_mut()) {
            ack.server_keep_alive = Some(bound);
            connect.keep_alive = Duration::from_secs(bound.into());
        }
        send(&mut writer, &link, &answer).await?;
        let told = match answer.first() {
            Some(Packet::ConnAck(ack)) if !ack.reason.is_error() => ack,
            // Whatever it sends behind that is not looked at (MQTT-3.1.4-6), nor answered (MQTT-3.14.0-1).
            _ => {
                part(reader, writer).await;
                return Ok(());
            }
        };
        let quota = Quota::new(connect.version, told.receive_maximum.get());
        let carried = self.carry(reader, writer, link, &connect, &identity, quota).await;
        drop(permit);
        carried
    }

    /// The handshakes, up to a whole CONNECT.
    async fn arrive(&self, stream: TcpStream) -> Result<Arrival, Error> {
        stream.set_nodelay(true)?;
        // A client that lost its power says no good-bye, and may have turned MQTT's own keep alive off.
        rustix::net::sockopt::set_socket_keepalive(&stream, true).map_err(io::Error::from)?;
        rustix::net::sockopt::set_tcp_keepidle(&stream, PROBE_AFTER).map_err(io::Error::from)?;
        let tls = self.door.borrow().tls.clone();
        let (stream, certificate) = match tls {
            Some(tls) => {
                let (stream, certificate) = self.in_time("no TLS handshake in time", tls.accept(stream)).await??;
                (self.dress(stream).await?, certificate)
            }
            None => (self.dress(stream).await?, Certificate::None),
        };
        let traffic = self.broker.traffic();
        traffic.opened();
        let (read, write) = split(stream);
        let (read, write) = (traffic.meter(read), traffic.meter(write));
        let mut reader = Reader::server(read, self.house.max_packet);
        let packets = match self.in_time("no CONNECT in time", reader.recv()).await? {
            Ok(packets) => packets,
            // MQTT 5 has a code for everything; 3.1.1 has one for these two.
            Err(Error::Bad(reason, why))
                if reader.version() == Some(Version::V5)
                    || matches!(reason, Reason::UNSUPPORTED_VERSION | Reason::CLIENT_ID_NOT_VALID) =>
            {
                let writer = Writer::new(write, reader.version().unwrap_or(Version::V311));
                return refuse(reader, writer, reason, why).await;
            }
            Err(error) => return Err(error),
        };
        let Some(Packet::Connect(connect)) = packets.first() else {
            return Err(Error::Bad(Reason::PROTOCOL_ERROR, "the first packet is not CONNECT"));
        };
        let connect = (**connect).clone();
        let mut writer = Writer::new(write, connect.version);
        writer.set_limits(&connect);
        Ok(Arrival { wire: (reader, writer), connect, certificate, packets })
    }

    /// The stream as bytes of MQTT.
    async fn dress<S: Socket + 'static>(&self, stream: S) -> Result<Stream, Error> {
        if !self.config.websocket {
            return Ok(Box::new(stream));
        }
        let max_message = usize::try_from(self.house.max_packet).unwrap_or(usize::MAX);
        let accepting = upgrade::accept(stream, &self.config.origins, max_message);
        Ok(Box::new(self.in_time("no WebSocket handshake in time", accepting).await??))
    }

    async fn in_time<T>(&self, late: &'static str, step: impl Future<Output = T>) -> Result<T, Error> {
        timeout(self.house.connect_timeout, step).await.map_err(|_| Error::Bad(Reason::PROTOCOL_ERROR, late))
    }

    /// Finds out who it is.
    async fn login(&self, certificate: Certificate, connect: &Connect) -> Result<Identity, (Reason, &'static str)> {
        if connect.authentication_method.is_some() {
            return Err((Reason::BAD_AUTHENTICATION_METHOD, "it asks for an authentication that there is not"));
        }
        let (door, from) = (self.door.borrow().clone(), self.peer.ip());
        let admitted = if door.asks_password(&certificate, connect) {
            let look = async {
                // Slow on purpose, and the rest must go on.
                let _turn = self.house.logins.acquire().await;
                let connect = connect.clone();
                let admitted = tokio::task::spawn_blocking(move || door.admit(from, certificate, &connect));
                admitted.await.unwrap_or(Err(Reason::UNSPECIFIED))
            };
            let looked = self.house.addresses.look(from, look).await;
            looked.map_err(|TooMany| (RATE_EXCEEDED, "too many wrong passwords came from its address"))?
        } else {
            door.admit(from, certificate, connect)
        };
        admitted.map_err(|reason| match reason {
            Reason::BAD_USER_OR_PASSWORD => (reason, "wrong user or password"),
            _ => (reason, "it has no user name (or no name in its certificate), and may not connect without"),
        })
    }

    /// The keep alive that the client is told to use in place of its own, in seconds. Before MQTT 5 nobody can be told.
    fn shorter_keep_alive(&self, connect: &Connect) -> Option<u16> {
        let bound = self.house.max_keep_alive.filter(|_| connect.version == Version::V5)?;
        let asked = connect.keep_alive;
        (asked.is_zero() || asked > Duration::from_secs(bound.into())).then_some(bound)
    }

    /// Carries packets between the wire and the router until one of them ends.
    async fn carry<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        mut reader: Reader<R>,
        mut writer: Writer<W>,
        mut link: Link,
        connect: &Connect,
        identity: &Identity,
        mut quota: Quota,
    ) -> Result<(), Error> {
        // One and a half times the keep alive (MQTT 5.0, 3.1.2.10); far away when it is off.
        let patience = match connect.keep_alive {
            Duration::ZERO => Duration::from_secs(10 * 365 * 24 * 3600),
            keep_alive => keep_alive.mul_f64(1.5),
        };
        let mut deadline = Instant::now() + patience;
        loop {
            let pending = writer.pending();
            let (reason, why) = tokio::select! {
                packets = reader.recv(), if pending < HIGH_WATER && !quota.is_used_up() => match packets {
                    Ok(packets) => {
                        deadline = Instant::now() + patience;
                        match quota.came(&packets) {
                            Ok(()) => {
                                link.send(packets).await;
                                continue;
                            }
                            Err(reason) => (reason, "more publishes than the receive maximum at the same time"),
                        }
                    }
                    Err(Error::Bad(reason, what)) => (reason, what),
                    Err(error) => return Err(error),
                },
                packets = link.recv(), if pending < HIGH_WATER => match packets {
                    Some(packets) => {
                        if quota.is_used_up() {
                            // It was not heard meanwhile.
                            deadline = Instant::now() + patience;
                        }
                        quota.went(&packets);
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
                    if pending >= HIGH_WATER {
                        // Nothing was read meanwhile: the client's signs of life may be waiting.
                        deadline = Instant::now() + patience;
                    }
                    continue;
                }
                Ok(()) = self.door.changed() => {
                    if self.door.borrow_and_update().still_admits(self.peer.ip(), identity) {
                        continue;
                    }
                    (ADMINISTRATIVE_ACTION, "its user is gone from the list, or has a new password")
                }
                () = sleep_until(deadline) => {
                    (Reason::KEEP_ALIVE_TIMEOUT, "nothing came within one and a half times the keep alive")
                }
            };
            // The router learns at once, not when the client has taken its leave.
            drop(link);
            if connect.version == Version::V5 {
                // Without it the client learns by the end of the stream.
                let _ = writer.queue_because(&Packet::Disconnect { reason, expiry: None }, why);
            }
            part(reader, writer).await;
            return Err(Error::Bad(reason, why));
        }
    }
}

async fn send<W: AsyncWrite + Unpin>(writer: &mut Writer<W>, link: &Link, packets: &[Packet]) -> Result<(), Error> {
    for packet in packets {
        match (writer.queue(packet), packet) {
            // A message that the client says it cannot take is done with, as if it had been sent (MQTT-3.1.2-25).
            (Err(Error::TooLarge), Packet::Publish(publish)) => {
                tracing::debug!("a message on {} is larger than its subscriber takes", publish.message.topic);
                if let Some(id) = publish.id {
                    let ack = Ack { id, reason: Reason::PACKET_TOO_LARGE };
                    let ack = if publish.qos == crate::message::QoS::AtLeastOnce {
                        Packet::PubAck(ack)
                    } else {
                        Packet::PubRec(ack)
                    };
                    link.send(vec![ack]).await;
                }
            }
            (result, _) => result?,
        }
    }
    Ok(())
}

/// Says in CONNACK why a client may not come in, as far as its version can.
async fn refuse<T, R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: Reader<R>,
    mut writer: Writer<W>,
    reason: Reason,
    why: &'static str,
) -> Result<T, Error> {
    writer.queue_because(&Packet::ConnAck(Box::new(ConnAck::new(reason))), why)?;
    part(reader, writer).await;
    Err(Error::Bad(reason, why))
}

/// Writes the last words and closes.
async fn part<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(mut reader: Reader<R>, mut writer: Writer<W>) {
    let said = async { writer.flush().await.is_ok() && writer.shutdown().await.is_ok() };
    if timeout(CLOSE_TIMEOUT, said).await == Ok(true) {
        // Closing on what it still sends would be a reset, which takes our last words from it.
        let _ = timeout(LINGER, reader.discard()).await;
    }
}

#[cfg(test)]
mod tests;
