//! The local MQTT broker: one router that owns every session, and the tasks around it.
//!
//! [`router`] is pure and synchronous: events in, effects out. [`Broker`] runs it in one task, feeds it what
//! [`listener`] and the store say, and carries its effects out. Clients nearby, the uplinks and the gateway itself all
//! speak to it over a [`Link`], in the same packets: there is one kind of session and one kind of queue.

use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::mpsc;

use crate::mqtt::Packet;

/// `[broker]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where clients connect.
    pub listen: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: "127.0.0.1:1883".into() }
    }
}

/// A running broker; clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Broker {
    _private: (),
}

/// One side of a connection to the router, without a wire: what a client task, an uplink or the gateway holds.
///
/// It begins with a [`Packet::Connect`] and a [`Packet::ConnAck`], like any MQTT connection. Dropping it without a
/// [`Packet::Disconnect`] is a lost connection.
#[derive(Debug)]
pub struct Link {
    _private: (),
}

impl Broker {
    /// A new connection, trusted: it is not asked for user and password, and `$` topics are open to it.
    pub fn link(&self, _name: Arc<str>) -> Link {
        todo!()
    }
}

impl Link {
    /// Sends packets to the router, in order; waits while the router is behind.
    /// False when the broker has stopped.
    pub async fn send(&self, _packets: Vec<Packet>) -> bool {
        todo!()
    }

    /// The next packets from the router; `None` once the router has closed this connection (taken over, stopped).
    /// Cancel safe.
    pub async fn recv(&mut self) -> Option<Vec<Packet>> {
        let _: Option<mpsc::Receiver<()>> = None;
        todo!()
    }
}
