//! Question and answer with the Modbus devices of a bus, over one wire after the other.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::command;
use super::guard::{Framing, Guard};
use super::pdu::{Answer, Request};
use super::plan::Block;
use super::schedule::{Schedule, Turn};
use crate::bus::desk::Desk;
use crate::bus::link::silence::{Pace, Stillness};
use crate::bus::link::{End, Serial, Wire};
use crate::bus::{Bus, Device, Source, decode};
use crate::clock::Moment;
use crate::reading::{Command, CommandError, Fault, Reading, Value};

/// Who has been asked what, and what is still to be written.
pub(crate) struct Conversation {
    devices: Vec<Device>,
    framing: Framing,
    pace: Pace,
    schedule: Schedule,
    orders: VecDeque<Order>,
}

/// A command that is known to be possible.
struct Order {
    device: usize,
    point: usize,
    request: Request,
    command: Command,
    /// Whether a wire was found closed when it was to be sent.
    turned_back: bool,
}

/// As many commands wait here; more wait in their channel.
const ORDERS: usize = 16;

impl Conversation {
    /// With all devices of `bus`; `serial` is the line, where it is known.
    pub(crate) fn new(bus: Bus, framing: Framing, serial: Option<&Serial>, now: Instant) -> Self {
        let schedule = Schedule::new(&bus, now);
        let pace = serial.map(Pace::of).unwrap_or_default();
        Self { devices: bus.devices, framing, pace, schedule, orders: VecDeque::new() }
    }

    /// The bus was down and is back.
    pub(crate) fn restart(&mut self) {
        self.schedule.restart(Instant::now());
    }

    /// The bus is down: nothing that waits is carried out.
    pub(crate) fn refuse(&mut self, why: &str) {
        self.refuse_if(&Fault::LinkDown(why.to_owned()), |_, _| true);
    }

    /// Asks and writes over `wire` until it is of no more use or the gateway stops.
    pub(crate) async fn hold(
        &mut self,
        wire: Box<dyn Wire>,
        desk: &mut Desk,
        commands: &mut mpsc::Receiver<Command>,
        stop: &CancellationToken,
    ) -> End {
        let stillness = if wire.is_line() { Stillness::precise() } else { Stillness::coarse() };
        let mut guard = Guard::new(wire, self.framing, self.pace, stillness);
        let mut useful = false;
        let mut wrote = false;
        loop {
            desk.tend().await;
            if stop.is_cancelled() {
                return End::Stopped;
            }
            while self.orders.len() < ORDERS
                && let Ok(command) = commands.try_recv()
            {
                self.accept(command);
            }
            let now = Instant::now();
            let turn = self.schedule.select(now);
            let resting = matches!(turn, Turn::Rest(_));
            // Between two writes one read that is due has its turn.
            let order = if wrote && !resting { None } else { self.next_order(now) };
            wrote = order.is_some() || (wrote && resting);
            let result = match (order, turn) {
                (Some(order), _) => self.write(order, &mut guard, desk).await,
                (None, Turn::Ask { device, block }) => {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return End::Stopped,
                        result = self.read(device, block, &mut guard, desk) => result,
                    }
                }
                (None, Turn::Rest(until)) => {
                    let quiet = self.orders.iter().map(|order| self.schedule.quiet(order.device)).min();
                    let until = until.min(desk.next()).min(quiet.unwrap_or(until));
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return End::Stopped,
                        Some(command) = commands.recv(), if self.orders.len() < ORDERS => self.accept(command),
                        () = sleep_until(until) => {}
                    }
                    continue;
                }
            };
            match result {
                Ok(()) => useful = true,
                Err(Fault::LinkDown(why)) => return End::Broken { why, useful },
                Err(_) if guard.is_spent() => return End::Spent { useful },
                Err(_) => {}
            }
        }
    }

    /// Reads a block and tells what came of it. An answer that is an exception is an answer.
    async fn read(
        &mut self,
        device: usize,
        index: usize,
        guard: &mut Guard<Box<dyn Wire>>,
        desk: &mut Desk,
    ) -> Result<(), Fault> {
        let Block { table, address, count, points, .. } = self.schedule.block(device, index).clone();
        let request = Request::Read { table, address, count };
        let result = self.ask(device, &request, guard, desk).await;
        let (now, at) = (Instant::now(), Moment::now());
        match result {
            Ok(answer) => {
                self.schedule.answered(device, index, now);
                desk.device_up(device).await;
                let values = points.iter().map(|point| (*point, self.value(device, *point, address, &answer)));
                let readings = values.filter_map(|(point, value)| match value {
                    Ok(value) => Some(desk.freshness.good(device, point, value, at, now)),
                    Err(why) => desk.freshness.bad(device, point, Fault::Decode(why), at, now),
                });
                let readings: Vec<Reading> = readings.collect();
                self.schedule.rejoin(device, now);
                desk.readings(readings).await;
                Ok(())
            }
            Err(fault @ Fault::Exception(5 | 6)) => {
                // Busy: there is no value, and nothing wrong with the last one until it is stale.
                self.schedule.answered(device, index, now);
                self.schedule.later(device, index, now);
                desk.device_up(device).await;
                desk.device_failed(device, fault, false).await;
                Ok(())
            }
            Err(Fault::Exception(code)) if !is_absence(code) => {
                self.schedule.answered(device, index, now);
                desk.device_up(device).await;
                // Illegal function aside, what is refused together may be given one by one.
                if matches!(code, 2 | 3) && points.len() > 1 {
                    let (name, last) = (&self.devices[device].name, address + (count - 1));
                    tracing::info!(
                        device = %name,
                        "refuses {} {address} to {last} together (exception {code}): reads them point by point",
                        table.key()
                    );
                    self.schedule.split(&self.devices[device], device, index, now);
                    return Ok(());
                }
                self.schedule.refused(device, index, now);
                let fault = Fault::Exception(code);
                let bad = points.iter().filter_map(|p| desk.freshness.bad(device, *p, fault.clone(), at, now));
                let bad: Vec<Reading> = bad.collect();
                desk.readings(bad).await;
                Ok(())
            }
            // Closed while nobody spoke: no fault of the device, which is asked on the next wire.
            Err(fault @ Fault::LinkDown(_)) if !guard.has_sent() && self.schedule.turned_back(device, index) => {
                Err(fault)
            }
            Err(fault) => {
                let late = guard.late_until(self.devices[device].unit);
                let dead = match &fault {
                    Fault::LinkDown(_) => self.schedule.broke(device, index, now, late),
                    _ => self.schedule.missed(device, index, now, late),
                };
                desk.device_failed(device, fault.clone(), dead).await;
                Err(fault)
            }
        }
    }

    /// Carries out a command and sends its result.
    async fn write(&mut self, order: Order, guard: &mut Guard<Box<dyn Wire>>, desk: &mut Desk) -> Result<(), Fault> {
        let result = self.ask(order.device, &order.request, guard, desk).await.map(drop);
        if let Err(Fault::LinkDown(_)) = &result
            && !guard.has_sent()
            && !order.turned_back
        {
            self.orders.push_front(Order { turned_back: true, ..order });
            return result;
        }
        let Order { device, point, command, .. } = order;
        let late = guard.late_until(self.devices[device].unit);
        if let Err(Fault::LinkDown(_)) = &result {
            self.schedule.hush(device, late);
        }
        if let Err(fault @ (Fault::Timeout | Fault::Frame(_))) = &result {
            let dead = self.schedule.unconfirmed(device, Instant::now(), late);
            desk.device_failed(device, fault.clone(), dead).await;
        }
        // Even a write without an answer may have taken effect.
        self.schedule.soon(device, point, Instant::now());
        // Nobody may be waiting for the result.
        let _ = command.reply.send(result.clone().map_err(CommandError::Fault));
        match result {
            Err(Fault::Exception(_)) => Ok(()),
            result => result,
        }
    }

    /// One request, counted.
    async fn ask(
        &self,
        device: usize,
        request: &Request,
        guard: &mut Guard<Box<dyn Wire>>,
        desk: &mut Desk,
    ) -> Result<Answer, Fault> {
        let Device { unit, timeout, .. } = self.devices[device];
        desk.tally.asked(device);
        let start = Instant::now();
        let result = desk.during(guard.ask(unit, request, timeout)).await;
        let now = Instant::now();
        desk.tally.busy(now - start, now);
        match &result {
            Ok(_) => desk.tally.answered(device, now - start),
            Err(fault) => desk.tally.failed(device, fault),
        }
        result
    }

    /// What a point has in the answer to a block that begins at `from`.
    fn value(&self, device: usize, point: usize, from: u16, answer: &Answer) -> Result<Value, String> {
        let point = &self.devices[device].points[point];
        let Source::Modbus { address, .. } = point.source else { return Err("no register".into()) };
        let at = usize::from(address - from);
        let lacking = || "not in the answer".to_owned();
        match answer {
            Answer::Bits(bits) => Ok(decode::bit(&point.decode, *bits.get(at).ok_or_else(lacking)?)),
            Answer::Registers(words) => {
                let words = words.get(at..at + usize::from(point.decode.words())).ok_or_else(lacking)?;
                decode::registers(&point.decode, words)
            }
            Answer::Written => Err(lacking()),
        }
    }

    /// Takes a command in, or refuses it at once when it cannot be carried out.
    fn accept(&mut self, command: Command) {
        let checked = match self.devices.iter().position(|device| device.name == command.device) {
            Some(device) if self.schedule.is_dead(device) => Err(CommandError::Fault(Fault::Timeout)),
            Some(device) => command::request(&self.devices[device], &command.point, &command.value)
                .map(|(point, request)| (device, point, request)),
            None => Err(CommandError::NotWritable),
        };
        match checked {
            Ok((device, point, request)) => {
                self.orders.push_back(Order { device, point, request, command, turned_back: false });
            }
            // Nobody may be waiting for the result.
            Err(error) => drop(command.reply.send(Err(error))),
        }
    }

    /// The first command whose device may be spoken to; those of one device keep their order. What waited for a device
    /// that has died since is refused: it would only cost the others time. What nobody waits for any more was told to
    /// be undone, and stays so.
    fn next_order(&mut self, now: Instant) -> Option<Order> {
        self.orders.retain(|order| !order.command.reply.is_closed());
        self.refuse_if(&Fault::Timeout, |schedule, order| schedule.is_dead(order.device));
        let ready = self.orders.iter().position(|order| self.schedule.quiet(order.device) <= now)?;
        self.orders.remove(ready)
    }

    fn refuse_if(&mut self, fault: &Fault, which: impl Fn(&Schedule, &Order) -> bool) {
        for order in std::mem::take(&mut self.orders) {
            if which(&self.schedule, &order) {
                // Nobody may be waiting for the result.
                let _ = order.command.reply.send(Err(CommandError::Fault(fault.clone())));
            } else {
                self.orders.push_back(order);
            }
        }
    }
}

/// Whether a gateway says with this exception that the device behind it does not answer (Modbus application protocol
/// V1.1b3, section 7).
fn is_absence(code: u8) -> bool {
    matches!(code, 10 | 11)
}
