//! As much as a broker carries: publishers with a window each, subscribers that acknowledge all, everything counted.

use std::io;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::peers::packet::{self, Publish, Received};
use super::peers::peer::Peer;
use super::peers::wire::Wires;

/// Messages under way to one subscriber that gets everything: below what either broker would begin to drop, at QoS 0 as well.
const UNDER_WAY: u64 = 3000;
/// Bytes that one publisher gathers before they have to be written.
const BATCH: usize = 64 * 1024;
/// How long the last messages may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who publishes to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub name: &'static str,
    pub publishers: usize,
    pub subscribers: usize,
    /// Each publisher has a subscriber of its own; otherwise everybody gets everything.
    pub pairs: bool,
    /// Messages of one publisher without their PUBACK or PUBCOMP.
    pub window: u32,
}

/// One load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub shape: Shape,
    pub qos: u8,
    pub size: usize,
    /// The subscribers' sessions outlive their connections.
    pub durable: bool,
    pub warm: Duration,
    pub measure: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Delivered messages a second.
    pub rate: f64,
    /// The broker's CPU time for each, in microseconds.
    pub cpu: f64,
    /// How much of one core the load itself took.
    pub own: f64,
    /// Deliveries that did not arrive, or not in order.
    pub lost: u64,
    /// Deliveries that came again.
    pub again: u64,
}

struct Publisher {
    client: usize,
    publish: Publish,
    sent: u32,
    /// Without their last answer.
    open: u32,
    /// Deliveries of its messages, at all subscribers.
    delivered: u64,
    touched: bool,
}

struct Subscriber {
    first: usize,
    /// The next number from each of its publishers.
    expected: Vec<u32>,
}

impl Load {
    /// Runs it on a broker that nobody else uses.
    pub fn run(&self, peer: &Peer) -> io::Result<Outcome> {
        let mut run = Run::new(self, peer)?;
        let begun = Instant::now();
        run.go_on(begun + self.warm, true)?;
        // A slow broker has not delivered anything yet of what it took from five hundred at once, and it delivers in waves.
        let wave = self.shape.publishers as u64 * u64::from(self.shape.window) * run.fan;
        run.go_on_until(wave, PATIENCE)?;
        let before = (Instant::now(), peer.cpu()?, own_cpu(), run.delivered);
        run.go_on(before.0 + self.measure, true)?;
        run.go_on_until(before.3 + wave, PATIENCE)?;
        let (time, cpu, own) = (before.0.elapsed(), peer.cpu()? - before.1, own_cpu() - before.2);
        let delivered = (run.delivered - before.3) as f64;
        run.go_on(Instant::now() + PATIENCE, false)?;
        let sent: u64 = run.publishers.iter().map(|p| u64::from(p.sent)).sum();
        let missing = (sent * run.fan).saturating_sub(run.delivered);
        Ok(Outcome {
            rate: delivered / time.as_secs_f64(),
            cpu: cpu.as_secs_f64() * 1e6 / delivered.max(1.0),
            own: own.as_secs_f64() / time.as_secs_f64(),
            lost: missing.max(run.lost),
            again: run.again,
        })
    }
}

struct Run {
    wires: Wires,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    /// Subscribers of one publisher.
    fan: u64,
    under_way: u64,
    window: u32,
    delivered: u64,
    lost: u64,
    again: u64,
}

impl Run {
    fn new(load: &Load, peer: &Peer) -> io::Result<Self> {
        let Shape { publishers, subscribers, pairs, window, .. } = load.shape;
        let mut wires = Wires::new(peer.address)?;
        let mut listening = Vec::new();
        for i in 0..subscribers {
            let filter = if pairs { format!("bench/{i}") } else { "bench/+".to_owned() };
            wires.connect(&format!("subscriber-{i}"), !load.durable, Some((&filter, load.qos)))?;
            let (first, from) = if pairs { (i, 1) } else { (0, publishers) };
            listening.push(Subscriber { first, expected: vec![0; from] });
        }
        let mut sending = Vec::new();
        for i in 0..publishers {
            let client = wires.connect(&format!("publisher-{i}"), true, None)?;
            let publish = Publish::new(&format!("bench/{i}"), load.size, load.qos, false, i as u32);
            sending.push(Publisher { client, publish, sent: 0, open: 0, delivered: 0, touched: false });
        }
        Ok(Self {
            wires,
            publishers: sending,
            subscribers: listening,
            fan: if pairs { 1 } else { subscribers as u64 },
            under_way: if pairs { u64::from(window) * 2 } else { UNDER_WAY / publishers as u64 },
            window: if load.qos == 0 { u32::MAX } else { window },
            delivered: 0,
            lost: 0,
            again: 0,
        })
    }

    /// Carries on until `until`; without publishing anything new, until all has arrived at the latest.
    fn go_on(&mut self, until: Instant, publishing: bool) -> io::Result<()> {
        let mut ready = Vec::new();
        let mut touched: Vec<usize> = (0..self.publishers.len()).collect();
        while Instant::now() < until {
            for place in touched.drain(..) {
                self.publishers[place].touched = false;
                if publishing {
                    self.publish(place);
                }
                self.wires.flush(self.publishers[place].client)?;
            }
            if !publishing && self.is_done() {
                break;
            }
            self.wires.wait(until, &mut ready)?;
            for &client in &ready {
                if client < self.subscribers.len() {
                    self.deliver(client, &mut touched)?;
                    self.wires.flush(client)?;
                } else {
                    self.acknowledge(client, &mut touched)?;
                }
            }
        }
        Ok(())
    }

    /// Carries on until so many are delivered, or it takes too long.
    fn go_on_until(&mut self, delivered: u64, patience: Duration) -> io::Result<()> {
        let begun = Instant::now();
        while self.delivered < delivered && begun.elapsed() < patience {
            self.go_on(Instant::now() + Duration::from_millis(20), true)?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let sent: u64 = self.publishers.iter().map(|p| u64::from(p.sent)).sum();
        self.delivered >= sent * self.fan && self.publishers.iter().all(|p| p.open == 0)
    }

    fn publish(&mut self, place: usize) {
        let publisher = &mut self.publishers[place];
        let out = &mut self.wires.clients[publisher.client].out;
        while publisher.open < self.window
            && u64::from(publisher.sent) * self.fan < publisher.delivered + self.under_way
            && out.len() < BATCH
        {
            publisher.publish.write(publisher.sent, out);
            publisher.sent += 1;
            publisher.open += u32::from(self.window != u32::MAX);
        }
    }

    fn deliver(&mut self, client: usize, touched: &mut Vec<usize>) -> io::Result<()> {
        let Self { wires, publishers, subscribers, delivered, lost, again, .. } = self;
        let subscriber = &mut subscribers[client];
        wires.read(client, |first, body, out| match first >> 4 {
            packet::PUBLISH => {
                let Some(received) = Received::read(first, body) else { return };
                let from = received.publisher as usize;
                let expected = &mut subscriber.expected[from - subscriber.first];
                match received.qos {
                    1 => packet::answer(packet::PUBACK, received.id.unwrap_or_default(), out),
                    2 => packet::answer(packet::PUBREC, received.id.unwrap_or_default(), out),
                    _ => {}
                }
                if received.number < *expected {
                    *again += 1;
                    return;
                }
                *lost += u64::from(received.number - *expected);
                *expected = received.number + 1;
                *delivered += 1;
                let publisher = &mut publishers[from];
                publisher.delivered += 1;
                if !publisher.touched {
                    publisher.touched = true;
                    touched.push(from);
                }
            }
            packet::PUBREL => packet::answer(packet::PUBCOMP, [body[0], body[1]], out),
            _ => {}
        })
    }

    fn acknowledge(&mut self, client: usize, touched: &mut Vec<usize>) -> io::Result<()> {
        let place = client - self.subscribers.len();
        let publisher = &mut self.publishers[place];
        self.wires.read(client, |first, body, out| match first >> 4 {
            packet::PUBACK | packet::PUBCOMP => publisher.open -= 1,
            packet::PUBREC => packet::answer(packet::PUBREL, [body[0], body[1]], out),
            _ => {}
        })?;
        if !publisher.touched {
            publisher.touched = true;
            touched.push(place);
        }
        Ok(())
    }
}

/// How many messages a second are taken, with their PUBACKs, for a subscriber whose session is kept and who is away. It
/// comes back afterwards and gets them all.
///
/// # Errors
/// When one of them does not arrive.
pub fn away(peer: &Peer, time: Duration) -> io::Result<f64> {
    Wires::new(peer.address)?.connect("subscriber", false, Some(("bench/+", 1)))?;
    let shape = Shape { name: "away", publishers: 1, subscribers: 0, pairs: true, window: 100 };
    let load = Load { shape, qos: 1, size: 64, durable: true, warm: Duration::ZERO, measure: time };
    let mut run = Run::new(&load, peer)?;
    // Nobody is there to deliver to: only the window holds the publisher.
    run.under_way = u64::MAX / 2;
    let begun = Instant::now();
    run.go_on(begun + time, true)?;
    let taken = run.publishers[0].sent - run.publishers[0].open;
    let rate = f64::from(taken) / begun.elapsed().as_secs_f64();
    let mut wires = Wires::new(peer.address)?;
    wires.connect("subscriber", false, None)?;
    let (mut next, mut ready) = (0, Vec::new());
    while next < taken {
        wires.wait(Instant::now() + PATIENCE, &mut ready)?;
        if ready.is_empty() {
            return Err(io::Error::other(format!("{} of {taken} kept messages did not arrive", taken - next)));
        }
        wires.read(0, |first, body, out| {
            if let Some(received) = Received::read(first, body).filter(|_| first >> 4 == packet::PUBLISH) {
                next += u32::from(received.number == next);
                packet::answer(packet::PUBACK, received.id.unwrap_or_default(), out);
            }
        })?;
        wires.flush(0)?;
    }
    Ok(rate)
}

fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
