//! Packets from the router on their way to one link: what has gathered is taken at once.
//!
//! There is one for each client, idle ones included: it is a list, a waker and a lock, a tenth of a channel's memory. How
//! much gathers is bounded by who fills it (the router, which sends to those who ask for more only).

use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::mqtt::Packet;

/// A mailbox: the side of the router and the side of the link. Either is told, by [`Receiver::recv`] or by nothing more
/// being kept, when the other is dropped.
pub(super) fn mailbox() -> (Sender, Receiver) {
    let mailbox = Arc::new(Mailbox::default());
    (Sender(mailbox.clone()), Receiver(mailbox))
}

/// Who fills it.
#[derive(Debug)]
pub(super) struct Sender(Arc<Mailbox>);

/// Who empties it.
#[derive(Debug)]
pub(super) struct Receiver(Arc<Mailbox>);

#[derive(Debug, Default)]
struct Mailbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    packets: Vec<Packet>,
    /// One side is gone.
    closed: bool,
    waiting: Option<Waker>,
}

impl Sender {
    /// Adds packets behind those that wait.
    pub(super) fn send(&self, mut packets: Vec<Packet>) {
        let mut state = self.0.lock();
        if state.closed {
            return;
        }
        if state.packets.is_empty() {
            state.packets = packets;
        } else {
            state.packets.append(&mut packets);
        }
        let waiting = state.waiting.take();
        drop(state);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

impl Receiver {
    /// All packets that wait, at least one; `None` when there are none and none will come. Cancel safe.
    pub(super) async fn recv(&mut self) -> Option<Vec<Packet>> {
        poll_fn(|context| {
            let mut state = self.0.lock();
            if !state.packets.is_empty() {
                return Poll::Ready(Some(mem::take(&mut state.packets)));
            }
            if state.closed {
                return Poll::Ready(None);
            }
            match &mut state.waiting {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.lock();
            state.closed = true;
            state.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        // Dropped behind the lock: messages may be large.
        let packets = mem::take(&mut state.packets);
        drop(state);
        drop(packets);
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_gathers_comes_at_once_and_in_order() {
        let (sender, mut receiver) = mailbox();
        sender.send(vec![Packet::PingReq]);
        sender.send(vec![Packet::PingResp, Packet::PingReq]);
        assert_eq!(receiver.recv().await, Some(vec![Packet::PingReq, Packet::PingResp, Packet::PingReq]));
        sender.send(vec![Packet::PingResp]);
        assert_eq!(receiver.recv().await, Some(vec![Packet::PingResp]));
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_packets_and_by_the_end() {
        let (sender, mut receiver) = mailbox();
        let waiting = tokio::spawn(async move {
            let mut received = Vec::new();
            while let Some(packets) = receiver.recv().await {
                received.extend(packets);
            }
            received
        });
        tokio::task::yield_now().await;
        sender.send(vec![Packet::PingReq]);
        tokio::task::yield_now().await;
        sender.send(vec![Packet::PingResp]);
        drop(sender);
        assert_eq!(waiting.await.unwrap(), [Packet::PingReq, Packet::PingResp], "the last ones come before the end");
    }

    #[tokio::test]
    async fn nothing_is_kept_for_a_link_that_is_gone() {
        let (sender, receiver) = mailbox();
        let mailbox = receiver.0.clone();
        sender.send(vec![Packet::PingReq]);
        drop(receiver);
        sender.send(vec![Packet::PingReq]);
        assert!(mailbox.lock().packets.is_empty());
    }
}
