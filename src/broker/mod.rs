//! The local MQTT broker: one router that owns every session, and the tasks around it.
//!
//! [`router`] is pure and synchronous: events in, effects out. [`Broker`] runs it in one task, feeds it what
//! [`listener`] and the store say, and carries its effects out. Clients nearby, the uplinks and the gateway itself all
//! speak to it over a [`Link`], in the same packets: there is one kind of session and one kind of queue.

pub mod access;
mod complaints;
mod config;
mod drain;
mod keys;
mod lanes;
mod link;
pub mod listener;
mod mailbox;
pub mod order;
mod overtaken;
mod owed;
mod queue;
mod quota;
pub mod replay;
mod retained;
pub mod router;
mod session;
mod share;
mod sys;
mod task;
mod topics;
pub mod traffic;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::message::Message;
use crate::status;
use crate::store::{Recovered, Store};
use access::Access;
use mailbox::mailbox;
use order::{Order, Outcome, Refusal};
use replay::Replay;
use router::Router;
use session::LinkId;
use task::{Input, Report, Task, now};
use traffic::Traffic;

pub use config::Config;
pub use link::Link;

/// Events that wait for the router before those who send them wait.
const EVENTS: usize = 1024;

/// A running broker; clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Broker {
    inputs: mpsc::Sender<Input>,
    /// A permit for each byte that may wait for the router.
    room: Arc<Semaphore>,
    links: Arc<AtomicU64>,
    traffic: Arc<Traffic>,
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
        let mut router = Router::new(limits, access, recovered, now()).of(config.gateway.clone());
        router.set_classes(store.classes());
        let (inputs, receiver) = mpsc::channel(EVENTS);
        let (status, watch) = watch::channel(status::Broker::default());
        let traffic = Arc::<Traffic>::default();
        let report = Report { status, listeners, pulse, traffic: traffic.clone(), sys_interval: config.sys_interval.0 };
        let task = Task::new(router, receiver, store, report);
        let room = Arc::new(Semaphore::new(link::WAITING_BYTES));
        (Self { inputs, room, links: Arc::default(), traffic }, watch, task.run(commit))
    }

    /// A connection of one of the gateway's own parts: it is not asked for user and password, and `$` is open to it.
    pub async fn link(&self) -> Link {
        self.link_as(Replay::default()).await
    }

    /// The same, for a part that wants what waits for it in a way of its own.
    pub async fn link_as(&self, replay: Replay) -> Link {
        self.open(Some(replay)).await
    }

    /// Opens a connection: of a client, or of an own part, with how that reads.
    pub(super) async fn open(&self, own: Option<Replay>) -> Link {
        let id = LinkId(self.links.fetch_add(1, Ordering::Relaxed));
        let (sender, packets) = mailbox();
        // When the router is gone the sender goes with the error, and the link is closed from its beginning.
        let _ = self.inputs.send(Input::Open { link: id, packets: sender, own }).await;
        let traffic = own.is_none().then(|| self.traffic.clone());
        Link::new(id, (self.inputs.clone(), self.room.clone()), packets, traffic)
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

    /// Has an order carried out; returns when all of it is on the disk.
    ///
    /// # Errors
    /// Why it is not carried out.
    pub async fn order(&self, order: Order) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let _ = self.inputs.send(Input::Order(order, reply)).await;
        answer.await.unwrap_or(Err(Refusal::Stopping))
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
