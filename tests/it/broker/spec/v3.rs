//! MQTT 3.1.1, statement by statement; docs/mqtt-3.1.1.md is the table.

mod connack;
mod connect;
mod delivery;
mod format;
mod identity;
mod publish;
mod retained;
mod session;
mod subscribe;
mod topics;
mod unsubscribe;
mod violation;
mod websocket;
mod will;

use std::ops::RangeInclusive;

use super::table;

/// The normative statements of the OASIS Standard of 29 October 2014, appendix B: the section, and the numbers that it has.
const NUMBERS: &[(&str, RangeInclusive<usize>)] = &[
    ("1.5.3", 1..=3),
    ("2.2.2", 1..=2),
    ("2.3.1", 1..=7),
    ("3.1.0", 1..=2),
    ("3.1.2", 1..=24),
    ("3.1.3", 1..=11),
    ("3.1.4", 1..=5),
    ("3.2.0", 1..=1),
    ("3.2.2", 1..=6),
    ("3.3.1", 1..=12),
    ("3.3.2", 1..=3),
    ("3.3.4", 1..=1),
    ("3.3.5", 1..=2),
    ("3.6.1", 1..=1),
    ("3.8.1", 1..=1),
    ("3.8.3", 1..=4),
    ("3.8.4", 1..=6),
    ("3.9.3", 1..=2),
    ("3.10.1", 1..=1),
    ("3.10.3", 1..=2),
    ("3.10.4", 1..=6),
    ("3.12.4", 1..=1),
    ("3.14.1", 1..=1),
    ("3.14.4", 1..=3),
    ("4.1.0", 1..=2),
    ("4.3.1", 1..=1),
    ("4.3.2", 1..=2),
    ("4.3.3", 1..=2),
    ("4.4.0", 1..=1),
    ("4.5.0", 1..=2),
    ("4.6.0", 1..=6),
    ("4.7.1", 1..=3),
    ("4.7.2", 1..=1),
    ("4.7.3", 1..=4),
    ("4.8.0", 1..=2),
    ("6.0.0", 1..=4),
    ("7.0.0", 1..=2),
    ("7.1.1", 1..=1),
    ("7.1.2", 1..=1),
];

#[test]
fn the_table_has_every_statement_and_every_test() {
    table::check("docs/mqtt-3.1.1.md", "tests/it/broker/spec/v3", NUMBERS);
}
