//! A cloud broker that goes away now and then: the gateway's own broker, on a port of its own, keeping nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::broker::access::Access;
use crate::broker::listener::Listeners;
use crate::broker::listener::door::Door;
use crate::broker::{self, Broker};
use crate::status::Pulse;
use crate::store::{self, Store};

/// The cloud, there or away. Dropping it stops it.
#[derive(Debug)]
pub struct Cloud {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Cloud {
    /// Starts it on a free port of 127.0.0.1. It is there for `up`, away for `down`, and so on.
    ///
    /// # Errors
    /// When there is no port to be had.
    pub async fn start(up: Duration, down: Duration) -> io::Result<Self> {
        let mut config = broker::Config { listen: "127.0.0.1:0".into(), ..broker::Config::default() };
        let first = bind(&config).await?;
        let address = first.addresses()[0].socket;
        // It comes back where it was.
        config.listen = address.to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(come_and_go(config, first, up, down));
        Ok(Self { address, _tasks: tasks })
    }

    /// Where it is, when it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn bind(config: &broker::Config) -> io::Result<Listeners> {
    let (_, doors) = Door::all(config).map_err(io::Error::other)?;
    Listeners::bind(config, doors).await
}

async fn come_and_go(config: broker::Config, first: Listeners, up: Duration, down: Duration) {
    let mut listeners = Some(first);
    loop {
        let bound = match listeners.take() {
            Some(listeners) => listeners,
            None => match bind(&config).await {
                Ok(listeners) => listeners,
                Err(error) => {
                    // Somebody else took the port meanwhile: the outage lasts until it is free.
                    tracing::warn!("the simulated cloud stays away: {error}");
                    sleep(down).await;
                    continue;
                }
            },
        };
        if let Err(error) = be_there(&config, bound, up).await {
            return tracing::error!("the simulated cloud is gone for good: {error}");
        }
        tracing::info!("the simulated cloud goes away for {}", humantime::format_duration(down));
        sleep(down).await;
        tracing::info!("the simulated cloud comes back");
    }
}

async fn be_there(config: &broker::Config, listeners: Listeners, up: Duration) -> Result<(), store::OpenError> {
    let in_memory = store::Config { path: ":memory:".into(), ..store::Config::default() };
    let store = Store::open(&in_memory)?;
    // Memory is fast: nobody has to wait for it.
    let commit = Duration::from_millis(5);
    let (broker, _, task) = Broker::start(config, commit, Arc::<Access>::default(), store, Vec::new(), Pulse::new());
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(task);
    tasks.spawn(listeners.run(broker.clone(), stop.clone()));
    sleep(up).await;
    stop.cancel();
    broker.stop().await;
    while tasks.join_next().await.is_some() {}
    Ok(())
}
