//! The broker of the program that users run, against clients that others have written: Mosquitto's, paho's and more.

mod access;
mod clients;
mod delivery;
mod durable;
mod five;
mod fuzz;
mod hostile;
mod interop;
mod leaks;
mod limits;
mod listeners;
mod mosquitto;
mod paho;
mod raw;
mod reload;
mod sessions;
mod shares;
mod spec;
mod sys;
mod ways;
