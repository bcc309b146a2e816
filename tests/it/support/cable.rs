//! The way to a server, which can go wrong in the ways that lines do: the server itself stays as it is, and loses nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::port;

/// What becomes of the bytes in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Flow {
    /// They arrive at once.
    Free,
    /// They stay where they are until the flow changes: the sender's buffers fill up.
    Held,
    /// They are taken, and go nowhere. A connection that has lost bytes is reset when the flow changes.
    Swallowed,
    /// They arrive at so many bytes a second.
    Slow(u32),
    /// They arrive in order, each after a time between these two.
    Late(Duration, Duration),
}

/// How a cable is, in both directions, and how often it was shaken.
#[derive(Clone, Copy, Debug)]
struct Condition {
    up: Flow,
    down: Flow,
    resets: u32,
}

/// A port that leads to a server's port.
#[derive(Debug)]
pub struct Cable {
    port: u16,
    server: u16,
    condition: watch::Sender<Condition>,
    /// Connections that the server took.
    carried: watch::Sender<u32>,
    relay: Option<JoinHandle<()>>,
}

impl Cable {
    /// One that is whole.
    pub async fn to(server: u16) -> Self {
        let condition = Condition { up: Flow::Free, down: Flow::Free, resets: 0 };
        let (condition, carried) = (watch::Sender::new(condition), watch::Sender::new(0));
        let mut cable = Self { port: port::free(), server, condition, carried, relay: None };
        cable.mend().await;
        cable
    }

    /// The port at this end.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections have led to the server so far.
    pub fn connections(&self) -> u32 {
        *self.carried.borrow()
    }

    /// Resets all connections, with what is on its way in them; new ones are refused.
    pub async fn cut(&mut self) {
        if let Some(relay) = self.relay.take() {
            relay.abort();
            let _ = relay.await;
        }
    }

    /// Lets new connections through again.
    pub async fn mend(&mut self) {
        self.cut().await;
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        let relay = relay(listener, self.server, self.condition.subscribe(), self.carried.clone());
        self.relay = Some(tokio::spawn(relay));
    }

    /// Sets what becomes of the bytes from the client (`up`) and of those from the server (`down`), in connections that
    /// are there and in those that come.
    pub fn set(&self, up: Flow, down: Flow) {
        self.condition.send_modify(|condition| (condition.up, condition.down) = (up, down));
    }

    /// Resets all connections; new ones are let through.
    pub fn reset(&self) {
        self.condition.send_modify(|condition| condition.resets += 1);
    }
}

async fn relay(listener: TcpListener, server: u16, condition: watch::Receiver<Condition>, carried: watch::Sender<u32>) {
    let mut connections = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let (mut resets, carried) = (condition.clone(), carried.clone());
        let condition = condition.clone();
        connections.spawn(async move {
            let before = resets.borrow_and_update().resets;
            let Ok(far) = TcpStream::connect(("127.0.0.1", server)).await else { return };
            carried.send_modify(|n| *n += 1);
            for end in [&near, &far] {
                end.set_nodelay(true).unwrap();
            }
            // Ended by being dropped, each side sees a reset. The far one too: it gets no end that was not sent.
            near.set_zero_linger().unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            let up = carry(near_in, far_out, condition.clone(), |condition| condition.up);
            let down = carry(far_in, near_out, condition, |condition| condition.down);
            tokio::select! {
                _ = async { tokio::try_join!(up, down) } => {}
                _ = resets.wait_for(|now| now.resets != before) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Bytes are missing: the rest would be read as if nothing had been before it.
struct Lost;

/// Carries bytes until their end.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut condition: watch::Receiver<Condition>,
    direction: fn(&Condition) -> Flow,
) -> Result<(), Lost> {
    // What is on its way, and when it arrives.
    let (out, mut way) = mpsc::channel::<(Instant, Vec<u8>)>(10_000);
    let read = async move {
        let (mut bytes, mut due, mut lost) = ([0; 4096], Instant::now(), false);
        loop {
            let flow = direction(&condition.borrow_and_update());
            if lost && flow != Flow::Swallowed {
                return Err(Lost);
            }
            let most = if let Flow::Slow(rate) = flow { (rate / 20).clamp(1, 4096) as usize } else { bytes.len() };
            let read = tokio::select! {
                read = from.read(&mut bytes[..most]), if flow != Flow::Held => read,
                _ = condition.changed() => continue,
            };
            if flow == Flow::Swallowed && !matches!(read, Ok(1..)) {
                // The end goes nowhere, either.
                let _ = condition.changed().await;
                return Err(Lost);
            }
            let Ok(read @ 1..) = read else { return Ok(()) };
            match flow {
                Flow::Swallowed => {
                    lost = true;
                    continue;
                }
                Flow::Slow(rate) => sleep(Duration::from_secs(1) * read as u32 / rate).await,
                Flow::Late(least, most) => {
                    let millis = least.as_millis() as u64..=most.as_millis() as u64;
                    due = due.max(Instant::now() + Duration::from_millis(fastrand::u64(millis)));
                }
                Flow::Free | Flow::Held => {}
            }
            if out.send((due, bytes[..read].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = way.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return Ok(());
            }
        }
        let _ = to.shutdown().await;
        Ok(())
    };
    tokio::try_join!(read, write).map(|_| ())
}

impl Drop for Cable {
    fn drop(&mut self) {
        if let Some(relay) = &self.relay {
            relay.abort();
        }
    }
}
