//! The broker against the OASIS standards: one test for each normative statement that a server can violate, named by
//! its number, over a socket of its own against the program that users run. Which statement is tested where, and why
//! others are not, stands in a table beside the tests.

mod behaviour5;
mod bytes5;
mod scope5;
mod table5;
mod v5;
