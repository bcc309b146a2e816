//! The cloud: it takes all that comes, acknowledges it after a while, and keeps no more of it than a count.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::peers::packet;

/// Bytes that one read takes at most.
const READ: usize = 256 * 1024;

/// A cloud on a port that the system gave.
pub struct Cloud {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Whether it takes connections; one that it does not take is closed at once.
    open: AtomicBool,
    /// How long the way there and back takes: acknowledgements are that late.
    way: Duration,
    /// Whether the moment of each message is kept.
    timed: bool,
    seen: Mutex<Seen>,
}

/// What came so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The number that is to come next; all below have come.
    pub next: u32,
    /// Messages that came again, and messages that came before their turn.
    pub again: u64,
    pub early: u64,
    /// When the first message came and when the last one.
    pub first: Option<Instant>,
    pub last: Option<Instant>,
    /// When which message came, in order.
    pub moments: Vec<Instant>,
}

impl Cloud {
    /// One that is not open yet.
    pub fn new(way: Duration, timed: bool) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { open: AtomicBool::new(false), way, timed, seen: Mutex::default() });
        let theirs = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if theirs.open.load(Ordering::SeqCst) {
                    let shared = theirs.clone();
                    // A connection that ends is the end of its thread; what came is counted.
                    thread::spawn(move || drop(serve(stream, &shared)));
                }
            }
        });
        Ok(Self { address, shared })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Takes connections from now on.
    pub fn open(&self) {
        self.shared.open.store(true, Ordering::SeqCst);
    }

    /// What came so far.
    pub fn seen(&self) -> Seen {
        self.shared.seen.lock().expect("nobody panics with it").clone()
    }

    /// Waits until messages up to and without `count` have come.
    pub fn wait(&self, count: u32, patience: Duration) -> io::Result<Seen> {
        let end = Instant::now() + patience;
        loop {
            let seen = self.seen();
            if seen.next >= count {
                return Ok(seen);
            }
            if Instant::now() >= end {
                return Err(io::Error::other(format!("only {} of {count} messages have come", seen.next)));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// One connection, until it ends.
fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (late, answers) = mpsc::channel::<(Instant, Vec<u8>)>();
    let mut out = stream.try_clone()?;
    let delayed = !shared.way.is_zero();
    if delayed {
        let slow = stream.try_clone()?;
        thread::spawn(move || answer_late(slow, answers));
    }
    let (mut scratch, mut rest, mut version) = (vec![0; READ], Vec::new(), 4);
    let mut answer = Vec::new();
    loop {
        let n = stream.read(&mut scratch)?;
        if n == 0 {
            return Ok(());
        }
        rest.extend_from_slice(&scratch[..n]);
        let now = Instant::now();
        let mut taken = 0;
        {
            let mut seen = shared.seen.lock().expect("nobody panics with it");
            while let Some(body) = packet::frame(&rest[taken..]) {
                let (first, end) = (rest[taken], body.end);
                let body = &rest[taken..][body];
                take(first, body, &mut version, &mut answer, &mut seen, now, shared.timed);
                taken += end;
            }
        }
        rest.drain(..taken);
        if !answer.is_empty() {
            let answer = std::mem::take(&mut answer);
            if !delayed {
                out.write_all(&answer)?;
            } else if late.send((now + shared.way, answer)).is_err() {
                return Ok(());
            }
        }
    }
}

fn answer_late(mut stream: TcpStream, answers: Receiver<(Instant, Vec<u8>)>) {
    for (due, bytes) in answers {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn take(first: u8, body: &[u8], version: &mut u8, answer: &mut Vec<u8>, seen: &mut Seen, now: Instant, timed: bool) {
    let five = *version == 5;
    match first >> 4 {
        packet::CONNECT => {
            // Behind the protocol's name; a bridge of Mosquitto's sets the highest bit.
            let name = usize::from(u16::from_be_bytes([body[0], body[1]]));
            *version = body[2 + name] & 0x7F;
            answer.extend_from_slice(if *version == 5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] });
        }
        packet::SUBSCRIBE if five => answer.extend_from_slice(&[0x90, 4, body[0], body[1], 0, 1]),
        packet::SUBSCRIBE => answer.extend_from_slice(&[0x90, 3, body[0], body[1], 1]),
        packet::PINGREQ => answer.extend_from_slice(&[0xD0, 0]),
        packet::PUBLISH => {
            let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
            let qos = first >> 1 & 3;
            if qos > 0 {
                packet::answer(packet::PUBACK, [body[2 + topic], body[3 + topic]], answer);
            }
            if !body[2..2 + topic].starts_with(b"bench/") {
                return;
            }
            // The payload begins with publisher and number: see `packet::Publish`.
            let properties = if five { 1 + usize::from(body[4 + topic]) } else { 0 };
            let number = body[4 + topic + properties + 4..][..4].try_into().map(u32::from_be_bytes);
            let number = number.expect("four bytes are four bytes");
            seen.first.get_or_insert(now);
            seen.last = Some(now);
            match number.cmp(&seen.next) {
                std::cmp::Ordering::Less => seen.again += 1,
                std::cmp::Ordering::Equal => {
                    seen.next += 1;
                    if timed {
                        seen.moments.push(now);
                    }
                }
                std::cmp::Ordering::Greater => seen.early += 1,
            }
        }
        _ => {}
    }
}
