//! `[device.NAME]`: where a device hangs, what is read from it, and on which topics that goes.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::diagnostic::{Diagnostic, Diagnostics, did_you_mean};
use super::gateway;
use super::profiles::{Loaded, Profiles};
use super::route::Routing;
use super::section::{Name, Raw, Section};
use super::source::Span;
use crate::bus::point::{self, Surroundings};
use crate::bus::profile::Defaults;
use crate::bus::{self, link};
use crate::clock::Moment;
use crate::mapping::Route;
use crate::mapping::topic::Names;
use crate::reading::{Quality, Value};
use crate::status;

/// How long an answer may take when nothing says otherwise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// The most registers in one request (Modbus application protocol V1.1b3, 6.3).
pub(crate) const MAX_REGISTERS: u16 = 125;

/// The most bits in one request (Modbus application protocol V1.1b3, 6.1).
pub(crate) const MAX_BITS: u16 = 2000;

/// Registers read across when nothing says otherwise: none, for some devices refuse those that they do not have.
pub(crate) const MAX_GAP: u16 = 0;

/// The keys that only a device has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Keys {
    bus: Option<Spanned<String>>,
    unit: Option<Spanned<u8>>,
    profile: Option<Spanned<String>>,
    only: Option<Vec<Spanned<String>>>,
    frame: Option<Spanned<Frame>>,
}

/// How the bytes of a `uart` are cut into messages.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Frame {
    line: Option<Line>,
    check: Option<Check>,
}

/// At line ends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {}

/// How a message is checked.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Check {
    /// By the checksum of NMEA 0183.
    Nmea,
}

/// A device with its routes, and where it stands.
#[derive(Debug)]
pub(super) struct Resolved {
    pub bus: usize,
    pub device: bus::Device,
    pub routes: Vec<(Route, Span)>,
    pub points: Vec<status::Point>,
    /// Where its unit is given, or its name.
    pub place: Span,
}

/// What devices are read against.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub gateway: &'a str,
    pub routing: &'a Routing,
    pub every: Duration,
    /// All buses by name; a link that could not be read is none.
    pub buses: &'a [(Name, Option<link::Config>)],
}

/// Reads one device.
pub(super) fn read(
    name: &Name,
    raw: Raw<'_>,
    context: &Context<'_>,
    profiles: &mut Profiles,
    out: &mut Diagnostics,
) -> Option<Resolved> {
    let mut section = Section::new(raw, "a device", out)?;
    let span = section.span();
    let has_bus = section.has("bus");
    let keys = section.take::<Keys>(out);
    let own = section.take::<Defaults>(out);
    let routing = section.take::<Routing>(out).over(context.routing);
    let points = section.take_named("points", out);
    section.finish(out);
    if let Err(why) = gateway::check_level(name.get_ref()) {
        out.push(Diagnostic::error(format!("a device's name is a level of topics: {why}")).at(name.span()));
    }

    let (bus, link) = find_bus(name, &keys, has_bus, context, out)?;
    // A link that could not be read has told of that already; the device cannot be judged without it.
    let link = link?;
    let uart = matches!(link, link::Config::Uart(_));
    let unit = unit(name, &keys, link, out);
    check_frame(&keys, uart, out);
    let profile = keys.profile.as_ref().and_then(|name| profiles.find(name, uart, out));
    let defaults = match &profile {
        Some(loaded) => own.clone().over(&loaded.profile.defaults),
        None => own.clone(),
    };
    check_defaults(&defaults, out);

    let device: Arc<str> = name.get_ref().as_str().into();
    let mut resolved = Vec::new();
    let mut routes = Vec::new();
    let mut shown = Vec::new();
    let none = points.is_empty();
    let all = collect(&keys, profile.as_deref(), points, out);
    if none && all.is_empty() && (profile.is_some() || keys.profile.is_none()) {
        let help = format!("add `[device.{}.points]` or `profile = \"…\"`", name.get_ref());
        let why = format!("device `{device}` has no points: nothing is read from it");
        out.push(Diagnostic::warning(why).at(span).help(help));
    }
    for written in all {
        let around = Surroundings {
            addressing: match (&profile, written.own_source) {
                (Some(loaded), false) => loaded.profile.defaults.addressing.unwrap_or_default(),
                _ => own.addressing.unwrap_or_default(),
            },
            ..defaults.surroundings(context.every, uart)
        };
        let point = match written.config.resolve(written.name.as_str().into(), &around) {
            Ok(point) => point,
            Err(problems) => {
                for problem in problems {
                    let span = problem.span.unwrap_or_else(|| written.place.clone());
                    out.push(Diagnostic::error(problem.message).at(span).help(problem.help));
                }
                continue;
            }
        };
        let routing = written.routing.over(&routing);
        let names = Names {
            gateway: context.gateway,
            bus: context.buses[bus].0.get_ref(),
            device: &device,
            unit,
            point: &point.name,
        };
        if let Some(route) = routing.route(&names, point.write.is_some(), &written.place, out) {
            shown.push(unread(&route, &point, written.config.unit.as_deref()));
            routes.push((route, written.place));
        }
        resolved.push(point);
    }
    let period = |p: &Option<Spanned<crate::units::Period>>, otherwise| p.as_ref().map_or(otherwise, |p| p.get_ref().0);
    let number = |n: &Option<Spanned<u16>>, otherwise| n.as_ref().map_or(otherwise, |n| *n.get_ref());
    Some(Resolved {
        bus,
        device: bus::Device {
            name: device,
            unit,
            timeout: period(&defaults.timeout, TIMEOUT),
            max_registers: number(&defaults.max_registers, MAX_REGISTERS),
            max_bits: number(&defaults.max_bits, MAX_BITS),
            max_gap: defaults.max_gap.unwrap_or(MAX_GAP),
            points: resolved,
        },
        routes,
        points: shown,
        place: keys.unit.map_or_else(|| name.span(), |unit| unit.span()),
    })
}

/// A point as written, profile and device together.
struct Written {
    name: String,
    config: point::Config,
    routing: Routing,
    place: Span,
    /// Whether the device itself says where the value stands.
    own_source: bool,
}

/// The points of the profile that are wanted, then the device's own, in the order of the files.
fn collect(keys: &Keys, profile: Option<&Loaded>, own: Vec<(Name, Raw<'_>)>, out: &mut Diagnostics) -> Vec<Written> {
    let mut all = Vec::new();
    if let (Some(loaded), Some(key)) = (profile, &keys.profile) {
        all.extend(loaded.profile.points().into_iter().map(|(name, config)| Written {
            name: name.get_ref().clone(),
            config: config.clone(),
            routing: Routing::default(),
            place: key.span(),
            own_source: false,
        }));
    }
    if let Some(only) = &keys.only {
        for name in only {
            if !all.iter().any(|point| point.name == *name.get_ref()) {
                let why = match &keys.profile {
                    Some(profile) => format!("profile `{}` has no point `{}`", profile.get_ref(), name.get_ref()),
                    None => "`only` chooses points of a profile, and there is none".to_owned(),
                };
                let help = did_you_mean(name.get_ref(), all.iter().map(|point| point.name.as_str()));
                out.push(Diagnostic::error(why).at(name.span()).help(help));
            }
        }
        all.retain(|point| only.iter().any(|name| *name.get_ref() == point.name));
    }
    for (name, raw) in own {
        let what = format!("point `{}`", name.get_ref());
        let Some(mut section) = Section::new(raw, &what, out) else { continue };
        let config = section.try_take::<point::Config>(out);
        let routing = section.try_take::<Routing>(out);
        section.finish(out);
        let (Some(config), Some(routing)) = (config, routing) else { continue };
        if let Err(why) = gateway::check_level(name.get_ref()) {
            out.push(Diagnostic::error(format!("a point's name is a level of topics: {why}")).at(name.span()));
        }
        let own_source = config.has_source();
        let base = profile.and_then(|loaded| loaded.profile.points.get(name.get_ref().as_str()));
        let written = Written {
            config: base.map_or_else(|| config.clone(), |base| config.clone().over(base)),
            place: name.span(),
            routing,
            own_source,
            name: name.into_inner(),
        };
        match all.iter_mut().find(|point| point.name == written.name) {
            Some(point) => *point = written,
            None => all.push(written),
        }
    }
    all
}

fn find_bus<'a>(
    name: &Name,
    keys: &Keys,
    has_bus: bool,
    context: &Context<'a>,
    out: &mut Diagnostics,
) -> Option<(usize, Option<&'a link::Config>)> {
    let names = || context.buses.iter().map(|(name, _)| name.get_ref().as_str());
    let Some(bus) = &keys.bus else {
        // Its key may be there with a wrong value; that has been told.
        if !has_bus {
            let why = format!("device `{}` does not say on which bus it is", name.get_ref());
            out.push(Diagnostic::error(why).at(name.span()).help("add `bus = \"…\"`".to_owned()));
        }
        return None;
    };
    match context.buses.iter().position(|(name, _)| name.get_ref() == bus.get_ref()) {
        Some(at) => Some((at, context.buses[at].1.as_ref())),
        None => {
            let help = did_you_mean(bus.get_ref(), names());
            out.push(Diagnostic::error(format!("unknown bus `{}`", bus.get_ref())).at(bus.span()).help(help));
            None
        }
    }
}

/// The unit, in the range of its bus.
fn unit(name: &Name, keys: &Keys, link: &link::Config, out: &mut Diagnostics) -> u8 {
    match (&keys.unit, link) {
        (Some(unit), link::Config::Uart(_)) => {
            out.push(Diagnostic::error("a device on a `uart` bus has no unit").at(unit.span()));
        }
        (None, link::Config::Uart(_)) => {}
        (None, _) => {
            let why = format!("`unit` of device `{}` is missing", name.get_ref());
            out.push(Diagnostic::error(why).at(name.span()).help("add its Modbus address: `unit = 1`".to_owned()));
        }
        (Some(unit), link::Config::ModbusRtu(_) | link::Config::ModbusRtuOverTcp(_))
            if !(1..=247).contains(unit.get_ref()) =>
        {
            let why = "units on a serial line are 1 to 247 (Modbus over serial line V1.02, 2.2)";
            out.push(Diagnostic::error(why).at(unit.span()));
        }
        (Some(_), _) => {}
    }
    keys.unit.as_ref().map_or(0, |unit| *unit.get_ref())
}

fn check_frame(keys: &Keys, uart: bool, out: &mut Diagnostics) {
    let Some(frame) = &keys.frame else { return };
    if !uart {
        let help = "leave it out, or put the device on a `uart` bus".to_owned();
        out.push(Diagnostic::error("only devices on a `uart` bus have a `frame`").at(frame.span()).help(help));
    } else if frame.get_ref().line.is_none() {
        let help = "write `frame = { line = {} }`".to_owned();
        out.push(Diagnostic::error("`frame` does not say how messages end").at(frame.span()).help(help));
    }
    // Lines are always checked by the one check that there is.
    let (Some(Check::Nmea) | None) = frame.get_ref().check;
}

fn check_defaults(all: &Defaults, out: &mut Diagnostics) {
    for period in [&all.every, &all.stale_after, &all.timeout].into_iter().flatten() {
        if let Err(why) = point::check_period(*period.get_ref()) {
            let help = "give a time such as \"1s\"".to_owned();
            out.push(Diagnostic::error(why).at(period.span()).help(help));
        }
    }
    for (value, most) in [(&all.max_registers, MAX_REGISTERS), (&all.max_bits, MAX_BITS)] {
        if let Some(value) = value.as_ref().filter(|value| !(1..=most).contains(value.get_ref())) {
            out.push(Diagnostic::error(format!("this is 1 to {most}")).at(value.span()));
        }
    }
}

/// What there is to see of a point before it is read.
fn unread(route: &Route, point: &bus::Point, unit: Option<&str>) -> status::Point {
    status::Point {
        device: Arc::clone(&route.device),
        point: Arc::clone(&route.point),
        topic: Arc::clone(&route.topic),
        value: Value::Null,
        unit: unit.map(Arc::from),
        quality: Quality::Bad,
        at: None::<Moment>,
        // No fault: who shows the point says that it was not read yet.
        fault: None,
        every: point.every,
        writable: route.writable,
    }
}
