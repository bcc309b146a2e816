//! `fieldpost store retry`: what a cloud would not have goes back into its queue, for a cloud that takes it by now.

use std::collections::BTreeMap;
use std::process::ExitCode;

use super::super::output;
use super::gate::Gate;
use super::{Failure, Of, look, record};
use crate::control::{Put, Request};

/// Messages that go at once.
const BATCH: usize = 100;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    of: Of,
    /// Only what was taken out of this queue (`$uplink/NAME` for an uplink)
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
}

pub(in crate::cli) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = args.of.load()?;
    let (inspect, _) = look(&config)?;
    let wanted = |session: &str| args.queue.as_deref().is_none_or(|name| name == session);
    let mut queues = BTreeMap::<_, Vec<_>>::new();
    for (number, aside) in inspect.aside()?.into_iter().filter(|(_, aside)| wanted(&aside.session)) {
        queues.entry(aside.session.clone()).or_default().push((number, aside));
    }
    if queues.is_empty() {
        output::complain("nothing is set aside there\n");
        return Ok(ExitCode::SUCCESS);
    }
    let mut gate = Gate::open(&config)?;
    let puts = queues.iter().flat_map(|(queue, asides)| {
        asides.chunks(BATCH).map(|some| Put {
            queue: queue.clone(),
            messages: some.iter().map(|(number, aside)| record(*number, aside)).collect(),
            aside: some.iter().map(|(number, _)| *number).collect(),
        })
    });
    let done = puts.map(|put| gate.ask(Request::Put(put))).sum::<Result<u64, _>>();
    gate.close();
    output::complain(&format!("{} messages wait in their queues again\n", done?));
    Ok(ExitCode::SUCCESS)
}
