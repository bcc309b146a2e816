//! The one TOML file and its `conf.d`: load, compose the parts' own types, cross-check names.
//!
//! In reading order: [`source`] holds the files and says which of them a place is in; [`section`] reads a table key by
//! key; [`diagnostic`] shows what is wrong, where, and what to do. [`gateway`], [`bus`], [`device`] and [`route`] read
//! their sections, [`profiles`] finds device types, [`check`] and [`rules`] see what no part can see alone, [`settings`] what a
//! reload changes.

mod bus;
pub(crate) mod check;
pub(crate) mod device;
pub mod diagnostic;
mod gateway;
mod profiles;
#[cfg(test)]
mod reference;
mod route;
mod rules;
mod section;
mod settings;
mod source;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::bus::Bus;
use crate::mapping::Route;
use crate::{admin, broker, control, status, store, uplink};

pub use diagnostic::{Diagnostic, Diagnostics};
pub use gateway::Gateway;
pub use settings::Settings;

use device::Context;
use profiles::Profiles;
use section::{Name, Raw, Section};

/// Everything that a gateway is told.
#[derive(Debug)]
pub struct Config {
    /// The folder of the file: relative paths in it begin here.
    pub folder: PathBuf,
    pub gateway: Gateway,
    /// All buses with their devices and points, in the config's order.
    pub buses: Vec<Bus>,
    /// Where each point's readings go, device by device.
    pub routes: Vec<Route>,
    /// The points as they are before the first reading, in the order of `routes`.
    pub points: Vec<status::Point>,
    pub broker: broker::Config,
    /// The uplinks by name, in the config's order.
    pub uplinks: Vec<(Arc<str>, uplink::Config)>,
    pub store: store::Config,
    pub admin: admin::Config,
    pub control: control::Config,
    /// What is set, to be compared with another config.
    pub settings: Settings,
    /// What works, but hardly as it was meant.
    pub warnings: Diagnostics,
}

/// Tables of named things: files may each bring some.
const NAMED: [&str; 3] = ["bus", "device", "uplink"];

impl Config {
    /// Reads the file at `path` and the `*.toml` in the folder `conf.d` beside it, in the order of their names.
    ///
    /// # Errors
    /// Everything that is wrong, as far as it can be told at once.
    pub fn load(path: &Path) -> Result<Self, Diagnostics> {
        let mut out = Diagnostics::default();
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let files = read_all(path, &folder, &mut out);
        Self::read(&files, folder, out)
    }

    /// Reads a text as if it were the file at `path`, without a `conf.d`.
    ///
    /// # Errors
    /// Everything that is wrong, as far as it can be told at once.
    pub fn parse(path: &Path, text: impl Into<String>) -> Result<Self, Diagnostics> {
        let mut out = Diagnostics::default();
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let file = out.sources.add(path.to_owned(), text.into());
        Self::read(&[file], folder, out)
    }

    fn read(files: &[usize], folder: PathBuf, mut out: Diagnostics) -> Result<Self, Diagnostics> {
        let texts: Vec<String> = files.iter().map(|file| out.sources.in_place(*file)).collect();
        let mut all = DeTable::new();
        for text in &texts {
            let (table, errors) = DeTable::parse_recoverable(text);
            // After the first error of a file the others are often only its echo.
            if let Some(e) = errors.first() {
                out.push(section::explain(e, 0..0));
            }
            merge(&mut all, table.into_inner(), &mut out);
        }
        let config = if out.has_errors() { None } else { build(all, folder, &mut out) };
        out.sort();
        match config {
            Some(mut config) if !out.has_errors() => {
                config.warnings = out;
                Ok(config)
            }
            _ => {
                out.keep_errors();
                Err(out)
            }
        }
    }
}

/// The numbers of all files, the main one first.
fn read_all(path: &Path, folder: &Path, out: &mut Diagnostics) -> Vec<usize> {
    let more = folder.join("conf.d");
    let mut paths = vec![path.to_owned()];
    match std::fs::read_dir(&more) {
        Ok(entries) => {
            let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            found.retain(|path| path.extension().is_some_and(|e| e == "toml"));
            found.sort();
            paths.extend(found);
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => out.push(Diagnostic::error(format!("{} cannot be read: {e}", more.display()))),
    }
    let mut files = Vec::new();
    for path in paths {
        match out.sources.read(&path) {
            Ok(file) => files.push(file),
            Err(why) => out.push(Diagnostic::error(why)),
        }
    }
    files
}

/// Adds the tables of a file to those before it; what is there twice is an error.
fn merge<'i>(all: &mut DeTable<'i>, more: DeTable<'i>, out: &mut Diagnostics) {
    let twice = |name: &str, here: section::Raw<'_>, there: &Raw<'_>, out: &mut Diagnostics| {
        out.push(
            Diagnostic::error(format!("`{name}` is there twice"))
                .at(here.span())
                .mark(there.span(), "first here")
                .help("keep one of them; only buses, devices and uplinks add up over files".to_owned()),
        );
    };
    for (key, value) in more {
        let Some(before) = all.get_mut(&key) else {
            all.insert(key, value);
            continue;
        };
        let name = key.get_ref().clone();
        let span = value.span();
        match (before.get_mut(), value.into_inner()) {
            (DeValue::Table(before), DeValue::Table(more)) if NAMED.contains(&name.as_ref()) => {
                for (key, value) in more {
                    match before.get_key_value(&key) {
                        Some((_, there)) => twice(&format!("{name}.{}", key.get_ref()), value, there, out),
                        None => {
                            before.insert(key, value);
                        }
                    }
                }
            }
            (_, value) => twice(&name, Raw::new(span, value), before, out),
        }
    }
}

/// The config that the tables mean.
fn build(all: DeTable<'_>, folder: PathBuf, out: &mut Diagnostics) -> Option<Config> {
    let settings = Settings::new(&all);
    let mut root = Section::new(Raw::new(0..0, DeValue::Table(all)), "the config", out)?;
    let (gateway, routing, every) = {
        let raw = root.take_raw("gateway");
        gateway::read(raw.and_then(|(_, raw)| Section::new(raw, "`gateway`", out)), out)
    };
    let mut buses = Vec::new();
    for (name, raw) in root.take_named("bus", out) {
        let link = bus::read(&name, raw, out);
        buses.push((name, link));
    }
    let context = Context { gateway: &gateway.id, routing: &routing, every, buses: &buses };
    let mut profiles = Profiles::beside(&folder);
    let mut devices = Vec::new();
    for (name, raw) in root.take_named("device", out) {
        devices.extend(device::read(&name, raw, &context, &mut profiles, out));
    }
    let mut broker = whole::<broker::Config>(&mut root, "broker", out, |section, out| {
        check::broker(section, &folder, out);
    });
    let mut uplinks = Vec::new();
    for (name, raw) in root.take_named("uplink", out) {
        let Some(mut section) = Section::new(raw, "an uplink", out) else { continue };
        for key in ["username", "password"] {
            check::files(section.text_within(key, "file"), &folder, out);
        }
        for key in ["ca", "certificate", "key"] {
            check::files(section.texts(key), &folder, out);
        }
        let places = rules::Places::of(&section, name.span());
        let config = section.try_take::<uplink::Config>(out);
        section.finish(out);
        config.iter().for_each(|config| places.check(config, out));
        uplinks.extend(config.map(|mut config| {
            for path in [&mut config.ca, &mut config.certificate, &mut config.key].into_iter().flatten() {
                *path = folder.join(&*path);
            }
            config.username = config.username.map(|secret| secret.relative_to(&folder));
            config.password = config.password.map(|secret| secret.relative_to(&folder));
            (Arc::from(name.get_ref().as_str()), config)
        }));
    }
    rules::introduce(&mut uplinks);
    let mut store = whole::<store::Config>(&mut root, "store", out, |_, _| {});
    store.queues = uplinks.iter().map(|(name, uplink)| (status::uplink_session(name).into(), bound(uplink))).collect();
    if !store.in_memory() {
        store.path = folder.join(&store.path);
    }
    let mut admin = whole::<admin::Config>(&mut root, "admin", out, |section, out| {
        let guarded = section.has("password");
        check::listen(section, guarded, "password", "set `password`, or listen on 127.0.0.1 only", out);
    });
    admin.password = admin.password.map(|secret| secret.relative_to(&folder));
    broker.gateway = Some(gateway.id.clone());
    broker.users = broker.users.map(|path| folder.join(path));
    for tls in broker.listeners.iter_mut().filter_map(|listener| listener.tls.as_mut()) {
        for path in [Some(&mut tls.certificate), Some(&mut tls.key), tls.clients.as_mut()].into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }
    let mut control = whole::<control::Config>(&mut root, "control", out, |_, _| {});
    control.socket = control.socket.map(|path| folder.join(path)).or_else(|| beside(&store));
    root.finish(out);

    check::units(&devices, out);
    let routes: Vec<_> = devices.iter().flat_map(|d| d.routes.iter().cloned()).collect();
    route::check_topics(&routes, out);
    let points = devices.iter().flat_map(|d| d.points.iter().cloned()).collect();
    let buses = hang(buses, devices);
    // Warnings only, and reckoned from values that have to be right.
    if !out.has_errors() {
        check::loads(&buses, out);
    }
    Some(Config {
        folder,
        gateway,
        buses: buses.into_iter().map(|(bus, _)| bus).collect(),
        routes: routes.into_iter().map(|(route, _)| route).collect(),
        points,
        broker,
        uplinks,
        store,
        admin,
        control,
        settings,
        warnings: Diagnostics::default(),
    })
}

/// What an uplink says of its queue in the store.
fn bound(uplink: &uplink::Config) -> store::QueueBound {
    let max_size = uplink.max_size.filter(|size| size.0 > 0);
    store::QueueBound { max_size, when_full: uplink.when_full }
}

/// A section that a part knows as a whole; its default when it is not there.
fn whole<T: serde::de::DeserializeOwned + Default>(
    root: &mut Section<'_>,
    key: &'static str,
    out: &mut Diagnostics,
    check: impl FnOnce(&Section<'_>, &mut Diagnostics),
) -> T {
    let raw = root.take_raw(key);
    let Some(mut section) = raw.and_then(|(_, raw)| Section::new(raw, &format!("`{key}`"), out)) else {
        return T::default();
    };
    check(&section, out);
    let config = section.take(out);
    section.finish(out);
    config
}

/// Where the control socket is when nothing is said: beside a store that is a file.
fn beside(store: &store::Config) -> Option<PathBuf> {
    let mut path = store.path.clone().into_os_string();
    path.push(".control");
    (!store.in_memory()).then(|| path.into())
}

/// Hangs the devices on their buses.
fn hang(links: Vec<(Name, Option<crate::bus::link::Config>)>, devices: Vec<device::Resolved>) -> Vec<(Bus, Name)> {
    let mut on: HashMap<usize, Vec<crate::bus::Device>> = HashMap::new();
    for resolved in devices {
        on.entry(resolved.bus).or_default().push(resolved.device);
    }
    let bus = |(n, (name, link)): (usize, (Name, Option<_>))| {
        let devices = on.remove(&n).unwrap_or_default();
        Some((Bus { name: name.get_ref().as_str().into(), link: link?, devices }, name))
    };
    links.into_iter().enumerate().filter_map(bus).collect()
}
