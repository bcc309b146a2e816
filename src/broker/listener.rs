//! Where clients connect: a TCP port, and one task a connection between its wire and the router.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::quota::Quota;
use super::{Broker, Link};
use crate::mqtt::wire::{Error, Reader, Writer};
use crate::mqtt::{Ack, ConnAck, Connect, Packet, Reason, Version};

/// How long a socket may stay open without a whole CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be silent before the kernel probes it.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(120);
/// How long a closing connection may take to write its last packets.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client that was told to go may go on sending.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that wait for a slow socket before nothing more is taken, from it or for it.
const HIGH_WATER: usize = 256 * 1024;
/// Password hashes computed at the same time: they are slow on purpose, and the rest must go on.
const LOGINS: usize = 2;

/// A bound port, not yet served.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    access: Arc<Access>,
    max_clients: u16,
    max_packet: u32,
}

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    /// When the port is in use, may not be used, or the address is not this machine's; the text names it.
    pub async fn bind(address: &str, access: Arc<Access>, max_clients: u16, max_packet: u32) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await.map_err(|e| {
            let advice = match e.kind() {
                io::ErrorKind::AddrInUse => "another program (another MQTT broker?) has this port",
                io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege",
                _ => "set `listen` in [broker] to an address of this machine",
            };
            io::Error::new(e.kind(), format!("the broker cannot listen on {address}: {e}; {advice}"))
        })?;
        Ok(Self { socket, access, max_clients, max_packet })
    }

    /// The address that is bound.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves clients until `stop`.
    pub async fn run(self, broker: Broker, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.max_clients.into()));
        let logins = Arc::new(Semaphore::new(LOGINS));
        let complaints = Arc::new(Complaints::default());
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    // Out of file descriptors, mostly: those who are connected go on, new ones wait.
                    tracing::warn!("the broker cannot accept a connection: {e}");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                complaints.say(&format!("{peer} was turned away: {} clients are connected already", self.max_clients));
                continue;
            };
            let (broker, access, logins) = (broker.clone(), self.access.clone(), logins.clone());
            let complaints = complaints.clone();
            let max_packet = self.max_packet;
            tokio::spawn(async move {
                match serve(stream, broker, access, logins, max_packet).await {
                    Ok(()) => {}
                    Err(e @ Error::Bad(..)) => complaints.say(&format!("{peer} was cut off: {e}")),
                    Err(e) => tracing::debug!("{peer}: {e}"),
                }
                drop(place);
            });
        }
    }
}

/// What clients do wrong goes to the log, but no client may fill it: one line every [`Complaints::PAUSE`].
#[derive(Debug, Default)]
struct Complaints(Mutex<(Option<Instant>, u64)>);

impl Complaints {
    const PAUSE: Duration = Duration::from_secs(10);

    fn say(&self, what: &str) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, more) = &mut *state;
        if last.is_some_and(|last| last.elapsed() < Self::PAUSE) {
            *more += 1;
            return;
        }
        match std::mem::take(more) {
            0 => tracing::warn!("{what}"),
            more => tracing::warn!("{what} (and {more} other complaints about clients before)"),
        }
        *last = Some(Instant::now());
    }
}

async fn serve(
    stream: TcpStream,
    broker: Broker,
    access: Arc<Access>,
    logins: Arc<Semaphore>,
    max_packet: u32,
) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    // A client that lost its power says no good-bye, and may have turned MQTT's own keep alive off.
    rustix::net::sockopt::set_socket_keepalive(&stream, true).map_err(io::Error::from)?;
    rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE_AFTER).map_err(io::Error::from)?;
    let traffic = broker.traffic();
    traffic.opened();
    let (read, write) = stream.into_split();
    let (read, write) = (traffic.meter(read), traffic.meter(write));
    let mut reader = Reader::server(read, max_packet);
    let first = match timeout(CONNECT_TIMEOUT, reader.recv()).await {
        Ok(Ok(packets)) => packets,
        Ok(Err(error)) => {
            let version = reader.version().unwrap_or(Version::V311);
            return turn_away(write, version, error).await;
        }
        Err(_) => return Err(Error::Bad(Reason::PROTOCOL_ERROR, "no CONNECT in time")),
    };
    let Some(Packet::Connect(connect)) = first.first() else {
        return Err(Error::Bad(Reason::PROTOCOL_ERROR, "the first packet is not CONNECT"));
    };
    let connect = connect.clone();
    let mut writer = Writer::new(write, connect.version);
    writer.set_limits(&*connect);
    if !login(access, &connect, &logins).await {
        let (reason, why) = match connect.user {
            Some(_) => (Reason::BAD_USER_OR_PASSWORD, "wrong user or password"),
            None => (Reason::NOT_AUTHORIZED, "no user name, and the broker has a user list"),
        };
        writer.queue(&Packet::ConnAck(Box::new(ConnAck::new(reason))))?;
        writer.flush().await?;
        return Err(Error::Bad(reason, why));
    }
    let mut link = broker.open(false).await;
    link.send(first).await;
    // CONNACK goes before all else, also to a client whose next packet is a bad one.
    let Some(answer) = link.recv().await else { return Ok(()) };
    send(&mut writer, &link, &answer).await?;
    let Some(Packet::ConnAck(told)) = answer.first() else { return Ok(()) };
    let quota = Quota::new(connect.version, told.receive_maximum.get());
    carry(reader, writer, link, &connect, quota).await
}

/// Carries packets between the wire and the router until one of them ends.
async fn carry<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut reader: Reader<R>,
    mut writer: Writer<W>,
    mut link: Link,
    connect: &Connect,
    mut quota: Quota,
) -> Result<(), Error> {
    let v5 = connect.version == Version::V5;
    // One and a half times the keep alive (MQTT 5.0, 3.1.2.10); far away when it is off.
    let patience = match connect.keep_alive {
        Duration::ZERO => Duration::from_secs(10 * 365 * 24 * 3600),
        keep_alive => keep_alive.mul_f64(1.5),
    };
    let mut deadline = Instant::now() + patience;
    loop {
        let pending = writer.pending();
        tokio::select! {
            packets = reader.recv(), if pending < HIGH_WATER && !quota.is_used_up() => match packets {
                Ok(packets) => {
                    deadline = Instant::now() + patience;
                    if let Err(reason) = quota.came(&packets) {
                        part(reader, writer, v5, reason).await;
                        return Err(Error::Bad(reason, "more publishes than the receive maximum at the same time"));
                    }
                    link.send(packets).await;
                }
                Err(Error::Bad(reason, what)) => {
                    part(reader, writer, v5, reason, what).await;
                    return Err(Error::Bad(reason, what));
                }
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
                }
                None => {
                    let _ = timeout(CLOSE_TIMEOUT, async { writer.flush().await?; writer.shutdown().await }).await;
                    return Ok(());
                }
            },
            written = writer.write_some(), if pending > 0 => {
                written?;
                if pending >= HIGH_WATER {
                    // Nothing was read meanwhile: the client's signs of life may be waiting.
                    deadline = Instant::now() + patience;
                }
            }
            () = sleep_until(deadline) => {
                let reason = Reason::KEEP_ALIVE_TIMEOUT;
                part(reader, writer, v5, reason, reason.text()).await;
                return Err(Error::Bad(reason, "nothing came within one and a half times the keep alive"));
            }
        }
    }
}

/// Ends a connection from this side, and says why where the version can.
async fn part<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut reader: Reader<R>,
    mut writer: Writer<W>,
    v5: bool,
    reason: Reason,
    why: &str,
) {
    if v5 {
        // Without it the client learns by the end of the stream.
        let _ = writer.queue_because(&Packet::Disconnect { reason, expiry: None }, why);
    }
    let said = async { writer.flush().await.is_ok() && writer.shutdown().await.is_ok() };
    if timeout(CLOSE_TIMEOUT, said).await == Ok(true) {
        // Closing on what it still sends would be a reset, which takes our last words from it.
        let _ = timeout(LINGER, reader.discard()).await;
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

/// Says why, as far as the version can, to a client whose first bytes were not a good CONNECT.
async fn turn_away<W: AsyncWrite + Unpin>(write: W, version: Version, error: Error) -> Result<(), Error> {
    // MQTT 5 has a code for everything; 3.1.1 has one for these two.
    if let Error::Bad(reason, why) = error
        && (version == Version::V5 || matches!(reason, Reason::UNSUPPORTED_VERSION | Reason::CLIENT_ID_NOT_VALID))
    {
        let mut writer = Writer::new(write, version);
        writer.queue_because(&Packet::ConnAck(Box::new(ConnAck::new(reason))), why)?;
        let _ = timeout(CLOSE_TIMEOUT, writer.flush()).await;
    }
    Err(error)
}

async fn login(access: Arc<Access>, connect: &Connect, logins: &Semaphore) -> bool {
    let _place = logins.acquire().await;
    let (user, password) = (connect.user.clone(), connect.password.clone());
    let checked = tokio::task::spawn_blocking(move || access.may_connect(user.as_deref(), password.as_deref()));
    checked.await.unwrap_or(false)
}
