//! A bus for tests, and the devices on it.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep};

use super::decode::{Decode, Kind, Order};
use super::guard::crc16;
use super::link::{self, Wire};
use super::serial::Port;
use super::{Bus, Device, Point, Source, Table, Write};

/// A bus over TCP with these devices; tests lay their own wire.
pub(crate) fn bus(devices: Vec<Device>) -> Bus {
    let link = link::Config::ModbusTcp(link::Tcp { host: "test".into(), port: 502 });
    Bus { name: "bus".into(), link, devices }
}

/// A device with a writable `u16` holding register at each address, `r<address>`, read every second, stale after
/// three.
pub(crate) fn device(name: &str, unit: u8, registers: &[u16]) -> Device {
    let point = |address: &u16| Point {
        name: format!("r{address}").into(),
        source: Source::Modbus { table: Table::Holding, address: *address },
        decode: Decode { kind: Kind::U16, order: Order::Abcd, scale: 1.0, offset: 0.0, null: Vec::new() },
        every: Duration::from_secs(1),
        stale_after: Duration::from_secs(3),
        write: Some(Write { min: None, max: Some(1000.0) }),
    };
    Device {
        name: Arc::from(name),
        unit,
        timeout: Duration::from_millis(500),
        max_registers: 125,
        max_bits: 2000,
        max_gap: 0,
        points: registers.iter().map(point).collect(),
    }
}

/// The devices at the other end of an RTU line: registers that a test sets and that answer, or do not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Register by unit and address; others are refused with exception 2.
    pub(crate) registers: HashMap<(u8, u16), u16>,
    /// Units that do not answer.
    pub(crate) dead: HashSet<u8>,
    /// Set while the line cannot be opened.
    pub(crate) missing: bool,
    /// Set to cut the open line off.
    pub(crate) cut: bool,
    /// How often it was opened.
    pub(crate) opened: usize,
    /// What was asked: when, and unit, function, address, count or value.
    pub(crate) log: Vec<(Instant, u8, u8, u16, u16)>,
}

impl Line {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// When `unit` was asked with `function`.
    pub(crate) fn asked(&self, unit: u8, function: u8) -> Vec<Instant> {
        self.state().log.iter().filter(|entry| (entry.1, entry.2) == (unit, function)).map(|entry| entry.0).collect()
    }

    /// Opens the line.
    pub(crate) fn open(&self) -> Result<Box<dyn Wire>, String> {
        if self.state().missing {
            return Err("/dev/test is not there (unplugged?)".into());
        }
        self.state().opened += 1;
        self.state().cut = false;
        let (ours, theirs) = duplex(4096);
        tokio::spawn(self.clone().answer(theirs));
        Ok(Box::new(ours))
    }

    /// Answers on `wire` until it is cut or the other end goes.
    pub(crate) async fn answer(self, mut wire: impl Wire) {
        let mut request = [0; 8];
        while wire.read_exact(&mut request).await.is_ok() && !self.state().cut {
            let [address, count] = [2, 4].map(|at| u16::from_be_bytes([request[at], request[at + 1]]));
            let (unit, function) = (request[0], request[1]);
            sleep(Duration::from_millis(5)).await;
            let answer = self.state().answer(unit, function, address, count);
            if let Some(mut frame) = answer {
                frame.extend(crc16(&frame).to_le_bytes());
                wire.write_all(&frame).await.unwrap();
            }
        }
    }
}

impl State {
    fn answer(&mut self, unit: u8, function: u8, address: u16, count: u16) -> Option<Vec<u8>> {
        self.log.push((Instant::now(), unit, function, address, count));
        if self.dead.contains(&unit) {
            return None;
        }
        let [a, b] = address.to_be_bytes();
        let refused = Some(vec![unit, function | 0x80, 2]);
        if function == 6 {
            let [c, d] = count.to_be_bytes();
            return match self.registers.get_mut(&(unit, address)) {
                Some(register) => {
                    *register = count;
                    Some(vec![unit, function, a, b, c, d])
                }
                None => refused,
            };
        }
        let mut frame = vec![unit, function, 2 * count as u8];
        for at in address..address + count {
            match self.registers.get(&(unit, at)) {
                Some(register) => frame.extend(register.to_be_bytes()),
                None => return refused,
            }
        }
        Some(frame)
    }
}

impl Wire for DuplexStream {}

/// The two ends of a serial line that exists only here: the devices' end, and the port's path. Dropping the first
/// unplugs it.
pub(crate) fn pty() -> (Port, PathBuf) {
    let end = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    rustix::pty::unlockpt(&end).unwrap();
    rustix::fs::fcntl_setfl(&end, OFlags::RDWR | OFlags::NONBLOCK).unwrap();
    let name = rustix::pty::ptsname(&end, Vec::new()).unwrap();
    (Port::over(end).unwrap(), PathBuf::from(OsStr::from_bytes(name.as_bytes())))
}
