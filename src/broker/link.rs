//! One side of a connection to the router.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::mailbox;
use super::session::LinkId;
use super::task::Input;
use super::traffic::Traffic;
use crate::mqtt::Packet;

/// A connection reports what it has taken in steps of this many bytes.
const REPORT_BYTES: usize = 64 << 10;
/// Bytes of packets that wait for the router, from all links together.
pub(super) const WAITING_BYTES: usize = 8 << 20;

/// One side of a connection to the router, without a wire: what a client's task, an uplink or the gateway holds.
///
/// It begins with a [`Packet::Connect`] and a [`Packet::ConnAck`], like any MQTT connection. Dropping it without a
/// [`Packet::Disconnect`] is a lost connection.
#[derive(Debug)]
pub struct Link {
    id: LinkId,
    inputs: mpsc::Sender<Input>,
    /// A permit for each byte that may wait for the router.
    room: Arc<Semaphore>,
    packets: mailbox::Receiver,
    /// Bytes of messages received and not yet reported.
    taken: usize,
    /// Where a client's packets are counted.
    traffic: Option<Arc<Traffic>>,
}

impl Link {
    pub(super) fn new(
        id: LinkId,
        (inputs, room): (mpsc::Sender<Input>, Arc<Semaphore>),
        packets: mailbox::Receiver,
        traffic: Option<Arc<Traffic>>,
    ) -> Self {
        Self { id, inputs, room, packets, taken: 0, traffic }
    }

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
