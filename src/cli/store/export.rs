//! `fieldpost store export`: messages as lines, a page of them in memory at a time.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;

use super::super::{exit, output};
use super::{Failure, Of, look, queue, queues};
use crate::record::{CSV_HEADER, Record};
use crate::store::OpenError;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    of: Of,
    /// Only this queue, by its session's client id (`$uplink/NAME` for an uplink); all of them by default
    #[arg(long, value_name = "NAME", conflicts_with = "retained")]
    queue: Option<String>,
    /// The retained messages instead of the queues
    #[arg(long)]
    retained: bool,
    /// What a cloud would not have and was set aside, with the reason
    #[arg(long, conflicts_with = "retained")]
    aside: bool,
    /// How they are printed
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
}

/// How a message is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// An object a line; `import` reads it
    Jsonl,
    /// With a line of headings
    Csv,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = args.of.load()?;
    let (inspect, recovered) = look(&config)?;
    let mut out = Lines { to: BufWriter::with_capacity(64 << 10, io::stdout().lock()), format: args.format };
    let mut print = || {
        if matches!(args.format, Format::Csv) {
            out.to.write_all(CSV_HEADER.as_bytes()).map_err(Ended::Output)?;
        }
        if args.retained {
            let mut retained = recovered.retained.clone();
            retained.sort_by(|a, b| a.topic.cmp(&b.topic));
            for message in &retained {
                out.print(&Record::new(message))?;
            }
        }
        if args.aside {
            let aside = inspect.aside().map_err(Failure::from)?;
            let wanted = |session: &str| args.queue.as_deref().is_none_or(|name| name == session);
            for (number, aside) in aside.iter().filter(|(_, aside)| wanted(&aside.session)) {
                out.print(&super::record(*number, aside))?;
            }
        }
        let wanted = match &args.queue {
            _ if args.aside => Vec::new(),
            Some(name) => vec![(Arc::from(name.as_str()), queue(name, &recovered)?)],
            None if args.retained => Vec::new(),
            None => queues(&recovered),
        };
        for (name, id) in wanted {
            inspect.entries(id, |entry| {
                let record = Record {
                    queue: Some(name.clone()),
                    id: Some(entry.id.0),
                    qos: Some(entry.delivery.qos),
                    retain: entry.delivery.retain,
                    ..Record::new(&entry.message)
                };
                out.print(&record).map(|()| true)
            })?;
        }
        out.to.flush().map_err(Ended::Output)
    };
    match print() {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Ended::Failed(failure)) => {
            // What could be read is to be seen.
            let _ = out.to.flush();
            Err(failure)
        }
        Err(Ended::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(Ended::Output(e)) => {
            output::complain(&format!("cannot write the output: {e}\n"));
            Ok(exit::IO.into())
        }
    }
}

struct Lines<W> {
    to: W,
    format: Format,
}

impl<W: Write> Lines<W> {
    fn print(&mut self, record: &Record) -> Result<(), Ended> {
        let line = match self.format {
            Format::Jsonl => record.json(),
            Format::Csv => record.csv(),
        };
        self.to.write_all(line.as_bytes()).map_err(Ended::Output)
    }
}

/// Why there are no more lines.
enum Ended {
    Failed(Failure),
    Output(io::Error),
}

impl From<OpenError> for Ended {
    fn from(e: OpenError) -> Self {
        Self::Failed(e.into())
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
