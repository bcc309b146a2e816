//! What a broker's memory grows by: retained messages, and clients that are only there.

use std::io;
use std::time::{Duration, Instant};

use super::peers::packet::{self, Publish};
use super::peers::peer::Peer;
use super::peers::wire::Wires;

/// Retained messages, of 64 B each, every one on a topic of its own.
pub const RETAINED: u32 = 100_000;
/// Clients with one subscription each, and nothing to say.
pub const IDLE: usize = 1000;

/// How many messages wait for their PUBACK; Fieldpost's comes when the message is on the disk.
const WINDOW: u32 = 10_000;
/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(20);
/// What was needed only for a moment is given back by then.
const SETTLE: Duration = Duration::from_millis(700);

/// Bytes by which [`RETAINED`] messages grow the broker, once a subscriber has seen that they are all there.
pub fn retained(peer: &Peer) -> io::Result<u64> {
    let mut wires = Wires::new(peer.address)?;
    let publisher = wires.connect("publisher", true, None)?;
    let before = peer.rss()?;
    let (mut sent, mut open, mut ready) = (0, 0, Vec::new());
    while sent < RETAINED || open > 0 {
        while sent < RETAINED && open < WINDOW && wires.clients[publisher].out.len() < 256 * 1024 {
            let mut publish = Publish::new(&format!("bench/retained/{sent}"), 64, 1, true, 0);
            publish.write(sent, &mut wires.clients[publisher].out);
            (sent, open) = (sent + 1, open + 1);
        }
        wires.flush(publisher)?;
        wait(&mut wires, &mut ready)?;
        wires.read(publisher, |first, _, _| open -= u32::from(first >> 4 == packet::PUBACK))?;
    }
    std::thread::sleep(SETTLE);
    let after = peer.rss()?;
    let mut wires = Wires::new(peer.address)?;
    let subscriber = wires.connect("subscriber", true, Some(("bench/retained/#", 0)))?;
    let mut seen = 0;
    while seen < RETAINED {
        wait(&mut wires, &mut ready)?;
        wires.read(subscriber, |first, _, _| seen += u32::from(first >> 4 == packet::PUBLISH))?;
    }
    Ok(after.saturating_sub(before))
}

/// Bytes by which [`IDLE`] clients grow the broker.
pub fn idle(peer: &Peer) -> io::Result<u64> {
    let mut wires = Wires::new(peer.address)?;
    wires.connect("first", true, Some(("bench/first", 1)))?;
    std::thread::sleep(SETTLE);
    let before = peer.rss()?;
    for i in 0..IDLE {
        wires.connect(&format!("idle-{i}"), true, Some((&format!("bench/{i}"), 1)))?;
    }
    std::thread::sleep(SETTLE);
    Ok(peer.rss()?.saturating_sub(before))
}

fn wait(wires: &mut Wires, ready: &mut Vec<usize>) -> io::Result<()> {
    wires.wait(Instant::now() + PATIENCE, ready)?;
    if ready.is_empty() { Err(io::Error::other("nothing came any more")) } else { Ok(()) }
}
