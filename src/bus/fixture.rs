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
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::decode::{Decode, Kind, Order};
use super::link::serial::Port;
use super::link::{self, Wire};
use super::modbus::crc16;
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

/// The devices at the other end of a line: registers that a test sets and that answer, or do not.
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
    /// Whether each line is cut at the first request.
    pub(crate) rude: bool,
    /// Whether the line is closed after each answer.
    pub(crate) curt: bool,
    /// Set to close a line on which nothing is said.
    pub(crate) idle: Arc<Notify>,
    /// Units that refuse as busy.
    pub(crate) busy: HashSet<u8>,
    /// A register that is not refused when it lacks: the line is closed.
    pub(crate) touchy: Option<u16>,
    /// Whether Modbus TCP is spoken instead of RTU.
    pub(crate) mbap: bool,
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
        let rude = self.state().rude;
        self.state().cut = rude;
        let (ours, theirs) = duplex(4096);
        tokio::spawn(self.clone().answer(theirs));
        Ok(Box::new(ours))
    }

    /// Answers on `wire` until it is cut or the other end goes.
    pub(crate) async fn answer(self, mut wire: impl Wire) {
        // An MBAP frame is an RTU frame with a head before it and no CRC behind it.
        let head_len = if self.state().mbap { 6 } else { 0 };
        let mut bytes = vec![0; if head_len > 0 { 12 } else { 8 }];
        let idle = self.state().idle.clone();
        loop {
            tokio::select! {
                read = wire.read_exact(&mut bytes) => if read.is_err() || self.state().cut { return },
                () = idle.notified() => return,
            }
            let (head, request) = bytes.split_at(head_len);
            let [address, count] = [2, 4].map(|at| u16::from_be_bytes([request[at], request[at + 1]]));
            let (unit, function) = (request[0], request[1]);
            sleep(Duration::from_millis(5)).await;
            if self.state().touchy == Some(address) {
                return;
            }
            let Some(mut body) = self.state().answer(unit, function, address, count) else { continue };
            let frame = if let [a, b, ..] = *head {
                [&[a, b, 0, 0, 0, body.len() as u8][..], &body].concat()
            } else {
                body.extend(crc16(&body).to_le_bytes());
                body
            };
            // The other end may have closed in the meantime.
            let _ = wire.write_all(&frame).await;
            if self.state().curt {
                return;
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
        if self.busy.contains(&unit) {
            return Some(vec![unit, function | 0x80, 6]);
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
