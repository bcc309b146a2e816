//! Where clients connect: ports for TCP, TLS and WebSocket, and a task for each connection.
//!
//! The way of a client: [`Listeners`] accept it, its [`connection`] takes it through [`tls`] and the [`upgrade`] to a
//! [WebSocket](crate::websocket) as far as the listener's [`config`] wants, waits for CONNECT in the room for that ([`waiting`]), and asks
//! the [`door`] who it is; then it [carries](carry) its packets. What holds over all listeners is in the [`house`].

mod addresses;
mod carry;
mod certificate;
pub mod config;
mod connection;
pub mod door;
mod house;
mod life;
mod tls;
mod upgrade;
mod waiting;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Broker;
use crate::mqtt::wire::Error;
use config::Config;
use connection::Connection;
use door::{Door, Doors};
use house::House;

/// Where clients connect, as they would write it: `mqtts://0.0.0.0:8883`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub scheme: &'static str,
    pub socket: SocketAddr,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.socket)
    }
}

/// All ports of a broker, bound and not yet served.
#[derive(Debug)]
pub struct Listeners {
    listeners: Vec<Listener>,
    house: Arc<House>,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    address: Address,
    config: Arc<Config>,
    door: watch::Sender<Door>,
}

impl Listeners {
    /// Binds all that `config` lists, with [`Door::all`] of the same config.
    ///
    /// # Errors
    /// When a port is in use, may not be used, or the address is not this machine's; the text names it.
    pub async fn bind(config: &super::Config, doors: Vec<Door>) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for (n, (listener, door)) in config.listeners().into_iter().zip(doors).enumerate() {
            let is_plain = n == 0 && !config.listen.is_empty();
            let section = if is_plain { "[broker]" } else { "its [[broker.listener]]" };
            listeners.push(Listener::bind(listener, door, section).await?);
        }
        Ok(Self { listeners, house: Arc::new(House::new(config)) })
    }

    /// The addresses that are bound.
    pub fn addresses(&self) -> Vec<Address> {
        self.listeners.iter().map(|listener| listener.address).collect()
    }

    /// The doors of all of them, to be replaced at a reload.
    pub fn doors(&self) -> Doors {
        Doors(self.listeners.iter().map(|listener| listener.door.clone()).collect())
    }

    /// Serves clients until `stop`.
    pub async fn run(self, broker: Broker, stop: CancellationToken) {
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(listener.run(broker.clone(), self.house.clone(), stop.clone()));
        }
        stop.cancelled().await;
        while accepting.join_next().await.is_some() {}
    }
}

impl Listener {
    async fn bind(config: Config, door: Door, section: &str) -> io::Result<Self> {
        let socket = TcpListener::bind(&config.listen).await.map_err(|e| {
            let advice = match e.kind() {
                io::ErrorKind::AddrInUse => "another program (another MQTT broker?) has this port".to_owned(),
                io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege".to_owned(),
                _ => format!("set `listen` in {section} to an address of this machine"),
            };
            io::Error::new(e.kind(), format!("the broker cannot listen on {}: {e}; {advice}", config.listen))
        })?;
        let address = Address { scheme: config.scheme(), socket: socket.local_addr()? };
        Ok(Self { socket, address, config: Arc::new(config), door: watch::Sender::new(door) })
    }

    async fn run(self, broker: Broker, house: Arc<House>, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.accept(stream, peer, &broker, &house),
                Err(e) => {
                    // Out of file descriptors, mostly: those who are connected go on, new ones wait.
                    house.complaints.say(&format!("the broker cannot accept a connection: {e}"));
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Gives the connection its task: whatever happens there, a panic as well, ends this connection only.
    fn accept(&self, stream: TcpStream, peer: SocketAddr, broker: &Broker, house: &Arc<House>) {
        if !house.addresses.may_connect(peer.ip()) {
            house.complaints.say(&format!("{peer} was turned away: too many connections come from its address"));
            return;
        }
        let connection = Connection {
            peer,
            broker: broker.clone(),
            house: house.clone(),
            door: self.door.subscribe(),
            config: self.config.clone(),
        };
        // Here and not in its task: tasks begin in any order, and the one that came first is to make place.
        let place = house.room.enter(peer.ip());
        let house = house.clone();
        tokio::spawn(async move {
            match connection.serve(stream, place).await {
                Ok(()) => {}
                Err(e @ Error::Bad(..)) => house.complaints.say(&format!("{peer} was cut off: {e}")),
                Err(Error::Io(e)) if e.kind() == io::ErrorKind::InvalidData => {
                    house.complaints.say(&format!("{peer} was cut off: {e}"));
                }
                Err(e) => tracing::debug!("{peer}: {e}"),
            }
        });
    }
}
