//! The way to a cloud, beside Mosquitto's bridge: both get the same messages from the same publisher and pass them on to
//! the same cloud, in turn, on this machine.
//!
//! ```sh
//! cargo bench --bench uplink                       # everything, in less than four minutes
//! cargo bench --bench uplink -- drain              # a backlog of 100 000 messages of 100 B, on loopback and 50 ms away
//! cargo bench --bench uplink -- latency            # from publisher to cloud, 200 messages a second
//! cargo bench --bench uplink -- wear               # what is written to the disk, online and offline
//! cargo bench --bench uplink -- memory             # while a million messages wait and drain
//! cargo bench --bench uplink -- --long             # more rounds, and a minute of wear
//! ```
//!
//! `--fieldpost PATH` and `--mosquitto PATH` measure other builds. Debian's Mosquitto 2.0.11 sends its whole backlog
//! without minding `max_inflight_messages`; 2.0.20 keeps its window.
//!
//! The cloud is a thread that acknowledges everything (QoS 1) and counts; a cloud that is 50 ms away acknowledges after
//! 50 ms. Messages bear numbers: what does not come is an error, what comes again or too early is counted. Fieldpost's
//! backlog is in its store on the disk; Mosquitto's is in memory.

mod cloud;
#[path = "../peers/mod.rs"]
mod peers;

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use cloud::Cloud;
use peers::packet::{self, Publish};
use peers::peer::{Kind, Peer, Programs, Setting, Uplink};
use peers::wire::Wires;
use peers::{median, percentile};

const BOTH: [Kind; 2] = [Kind::Fieldpost, Kind::Mosquitto];
const SECTIONS: [&str; 4] = ["drain", "latency", "wear", "memory"];
const WINDOWS: [u16; 3] = [20, 100, 1000];
/// Bytes of a payload.
const SIZE: usize = 100;
/// Messages that a publisher has open.
const OPEN: u32 = 1000;
/// How long a backlog may take, besides what its window allows.
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages a second, for latency and for wear.
const RATE: u32 = 200;
const WEAR_RATE: u32 = 100;
/// How far away a cloud is that is not on this machine.
const FAR: Duration = Duration::from_millis(50);

/// What was asked for.
struct Wish {
    programs: Programs,
    words: Vec<String>,
    long: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let wish = Wish::read()?;
    if wish.has("drain") {
        drain(&wish)?;
    }
    if wish.has("latency") {
        latency(&wish)?;
    }
    if wish.has("wear") {
        wear(&wish)?;
    }
    if wish.has("memory") {
        memory(&wish)?;
    }
    Ok(())
}

impl Wish {
    fn read() -> Result<Self, Box<dyn Error>> {
        let programs = Programs {
            fieldpost: env!("CARGO_BIN_EXE_fieldpost").into(),
            mosquitto: peers::mosquitto(),
            pinned: false,
        };
        let mut wish = Self { programs, words: Vec::new(), long: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(word) = arguments.next() {
            let mut path = || arguments.next().ok_or(format!("{word} needs a path"));
            match word.as_str() {
                "--bench" => {} // from cargo
                "--long" => wish.long = true,
                "--fieldpost" => wish.programs.fieldpost = path()?.into(),
                "--mosquitto" => wish.programs.mosquitto = path()?.into(),
                _ if SECTIONS.contains(&word.as_str()) => wish.words.push(word),
                _ => return Err(format!("{word} is no choice; they stand at the top of {}", file!()).into()),
            }
        }
        Ok(wish)
    }

    fn has(&self, section: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| word == section)
    }
}

/// A broker that passes on to a cloud.
fn edge(kind: Kind, wish: &Wish, cloud: &Cloud, window: u16) -> io::Result<Peer> {
    let uplink = Some(Uplink { port: cloud.port(), window });
    Peer::start(kind, &wish.programs, Setting { uplink, ..Setting::PLAIN })
}

/// Publishes the messages `from` up to and without `to` as fast as they are acknowledged.
fn fill(peer: &Peer, from: u32, to: u32) -> io::Result<()> {
    let mut wires = Wires::new(peer.address)?;
    let publisher = wires.connect("publisher", true, None)?;
    let mut publish = Publish::new("bench/0", SIZE, 1, false, 0);
    let (mut sent, mut acked, mut ready) = (from, from, Vec::new());
    while acked < to {
        while sent < to && sent - acked < OPEN {
            publish.write(sent, &mut wires.clients[publisher].out);
            sent += 1;
        }
        wires.flush(publisher)?;
        wires.wait(Instant::now() + PATIENCE, &mut ready)?;
        if ready.is_empty() {
            return Err(io::Error::other("the broker acknowledges nothing"));
        }
        wires.read(publisher, |first, _, _| acked += u32::from(first >> 4 == packet::PUBACK))?;
    }
    Ok(())
}

fn drain(wish: &Wish) -> Result<(), Box<dyn Error>> {
    let rounds = if wish.long { 5 } else { 3 };
    println!("a backlog of messages of {SIZE} B that drains into a cloud that is back: messages a second (k/s),");
    println!("the bridge's CPU for each (µs); what came again\n");
    println!("                        Fieldpost Mosquitto  ratio  window/RTT   Fieldpost Mosquitto   again F  again M");
    for (name, way) in [("loopback", Duration::ZERO), ("50 ms", FAR)] {
        for window in WINDOWS {
            let most = if way.is_zero() { f64::INFINITY } else { f64::from(window) / way.as_secs_f64() };
            let count = (most * if wish.long { 20.0 } else { 6.0 }).min(100_000.0) as u32;
            let rounds = if way.is_zero() { rounds } else { 1 };
            let (mut rates, mut cpus, mut again) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()], [0; 2]);
            for _ in 0..rounds {
                for (side, kind) in BOTH.into_iter().enumerate() {
                    let cloud = Cloud::new(way, false)?;
                    let peer = edge(kind, wish, &cloud, window)?;
                    fill(&peer, 0, count)?;
                    let cpu = peer.cpu()?;
                    cloud.open();
                    let seen = cloud.wait(count, PATIENCE).map_err(|e| format!("{kind:?}, window {window}: {e}"))?;
                    let (Some(first), Some(last)) = (seen.first, seen.last) else { return Err("nothing came".into()) };
                    rates[side].push(f64::from(count) / (last - first).as_secs_f64());
                    cpus[side].push((peer.cpu()? - cpu).as_secs_f64() * 1e6 / f64::from(count));
                    again[side] += seen.again + seen.early;
                }
            }
            let [rate, cpu] = [rates, cpus].map(|both| both.map(|values| median(values.into_iter())));
            let limit = if most.is_finite() { format!("{:7.3}", most / 1e3) } else { "      -".into() };
            println!(
                "{name:>8} window {window:<5} {:9.3} {:9.3} {:6.2}     {limit}   {:9.2} {:9.2} {:9} {:8}",
                rate[0] / 1e3,
                rate[1] / 1e3,
                rate[0] / rate[1],
                cpu[0],
                cpu[1],
                again[0],
                again[1],
            );
        }
    }
    println!();
    Ok(())
}

fn latency(wish: &Wish) -> Result<(), Box<dyn Error>> {
    let (rounds, time) = if wish.long { (7, 10) } else { (3, 4) };
    println!("from a publisher to the cloud at {RATE} messages a second (µs), window 100\n");
    println!("                  Fieldpost p50   p99   Mosquitto p50   p99    ratio p50   p99");
    let mut found = [(); 2].map(|()| [Vec::new(), Vec::new()]);
    for _ in 0..rounds {
        for (side, kind) in BOTH.into_iter().enumerate() {
            let cloud = Cloud::new(Duration::ZERO, true)?;
            cloud.open();
            let peer = edge(kind, wish, &cloud, 100)?;
            fill(&peer, 0, 1)?;
            cloud.wait(1, PATIENCE)?;
            let due = pace(&peer, 1, RATE, Duration::from_secs(time))?;
            let seen = cloud.wait(1 + due.len() as u32, PATIENCE)?;
            let mut times: Vec<f64> = (seen.moments[1..].iter().zip(&due))
                .map(|(came, due)| came.saturating_duration_since(*due).as_secs_f64() * 1e6)
                .collect();
            times.sort_by(f64::total_cmp);
            found[side][0].push(percentile(&times, 0.5));
            found[side][1].push(percentile(&times, 0.99));
        }
    }
    let [[f50, f99], [m50, m99]] = found.map(|side| side.map(|times| median(times.into_iter())));
    println!(
        "                      {f50:9.0} {f99:5.0}       {m50:9.0} {m99:5.0}       {:6.2} {:5.2}\n",
        f50 / m50,
        f99 / m99
    );
    Ok(())
}

/// Publishes messages from number `from` on at a steady pace, whatever the broker does; when each was due.
fn pace(peer: &Peer, from: u32, rate: u32, time: Duration) -> io::Result<Vec<Instant>> {
    let mut wires = Wires::new(peer.address)?;
    let publisher = wires.connect("publisher", true, None)?;
    let mut publish = Publish::new("bench/0", SIZE, 1, false, 0);
    let count = (f64::from(rate) * time.as_secs_f64()) as u32;
    let begun = Instant::now() + Duration::from_millis(50);
    let due: Vec<_> = (0..count).map(|n| begun + Duration::from_secs(1) / rate * n).collect();
    let (mut sent, mut acked, mut ready) = (0, 0, Vec::new());
    while acked < count {
        let now = Instant::now();
        while sent < count && due[sent as usize] <= now {
            publish.write(from + sent, &mut wires.clients[publisher].out);
            sent += 1;
        }
        wires.flush(publisher)?;
        // The timers of a virtual machine may be late; the rest is waited for awake.
        let wake = due.get(sent as usize).map_or(now + PATIENCE, |due| *due - Duration::from_millis(2));
        wires.wait(wake, &mut ready)?;
        for &client in &ready {
            wires.read(client, |first, _, _| acked += u32::from(first >> 4 == packet::PUBACK))?;
        }
        if sent == count && begun.elapsed() > time + PATIENCE {
            return Err(io::Error::other("the broker acknowledges nothing"));
        }
    }
    Ok(due)
}

/// What goes to the disk: online, where everything is acknowledged 50 ms later, and offline.
fn wear(wish: &Wish) -> Result<(), Box<dyn Error>> {
    let time = Duration::from_secs(if wish.long { 60 } else { 15 });
    println!(
        "written to the disk at {WEAR_RATE} messages of {SIZE} B a second (Fieldpost), as a day would have it (MB)\n"
    );
    for (name, online, commit) in [
        ("online, window 250 ms", true, 250),
        ("offline, window 250 ms", false, 250),
        ("offline, window 1 s", false, 1000),
    ] {
        let cloud = Cloud::new(FAR, false)?;
        if online {
            cloud.open();
        }
        let uplink = Some(Uplink { port: cloud.port(), window: 100 });
        let commit = Duration::from_millis(commit);
        let peer = Peer::start(Kind::Fieldpost, &wish.programs, Setting { uplink, commit, ..Setting::PLAIN })?;
        fill(&peer, 0, 100)?;
        if online {
            cloud.wait(100, PATIENCE)?;
        }
        std::thread::sleep(Duration::from_secs(2));
        let (before, begun) = (peer.written()?, Instant::now());
        pace(&peer, 100, WEAR_RATE, time)?;
        let day = (peer.written()? - before) as f64 / begun.elapsed().as_secs_f64() * 86_400.0;
        println!("{name:<24} {:10.1}", day / 1e6);
    }
    println!();
    Ok(())
}

/// Memory while a million messages wait and drain.
fn memory(wish: &Wish) -> Result<(), Box<dyn Error>> {
    let count = if wish.long { 1_000_000 } else { 200_000 };
    println!("memory with a backlog of {count} messages of {SIZE} B, VmRSS (MiB)\n");
    println!("                  empty   waiting   most while it drains");
    for kind in BOTH {
        let cloud = Cloud::new(Duration::ZERO, false)?;
        let peer = edge(kind, wish, &cloud, 100)?;
        let empty = peer.rss()?;
        fill(&peer, 0, count)?;
        let (waiting, mut most) = (peer.rss()?, 0);
        cloud.open();
        let end = Instant::now() + PATIENCE * 2;
        while cloud.seen().next < count {
            most = most.max(peer.rss()?);
            if Instant::now() >= end {
                return Err(format!("{kind:?}: only {} messages have come", cloud.seen().next).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let [empty, waiting, most] = [empty, waiting, most].map(|bytes| bytes as f64 / f64::from(1 << 20));
        println!("{:<14} {empty:8.1} {waiting:9.1} {most:9.1}", format!("{kind:?}"));
    }
    println!();
    Ok(())
}
