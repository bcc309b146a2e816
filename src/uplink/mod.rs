//! The way to a cloud broker: a durable session of the local broker, read and carried over.
//!
//! An [`Uplink`] is a pipe between a [`crate::broker::Link`] and a connection to the cloud: packet ids, windows,
//! acknowledgements and order are those of the local session, so an entry leaves the store only when the cloud has
//! acknowledged it. While the cloud is away nobody reads the session, and its queue grows in the store.
//!
//! What `[uplink.NAME]` says is in [`config`] (`describe` puts it into words), its [`address`] and [`rules`]: which topics go,
//! [`rename`] what they are called then, and [`way`] what becomes of a message, both ways, and what keeps it from coming round;
//! and [`mark`]: what is added to what goes (all pure).
//!
//! To the cloud: `turns` (which of its addresses is next, and when), `dial` (the way there, over a [`proxy`], `tls` and a
//! `websocket`), `login` (a session of the connection; as what, says the `guise`), [`retained`] (what is sent to one that has
//! lost its own), `carry` (the loop over both sides), `life` (whether the connection still lives, by the `traffic` on it) and
//! `end` (how it ended); what others write is shown as `remote` has it.
//!
//! What becomes of each packet says the `pipe` (pure): what goes no faster than it may waits for its `pace`, what may not
//! go up yet for other reasons at its `gate`, what is under way is in `flight`, what the cloud keeps of it over connections
//! is `kept`, what it will never have goes `aside`, and `strikes` are held against what it hangs up on.

pub mod address;
pub mod config;
mod describe;
pub mod mark;
pub mod rules;
pub mod rename;
pub mod way;
pub mod retained;
mod pace;
mod pipe;
mod dial;
pub mod proxy;
mod websocket;
mod tls;
mod traffic;
mod remote;
mod unchecked;
mod login;
mod guise;
mod turns;
mod end;
mod flight;
mod gate;
mod strikes;
mod kept;
mod aside;
mod life;
mod carry;

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::login::{Cloud, Identity};
use self::pipe::Pipe;
use self::turns::{Failure, Turns};
use crate::broker::{Broker, Link};
use crate::clock::Moment;
use crate::mqtt::{Connect, Packet, PacketId, Reason, RetainHandling, Subscribe, SubscribeOptions, Version};
use crate::status::{self, Pulse, State, uplink_session};

pub use config::Config;

/// A connection that lasted this long was a good one: the next is tried soon.
const GOOD: Duration = Duration::from_secs(10);

/// The carrier to one cloud broker.
#[derive(Debug)]
pub struct Uplink {
    name: Arc<str>,
    gateway: Arc<str>,
    config: Config,
    identity: Identity,
    /// The local session's client id.
    session: Arc<str>,
    broker: Broker,
    status: watch::Sender<status::Uplink>,
    pulse: Pulse,
    republish: Arc<Notify>,
}

impl Uplink {
    /// The uplink `name` of the gateway `gateway_id`. Nothing happens before [`Uplink::prepare`].
    pub fn new(
        name: Arc<str>,
        config: Config,
        gateway_id: Arc<str>,
        broker: Broker,
        status: watch::Sender<status::Uplink>,
        pulse: Pulse,
    ) -> Self {
        let client_id = config.client_id.clone().unwrap_or_else(|| format!("{gateway_id}-{name}"));
        let topic = config.status.clone().unwrap_or_else(|| status::status_topic(&gateway_id));
        let identity = Identity::new(client_id.into(), (!topic.is_empty()).then(|| topic.into()));
        status.send_modify(|status| {
            status.name = name.clone();
            status.url = config.url.0.first().map(ToString::to_string).unwrap_or_default();
            status.risks = config.risks();
        });
        Self {
            session: uplink_session(&name).into(),
            name,
            gateway: gateway_id,
            config,
            identity,
            broker,
            status,
            pulse,
            republish: Arc::default(),
        }
    }

    /// Notified, it sends again what is retained on the topics that go up: now, or when it is connected.
    pub fn republish(&self) -> Arc<Notify> {
        self.republish.clone()
    }

    /// Makes the local session with the filters of the config, so that from now on nothing that is to go up is missed,
    /// whether the cloud can be reached or not. To be called before anything is published.
    pub async fn prepare(&self) {
        let Some((link, _)) = self.open(NonZeroU16::MIN, RetainHandling::SendIfNew).await else {
            tracing::error!("uplink {}: the local broker gives it no session", self.name);
            return;
        };
        link.send(vec![Packet::Disconnect { reason: Reason::SUCCESS, expiry: None }]).await;
    }

    /// Carries until `stop`, connecting again whenever the cloud was lost.
    pub async fn run(mut self, stop: CancellationToken) {
        let way = self.config.way_of(self.gateway.clone(), self.name.clone());
        let mut pipe = Pipe::new(way).with(self.config.mark, self.config.rate).patient(self.config.stuck.0);
        let mut turns = Turns::new(self.config.url.0.len());
        loop {
            let (place, at) = turns.next();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.alive(tokio::time::sleep_until(at)) => {}
            }
            let address = &self.config.url.0[place];
            self.status.send_modify(|status| status.url = address.to_string());
            let connected = tokio::select! {
                () = stop.cancelled() => return,
                connected = self.alive(Cloud::connect(address, &self.config, &self.identity)) => connected,
            };
            let why = match connected {
                Ok(cloud) => {
                    self.identity.connected(address, &cloud.ack);
                    pipe.heads_for(address);
                    let since = Instant::now();
                    let Err(end) = self.carry(cloud, &mut pipe, &stop).await else { return };
                    if pipe.has_acknowledged() || since.elapsed() >= GOOD {
                        turns.was_good(place);
                    } else {
                        turns.failed(place, Failure::Lost);
                    }
                    end.why
                }
                Err(failed) => {
                    turns.failed(place, failed.failure);
                    failed.why
                }
            };
            self.down(&why);
        }
    }

    /// A connection to the local session, and what came with it. None when the broker has stopped or refuses.
    async fn open(&self, receive_maximum: NonZeroU16, retained: RetainHandling) -> Option<(Link, Vec<Packet>)> {
        let had = self.broker.subscriptions(&self.session).await;
        let subscribe = self.subscribe(retained);
        let wanted: Vec<_> =
            subscribe.iter().flat_map(|packet| &packet.filters).map(|(filter, _)| filter.clone()).collect();
        let old: Vec<_> = had.into_iter().filter(|had| !wanted.contains(had)).collect();

        let mut packets = vec![Packet::Connect(Box::new(self.local_connect(receive_maximum)))];
        let mut awaited = 1_usize;
        if !old.is_empty() {
            packets.push(Packet::Unsubscribe { id: PacketId::MIN, filters: old });
            awaited += 1;
        }
        if let Some(subscribe) = subscribe {
            packets.push(Packet::Subscribe(Box::new(subscribe)));
            awaited += 1;
        }
        let mut link = self.broker.link_as(self.config.replay()).await;
        link.send(packets).await;
        let mut early = Vec::new();
        while awaited > 0 {
            for packet in link.recv().await? {
                match packet {
                    Packet::ConnAck(ack) if ack.reason.is_error() => return None,
                    Packet::ConnAck(_) | Packet::UnsubAck { .. } => awaited = awaited.saturating_sub(1),
                    Packet::SubAck { reasons, .. } => {
                        awaited = awaited.saturating_sub(1);
                        for (filter, _) in wanted.iter().zip(reasons).filter(|(_, reason)| reason.is_error()) {
                            tracing::error!("uplink {}: the local broker refuses the filter {filter}", self.name);
                        }
                    }
                    other => early.push(other),
                }
            }
        }
        Some((link, early))
    }

    /// The subscription of the local session, which decides which of the retained messages go up as well; none when nothing
    /// goes up.
    fn subscribe(&self, retain_handling: RetainHandling) -> Option<Subscribe> {
        let options = |qos| SubscribeOptions {
            qos,
            no_local: true, // what came down is not to go up again
            retain_as_published: true,
            retain_handling,
        };
        let filters: Vec<_> =
            rules::filters(&self.config.publish).into_iter().map(|(filter, qos)| (filter, options(qos))).collect();
        (!filters.is_empty()).then_some(Subscribe { id: PacketId::MAX, filters, subscription_id: None })
    }

    fn local_connect(&self, receive_maximum: NonZeroU16) -> Connect {
        Connect {
            version: Version::V5,
            client_id: self.session.clone(),
            clean_start: false,
            expiry: u32::MAX,
            keep_alive: Duration::ZERO,
            user: None,
            password: None,
            will: None,
            receive_maximum,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            problem_info: true,
            authentication_method: None,
            bridge: false,
        }
    }

    /// Does `what`, and shows meanwhile that this part lives.
    async fn alive<T>(&self, what: impl Future<Output = T>) -> T {
        tokio::pin!(what);
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                done = &mut what => return done,
                _ = beat.tick() => self.pulse.beat(),
            }
        }
    }

    fn up(&self) {
        self.status.send_modify(|status| {
            status.state = State::Up;
            status.since = Some(Moment::now());
            status.connects += 1;
            tracing::info!("uplink {}: connected to {}", self.name, status.url);
        });
    }

    fn down(&self, why: &str) {
        let state = State::Down(why.to_owned());
        self.status.send_if_modified(|status| {
            if status.state == state {
                return false;
            }
            tracing::warn!("uplink {}: {}: {why}", self.name, status.url);
            if !matches!(status.state, State::Down(_)) {
                status.since = Some(Moment::now());
            }
            status.state = state;
            true
        });
    }
}
