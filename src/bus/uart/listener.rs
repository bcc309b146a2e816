//! What devices say unasked, on a serial port of their own.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::bus::desk::Desk;
use crate::bus::link::silence::Pace;
use crate::bus::link::{End, Serial, Wire};
use crate::bus::{Bus, Device, Source, decode, uart};
use crate::clock::Moment;
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
            for (index, (held, point)) in ear.held.iter_mut().zip(&ear.device.points).enumerate() {
                if held.next <= now
                    && let Some(reading) = held.reading.take()
                {
                    held.next = now + point.every;
                    // Held back for longer than it may be old: its end has been told already.
                    if !desk.freshness.is_overdue(device, index) {
                        readings.push(reading);
                    }
                }
            }
            desk.readings(readings).await;
            if ear.gone <= now {
                ear.gone = now + ear.patience;
                let fault = desk.fault(device).cloned().unwrap_or(Fault::Timeout);
                desk.device_failed(device, fault, true).await;
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
        let (now, at) = (Instant::now(), Moment::now());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::decode::{Decode, Kind};
    use crate::bus::{fixture, link, link::Parity};
    use crate::reading::{Quality, Report, Value};
    use crate::status::{self, Pulse};
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::watch;

    const SECOND: Duration = Duration::from_secs(1);

    /// Listens to a device `gps` with one point, field 2 of GGA, wanted so often and stale after 5 s.
    fn listen(
        every: Duration,
    ) -> (DuplexStream, mpsc::Receiver<Report>, watch::Receiver<status::Bus>, tokio::task::JoinHandle<End>) {
        let mut device = fixture::device("gps", 0, &[0]);
        let point = &mut device.points[0];
        point.source = Source::Nmea { sentence: "GGA".into(), field: 2 };
        point.decode = Decode { kind: Kind::Number, ..point.decode.clone() };
        (point.every, point.stale_after) = (every, 5 * SECOND);
        let serial = Serial { port: "/dev/test".into(), baud: 9600, parity: Parity::None, data_bits: 8, stop_bits: 1 };
        let bus = Bus { link: link::Config::Uart(serial.clone()), ..fixture::bus(vec![device]) };
        let (reports_in, reports) = mpsc::channel(64);
        let (status_in, status) = watch::channel(status::Bus::default());
        let now = Instant::now();
        let mut desk = Desk::new(&bus, reports_in, status_in, Pulse::new(), now);
        let mut listener = Listener::new(bus, &serial, now);
        let (ours, theirs) = duplex(4096);
        let task = tokio::spawn(async move {
            let (_commands, mut commands) = mpsc::channel(1);
            listener.hold(Box::new(ours), &mut desk, &mut commands, &CancellationToken::new()).await
        });
        (theirs, reports, status, task)
    }

    fn sentence(kind: &str, value: u32) -> Vec<u8> {
        let body = format!("GP{kind},120000,{value},N");
        let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
        format!("${body}*{sum:02X}\r\n").into_bytes()
    }

    async fn hear(reports: &mut mpsc::Receiver<Report>, time: Duration) -> Vec<(Value, Quality)> {
        let end = Instant::now() + time;
        let mut heard = Vec::new();
        while let Ok(Some(report)) = tokio::time::timeout_at(end, reports.recv()).await {
            if let Report::Readings(readings) = report {
                heard.extend(readings.into_iter().map(|r| (r.value, r.quality)));
            }
        }
        heard
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_value_is_told_no_more_often_than_wanted() {
        let (mut wire, mut reports, _status, _task) = listen(2 * SECOND);
        let talking = tokio::spawn(async move {
            for n in 0..100 {
                wire.write_all(&sentence("GGA", n)).await.unwrap();
                wire.write_all(&sentence("RMC", 999)).await.unwrap();
                tokio::time::sleep(SECOND / 10).await;
            }
            wire
        });
        let heard = hear(&mut reports, 11 * SECOND).await;
        let values: Vec<_> = heard.iter().map(|(value, _)| value.clone()).collect();
        let wanted = [0, 20, 40, 60, 80, 99];
        assert_eq!(values.len(), wanted.len(), "{values:?}");
        for (value, wanted) in values.iter().zip(wanted) {
            let Value::Int(value) = value else { panic!("{value:?}") };
            assert!((wanted - 1..=wanted).contains(value), "{values:?}");
        }
        talking.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_damage_turn_a_point_stale_once() {
        let (mut wire, mut reports, status, _task) = listen(2 * SECOND);
        wire.write_all(&sentence("GGA", 7)).await.unwrap();
        assert_eq!(hear(&mut reports, SECOND).await, [(Value::Int(7), Quality::Good)]);
        assert_eq!(status.borrow().devices[0].state, status::State::Up);
        for _ in 0..30 {
            let mut damaged = sentence("GGA", 8);
            damaged[10] ^= 1;
            wire.write_all(&damaged).await.unwrap();
            tokio::time::sleep(SECOND).await;
        }
        assert_eq!(hear(&mut reports, SECOND).await, [(Value::Int(7), Quality::Stale)]);
        let state = status.borrow().devices[0].state.clone();
        assert!(matches!(&state, status::State::Down(why) if why.contains("checksum")), "{state:?}");
        assert_eq!(status.borrow().devices[0].counters.bad_frames, 30);
        wire.write_all(&sentence("GGA", 9)).await.unwrap();
        assert_eq!(hear(&mut reports, SECOND).await, [(Value::Int(9), Quality::Good)]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_good_is_told_after_stale() {
        let (mut wire, mut reports, _status, _task) = listen(20 * SECOND);
        for n in [1, 2] {
            wire.write_all(&sentence("GGA", n)).await.unwrap();
            tokio::time::sleep(SECOND / 10).await;
        }
        let heard = hear(&mut reports, 60 * SECOND).await;
        assert_eq!(heard, [(Value::Int(1), Quality::Good), (Value::Int(2), Quality::Stale)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unplugged_port_ends_the_listening() {
        let (mut wire, _reports, _status, task) = listen(2 * SECOND);
        wire.write_all(&sentence("GGA", 7)).await.unwrap();
        tokio::time::sleep(SECOND).await;
        drop(wire);
        assert!(matches!(task.await.unwrap(), End::Broken { useful: true, .. }));
    }
}
