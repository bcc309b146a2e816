//! MQTT 5.0 byte by byte: what a client sends, built by hand, and what a server may send, read strictly.
//!
//! It shares nothing with the program's own codec, so that a mistake there cannot hide itself. Whatever a server must
//! never send (reserved flags, unknown reason codes, properties in the wrong packet) is a failure wherever it turns up.

use std::collections::HashMap;
use std::fmt::Debug;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::process::PATIENCE;

pub use Property::*;

/// A property (section 2.2.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    PayloadFormat(u8),
    MessageExpiry(u32),
    ContentType(String),
    ResponseTopic(String),
    CorrelationData(Vec<u8>),
    SubscriptionId(u32),
    SessionExpiry(u32),
    AssignedClientId(String),
    ServerKeepAlive(u16),
    AuthenticationMethod(String),
    AuthenticationData(Vec<u8>),
    RequestProblemInformation(u8),
    WillDelay(u32),
    RequestResponseInformation(u8),
    ResponseInformation(String),
    ServerReference(String),
    ReasonString(String),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQos(u8),
    RetainAvailable(u8),
    User(String, String),
    MaximumPacketSize(u32),
    WildcardAvailable(u8),
    SubscriptionIdAvailable(u8),
    SharedAvailable(u8),
    /// Anything at all, for what no client should send.
    Raw(Vec<u8>),
}

/// A User Property.
pub fn user(name: &str, value: &str) -> Property {
    User(name.into(), value.into())
}

impl Property {
    pub fn bytes(&self) -> Vec<u8> {
        let with = |id: u8, value: Vec<u8>| [vec![id], value].concat();
        match self {
            PayloadFormat(n) => with(0x01, vec![*n]),
            MessageExpiry(n) => with(0x02, n.to_be_bytes().into()),
            ContentType(t) => with(0x03, text(t)),
            ResponseTopic(t) => with(0x08, text(t)),
            CorrelationData(b) => with(0x09, text(b)),
            SubscriptionId(n) => with(0x0B, variable(*n)),
            SessionExpiry(n) => with(0x11, n.to_be_bytes().into()),
            AssignedClientId(t) => with(0x12, text(t)),
            ServerKeepAlive(n) => with(0x13, n.to_be_bytes().into()),
            AuthenticationMethod(t) => with(0x15, text(t)),
            AuthenticationData(b) => with(0x16, text(b)),
            RequestProblemInformation(n) => with(0x17, vec![*n]),
            WillDelay(n) => with(0x18, n.to_be_bytes().into()),
            RequestResponseInformation(n) => with(0x19, vec![*n]),
            ResponseInformation(t) => with(0x1A, text(t)),
            ServerReference(t) => with(0x1C, text(t)),
            ReasonString(t) => with(0x1F, text(t)),
            ReceiveMaximum(n) => with(0x21, n.to_be_bytes().into()),
            TopicAliasMaximum(n) => with(0x22, n.to_be_bytes().into()),
            TopicAlias(n) => with(0x23, n.to_be_bytes().into()),
            MaximumQos(n) => with(0x24, vec![*n]),
            RetainAvailable(n) => with(0x25, vec![*n]),
            User(name, value) => with(0x26, [text(name), text(value)].concat()),
            MaximumPacketSize(n) => with(0x27, n.to_be_bytes().into()),
            WildcardAvailable(n) => with(0x28, vec![*n]),
            SubscriptionIdAvailable(n) => with(0x29, vec![*n]),
            SharedAvailable(n) => with(0x2A, vec![*n]),
            Raw(bytes) => bytes.clone(),
        }
    }

    fn read(bytes: &mut Bytes) -> Self {
        match bytes.byte() {
            0x01 => PayloadFormat(bytes.byte()),
            0x02 => MessageExpiry(bytes.four()),
            0x03 => ContentType(bytes.text()),
            0x08 => ResponseTopic(bytes.text()),
            0x09 => CorrelationData(bytes.binary()),
            0x0B => SubscriptionId(bytes.variable()),
            0x11 => SessionExpiry(bytes.four()),
            0x12 => AssignedClientId(bytes.text()),
            0x13 => ServerKeepAlive(bytes.two()),
            0x15 => AuthenticationMethod(bytes.text()),
            0x16 => AuthenticationData(bytes.binary()),
            0x1A => ResponseInformation(bytes.text()),
            0x1C => ServerReference(bytes.text()),
            0x1F => ReasonString(bytes.text()),
            0x21 => ReceiveMaximum(bytes.two()),
            0x22 => TopicAliasMaximum(bytes.two()),
            0x23 => TopicAlias(bytes.two()),
            0x24 => MaximumQos(bytes.byte()),
            0x25 => RetainAvailable(bytes.byte()),
            0x26 => User(bytes.text(), bytes.text()),
            0x27 => MaximumPacketSize(bytes.four()),
            0x28 => WildcardAvailable(bytes.byte()),
            0x29 => SubscriptionIdAvailable(bytes.byte()),
            0x2A => SharedAvailable(bytes.byte()),
            id => panic!("no server sends a property {id:#04x}"),
        }
    }

    /// The property's number, and whether it may stand more than once in a packet of this kind.
    fn place(&self, kind: u8) -> (u8, bool) {
        let id = self.bytes()[0];
        (id, id == 0x26 || id == 0x0B && kind == 3)
    }
}

/// Which properties a packet from a server may have, by kind of packet (table 2-4).
fn allowed(kind: u8) -> &'static [u8] {
    match kind {
        2 => &[0x11, 0x21, 0x24, 0x25, 0x27, 0x12, 0x22, 0x1F, 0x26, 0x28, 0x29, 0x2A, 0x13, 0x1A, 0x1C, 0x15, 0x16],
        3 => &[0x01, 0x02, 0x23, 0x08, 0x09, 0x26, 0x0B, 0x03],
        4..=7 | 9 | 11 => &[0x1F, 0x26],
        // Session Expiry Interval is the client's to send (MQTT-3.14.2-2).
        14 => &[0x1F, 0x26, 0x1C],
        15 => &[0x15, 0x16, 0x1F, 0x26],
        _ => &[],
    }
}

/// Which reason codes a packet from a server may have, by kind of packet (sections 3.2.2.2 to 3.15.2.1).
fn reasons(kind: u8) -> &'static [u8] {
    match kind {
        2 => &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A,
            0x9B, 0x9C, 0x9D, 0x9F,
        ],
        4 | 5 => &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
        6 | 7 => &[0x00, 0x92],
        9 => &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2],
        11 => &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91],
        14 => &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98,
            0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
        ],
        15 => &[0x00, 0x18],
        _ => &[],
    }
}

/// Text or binary data with its length before it. The text may be ill-formed on purpose.
pub fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let length = u16::try_from(text.len()).unwrap();
    [&length.to_be_bytes()[..], text].concat()
}

/// A Variable Byte Integer (section 1.5.5).
pub fn variable(mut n: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (n & 0x7F) as u8;
        n >>= 7;
        bytes.push(if n > 0 { byte | 0x80 } else { byte });
        if n == 0 {
            return bytes;
        }
    }
}

/// Properties with their length before them.
pub fn properties(list: &[Property]) -> Vec<u8> {
    let bytes: Vec<u8> = list.iter().flat_map(Property::bytes).collect();
    [variable(bytes.len() as u32), bytes].concat()
}

/// A packet with this first byte and the parts of its body.
pub fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [vec![first], variable(body.len() as u32), body].concat()
}

/// CONNECT (section 3.1). Everything in it can be wrong.
#[derive(Clone, Debug)]
pub struct Connect {
    pub name: Vec<u8>,
    pub level: u8,
    pub flags: u8,
    pub keep_alive: u16,
    pub properties: Vec<Property>,
    /// The fields of the payload.
    pub payload: Vec<Vec<u8>>,
}

impl Connect {
    /// Clean start, no keep alive, nothing else.
    pub fn new(client_id: &str) -> Self {
        let payload = vec![text(client_id)];
        Self { name: b"MQTT".into(), level: 5, flags: 0x02, keep_alive: 0, properties: Vec::new(), payload }
    }

    /// Without clean start, with a session that outlives the connection by so many seconds.
    pub fn keep(client_id: &str, expiry: u32) -> Self {
        Self { flags: 0, ..Self::new(client_id) }.with(SessionExpiry(expiry))
    }

    pub fn clean(self) -> Self {
        Self { flags: self.flags | 0x02, ..self }
    }

    pub fn keep_alive(self, keep_alive: u16) -> Self {
        Self { keep_alive, ..self }
    }

    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// With one more field in the payload, and these bits in the flags.
    pub fn field(mut self, flags: u8, field: Vec<u8>) -> Self {
        self.flags |= flags;
        self.payload.push(field);
        self
    }

    /// With a last will.
    pub fn will(self, will: &Publish) -> Self {
        let flags = 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
        let parts = [properties(&will.properties), text(&will.topic), text(&will.payload)];
        self.field(flags, parts.concat())
    }

    pub fn bytes(&self) -> Vec<u8> {
        let head = [text(&self.name), vec![self.level, self.flags], self.keep_alive.to_be_bytes().into()].concat();
        packet(0x10, &[&head, &properties(&self.properties), &self.payload.concat()])
    }
}

/// PUBLISH (section 3.3), sent or received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    pub id: u16,
    pub properties: Vec<Property>,
    pub payload: Vec<u8>,
}

impl Publish {
    /// At QoS 0, not retained.
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Self {
        Self { topic: topic.into(), payload: payload.as_ref().into(), ..Self::default() }
    }

    pub fn qos(self, qos: u8, id: u16) -> Self {
        Self { qos, id, ..self }
    }

    pub fn dup(self) -> Self {
        Self { dup: true, ..self }
    }

    pub fn retain(self) -> Self {
        Self { retain: true, ..self }
    }

    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let first = 0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        let id = self.id.to_be_bytes();
        let id = if self.qos > 0 { &id[..] } else { &[] };
        packet(first, &[&text(&self.topic), id, &properties(&self.properties), &self.payload])
    }

    /// What it says, for short.
    pub fn says(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }

    /// Its subscription identifiers, in order.
    pub fn subscription_ids(&self) -> Vec<u32> {
        let ids = self.properties.iter().filter_map(|p| if let SubscriptionId(n) = p { Some(*n) } else { None });
        let mut ids: Vec<_> = ids.collect();
        ids.sort_unstable();
        ids
    }

    /// Its expiry, if it has one.
    pub fn expiry(&self) -> Option<u32> {
        self.properties.iter().find_map(|p| if let MessageExpiry(n) = p { Some(*n) } else { None })
    }
}

/// SUBSCRIBE (section 3.8) of filters with their options.
pub fn subscribe(id: u16, list: &[Property], filters: &[(&str, u8)]) -> Vec<u8> {
    let payload: Vec<u8> =
        filters.iter().flat_map(|(filter, options)| [text(filter), vec![*options]].concat()).collect();
    packet(0x82, &[&id.to_be_bytes(), &properties(list), &payload])
}

/// UNSUBSCRIBE (section 3.10).
pub fn unsubscribe(id: u16, filters: &[&str]) -> Vec<u8> {
    let payload: Vec<u8> = filters.iter().flat_map(text).collect();
    packet(0xA2, &[&id.to_be_bytes(), &[0], &payload])
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP by its first byte, in the short form when all went well.
pub fn ack(first: u8, id: u16, reason: u8) -> Vec<u8> {
    let reason = if reason == 0 { vec![] } else { vec![reason] };
    packet(first, &[&id.to_be_bytes(), &reason])
}

pub const PUBACK: u8 = 0x40;
pub const PUBREC: u8 = 0x50;
pub const PUBREL: u8 = 0x62;
pub const PUBCOMP: u8 = 0x70;
pub const PINGREQ: [u8; 2] = [0xC0, 0];
/// A good-bye without a will.
pub const DISCONNECT: [u8; 2] = [0xE0, 0];
/// No Local, Retain As Published, Retain Handling 1 and 2 (section 3.8.3.1).
pub const NO_LOCAL: u8 = 0x04;
pub const AS_PUBLISHED: u8 = 0x08;
pub const IF_NEW: u8 = 0x10;
pub const NO_RETAINED: u8 = 0x20;

/// A packet from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    ConnAck {
        present: bool,
        reason: u8,
        properties: Vec<Property>,
    },
    Publish(Publish),
    /// PUBACK to PUBCOMP, by the first byte.
    Ack {
        first: u8,
        id: u16,
        reason: u8,
        properties: Vec<Property>,
    },
    SubAck {
        id: u16,
        reasons: Vec<u8>,
        properties: Vec<Property>,
    },
    UnsubAck {
        id: u16,
        reasons: Vec<u8>,
        properties: Vec<Property>,
    },
    PingResp,
    Disconnect {
        reason: u8,
        properties: Vec<Property>,
    },
    Auth {
        reason: u8,
        properties: Vec<Property>,
    },
}

impl Packet {
    /// Reads a packet of a server; a rule that it breaks is a failure.
    pub fn read(first: u8, body: &[u8]) -> Self {
        let mut bytes = Bytes(body);
        let (kind, flags) = (first >> 4, first & 0x0F);
        if kind != 3 {
            assert_eq!(flags, if kind == 6 { 2 } else { 0 }, "reserved flags of {first:#04x}");
        }
        let packet = match kind {
            2 => {
                let flags = bytes.byte();
                assert_eq!(flags & 0xFE, 0, "reserved flags of CONNACK");
                let reason = bytes.reason(kind);
                Self::ConnAck { present: flags == 1, reason, properties: bytes.properties(kind) }
            }
            3 => Self::Publish(bytes.publish(flags)),
            4..=7 => {
                let id = bytes.packet_id();
                let reason = if bytes.0.is_empty() { 0 } else { bytes.reason(kind) };
                Self::Ack { first, id, reason, properties: bytes.last_properties(kind) }
            }
            9 | 11 => {
                let (id, properties) = (bytes.packet_id(), bytes.properties(kind));
                let mut reasons = Vec::new();
                while !bytes.0.is_empty() {
                    reasons.push(bytes.reason(kind));
                }
                if kind == 9 {
                    Self::SubAck { id, reasons, properties }
                } else {
                    Self::UnsubAck { id, reasons, properties }
                }
            }
            13 => Self::PingResp,
            14 | 15 => {
                let reason = if bytes.0.is_empty() { 0 } else { bytes.reason(kind) };
                let properties = bytes.last_properties(kind);
                if kind == 14 { Self::Disconnect { reason, properties } } else { Self::Auth { reason, properties } }
            }
            _ => panic!("no server sends {first:#04x}"),
        };
        assert!(bytes.0.is_empty(), "bytes behind the end of {packet:?}");
        packet
    }

    /// Its properties.
    pub fn properties(&self) -> &[Property] {
        match self {
            Self::Publish(Publish { properties, .. })
            | Self::ConnAck { properties, .. }
            | Self::Ack { properties, .. }
            | Self::SubAck { properties, .. }
            | Self::UnsubAck { properties, .. }
            | Self::Disconnect { properties, .. }
            | Self::Auth { properties, .. } => properties,
            Self::PingResp => &[],
        }
    }
}

/// What is left to read of a packet.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take(&mut self, n: usize) -> &[u8] {
        assert!(self.0.len() >= n, "the packet ends too early");
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn two(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn four(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn binary(&mut self) -> Vec<u8> {
        let length = self.two();
        self.take(length.into()).into()
    }

    fn text(&mut self) -> String {
        let text = String::from_utf8(self.binary()).expect("UTF-8");
        assert!(!text.contains('\0'), "NUL in {text:?}");
        text
    }

    fn variable(&mut self) -> u32 {
        let mut n = 0;
        for i in 0..4 {
            let byte = self.byte();
            n |= u32::from(byte & 0x7F) << (7 * i);
            if byte & 0x80 == 0 {
                assert!(i == 0 || byte != 0, "more bytes than needed for {n}");
                return n;
            }
        }
        panic!("a variable byte integer of five bytes")
    }

    fn packet_id(&mut self) -> u16 {
        let id = self.two();
        assert_ne!(id, 0, "a packet id is never zero");
        id
    }

    fn reason(&mut self, kind: u8) -> u8 {
        let reason = self.byte();
        assert!(reasons(kind).contains(&reason), "a packet of kind {kind} has no reason code {reason:#04x}");
        reason
    }

    fn properties(&mut self, kind: u8) -> Vec<Property> {
        let length = self.variable();
        let mut inner = Bytes(self.take(length as usize));
        let mut list: Vec<Property> = Vec::new();
        while !inner.0.is_empty() {
            let property = Property::read(&mut inner);
            let (id, repeats) = property.place(kind);
            assert!(allowed(kind).contains(&id), "a packet of kind {kind} has no {property:?}");
            assert!(repeats || list.iter().all(|p| p.place(kind).0 != id), "{property:?} twice");
            if let PayloadFormat(n) | MaximumQos(n) | RetainAvailable(n) | WildcardAvailable(n) = property {
                assert!(n < 2, "{property:?}");
            }
            if let ReceiveMaximum(0) | TopicAlias(0) | MaximumPacketSize(0) | SubscriptionId(0) = property {
                panic!("{property:?}");
            }
            list.push(property);
        }
        list
    }

    /// Properties that may be left out at a packet's end.
    fn last_properties(&mut self, kind: u8) -> Vec<Property> {
        if self.0.is_empty() { Vec::new() } else { self.properties(kind) }
    }

    fn publish(&mut self, flags: u8) -> Publish {
        let (dup, qos, retain) = (flags & 8 > 0, flags >> 1 & 3, flags & 1 > 0);
        assert!(qos < 3, "QoS 3");
        assert!(!dup || qos > 0, "DUP at QoS 0");
        let topic = self.text();
        assert!(!topic.contains(['+', '#']), "a wildcard in {topic}");
        let id = if qos > 0 { self.packet_id() } else { 0 };
        let properties = self.properties(3);
        let payload = std::mem::take(&mut self.0).into();
        Publish { dup, qos, retain, topic, id, properties, payload }
    }
}

/// A client's connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    /// Packets that came before one that was waited for.
    early: Vec<Packet>,
    /// Topics by alias, as the server sets them.
    aliases: HashMap<u16, String>,
    next_id: u16,
}

impl Client {
    /// A connection on which nothing has been sent.
    pub async fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new(), early: Vec::new(), aliases: HashMap::new(), next_id: 100 }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The server may have closed already, which the test sees when it reads.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// The next packet as it stands on the wire; none at the end of the stream.
    pub async fn next_bytes(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = frame(&self.received) {
                return Some(self.received.drain(..length).collect());
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
            match read.unwrap_or_else(|_| panic!("nothing comes, after {:?}", self.received)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => {
                    assert!(self.received.is_empty(), "the stream ends within a packet: {:?}", self.received);
                    return None;
                }
            }
        }
    }

    /// The next packet; none at the end of the stream. Topic aliases are resolved.
    pub async fn try_next(&mut self) -> Option<Packet> {
        if !self.early.is_empty() {
            return Some(self.early.remove(0));
        }
        let bytes = self.next_bytes().await?;
        let header = 1 + bytes[1..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let mut packet = Packet::read(bytes[0], &bytes[header..]);
        if let Packet::Publish(publish) = &mut packet {
            let alias = publish.properties.iter().find_map(|p| if let TopicAlias(n) = p { Some(*n) } else { None });
            match alias {
                Some(alias) if publish.topic.is_empty() => {
                    publish.topic = self.aliases.get(&alias).expect("an alias that was set before").clone();
                }
                Some(alias) => {
                    self.aliases.insert(alias, publish.topic.clone());
                }
                None => assert!(!publish.topic.is_empty(), "neither topic nor alias"),
            }
        }
        Some(packet)
    }

    /// The next packet.
    pub async fn next(&mut self) -> Packet {
        self.try_next().await.expect("a packet, and not the end of the connection")
    }

    /// The next packet is a PUBLISH; it is not acknowledged.
    pub async fn message(&mut self) -> Publish {
        match self.next().await {
            Packet::Publish(publish) => publish,
            other => panic!("no PUBLISH: {other:?}"),
        }
    }

    /// What the next so many messages say; each is acknowledged.
    pub async fn take(&mut self, n: usize) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..n {
            let message = self.message().await;
            self.accept(&message).await;
            said.push(message.says().to_owned());
        }
        said
    }

    /// Acknowledges a message, to the end of QoS 2's four steps.
    pub async fn accept(&mut self, message: &Publish) {
        match message.qos {
            0 => {}
            1 => self.send(ack(PUBACK, message.id, 0)).await,
            _ => {
                self.send(ack(PUBREC, message.id, 0)).await;
                // Other messages may be on their way.
                let mut before = Vec::new();
                loop {
                    match self.next().await {
                        Packet::Ack { first: PUBREL, id, reason: 0, .. } if id == message.id => break,
                        other => before.push(other),
                    }
                }
                self.early.splice(0..0, before);
                self.send(ack(PUBCOMP, message.id, 0)).await;
            }
        }
    }

    /// The next packet is this acknowledgement.
    pub async fn expect_ack(&mut self, first: u8, id: u16, reason: u8) {
        match self.next().await {
            Packet::Ack { first: f, id: i, reason: r, .. } => {
                assert_eq!((f, i, r), (first, id, reason), "first byte, packet id, reason");
            }
            other => panic!("no acknowledgement {first:#04x}: {other:?}"),
        }
    }

    /// Nothing has come: the answer to a ping is the next packet.
    pub async fn is_quiet(&mut self) {
        self.send(PINGREQ).await;
        assert_eq!(self.next().await, Packet::PingResp, "nothing is to come before the answer to PINGREQ");
    }

    /// Subscribes to a filter; what is granted is what was asked for.
    pub async fn subscribe(&mut self, filter: &str, options: u8) {
        self.subscribe_as(filter, options, &[]).await;
    }

    /// As [`Client::subscribe`], with properties.
    pub async fn subscribe_as(&mut self, filter: &str, options: u8, list: &[Property]) {
        let id = self.id();
        self.send(subscribe(id, list, &[(filter, options)])).await;
        match self.next().await {
            Packet::SubAck { id: i, reasons, .. } => assert_eq!((i, reasons), (id, vec![options & 3]), "{filter}"),
            other => panic!("no SUBACK: {other:?}"),
        }
    }

    /// Publishes, to the end of what its QoS asks for; the packet id is chosen here.
    pub async fn publish(&mut self, publish: Publish) {
        let id = self.id();
        let qos = publish.qos;
        self.send(Publish { id, ..publish }.bytes()).await;
        match qos {
            // The router has it once it answers what came behind.
            0 => self.is_quiet().await,
            1 => self.is_accepted(PUBACK, id).await,
            _ => {
                self.is_accepted(PUBREC, id).await;
                self.send(ack(PUBREL, id, 0)).await;
                self.expect_ack(PUBCOMP, id, 0).await;
            }
        }
    }

    async fn is_accepted(&mut self, first: u8, id: u16) {
        match self.next().await {
            Packet::Ack { first: f, id: i, reason: 0 | 0x10, .. } if (f, i) == (first, id) => {}
            other => panic!("not accepted: {other:?}"),
        }
    }

    fn id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// What comes until the server closes the connection; it does not go on serving it.
    pub async fn rest(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        while let Some(packet) = self.try_next().await {
            assert_ne!(packet, Packet::PingResp, "it goes on, after {packets:?}");
            packets.push(packet);
        }
        packets
    }

    /// The server closes the connection; if it says anything then it is DISCONNECT, with one of these reasons.
    pub async fn is_closed(&mut self, reasons: &[u8]) {
        match &self.rest().await[..] {
            [] => {}
            [Packet::Disconnect { reason, .. }] if reasons.contains(reason) => {}
            other => panic!("not closed for {reasons:#04x?}: {other:?}"),
        }
    }

    /// The server says this reason in DISCONNECT and closes the connection.
    pub async fn is_told(&mut self, reason: u8) {
        self.is_told_one_of(&[reason]).await;
    }

    /// The server says one of these reasons in DISCONNECT and closes the connection.
    pub async fn is_told_one_of(&mut self, reasons: &[u8]) {
        match &self.rest().await[..] {
            [Packet::Disconnect { reason, .. }] if reasons.contains(reason) => {}
            other => panic!("not told {reasons:02x?}: {other:02x?}"),
        }
    }

    /// Ends the connection without a word.
    pub fn vanish(self) {}

    /// Says good-bye and waits until the server has closed the connection.
    pub async fn leave(mut self) {
        self.send(DISCONNECT).await;
        assert_eq!(self.rest().await, [], "nothing comes after DISCONNECT");
    }
}

/// How long the packet at the beginning of these bytes is, when it is all there.
fn frame(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for (i, byte) in bytes.get(1..)?.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            assert!(i == 0 || *byte != 0, "a remaining length with more bytes than needed");
            let whole = 2 + i + length;
            return (bytes.len() >= whole).then_some(whole);
        }
    }
    assert!(bytes.len() < 5, "a remaining length of five bytes");
    None
}
