//! One bus and its link, kept open as long as the gateway runs.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::Bus;
use super::desk::Desk;
use super::link::{self, End, Wire};
use super::modbus::conversation::Conversation;
use super::modbus::guard::Framing;
use super::uart::listener::Listener;
use crate::backoff::Backoff;
use crate::reading::{Command, CommandError, Fault, Report};
use crate::status::{self, Pulse};

/// Polls one bus: asks its Modbus devices in turn, or listens to what they say unasked.
pub struct Poller {
    name: std::sync::Arc<str>,
    talk: Talk,
    desk: Desk,
    commands: mpsc::Receiver<Command>,
    dial: Dial,
    backoff: Backoff,
    /// Wires in a row that broke before anything was heard on them.
    useless: u32,
}

/// How a bus is spoken on.
enum Talk {
    Asking(Box<Conversation>),
    Listening(Box<Listener>),
}

/// Opens the link, as often as it is needed.
type Dial = Box<dyn FnMut() -> Pin<Box<dyn Future<Output = Result<Box<dyn Wire>, String>> + Send>> + Send>;

/// The delays between attempts to open a link.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(30);

/// So many useless wires after a useful one are no outage yet: some servers hang up instead of refusing a request.
const BOUNCES: u32 = 2;

impl Poller {
    /// A poller for `bus`. What it reads goes to `reports`, what it is to write comes from `commands`.
    ///
    /// It publishes its status at most four times a second, and at once when a state changes; `pulse` beats at least
    /// every second.
    pub fn new(
        bus: Bus,
        reports: mpsc::Sender<Report>,
        commands: mpsc::Receiver<Command>,
        status: watch::Sender<status::Bus>,
        pulse: Pulse,
    ) -> Poller {
        let config = bus.link.clone();
        let dial: Dial = Box::new(move || {
            let config = config.clone();
            Box::pin(async move { link::open(&config).await })
        });
        Self::over(dial, bus, reports, commands, status, pulse)
    }

    /// The same over any way to open a wire.
    fn over(
        dial: Dial,
        bus: Bus,
        reports: mpsc::Sender<Report>,
        commands: mpsc::Receiver<Command>,
        status: watch::Sender<status::Bus>,
        pulse: Pulse,
    ) -> Poller {
        let now = Instant::now();
        let (name, desk) = (bus.name.clone(), Desk::new(&bus, reports, status, pulse, now));
        let talk = match bus.link.clone() {
            link::Config::ModbusTcp(_) => Talk::Asking(Box::new(Conversation::new(bus, Framing::Mbap, None, now))),
            link::Config::ModbusRtuOverTcp(_) => {
                Talk::Asking(Box::new(Conversation::new(bus, Framing::RtuOverTcp, None, now)))
            }
            link::Config::ModbusRtu(serial) => {
                Talk::Asking(Box::new(Conversation::new(bus, Framing::Rtu, Some(&serial), now)))
            }
            link::Config::Uart(serial) => Talk::Listening(Box::new(Listener::new(bus, &serial, now))),
        };
        Self { name, talk, desk, commands, dial, backoff: Backoff::new(FIRST, MOST), useless: BOUNCES }
    }

    /// Polls until `stop`. A link that cannot be opened is tried again for ever; the status says why. A write that is
    /// under way is finished before it returns.
    pub async fn run(self, stop: CancellationToken) {
        let span = tracing::info_span!("bus", name = %self.name);
        self.keep(stop).instrument(span).await;
    }

    async fn keep(mut self, stop: CancellationToken) {
        let mut delay = Duration::ZERO;
        while let Some(wire) = self.open(delay, &stop).await {
            let end = match &mut self.talk {
                Talk::Asking(talk) => talk.hold(wire, &mut self.desk, &mut self.commands, &stop).await,
                Talk::Listening(talk) => talk.hold(wire, &mut self.desk, &mut self.commands, &stop).await,
            };
            delay = match end {
                End::Stopped => return,
                End::Spent { useful } => {
                    if useful {
                        self.worked();
                    }
                    Duration::ZERO
                }
                // A server that closes after an answer is called again for the next request, and so no more often than
                // there are requests. It is down when it cannot be reached at once.
                End::Broken { useful: true, .. } => {
                    self.worked();
                    Duration::ZERO
                }
                End::Broken { why, useful: false } => {
                    self.useless += 1;
                    if self.useless > BOUNCES {
                        self.down(&why).await;
                    }
                    self.backoff.delay()
                }
            };
        }
    }

    /// Something was heard on the last wire.
    fn worked(&mut self) {
        self.backoff.reset();
        self.useless = 0;
    }

    /// Tells that the link is down; nothing that waits for it is done any more.
    async fn down(&mut self, why: &str) {
        self.desk.link_down(why).await;
        if let Talk::Asking(talk) = &mut self.talk {
            talk.refuse(why);
        }
    }

    /// Opens the link after `delay`, and again until it is open; none when stopped before. Commands are refused so long.
    async fn open(&mut self, mut delay: Duration, stop: &CancellationToken) -> Option<Box<dyn Wire>> {
        loop {
            let dialled = (self.dial)();
            let mut opening = std::pin::pin!(async move {
                sleep(delay).await;
                dialled.await
            });
            let opened = loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return None,
                    opened = &mut opening => break opened,
                    Some(command) = self.commands.recv(), if self.desk.down().is_some() => {
                        let why = self.desk.down().unwrap_or_default().to_owned();
                        // Nobody may be waiting for the result.
                        let _ = command.reply.send(Err(CommandError::Fault(Fault::LinkDown(why))));
                    }
                    () = sleep_until(self.desk.next()) => self.desk.tend().await,
                }
            };
            match opened {
                Ok(wire) => {
                    if self.desk.down().is_some()
                        && let Talk::Asking(talk) = &mut self.talk
                    {
                        talk.restart();
                    }
                    self.desk.link_up();
                    return Some(wire);
                }
                Err(why) => {
                    self.down(&why).await;
                    delay = self.backoff.delay();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
