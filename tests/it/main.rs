//! Tests against real peers; `./tests/run` prepares them. One program, so that it is linked once.

mod cli;
mod config;
mod support;

mod peers;
mod simulator;
mod install;
