//! What the store costs, beside bare SQLite: the same messages, in turn, on this machine.
//!
//! ```sh
//! cargo bench --bench store                 # everything, in about a minute
//! cargo bench --bench store -- ingest wear  # only these
//! cargo bench --bench store -- --long       # a million entries where there are a hundred thousand otherwise
//! cargo bench --bench store -- --folder /mnt/card
//! ```
//!
//! - `ingest`: batches of QoS 1 messages of 100 B, as the gateway makes them while a cloud is away: one queue wants them, or
//!   three. Beside it a loop that inserts id, topic and payload into one table, with the same batches and pragmas.
//! - `open`: how long a full store takes to open; `load`: to read it back; beside it a SELECT of the bare table.
//! - `drain`: a broker with that backlog, and an uplink's session that acknowledges everything at once; how fast it goes
//!   through, and how much memory that takes.
//! - `wear`: what is written for a message at 100 a second with a window of 1 s and of 250 ms, and what that is in a day.
//!
//! `--folder` is where the databases are made; it should be on the disk that is meant, and not in memory.

mod bare;
mod drain;
mod load;
mod process;

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use bare::Bare;
use load::{Full, QUEUES, batches};

const SECTIONS: [&str; 5] = ["ingest", "open", "load", "drain", "wear"];

/// What was asked for.
pub struct Wish {
    words: Vec<String>,
    rounds: usize,
    /// Entries in a store that is opened, read and drained.
    entries: u64,
    folder: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let wish = Wish::read()?;
    if wish.has("ingest") {
        ingest(&wish)?;
    }
    if wish.has("open") || wish.has("load") {
        open_and_load(&wish)?;
    }
    if wish.has("drain") {
        drain(&wish)?;
    }
    if wish.has("wear") {
        wear(&wish)?;
    }
    Ok(())
}

impl Wish {
    fn read() -> Result<Self, Box<dyn Error>> {
        let mut wish = Self { words: Vec::new(), rounds: 3, entries: 100_000, folder: std::env::temp_dir() };
        let mut arguments = std::env::args().skip(1);
        while let Some(word) = arguments.next() {
            match word.as_str() {
                "--bench" => {} // from cargo
                "--long" => (wish.rounds, wish.entries) = (5, 1_000_000),
                "--folder" => wish.folder = arguments.next().ok_or("--folder needs a path")?.into(),
                _ if SECTIONS.contains(&&*word) => wish.words.push(word),
                _ => return Err(format!("{word} is no choice; they stand at the top of {}", file!()).into()),
            }
        }
        Ok(wish)
    }

    fn has(&self, word: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|w| w == word)
    }

    /// A folder of its own for one measurement; it goes when the value does.
    fn place(&self) -> std::io::Result<tempfile::TempDir> {
        tempfile::tempdir_in(&self.folder)
    }
}

fn ingest(wish: &Wish) -> Result<(), Box<dyn Error>> {
    println!("ingest: messages a second (k/s) and CPU for each (µs), of the store, of a bare table, and the ratios\n");
    println!("queues  batch      store     bare   ratio      store     bare   ratio");
    for queues in [1, QUEUES] {
        for batch in [25, 100, 1000, 10_000] {
            let messages = (batch * 400).min(100_000);
            let (mut rates, mut cpu) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
            for _ in 0..wish.rounds {
                let place = wish.place()?;
                let mut store = load::Ingest::new(&place.path().join("store.db"), queues)?;
                let ours = batches(1..=messages, batch, queues);
                let begun = (Instant::now(), process::cpu());
                ours.into_iter().for_each(|batch| store.commit(batch));
                rates[0].push(messages as f64 / begun.0.elapsed().as_secs_f64());
                cpu[0].push((process::cpu() - begun.1).as_secs_f64() * 1e6 / messages as f64);
                store.close();

                let theirs = batches(1..=messages, batch, queues);
                let mut bare = Bare::new(&place.path().join("bare.db"))?;
                let begun = (Instant::now(), process::cpu());
                for batch in theirs {
                    bare.insert(batch.appends.iter().map(|a| (a.id.0, &*a.message)))?;
                }
                rates[1].push(messages as f64 / begun.0.elapsed().as_secs_f64());
                cpu[1].push((process::cpu() - begun.1).as_secs_f64() * 1e6 / messages as f64);
            }
            let ([ours, theirs], [cpu, bare]) = (rates.map(median), cpu.map(median));
            println!(
                "{queues:>6} {batch:>6}  {:9.1} {:8.1}  {:6.2}  {cpu:9.2} {bare:8.2}  {:6.2}",
                ours / 1e3,
                theirs / 1e3,
                ours / theirs,
                cpu / bare
            );
        }
    }
    println!();
    Ok(())
}

fn open_and_load(wish: &Wish) -> Result<(), Box<dyn Error>> {
    let place = wish.place()?;
    let full = Full::make(place.path(), wish.entries)?;
    let (mut opened, mut loaded, mut selected) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..wish.rounds {
        let begun = Instant::now();
        let mut store = full.open()?;
        opened.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let read = store.read_all();
        loaded.push(read as f64 / begun.elapsed().as_secs_f64());
        store.close();
        let begun = Instant::now();
        let read = full.bare()?.select()?;
        selected.push(read as f64 / begun.elapsed().as_secs_f64());
    }
    let (ours, theirs) = (median(loaded), median(selected));
    println!("a store of {} entries opens in {:.1} ms", wish.entries, median(opened) * 1e3);
    println!(
        "it is read at {:.0} k/s, a bare table at {:.0} k/s: ratio {:.2}\n",
        ours / 1e3,
        theirs / 1e3,
        ours / theirs
    );
    Ok(())
}

fn drain(wish: &Wish) -> Result<(), Box<dyn Error>> {
    println!("drain of {} entries through the router, beside a SELECT of the bare table (k/s)\n", wish.entries);
    println!("window     drain   select   ratio   memory grew by");
    for window in [100, 1000] {
        let (mut ours, mut theirs, mut grown) = (Vec::new(), Vec::new(), 0);
        for _ in 0..wish.rounds {
            let place = wish.place()?;
            let full = Full::make(place.path(), wish.entries)?;
            let drained = drain::run(full.path(), wish.entries, window)?;
            ours.push(drained.rate);
            grown = grown.max(drained.grown);
            let begun = Instant::now();
            let read = full.bare()?.select()?;
            theirs.push(read as f64 / begun.elapsed().as_secs_f64());
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!(
            "{window:>6} {:9.1} {:8.1}  {:6.2}   {:.1} MiB",
            ours / 1e3,
            theirs / 1e3,
            ours / theirs,
            grown as f64 / f64::from(1 << 20)
        );
    }
    println!();
    Ok(())
}

/// Messages a second, of which a day is made.
const RATE: u64 = 100;

fn wear(wish: &Wish) -> Result<(), Box<dyn Error>> {
    println!(
        "written at {RATE} messages a second of 100 B while the cloud is away: by calls, and to the disk (pages)\n"
    );
    println!("window  queues   B/message   B/message on disk   GB a day");
    for (name, batch) in [("1s", RATE), ("250ms", RATE / 4)] {
        for queues in [1, QUEUES] {
            let messages = 60_000;
            let place = wish.place()?;
            let mut store = load::Ingest::new(&place.path().join("store.db"), queues)?;
            let batches = batches(1..=messages, batch, queues);
            let before = process::written()?;
            batches.into_iter().for_each(|batch| store.commit(batch));
            let after = process::written()?;
            let calls = (after.calls - before.calls) as f64 / messages as f64;
            let disk = (after.disk - before.disk) as f64 / messages as f64;
            let day = disk * RATE as f64 * 86_400.0 / 1e9;
            println!("{name:>6} {queues:>7} {calls:>11.0} {disk:>19.0} {day:>10.2}");
            store.close();
        }
    }
    println!();
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
