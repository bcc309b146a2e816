//! A steady pace, whatever the broker does (an open loop): how long messages take when there is little to do.

use std::io;
use std::time::{Duration, Instant};

use super::peers::packet::{self, Publish, Received};
use super::peers::peer::Peer;
use super::peers::wire::Wires;

/// Messages a second.
pub const RATE: u32 = 200;
/// The timers of a virtual machine may be that late; the rest is waited for awake.
const EARLY: Duration = Duration::from_millis(2);
/// How long the last ones may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    /// So many subscribers whose sessions end with them.
    Plain(usize),
    /// One whose session is kept; connected.
    Durable,
    /// One whose session is kept, and who is away.
    Away,
}

/// Times in microseconds, sorted, from the moment when a message was due to be sent.
#[derive(Debug, Default)]
pub struct Times {
    /// Until a subscriber had it.
    pub delivery: Vec<f64>,
    /// Until the publisher had its PUBACK.
    pub answer: Vec<f64>,
}

/// Publishes messages of 64 B at [`RATE`] for so long.
pub fn run(peer: &Peer, qos: u8, listening: Listening, time: Duration) -> io::Result<Times> {
    let mut wires = Wires::new(peer.address)?;
    let subscribers = match listening {
        Listening::Plain(n) => n,
        Listening::Durable => 1,
        Listening::Away => {
            Wires::new(peer.address)?.connect("subscriber-0", false, Some(("bench/+", qos)))?;
            0
        }
    };
    for i in 0..subscribers {
        let clean = listening != Listening::Durable;
        wires.connect(&format!("subscriber-{i}"), clean, Some(("bench/+", qos)))?;
    }
    let publisher = wires.connect("publisher", true, None)?;
    let mut publish = Publish::new("bench/0", 64, qos, false, 0);
    let count = (RATE as f64 * time.as_secs_f64()) as u32;
    let begun = Instant::now() + Duration::from_millis(50);
    let due = |number: u32| begun + Duration::from_secs(1) / RATE * number;
    let mut times = Times::default();
    let (wanted, mut sent, mut ready) = (count as usize * subscribers, 0, Vec::new());
    loop {
        let now = Instant::now();
        while sent < count && due(sent) <= now {
            publish.write(sent, &mut wires.clients[publisher].out);
            sent += 1;
        }
        wires.flush(publisher)?;
        let answered = qos == 0 || times.answer.len() >= count as usize;
        if sent == count && times.delivery.len() >= wanted && answered {
            break;
        }
        if now > due(count) + PATIENCE {
            return Err(io::Error::other("messages did not arrive"));
        }
        wires.wait(if sent < count { due(sent) - EARLY } else { now + PATIENCE }, &mut ready)?;
        for &client in &ready {
            let late = |number: u32| due(number).elapsed().as_secs_f64() * 1e6;
            wires.read(client, |first, body, out| match first >> 4 {
                packet::PUBLISH => {
                    let Some(received) = Received::read(first, body) else { return };
                    times.delivery.push(late(received.number));
                    match received.id {
                        Some(id) if received.qos == 1 => packet::answer(packet::PUBACK, id, out),
                        Some(id) => packet::answer(packet::PUBREC, id, out),
                        None => {}
                    }
                }
                packet::PUBREL => packet::answer(packet::PUBCOMP, [body[0], body[1]], out),
                packet::PUBREC => packet::answer(packet::PUBREL, [body[0], body[1]], out),
                packet::PUBACK | packet::PUBCOMP => {
                    // The id says which one it was: see `Publish::write`.
                    let id = u16::from_be_bytes([body[0], body[1]]);
                    times.answer.push(late(u32::from(id) - 1));
                }
                _ => {}
            })?;
            wires.flush(client)?;
        }
    }
    times.delivery.sort_by(f64::total_cmp);
    times.answer.sort_by(f64::total_cmp);
    Ok(times)
}
