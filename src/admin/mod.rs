//! The page and its API: what every part reports, live. Loopback only unless there is a password.
//!
//! In reading order: [`bind`] opens the address, [`Admin::run`] serves it. A [`snapshot`] is the board at one moment;
//! a [`verdict`] says in plain words whether all is well; [`page`] lays both out as tables of cells, [`rows`] saying what of each thing; [`live`] sends each
//! open tab the cells that changed; [`metrics`] writes the same for Prometheus; [`routes`] is what stands at which path,
//! behind [`access`]; [`connection`] bounds what clients can hold open.
//!
//! Nothing here can change anything: there is no path that writes.

mod access;
mod bind;
mod connection;
mod live;
mod metrics;
mod page;
mod routes;
mod rows;
mod snapshot;
#[cfg(test)]
mod tests;
mod verdict;
mod words;

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::secret::Secret;
use crate::status::Board;

pub use bind::{BindError, bind};

/// How long open connections may take to end once the page is told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where the page is served: an address and a port.
    pub listen: String,
    /// What a browser has to give, with any user name (HTTP Basic, RFC 7617). Required beyond loopback.
    pub password: Option<Secret>,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8080".into(), password: None }
    }
}

/// The page, bound to its address and not yet served.
#[derive(Debug)]
pub struct Admin {
    listener: connection::Listener,
    access: access::Access,
    address: SocketAddr,
}

impl Admin {
    /// Where it listens; the port is the real one, when the config's was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then gives open connections a moment to end.
    ///
    /// A part of the board whose sender is gone stays as it last was.
    pub async fn run(self, board: Board, stop: CancellationToken) {
        let router = routes::router(board, self.access, stop.clone());
        let serve = axum::serve(self.listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            _ = serve => {}
            () = late => {}
        }
    }
}
