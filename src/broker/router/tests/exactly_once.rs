//! QoS 2 from publisher to reader, while connections and the gateway itself end at any moment.

use std::collections::BTreeSet;

use super::*;

const PUBLISHER: &str = "publisher";
const READER: &str = "reader";

/// A publisher as MQTT 5.0, section 4.3.3 wants it: one exchange after the other, begun again where it stood.
struct Sender {
    link: u64,
    /// The message it is at, and whether PUBREC has come for it.
    at: u64,
    received: bool,
    /// The ids of messages go round in a few, so that each is used again soon.
    last: u64,
}

impl Sender {
    fn id(&self) -> u16 {
        (self.at % 3 + 1) as u16
    }

    fn packet(&self, dup: bool) -> Option<Packet> {
        if self.at >= self.last {
            None
        } else if self.received {
            Some(Packet::PubRel(ok(self.id())))
        } else {
            let message = Message { qos: QoS::ExactlyOnce, ..Message::new("t", self.at.to_string()) };
            let Packet::Publish(publish) = packet_of(Some(self.id()), message) else { unreachable!() };
            Some(Packet::Publish(Publish { dup, ..publish }))
        }
    }

    fn take(&mut self, packet: &Packet) -> Option<Packet> {
        match packet {
            Packet::PubRec(ack) if ack.id.get() == self.id() && !self.received => self.received = true,
            Packet::PubComp(ack) if ack.id.get() == self.id() && self.received => {
                self.received = false;
                self.at += 1;
            }
            _ => return None,
        }
        self.packet(false)
    }
}

/// A reader that forgets an id at PUBREL, as it must.
#[derive(Default)]
struct Receiver {
    link: u64,
    taken: BTreeSet<u16>,
    got: Vec<String>,
}

impl Receiver {
    fn take(&mut self, packet: &Packet) -> Option<Packet> {
        match packet {
            Packet::Publish(publish) => {
                let id = publish.id.expect("QoS 2");
                if self.taken.insert(id.get()) {
                    self.got.push(String::from_utf8_lossy(&publish.message.payload).into_owned());
                }
                Some(Packet::PubRec(ok(id.get())))
            }
            Packet::PubRel(ack) => {
                self.taken.remove(&ack.id.get());
                Some(Packet::PubComp(ok(ack.id.get())))
            }
            _ => None,
        }
    }
}

/// Both clients, and packets on their way to them and from them.
struct Plant {
    world: World,
    sender: Sender,
    receiver: Receiver,
    next_link: u64,
    on_way: Vec<(u64, Packet)>,
}

impl Plant {
    fn new(messages: u64) -> Self {
        let sender = Sender { link: 0, at: 0, received: false, last: messages };
        let mut plant =
            Self { world: World::new(), sender, receiver: Receiver::default(), next_link: 1, on_way: Vec::new() };
        plant.connect_reader();
        plant.world.subscribe(plant.receiver.link, "t", QoS::ExactlyOnce);
        plant.connect_publisher();
        plant.world.commit();
        plant
    }

    fn open(&mut self, client_id: &str) -> u64 {
        let link = self.next_link;
        self.next_link += 1;
        self.world.open(link, connect(client_id, 3600));
        link
    }

    fn connect_reader(&mut self) {
        self.receiver.link = self.open(READER);
    }

    fn connect_publisher(&mut self) {
        self.sender.link = self.open(PUBLISHER);
        // What stands open begins again.
        self.on_way.extend(self.sender.packet(true).map(|packet| (self.sender.link, packet)));
    }

    /// One packet goes on: from the router to a client, and the client's answer back.
    fn carry(&mut self, random: &mut fastrand::Rng) {
        // Each connection keeps the order of its packets.
        let link = if random.bool() { self.sender.link } else { self.receiver.link };
        let due = self.on_way.iter().position(|(on, _)| *on == link);
        if let Some((link, packet)) = due.map(|place| self.on_way.remove(place)) {
            self.world.packet(link, packet);
        }
        for (link, publisher) in [(self.sender.link, true), (self.receiver.link, false)] {
            for packet in self.world.sent(link) {
                let answer = if publisher { self.sender.take(&packet) } else { self.receiver.take(&packet) };
                self.on_way.extend(answer.map(|answer| (link, answer)));
            }
        }
    }

    fn lose(&mut self, link: u64) {
        self.on_way.retain(|(on, _)| *on != link);
        self.world.gone(link);
    }

    fn crash(self) -> Self {
        let mut plant = Self { world: self.world.crash(), on_way: Vec::new(), ..self };
        plant.connect_reader();
        plant.connect_publisher();
        plant
    }
}

#[test]
fn a_message_arrives_once_whatever_ends_and_when() {
    const MESSAGES: u64 = 12;
    let mut crashes = 0;
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut plant = Plant::new(MESSAGES);
        for step in 0.. {
            assert!(step < 20_000, "seed {seed}: it stands still at {}", plant.sender.at);
            match random.u8(..40) {
                0 => {
                    plant.lose(plant.receiver.link);
                    plant.connect_reader();
                }
                1 => {
                    plant.lose(plant.sender.link);
                    plant.connect_publisher();
                }
                2 => {
                    crashes += 1;
                    plant = plant.crash();
                }
                3..6 => plant.world.window(),
                6..12 => plant.world.committed(),
                _ => plant.carry(&mut random),
            }
            if plant.sender.at == MESSAGES && plant.receiver.got.len() as u64 >= MESSAGES {
                break;
            }
        }
        let expected: Vec<_> = (0..MESSAGES).map(|n| n.to_string()).collect();
        assert_eq!(plant.receiver.got, expected, "seed {seed}");
    }
    assert!(crashes > 1000, "{crashes}");
}
