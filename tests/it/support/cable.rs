//! The way to a server, which can be cut: the server itself stays as it is, and loses nothing.

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::port;

/// A port that leads to a server's port.
#[derive(Debug)]
pub struct Cable {
    port: u16,
    server: u16,
    relay: Option<JoinHandle<()>>,
}

impl Cable {
    /// One that is whole.
    pub async fn to(server: u16) -> Self {
        let mut cable = Self { port: port::free(), server, relay: None };
        cable.mend().await;
        cable
    }

    /// The port at this end.
    pub fn port(&self) -> u16 {
        self.port
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
        self.relay = Some(tokio::spawn(relay(listener, self.server)));
    }
}

async fn relay(listener: TcpListener, server: u16) {
    let mut connections = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        near.set_zero_linger().unwrap();
        connections.spawn(async move {
            if let Ok(mut far) = TcpStream::connect(("127.0.0.1", server)).await {
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        if let Some(relay) = &self.relay {
            relay.abort();
        }
    }
}
