//! Fieldpost's broker beside Mosquitto: the same load on both, in turn, on this machine.
//!
//! ```sh
//! cargo bench --bench broker                       # everything, in less than three minutes
//! cargo bench --bench broker -- qos1 1-1 1-10      # only these loads
//! cargo bench --bench broker -- latency qos1       # times instead of throughput
//! cargo bench --bench broker -- memory durable
//! cargo bench --bench broker -- --long             # more and longer rounds
//! cargo bench --bench broker -- --pin              # the broker on the first core, the load on the second
//! ```
//!
//! Choices: `qos0 qos1 qos2`, `1-1 1-10 10-1 1000` (500 publishers, each with a subscriber of its own), `64b 1kb`;
//! `latency`, `memory`, `durable`. `--fieldpost PATH` and `--mosquitto PATH` measure other builds.
//! Mosquitto 2.0 is needed (`apt install mosquitto`), and 1100 open files (`ulimit -n`).
//!
//! The load is one thread on raw sockets, MQTT 3.1.1, with packets made beforehand and written in batches; its own share of a
//! core is printed beside, and at 100 % it is the load that is measured and not the broker. A publisher has 100
//! messages open at QoS 1 and 2, one of five hundred has 20; at every QoS at most 3000 (with 1000 clients 40) are under
//! way to one subscriber, so that nobody has to drop.
//! Every message bears a number, and what does not arrive, or arrives twice, is counted.
//!
//! Both brokers see the same cores, keep 100 messages in flight to a client, and keep nothing unless it says so.

mod load;
mod memory;
mod pace;
#[path = "../peers/mod.rs"]
mod peers;

use std::error::Error;
use std::time::Duration;

use load::{Load, Outcome, Shape};
use pace::Listening;
use peers::peer::{Kind, Peer, Programs, Setting};
use peers::{median, percentile};

const SHAPES: [Shape; 4] = [
    Shape { name: "1-1", publishers: 1, subscribers: 1, pairs: false, window: 100 },
    Shape { name: "1-10", publishers: 1, subscribers: 10, pairs: false, window: 100 },
    Shape { name: "10-1", publishers: 10, subscribers: 1, pairs: false, window: 100 },
    Shape { name: "1000", publishers: 500, subscribers: 500, pairs: true, window: 20 },
];
const SIZES: [(&str, usize); 2] = [("64b", 64), ("1kb", 1024)];
const QOS: [&str; 3] = ["qos0", "qos1", "qos2"];
const SECTIONS: [&str; 3] = ["latency", "memory", "durable"];
const COMMITS: [u64; 4] = [5, 50, 200, 1000];
const BOTH: [Kind; 2] = [Kind::Fieldpost, Kind::Mosquitto];

/// Bytes by which a broker grows.
type Measure = fn(&Peer) -> std::io::Result<u64>;

/// What was asked for.
struct Wish {
    programs: Programs,
    words: Vec<String>,
    rounds: usize,
    /// How long one measurement of a load takes; of a latency five times that.
    time: Duration,
}

fn main() -> Result<(), Box<dyn Error>> {
    let wish = Wish::read()?;
    open_files()?;
    if wish.programs.pinned {
        let me = std::process::id().to_string();
        std::process::Command::new("taskset").args(["-pc", "1", &me]).stdout(std::process::Stdio::null()).status()?;
    }
    throughput(&wish)?;
    if wish.section("latency") {
        latency(&wish)?;
    }
    if wish.section("memory") {
        memory(&wish)?;
    }
    if wish.section("durable") {
        durable(&wish)?;
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
        let mut wish = Self { programs, words: Vec::new(), rounds: 3, time: Duration::from_millis(300) };
        let mut arguments = std::env::args().skip(1);
        while let Some(word) = arguments.next() {
            let mut path = || arguments.next().ok_or(format!("{word} needs a path"));
            match word.as_str() {
                "--bench" => {} // from cargo
                "--long" => (wish.rounds, wish.time) = (7, Duration::from_secs(2)),
                "--pin" => wish.programs.pinned = true,
                "--fieldpost" => wish.programs.fieldpost = path()?.into(),
                "--mosquitto" => wish.programs.mosquitto = path()?.into(),
                _ if known(&word) => wish.words.push(word),
                _ => return Err(format!("{word} is no choice; they stand at the top of {}", file!()).into()),
            }
        }
        Ok(wish)
    }

    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|w| w == word)
    }

    fn section(&self, name: &str) -> bool {
        self.words.is_empty() || self.has(name)
    }

    /// Whether `word` is wished for among `all` of its sort: when none of them was named, all are.
    fn one_of<'a>(&self, word: &str, mut all: impl Iterator<Item = &'a str>) -> bool {
        self.has(word) || !all.any(|other| self.has(other))
    }
}

fn known(word: &str) -> bool {
    let loads = QOS.into_iter().chain(SHAPES.iter().map(|s| s.name)).chain(SIZES.iter().map(|s| s.0));
    loads.chain(SECTIONS).any(|known| known == word)
}

fn throughput(wish: &Wish) -> Result<(), Box<dyn Error>> {
    if SECTIONS.iter().any(|name| wish.has(name)) {
        return Ok(());
    }
    println!("delivered messages a second (k/s); CPU of the broker for each (µs); what the load took of one core;");
    println!("what did not arrive\n");
    println!(
        "                    Fieldpost Mosquitto  ratio   Fieldpost Mosquitto  ratio   load on F    on M    lost F  lost M"
    );
    let (mut lost, mut again) = ([0; 2], [0; 2]);
    for (qos, quality) in QOS.iter().enumerate().filter(|(_, q)| wish.one_of(q, QOS.into_iter())) {
        for shape in SHAPES.iter().filter(|s| wish.one_of(s.name, SHAPES.iter().map(|s| s.name))) {
            for (name, size) in SIZES.iter().filter(|s| wish.one_of(s.0, SIZES.iter().map(|s| s.0))) {
                let warm = wish.time / 3;
                let load =
                    Load { shape: *shape, qos: qos as u8, size: *size, durable: false, warm, measure: wish.time };
                let (mut outcomes, mut gone) = ([Vec::new(), Vec::new()], [0; 2]);
                for _ in 0..wish.rounds {
                    for (side, kind) in BOTH.into_iter().enumerate() {
                        let peer = Peer::start(kind, &wish.programs, Setting::PLAIN)?;
                        let outcome =
                            load.run(&peer).map_err(|e| format!("{kind:?}, {quality} {}: {e}", shape.name))?;
                        lost[side] += outcome.lost;
                        gone[side] += outcome.lost;
                        again[side] += outcome.again;
                        outcomes[side].push(outcome);
                    }
                }
                let of = |side: usize, what: fn(&Outcome) -> f64| median(outcomes[side].iter().map(what));
                let (rate, cpu, own) = (
                    [0, 1].map(|i| of(i, |o| o.rate)),
                    [0, 1].map(|i| of(i, |o| o.cpu)),
                    [0, 1].map(|i| of(i, |o| o.own)),
                );
                println!(
                    "{quality} {:>5} {name}      {:9.1} {:9.1} {:6.2}   {:9.2} {:9.2} {:6.2}       {:4.0} %  {:4.0} % {:9} {:7}",
                    shape.name,
                    rate[0] / 1e3,
                    rate[1] / 1e3,
                    rate[0] / rate[1],
                    cpu[0],
                    cpu[1],
                    cpu[0] / cpu[1],
                    own[0] * 100.0,
                    own[1] * 100.0,
                    gone[0],
                    gone[1],
                );
            }
        }
    }
    println!(
        "\nnot arrived: Fieldpost {}, Mosquitto {}; arrived again: {}, {}\n",
        lost[0], lost[1], again[0], again[1]
    );
    Ok(())
}

fn latency(wish: &Wish) -> Result<(), Box<dyn Error>> {
    println!("latency of a delivery at {} messages of 64 B a second (µs)\n", pace::RATE);
    println!("                  Fieldpost p50   p99   Mosquitto p50   p99    ratio p50   p99");
    for (qos, fan) in [(0, 1), (1, 1), (1, 10), (2, 1)] {
        let shape = format!("1-{fan}");
        let wanted = wish.one_of(QOS[qos], QOS.into_iter()) && wish.one_of(&shape, SHAPES.iter().map(|s| s.name));
        if !wanted {
            continue;
        }
        let mut found = [(); 2].map(|()| [Vec::new(), Vec::new()]);
        for _ in 0..wish.rounds {
            for (side, kind) in BOTH.into_iter().enumerate() {
                let peer = Peer::start(kind, &wish.programs, Setting::PLAIN)?;
                let times = pace::run(&peer, qos as u8, Listening::Plain(fan), wish.time * 5)?;
                found[side][0].push(percentile(&times.delivery, 0.5));
                found[side][1].push(percentile(&times.delivery, 0.99));
            }
        }
        let [[f50, f99], [m50, m99]] = found.map(|side| side.map(|times| median(times.into_iter())));
        println!(
            "qos{qos} {shape:>5}          {f50:9.0} {f99:5.0}       {m50:9.0} {m99:5.0}       {:6.2} {:5.2}",
            f50 / m50,
            f99 / m99
        );
    }
    println!();
    Ok(())
}

fn memory(wish: &Wish) -> Result<(), Box<dyn Error>> {
    println!("growth of the broker's memory, VmRSS (MiB)\n");
    println!("                                       Fieldpost Mosquitto  ratio");
    let what: [(String, Measure); 2] = [
        (format!("{} retained messages of 64 B", memory::RETAINED), memory::retained),
        (format!("{} idle clients", memory::IDLE), memory::idle),
    ];
    for (name, measure) in what {
        let mut grown = [0.0; 2];
        for (side, kind) in BOTH.into_iter().enumerate() {
            let peer = Peer::start(kind, &wish.programs, Setting::PLAIN)?;
            grown[side] = measure(&peer).map_err(|e| format!("{kind:?}, {name}: {e}"))? as f64 / f64::from(1 << 20);
        }
        println!("{name:<38} {:9.1} {:9.1} {:6.2}", grown[0], grown[1], grown[0] / grown[1]);
    }
    println!();
    Ok(())
}

/// What the promise costs: a PUBACK that says "kept" when a session that outlives its connection wants the message.
fn durable(wish: &Wish) -> Result<(), Box<dyn Error>> {
    println!("QoS 1, 64 B, 1-1, to a subscriber whose session is kept: messages a second (k/s) that the broker took");
    println!("with 100 open, and the time to a PUBACK at {} a second (ms)\n", pace::RATE);
    println!("                               connected    p50     p99     away   p50     p99");
    for commit in COMMITS {
        let setting = Setting { commit: Duration::from_millis(commit), persistence: true, ..Setting::PLAIN };
        durable_row(wish, Kind::Fieldpost, setting, &format!("Fieldpost, commit = {commit} ms"))?;
    }
    let setting = Setting { persistence: true, ..Setting::PLAIN };
    durable_row(wish, Kind::Mosquitto, setting, "Mosquitto (in RAM; saved 1/30 min)")?;
    println!();
    Ok(())
}

fn durable_row(wish: &Wish, kind: Kind, setting: Setting, name: &str) -> Result<(), Box<dyn Error>> {
    let mut cells = Vec::new();
    for listening in [Listening::Durable, Listening::Away] {
        let peer = Peer::start(kind, &wish.programs, setting)?;
        let away = listening == Listening::Away;
        let rate = if away {
            load::away(&peer, (setting.commit * 4).max(wish.time * 2))?
        } else {
            let (warm, measure) = (wish.time / 3, wish.time * 2);
            let outcome = Load { shape: SHAPES[0], qos: 1, size: 64, durable: true, warm, measure }.run(&peer)?;
            if outcome.lost > 0 {
                return Err(format!("{name}: {} messages did not arrive", outcome.lost).into());
            }
            outcome.rate
        };
        drop(peer);
        let peer = Peer::start(kind, &wish.programs, setting)?;
        let times = pace::run(&peer, 1, listening, wish.time * 5)?.answer;
        cells.push((rate / 1e3, percentile(&times, 0.5) / 1e3, percentile(&times, 0.99) / 1e3));
    }
    let [(r, p50, p99), (ar, ap50, ap99)] = cells[..] else { return Err("two rows".into()) };
    println!("{name:<36} {r:5.1} {p50:6.2} {p99:7.2}  {ar:7.2} {ap50:5.1} {ap99:7.1}");
    Ok(())
}

/// As many open files as the system lets this process and its brokers have.
fn open_files() -> std::io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(Into::into)
}
