//! What no part can see alone: addresses that the world reaches, buses asked for more than they carry, units met twice.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::device::Resolved;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::section::{Name, Section};
use super::source::Span;
use crate::broker::access::{Users, UsersError};
use crate::bus::modbus::plan;
use crate::bus::{self, Source, link};
use crate::mqtt::topic;

/// Tells of a `listen` that is no address, and of one beyond this machine that is not `guarded`.
pub(super) fn listen(section: &Section<'_>, guarded: bool, missing: &str, help: &str, out: &mut Diagnostics) {
    for (text, span) in section.texts("listen") {
        match is_loopback(text) {
            None => {
                let help = "write an address and a port, as in \"127.0.0.1:1883\" or \"[::]:1883\"".to_owned();
                out.push(Diagnostic::error(format!("`{text}` is no address to listen on")).at(span).help(help));
            }
            Some(false) if !guarded => {
                let why = format!("{text} is reached from beyond this machine, and `{missing}` is not set");
                out.push(Diagnostic::error(why).at(span).help(help.to_owned()));
            }
            Some(_) => {}
        }
    }
}

/// Looks through `[broker]`: who may come in where, and the files that say so.
pub(super) fn broker(section: &Section<'_>, folder: &Path, out: &mut Diagnostics) {
    let help = "set `users` to a file made with `fieldpost user add`; or write anonymous = \"always\", when everybody \
                who reaches it may do everything; or listen on 127.0.0.1 only";
    let users = section.has("users");
    let nobody = |part: &Section<'_>, out: &mut Diagnostics| {
        for (_, span) in part.texts("anonymous").into_iter().filter(|(who, _)| *who == "never" && !users) {
            let why = "nobody could connect: no user name is no way in, and there is no list of `users`";
            out.push(Diagnostic::error(why).at(span).help(help.to_owned()));
        }
    };
    let open = |part: &Section<'_>| part.texts("anonymous").first().is_some_and(|(who, _)| *who == "always");
    if section.texts("listen").iter().all(|(text, _)| !text.is_empty()) {
        listen(section, users || open(section), "users", help, out);
        nobody(section, out);
    }
    addresses(section, out);
    rules(section, out);
    nameless(section, users, out);
    for part in section.parts("listener") {
        let tls = part.part("tls");
        let has = |key| tls.as_ref().is_some_and(|tls| tls.is_true(key));
        let certified = has("require-certificate") || has("user-from-certificate");
        let all = open(&part) || open(section) && !part.has("anonymous");
        listen(&part, users || certified || all, "users", help, out);
        if !certified {
            nobody(&part, out);
        }
        for (_, span) in part.texts("origins").into_iter().filter(|_| !part.is_true("websocket")) {
            let why = "`origins` is about pages in browsers, which come over WebSocket only";
            out.push(Diagnostic::error(why).at(span).help("add websocket = true, or take `origins` away".to_owned()));
        }
        for key in ["certificate", "key", "clients"] {
            files(part.text_within("tls", key), folder, out);
        }
    }
    files(section.texts("users"), folder, out);
    for (file, span) in section.texts("users") {
        if let Err(why @ UsersError::Line(..)) = Users::load(&folder.join(file)) {
            out.push(Diagnostic::error(why.to_string()).at(span.clone()));
        }
        if !section.has("acl") {
            let help = "say who may do what with [[broker.acl]]; read = [\"#\"] and write = [\"#\"] allow every user everything";
            let why = "there are users and no rule: they may connect, and neither read nor write anything";
            out.push(Diagnostic::warning(why).at(span).help(help.to_owned()));
        }
    }
}

/// Tells of an address at which two listeners would be.
fn addresses(section: &Section<'_>, out: &mut Diagnostics) {
    let parts = section.parts("listener");
    let all = section.texts("listen").into_iter().chain(parts.iter().flat_map(|part| part.texts("listen")));
    let mut before: Vec<(&str, Span)> = Vec::new();
    for (text, span) in all.filter(|(text, _)| !text.is_empty()) {
        if let Some((_, first)) = before.iter().find(|(other, _)| collide(text, other)) {
            let why = format!("two listeners cannot both have {text}");
            let help = "give each a port of its own".to_owned();
            out.push(Diagnostic::error(why).at(span.clone()).mark(first.clone(), "first here").help(help));
        }
        before.push((text, span));
    }
}

/// Whether only one of two can be listened on: the same, or one is all addresses, and the other one of them.
fn collide(one: &str, other: &str) -> bool {
    match (one.parse::<SocketAddr>(), other.parse::<SocketAddr>()) {
        (Ok(a), Ok(b)) if a.port() == b.port() && a.port() != 0 => {
            a.ip() == b.ip() || a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified())
        }
        (Ok(_), Ok(_)) => false,
        _ => one == other && !one.ends_with(":0"),
    }
}

/// Tells of rules whose filters are none.
fn rules(section: &Section<'_>, out: &mut Diagnostics) {
    for rule in section.parts("acl") {
        for (filter, span) in ["read", "write"].into_iter().flat_map(|key| rule.texts(key)) {
            let filled = filter.replace("%u", "user").replace("%c", "client");
            if let Err(why) = topic::check_filter(&filled) {
                let help =
                    "`+` stands for one level, `#` for all that follow, and each is alone in its level".to_owned();
                out.push(Diagnostic::error(format!("`{filter}` is no topic filter: {why}")).at(span).help(help));
            } else if filled.contains('%') {
                let why = format!("`{filter}` has a % that stands for nothing: there are %u (user) and %c (client id)");
                out.push(Diagnostic::warning(why).at(span));
            }
        }
    }
}

/// Tells of rules that go by a user's name where nobody has one that is checked.
fn nameless(section: &Section<'_>, users: bool, out: &mut Diagnostics) {
    let names = |part: Section<'_>| part.part("tls").is_some_and(|tls| tls.is_true("user-from-certificate"));
    if users || section.parts("listener").into_iter().any(names) {
        return;
    }
    for rule in section.parts("acl") {
        let filters = ["read", "write"].into_iter().flat_map(|key| rule.texts(key));
        let by_name = filters.filter(|(filter, _)| filter.contains("%u"));
        for (_, span) in rule.texts("user").into_iter().chain(by_name) {
            let why = "this is never allowed to anybody: nothing checks user names, so nobody has one";
            let help = "set `users` to a file made with `fieldpost user add`, or user-from-certificate = true in the \
                        `tls` of a listener";
            out.push(Diagnostic::error(why).at(span).help(help.to_owned()));
        }
    }
}

/// Whether an address is reached from this machine only; none when it is no address.
pub(crate) fn is_loopback(listen: &str) -> Option<bool> {
    if let Ok(address) = listen.parse::<SocketAddr>() {
        return Some(match address.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(ip.is_loopback(), |ip| ip.is_loopback()),
        });
    }
    let (host, port) = listen.rsplit_once(':')?;
    let is_name = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    (is_name && port.parse::<u16>().is_ok()).then_some(host == "localhost")
}

/// Warns of files that are not there yet: they may be elsewhere while the config is written.
pub(super) fn files<'a>(named: impl IntoIterator<Item = (&'a str, Span)>, folder: &Path, out: &mut Diagnostics) {
    for (file, span) in named {
        if !folder.join(file).exists() {
            let why = format!("{} is not there yet", folder.join(file).display());
            out.push(Diagnostic::warning(why).at(span));
        }
    }
}

/// Warns of a point that two devices with the same unit read.
pub(super) fn units(devices: &[Resolved], out: &mut Diagnostics) {
    for (n, one) in devices.iter().enumerate() {
        for other in &devices[..n] {
            if one.bus != other.bus || one.device.unit != other.device.unit {
                continue;
            }
            let both = one.device.points.iter().find(|point| {
                let same = |p: &&bus::Point| p.source == point.source && matches!(p.source, Source::Modbus { .. });
                other.device.points.iter().any(|p| same(&p))
            });
            if let Some(point) = both {
                let why = format!("two devices are unit {} and read the same registers", one.device.unit);
                out.push(
                    Diagnostic::warning(why)
                        .mark(one.place.clone(), format!("`{}` reads `{}`", one.device.name, point.name))
                        .mark(other.place.clone(), format!("so does `{}`", other.device.name)),
                );
            }
        }
    }
}

/// Warns of buses that are asked for more than they carry.
pub(super) fn loads(buses: &[(bus::Bus, Name)], out: &mut Diagnostics) {
    for (bus, name) in buses {
        if let Some(load) = load(bus).filter(|load| *load > 1.0) {
            let why = format!("bus `{}` is asked for {:.0} % of what its line carries", bus.name, load * 100.0);
            let help = "raise `every`, lower the number of points (`only`), or raise `baud`".to_owned();
            out.push(Diagnostic::warning(why).at(name.span()).help(help));
        }
    }
}

/// The part of a serial line's time that its requests take, the devices' own time aside; none where there is no line.
pub(crate) fn load(bus: &bus::Bus) -> Option<f64> {
    let link::Config::ModbusRtu(serial) = &bus.link else { return None };
    let character = Duration::from_secs(1) * u32::from(serial.bits()) / serial.baud;
    Some(plan::load(&bus.devices.iter().flat_map(plan::plan).collect::<Vec<_>>(), character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_which_addresses_collide() {
        for (one, other) in [
            ("127.0.0.1:1883", "127.0.0.1:1883"),
            ("0.0.0.0:1883", "127.0.0.1:1883"),
            ("[::]:1883", "[::1]:1883"),
            ("plant:1883", "plant:1883"),
        ] {
            assert!(collide(one, other) && collide(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("127.0.0.1:1883", "127.0.0.2:1883"),
            ("127.0.0.1:1883", "127.0.0.1:1884"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("localhost:0", "localhost:0"),
        ] {
            assert!(!collide(one, other), "{one} {other}");
        }
    }

    #[test]
    fn knows_what_the_world_reaches() {
        for here in ["127.0.0.1:1883", "[::1]:80", "localhost:1", "127.9.9.9:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(is_loopback(here), Some(true), "{here}");
        }
        for world in ["0.0.0.0:1883", "[::]:1883", "192.168.1.2:1", "plant:1883", "[::ffff:1.2.3.4]:1"] {
            assert_eq!(is_loopback(world), Some(false), "{world}");
        }
        for none in ["", ":1883", "1883", "127.0.0.1", "127.0.0.1:99999", "a b:1", "[::1:80"] {
            assert_eq!(is_loopback(none), None, "{none}");
        }
    }
}
