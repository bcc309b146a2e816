//! One connection, in a task of its own: handshakes, CONNECT and login, until the client is in and is [`carried`](carry).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use super::addresses::Unseen;
use super::carry::{self, Guest, part};
use super::config::Config;
use super::door::{Admission, Claim, Door, Identity};
use super::house::House;
use super::life::Life;
use super::tls::{Certificate, Trust};
use super::upgrade;
use super::waiting::Place;
use crate::broker::Broker;
use crate::broker::quota::Quota;
use crate::broker::traffic::Metered;
use crate::mqtt::wire::{Error, MOST_CONNECT, Reader, Writer};
use crate::mqtt::{ConnAck, Connect, Packet, Reason, Version};

/// How long a connection may be silent before the kernel probes it.
const PROBE_AFTER: Duration = Duration::from_secs(120);

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
    connect: Box<Connect>,
    /// What came with it.
    early: Vec<Packet>,
    certificate: Certificate,
    /// By which its certificate was looked at, if certificates are.
    trust: Option<Arc<Trust>>,
    life: Life,
}

/// A client that may come in.
struct Entry {
    wire: Wire,
    connect: Box<Connect>,
    early: Vec<Packet>,
    admission: Admission,
    life: Life,
    permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Serves the client until one side ends it. `place` is its own in the room of those who have not said CONNECT.
    ///
    /// # Errors
    /// Why it ended, when that was not as MQTT has it.
    pub(super) async fn serve(mut self, stream: TcpStream, place: Place) -> Result<(), Error> {
        let entry = tokio::select! {
            // Boxed: its room is given back when it is done, and the connection may live for months.
            entry = Box::pin(self.enter(stream)) => entry?,
            () = place.lost() => {
                let why = "it was not in yet, and too many others want to be";
                return Err(Error::Bad(Reason::CONNECTION_RATE_EXCEEDED, why));
            }
        };
        drop(place);
        let Entry { wire: (reader, mut writer), connect, early, admission, life, permit } = entry;
        let (version, mut keep_alive) = (connect.version, connect.keep_alive);
        let mut link = self.broker.open(None).await;
        link.send(vec![Packet::Connect(connect)]).await;
        // CONNACK goes before all else, also to a client whose next packet is a bad one.
        let Some(mut answer) = link.recv().await else { return Ok(()) };
        if let (Some(bound), Some(Packet::ConnAck(ack))) =
            (self.shorter_keep_alive(version, keep_alive), answer.first_mut())
        {
            ack.server_keep_alive = Some(bound);
            keep_alive = Duration::from_secs(bound.into());
        }
        carry::send(&mut writer, &link, &answer).await?;
        let told = match answer.first() {
            Some(Packet::ConnAck(ack)) if !ack.reason.is_error() => ack,
            // Whatever it sends behind that is not looked at (MQTT-3.1.4-6), nor answered (MQTT-3.14.0-1).
            _ => {
                part(reader, writer).await;
                return Ok(());
            }
        };
        let quota = Quota::new(version, told.receive_maximum.get());
        drop(answer);
        let guest = Guest { from: self.peer.ip(), version, keep_alive, admission, quota, life };
        let carried = guest.carry((reader, writer), link, early, &mut self.door).await;
        drop(permit);
        carried
    }

    /// All that comes before a client is in. Only then does it take one of the places for clients.
    async fn enter(&self, stream: TcpStream) -> Result<Entry, Error> {
        let Arrival { wire, mut connect, early, certificate, trust, life } = self.arrive(stream).await?;
        let has_certificate = certificate != Certificate::None;
        // The password is of no use to anybody behind this door.
        let name = connect.user.clone();
        let claim = Claim { user: connect.user.take(), password: connect.password.take() };
        let identity = match self.login(certificate, claim, connect.authentication_method.is_some()).await {
            Ok(identity) => identity,
            Err((reason, why)) => {
                let name = name.as_deref().unwrap_or("none");
                let (client, peer) = (&connect.client_id, self.peer);
                self.house.complaints.say(&format!("client {client} at {peer}, user {name}, was not let in: {why}"));
                // It is said; nothing more has to be.
                let _: Result<Entry, Error> = refuse(wire, reason, why).await;
                return Err(Error::Closed);
            }
        };
        let Ok(permit) = self.house.clients.clone().try_acquire_owned() else {
            return refuse(wire, Reason::QUOTA_EXCEEDED, "`max-clients` are connected already").await;
        };
        // A name that nobody has checked is no name.
        connect.user = identity.user();
        life.let_in();
        let admission = Admission { identity, trust: trust.filter(|_| has_certificate) };
        Ok(Entry { wire, connect, early, admission, life, permit })
    }

    /// The handshakes, up to a whole CONNECT.
    async fn arrive(&self, stream: TcpStream) -> Result<Arrival, Error> {
        stream.set_nodelay(true)?;
        // A client that lost its power says no good-bye, and may have turned MQTT's own keep alive off.
        rustix::net::sockopt::set_socket_keepalive(&stream, true).map_err(io::Error::from)?;
        rustix::net::sockopt::set_tcp_keepidle(&stream, PROBE_AFTER).map_err(io::Error::from)?;
        let life = Life::new();
        let tls = self.door.borrow().tls.clone();
        let trust = tls.as_ref().and_then(|tls| tls.trust.clone());
        let (stream, certificate) = match tls {
            Some(tls) => {
                let (stream, certificate) = self.in_time("no TLS handshake in time", tls.accept(stream)).await??;
                (self.dress(stream, &life).await?, certificate)
            }
            None => (self.dress(stream, &life).await?, Certificate::None),
        };
        let traffic = self.broker.traffic();
        traffic.opened();
        let (read, write) = split(stream);
        let (read, write) = (traffic.meter(read), traffic.meter(write));
        let mut reader = Reader::server(read, self.house.max_packet);
        let mut packets = match self.in_time("no CONNECT in time", reader.recv()).await? {
            Ok(packets) => packets,
            // MQTT 5 has a code for everything; 3.1.1 has one for these two.
            Err(Error::Bad(reason, why))
                if reader.version() == Some(Version::V5)
                    || matches!(reason, Reason::UNSUPPORTED_VERSION | Reason::CLIENT_ID_NOT_VALID) =>
            {
                let writer = Writer::new(write, reader.version().unwrap_or(Version::V311));
                return refuse((reader, writer), reason, why).await;
            }
            Err(error) => return Err(error),
        };
        let early = packets.split_off(1.min(packets.len()));
        let Some(Packet::Connect(connect)) = packets.pop() else {
            return Err(Error::Bad(Reason::PROTOCOL_ERROR, "the first packet is not CONNECT"));
        };
        let mut writer = Writer::new(write, connect.version);
        writer.set_limits(&*connect);
        Ok(Arrival { wire: (reader, writer), connect, early, certificate, trust, life })
    }

    /// The stream as bytes of MQTT.
    async fn dress<S: Socket + 'static>(&self, stream: S, life: &Life) -> Result<Stream, Error> {
        let stream = life.of(stream);
        if !self.config.websocket {
            return Ok(Box::new(stream));
        }
        let guest = usize::try_from(self.house.max_packet).unwrap_or(usize::MAX);
        let life = life.clone();
        let bound = move || if life.is_guest() { guest } else { guest.min(MOST_CONNECT) };
        let accepting = upgrade::accept(stream, &self.config.origins, Box::new(bound));
        Ok(Box::new(self.in_time("no WebSocket handshake in time", accepting).await??))
    }

    async fn in_time<T>(&self, late: &'static str, step: impl Future<Output = T>) -> Result<T, Error> {
        timeout(self.house.connect_timeout, step).await.map_err(|_| Error::Bad(Reason::PROTOCOL_ERROR, late))
    }

    /// Finds out who it is.
    async fn login(
        &self,
        certificate: Certificate,
        claim: Claim,
        asks_method: bool,
    ) -> Result<Identity, (Reason, &'static str)> {
        if asks_method {
            return Err((Reason::BAD_AUTHENTICATION_METHOD, "it asks for an authentication that there is not"));
        }
        let (door, from) = (self.door.borrow().clone(), self.peer.ip());
        let admitted = match claim.user.clone().filter(|_| door.asks_password(&certificate)) {
            Some(user) => {
                let look = async {
                    // Slow on purpose, and the rest must go on.
                    let admitted = tokio::task::spawn_blocking(move || door.admit(from, certificate, &claim));
                    admitted.await.unwrap_or(Err(Reason::UNSPECIFIED))
                };
                self.house.addresses.look(from, &user, look).await.map_err(|unseen| match unseen {
                    Unseen::TooManyWrong => {
                        (Reason::CONNECTION_RATE_EXCEEDED, "too many wrong passwords came from its address")
                    }
                    Unseen::Busy => (Reason::SERVER_BUSY, "too many others log in at the same time: try again later"),
                })?
            }
            None => door.admit(from, certificate, &claim),
        };
        admitted.map_err(|reason| match reason {
            Reason::BAD_USER_OR_PASSWORD => (reason, "wrong user or password"),
            _ => (reason, "it has no user name (or no name in its certificate), and may not connect without"),
        })
    }

    /// The keep alive that the client is told to use in place of its own, in seconds. Before MQTT 5 nobody can be told.
    fn shorter_keep_alive(&self, version: Version, asked: Duration) -> Option<u16> {
        let bound = self.house.max_keep_alive.filter(|_| version == Version::V5)?;
        (asked.is_zero() || asked > Duration::from_secs(bound.into())).then_some(bound)
    }
}

/// Says in CONNACK why a client may not come in, as far as its version can.
async fn refuse<T, R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    (reader, mut writer): (Reader<R>, Writer<W>),
    reason: Reason,
    why: &'static str,
) -> Result<T, Error> {
    writer.queue_because(&Packet::ConnAck(Box::new(ConnAck::new(reason))), why)?;
    part(reader, writer).await;
    Err(Error::Bad(reason, why))
}

#[cfg(test)]
mod tests;
