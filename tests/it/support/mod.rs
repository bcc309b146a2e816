//! The peers that tests talk to, each a process of its own, and what it takes to start, disturb and end them.
#![allow(dead_code, reason = "the harness is whole; how much of it is in use changes with the tests")]

pub mod authority;
pub mod broker;
pub mod cable;
pub mod compiled;
pub mod faults;
pub mod browser;
pub mod gateway;
pub mod line;
pub mod mail;
pub mod modbus;
pub mod node;
pub mod port;
pub mod process;
pub mod python;
pub mod rabbit;
pub mod status;
pub mod watcher;

pub use authority::Authority;
pub use broker::Mosquitto;
pub use browser::Browser;
pub use cable::Cable;
pub use faults::Faults;
#[allow(unused_imports, reason = "as above")]
pub use gateway::Gateway;
pub use line::Line;
pub use mail::{Collector, Load};
pub use modbus::{ModbusClient, ModbusServer};
pub use process::Process;
pub use rabbit::RabbitCluster;
pub use watcher::Watcher;
