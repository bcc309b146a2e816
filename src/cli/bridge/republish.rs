//! `fieldpost bridge republish`: a running gateway sends what is retained to a cloud once more.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use super::super::{exit, load, output};
use crate::config::Config;
use crate::control::{Answer, Client, Publish, Request};
use crate::message::Message;
use crate::record::Record;
use crate::status::uplink_topic;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The uplink
    uplink: String,
    /// The config
    #[arg(default_value = super::super::CONFIG)]
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let config = match load(&args.file) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match ask(&config, &args.uplink) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, why)) => {
            output::complain(&format!("{why}\n"));
            code.into()
        }
    }
}

/// Publishes the wish where the gateway listens for it.
fn ask(config: &Config, uplink: &str) -> Result<(), (u8, String)> {
    if !config.uplinks.iter().any(|(name, _)| **name == *uplink) {
        let known: Vec<_> = config.uplinks.iter().map(|(name, _)| &**name).collect();
        let others =
            if known.is_empty() { "nor any other".to_owned() } else { format!("there is {}", known.join(", ")) };
        return Err((exit::DATA, format!("there is no uplink `{uplink}`; {others}")));
    }
    let none = || (exit::UNAVAILABLE, "the gateway has no control socket".to_owned());
    let path = config.control.socket.as_ref().ok_or_else(none)?;
    let mut client = Client::connect(path).map_err(|e| {
        let code = if e.kind() == io::ErrorKind::PermissionDenied { exit::PERMISSION } else { exit::UNAVAILABLE };
        (code, format!("no running gateway can be asked at {}: {e}", path.display()))
    })?;
    let wish = Message::new(uplink_topic(&config.gateway.id, uplink, "republish"), "");
    let request = Request::Publish(Publish { messages: vec![Record::new(&wish)] });
    match client.ask(&request).map_err(|e| (exit::UNAVAILABLE, e.to_string()))? {
        Answer::Done(_) => Ok(()),
        Answer::Refused(refused) => Err((exit::UNAVAILABLE, refused.why)),
    }
}
