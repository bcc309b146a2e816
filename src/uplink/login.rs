//! Logging in at the cloud: from a connection to a session that is ready.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until};

use super::address::Address;
use super::config::Protocol;
use super::dial::{Stream, dial};
use super::end::End;
use super::guise::Guises;
use super::remote::shown;
use super::retained::SendRetained;
use super::traffic::Traffic;
use super::turns::Failure;
use super::{Config, retained, rules};
use crate::message::{Message, QoS};
use crate::mqtt::wire::{Framed, Limits, Reader, TOPIC_ALIAS_MAXIMUM, Writer};
use crate::mqtt::{
    ConnAck, Connect, Packet, PacketId, Publish, Reason, RetainHandling, Subscribe, SubscribeOptions, Will,
};
use crate::secret::Secret;
use crate::status::{OFFLINE, ONLINE};

/// The largest packet taken from the cloud, in bytes.
pub(super) const MAX_PACKET: u32 = 4 << 20;

/// A cloud that hangs up on a login that it does not understand does it at once.
const SOON: Duration = Duration::from_secs(5);

/// Ids of the packets that make the session ready; no publish is under way yet.
const SUBSCRIBE: PacketId = PacketId::MIN;
const STATUS: PacketId = PacketId::MAX;

/// A connection to the cloud that is ready: logged in, subscribed, and with our status published.
pub(super) struct Cloud {
    pub(super) reader: Reader<ReadHalf<Box<dyn Stream>>>,
    pub(super) writer: Writer<WriteHalf<Box<dyn Stream>>>,
    /// What moves on the connection.
    pub(super) traffic: Traffic,
    /// What the cloud allows.
    pub(super) ack: ConnAck,
    /// What came before we were ready.
    pub(super) early: Vec<Packet>,
    /// It sends us back what we publish on topics that we are subscribed to.
    pub(super) echoes: bool,
    /// The local broker's retained messages are to go up.
    pub(super) retained: RetainHandling,
}

/// Who we are to the cloud.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) client_id: Arc<str>,
    /// Where our status stands.
    pub(super) status: Option<Arc<str>>,
    /// Which address is told that we are a bridge.
    guises: Arc<Guises>,
    /// Where we were the last time, since this program's start, and so have subscribed. Elsewhere another session may be
    /// kept for us.
    subscribed: Option<Address>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct Failed {
    /// For the person who has to mend it.
    pub(super) why: String,
    pub(super) failure: Failure,
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self { why, failure: Failure::Unreached }
    }
}

impl Identity {
    pub(super) fn new(client_id: Arc<str>, status: Option<Arc<str>>) -> Self {
        Self { client_id, status, guises: Arc::default(), subscribed: None }
    }

    /// We are in at this address, and who the cloud says that we are.
    pub(super) fn connected(&mut self, address: &Address, ack: &ConnAck) {
        self.subscribed = Some(address.clone());
        if let Some(assigned) = &ack.assigned_client_id {
            tracing::info!("the cloud calls us {}", shown(assigned));
            self.client_id = assigned.clone();
        }
    }

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
    pub(super) async fn connect(address: &Address, config: &Config, identity: &Identity) -> Result<Self, Failed> {
        // Before there is a connection: a command may take its time, and the cloud would not wait for it.
        let secrets = secrets(config).await?;
        let unreached = |_: &String| identity.guises.did_not_hang_up(address);
        let (stream, traffic) = dial(address, config).await.inspect_err(unreached)?;
        let greeting = greet(stream, traffic.clone(), address, config, identity, secrets);
        // What is retained there, or was kept for us, may come before the answers, and takes its time on a slow way.
        let greeted = traffic.wait_for(config.connect_timeout.0, greeting).await;
        greeted.unwrap_or_else(|| Err(format!("{address} accepts connections, but does not answer MQTT").into()))
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
        Reason::PAYLOAD_FORMAT_INVALID => "payload format invalid",
        Reason::IMPLEMENTATION_SPECIFIC => "the cloud does not do this",
        Reason::NEVER_ACKNOWLEDGED => return "the cloud never acknowledges it".into(),
        Reason::WOULD_COME_BACK => return "it would send it back, or it might come round".into(),
        Reason::ENDED_CONNECTIONS => return "it ended the connection each time it was sent".into(),
        Reason(0x9A) => "retained messages not supported",
        Reason(0x9C | 0x9D) => "use another server",
        Reason(0x9F) => "too many connections",
        Reason(0x00) => "normal disconnection",
        _ => "refused",
    };
    format!("{text} ({:#04x})", reason.0)
}

async fn greet(
    stream: Box<dyn Stream>,
    traffic: Traffic,
    address: &Address,
    config: &Config,
    identity: &Identity,
    secrets: Secrets,
) -> Result<Cloud, Failed> {
    let lost = |e: &dyn std::fmt::Display| format!("the connection was lost while logging in: {e}");
    let mut framed = Framed::client(stream, config.protocol.into(), MAX_PACKET);
    let connect = connect(address, config, identity, secrets);
    let bridge = connect.bridge;
    let asked = Instant::now();
    framed.queue(&Packet::Connect(Box::new(connect))).map_err(|e| lost(&e))?;
    framed.flush().await.map_err(|e| lost(&e))?;
    let packets = framed.recv().await.map_err(|e| {
        let why = lost(&e);
        if End::from(e).hung_up.is_some() && asked.elapsed() <= SOON {
            identity.guises.hung_up(address);
        } else {
            identity.guises.did_not_hang_up(address);
        }
        why
    });
    let mut packets = packets?.into_iter();
    identity.guises.did_not_hang_up(address);
    let ack = match packets.next() {
        Some(Packet::ConnAck(ack)) if bridge && ack.reason == Reason::UNSUPPORTED_VERSION => {
            identity.guises.refused(address);
            let why = "the cloud knows no bridges: it is asked again without (`bridge = false` spares that)";
            return Err(why.to_owned().into());
        }
        Some(Packet::ConnAck(ack)) if ack.reason.is_error() => return Err(refusal(&ack)),
        Some(Packet::ConnAck(ack)) => *ack,
        _ => return Err("the cloud answered CONNECT with something else than CONNACK".to_owned().into()),
    };
    let mut early: Vec<Packet> = packets.collect();
    let (mut reader, mut writer) = framed.split();
    let topic_aliases = if config.topic_aliases { ack.topic_alias_maximum } else { 0 };
    writer.set_limits(Limits { topic_aliases, ..(&ack).into() });
    let retained = match (config.send_retained, &identity.status) {
        (SendRetained::Always, _) => RetainHandling::Send,
        (SendRetained::WhenLost, Some(topic))
            if retained::has_lost(topic, &mut reader, &mut writer, &mut early).await? =>
        {
            tracing::info!("the cloud has lost what it retained, or is new: what is retained here goes up");
            RetainHandling::Send
        }
        _ => RetainHandling::SendIfNew,
    };
    let echoes = config.protocol == Protocol::V311 && !bridge;

    // 3.1.1 has no way to subscribe without the retained messages: a session that goes on is left as it is.
    let as_it_is =
        ack.session_present && identity.subscribed.as_ref() == Some(address) && config.protocol == Protocol::V311;
    let subscription = subscribe(config).filter(|_| !as_it_is);
    let mut awaited = 0;
    for packet in [subscription, online(identity, &ack)].into_iter().flatten() {
        awaited += usize::from(!matches!(packet, Packet::Publish(Publish { qos: QoS::AtMostOnce, .. })));
        writer.queue(&packet).map_err(|e| format!("cannot log in: {e}"))?;
    }
    writer.flush().await.map_err(|e| lost(&e))?;
    let keep_alive = ack.server_keep_alive.map_or(config.keep_alive.0, |s| Duration::from_secs(s.into()));
    let mut ping = Instant::now() + keep_alive / 2;
    loop {
        let before = early.len();
        early.retain(|packet| !answered(packet, config, identity));
        // A cloud may answer more than it was asked.
        awaited = usize::saturating_sub(awaited, before - early.len());
        if let Some(Packet::Disconnect { reason, .. }) = early.iter().find(|p| matches!(p, Packet::Disconnect { .. })) {
            return Err(format!("the cloud ended the connection while logging in: {}", meaning(*reason)).into());
        }
        if awaited == 0 {
            return Ok(Cloud { reader, writer, traffic, ack, early, echoes, retained });
        }
        tokio::select! {
            packets = reader.recv() => early.extend(packets.map_err(|e| lost(&e))?),
            () = sleep_until(ping), if !keep_alive.is_zero() => {
                ping += keep_alive / 2;
                writer.queue(&Packet::PingReq).map_err(|e| lost(&e))?;
                writer.flush().await.map_err(|e| lost(&e))?;
            }
        }
    }
}

/// Whether a packet answers one of ours; says in the log what was refused.
fn answered(packet: &Packet, config: &Config, identity: &Identity) -> bool {
    match packet {
        Packet::SubAck { id: SUBSCRIBE, reasons } => {
            let filters = rules::filters(&config.subscribe);
            for ((filter, _), reason) in filters.iter().zip(reasons).filter(|(_, reason)| reason.is_error()) {
                tracing::error!("the cloud refused the subscription to {filter}: {}", meaning(*reason));
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

/// User name and password.
type Secrets = (Option<String>, Option<String>);

/// Reads what secrets there are, anew for each connection: tokens expire, and files are replaced.
async fn secrets(config: &Config) -> Result<Secrets, String> {
    let (username, password) = (config.username.clone(), config.password.clone());
    // A command may take its time.
    let read = tokio::task::spawn_blocking(move || {
        let read = |secret: Option<Secret>, what| {
            let read = secret.map(|secret| secret.read()).transpose();
            read.map_err(|e| format!("there is no {what} for the cloud: {e}"))
        };
        Ok((read(username, "user name")?, read(password, "password")?))
    });
    read.await.map_err(|e| e.to_string())?
}

fn connect(address: &Address, config: &Config, identity: &Identity, (username, password): Secrets) -> Connect {
    Connect {
        version: config.protocol.into(),
        client_id: identity.client_id.clone(),
        // What goes up is kept here until it is acknowledged. Downward the cloud keeps nothing unless it is told to: what
        // it has to send while we are away is lost but for the retained messages, which it sends again at each
        // subscription. A command is for now; one from hours ago must not move a pump.
        clean_start: !config.keeps_session(),
        expiry: u32::try_from(config.session.0.as_secs()).unwrap_or(u32::MAX),
        keep_alive: Duration::from_secs(config.keep_alive.0.as_secs()),
        user: username.map(Into::into),
        password: password.map(Bytes::from),
        will: identity.status(false).map(|message| Will { message, delay: Duration::ZERO }),
        receive_maximum: NonZeroU16::new(config.window).unwrap_or(NonZeroU16::MAX),
        maximum_packet_size: Some(MAX_PACKET),
        topic_alias_maximum: TOPIC_ALIAS_MAXIMUM,
        problem_info: true,
        authentication_method: None,
        bridge: config.bridge && config.protocol == Protocol::V311 && identity.guises.is_bridge(address),
    }
}

/// What is to come down. A session that goes on has it already; to subscribe again costs little, and mends what somebody
/// there has changed.
fn subscribe(config: &Config) -> Option<Packet> {
    // With it the cloud sends retained messages as well, but not those again that a session has had.
    let retain_handling = if config.keeps_session() { RetainHandling::SendIfNew } else { RetainHandling::Send };
    let filters = rules::filters(&config.subscribe).into_iter().map(|(filter, qos)| {
        // Our own publishes are not to come back, and `retain` is to arrive as it was sent.
        (filter, SubscribeOptions { qos, no_local: true, retain_as_published: true, retain_handling })
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

fn refusal(ack: &ConnAck) -> Failed {
    let said = ack.reason_string.as_ref().map_or(String::new(), |text| format!(": {}", shown(text)));
    let why = match ack.reason {
        Reason::BAD_USER_OR_PASSWORD => format!("the cloud refused user or password (0x86){said}"),
        Reason::NOT_AUTHORIZED => {
            format!("the cloud refused us: not authorised (0x87){said}; check `username`, `password` and `client-id`")
        }
        Reason::CLIENT_ID_NOT_VALID => format!("the cloud refused the client id (0x85){said}; set `client-id`"),
        Reason(0x9C | 0x9D) => {
            let moved = if ack.reason.0 == 0x9D { "has moved" } else { "is elsewhere for now" };
            let to = ack.server_reference.as_ref().map_or(String::new(), |to| format!(", to {}", shown(to)));
            format!("the cloud {moved}{to} ({:#04x}){said}; set `url`", ack.reason.0)
        }
        reason => format!("the cloud refused the connection: {}{said}", meaning(reason)),
    };
    // Banned, and another way to log in: these do not pass either.
    let failure = match ack.reason.0 {
        0x84..=0x87 | 0x8A | 0x8C | 0x9D => Failure::Refused,
        _ => Failure::Unreached,
    };
    Failed { why, failure }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::traffic::Counted;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cloud_that_answers_more_than_it_was_asked_is_taken_as_it_is() {
        let config: Config =
            toml::from_str("url = \"mqtt://a\"\nprotocol = \"3.1.1\"\nsubscribe = [\"cmd/#\"]").expect("valid");
        let identity = Identity::new("a".into(), Some("status".into()));
        let (ours, mut theirs) = tokio::io::duplex(4096);
        // CONNACK, SUBACK three times, PUBACK of the status twice (MQTT 3.1.1, 3.2, 3.9, 3.4).
        let subacks = [0x90, 3, 0, 1, 1].repeat(3);
        let answers = [&[0x20, 2, 0, 0], &subacks[..], &[0x40, 2, 0xFF, 0xFF], &[0x40, 2, 0xFF, 0xFF]].concat();
        theirs.write_all(&answers).await.expect("written");
        let cloud = greet(Box::new(ours), Traffic::default(), &config.url.0[0], &config, &identity, (None, None))
            .await
            .expect("it is ready");
        assert_eq!(cloud.early, []);
    }

    /// 10 kB/s, and 100 kB of retained messages stand before the answers.
    #[tokio::test(start_paused = true)]
    async fn a_login_may_take_as_long_as_what_comes_before_its_answers() {
        let config: Config =
            toml::from_str("url = \"mqtt://a\"\nprotocol = \"3.1.1\"\nkeep-alive = \"10s\"").expect("valid");
        let identity = Identity::new("a".into(), Some("status".into()));
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (mut asked, mut theirs) = tokio::io::split(theirs);
        let ours = Counted::new(ours);
        let traffic = ours.traffic();
        tokio::spawn(async move {
            theirs.write_all(&[0x20, 2, 0, 0]).await.expect("written");
            // PUBLISH (MQTT 3.1.1, 3.3) of 100 000 bytes.
            let publish = [&[0x31, 0xA3, 0x8D, 0x06, 0, 1, b't'][..], &[0; 100_000]].concat();
            for part in publish.chunks(5000) {
                theirs.write_all(part).await.expect("written");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            theirs.write_all(&[0x40, 2, 0xFF, 0xFF]).await.expect("written");
        });
        let greeting = greet(Box::new(ours), traffic.clone(), &config.url.0[0], &config, &identity, (None, None));
        let cloud = traffic.wait_for(Duration::from_secs(10), greeting).await.expect("in time").expect("it is ready");
        assert_eq!(cloud.early.len(), 1);
        drop(cloud);
        let mut sent = Vec::new();
        asked.read_to_end(&mut sent).await.expect("what we sent");
        assert!(sent.ends_with(&[0xC0, 0, 0xC0, 0]), "the cloud was not left without a sign");
    }

    /// What the cloud reads of a login; it answers that it is in, or hangs up.
    async fn login(config: &Config, identity: &Identity, answers: bool) -> u8 {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let cloud = async {
            let mut connect = [0; 256];
            assert!(theirs.read(&mut connect).await.expect("CONNECT") > 8);
            if answers {
                // CONNACK, SUBACK, and PUBACK of the status.
                theirs.write_all(&[0x20, 2, 0, 0, 0x90, 3, 0, 1, 1, 0x40, 2, 0xFF, 0xFF]).await.expect("written");
            }
            // Fixed header of two bytes, the name of six, the level (MQTT 3.1.1, 3.1).
            (connect[8], theirs)
        };
        let greeting = async {
            match (cloud.await, answers) {
                ((level, theirs), true) => (level, Some(theirs)),
                ((level, _), false) => (level, None),
            }
        };
        let (greeted, (level, _theirs)) = tokio::join!(
            greet(Box::new(ours), Traffic::default(), &config.url.0[0], config, identity, (None, None)),
            greeting
        );
        assert_eq!(greeted.is_ok(), answers);
        assert!(greeted.is_ok_and(|cloud| cloud.echoes == (level & 0x80 == 0)) || !answers);
        level
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_breaks_at_the_login_makes_no_plain_client_of_a_bridge() {
        let config: Config =
            toml::from_str("url = \"mqtt://a\"\nprotocol = \"3.1.1\"\nsubscribe = [\"cmd/#\"]").expect("valid");
        let identity = Identity::new("a".into(), Some("status".into()));
        for (answers, level) in [
            (false, 0x84),
            (false, 0x84),
            (true, 0x84),
            // Three in a row look like a cloud that knows no bridges; but after the next login it is asked again.
            (false, 0x84),
            (false, 0x84),
            (false, 0x84),
            (true, 4),
            (true, 0x84),
        ] {
            assert_eq!(login(&config, &identity, answers).await, level);
        }
    }
}
