//! `fieldpost store purge`: says what would go, asks, and removes it.

use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;

use super::super::{exit, output};
use super::gate::Gate;
use super::{Failure, Of, look, moment, queue, queues};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::control::{Clear, Forget, ForgetAside, Purge, Request};
use crate::store::Aside;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    of: Of,
    /// What waits in this queue, by its session's client id (`$uplink/NAME` for an uplink)
    #[arg(long, value_name = "NAME", group = "what")]
    queue: Option<String>,
    /// The session too, with its subscriptions: of a client that is gone for good
    #[arg(long, requires = "queue", conflicts_with = "before")]
    session: bool,
    /// Retained messages on topics that match; nobody is told
    #[arg(long, value_name = "FILTER", group = "what")]
    retained: Option<String>,
    /// What was set aside
    #[arg(long, group = "what")]
    aside: bool,
    /// What waits in all queues, all retained messages, and what was set aside
    #[arg(long, group = "what")]
    all: bool,
    /// Only what entered before this time, or longer ago than this: 2026-11-20T10:00:00Z, 7d. Of a queue, its first
    /// messages up to the first that is not older
    #[arg(long, value_name = "TIME", value_parser = moment)]
    before: Option<Timestamp>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// One thing that goes.
struct Removal {
    what: String,
    count: u64,
    request: Request,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = args.of.load()?;
    let removals = plan(args, &config)?;
    if removals.is_empty() {
        output::complain("there is nothing to remove\n");
        return Ok(ExitCode::SUCCESS);
    }
    for Removal { what, count, .. } in &removals {
        output::complain(&format!("{what}: {count} messages\n"));
    }
    if !args.yes {
        match agreed() {
            Ok(true) => {}
            Ok(false) => return Err(Failure::new(exit::DATA, "nothing is removed")),
            Err(e) => return Err(Failure::new(exit::IO, format!("cannot read the answer: {e}; nothing is removed"))),
        }
    }
    // Opened anew: whoever was asked may have taken a while.
    let mut gate = Gate::open(&config)?;
    let done = removals.into_iter().map(|removal| gate.ask(removal.request)).sum::<Result<u64, _>>();
    gate.close();
    output::complain(&format!("{} messages are removed\n", done?));
    Ok(ExitCode::SUCCESS)
}

/// What would go.
fn plan(args: &Args, config: &Config) -> Result<Vec<Removal>, Failure> {
    let (inspect, recovered) = look(config)?;
    let mut removals = Vec::new();
    if let Some(name) = args.queue.as_ref().filter(|_| args.session) {
        let usage = inspect.usage(queue(name, &recovered)?, None)?;
        let what = format!("the session {name} with its queue");
        let request = Request::Forget(Forget { queue: name.as_str().into() });
        removals.push(Removal { what, count: usage.entries, request });
        return Ok(removals);
    }
    let named = match &args.queue {
        Some(name) => vec![(Arc::from(name.as_str()), queue(name, &recovered)?)],
        None if args.all => queues(&recovered),
        None => Vec::new(),
    };
    for (name, id) in named {
        let usage = inspect.usage(id, args.before)?;
        let request = Request::Purge(Purge { queue: name.clone(), until: usage.until.0 });
        removals.push(Removal { what: format!("the queue {name}"), count: usage.entries, request });
    }
    let filter = if args.all { Some("#") } else { args.retained.as_deref() };
    removals.extend(filter.map(|filter| retained(filter, args.before, config)).transpose()?);
    if args.aside || args.all {
        let is_older = |aside: &Aside| args.before.is_none_or(|before| aside.at.wall < before);
        let aside = inspect.aside()?.into_iter().filter(|(_, aside)| is_older(aside));
        let numbers: Vec<_> = aside.map(|(number, _)| number).collect();
        let count = numbers.len() as u64;
        let request = Request::ForgetAside(ForgetAside { numbers });
        removals.push(Removal { what: "set aside".into(), count, request });
    }
    removals.retain(|removal| removal.count > 0);
    Ok(removals)
}

/// The retained messages that would go. A running gateway has those of its own readings beside those in the file.
fn retained(filter: &str, before: Option<Timestamp>, config: &Config) -> Result<Removal, Failure> {
    let clear = |count_only| Request::Clear(Clear { filter: filter.into(), before, count_only });
    let mut gate = Gate::open(config)?;
    let count = gate.ask(clear(true));
    gate.close();
    Ok(Removal { what: format!("retained on {filter}"), count: count?, request: clear(false) })
}

/// Asks on the terminal; where there is none, nobody can agree.
fn agreed() -> io::Result<bool> {
    if !io::stdin().is_terminal() {
        output::complain("--yes is needed where nobody can be asked\n");
        return Ok(false);
    }
    output::complain("Remove this for good? [y/N] ");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
