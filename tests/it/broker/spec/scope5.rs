//! One gateway for many tests, and names of their own for each.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use tokio::sync::Mutex;

use super::bytes5::{Client, Connect, PINGREQ, Packet};
use crate::support::Gateway;

/// A test's place at the gateway: client ids and topics that nobody else uses.
pub struct Scope {
    gateway: Arc<Gateway>,
    name: String,
}

impl Scope {
    /// The gateway runs as long as any test uses it.
    pub async fn new() -> Self {
        static SHARED: Mutex<Weak<Gateway>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        let gateway = match shared.upgrade() {
            Some(gateway) => gateway,
            None => {
                // Acknowledgements wait for the disk, and there are many of them here.
                let gateway = Arc::new(Gateway::start("[store]\npath = \"@store@\"\ncommit = \"10ms\"\n").await);
                *shared = Arc::downgrade(&gateway);
                gateway
            }
        };
        Self::at(gateway)
    }

    /// A place at a gateway of one's own.
    pub fn at(gateway: Arc<Gateway>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Self { gateway, name: format!("s{}", COUNT.fetch_add(1, Ordering::Relaxed)) }
    }

    pub fn port(&self) -> u16 {
        self.gateway.mqtt_port()
    }

    /// A client id.
    pub fn id(&self, name: &str) -> String {
        format!("{}{name}", self.name)
    }

    /// A topic or a filter below this test's own.
    pub fn topic(&self, topic: &str) -> String {
        format!("{}/{topic}", self.name)
    }

    /// A connection on which nothing has been sent.
    pub async fn open(&self) -> Client {
        Client::open(self.port()).await
    }

    /// A CONNECT and what answers it.
    pub async fn connect(&self, connect: &Connect) -> (Client, Packet) {
        let mut client = self.open().await;
        client.send(connect.bytes()).await;
        let answer = client.next().await;
        (client, answer)
    }

    /// A connected client, and whether its session was present.
    pub async fn session(&self, connect: &Connect) -> (Client, bool) {
        match self.connect(connect).await {
            (client, Packet::ConnAck { present, reason: 0, .. }) => (client, present),
            (_, other) => panic!("not connected: {other:?}"),
        }
    }

    /// A connected client of this name, with a clean start.
    pub async fn client(&self, name: &str) -> Client {
        self.session(&Connect::new(&self.id(name))).await.0
    }

    /// A connected client of this name with a session that stays for a minute, and whether the session was present.
    pub async fn keeper(&self, name: &str) -> (Client, bool) {
        self.session(&Connect::keep(&self.id(name), 60)).await
    }

    /// The server closes a connection on which this is sent first, and never says yes.
    pub async fn refuses(&self, bytes: impl AsRef<[u8]>) {
        let mut client = self.open().await;
        client.send(bytes).await;
        while let Some(packet) = client.try_next().await {
            let refusal = matches!(packet, Packet::ConnAck { present: false, reason: 0x80.., .. });
            assert!(refusal, "not refused: {packet:?}");
        }
    }

    /// The server closes the connection of a client that sends this; a PINGREQ behind it is not answered.
    pub async fn cuts(&self, bytes: impl AsRef<[u8]>, reasons: &[u8]) {
        let mut client = self.client("cut").await;
        client.send([bytes.as_ref(), &PINGREQ].concat()).await;
        client.is_closed(reasons).await;
    }
}
