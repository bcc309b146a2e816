//! The simulated devices, asked by independent clients.

use std::time::Duration;

use fieldpost::bus::Table;
use fieldpost::simulator::{Device, Plant, Pty, Registers, Units, rtu, tcp};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::ModbusClient;
use crate::support::modbus::{At, Make};

const MAKES: [Make; 2] = [Make::Libmodbus, Make::Pymodbus];

fn units() -> Units {
    let mut registers = Registers::default();
    registers.set_bits(Table::Coil, 0, &[false; 40]);
    registers.set_bits(Table::Discrete, 0, &[true, false, true, true, false, false, false, false, true, true]);
    registers.set_words(Table::Input, 0, &[0x1234, 0xFFFF]);
    registers.set_words(Table::Holding, 0, &[0; 125]);
    Units::from([(1, Device::new(registers.clone())), (9, Device::new(registers))])
}

async fn over_tcp() -> (At, Units, JoinHandle<std::io::Result<()>>) {
    let units = units();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (At::Tcp(port), units.clone(), tokio::spawn(tcp::serve(listener, units)))
}

async fn over_rtu() -> (At, Units, JoinHandle<std::io::Result<()>>) {
    let units = units();
    let line = Pty::open().unwrap();
    let at = At::Rtu(line.path().to_owned());
    (at, units.clone(), tokio::spawn(rtu::serve(line, units, Duration::from_millis(2))))
}

/// What works alike over TCP and RTU.
async fn reads_and_writes(make: Make, at: &At, units: &Units) {
    let said = ModbusClient::run(
        make,
        at,
        &[
            "read-discrete:0:10",
            "read-input:0:2",
            "write-coil:3:1",
            "write-coils:10:1,0,1,1,0,0,0,0,1",
            "read-coils:0:20",
            "write-register:20:42",
            "write-registers:16:1,65535",
            "read-holding:16:5",
            "read-holding:0:125",
            "read-holding:120:6",
            "write-register:200:1",
            "unit:9",
            "read-holding:20:1",
        ],
    )
    .await;
    let mut block = ["0"; 125];
    (block[16], block[17], block[20]) = ("1", "65535", "42");
    let expected = [
        "1 0 1 1 0 0 0 0 1 1",
        "4660 65535",
        "ok",
        "ok",
        "0 0 0 1 0 0 0 0 0 0 1 0 1 1 0 0 0 0 1 0",
        "ok",
        "ok",
        "1 65535 0 0 42",
        &block.join(" "),
        "exception 2",
        "exception 2",
        "0",
    ];
    assert_eq!(said, expected, "{make:?} at {at:?}");
    units[&1].with(|registers| {
        assert_eq!(registers.words(Table::Holding, 16, 2), Some(vec![1, 65535]));
        assert_eq!(registers.bits(Table::Coil, 3, 1), Some(vec![true]));
    });
}

#[tokio::test]
async fn libmodbus_and_pymodbus_read_and_write_over_tcp() {
    for make in MAKES {
        let (at, units, server) = over_tcp().await;
        reads_and_writes(make, &at, &units).await;
        assert_eq!(ModbusClient::run(make, &at, &["unit:5", "read-input:0:1"]).await, ["exception 11"]);
        server.abort();
    }
}

#[tokio::test]
async fn libmodbus_and_pymodbus_read_and_write_over_rtu() {
    for make in MAKES {
        let (at, units, server) = over_rtu().await;
        reads_and_writes(make, &at, &units).await;
        let said = ModbusClient::run(make, &at, &["unit:5", "read-input:0:1", "unit:1", "read-input:0:1"]).await;
        assert_eq!(said, ["no answer", "4660"], "{make:?}");
        server.abort();
    }
}

#[tokio::test]
async fn a_silent_device_times_out_and_its_neighbour_does_not() {
    for make in MAKES {
        let (at, units, server) = over_rtu().await;
        units[&1].set_silent(true);
        let operations = ["read-input:0:1", "unit:9", "read-input:0:1"];
        assert_eq!(ModbusClient::run(make, &at, &operations).await, ["no answer", "4660"], "{make:?}");
        server.abort();
    }
}

#[tokio::test]
async fn several_clients_are_answered_at_once() {
    let (at, _, server) = over_tcp().await;
    let many = ["read-input:0:1"; 50];
    let (one, other) = tokio::join!(ModbusClient::run(MAKES[0], &at, &many), ModbusClient::run(MAKES[1], &at, &many));
    assert_eq!((one, other), (vec!["4660".to_owned(); 50], vec!["4660".to_owned(); 50]));
    server.abort();
}

/// A float from two registers as a client printed them.
fn float(line: &str, low_word_first: bool) -> f32 {
    let words: Vec<u32> = line.split(' ').map(|word| word.parse().unwrap()).collect();
    let (high, low) = if low_word_first { (words[1], words[0]) } else { (words[0], words[1]) };
    f32::from_bits(high << 16 | low)
}

#[tokio::test]
async fn the_plant_is_found_where_its_config_looks() {
    let plant = Plant::start().unwrap();
    let meters = At::Rtu(plant.rtu_port().to_owned());
    let operations = ["read-input:0:2", "read-input:6:2", "read-input:12:2", "read-input:70:2", "read-input:72:2"];
    let said = ModbusClient::run(Make::Libmodbus, &meters, &operations).await;
    let values: Vec<f32> = said.iter().map(|line| float(line, false)).collect();
    let plausible = [220.0..240.0, 1.0..20.0, 500.0..4000.0, 49.9..50.1, 1284.0..1285.0];
    assert!(values.iter().zip(&plausible).all(|(value, range)| range.contains(value)), "{values:?}");

    let tank = At::Tcp(plant.tcp_port());
    let still = ModbusClient::run(Make::Libmodbus, &tank, &["read-input:8:1", "read-holding:16:2"]).await;
    assert_eq!(float(&still[1], true), 0.0);
    ModbusClient::run(Make::Libmodbus, &tank, &["write-register:20:100", "write-coil:3:1"]).await;
    let level: u16 = still[0].parse().unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let now = ModbusClient::run(Make::Libmodbus, &tank, &["read-input:8:1", "read-holding:16:2"]).await;
        if now[0].parse::<u16>().unwrap() > level {
            assert!((95.0..105.0).contains(&float(&now[1], true)), "{now:?}");
            break;
        }
        assert!(tokio::time::Instant::now() < end, "the pump runs and the level stays at {level}");
    }
    plant.stop().await;
}

#[test]
fn the_demo_config_is_valid_once_its_ports_are_filled_in() {
    let mut text = include_str!("../../config/demo.toml").to_owned();
    for (place, value) in [
        ("@rtu@", "/dev/pts/1"),
        ("@tcp@", "5020"),
        ("@gps@", "/dev/pts/2"),
        ("@mqtt@", "127.0.0.1:1884"),
        ("@cloud@", "127.0.0.1:1885"),
        ("@store@", "/tmp/demo.db"),
        ("@admin@", "127.0.0.1:8081"),
    ] {
        assert_eq!(text.matches(place).count(), 1, "{place}");
        text = text.replace(place, value);
    }
    if let Err(e) = fieldpost::config::Config::parse("config/demo.toml".as_ref(), text) {
        panic!("{e}");
    }
}
