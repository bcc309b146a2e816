//! A client made of bytes: its packets are built and read by hand. It shares no line with the program, so that a
//! mistake in the program's own codec cannot hide itself. Packets are those of MQTT 3.1.1.

use std::collections::VecDeque;
use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::Gateway;
use crate::support::process::PATIENCE;

// Connect flags (3.1.2.3).
pub const KEEP: u8 = 0;
pub const CLEAN: u8 = 0x02;
pub const WILL: u8 = 0x04;
pub const WILL_QOS_1: u8 = 0x08;
pub const WILL_QOS_2: u8 = 0x10;
pub const WILL_RETAIN: u8 = 0x20;
pub const PASSWORD: u8 = 0x40;
pub const USER: u8 = 0x80;

// Flags of PUBLISH (3.3.1).
pub const RETAIN: u8 = 0x01;
pub const QOS_1: u8 = 0x02;
pub const QOS_2: u8 = 0x04;
pub const DUP: u8 = 0x08;

// First bytes of packets with an id and nothing else.
pub const PUBACK: u8 = 0x40;
pub const PUBREC: u8 = 0x50;
pub const PUBREL: u8 = 0x62;
pub const PUBCOMP: u8 = 0x70;
pub const UNSUBACK: u8 = 0xb0;

// Whole packets.
pub const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];
pub const ACCEPTED_PRESENT: [u8; 4] = [0x20, 2, 1, 0];
pub const PINGREQ: [u8; 2] = [0xc0, 0];
pub const PINGRESP: [u8; 2] = [0xd0, 0];
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A packet with this first byte and these parts behind the remaining length (2.2.3).
pub fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = vec![first];
    let mut length = body.len();
    while length > 0x7f {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    [bytes, body].concat()
}

/// A field with its length in front (1.5.3); nobody asks whether it is text.
pub fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

/// CONNECT without keep alive. `fields` stand behind the client id: will topic, will message, user, password.
pub fn connect(id: impl AsRef<[u8]>, flags: u8, fields: &[&[u8]]) -> Vec<u8> {
    connect_alive(id, flags, 0, fields)
}

/// CONNECT with this keep alive, in seconds.
pub fn connect_alive(id: impl AsRef<[u8]>, flags: u8, keep_alive: u16, fields: &[&[u8]]) -> Vec<u8> {
    let fields: Vec<u8> = fields.iter().flat_map(text).collect();
    packet(0x10, &[&text("MQTT"), &[4, flags], &keep_alive.to_be_bytes(), &text(id), &fields])
}

/// CONNECT with this protocol name and level; it is clean.
pub fn connect_as(name: &str, level: u8, id: &str) -> Vec<u8> {
    packet(0x10, &[&text(name), &[level, CLEAN, 0, 0], &text(id)])
}

/// PUBLISH; the flags say whether it needs an id.
pub fn publish(flags: u8, id: u16, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let id = id.to_be_bytes();
    let id = if flags & (QOS_1 | QOS_2) == 0 { &[][..] } else { &id[..] };
    packet(0x30 | flags, &[&text(topic), id, payload.as_ref()])
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP, UNSUBACK.
pub fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &[&id.to_be_bytes()])
}

pub fn subscribe(id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let filters: Vec<u8> = filters.iter().flat_map(|(filter, qos)| [text(filter), vec![*qos]].concat()).collect();
    packet(0x82, &[&id.to_be_bytes(), &filters])
}

pub fn suback(id: u16, codes: &[u8]) -> Vec<u8> {
    packet(0x90, &[&id.to_be_bytes(), codes])
}

pub fn unsubscribe(id: u16, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<u8> = filters.iter().flat_map(text).collect();
    packet(0xa2, &[&id.to_be_bytes(), &filters])
}

/// A PUBLISH that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    /// Zero for QoS 0, which has none.
    pub id: u16,
    pub payload: String,
}

impl Delivery {
    pub fn read(packet: &[u8]) -> Self {
        let first = packet[0];
        assert_eq!(first >> 4, 3, "a PUBLISH, not {packet:02x?}");
        let start = 2 + packet[1..].iter().take_while(|byte| **byte & 0x80 != 0).count();
        let (length, body) = packet[start..].split_at(2);
        let (topic, mut payload) = body.split_at(number(length).into());
        let qos = first >> 1 & 3;
        let mut id = 0;
        if qos > 0 {
            (id, payload) = (number(&payload[..2]), &payload[2..]);
            assert_ne!(id, 0, "packet id 0");
        }
        let topic = String::from_utf8(topic.to_vec()).expect("a topic is UTF-8");
        let payload = String::from_utf8_lossy(payload).into_owned();
        Self { dup: first & DUP != 0, qos, retain: first & RETAIN != 0, topic, id, payload }
    }

    /// Topic, payload, QoS.
    pub fn parts(&self) -> (&str, &str, u8) {
        (&self.topic, &self.payload, self.qos)
    }
}

fn number(bytes: &[u8]) -> u16 {
    u16::from_be_bytes(bytes.try_into().unwrap())
}

/// A connection. Dropping it is a lost connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// Packets that came while another one was awaited.
    early: VecDeque<Vec<u8>>,
    next_id: u16,
}

impl Client {
    /// A connection on which nothing was said.
    pub async fn open(gateway: &Gateway) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", gateway.mqtt_port())).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, early: VecDeque::new(), next_id: 0x7000 }
    }

    /// A connection on which these bytes were sent.
    pub async fn saying(gateway: &Gateway, bytes: impl AsRef<[u8]>) -> Self {
        let mut client = Self::open(gateway).await;
        // It may be closed before the last byte is written.
        let _ = client.stream.write_all(bytes.as_ref()).await;
        client
    }

    /// With clean session.
    pub async fn clean(gateway: &Gateway, id: &str) -> Self {
        Self::accepted(gateway, connect(id, CLEAN, &[])).await
    }

    /// With a session to keep that is not there yet.
    pub async fn new_session(gateway: &Gateway, id: &str) -> Self {
        Self::accepted(gateway, connect(id, KEEP, &[])).await
    }

    /// With a session that is there.
    pub async fn resumed(gateway: &Gateway, id: &str) -> Self {
        let mut client = Self::saying(gateway, connect(id, KEEP, &[])).await;
        client.expect(ACCEPTED_PRESENT).await;
        client
    }

    /// With this CONNECT, which is accepted, without a session that was present.
    pub async fn accepted(gateway: &Gateway, connect: impl AsRef<[u8]>) -> Self {
        let mut client = Self::saying(gateway, connect).await;
        client.expect(ACCEPTED).await;
        client
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next packet, whole.
    pub async fn next(&mut self) -> Vec<u8> {
        match self.early.pop_front() {
            Some(packet) => packet,
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Vec<u8> {
        let packet = async {
            let mut packet = vec![self.stream.read_u8().await?];
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = self.stream.read_u8().await?;
                packet.push(byte);
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let head = packet.len();
            packet.resize(head + length, 0);
            self.stream.read_exact(&mut packet[head..]).await?;
            std::io::Result::Ok(packet)
        };
        timeout(PATIENCE, packet).await.expect("a packet in time").expect("the connection holds")
    }

    /// The next packet, or nothing when the connection is closed instead.
    pub async fn answer(&mut self) -> Vec<u8> {
        let mut first = [0];
        match timeout(PATIENCE, self.stream.peek(&mut first)).await.expect("an answer in time") {
            Ok(1..) => self.read().await,
            Ok(0) | Err(_) => Vec::new(),
        }
    }

    /// The next packet is exactly this one.
    pub async fn expect(&mut self, packet: impl AsRef<[u8]>) {
        let next = self.next().await;
        let packet = packet.as_ref();
        assert!(next == packet, "expected {packet:02x?}, and {next:02x?} came");
    }

    /// This packet comes; others that come before it are kept for later.
    pub async fn await_packet(&mut self, packet: impl AsRef<[u8]>) {
        let packet = packet.as_ref();
        loop {
            let next = self.read().await;
            if next == packet {
                return;
            }
            self.early.push_back(next);
        }
    }

    /// The next packet, a PUBLISH; it is not acknowledged.
    pub async fn delivery(&mut self) -> Delivery {
        Delivery::read(&self.next().await)
    }

    /// The next packet, a PUBLISH; it is acknowledged to the end.
    pub async fn take(&mut self) -> Delivery {
        let delivery = self.delivery().await;
        match delivery.qos {
            0 => {}
            1 => self.send(ack(PUBACK, delivery.id)).await,
            _ => {
                self.send(ack(PUBREC, delivery.id)).await;
                self.await_packet(ack(PUBREL, delivery.id)).await;
                self.send(ack(PUBCOMP, delivery.id)).await;
            }
        }
        delivery
    }

    /// Every PUBLISH that has come until now, acknowledged to the end.
    pub async fn take_all(&mut self) -> Vec<Delivery> {
        let mut taken = Vec::new();
        self.send(PINGREQ).await;
        loop {
            let packet = self.next().await;
            if packet == PINGRESP {
                return taken;
            }
            self.early.push_front(packet);
            taken.push(self.take().await);
        }
    }

    /// Nothing has come but what was read.
    pub async fn quiet(&mut self) {
        self.send(PINGREQ).await;
        self.expect(PINGRESP).await;
    }

    /// Subscribes; each filter is granted with its QoS.
    pub async fn subscribe(&mut self, filters: &[(&str, u8)]) {
        let id = self.new_id();
        self.send(subscribe(id, filters)).await;
        let codes: Vec<u8> = filters.iter().map(|(_, qos)| *qos).collect();
        self.await_packet(suback(id, &codes)).await;
    }

    pub async fn unsubscribe(&mut self, filters: &[&str]) {
        let id = self.new_id();
        self.send(unsubscribe(id, filters)).await;
        self.await_packet(ack(UNSUBACK, id)).await;
    }

    /// Publishes with these flags, and returns when the gateway has it.
    pub async fn publish(&mut self, flags: u8, topic: &str, payload: &str) {
        let id = self.new_id();
        self.send(publish(flags, id, topic, payload)).await;
        match flags & (QOS_1 | QOS_2) {
            0 => {
                self.send(PINGREQ).await;
                loop {
                    match self.read().await {
                        packet if packet == PINGRESP => break,
                        packet => self.early.push_back(packet),
                    }
                }
            }
            QOS_1 => self.await_packet(ack(PUBACK, id)).await,
            _ => {
                self.await_packet(ack(PUBREC, id)).await;
                self.send(ack(PUBREL, id)).await;
                self.await_packet(ack(PUBCOMP, id)).await;
            }
        }
    }

    fn new_id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// What it is made of, to be treated badly.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Says good-bye.
    pub async fn disconnect(mut self) {
        self.send(DISCONNECT).await;
        self.closed().await;
    }

    /// The gateway closes the connection and says nothing more.
    pub async fn closed(&mut self) {
        let rest = self.rest().await;
        assert!(rest.is_empty(), "it is to be closed without a word, and {rest:02x?} came");
    }

    /// What comes until the gateway closes the connection.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest: Vec<u8> = self.early.drain(..).flatten().collect();
        match timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await {
            Ok(Ok(_)) => rest,
            Ok(Err(e)) if e.kind() == ErrorKind::ConnectionReset => rest,
            Ok(Err(e)) => panic!("{e}"),
            Err(_) => panic!("it is not closed; {rest:02x?} came"),
        }
    }
}

/// A client whose CONNECT is good sends these bytes: the gateway closes its connection without another word.
pub async fn closed_after(gateway: &Gateway, id: &str, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    let mut client = Client::clean(gateway, id).await;
    let _ = client.stream.write_all(bytes).await;
    let said = client.rest().await;
    assert!(said.is_empty(), "to {:02x?} it said {said:02x?}", &bytes[..bytes.len().min(60)]);
}

/// A CONNECT that is answered with nothing but the end of the connection.
pub async fn refused(gateway: &Gateway, connect: impl AsRef<[u8]>) {
    let connect = connect.as_ref();
    let said = Client::saying(gateway, connect).await.rest().await;
    assert!(said.is_empty(), "to {connect:02x?} it said {said:02x?}");
}
