//! Fieldpost: sensors on wires to topics in a broker, and on to a cloud, with nothing lost on the way.
//!
//! ```text
//!  wires                                   the broker: one router, one guarantee                              clouds
//!    │                    Message    ┌────────────────────────────────────────────────┐                         ▲
//! ┌──┴─────┐  Reading  ┌─────────┐   │  topics ─▶ live sessions ──▶ clients nearby    │   window of N in flight ┌──┴─────┐
//! │ Poller ├──────────▶│ mapping ├──▶│         ─▶ durable sessions ─▶ Store (SQLite) ─┼────────────────────────▶│ Uplink │
//! │ 1/bus  │◀──────────┤ (pure)  │   │         ─▶ retained          ◀── acks ─────────┼◀────────────────────────┤ 1/cloud│
//! └────────┘  Command  └─────────┘   └───────▲────────────────────────────────────────┘                         └────────┘
//!                                            │ TCP, TLS, WebSocket: clients nearby publish and subscribe
//!                  every part ── status (watch) ──▶ page and API
//!        `fieldpost store …` ── control (Unix socket) ──▶ the broker
//! ```
//!
//! Invariants (a test holds the arrows):
//! - [`bus`] knows no topic, no MQTT and no SQL; [`broker`] and [`uplink`] know no register and no device.
//! - [`admin`] sees what parts report in [`status`], never a part.
//! - No part names [`config`] or [`gateway`]; those two compose the parts.
//! - The broker's router is one owner of all sessions and has no `async`: events in, effects out.
//! - SQL stands in [`store`] only, the MQTT codec in [`mqtt`] only.

#![deny(unsafe_code)]

// The nouns that cross every border. Pure.
pub mod backoff;
pub mod clock;
pub mod message;
pub mod rate;
pub mod reading;
pub mod record;
pub mod secret;
pub mod status;
pub(crate) mod tls;
pub mod trail;
pub mod units;
pub(crate) mod websocket;

// The parts, along the way of a reading.
pub mod bus;
pub mod mapping;
pub mod mqtt;
pub mod broker;
pub mod store;
pub mod uplink;
pub mod admin;
pub mod control;
pub mod simulator;

// The whole.
pub mod cli;
pub mod config;
pub mod gateway;
