//! The local MQTT broker: one router that owns every session, and the tasks around it.
//!
//! [`router`] is pure and synchronous: events in, effects out. [`Broker`] runs it in one task, feeds it what
//! [`listener`] and the store say, and carries its effects out. Clients nearby, the uplinks and the gateway itself all
//! speak to it over a [`Link`], in the same packets: there is one kind of session and one kind of queue.

pub mod access;
mod config;
mod keys;
pub mod listener;
mod mailbox;
mod owed;
mod queue;
mod quota;
mod retained;
pub mod router;
mod session;
mod share;
mod sys;
mod topics;
pub mod traffic;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::clock::Timestamp;
use crate::message::Message;
use crate::mqtt::Packet;
use crate::status;
use crate::store::{Recovered, Store};
use access::Access;
use keys::ByKey;
use mailbox::mailbox;
use router::{Effects, Event, Now, Router};
use session::LinkId;
use sys::Sys;
use traffic::Traffic;

pub use config::Config;

/// A connection reports what it has taken in steps of this many bytes.
const REPORT_BYTES: usize = 64 << 10;
/// Events that wait for the router before those who send them wait.
const EVENTS: usize = 1024;
/// Bytes of packets that wait for the router, from all links together.
const WAITING_BYTES: usize = 8 << 20;
/// Entries and bytes read back from the store at once.
const LOAD_ENTRIES: usize = 512;
const LOAD_BYTES: usize = 1 << 20;
/// How long stopping waits for a disk that does not take what is open.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the status is told at most.
const STATUS_EVERY: Duration = Duration::from_millis(250);

/// What reaches the router's task.
#[derive(Debug)]
enum Input {
    Open { link: LinkId, packets: mailbox::Sender, trusted: bool },
    Packets(LinkId, Vec<Packet>, OwnedSemaphorePermit),
    Drained(LinkId, usize),
    Gone(LinkId),
    Publish(Vec<Message>),
    Subscriptions(Arc<str>, oneshot::Sender<Vec<Arc<str>>>),
    Clients(oneshot::Sender<Vec<Arc<str>>>),
    UnsubscribeAll(Arc<str>),
    Access(Arc<Access>),
    Stop(oneshot::Sender<()>),
}

/// A running broker; clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Broker {
    inputs: mpsc::Sender<Input>,
    /// A permit for each byte that may wait for the router.
    room: Arc<Semaphore>,
    links: Arc<AtomicU64>,
    traffic: Arc<Traffic>,
}

/// One side of a connection to the router, without a wire: what a client's task, an uplink or the gateway holds.
///
/// It begins with a [`Packet::Connect`] and a [`Packet::ConnAck`], like any MQTT connection. Dropping it without a
/// [`Packet::Disconnect`] is a lost connection.
#[derive(Debug)]
pub struct Link {
    id: LinkId,
    inputs: mpsc::Sender<Input>,
    room: Arc<Semaphore>,
    packets: mailbox::Receiver,
    /// Bytes of messages received and not yet reported.
    taken: usize,
    /// Where a client's packets are counted.
    traffic: Option<Arc<Traffic>>,
}

impl Broker {
    /// Starts the router's task on an opened store. `listeners` is shown in the status.
    ///
    /// The returned future is the task; it ends after [`Broker::stop`].
    pub fn start(
        config: &Config,
        commit: Duration,
        access: Arc<Access>,
        (store, recovered): (Store, Recovered),
        listeners: Vec<String>,
        pulse: status::Pulse,
    ) -> (Self, watch::Receiver<status::Broker>, impl Future<Output = ()> + Send + use<>) {
        let limits = config.limits(commit);
        let router = Router::new(limits, access, recovered, now());
        let (inputs, receiver) = mpsc::channel(EVENTS);
        let (status, watch) = watch::channel(status::Broker::default());
        let traffic = Arc::<Traffic>::default();
        let task = Task {
            router,
            inputs: receiver,
            store,
            status,
            listeners,
            pulse,
            links: ByKey::default(),
            told: None,
            traffic: traffic.clone(),
            sys: Sys::new(Instant::now()),
            sys_interval: config.sys_interval.0,
            sys_told: None,
            stopped: None,
        };
        let room = Arc::new(Semaphore::new(WAITING_BYTES));
        (Self { inputs, room, links: Arc::default(), traffic }, watch, task.run(commit))
    }

    /// A connection of one of the gateway's own parts: it is not asked for user and password, and `$` is open to it.
    pub async fn link(&self) -> Link {
        self.open(true).await
    }

    pub(super) async fn open(&self, trusted: bool) -> Link {
        let id = LinkId(self.links.fetch_add(1, Ordering::Relaxed));
        let (sender, packets) = mailbox();
        // When the router is gone the sender goes with the error, and the link is closed from its beginning.
        let _ = self.inputs.send(Input::Open { link: id, packets: sender, trusted }).await;
        let traffic = (!trusted).then(|| self.traffic.clone());
        Link { id, inputs: self.inputs.clone(), room: self.room.clone(), packets, taken: 0, traffic }
    }

    /// Where the sockets of clients are counted.
    pub(super) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Publishes messages of the gateway's own; waits while the router is behind. False when it has stopped.
    pub async fn publish(&self, messages: Vec<Message>) -> bool {
        self.inputs.send(Input::Publish(messages)).await.is_ok()
    }

    /// The filters that a session, connected or not, is subscribed to.
    pub async fn subscriptions(&self, client_id: &str) -> Vec<Arc<str>> {
        let (reply, answer) = oneshot::channel();
        let _ = self.inputs.send(Input::Subscriptions(client_id.into(), reply)).await;
        answer.await.unwrap_or_default()
    }

    /// The client ids of all sessions, connected or not.
    pub async fn clients(&self) -> Vec<Arc<str>> {
        let (reply, answer) = oneshot::channel();
        let _ = self.inputs.send(Input::Clients(reply)).await;
        answer.await.unwrap_or_default()
    }

    /// Ends all subscriptions of a session that is not connected; what waits for it stays.
    pub async fn unsubscribe_all(&self, client_id: &str) {
        let _ = self.inputs.send(Input::UnsubscribeAll(client_id.into())).await;
    }

    /// Puts other users and rules in force, for the sessions that there are as well.
    pub async fn set_access(&self, access: Arc<Access>) {
        let _ = self.inputs.send(Input::Access(access)).await;
    }

    /// Tells every client, writes everything that is open, closes the store.
    pub async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        let _ = self.inputs.send(Input::Stop(reply)).await;
        let _ = done.await;
    }
}

impl Link {
    /// Sends packets to the router, in order; waits while the router is behind. False when it has stopped.
    pub async fn send(&self, packets: Vec<Packet>) -> bool {
        if let Some(traffic) = &self.traffic {
            traffic.came(&packets);
        }
        // One that is larger than the whole room comes alone.
        let bytes = packets.iter().map(weight).sum::<usize>().min(WAITING_BYTES);
        let bytes = u32::try_from(bytes).expect("no more than the room has");
        let Ok(permit) = self.room.clone().acquire_many_owned(bytes).await else { return false };
        self.inputs.send(Input::Packets(self.id, packets, permit)).await.is_ok()
    }

    /// The next packets from the router; `None` once the router has closed this connection (taken over, stopped).
    ///
    /// Asking for more says that what came before is taken care of: the router goes on sending to those who ask only.
    /// Cancel safe.
    pub async fn recv(&mut self) -> Option<Vec<Packet>> {
        if self.taken >= REPORT_BYTES
            && let Ok(permit) = self.inputs.reserve().await
        {
            permit.send(Input::Drained(self.id, self.taken));
            self.taken = 0;
        }
        let packets = self.packets.recv().await?;
        if let Some(traffic) = &self.traffic {
            traffic.went(&packets);
        }
        let size = |packet: &Packet| if let Packet::Publish(p) = packet { p.message.size() } else { 0 };
        self.taken += packets.iter().map(size).sum::<usize>();
        Some(packets)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let gone = Input::Gone(self.id);
        if let Err(mpsc::error::TrySendError::Full(gone)) = self.inputs.try_send(gone) {
            // It has to come behind what this link has sent before.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                let inputs = self.inputs.clone();
                runtime.spawn(async move { inputs.send(gone).await });
            }
        }
    }
}

/// About how many bytes of memory a packet takes on its way to the router: one of two bytes on the wire is not free.
fn weight(packet: &Packet) -> usize {
    let filter = |length: usize| length + 64;
    size_of::<Packet>()
        + match packet {
            Packet::Publish(publish) => publish.message.size(),
            Packet::Subscribe(subscribe) => subscribe.filters.iter().map(|(f, _)| filter(f.len())).sum(),
            Packet::Unsubscribe { filters, .. } => filters.iter().map(|f| filter(f.len())).sum(),
            _ => 0,
        }
}

/// The task around the router.
struct Task {
    router: Router,
    inputs: mpsc::Receiver<Input>,
    store: Store,
    status: watch::Sender<status::Broker>,
    listeners: Vec<String>,
    pulse: status::Pulse,
    links: ByKey<LinkId, mailbox::Sender>,
    /// When the status was last told.
    told: Option<Instant>,
    traffic: Arc<Traffic>,
    sys: Sys,
    sys_interval: Duration,
    sys_told: Option<Instant>,
    stopped: Option<oneshot::Sender<()>>,
}

impl Task {
    async fn run(mut self, commit: Duration) {
        let mut tick = interval(commit.clamp(Duration::from_millis(5), Duration::from_secs(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut effects = Effects::default();
        let mut inputs = Vec::with_capacity(256);
        let mut stopping = Instant::now();
        // What the last run's end left to be done comes before everything else: wills, above all.
        self.router.apply(Event::Tick, now(), &mut effects);
        let mut hurry = None;
        loop {
            tokio::select! {
                n = self.inputs.recv_many(&mut inputs, 256) => {
                    if n == 0 {
                        break;
                    }
                    let now = now();
                    for input in inputs.drain(..) {
                        self.take(input, now, &mut effects);
                    }
                }
                event = self.store.events().recv() => {
                    let Some(event) = event else { break };
                    self.router.apply(Event::Store(event), now(), &mut effects);
                }
                // Between what others want.
                () = tokio::task::yield_now(), if self.router.has_more() => {
                    self.router.apply(Event::Continue, now(), &mut effects);
                }
                _ = tick.tick() => {
                    self.pulse.beat();
                    self.router.apply(Event::Tick, now(), &mut effects);
                    self.tell_sys(&mut effects);
                }
                () = sleep_until(hurry.unwrap_or(stopping)), if hurry.is_some() => {}
            }
            hurry = self.router.hurry(now(), &mut effects);
            self.carry_out(&mut effects);
            self.tell();
            if self.stopped.is_some() && (self.router.is_drained() || stopping.elapsed() > STOP_TIMEOUT) {
                break;
            }
            if self.stopped.is_none() {
                stopping = Instant::now();
            }
        }
        let store = self.store;
        // Closing waits for the disk.
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
        if let Some(stopped) = self.stopped {
            let _ = stopped.send(());
        }
    }

    fn take(&mut self, input: Input, now: Now, effects: &mut Effects) {
        let event = match input {
            Input::Open { link, packets, trusted } => {
                self.links.insert(link, packets);
                Event::Opened { link, trusted }
            }
            Input::Packets(link, packets, _permit) => {
                for packet in packets {
                    self.router.apply(Event::Packet { link, packet }, now, effects);
                }
                return;
            }
            Input::Drained(link, bytes) => Event::Drained { link, bytes },
            Input::Gone(link) => {
                self.links.remove(&link);
                Event::Gone { link }
            }
            Input::Publish(messages) => {
                for message in messages {
                    self.router.apply(Event::Publish(message), now, effects);
                }
                return;
            }
            Input::Subscriptions(client_id, reply) => {
                let _ = reply.send(self.router.subscriptions(&client_id));
                return;
            }
            Input::Clients(reply) => {
                let _ = reply.send(self.router.clients());
                return;
            }
            Input::UnsubscribeAll(client_id) => {
                self.router.unsubscribe_all(&client_id);
                return;
            }
            Input::Access(access) => Event::Access(access),
            Input::Stop(reply) => {
                self.stopped = Some(reply);
                Event::Stop
            }
        };
        self.router.apply(event, now, effects);
    }

    fn carry_out(&mut self, effects: &mut Effects) {
        if let Some(batch) = effects.commit.take() {
            self.store.commit(batch);
        }
        for (queue, after) in effects.loads.drain(..) {
            self.store.load(queue, after, LOAD_ENTRIES, LOAD_BYTES);
        }
        // The runtime goes on with whom it woke last: with those who get messages, before those whose messages came.
        for messages in [false, true] {
            let some = |_: &LinkId, p: &mut Vec<Packet>| matches!(p.first(), Some(Packet::Publish(_))) == messages;
            for (link, packets) in effects.packets.extract_if(.., some) {
                if let Some(sender) = self.links.get(&link) {
                    // A link that is being dropped has no use for them; its `Gone` is on the way.
                    sender.send(packets);
                }
            }
        }
        for link in effects.close.drain(..) {
            self.links.remove(&link);
        }
    }

    fn tell_sys(&mut self, effects: &mut Effects) {
        let now = now();
        let due = self.sys_told.is_none_or(|told| now.instant - told >= self.sys_interval);
        if self.sys_interval.is_zero() || !due {
            return;
        }
        self.sys_told = Some(now.instant);
        let state = sys::State { traffic: self.traffic.counts(), ..self.router.sys_state() };
        for message in self.sys.tell(now.instant, &state) {
            self.router.apply(Event::Publish(message), now, effects);
        }
    }

    fn tell(&mut self) {
        let now = Instant::now();
        if self.told.is_none_or(|told| now - told >= STATUS_EVERY) {
            self.told = Some(now);
            let status = self.router.status();
            self.sys.saw(status.clients);
            self.status.send_replace(status::Broker { listeners: self.listeners.clone(), ..status });
        }
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), wall: Timestamp::now() }
}
