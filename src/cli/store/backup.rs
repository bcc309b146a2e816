//! `fieldpost store backup`: a copy of the store, while the gateway runs or not.

use std::path::PathBuf;
use std::process::ExitCode;

use super::super::output;
use super::{Failure, look};
use crate::units::Size;

#[derive(Debug, clap::Args)]
#[command(allow_missing_positional = true)]
pub(in crate::cli) struct Args {
    /// The gateway's config
    #[arg(default_value = super::super::CONFIG)]
    config: PathBuf,
    /// The copy: a store as it was at one moment
    file: PathBuf,
    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = super::Of { config: args.config.clone() }.load()?;
    let (inspect, _) = look(&config)?;
    let size = inspect.backup(&args.file, args.force)?;
    output::complain(&format!("{} is written: {}\n", args.file.display(), Size(size)));
    Ok(ExitCode::SUCCESS)
}
