//! `fieldpost store import`: messages from lines, into one queue or to all that want them.
//!
//! All lines are looked at first: when one is wrong, nothing is brought in. Then they go in order, some at a time; each
//! such batch is on the disk before the next.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::super::{exit, output};
use super::Failure;
use super::gate::Gate;
use crate::control::{MAX_LINE, Publish, Put, Request};
use crate::record::Record;

/// Messages, and the bytes of their lines, that go at once.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 256 << 10;
/// Wrong lines that are named.
const NAMED: usize = 20;

#[derive(Debug, clap::Args)]
#[command(allow_missing_positional = true)]
pub(in crate::cli) struct Args {
    /// The gateway's config
    #[arg(default_value = super::super::CONFIG)]
    config: PathBuf,
    /// The lines: JSON objects with `topic` and `payload` (or `payload-base64`), and what `export` prints beside
    file: PathBuf,
    /// Into this queue and no other, by its session's client id (`$uplink/NAME` for an uplink)
    #[arg(long, value_name = "NAME", required_unless_present = "publish", conflicts_with = "publish")]
    queue: Option<String>,
    /// To all that want them, as if a client had published them now
    #[arg(long)]
    publish: bool,
    /// Leave the first lines out: those that an import which was cut off has brought in
    #[arg(long, value_name = "LINES", default_value_t = 0)]
    skip: u64,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = super::Of { config: args.config.clone() }.load()?;
    let mut lines = Lines::open(&args.file)?;
    let total = check(&mut lines)?;
    lines.rewind()?;
    let mut gate = Gate::open(&config)?;
    let done = bring_in(args, &mut lines, &mut gate);
    gate.close();
    let (count, ended) = done;
    if let Err(Failure { code, why }) = ended {
        let go_on = format!("{count} of {total} messages are in; --skip {} goes on behind them\n", lines.taken);
        return Err(Failure { code, why: if count > 0 { why + &go_on } else { why } });
    }
    output::complain(&format!("{count} messages are in\n"));
    Ok(ExitCode::SUCCESS)
}

/// How many messages the lines are.
fn check(lines: &mut Lines) -> Result<u64, Failure> {
    let (mut good, mut wrong, mut said) = (0, 0, String::new());
    while let Some(line) = lines.next()? {
        match read(&line) {
            Ok(None) => {}
            Ok(Some(_)) => good += 1,
            Err(why) => {
                wrong += 1;
                if wrong <= NAMED {
                    said += &format!("line {}: {why}\n", lines.number);
                }
            }
        }
    }
    if wrong == 0 {
        return Ok(good);
    }
    if wrong > NAMED {
        said += &format!("and {} more\n", wrong - NAMED);
    }
    Err(Failure { code: exit::DATA.into(), why: said + "nothing is brought in\n" })
}

/// The message of a line; none for an empty one.
fn read(line: &[u8]) -> Result<Option<Record>, String> {
    if line.len() > MAX_LINE / 2 {
        return Err(format!("it has more than {} bytes", MAX_LINE / 2));
    }
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?.trim();
    if line.is_empty() { Ok(None) } else { Record::read(line).map(Some) }
}

/// Brings the messages in; how many, and why not more.
fn bring_in(args: &Args, lines: &mut Lines, gate: &mut Gate) -> (u64, Result<(), Failure>) {
    let mut count = 0;
    let mut all = || {
        let queue = args.queue.as_deref().map(Arc::<str>::from);
        loop {
            let (mut messages, mut bytes) = (Vec::new(), 0);
            while messages.len() < BATCH && bytes < BATCH_BYTES {
                let Some(line) = lines.next()? else { break };
                if lines.number <= args.skip {
                    continue;
                }
                bytes += line.len();
                // It has changed since it was looked at.
                let wrong = |why| Failure::new(exit::DATA, format!("line {}: {why}", lines.number));
                messages.extend(read(&line).map_err(wrong)?);
            }
            if messages.is_empty() {
                // There may be a batch of nothing but empty lines.
                if lines.at_end { return Ok(()) } else { continue }
            }
            count += gate.ask(match &queue {
                Some(queue) => Request::Put(Put { queue: queue.clone(), messages, aside: Vec::new() }),
                None => Request::Publish(Publish { messages }),
            })?;
            lines.taken = lines.number;
        }
    };
    let ended = all();
    (count, ended)
}

/// The lines of a file, one in memory at a time.
struct Lines {
    file: BufReader<File>,
    path: PathBuf,
    /// Of the last one, from 1.
    number: u64,
    /// Of the last one that was brought in.
    taken: u64,
    at_end: bool,
}

impl Lines {
    fn open(path: &PathBuf) -> Result<Self, Failure> {
        let failed = |e: io::Error| {
            let code = if e.kind() == io::ErrorKind::PermissionDenied { exit::PERMISSION } else { exit::DATA };
            Failure::new(code, format!("cannot read {}: {e}", path.display()))
        };
        let file = BufReader::new(File::open(path).map_err(failed)?);
        Ok(Self { file, path: path.clone(), number: 0, taken: 0, at_end: false })
    }

    fn rewind(&mut self) -> Result<(), Failure> {
        self.file.rewind().map_err(|_| {
            let why = "is read twice, once to check it: give a file, not a pipe";
            Failure::new(exit::DATA, format!("{} {why}", self.path.display()))
        })?;
        (self.number, self.at_end) = (0, false);
        Ok(())
    }

    /// The next line; of one that is far too long, as much as shows that.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut line = Vec::new();
        let most = MAX_LINE as u64;
        let read = self.file.by_ref().take(most).read_until(b'\n', &mut line).and_then(|read| {
            if line.len() as u64 == most && line.last() != Some(&b'\n') {
                self.file.skip_until(b'\n')?;
            }
            Ok(read)
        });
        let read = read.map_err(|e| Failure::new(exit::IO, format!("cannot read {}: {e}", self.path.display())))?;
        self.number += u64::from(read > 0);
        self.at_end = read == 0;
        Ok((read > 0).then_some(line))
    }
}
