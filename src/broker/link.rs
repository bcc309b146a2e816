//! One side of a connection to the router.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::mailbox;
use super::session::LinkId;
use super::task::Input;
use super::traffic::Traffic;
use crate::mqtt::Packet;

/// A connection reports what it has taken in steps of this many bytes.
const REPORT_BYTES: usize = 64 << 10;

/// One side of a connection to the router, without a wire: what a client's task, an uplink or the gateway holds.
///
/// It begins with a [`Packet::Connect`] and a [`Packet::ConnAck`], like any MQTT connection. Dropping it without a
/// [`Packet::Disconnect`] is a lost connection.
#[derive(Debug)]
pub struct Link {
    id: LinkId,
    inputs: mpsc::Sender<Input>,
    packets: mailbox::Receiver,
    /// Bytes of messages received and not yet reported.
    taken: usize,
    /// Where a client's packets are counted.
    traffic: Option<Arc<Traffic>>,
}

impl Link {
    pub(super) fn new(
        id: LinkId,
        inputs: mpsc::Sender<Input>,
        packets: mailbox::Receiver,
        traffic: Option<Arc<Traffic>>,
    ) -> Self {
        Self { id, inputs, packets, taken: 0, traffic }
    }

    /// Sends packets to the router, in order; waits while the router is behind. False when it has stopped.
    pub async fn send(&self, packets: Vec<Packet>) -> bool {
        if let Some(traffic) = &self.traffic {
            traffic.came(&packets);
        }
        self.inputs.send(Input::Packets(self.id, packets)).await.is_ok()
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
