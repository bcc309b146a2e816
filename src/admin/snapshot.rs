//! The board at one moment: what every view is made from.

use serde::Serialize;

use crate::clock::Moment;
use crate::clock::trust::Standing;
use crate::status::{Board, Broker, Bus, Gateway, Point, Queue, Store, Uplink, uplink_session};

/// All that the parts report, copied at one moment so that nobody who writes it waits for a reader.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Snapshot {
    /// When it was taken.
    pub(crate) now: Moment,
    pub(crate) gateway: Gateway,
    pub(crate) clock: Standing,
    pub(crate) buses: Vec<Bus>,
    pub(crate) points: Vec<Point>,
    pub(crate) uplinks: Vec<UplinkQueue>,
    pub(crate) broker: Broker,
    pub(crate) store: Store,
}

/// An uplink and the queue that it reads.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct UplinkQueue {
    pub(crate) uplink: Uplink,
    /// None until the broker has its session.
    pub(crate) queue: Option<Queue>,
}

impl Snapshot {
    /// Takes the board as it is now; a part that has ended is as it last was.
    pub(crate) fn take(board: &Board) -> Self {
        let broker = board.broker.borrow().clone();
        let join = |uplink: Uplink| {
            let session = uplink_session(&uplink.name);
            let queue = broker.queues.iter().find(|queue| *queue.session == *session).cloned();
            UplinkQueue { uplink, queue }
        };
        Self {
            now: Moment::now(),
            gateway: board.gateway.clone(),
            clock: board.clock.borrow().clone(),
            buses: board.buses.iter().map(|bus| bus.borrow().clone()).collect(),
            points: board.points.borrow().clone(),
            uplinks: board.uplinks.iter().map(|uplink| join(uplink.borrow().clone())).collect(),
            broker,
            store: board.store.borrow().clone(),
        }
    }

    /// The queues that no uplink reads: those of clients nearby.
    pub(crate) fn client_queues(&self) -> impl Iterator<Item = &Queue> {
        let of_uplink =
            |queue: &Queue| self.uplinks.iter().any(|u| u.queue.as_ref().is_some_and(|q| q.session == queue.session));
        self.broker.queues.iter().filter(move |queue| !of_uplink(queue))
    }
}

/// Whether any part has reported since this was last asked. A part that has ended counts as changed: its last
/// report may not have been seen.
pub(crate) fn changed(board: &mut Board) -> bool {
    fn one<T>(receiver: &mut tokio::sync::watch::Receiver<T>) -> bool {
        let changed = receiver.has_changed().unwrap_or(true);
        receiver.mark_unchanged();
        changed
    }
    // Each has to be asked: no short cut.
    let mut any = one(&mut board.clock) | one(&mut board.points) | one(&mut board.broker) | one(&mut board.store);
    for bus in &mut board.buses {
        any |= one(bus);
    }
    for uplink in &mut board.uplinks {
        any |= one(uplink);
    }
    any
}
