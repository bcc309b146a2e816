//! The task that runs the router: it feeds it what links, the store and the clock say, and carries its effects out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::access::Access;
use super::keys::ByKey;
use super::mailbox;
use super::order::{Order, Outcome};
use super::replay::Replay;
use super::router::order::Ticket;
use super::router::{Effects, Event, Now, Router};
use super::session::LinkId;
use super::sys::{self, Sys};
use super::traffic::Traffic;
use crate::clock::Moment;
use crate::message::Message;
use crate::mqtt::Packet;
use crate::status;
use crate::store::Store;

/// Entries and bytes read back from the store at once.
const LOAD_ENTRIES: usize = 2048;
const LOAD_BYTES: usize = 1 << 20;
/// How long stopping waits for a disk that does not take what is open.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the status is told at most.
const STATUS_EVERY: Duration = Duration::from_millis(250);

/// What reaches the router's task.
#[derive(Debug)]
pub(super) enum Input {
    Open { link: LinkId, packets: mailbox::Sender, own: Option<Replay> },
    Packets(LinkId, Vec<Packet>, OwnedSemaphorePermit),
    Drained(LinkId, usize),
    Gone(LinkId),
    Publish(Vec<Message>),
    Subscriptions(Arc<str>, oneshot::Sender<Vec<Arc<str>>>),
    Clients(oneshot::Sender<Vec<Arc<str>>>),
    UnsubscribeAll(Arc<str>),
    Access(Arc<Access>),
    Order(Order, oneshot::Sender<Outcome>),
    Stop(oneshot::Sender<()>),
}

/// Whom the task tells how it is.
pub(super) struct Report {
    pub status: watch::Sender<status::Broker>,
    /// The addresses of the listeners, for the status.
    pub listeners: Vec<String>,
    pub pulse: status::Pulse,
    pub traffic: Arc<Traffic>,
    /// How often `$SYS` is told; zero for never.
    pub sys_interval: Duration,
}

/// The task.
pub(super) struct Task {
    router: Router,
    inputs: mpsc::Receiver<Input>,
    store: Store,
    links: ByKey<LinkId, mailbox::Sender>,
    report: Report,
    sys: Sys,
    /// When the status, and when `$SYS`, was last told.
    told: Option<Instant>,
    sys_told: Option<Instant>,
    /// Who waits for the outcome of an order, and how many there have been.
    orders: BTreeMap<Ticket, oneshot::Sender<Outcome>>,
    ordered: u64,
    /// Who waits for the end.
    stopped: Option<oneshot::Sender<()>>,
}

impl Task {
    pub(super) fn new(router: Router, inputs: mpsc::Receiver<Input>, store: Store, report: Report) -> Self {
        let sys = Sys::new(Instant::now());
        Self {
            router,
            inputs,
            store,
            links: ByKey::default(),
            report,
            sys,
            told: None,
            sys_told: None,
            orders: BTreeMap::new(),
            ordered: 0,
            stopped: None,
        }
    }

    /// Runs until the broker is stopped; `commit` is the store's window.
    pub(super) async fn run(mut self, commit: Duration) {
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
                    self.report.pulse.beat();
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
            Input::Open { link, packets, own } => {
                self.links.insert(link, packets);
                Event::Opened { link, own }
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
            Input::Order(order, reply) => {
                self.ordered += 1;
                self.orders.insert(Ticket(self.ordered), reply);
                Event::Order(Ticket(self.ordered), order)
            }
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
        for (ticket, outcome) in effects.outcomes.drain(..) {
            if let Some(reply) = self.orders.remove(&ticket) {
                // Who asked may have gone.
                let _ = reply.send(outcome);
            }
        }
    }

    fn tell_sys(&mut self, effects: &mut Effects) {
        let now = now();
        let due = self.sys_told.is_none_or(|told| now.instant - told >= self.report.sys_interval);
        if self.report.sys_interval.is_zero() || !due {
            return;
        }
        self.sys_told = Some(now.instant);
        let state = sys::State { traffic: self.report.traffic.counts(), ..self.router.sys_state() };
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
            self.report.status.send_replace(status::Broker { listeners: self.report.listeners.clone(), ..status });
        }
    }
}

pub(super) fn now() -> Now {
    Now { instant: Instant::now(), wall: Moment::now() }
}
