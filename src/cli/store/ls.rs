//! `fieldpost store ls`: what the store holds.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;

use super::super::output::{self, columns};
use super::{Failure, Of, look};
use crate::clock::Timestamp;
use crate::store::{Inspect, Recovered, Usage, is_in_use};
use crate::units::Size;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    of: Of,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = args.of.load()?;
    let (inspect, recovered) = look(&config)?;
    let running = is_in_use(&config.store.path)?;
    let report = Report::new(config.store.path.display().to_string(), running, &inspect, &recovered)?;
    Ok(output::print(&if args.json {
        serde_json::to_string_pretty(&report).expect("text and numbers are JSON") + "\n"
    } else {
        report.text()
    }))
}

/// All that is shown.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    schema: i64,
    /// Whether a gateway has it now.
    running: bool,
    file_bytes: u64,
    wal_bytes: u64,
    queues: Vec<Queue>,
    retained: Kept,
    /// What a cloud would not have, by the reason.
    aside: BTreeMap<&'static str, u64>,
}

/// A queue, by the client id of its session.
#[derive(Debug, Serialize)]
struct Queue {
    queue: Arc<str>,
    entries: u64,
    bytes: u64,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
    /// How many are of which class of [store]; the first is 0, and those of none are not among them.
    classes: BTreeMap<u8, u64>,
    /// When its client left; none while it is connected, or when the gateway ended first.
    left: Option<Timestamp>,
    subscriptions: Vec<Arc<str>>,
}

/// Messages that are in no queue.
#[derive(Debug, Serialize)]
struct Kept {
    messages: u64,
    bytes: u64,
}

impl Report {
    fn new(path: String, running: bool, inspect: &Inspect, recovered: &Recovered) -> Result<Self, Failure> {
        let (file_bytes, wal_bytes) = inspect.sizes();
        let mut queues = Vec::new();
        for (session, _) in &recovered.sessions {
            let Usage { entries, bytes, oldest, newest, classes, .. } = inspect.usage(session.queue, None)?;
            queues.push(Queue {
                queue: session.client_id.clone(),
                entries,
                bytes,
                oldest,
                newest,
                classes,
                left: session.left.map(|at| at.wall),
                subscriptions: session.subscriptions.iter().map(|s| s.filter.clone()).collect(),
            });
        }
        queues.sort_by(|a, b| a.queue.cmp(&b.queue));
        let size = |message: &crate::message::Message| (message.topic.len() + message.payload.len()) as u64;
        let retained = Kept {
            messages: recovered.retained.len() as u64,
            bytes: recovered.retained.iter().map(|message| size(message)).sum(),
        };
        let mut aside = BTreeMap::new();
        for (_, set_aside) in inspect.aside()? {
            *aside.entry(set_aside.reason.text()).or_default() += 1;
        }
        Ok(Self { path, schema: inspect.schema()?, running, file_bytes, wal_bytes, queues, retained, aside })
    }

    fn text(&self) -> String {
        let Self { path, schema, file_bytes, wal_bytes, retained, .. } = self;
        let running = if self.running { "in use" } else { "not in use" };
        let sizes = format!("{}, and {} of changes (WAL)", Size(*file_bytes), Size(*wal_bytes));
        let mut text = format!("{path}: schema {schema}, {sizes}, {running}\n\n");
        let mut rows =
            vec![["queue", "messages", "size", "oldest", "newest", "client left"].map(str::to_owned).to_vec()];
        let time = |at: Option<Timestamp>| at.map_or("-".to_owned(), |at| at.to_string());
        rows.extend(self.queues.iter().map(|q| {
            let size = Size(q.bytes).to_string();
            let classes = q.classes.iter().map(|(class, n)| format!("class {class}: {n}")).collect::<Vec<_>>();
            let count = q.entries.to_string();
            let classes = classes.join(", ");
            vec![q.queue.to_string(), count, size, time(q.oldest), time(q.newest), time(q.left), classes]
        }));
        text += &columns(&rows, "");
        text += &format!("\nretained: {} messages, {}\n", retained.messages, Size(retained.bytes));
        for (reason, messages) in &self.aside {
            text += &format!("set aside: {messages} messages. {reason}\n");
        }
        text
    }
}
