//! The connection to the cloud: from an address to a session that is ready.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::address::Address;
use super::carry::STUCK;
use super::{Config, tls};
use crate::message::{Message, QoS};
use crate::mqtt::wire::{Framed, Reader, TOPIC_ALIAS_MAXIMUM, Writer};
use crate::mqtt::{
    ConnAck, Connect, Packet, PacketId, Publish, Reason, RetainHandling, Subscribe, SubscribeOptions, Will,
};
use crate::status::{OFFLINE, ONLINE};

/// How long each step of connecting may take.
const STEP: Duration = Duration::from_secs(10);

/// The largest packet taken from the cloud, in bytes.
const MAX_PACKET: u32 = 4 << 20;

/// Ids of the packets that make the session ready; no publish is under way yet.
const SUBSCRIBE: PacketId = PacketId::MIN;
const STATUS: PacketId = PacketId::MAX;

/// A connection to the cloud that is ready: logged in, subscribed, and with our status published.
pub(super) struct Cloud {
    pub(super) reader: Reader<ReadHalf<Box<dyn Stream>>>,
    pub(super) writer: Writer<WriteHalf<Box<dyn Stream>>>,
    /// What the cloud allows.
    pub(super) ack: ConnAck,
    /// What came before we were ready.
    pub(super) early: Vec<Packet>,
}

/// Bytes both ways: TCP, or TLS over it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Who we are to the cloud.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) client_id: Arc<str>,
    /// Where our status stands.
    pub(super) status: Option<Arc<str>>,
}

impl Identity {
    /// Our status, to be published at the cloud.
    pub(super) fn status(&self, online: bool) -> Option<Message> {
        let text = if online { ONLINE } else { OFFLINE };
        self.status.clone().map(|topic| Message::retained(topic, text))
    }
}

impl Cloud {
    /// Connects to `address`.
    ///
    /// # Errors
    /// When that fails; the text is for the person who has to mend it.
    pub(super) async fn connect(address: &Address, config: &Config, identity: &Identity) -> Result<Self, String> {
        let tcp = dial(address, config.keep_alive.0).await?;
        let stream: Box<dyn Stream> = if address.tls {
            let wrapped = timeout(STEP, tls::wrap(tcp, &address.host, config)).await;
            Box::new(wrapped.map_err(|_| format!("TLS: {address} does not answer"))??)
        } else {
            Box::new(tcp)
        };
        let silent = || format!("{address} accepts connections, but does not answer MQTT");
        timeout(STEP, greet(stream, config, identity)).await.map_err(|_| silent())?
    }
}

/// What a reason code means, with its number.
pub(super) fn meaning(reason: Reason) -> String {
    let text = match reason {
        Reason::UNSPECIFIED => "no reason given",
        Reason::MALFORMED => "malformed packet",
        Reason::PROTOCOL_ERROR => "protocol error",
        Reason::UNSUPPORTED_VERSION => "this version of MQTT is not spoken there; set `protocol`",
        Reason::CLIENT_ID_NOT_VALID => "client id not allowed",
        Reason::BAD_USER_OR_PASSWORD => "bad user or password",
        Reason::NOT_AUTHORIZED => "not authorised",
        Reason::SERVER_UNAVAILABLE => "server unavailable",
        Reason::SERVER_BUSY => "server busy",
        Reason::SERVER_SHUTTING_DOWN => "server shutting down",
        Reason::BAD_AUTHENTICATION_METHOD => "bad authentication method",
        Reason::KEEP_ALIVE_TIMEOUT => "keep alive timeout",
        Reason::SESSION_TAKEN_OVER => "another client uses the same client id",
        Reason::TOPIC_FILTER_INVALID => "topic filter not allowed",
        Reason::TOPIC_NAME_INVALID => "topic not allowed",
        Reason::PACKET_TOO_LARGE => "packet too large",
        Reason::QUOTA_EXCEEDED => "quota exceeded",
        Reason(0x8A) => "banned",
        Reason(0x99) => "payload format invalid",
        Reason(0x9A) => "retained messages not supported",
        Reason(0x9C | 0x9D) => "use another server",
        Reason(0x9F) => "too many connections",
        Reason(0x00) => "normal disconnection",
        _ => "refused",
    };
    format!("{text} ({:#04x})", reason.0)
}

async fn dial(address: &Address, keep_alive: Duration) -> Result<TcpStream, String> {
    let Address { host, port, .. } = address;
    let found = timeout(STEP, tokio::net::lookup_host((host.as_str(), *port))).await;
    let found = found.map_err(|_| format!("cannot find {host}: the name server does not answer"))?;
    let found: Vec<SocketAddr> = found.map_err(|e| format!("cannot find {host}: {e}"))?.collect();
    let mut why = format!("{host} has no address");
    for socket in found {
        match timeout(STEP, TcpStream::connect(socket)).await {
            Ok(Ok(stream)) => {
                tune(&stream, keep_alive).map_err(|e| format!("cannot set up the connection to {socket}: {e}"))?;
                return Ok(stream);
            }
            Ok(Err(e)) => why = format!("cannot connect to {socket}: {e}"),
            Err(_) => why = format!("cannot connect to {socket}: no answer"),
        }
    }
    Err(why)
}

/// Sends at once, and lets the kernel notice a dead peer about when we would: one that confirms no byte. A slow one
/// confirms now and then.
fn tune(stream: &TcpStream, keep_alive: Duration) -> std::io::Result<()> {
    use rustix::net::sockopt;
    let patience = keep_alive.mul_f64(1.5).max(STUCK);
    let millis = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    // The kernel takes at most 32767 s between probes.
    sockopt::set_tcp_keepidle(stream, keep_alive.min(Duration::from_secs(32_000)))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    sockopt::set_tcp_user_timeout(stream, millis)?;
    Ok(())
}

async fn greet(stream: Box<dyn Stream>, config: &Config, identity: &Identity) -> Result<Cloud, String> {
    let lost = |e: &dyn std::fmt::Display| format!("the connection was lost while logging in: {e}");
    let mut framed = Framed::client(stream, config.protocol.into(), MAX_PACKET);
    let connect = connect(config, identity)?;
    framed.queue(&Packet::Connect(Box::new(connect))).map_err(|e| lost(&e))?;
    framed.flush().await.map_err(|e| lost(&e))?;
    let mut packets = framed.recv().await.map_err(|e| lost(&e))?.into_iter();
    let ack = match packets.next() {
        Some(Packet::ConnAck(ack)) if ack.reason.is_error() => return Err(refusal(&ack)),
        Some(Packet::ConnAck(ack)) => *ack,
        _ => return Err("the cloud answered CONNECT with something else than CONNACK".into()),
    };
    let mut early: Vec<Packet> = packets.collect();
    let (mut reader, mut writer) = framed.split();
    writer.set_limits(&ack);

    let mut awaited = 0;
    for packet in [subscribe(config), online(identity, &ack)].into_iter().flatten() {
        awaited += usize::from(!matches!(packet, Packet::Publish(Publish { qos: QoS::AtMostOnce, .. })));
        writer.queue(&packet).map_err(|e| format!("cannot log in: {e}"))?;
    }
    writer.flush().await.map_err(|e| lost(&e))?;
    loop {
        let before = early.len();
        early.retain(|packet| !answered(packet, config, identity));
        // A cloud may answer more than it was asked.
        awaited = usize::saturating_sub(awaited, before - early.len());
        if let Some(Packet::Disconnect { reason, .. }) = early.iter().find(|p| matches!(p, Packet::Disconnect { .. })) {
            return Err(format!("the cloud ended the connection while logging in: {}", meaning(*reason)));
        }
        if awaited == 0 {
            return Ok(Cloud { reader, writer, ack, early });
        }
        early.extend(reader.recv().await.map_err(|e| lost(&e))?);
    }
}

/// Whether a packet answers one of ours; says in the log what was refused.
fn answered(packet: &Packet, config: &Config, identity: &Identity) -> bool {
    match packet {
        Packet::SubAck { id: SUBSCRIBE, reasons } => {
            for (rule, reason) in config.subscribe.iter().zip(reasons).filter(|(_, reason)| reason.is_error()) {
                tracing::error!("the cloud refused the subscription to {}: {}", rule.filter, meaning(*reason));
            }
            true
        }
        Packet::PubAck(ack) if ack.id == STATUS => {
            if ack.reason.is_error() {
                let topic = identity.status.as_deref().unwrap_or_default();
                tracing::error!("the cloud refused our status on {topic}: {}", meaning(ack.reason));
            }
            true
        }
        _ => false,
    }
}

fn connect(config: &Config, identity: &Identity) -> Result<Connect, String> {
    let password = config.password.as_ref().map(|secret| secret.read().map(Bytes::from)).transpose();
    Ok(Connect {
        version: config.protocol.into(),
        client_id: identity.client_id.clone(),
        // What goes up is kept here until it is acknowledged. Downward the cloud keeps nothing: what it has to send while
        // we are away is lost but for the retained messages, which it sends again at each subscription. A command is for
        // now; one from hours ago must not move a pump.
        clean_start: true,
        expiry: 0,
        keep_alive: Duration::from_secs(config.keep_alive.0.as_secs()),
        user: config.username.as_deref().map(Into::into),
        password: password.map_err(|e| e.to_string())?,
        will: identity.status(false).map(|message| Will { message, delay: Duration::ZERO }),
        receive_maximum: NonZeroU16::new(config.window).unwrap_or(NonZeroU16::MAX),
        maximum_packet_size: Some(MAX_PACKET),
        topic_alias_maximum: TOPIC_ALIAS_MAXIMUM,
        problem_info: true,
        authentication_method: None,
    })
}

fn subscribe(config: &Config) -> Option<Packet> {
    let filters = config.subscribe.iter().map(|rule| {
        // Our own publishes are not to come back, and `retain` is to arrive as it was sent.
        let options = SubscribeOptions {
            qos: rule.qos,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::Send,
        };
        (rule.filter.clone(), options)
    });
    let filters: Vec<_> = filters.collect();
    (!filters.is_empty())
        .then(|| Packet::Subscribe(Box::new(Subscribe { id: SUBSCRIBE, filters, subscription_id: None })))
}

fn online(identity: &Identity, ack: &ConnAck) -> Option<Packet> {
    Some(status(identity.status(true)?, ack, STATUS))
}

/// A status as the cloud takes it.
pub(super) fn status(message: Message, ack: &ConnAck, id: PacketId) -> Packet {
    let qos = QoS::AtLeastOnce.min(ack.maximum_qos);
    Packet::Publish(Publish {
        id: (qos > QoS::AtMostOnce).then_some(id),
        dup: false,
        qos,
        retain: ack.retain_available,
        message: Arc::new(message),
        topic_alias: None,
        subscription_ids: Vec::new(),
        place: None,
    })
}

fn refusal(ack: &ConnAck) -> String {
    let said = ack.reason_string.as_ref().map_or(String::new(), |text| format!(": {text}"));
    match ack.reason {
        Reason::BAD_USER_OR_PASSWORD => format!("the cloud refused user or password (0x86){said}"),
        Reason::NOT_AUTHORIZED => {
            format!("the cloud refused us: not authorised (0x87){said}; check `username`, `password` and `client-id`")
        }
        Reason::CLIENT_ID_NOT_VALID => format!("the cloud refused the client id (0x85){said}; set `client-id`"),
        reason => format!("the cloud refused the connection: {}{said}", meaning(reason)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cloud_that_answers_more_than_it_was_asked_is_taken_as_it_is() {
        let config: Config =
            toml::from_str("url = \"mqtt://a\"\nprotocol = \"3.1.1\"\nsubscribe = [\"cmd/#\"]").expect("valid");
        let identity = Identity { client_id: "a".into(), status: Some("status".into()) };
        let (ours, mut theirs) = tokio::io::duplex(4096);
        // CONNACK, SUBACK three times, PUBACK of the status twice (MQTT 3.1.1, 3.2, 3.9, 3.4).
        let subacks = [0x90, 3, 0, 1, 1].repeat(3);
        let answers = [&[0x20, 2, 0, 0], &subacks[..], &[0x40, 2, 0xFF, 0xFF], &[0x40, 2, 0xFF, 0xFF]].concat();
        theirs.write_all(&answers).await.expect("written");
        let cloud = greet(Box::new(ours), &config, &identity).await.expect("it is ready");
        assert_eq!(cloud.early, []);
    }
}
