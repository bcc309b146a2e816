//! Where a bus's news goes out: readings, devices that come and go, status and the sign of life.

mod freshness;
mod tally;

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Bus;
use crate::clock::Moment;
use crate::reading::{Fault, Reading, Report};
use crate::status::{self, Pulse, State};
use freshness::Freshness;
use tally::Tally;

/// All that a poller tells others. It must be tended, at the latest at [`Desk::next`].
#[derive(Debug)]
pub(crate) struct Desk {
    /// The last word on every point.
    pub(crate) freshness: Freshness,
    /// The counts.
    pub(crate) tally: Tally,
    devices: Vec<Known>,
    /// Why the link is down, when it is.
    down: Option<String>,
    reports: mpsc::Sender<Report>,
    pulse: Pulse,
}

#[derive(Debug)]
struct Known {
    name: std::sync::Arc<str>,
    online: Option<bool>,
    /// What went wrong last; none while it answers.
    fault: Option<Fault>,
}

/// The pulse beats, and counts go out, at least this often.
const ROUND: Duration = Duration::from_millis(500);

impl Desk {
    /// A desk that knows nothing of the bus yet.
    pub(crate) fn new(
        bus: &Bus,
        reports: mpsc::Sender<Report>,
        out: watch::Sender<status::Bus>,
        pulse: Pulse,
        now: Instant,
    ) -> Self {
        let known = |d: &super::Device| Known { name: d.name.clone(), online: None, fault: None };
        Self {
            freshness: Freshness::new(bus, now),
            tally: Tally::new(bus, out, now),
            devices: bus.devices.iter().map(known).collect(),
            down: None,
            reports,
            pulse,
        }
    }

    /// When to tend the desk next.
    pub(crate) fn next(&self) -> Instant {
        self.freshness.next().min(Instant::now() + ROUND)
    }

    /// Why the link is down, when it is.
    pub(crate) fn down(&self) -> Option<&str> {
        self.down.as_deref()
    }

    /// What went wrong last with a device that does not answer since.
    pub(crate) fn fault(&self, device: usize) -> Option<&Fault> {
        self.devices[device].fault.as_ref()
    }

    /// Beats, tells what has become overdue, and publishes the counts.
    pub(crate) async fn tend(&mut self) {
        self.pulse.beat();
        let now = Instant::now();
        let Self { freshness, devices, down, .. } = self;
        let overdue = freshness.overdue(Moment::now(), now, |device| match (&*down, &devices[device].fault) {
            (Some(why), _) => Fault::LinkDown(why.clone()),
            (None, fault) => fault.clone().unwrap_or(Fault::Timeout),
        });
        self.tally.publish(now);
        self.readings(overdue).await;
    }

    /// Tends the desk for as long as `work` takes.
    pub(crate) async fn during<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                output = &mut work => return output,
                () = sleep_until(self.next()) => self.tend().await,
            }
        }
    }

    /// Sends readings, if there are any.
    pub(crate) async fn readings(&mut self, readings: Vec<Reading>) {
        if !readings.is_empty() {
            self.tell(Report::Readings(readings)).await;
        }
    }

    /// The device answers.
    pub(crate) async fn device_up(&mut self, device: usize) {
        let known = &mut self.devices[device];
        known.fault = None;
        if known.online != Some(true) {
            tracing::info!(device = %known.name, "answers");
            self.set_online(device, true, State::Up).await;
        }
    }

    /// The device has failed; `gone` when that is more than once.
    pub(crate) async fn device_failed(&mut self, device: usize, fault: Fault, gone: bool) {
        let known = &mut self.devices[device];
        if gone && known.online != Some(false) {
            tracing::warn!(device = %known.name, "does not answer: {fault}");
            known.fault = Some(fault.clone());
            self.set_online(device, false, State::Down(fault.to_string())).await;
        } else {
            known.fault = Some(fault);
        }
    }

    /// The link is open.
    pub(crate) fn link_up(&mut self) {
        if self.down.take().is_some() {
            tracing::info!("the bus is back");
        }
        self.tally.link(State::Up, Instant::now());
    }

    /// The link is down, and every device with it.
    pub(crate) async fn link_down(&mut self, why: &str) {
        if self.down.as_deref() != Some(why) {
            tracing::warn!("the bus is down: {why}");
            self.down = Some(why.to_owned());
        }
        self.tally.link(State::Down(why.to_owned()), Instant::now());
        for device in 0..self.devices.len() {
            let fault = Fault::LinkDown(why.to_owned());
            self.device_failed(device, fault, true).await;
        }
    }

    async fn set_online(&mut self, device: usize, online: bool, state: State) {
        self.devices[device].online = Some(online);
        self.tally.device(device, state, Instant::now());
        let name = self.devices[device].name.clone();
        self.tell(Report::Device { device: name, online }).await;
    }

    /// Sends, and waits for room if need be; the pulse goes on, since it is not this part that hangs.
    async fn tell(&self, report: Report) {
        let mut sending = std::pin::pin!(self.reports.send(report));
        loop {
            tokio::select! {
                biased;
                // Nobody listens any more only when everything is being stopped.
                _ = &mut sending => return,
                () = tokio::time::sleep(ROUND) => self.pulse.beat(),
            }
        }
    }
}
