//! The way into a running gateway for its own command line: a Unix socket, open to the gateway's user and root.
//!
//! A request is a line of JSON, and so is its answer; many may follow each other on one connection. [`Request`] lists the
//! kinds, each in a file of its own: a new one is a file, a line there, and nothing else. [`Socket`] serves them, [`Client`]
//! asks; a command that works on a stopped gateway's store carries the same requests out by itself ([`Request::carry_out`]).

mod socket;
mod client;
mod write_out;
mod put;
mod publish;
mod purge;
mod forget;
mod forget_aside;
mod clear;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::broker::Broker;
use crate::broker::order::{Outcome, Refusal};

pub use clear::Clear;
pub use client::{AskError, Client};
pub use forget::Forget;
pub use forget_aside::ForgetAside;
pub use publish::Publish;
pub use purge::Purge;
pub use put::Put;
pub use socket::Socket;
pub use write_out::WriteOut;

/// The largest request, in bytes.
pub const MAX_LINE: usize = 4 << 20;

/// `[control]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where the socket is; beside the store when none is set.
    pub socket: Option<PathBuf>,
}

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    WriteOut(WriteOut),
    Put(Put),
    Publish(Publish),
    Purge(Purge),
    Forget(Forget),
    ForgetAside(ForgetAside),
    Clear(Clear),
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is done, and on the disk. How many messages it was about.
    Done(u64),
    /// Nothing was done, or not all of it.
    Refused(Refused),
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Refused {
    pub kind: Kind,
    /// For a person.
    pub why: String,
}

/// What a program can make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The request is wrong, or names something that is not there.
    Wrong,
    /// Not now.
    Unavailable,
}

impl Request {
    /// Does what is asked, through the broker.
    pub async fn carry_out(self, broker: &Broker) -> Answer {
        match self {
            Request::WriteOut(request) => request.carry_out(broker).await,
            Request::Put(request) => request.carry_out(broker).await,
            Request::Publish(request) => request.carry_out(broker).await,
            Request::Purge(request) => request.carry_out(broker).await,
            Request::Forget(request) => request.carry_out(broker).await,
            Request::ForgetAside(request) => request.carry_out(broker).await,
            Request::Clear(request) => request.carry_out(broker).await,
        }
    }
}

impl Answer {
    fn wrong(why: impl fmt::Display) -> Self {
        Self::Refused(Refused { kind: Kind::Wrong, why: why.to_string() })
    }

    fn unavailable(why: impl fmt::Display) -> Self {
        Self::Refused(Refused { kind: Kind::Unavailable, why: why.to_string() })
    }
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Ok(count) => Self::Done(count),
            Err(refusal @ (Refusal::NoQueue { .. } | Refusal::Connected(_) | Refusal::InUse(_))) => {
                Self::wrong(refusal)
            }
            Err(refusal @ (Refusal::Full | Refusal::Stopping)) => Self::unavailable(refusal),
        }
    }
}
