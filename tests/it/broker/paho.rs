//! Clients on paho-mqtt.

pub use super::clients::{Clients as Paho, numbers};
