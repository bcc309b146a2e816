//! The poller against devices that are not ours: servers on libmodbus and pymodbus, over TCP and a serial line.

use std::collections::BTreeMap;
use std::time::Duration;

use fieldpost::bus::decode::{Decode, Kind, Order};
use fieldpost::bus::{Bus, Device, Point, Poller, Source, Table, Write, link};
use fieldpost::reading::{Command, CommandError, Fault, Quality, Reading, Report, Value};
use fieldpost::simulator::{self, Plant, Pty, Registers, Units, rtu};
use fieldpost::status::{self, Pulse};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::support::modbus::Make;
use crate::support::process::PATIENCE;
use crate::support::{Line, ModbusServer};

use Kind::{Bool, F32, F64, I16, I32, I64, U16, U32, U64};
use Order::{Abcd, Badc, Cdab, Dcba};
use Table::{Coil, Discrete, Holding, Input};

/// A value, and the words that stand for it as its order has them on the wire.
struct Case {
    name: &'static str,
    table: Table,
    address: u16,
    kind: Kind,
    order: Order,
    scale: f64,
    words: &'static [u16],
    value: Value,
}

const fn case(
    name: &'static str,
    (table, address): (Table, u16),
    (kind, order): (Kind, Order),
    words: &'static [u16],
    value: Value,
) -> Case {
    Case { name, table, address, kind, order, scale: 1.0, words, value }
}

/// Every type and every order.
fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("u16", (Holding, 0), (U16, Abcd), &[0xFFF0], Value::Int(65520)),
        case("i16", (Holding, 1), (I16, Abcd), &[0xFFF0], Value::Int(-16)),
        case("u16-swapped", (Holding, 2), (U16, Badc), &[0x3412], Value::Int(0x1234)),
        case("bool", (Holding, 3), (Bool, Abcd), &[1], Value::Bool(true)),
        case("u32", (Holding, 10), (U32, Abcd), &[0x1234, 0x5678], Value::Int(0x1234_5678)),
        case("u32-cdab", (Holding, 12), (U32, Cdab), &[0x5678, 0x1234], Value::Int(0x1234_5678)),
        case("u32-badc", (Holding, 14), (U32, Badc), &[0x3412, 0x7856], Value::Int(0x1234_5678)),
        case("u32-dcba", (Holding, 16), (U32, Dcba), &[0x7856, 0x3412], Value::Int(0x1234_5678)),
        case("i32", (Holding, 18), (I32, Abcd), &[0xFFFF, 0xFFFE], Value::Int(-2)),
        case("i32-cdab", (Holding, 20), (I32, Cdab), &[0xFFFE, 0xFFFF], Value::Int(-2)),
        case("f32", (Input, 0), (F32, Abcd), &[0x4367, 0x8000], Value::Float(231.5)),
        case("f32-cdab", (Input, 2), (F32, Cdab), &[0x8000, 0x4367], Value::Float(231.5)),
        case("f32-badc", (Input, 4), (F32, Badc), &[0x6743, 0x0080], Value::Float(231.5)),
        case("f32-dcba", (Input, 6), (F32, Dcba), &[0x0080, 0x6743], Value::Float(231.5)),
        case("f32-nan", (Input, 8), (F32, Abcd), &[0x7FC0, 0x0000], Value::Null),
        case("u64", (Input, 20), (U64, Abcd), &[0x0123, 0x4567, 0x89AB, 0xCDEF], Value::Int(0x0123_4567_89AB_CDEF)),
        case(
            "u64-cdab",
            (Input, 24),
            (U64, Cdab),
            &[0xCDEF, 0x89AB, 0x4567, 0x0123],
            Value::Int(0x0123_4567_89AB_CDEF),
        ),
        case(
            "u64-badc",
            (Input, 28),
            (U64, Badc),
            &[0x2301, 0x6745, 0xAB89, 0xEFCD],
            Value::Int(0x0123_4567_89AB_CDEF),
        ),
        case(
            "u64-dcba",
            (Input, 32),
            (U64, Dcba),
            &[0xEFCD, 0xAB89, 0x6745, 0x2301],
            Value::Int(0x0123_4567_89AB_CDEF),
        ),
        case("i64", (Input, 36), (I64, Abcd), &[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE], Value::Int(-2)),
        case("f64", (Input, 40), (F64, Abcd), &[0xC093, 0x4A45, 0x6D5C, 0xFAAD], Value::Float(-1234.5678)),
        case("f64-dcba", (Input, 44), (F64, Dcba), &[0xADFA, 0x5C6D, 0x454A, 0x93C0], Value::Float(-1234.5678)),
        case("text", (Input, 100), (Kind::String(6), Abcd), &[0x5069, 0x2035, 0x0000], Value::Text("Pi 5".into())),
        case("coil", (Coil, 9), (Bool, Abcd), &[1], Value::Bool(true)),
        case("no-coil", (Coil, 10), (Bool, Abcd), &[0], Value::Bool(false)),
        case("discrete", (Discrete, 200), (Bool, Abcd), &[1], Value::Bool(true)),
    ];
    let tenths = case("scaled", (Holding, 30), (U16, Abcd), &[2314], Value::Float(231.4));
    cases.push(Case { scale: 0.1, ..tenths });
    cases
}

/// The registers as servers take them.
fn registers(cases: &[Case]) -> Vec<String> {
    let of = |case: &Case| {
        let table = format!("{:?}", case.table).to_lowercase();
        let words: Vec<String> = case.words.iter().map(u16::to_string).collect();
        format!("{table}:{}={}", case.address, words.join(","))
    };
    cases.iter().map(of).collect()
}

fn device(name: &str, unit: u8, points: Vec<Point>) -> Device {
    let timeout = Duration::from_millis(400);
    Device { name: name.into(), unit, timeout, max_registers: 125, max_bits: 2000, max_gap: 4, points }
}

fn point(name: &str, source: Source, decode: Decode) -> Point {
    Point {
        name: name.into(),
        source,
        decode,
        every: Duration::from_millis(200),
        stale_after: Duration::from_secs(1),
        write: Some(Write::default()),
    }
}

fn points(cases: &[Case]) -> Vec<Point> {
    let of = |case: &Case| {
        let decode = Decode { kind: case.kind, order: case.order, scale: case.scale, offset: 0.0, null: Vec::new() };
        point(case.name, Source::Modbus { table: case.table, address: case.address }, decode)
    };
    cases.iter().map(of).collect()
}

fn tcp(port: u16) -> link::Config {
    link::Config::ModbusTcp(link::Tcp { host: "127.0.0.1".into(), port })
}

fn serial(path: &std::path::Path) -> link::Serial {
    link::Serial { port: path.into(), baud: 9600, parity: link::Parity::None, data_bits: 8, stop_bits: 1 }
}

/// A poller at work.
struct Polled {
    reports: mpsc::Receiver<Report>,
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Polled {
    fn start(link: link::Config, devices: Vec<Device>) -> Self {
        let (reports, received) = mpsc::channel(100);
        let (commands, wanted) = mpsc::channel(10);
        let (status, _) = watch::channel(status::Bus::default());
        let stop = CancellationToken::new();
        let bus = Bus { name: "bus".into(), link, devices };
        let task = tokio::spawn(Poller::new(bus, reports, wanted, status, Pulse::new()).run(stop.clone()));
        Self { reports: received, commands, stop, task }
    }

    async fn report(&mut self) -> Report {
        timeout_at(Instant::now() + PATIENCE, self.reports.recv()).await.expect("a report in time").expect("it runs")
    }

    /// The next reading of which this is true.
    async fn reading(&mut self, is_it: impl Fn(&Reading) -> bool) -> Reading {
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "no such reading");
            if let Report::Readings(readings) = self.report().await
                && let Some(reading) = readings.into_iter().find(&is_it)
            {
                return reading;
            }
        }
    }

    /// The first reading of each of `count` points.
    async fn first_of(&mut self, count: usize) -> BTreeMap<String, Reading> {
        let mut seen = BTreeMap::new();
        while seen.len() < count {
            if let Report::Readings(readings) = self.report().await {
                for reading in readings {
                    seen.entry(reading.point.to_string()).or_insert(reading);
                }
            }
        }
        seen
    }

    /// Waits for the news that a device answers, or does not.
    async fn device(&mut self, device: &str, online: bool) {
        let news = Report::Device { device: device.into(), online };
        let end = Instant::now() + PATIENCE;
        while self.report().await != news {
            assert!(Instant::now() < end, "nobody says that {device} is online: {online}");
        }
    }

    async fn write(&mut self, point: &str, value: Value) -> Result<(), CommandError> {
        let (reply, mut result) = oneshot::channel();
        let command = Command { device: "peer".into(), point: point.into(), value, reply };
        self.commands.send(command).await.unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            tokio::select! {
                result = &mut result => return result.unwrap(),
                // Readings go on, and somebody must take them.
                _ = self.reports.recv() => assert!(Instant::now() < end, "no answer to the write of {point}"),
            }
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Everything that a server of either make must show, over either link.
async fn reads_and_writes(link: link::Config, server: &mut ModbusServer) {
    let cases = cases();
    let mut polled = Polled::start(link.clone(), vec![device("peer", 1, points(&cases))]);
    let seen = polled.first_of(cases.len()).await;
    for case in &cases {
        let reading = &seen[case.name];
        assert_eq!((&reading.value, reading.quality), (&case.value, Quality::Good), "{} over {link:?}", case.name);
    }

    for (name, value, told) in [
        ("u16", Value::Int(7), "write holding 0 7"),
        ("i16", Value::Int(-3), "write holding 1 65533"),
        ("scaled", Value::Float(17.5), "write holding 30 175"),
        ("u32-cdab", Value::Int(0x0102_0304), "write holding 12 772 258"),
        ("i32", Value::Int(-2), "write holding 18 65535 65534"),
        ("coil", Value::Bool(false), "write coil 9 0"),
        ("no-coil", Value::Bool(true), "write coil 10 1"),
    ] {
        assert_eq!(polled.write(name, value.clone()).await, Ok(()), "{name} over {link:?}");
        assert_eq!(server.write().await, told, "{name} over {link:?}");
        polled.reading(|reading| &*reading.point == name && reading.value == value).await;
    }
    assert_eq!(polled.write("f32", Value::Float(1.0)).await, Err(CommandError::NotWritable), "an input register");
    polled.stop().await;
}

#[tokio::test]
async fn every_type_and_order_over_tcp() {
    for make in [Make::Libmodbus, Make::Pymodbus] {
        let mut server = ModbusServer::tcp(make, &registers(&cases())).await;
        reads_and_writes(tcp(server.port()), &mut server).await;
    }
}

#[tokio::test]
async fn every_type_and_order_over_rtu() {
    for make in [Make::Libmodbus, Make::Pymodbus] {
        let line = Line::open();
        let mut server = ModbusServer::rtu(make, line.device_port(), &registers(&cases())).await;
        reads_and_writes(link::Config::ModbusRtu(serial(line.client_port())), &mut server).await;
    }
}

/// The one point of the tests of what goes wrong.
fn level() -> (Vec<String>, Vec<Point>) {
    let cases = [case("level", (Holding, 5), (U16, Abcd), &[42], Value::Int(42))];
    (registers(&cases), points(&cases))
}

#[tokio::test]
async fn an_address_that_does_not_exist_is_bad_and_its_neighbours_are_good() {
    for make in [Make::Libmodbus, Make::Pymodbus] {
        let (registers, mut points) = level();
        points.push(Point { name: "nowhere".into(), ..points[0].clone() });
        points[1].source = Source::Modbus { table: Holding, address: 4000 };
        let server = ModbusServer::tcp(make, &registers).await;
        let mut polled = Polled::start(tcp(server.port()), vec![device("peer", 1, points)]);
        polled.reading(|reading| &*reading.point == "level" && reading.value == Value::Int(42)).await;
        let nowhere = polled.reading(|reading| &*reading.point == "nowhere").await;
        assert_eq!((nowhere.quality, nowhere.fault), (Quality::Bad, Some(Fault::Exception(2))), "{make:?}");
        polled.stop().await;
    }
}

#[tokio::test]
async fn a_frozen_device_goes_stale_with_its_last_value_and_comes_back() {
    let (registers, points) = level();
    let mut server = ModbusServer::tcp(Make::Libmodbus, &registers).await;
    let mut polled = Polled::start(tcp(server.port()), vec![device("peer", 1, points)]);
    polled.reading(|reading| reading.quality == Quality::Good).await;
    server.process().freeze();
    let stale = polled.reading(|reading| reading.quality == Quality::Stale).await;
    assert_eq!((stale.value, stale.fault), (Value::Int(42), Some(Fault::Timeout)));
    server.process().thaw();
    let back = polled.reading(|reading| reading.quality == Quality::Good).await;
    assert!(back.value == Value::Int(42) && back.at.uptime > stale.at.uptime);
    polled.stop().await;
}

#[tokio::test]
async fn a_server_that_dies_and_comes_back_is_found_again() {
    let (registers, points) = level();
    let mut server = ModbusServer::tcp(Make::Libmodbus, &registers).await;
    let mut polled = Polled::start(tcp(server.port()), vec![device("peer", 1, points)]);
    polled.reading(|reading| reading.quality == Quality::Good).await;
    server.process().kill().await;
    let stale = polled.reading(|reading| reading.quality == Quality::Stale).await;
    assert!(matches!(stale.fault, Some(Fault::LinkDown(_))), "{stale:?}");
    server.start_again().await;
    polled.reading(|reading| reading.quality == Quality::Good).await;
    polled.stop().await;
}

#[tokio::test]
async fn a_silent_device_does_not_stop_its_neighbour_and_is_found_when_it_speaks() {
    // Simulated devices: libmodbus takes the frame after a request to another unit for that unit's answer, whoever sent
    // it, and pymodbus answers for units that it does not have.
    let mut registers = Registers::default();
    registers.set_words(Holding, 5, &[42]);
    let units = [1, 2].map(|unit| (unit, simulator::Device::new(registers.clone())));
    let silent = units[1].1.clone();
    silent.set_silent(true);
    let line = Pty::open().unwrap();
    let port = line.path().to_owned();
    let server = tokio::spawn(rtu::serve(line, Units::from(units), Duration::from_millis(5)));

    let (_, points) = level();
    let devices = vec![device("silent", 2, points.clone()), device("peer", 1, points)];
    let mut polled = Polled::start(link::Config::ModbusRtu(serial(&port)), devices);
    polled.device("silent", false).await;
    for _ in 0..10 {
        let reading = polled.reading(|reading| &*reading.device == "peer").await;
        assert_eq!((reading.value, reading.quality), (Value::Int(42), Quality::Good));
    }
    silent.set_silent(false);
    polled.device("silent", true).await;
    polled.reading(|reading| &*reading.device == "silent" && reading.value == Value::Int(42)).await;
    polled.stop().await;
    server.abort();
}

#[tokio::test]
async fn the_ferry_of_the_plant_is_heard() {
    let plant = Plant::start().unwrap();
    let number = Decode { kind: Kind::Ddmm, order: Abcd, scale: 1.0, offset: 0.0, null: Vec::new() };
    let source = Source::Nmea { sentence: "GGA".into(), field: 2 };
    let mut latitude = point("latitude", source, number);
    latitude.stale_after = Duration::from_secs(5);
    let link = link::Config::Uart(serial(plant.gps_port()));
    let mut polled = Polled::start(link, vec![device("ferry", 0, vec![latitude])]);
    let reading = polled.reading(|reading| reading.quality == Quality::Good).await;
    assert!(matches!(reading.value, Value::Float(degrees) if (54.32..54.34).contains(&degrees)), "{reading:?}");
    polled.stop().await;
    plant.stop().await;
}
