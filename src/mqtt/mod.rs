//! MQTT as the broker and the uplinks speak it: packets without a version, topics and filters, and the wire.
//!
//! Bytes are known to [`wire`] only; everything else works on [`Packet`], whichever version a peer speaks.

pub mod topic;
mod reason;
pub mod wire;

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::message::{Message, QoS};

/// The version of the protocol on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 3.1 (`MQIsdp`, level 3).
    V31,
    /// 3.1.1 (level 4).
    V311,
    /// 5.0 (level 5).
    V5,
}

/// A packet identifier (MQTT 5.0, 2.2.1).
pub type PacketId = NonZeroU16;

/// A reason code (MQTT 5.0, 2.4); 3.1.1 sees it mapped to what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(pub u8);

impl Reason {
    pub const SUCCESS: Self = Self(0x00);
    pub const DISCONNECT_WITH_WILL: Self = Self(0x04);
    pub const NO_MATCHING_SUBSCRIBERS: Self = Self(0x10);
    pub const NO_SUBSCRIPTION_EXISTED: Self = Self(0x11);
    pub const UNSPECIFIED: Self = Self(0x80);
    pub const MALFORMED: Self = Self(0x81);
    pub const PROTOCOL_ERROR: Self = Self(0x82);
    pub const IMPLEMENTATION_SPECIFIC: Self = Self(0x83);
    pub const UNSUPPORTED_VERSION: Self = Self(0x84);
    pub const CLIENT_ID_NOT_VALID: Self = Self(0x85);
    pub const BAD_USER_OR_PASSWORD: Self = Self(0x86);
    pub const NOT_AUTHORIZED: Self = Self(0x87);
    pub const SERVER_UNAVAILABLE: Self = Self(0x88);
    pub const SERVER_BUSY: Self = Self(0x89);
    pub const SERVER_SHUTTING_DOWN: Self = Self(0x8B);
    pub const BAD_AUTHENTICATION_METHOD: Self = Self(0x8C);
    pub const KEEP_ALIVE_TIMEOUT: Self = Self(0x8D);
    pub const SESSION_TAKEN_OVER: Self = Self(0x8E);
    pub const TOPIC_FILTER_INVALID: Self = Self(0x8F);
    pub const TOPIC_NAME_INVALID: Self = Self(0x90);
    pub const PACKET_ID_IN_USE: Self = Self(0x91);
    pub const PACKET_ID_NOT_FOUND: Self = Self(0x92);
    pub const RECEIVE_MAXIMUM_EXCEEDED: Self = Self(0x93);
    pub const TOPIC_ALIAS_INVALID: Self = Self(0x94);
    pub const PACKET_TOO_LARGE: Self = Self(0x95);
    pub const QUOTA_EXCEEDED: Self = Self(0x97);
    pub const ADMINISTRATIVE_ACTION: Self = Self(0x98);
    pub const PAYLOAD_FORMAT_INVALID: Self = Self(0x99);
    pub const SHARED_NOT_SUPPORTED: Self = Self(0x9E);
    pub const CONNECTION_RATE_EXCEEDED: Self = Self(0x9F);
    /// None of MQTT's, and never on a wire: what an uplink says to its local session of a message that has ended one
    /// connection after the other.
    pub const ENDED_CONNECTIONS: Self = Self(0xFF);
    /// Likewise, of a message that is never acknowledged, by a cloud that lives otherwise.
    pub const NEVER_ACKNOWLEDGED: Self = Self(0xFD);
    /// Likewise, of a message that must not go up, as it would or might come back.
    pub const WOULD_COME_BACK: Self = Self(0xFE);

    /// Whether the code reports a failure (0x80 and up).
    pub fn is_error(self) -> bool {
        self.0 >= 0x80
    }
}

/// A control packet of any version; what a version lacks is absent or at its default. There is no AUTH: neither side of
/// ours offers or asks for enhanced authentication, so nobody may send it.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    Connect(Box<Connect>),
    ConnAck(Box<ConnAck>),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Box<Subscribe>),
    SubAck { id: PacketId, reasons: Vec<Reason> },
    Unsubscribe { id: PacketId, filters: Vec<Arc<str>> },
    UnsubAck { id: PacketId, reasons: Vec<Reason> },
    PingReq,
    PingResp,
    Disconnect { reason: Reason, expiry: Option<u32> },
}

/// CONNECT (MQTT 5.0, 3.1).
#[derive(Clone, Debug, PartialEq)]
pub struct Connect {
    pub version: Version,
    pub client_id: Arc<str>,
    /// Clean start; `clean session` of 3.1.1, which also sets `expiry` to 0.
    pub clean_start: bool,
    /// Session expiry interval in seconds; `u32::MAX` never expires (3.1.1 without clean session).
    pub expiry: u32,
    /// `Duration::ZERO` turns keep alive off.
    pub keep_alive: Duration,
    pub user: Option<Arc<str>>,
    pub password: Option<Bytes>,
    pub will: Option<Will>,
    /// How many QoS 1 and 2 publishes the peer takes at once.
    pub receive_maximum: NonZeroU16,
    /// The largest packet the peer takes, in bytes.
    pub maximum_packet_size: Option<u32>,
    pub topic_alias_maximum: u16,
    /// Whether the peer wants reason strings (request problem information); 3.1.1 has none.
    pub problem_info: bool,
    pub authentication_method: Option<Arc<str>>,
    /// Before MQTT 5: it says that it is a bridge, as Mosquitto's do, and so gets nothing back that it brought.
    pub bridge: bool,
}

impl Connect {
    /// A CONNECT with nothing but an id: clean start, no keep alive, no user, no will, no bound.
    pub fn new(version: Version, client_id: impl Into<Arc<str>>) -> Self {
        Self {
            version,
            client_id: client_id.into(),
            clean_start: true,
            expiry: 0,
            keep_alive: Duration::ZERO,
            user: None,
            password: None,
            will: None,
            receive_maximum: NonZeroU16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            problem_info: true,
            authentication_method: None,
            bridge: false,
        }
    }
}

/// The message that the broker publishes when a client vanishes (MQTT 5.0, 3.1.2.5).
#[derive(Clone, Debug, PartialEq)]
pub struct Will {
    pub message: Message,
    pub delay: Duration,
}

/// CONNACK (MQTT 5.0, 3.2).
#[derive(Clone, Debug, PartialEq)]
pub struct ConnAck {
    pub reason: Reason,
    pub session_present: bool,
    /// The id that the server chose for a client without one.
    pub assigned_client_id: Option<Arc<str>>,
    pub receive_maximum: NonZeroU16,
    pub maximum_packet_size: Option<u32>,
    pub topic_alias_maximum: u16,
    pub maximum_qos: QoS,
    pub retain_available: bool,
    pub server_keep_alive: Option<u16>,
    pub expiry: Option<u32>,
    pub shared_available: bool,
    pub reason_string: Option<Arc<str>>,
    /// The server to use instead of this one.
    pub server_reference: Option<Arc<str>>,
}

impl ConnAck {
    /// An answer with `reason` and everything else at its default.
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            session_present: false,
            assigned_client_id: None,
            receive_maximum: NonZeroU16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            server_keep_alive: None,
            expiry: None,
            shared_available: true,
            reason_string: None,
            server_reference: None,
        }
    }
}

/// PUBLISH (MQTT 5.0, 3.3). The message is shared by all its deliveries; the flags here are this delivery's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    /// Present when `qos` is 1 or 2.
    pub id: Option<PacketId>,
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    pub message: Arc<Message>,
    pub topic_alias: Option<NonZeroU16>,
    pub subscription_ids: Vec<u32>,
    /// Known within this process only, to the gateway's own parts: it is on no wire.
    pub place: Option<Place>,
}

/// Where in a session's queue a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counts the queue's deliveries of QoS 1 and 2, from 1; a repetition has that of the first time. 0 at QoS 0.
    pub seq: u64,
    /// It waited for a connection, or in a backlog: it was not sent when it was fresh.
    pub historical: bool,
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub id: PacketId,
    pub reason: Reason,
}

impl Ack {
    /// An acknowledgement of success.
    pub fn ok(id: PacketId) -> Self {
        Self { id, reason: Reason::SUCCESS }
    }
}

/// SUBSCRIBE (MQTT 5.0, 3.8).
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    pub id: PacketId,
    pub filters: Vec<(Arc<str>, SubscribeOptions)>,
    pub subscription_id: Option<u32>,
}

/// How one filter is subscribed to (MQTT 5.0, 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SubscribeOptions {
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// Which retained messages a new subscription gets (MQTT 5.0, 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum RetainHandling {
    #[default]
    Send,
    SendIfNew,
    DoNotSend,
}
