//! A thread with a runtime of its own: what clients do cannot delay the wires, and a message that goes through the broker
//! wakes no other thread on its way.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running thread; it ends when this is dropped, and what still runs on it with it.
#[derive(Debug)]
pub(super) struct Thread {
    runtime: Handle,
    _end: DropGuard,
}

impl Thread {
    /// Starts it.
    ///
    /// # Errors
    /// When the system has no thread or no timer to give.
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, end) = (runtime.handle().clone(), CancellationToken::new());
        let until = end.clone();
        std::thread::Builder::new().name(name.into()).spawn(move || {
            runtime.block_on(until.cancelled());
            // A password that is being looked at, say, is left behind.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, _end: end.drop_guard() })
    }

    /// Runs a part on it.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        parts: &mut JoinSet<T>,
        part: impl Future<Output = T> + Send + 'static,
    ) {
        parts.spawn_on(part, &self.runtime);
    }
}
