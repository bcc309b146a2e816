//! The whole: build the parts from the config, watch over them, stop them in order.
//!
//! A part that ends on its own stops the process, and systemd starts it anew: there is one place for supervision.
//! Stopping flows downhill: pollers, then the exchange, then the uplinks with what is in flight, then the broker, which
//! closes the store. What is unsent stays in the store.

mod bridges;
mod clock;
mod exchange;
pub mod reload;
mod store;
mod thread;
mod watchdog;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::broker::access::Access;
use crate::broker::listener::door::{Door, DoorError};
use crate::broker::listener::{Address, Listeners};
use crate::broker::{self, Broker};
use crate::bus::Poller;
use crate::clock::Moment;
use crate::clock::observer::Observer;
use crate::config::Config;
use crate::control::Socket;
use crate::mapping::Mapping;
use crate::message::Message;
use crate::status::{self, Board, Pulse};
use crate::store::{OpenError, Store};
use crate::uplink::Uplink;
use exchange::Exchange;
use reload::Reload;
use thread::Thread;

/// Reports that wait for the exchange before a poller waits.
const REPORTS: usize = 256;
/// Commands that wait for one bus.
const COMMANDS: usize = 16;
/// How long each stage of stopping may take: all five of them, what is told of the uplinks, and the second that the runtime
/// takes to end, have to fit into `TimeoutStopSec` of the unit, or systemd kills a gateway that still saves.
const GRACE: Duration = Duration::from_secs(5);
/// How long it may take to tell of the uplinks that they have ended.
const LAST_WORD: Duration = Duration::from_secs(2);

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    id: Arc<str>,
    broker: Broker,
    broker_addresses: Vec<Address>,
    page_address: SocketAddr,
    board: Board,
    reload: Arc<Reload>,
    /// The pollers and the exchange.
    inward: Stage,
    uplinks: Stage,
    /// What is told of them, to their end.
    states: Stage,
    /// The broker, its listener and the page.
    rest: Stage,
    pulses: Vec<(String, Pulse)>,
    /// Where the broker and its clients' connections run.
    _thread: Thread,
}

/// Parts that are told to stop at the same time.
#[derive(Debug, Default)]
struct Stage {
    stop: CancellationToken,
    parts: JoinSet<String>,
}

impl Stage {
    fn spawn(&mut self, name: impl Into<String>, part: impl Future<Output = ()> + Send + 'static) {
        self.parts.spawn(named(name.into(), part));
    }

    fn spawn_on(&mut self, thread: &Thread, name: &str, part: impl Future<Output = ()> + Send + 'static) {
        thread.spawn(&mut self.parts, named(name.into(), part));
    }

    /// Waits for a part to end; for ever when there is none.
    async fn ended(&mut self) -> String {
        match self.parts.join_next().await {
            Some(Ok(name)) => format!("{name} ended on its own"),
            Some(Err(e)) => format!("a part failed: {e}"),
            None => std::future::pending().await,
        }
    }

    /// Tells the parts to stop, and waits until they have.
    async fn finish(&mut self, grace: Duration) {
        self.stop.cancel();
        if timeout(grace, async { while self.parts.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!("{} part(s) did not stop in time", self.parts.len());
        }
    }
}

async fn named(name: String, part: impl Future<Output = ()>) -> String {
    part.await;
    name
}

/// Why a gateway does not start.
#[derive(Debug)]
pub enum StartError {
    /// The user list, or a certificate of a listener, cannot be used.
    Doors(DoorError),
    /// The broker's port cannot be had.
    Broker(std::io::Error),
    /// The page's port cannot be had.
    Page(admin::BindError),
    /// The store cannot be used.
    Store(OpenError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Doors(e) => e.fmt(f),
            StartError::Broker(e) => e.fmt(f),
            StartError::Page(e) => e.fmt(f),
            StartError::Store(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

impl Gateway {
    /// Builds all parts and sets them going.
    ///
    /// # Errors
    /// When a port, the user list or the store cannot be had. A device, serial port or cloud that is not there is no
    /// error: it is tried until it is.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let mut clock = Observer::new(config.gateway.clock);
        let guarded = config.broker.is_guarded();
        let (access, doors) = read_doors(config.broker.clone()).await.map_err(StartError::Doors)?;
        let listeners = Listeners::bind(&config.broker, doors).await.map_err(StartError::Broker)?;
        let broker_addresses = listeners.addresses();
        let admin = admin::bind(&config.admin).await.map_err(StartError::Page)?;
        let page_address = admin.address();
        let store_config = config.store.clone();
        let (store, recovered) = tokio::task::spawn_blocking(move || Store::open(&store_config))
            .await
            .expect("opening the store does not panic")
            .map_err(StartError::Store)?;
        if let Some(ahead) = recovered.clock {
            clock.recall(ahead);
        }

        let (mut inward, mut uplink_stage) = (Stage::default(), Stage::default());
        let (mut states, mut rest) = (Stage::default(), Stage::default());
        let mut pulses = Vec::new();
        let mut pulse = |name: String| {
            let pulse = Pulse::new();
            pulses.push((name, pulse.clone()));
            pulse
        };
        let store_status = store.status();
        let (broker, broker_status, task) = Broker::start(
            &config.broker,
            config.store.commit.0,
            access,
            (store, recovered),
            broker_addresses.iter().map(ToString::to_string).collect(),
            pulse("the broker".into()),
        );
        let thread = Thread::start("broker").map_err(StartError::Broker)?;
        rest.spawn_on(&thread, "the broker", task);

        let reload = Arc::new(Reload::new(&config, broker.clone(), listeners.doors()));
        // The uplinks' sessions come before everything that publishes, so that nothing passes them by.
        let (mut uplinks, mut wishes) = (Vec::new(), HashMap::new());
        retire_uplinks(&broker, &config).await;
        for (name, uplink) in config.uplinks {
            let (sender, status) = watch::channel(status::Uplink { name: name.clone(), ..Default::default() });
            let label = format!("uplink {name}");
            let beat = pulse(label.clone());
            let uplink = Uplink::new(name.clone(), uplink, config.gateway.id.clone(), broker.clone(), sender, beat);
            uplink.prepare().await;
            let sys = config.broker.sys_interval.0 > Duration::ZERO;
            let id = config.gateway.id.clone();
            let state = bridges::tell(id, sys, status.clone(), broker.clone(), states.stop.clone());
            states.spawn(format!("the state of {label}"), state);
            wishes.insert(name, uplink.republish());
            uplinks.push(status);
            uplink_stage.spawn(label, uplink.run(uplink_stage.stop.clone()));
        }
        let wishes = bridges::listen(config.gateway.id.clone(), wishes, broker.clone(), states.stop.clone());
        states.spawn("the wishes to the uplinks", wishes);

        let (reports, reported) = mpsc::channel(REPORTS);
        let (points, points_status) = watch::channel(config.points);
        let mut commands = HashMap::new();
        let mut buses = Vec::new();
        for bus in config.buses {
            let (to_bus, from_exchange) = mpsc::channel(COMMANDS);
            for device in &bus.devices {
                commands.insert(device.name.clone(), to_bus.clone());
            }
            let (sender, status) = watch::channel(status::Bus { name: bus.name.clone(), ..Default::default() });
            let label = format!("bus {}", bus.name);
            let beat = pulse(label.clone());
            let poller = Poller::new(bus, reports.clone(), from_exchange, sender, beat);
            buses.push(status);
            inward.spawn(label, poller.run(inward.stop.clone()));
        }
        // The way to the exchange stays open until the stop, also when there is no bus.
        let stopped = inward.stop.clone().cancelled_owned();
        inward.spawn("the way of the readings", async move {
            stopped.await;
            drop(reports);
        });
        let mapping = Mapping::new(config.gateway.id.clone(), config.routes);
        // The exchange does not know who sent a command, and so not where that client may publish.
        let mapping = if guarded { mapping.without_responses() } else { mapping };
        let exchange = Exchange::new(mapping, broker.clone(), reported, commands, points);
        // It ends when the last poller has: what they have reported is still published.
        inward.spawn("the exchange", exchange.run(pulse("the exchange".into())));

        if let Some(path) = &config.control.socket {
            match Socket::bind(path) {
                Ok(socket) => rest.spawn("the control socket", socket.run(broker.clone(), rest.stop.clone())),
                // It carries nothing itself.
                Err(e) => {
                    tracing::warn!("no control socket at {}: {e}; `fieldpost store` can only read", path.display());
                }
            }
        }

        let standing = clock.standing();
        let told =
            clock::run(standing.clone(), status::clock_topic(&config.gateway.id), broker.clone(), rest.stop.clone());
        rest.spawn("the state of the clock", told);
        rest.spawn("the clock", clock.run(rest.stop.clone()));

        let started = Moment::now();
        let topic = status::store_topic(&config.gateway.id);
        let watched = (store_status.clone(), broker_status.clone());
        rest.spawn("the state of the store", store::run(topic, watched, broker.clone(), rest.stop.clone()));
        let gateway = status::Gateway { id: config.gateway.id.clone(), version: env!("CARGO_PKG_VERSION"), started };
        let board = Board {
            gateway,
            clock: standing,
            buses,
            points: points_status,
            broker: broker_status,
            uplinks,
            store: store_status,
        };
        rest.spawn("the page", admin.run(board.clone(), rest.stop.clone()));
        let serving = listeners.run(broker.clone(), rest.stop.clone());
        rest.spawn_on(&thread, "the listeners", serving);
        let id = config.gateway.id;
        broker.publish(vec![Message::retained(status::status_topic(&id), status::ONLINE)]).await;
        Ok(Self {
            id,
            broker,
            broker_addresses,
            page_address,
            board,
            reload,
            inward,
            uplinks: uplink_stage,
            states,
            rest,
            pulses,
            _thread: thread,
        })
    }

    /// Where MQTT clients connect.
    pub fn broker_addresses(&self) -> &[Address] {
        &self.broker_addresses
    }

    /// Where the page is.
    pub fn page_address(&self) -> SocketAddr {
        self.page_address
    }

    /// The way to change users, rules and certificates while it runs.
    pub fn reload(&self) -> Arc<Reload> {
        self.reload.clone()
    }

    /// What the parts report.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Goes on until `stop`, then stops everything in order.
    ///
    /// # Errors
    /// When a part ended on its own; the text says which.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        let watchdog = tokio::spawn(watchdog::run(std::mem::take(&mut self.pulses)));
        let ended = tokio::select! {
            () = stop.cancelled() => None,
            why = self.inward.ended() => Some(why),
            why = self.uplinks.ended() => Some(why),
            why = self.states.ended() => Some(why),
            why = self.rest.ended() => Some(why),
        };
        watchdog.abort();
        if let Some(why) = ended {
            return Err(why);
        }
        tracing::info!("stopping");
        self.inward.finish(GRACE).await;
        let offline = vec![Message::retained(status::status_topic(&self.id), status::OFFLINE)];
        if timeout(GRACE, self.broker.publish(offline)).await.is_err() {
            tracing::warn!("the broker is too far behind to say that the gateway goes offline");
        }
        self.uplinks.finish(GRACE).await;
        self.states.finish(LAST_WORD).await;
        if timeout(GRACE, self.broker.stop()).await.is_err() {
            tracing::error!("the broker did not stop in time; what it had not acknowledged may be lost");
        }
        self.rest.finish(GRACE).await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// As [`Door::all`], beside what runs.
async fn read_doors(config: broker::Config) -> Result<(Arc<Access>, Vec<Door>), DoorError> {
    tokio::task::spawn_blocking(move || Door::all(&config)).await.expect("reading files does not panic")
}

/// Says so when an uplink is gone from the config and its queue is not empty: its entries wait, and nothing new joins.
async fn retire_uplinks(broker: &Broker, config: &Config) {
    let wanted: Vec<_> = config.uplinks.iter().map(|(name, _)| status::uplink_session(name)).collect();
    for client_id in broker.clients().await {
        if client_id.starts_with("$uplink/") && !wanted.iter().any(|id| **id == *client_id) {
            tracing::warn!("{client_id} is no longer configured; what waits for it is kept, and nothing new is added");
            broker.unsubscribe_all(&client_id).await;
        }
    }
}
