//! Holds `config/fieldpost.toml`, the reference, to the code: all of it works, its defaults are the code's, and it
//! names every key.

use std::path::Path;

use super::Config;
use super::section::keys_of;
use crate::bus::{point, profile};
use crate::{admin, broker, control, store, uplink};

const REFERENCE: &str = include_str!("../../config/fieldpost.toml");

/// The reference with those settings taken out of their comments that `wanted` wants.
fn uncommented(wanted: impl Fn(&str) -> bool) -> String {
    let setting = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line != "#";
    let lines = REFERENCE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if setting(line) && wanted(rest) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What a config says, without where it says it.
fn meaning(text: String) -> String {
    let c = Config::parse(Path::new("reference/fieldpost.toml"), text).unwrap_or_else(|e| panic!("{e}"));
    let parts = (c.gateway, c.buses, c.routes, c.points);
    format!("{parts:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}", c.broker, c.uplinks, c.store, (c.admin, c.control))
}

#[test]
fn as_it_is_it_says_nothing() {
    assert_eq!(meaning(REFERENCE.to_owned()), meaning(String::new()));
}

#[test]
fn every_setting_in_it_works() {
    let all = meaning(uncommented(|_| true));
    assert!(all.contains("plants/plant7/status") && all.contains("setpoint"), "{all}");
}

#[test]
fn its_defaults_are_those_of_the_code() {
    let is_default = |line: &str| line.ends_with("# default");
    let without = meaning(uncommented(|line| !is_default(line)));
    for default in REFERENCE.lines().filter(|line| is_default(line)) {
        // Each for itself, so that the one that differs is named.
        let one = uncommented(|line| !is_default(line) || default.strip_prefix('#') == Some(line));
        assert_eq!(meaning(one), without, "{default}");
    }
    assert!(REFERENCE.lines().filter(|line| is_default(line)).count() > 30);
}

#[test]
fn every_setting_is_marked() {
    for line in uncommented(|_| true).lines().filter(|line| line.contains('=') && !line.starts_with('#')) {
        assert!(line.ends_with("# default") || line.ends_with("# example"), "{line}");
    }
}

#[test]
fn it_names_all_the_profiles_that_come_along() {
    let (_, list) = REFERENCE.split_once("that come along: ").expect("it lists them");
    let (list, _) = list.split_once('.').expect("the list ends");
    let named: Vec<_> = list.split([',', ' ', '#', '\n']).filter(|name| !name.is_empty()).collect();
    assert_eq!(named, profile::SHIPPED.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}

#[test]
fn every_key_is_in_it() {
    let part = |header: &str| {
        let from = REFERENCE.find(&format!("\n#[{header}")).unwrap_or_else(|| panic!("no [{header}]"));
        let to = REFERENCE[from..].find("\n# ----").map_or(REFERENCE.len(), |to| from + to);
        &REFERENCE[from..to]
    };
    for (header, keys) in [
        ("gateway]", keys_of::<super::gateway::Keys>()),
        ("gateway]", keys_of::<super::route::Routing>()),
        ("device.meter]", keys_of::<super::device::Keys>()),
        ("device.meter]", keys_of::<profile::Defaults>()),
        ("device.tank]", keys_of::<point::Config>()),
        ("broker]", keys_of::<broker::Config>()),
        ("broker]", keys_of::<broker::access::Rule>()),
        ("broker]", keys_of::<broker::listener::config::Config>()),
        ("uplink.", keys_of::<uplink::Config>()),
        ("store]", keys_of::<store::Config>()),
        ("store]", keys_of::<store::class::Rule>()),
        ("admin]", keys_of::<admin::Config>()),
        ("control]", keys_of::<control::Config>()),
    ] {
        assert!(!keys.is_empty(), "[{header}");
        for key in keys.iter().filter(|key| !["acl", "class", "frame", "listener"].contains(key)) {
            assert!(part(header).contains(&format!("\n#{key} = ")), "`{key}` of [{header} is not in the reference");
        }
    }
}
