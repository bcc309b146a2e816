//! The broker that owns the store: of the running gateway, or one for the length of a command.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustix::process::geteuid;
use tokio::runtime::{Builder, Runtime};

use super::super::{exit, output};
use super::{Failure, count};
use crate::broker::access::Access;
use crate::broker::{self, Broker};
use crate::config::Config;
use crate::control::{Answer, Client, Request, WriteOut};
use crate::status::Pulse;
use crate::store::{OpenError, Store, is_in_use};

/// The way to the broker.
pub(super) enum Gate {
    Running(Client),
    /// Nobody had the store: it is ours until [`Gate::close`].
    Stopped {
        runtime: Runtime,
        broker: Broker,
    },
}

impl Gate {
    /// Finds out who has the store, and goes there.
    pub(super) fn open(config: &Config) -> Result<Self, Failure> {
        if is_in_use(&config.store.path)? {
            return Ok(Self::Running(connect(config)?));
        }
        owned_by_us(&config.store.path)?;
        let (store, recovered) = Store::open(&config.store)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|e| Failure::new(exit::UNAVAILABLE, e))?;
        // It tells nobody of itself, and nobody but this command is there.
        let quiet =
            broker::Config { sys_interval: crate::units::Period(std::time::Duration::ZERO), ..config.broker.clone() };
        let broker = {
            let _within = runtime.enter();
            let (access, store) = (Arc::<Access>::default(), (store, recovered));
            let (broker, _, task) =
                Broker::start(&quiet, config.store.commit.0, access, store, Vec::new(), Pulse::new());
            runtime.spawn(task);
            broker
        };
        Ok(Self::Stopped { runtime, broker })
    }

    /// Has a request carried out; the count that its answer tells.
    pub(super) fn ask(&mut self, request: Request) -> Result<u64, Failure> {
        count(self.answer(request)?)
    }

    fn answer(&mut self, request: Request) -> Result<Answer, Failure> {
        Ok(match self {
            Self::Running(client) => client.ask(&request)?,
            Self::Stopped { runtime, broker } => runtime.block_on(request.carry_out(broker)),
        })
    }

    /// Lets go of the store.
    pub(super) fn close(self) {
        if let Self::Stopped { runtime, broker } = self {
            runtime.block_on(broker.stop());
        }
    }
}

/// Has a running gateway write what it has in RAM only.
pub(super) fn write_out(config: &Config) -> Result<(), Failure> {
    if !is_in_use(&config.store.path)? {
        return Ok(());
    }
    // Reading goes on without: what is in the file is right, if not the latest.
    let done = connect(config).and_then(|mut client| count(client.ask(&Request::WriteOut(WriteOut {}))?));
    if let Err(Failure { why, .. }) = done {
        output::complain(&format!("warning: what came within the last moments may not be shown: {why}"));
    }
    Ok(())
}

/// What a command leaves behind has to be open to the gateway.
fn owned_by_us(path: &Path) -> Result<(), Failure> {
    let owner = match path.metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(OpenError::Missing { path: path.into() }.into()),
        // Opening it tells what is wrong.
        Err(_) => return Ok(()),
        Ok(file) => file.uid(),
    };
    if geteuid().is_root() && owner != 0 {
        let why = "is another user's, and what root leaves beside it that one could not open";
        let advice = format!("run this as that user: sudo -u '#{owner}' fieldpost store …");
        return Err(Failure::new(exit::PERMISSION, format!("{} {why}: {advice}", path.display())));
    }
    Ok(())
}

fn connect(config: &Config) -> Result<Client, Failure> {
    let Some(path) = &config.control.socket else {
        return Err(Failure::new(exit::UNAVAILABLE, "the running gateway has no control socket"));
    };
    Client::connect(path).map_err(|e| {
        let code = if e.kind() == io::ErrorKind::PermissionDenied { exit::PERMISSION } else { exit::UNAVAILABLE };
        Failure::new(code, format!("the store is in use, and its gateway cannot be asked at {}: {e}", path.display()))
    })
}
