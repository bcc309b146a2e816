//! More than a million packets that are almost right, through the decoder and the router, while two good clients go on.
//! Every run sends the same bytes; a failure names the seed of its round.

use super::*;
use crate::message::Properties;
use crate::mqtt::wire::{Error, Reader, Writer};

/// Packets of each version, and how many of them one router gets.
const PACKETS: u32 = 352_000;
const ROUND: u32 = 4_000;
/// Links with bad clients, behind those of the good ones.
const LINKS: std::ops::Range<u64> = 10..18;
const MAX_PACKET: u32 = 64 << 10;
const SUBSCRIBER: u64 = 1;
const PUBLISHER: u64 = 2;

#[tokio::test]
async fn mutated_packets_of_version_3_1() {
    fuzz(Version::V31).await;
}

#[tokio::test]
async fn mutated_packets_of_version_3_1_1() {
    fuzz(Version::V311).await;
}

#[tokio::test]
async fn mutated_packets_of_version_5() {
    fuzz(Version::V5).await;
}

async fn fuzz(version: Version) {
    let mut taken = 0;
    for seed in 0..u64::from(PACKETS / ROUND) {
        let mut round = Round::new(version, seed).await;
        for n in 1..=ROUND {
            round.bad_client().await;
            if n % 50 == 0 {
                round.good_clients();
                round.check();
            }
        }
        taken += round.taken;
        round.end();
    }
    // The rest is malformed, or a beginning.
    assert!(taken > PACKETS / 5, "only {taken} of {PACKETS} reached the router");
}

struct Round {
    version: Version,
    seed: u64,
    random: fastrand::Rng,
    world: World,
    /// A good CONNECT, as bytes: the decoder wants one first.
    greeting: Vec<u8>,
    open: BTreeSet<u64>,
    /// Packets that the decoder took.
    taken: u32,
    /// Numbers that the good publisher sent, that were acknowledged to it, and that its subscriber has.
    sent: u32,
    acked: u32,
    came: u32,
}

impl Drop for Round {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}, round with seed {}, after {} packets taken", self.version, self.seed, self.taken);
        }
    }
}

impl Round {
    async fn new(version: Version, seed: u64) -> Self {
        let mut world = World::new();
        world.router.limits = limits();
        world.router.measure();
        let mut round = Self {
            version,
            seed,
            random: fastrand::Rng::with_seed(seed << 2 | version as u64),
            world,
            greeting: bytes(version, Packet::Connect(Box::new(Connect::new(version, "c")))).await,
            open: BTreeSet::new(),
            taken: 0,
            sent: 0,
            acked: 0,
            came: 0,
        };
        round.come();
        round.world.subscribe(SUBSCRIBER, "good/+", QoS::ExactlyOnce);
        round
    }

    /// The good clients connect.
    fn come(&mut self) {
        for (link, client_id) in [(SUBSCRIBER, "good-subscriber"), (PUBLISHER, "good-publisher")] {
            assert_eq!(self.world.open(link, connect(client_id, u32::MAX)).reason, Reason::SUCCESS);
        }
    }

    /// One more packet of a bad client; its CONNECT when it has to connect.
    async fn bad_client(&mut self) {
        let link = self.random.u64(LINKS);
        if self.open.insert(link) {
            let connect = connect_of(&mut self.random, self.version);
            let packets = self.decode(&[], Packet::Connect(Box::new(connect.clone()))).await.0;
            self.world.apply(Event::Opened { link: LinkId(link), own: None });
            let connect = packets.into_iter().next().unwrap_or(Packet::Connect(Box::new(connect)));
            self.world.packet(link, connect);
        } else {
            let packet = packet(&mut self.random);
            let (packets, bad) = self.decode(&self.greeting.clone(), packet).await;
            for packet in packets.into_iter().skip(1) {
                self.taken += 1;
                self.world.packet(link, packet);
            }
            // A connection ends with a bad packet; here mostly not, to come further.
            if bad && self.random.u8(..16) == 0 {
                self.world.gone(link);
                self.open.remove(&link);
            }
        }
        // Some read, and some never do.
        if link.is_multiple_of(2) {
            let size = |p: &Packet| if let Packet::Publish(p) = p { p.message.size() } else { 0 };
            let bytes = self.world.sent(link).iter().map(size).sum();
            self.world.apply(Event::Drained { link: LinkId(link), bytes });
        }
        for LinkId(closed) in std::mem::take(&mut self.world.closed) {
            assert!(LINKS.contains(&closed), "a good client was closed");
            self.open.remove(&closed);
            self.world.sent(closed);
            self.world.gone(closed);
        }
    }

    /// Spoils a packet; what the decoder makes of it behind `before`, and whether it ended the connection.
    async fn decode(&mut self, before: &[u8], packet: Packet) -> (Vec<Packet>, bool) {
        let mut bytes = bytes(self.version, packet).await;
        spoil(&mut self.random, &mut bytes);
        let bytes = [before, &bytes].concat();
        let mut reader = Reader::server(&bytes[..], MAX_PACKET);
        let mut packets = Vec::new();
        loop {
            match reader.recv().await {
                Ok(more) => packets.extend(more),
                Err(Error::Closed) => return (packets, false),
                Err(_) => return (packets, true),
            }
        }
    }

    /// The good publisher sends three messages, and all that is open is done.
    fn good_clients(&mut self) {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            self.sent += 1;
            let id = (qos > QoS::AtMostOnce).then_some(self.sent as u16);
            let topic = format!("good/{}", self.sent % 2);
            self.world.packet(PUBLISHER, packet_of(id, Message { qos, ..Message::new(topic, self.sent.to_string()) }));
        }
        for _ in 0..10 {
            self.answer();
            self.world.commit();
        }
        assert_eq!((self.came, self.acked), (self.sent, self.sent / 3 * 2), "a good client has to wait");
    }

    fn answer(&mut self) {
        for packet in self.world.sent(SUBSCRIBER) {
            match packet {
                Packet::Publish(publish) => {
                    self.came += 1;
                    assert_eq!(publish.message.payload, self.came.to_string(), "in order, once");
                    self.world.apply(Event::Drained { link: LinkId(SUBSCRIBER), bytes: publish.message.size() });
                    match (publish.qos, publish.id.map(Ack::ok)) {
                        (QoS::AtLeastOnce, Some(ack)) => self.world.packet(SUBSCRIBER, Packet::PubAck(ack)),
                        (_, Some(ack)) => self.world.packet(SUBSCRIBER, Packet::PubRec(ack)),
                        (_, None) => {}
                    }
                }
                Packet::PubRel(ack) => self.world.packet(SUBSCRIBER, Packet::PubComp(ack)),
                other => panic!("{other:?}"),
            }
        }
        for packet in self.world.sent(PUBLISHER) {
            match packet {
                Packet::PubAck(ack) if !ack.reason.is_error() => self.acked += 1,
                Packet::PubRec(ack) if !ack.reason.is_error() => {
                    self.acked += 1;
                    self.world.packet(PUBLISHER, Packet::PubRel(ack));
                }
                Packet::PubComp(ack) => assert_eq!(ack.reason, Reason::SUCCESS),
                other => panic!("{other:?}"),
            }
        }
    }

    /// What has to hold at any time.
    fn check(&self) {
        let router = &self.world.router;
        for (key, session) in &router.sessions {
            let client = &session.client_id;
            let in_flight: usize = session.published().map(|entry| entry.message.size()).sum();
            assert_eq!(session.inflight_bytes, in_flight, "{client}");
            assert_eq!(router.by_client.get(client), Some(key), "{client}");
            assert!(session.inflight.len() <= router.limits.window, "{client}");
            assert!(session.subscriptions.len() <= router.limits.subscriptions, "{client}");
            if session.durable.is_none() {
                assert!(session.connection.is_some() || session.will_due.is_some(), "{client} is nobody's");
            }
        }
        assert_eq!(router.by_client.len(), router.sessions.len());
        assert!(router.sessions.len() <= router.limits.sessions, "{} sessions", router.sessions.len());
    }

    /// The gateway's power fails: the good clients have lost nothing, and go on.
    fn end(mut self) {
        let world = std::mem::replace(&mut self.world, World::new());
        self.world = world.crash();
        self.world.router.limits = limits();
        self.world.router.measure();
        self.come();
        self.answer();
        self.good_clients();
        self.check();
    }
}

fn limits() -> Limits {
    Limits { sessions: 40, tail: 4 << 20, queue: Bound { entries: 50, bytes: 100_000 }, total: 1 << 20, ..LIMITS }
}

async fn bytes(version: Version, packet: Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, version);
    writer.set_max_packet(Some(MAX_PACKET));
    // What this version cannot say is not sent.
    let _ = writer.queue(&packet);
    writer.flush().await.unwrap();
    bytes
}

/// Changes bytes: mostly one or two, so that much of it is still a packet.
fn spoil(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    for _ in 0..[1, 1, 1, 2, 3][random.usize(..5)] {
        if bytes.is_empty() {
            return;
        }
        // The first byte says what it is, the next ones how long: those are more worth than the rest of a long payload.
        let at = if random.bool() { random.usize(..bytes.len().min(12)) } else { random.usize(..bytes.len()) };
        match random.u8(..8) {
            0 | 1 => bytes[at] ^= 1 << random.u8(..8),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'+', b'#', b'$'][random.usize(..8)],
            3 => bytes[at] = random.u8(..),
            4 => bytes.insert(at, random.u8(..)),
            5 => drop(bytes.remove(at)),
            6 => bytes.truncate(at),
            _ => {
                let end = bytes.len().min(at + random.usize(1..20));
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
        // Mostly the length is made right again: what is wrong is then inside.
        if random.u8(..8) > 0 && bytes.len() >= 2 && bytes.len() < 130 {
            bytes[1] = (bytes.len() - 2) as u8;
        }
    }
}

fn connect_of(random: &mut fastrand::Rng, version: Version) -> Connect {
    let expiry = [0, 1, 60, u32::MAX][random.usize(..4)];
    let delay = Duration::from_secs(random.u64(..3));
    Connect {
        will: random.bool().then(|| Will { message: message(random), delay }),
        clean_start: expiry == 0 || random.bool(),
        expiry,
        receive_maximum: NonZeroU16::new(random.u16(1..4)).expect("not zero"),
        // Few ids: they take each other's sessions.
        ..Connect::new(version, format!("fuzz-{}", random.u8(..20)))
    }
}

fn packet(random: &mut fastrand::Rng) -> Packet {
    let id = pid(random.u16(1..6));
    let ack = Ack { id, reason: [Reason::SUCCESS, Reason::UNSPECIFIED, Reason::QUOTA_EXCEEDED][random.usize(..3)] };
    match random.u8(..16) {
        0 | 1 => Packet::PubAck(ack),
        2 => Packet::PubRec(ack),
        3 => Packet::PubRel(Ack::ok(id)),
        4 => Packet::PubComp(Ack::ok(id)),
        5 if random.u8(..8) == 0 => {
            Packet::Disconnect { reason: Reason::SUCCESS, expiry: random.bool().then_some(random.u32(..90)) }
        }
        5 => Packet::PingReq,
        6 => Packet::Unsubscribe { id, filters: vec![filter(random), filter(random)] },
        7..=9 => {
            let options = SubscribeOptions {
                qos: qos(random),
                no_local: random.bool(),
                retain_as_published: random.bool(),
                retain_handling: [RetainHandling::Send, RetainHandling::SendIfNew][random.usize(..2)],
            };
            let filters = (0..random.usize(1..4)).map(|_| (filter(random), options)).collect();
            let subscription_id = random.bool().then(|| random.u32(1..100));
            Packet::Subscribe(Box::new(Subscribe { id, filters, subscription_id }))
        }
        _ => {
            let message = message(random);
            Packet::Publish(Publish {
                id: (message.qos != QoS::AtMostOnce).then_some(id),
                dup: false,
                qos: message.qos,
                retain: message.retain,
                message: message.into(),
                topic_alias: NonZeroU16::new(random.u16(..3)),
                subscription_ids: Vec::new(),
                place: None,
            })
        }
    }
}

fn message(random: &mut fastrand::Rng) -> Message {
    let properties = Properties {
        utf8: random.bool().then(|| random.bool()),
        expiry: random.bool().then_some(random.u32(..3)),
        content_type: random.bool().then(|| "text/plain".into()),
        response_topic: random.bool().then(|| "fuzz/answer".into()),
        correlation: random.bool().then(|| vec![0, 255]),
        user: vec![("a".into(), "ü".into()); random.usize(..3)],
    };
    let topic = ["fuzz/a", "fuzz/b/c", "é", "/", "$SYS/x", "fuzz/日本"][random.usize(..6)];
    let payload = vec![random.u8(..); [0, 1, 10, 300, 2000][random.usize(..5)]];
    Message {
        qos: qos(random),
        retain: random.u8(..4) == 0,
        properties: random.bool().then(|| Box::new(properties)),
        ..Message::new(topic, payload)
    }
}

fn filter(random: &mut fastrand::Rng) -> Arc<str> {
    const FILTERS: [&str; 12] = [
        "#",
        "+",
        "fuzz/#",
        "fuzz/+/c",
        "fuzz/a",
        "é",
        "$SYS/#",
        "$share/g/fuzz/#",
        "$share/h/+/a",
        "",
        "a/#/b",
        "+/+",
    ];
    FILTERS[random.usize(..FILTERS.len())].into()
}

fn qos(random: &mut fastrand::Rng) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][random.usize(..3)]
}
