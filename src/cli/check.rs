//! `fieldpost check`: what a config means, before it runs.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::output::{self, columns};
use crate::broker::listener::door::Door;
use crate::bus::modbus::plan;
use crate::bus::{self, Source, link};
use crate::config::{Config, check};
use crate::mapping::Route;
use crate::uplink::rules::Rule;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The config
    #[arg(default_value = super::CONFIG)]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let config = match super::load(&args.file) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let report = Report::new(&config);
    let text = if args.json {
        serde_json::to_string_pretty(&report).expect("keys are text and numbers are finite") + "\n"
    } else {
        report.to_string()
    };
    let printed = output::print(&text);
    // The files behind the broker's doors: with what the gateway would not start, it is not right.
    match Door::all(&config.broker) {
        Ok(_) => printed,
        Err(error) => {
            output::complain(&format!("{error}\n"));
            super::run::door_code(&error).into()
        }
    }
}

/// All that is shown.
#[derive(Debug, Serialize)]
struct Report {
    gateway: Arc<str>,
    buses: Vec<Bus>,
    points: Vec<Point>,
    broker: String,
    uplinks: Vec<Uplink>,
    store: String,
    admin: String,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Bus {
    name: Arc<str>,
    link: String,
    /// The part of the line's time that the requests take; none where there is no line.
    load: Option<f64>,
    devices: Vec<Device>,
}

#[derive(Debug, Serialize)]
struct Device {
    name: Arc<str>,
    /// None on a `uart`.
    unit: Option<u8>,
    requests: Vec<Request>,
    /// What is awaited on a `uart`.
    sentences: Vec<Sentence>,
}

#[derive(Debug, Serialize)]
struct Request {
    table: &'static str,
    #[serde(skip)]
    bits: bool,
    first: u16,
    last: u16,
    count: u16,
    #[serde(rename = "every_ms", serialize_with = "millis")]
    every: Duration,
    points: Vec<Arc<str>>,
}

#[derive(Debug, Serialize)]
struct Sentence {
    sentence: Arc<str>,
    points: Vec<Arc<str>>,
}

#[derive(Debug, Serialize)]
struct Point {
    topic: Arc<str>,
    device: Arc<str>,
    point: Arc<str>,
    r#type: String,
    unit: Option<Arc<str>>,
    #[serde(rename = "every_ms", serialize_with = "millis")]
    every: Duration,
    /// The topic on which it is written.
    set: Option<String>,
}

#[derive(Debug, Serialize)]
struct Uplink {
    name: Arc<str>,
    url: String,
    /// How it is reached, and what is not safe about that.
    way: Vec<String>,
    risks: Vec<String>,
    publish: Vec<String>,
    subscribe: Vec<String>,
}

impl Report {
    fn new(config: &Config) -> Self {
        Self {
            gateway: Arc::clone(&config.gateway.id),
            buses: config.buses.iter().map(Bus::new).collect(),
            points: points(config),
            broker: broker(&config.broker),
            uplinks: config.uplinks.iter().map(|(name, uplink)| Uplink::new(name, uplink)).collect(),
            store: format!(
                "{}, at most {} and {}",
                config.store.path.display(),
                config.store.max_size,
                config.store.max_age
            ),
            admin: config.admin.listen.clone(),
            warnings: config.warnings.messages().map(str::to_owned).collect(),
        }
    }
}

fn broker(config: &crate::broker::Config) -> String {
    let listeners = config.listeners();
    let places: Vec<_> = listeners.iter().map(|at| format!("{}://{}", at.scheme(), at.listen)).collect();
    let places = if places.is_empty() { "nowhere".to_owned() } else { places.join(", ") };
    let users = match &config.users {
        Some(file) => format!("users from {}", file.display()),
        None => "no password".to_owned(),
    };
    match config.acl.len() {
        0 => format!("{places}, {users}"),
        rules => format!("{places}, {users}, {rules} acl"),
    }
}

impl Uplink {
    fn new(name: &Arc<str>, uplink: &crate::uplink::Config) -> Self {
        let urls: Vec<String> = uplink.url.0.iter().map(ToString::to_string).collect();
        let filters = |rules: &[Rule]| rules.iter().map(Rule::to_string).collect();
        Self {
            name: Arc::clone(name),
            url: urls.join(", "),
            way: uplink.way(),
            risks: uplink.risks(),
            publish: filters(&uplink.publish),
            subscribe: filters(&uplink.subscribe),
        }
    }
}

impl Bus {
    fn new(bus: &bus::Bus) -> Self {
        Self {
            name: Arc::clone(&bus.name),
            link: bus.link.to_string(),
            load: check::load(bus),
            devices: bus.devices.iter().map(|device| Device::new(device, &bus.link)).collect(),
        }
    }
}

impl Device {
    fn new(device: &bus::Device, link: &link::Config) -> Self {
        let names = |points: &[usize]| points.iter().map(|n| Arc::clone(&device.points[*n].name)).collect();
        let requests = plan::plan(device).into_iter().map(|block| Request {
            table: block.table.key(),
            bits: block.table.is_bits(),
            first: block.address,
            last: block.address + (block.count - 1),
            count: block.count,
            every: block.every,
            points: names(&block.points),
        });
        let mut sentences: Vec<Sentence> = Vec::new();
        for point in &device.points {
            if let Source::Nmea { sentence, .. } = &point.source {
                let name = Arc::clone(&point.name);
                match sentences.iter_mut().find(|s| s.sentence == *sentence) {
                    Some(known) => known.points.push(name),
                    None => sentences.push(Sentence { sentence: Arc::clone(sentence), points: vec![name] }),
                }
            }
        }
        Self {
            name: Arc::clone(&device.name),
            unit: (!matches!(link, link::Config::Uart(_))).then_some(device.unit),
            requests: requests.collect(),
            sentences,
        }
    }
}

fn points(config: &Config) -> Vec<Point> {
    let types = |route: &Route| {
        let devices = config.buses.iter().flat_map(|bus| &bus.devices);
        let mut points = devices.filter(|d| d.name == route.device).flat_map(|d| &d.points);
        points.find(|p| p.name == route.point).map(|p| p.decode.kind.to_string()).unwrap_or_default()
    };
    let row = |(route, seen): (&Route, &crate::status::Point)| Point {
        topic: Arc::clone(&route.topic),
        device: Arc::clone(&route.device),
        point: Arc::clone(&route.point),
        r#type: types(route),
        unit: seen.unit.clone(),
        every: seen.every,
        set: route.writable.then(|| format!("{}/set", route.topic)),
    };
    config.routes.iter().zip(&config.points).map(row).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "gateway {}", self.gateway)?;
        for bus in &self.buses {
            write!(f, "\nbus {}: {}", bus.name, bus.link)?;
            match bus.load {
                Some(load) => writeln!(f, ", load {:.1} %", load * 100.0)?,
                None => writeln!(f)?,
            }
            for device in &bus.devices {
                match device.unit {
                    Some(unit) => writeln!(f, "  device {}: unit {unit}", device.name)?,
                    None => writeln!(f, "  device {}", device.name)?,
                }
                f.write_str(&columns(&device.rows(), "    "))?;
            }
        }
        if !self.points.is_empty() {
            writeln!(f, "\ntopics")?;
            let rows: Vec<_> = self.points.iter().map(Point::row).collect();
            f.write_str(&columns(&rows, "  "))?;
        }
        writeln!(f, "\nbroker: {}", self.broker)?;
        for uplink in &self.uplinks {
            let list = |filters: &[String]| if filters.is_empty() { "nothing".to_owned() } else { filters.join(", ") };
            let (up, down) = (list(&uplink.publish), list(&uplink.subscribe));
            writeln!(f, "uplink {}: {}, up {up}, down {down}", uplink.name, uplink.url)?;
            writeln!(f, "  {}", uplink.way.join(", "))?;
            for risk in &uplink.risks {
                writeln!(f, "  UNSAFE: {risk}")?;
            }
        }
        writeln!(f, "store: {}\nadmin: {}", self.store, self.admin)?;
        match self.warnings.len() {
            0 => writeln!(f, "\nno warnings"),
            1 => writeln!(f, "\n1 warning"),
            n => writeln!(f, "\n{n} warnings"),
        }
    }
}

impl Device {
    fn rows(&self) -> Vec<Vec<String>> {
        let requests = self.requests.iter().map(|r| {
            let range = if r.count == 1 { r.first.to_string() } else { format!("{}-{}", r.first, r.last) };
            let what = if r.bits { "bit" } else { "register" };
            let count = format!("{} {what}{}", r.count, if r.count == 1 { "" } else { "s" });
            vec![r.table.into(), range, count, every(r.every), r.points.join(", ")]
        });
        let sentences = self.sentences.iter().map(|s| vec!["nmea".into(), s.sentence.to_string(), s.points.join(", ")]);
        requests.chain(sentences).collect()
    }
}

impl Point {
    fn row(&self) -> Vec<String> {
        let set = self.set.as_ref().map(|topic| format!("-> {topic}"));
        vec![
            self.topic.to_string(),
            format!("{}.{}", self.device, self.point),
            self.r#type.clone(),
            self.unit.as_deref().unwrap_or_default().to_owned(),
            every(self.every),
            set.unwrap_or_default(),
        ]
    }
}

fn every(every: Duration) -> String {
    format!("every {}", humantime::format_duration(every))
}

fn millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
