//! Tests against real peers; `./tests/run` prepares them. One program, so that it is linked once.

mod cli;
mod config;
mod support;

mod broker;
mod bus;
mod peers;
mod readme;
mod simulator;
mod install;
mod uplink;
mod bridge;
mod outage;
mod replay;
mod clock;
mod room;
mod cluster;
mod clouds;
mod store_cli;
mod end_to_end;

mod architecture;
mod bad_input;
mod demo;
mod page;
