//! A gateway without wires and listeners: broker, store and uplink.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fieldpost::broker::access::Access;
use fieldpost::broker::{self, Broker};
use fieldpost::message::Message;
use fieldpost::status::{self, Pulse, State};
use fieldpost::store::{self, Store};
use fieldpost::units::Period;
use fieldpost::uplink::{self, Uplink};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

/// One of many.
pub struct Gateway {
    name: String,
    broker: Broker,
    uplink: watch::Receiver<status::Uplink>,
    /// It ends with this.
    _stop: tokio_util::sync::DropGuard,
}

impl Gateway {
    /// Starts it, with `config` in its `[uplink]`. Its store is in `folder`.
    pub async fn start(folder: &Path, name: &str, config: &str) -> Result<Self, Box<dyn Error>> {
        let config: uplink::Config = toml::from_str(config)?;
        let store = store::Config { path: folder.join(format!("{name}.db")), ..store::Config::default() };
        let commit = store.commit.0;
        let opened = tokio::task::spawn_blocking(move || Store::open(&store)).await??;
        let quiet = broker::Config { sys_interval: Period(Duration::ZERO), ..broker::Config::default() };
        let access = Arc::<Access>::default();
        let (broker, _, task) = Broker::start(&quiet, commit, access, opened, Vec::new(), Pulse::new());
        tokio::spawn(task);
        let (sender, status) = watch::channel(status::Uplink::default());
        // The cloud has to tell those of this run from those of the last.
        let id = format!("fleet-{:08x}-{name}", fastrand::u32(..));
        let uplink = Uplink::new("cloud".into(), config, id.into(), broker.clone(), sender, Pulse::new());
        uplink.prepare().await;
        let stop = CancellationToken::new();
        tokio::spawn(uplink.run(stop.clone()));
        Ok(Self { name: name.to_owned(), broker, uplink: status, _stop: stop.drop_guard() })
    }

    /// Waits until it is connected to the cloud.
    pub async fn connected(&self, patience: Duration) -> Result<(), Box<dyn Error>> {
        let mut uplink = self.uplink.clone();
        let up = timeout(patience, uplink.wait_for(|uplink| uplink.state == State::Up)).await;
        match up {
            Ok(Ok(_)) => Ok(()),
            _ => Err(format!("{} is not connected: {:?}", self.name, self.uplink.borrow().state).into()),
        }
    }

    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    pub fn is_up(&self) -> bool {
        self.uplink.borrow().state == State::Up
    }

    /// How often it had to connect again.
    pub fn reconnects(&self) -> u64 {
        self.uplink.borrow().connects.saturating_sub(1)
    }
}

/// Publishes the numbers below `each`, one `every` so often after an `offset`, with the time since `start`.
pub async fn publish(
    broker: Broker,
    topic: String,
    each: u32,
    (offset, every): (Duration, Duration),
    size: usize,
    start: Instant,
) {
    let mut tick = interval_at(Instant::now() + offset, every);
    // Who is late makes up for it: the rate is what was asked for.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for n in 0..each {
        tick.tick().await;
        let mut payload = format!("{n} {} ", start.elapsed().as_micros());
        payload.extend(std::iter::repeat_n('.', size.saturating_sub(payload.len())));
        broker.publish(vec![Message::new(topic.clone(), payload)]).await;
    }
}
