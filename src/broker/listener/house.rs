//! What is behind all doors: the limits that hold over all listeners together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::addresses::Addresses;
use super::waiting::WaitingRoom;
use crate::broker::Config;
use crate::broker::complaints::Complaints;

/// The limits, and what they count.
#[derive(Debug)]
pub(super) struct House {
    /// A permit for each client that may be in at the same time.
    pub clients: Arc<Semaphore>,
    pub room: Arc<WaitingRoom>,
    pub addresses: Addresses,
    pub complaints: Complaints,
    pub max_packet: u32,
    /// How long each handshake may take: TLS, HTTP, CONNECT.
    pub connect_timeout: Duration,
    /// In seconds.
    pub max_keep_alive: Option<u16>,
}

impl House {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            clients: Arc::new(Semaphore::new(config.max_clients.into())),
            room: WaitingRoom::new(config.max_waiting.into()),
            addresses: Addresses::new(config.connection_rate),
            complaints: Complaints::default(),
            max_packet: u32::try_from(config.max_packet.0).unwrap_or(u32::MAX),
            connect_timeout: config.connect_timeout.0,
            max_keep_alive: config.max_keep_alive.map(|period| u16::try_from(period.0.as_secs()).unwrap_or(u16::MAX)),
        }
    }
}
