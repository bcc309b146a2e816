//! What devices say unasked, on a serial port of their own.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::link::{Serial, Wire};
use super::poller::End;
use super::silence::Pace;
use super::{Bus, Device, Source, decode, uart};
use crate::clock::Timestamp;
use crate::reading::{Command, CommandError, Fault, Reading};

/// Hears sentences and passes on each point's newest value, no more often than it is wanted.
pub(crate) struct Listener {
    devices: Vec<Ear>,
    pace: Pace,
}

/// What is heard of one device.
struct Ear {
    device: Device,
    /// One a point.
    held: Vec<Held>,
    /// Without a sentence it counts as gone from here on.
    gone: Instant,
    /// As long as this after each.
    patience: Duration,
}

/// The newest reading of a point, until it may be told.
struct Held {
    reading: Option<Reading>,
    next: Instant,
}

/// A line longer than this is noise; a sentence has at most 82 characters (NMEA 0183), some talkers say more.
const LONGEST: usize = 1024;

impl Listener {
    /// For all devices of `bus`, which share the port.
    pub(crate) fn new(bus: Bus, serial: &Serial, now: Instant) -> Self {
        let ear = |device: Device| {
            let patience = device.points.iter().map(|p| p.stale_after).max().unwrap_or(Duration::from_secs(60));
            let held = device.points.iter().map(|_| Held { reading: None, next: now }).collect();
            Ear { device, held, gone: now + patience, patience }
        };
        Self { devices: bus.devices.into_iter().map(ear).collect(), pace: Pace::of(serial) }
    }

    /// Listens on `wire` until it is gone or the gateway stops.
    pub(crate) async fn hold(
        &mut self,
        mut wire: Box<dyn Wire>,
        desk: &mut Desk,
        commands: &mut mpsc::Receiver<Command>,
        stop: &CancellationToken,
    ) -> End {
        let mut lines = uart::Lines::new(LONGEST);
        let mut bytes = [0; 512];
        let mut useful = false;
        loop {
            desk.tend().await;
            self.tell(desk).await;
            let until = self.next().min(desk.next());
            let read = tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                read = wire.read(&mut bytes) => read,
                Some(command) = commands.recv() => {
                    // Nobody may be waiting for the result.
                    let _ = command.reply.send(Err(CommandError::NotWritable));
                    continue;
                }
                () = sleep_until(until) => continue,
            };
            let why = match read {
                Ok(0) => "closed from the other end, or unplugged".to_owned(),
                Err(e) => e.to_string(),
                Ok(n) => {
                    desk.tally.busy(self.pace.time_of(n), Instant::now());
                    useful |= self.hear(&bytes[..n], &mut lines, desk).await;
                    continue;
                }
            };
            return End::Broken { why, useful };
        }
    }

    /// Takes bytes in; says whether a right sentence ended among them.
    async fn hear(&mut self, bytes: &[u8], lines: &mut uart::Lines, desk: &mut Desk) -> bool {
        let mut heard = false;
        let mut faults = Vec::new();
        lines.push(bytes, |line| match line.and_then(uart::nmea) {
            Ok(sentence) => {
                heard = true;
                self.devices.iter_mut().enumerate().for_each(|(device, ear)| ear.take(device, &sentence, desk));
            }
            Err(e) => faults.push(Fault::Frame(e.to_string())),
        });
        for device in 0..self.devices.len() {
            for fault in &faults {
                desk.tally.failed(device, fault);
                desk.device_failed(device, fault.clone(), false).await;
            }
            if heard {
                let ear = &mut self.devices[device];
                ear.gone = Instant::now() + ear.patience;
                desk.tally.heard(device);
                desk.device_up(device).await;
            }
        }
        heard
    }

    /// Tells what may be told now, and who has fallen silent.
    async fn tell(&mut self, desk: &mut Desk) {
        let now = Instant::now();
        for (device, ear) in self.devices.iter_mut().enumerate() {
            let mut readings = Vec::new();
            for (held, point) in ear.held.iter_mut().zip(&ear.device.points) {
                if held.next <= now
                    && let Some(reading) = held.reading.take()
                {
                    held.next = now + point.every;
                    readings.push(reading);
                }
            }
            desk.readings(readings).await;
            if ear.gone <= now {
                ear.gone = now + ear.patience;
                desk.device_failed(device, Fault::Timeout, true).await;
            }
        }
    }

    /// When there is something to tell.
    fn next(&self) -> Instant {
        let held = self.devices.iter().flat_map(|ear| &ear.held).filter(|held| held.reading.is_some());
        let gone = self.devices.iter().map(|ear| ear.gone);
        let next = held.map(|held| held.next).chain(gone).min();
        next.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }
}

impl Ear {
    fn take(&mut self, device: usize, sentence: &uart::Sentence<'_>, desk: &mut Desk) {
        let (now, at) = (Instant::now(), Timestamp::now());
        for (index, point) in self.device.points.iter().enumerate() {
            let Source::Nmea { sentence: kind, field } = &point.source else { continue };
            if **kind != *sentence.kind() {
                continue;
            }
            let field = usize::from(*field);
            let value = sentence
                .field(field)
                .ok_or_else(|| format!("the sentence has no field {field}"))
                .and_then(|text| decode::text(&point.decode, text, sentence.field(field + 1)));
            let reading = match value {
                Ok(value) => Some(desk.freshness.good(device, index, value, at, now)),
                Err(why) => desk.freshness.bad(device, index, Fault::Decode(why), at, now),
            };
            if reading.is_some() {
                self.held[index].reading = reading;
            }
        }
    }
}
