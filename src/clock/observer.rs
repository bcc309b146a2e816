//! The task that looks at the wall clock: once a second, whether it was set, and whether it is to be trusted.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::moment::trust;
use super::trust::{Look, Rule, Standing, Trust};
use super::{Timestamp, Uptime, battery, kernel};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);

/// How long reading the clocks may take for the readings to belong together.
const TOGETHER: Duration = Duration::from_millis(5);

/// Who looks at the wall clock. There is one in a program: what it finds holds for every [`super::Moment`] from then on.
#[derive(Debug)]
pub struct Observer {
    trust: Trust,
    standing: watch::Sender<Standing>,
}

impl Observer {
    /// Looks for the first time.
    pub fn new(rule: Rule) -> Self {
        let mut observer = Self { trust: Trust::new(rule), standing: watch::Sender::default() };
        observer.look();
        observer
    }

    /// How the clock stands, from now on.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// An earlier run since the same start of the computer had a trusted clock, which was so many milliseconds ahead of
    /// [`Uptime`].
    pub fn recall(&mut self, ahead: i64) {
        self.trust.recall(ahead);
        self.tell();
    }

    /// Looks until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let standing = self.standing.borrow().clone();
        if !standing.synced {
            tracing::warn!("the clock is not trusted: {}. Times are marked until it is set", standing.why);
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.look(),
            }
        }
    }

    fn look(&mut self) {
        let Some(look) = take() else { return };
        if let Some(by) = self.trust.look(look) {
            let span = humantime::format_duration(Duration::from_millis(by.unsigned_abs()));
            let way = if by < 0 { "back" } else { "forward" };
            tracing::warn!("the clock was set {span} {way}: it shows {}", look.wall);
        }
        self.tell();
    }

    fn tell(&self) {
        let standing = self.trust.standing();
        trust(standing.synced);
        self.standing.send_if_modified(|told| {
            if *told == standing {
                return false;
            }
            // The first look is told of when it is known what earlier runs saw.
            match (told.synced, standing.synced) {
                _ if told.why.is_empty() => {}
                (false, true) => tracing::info!("the clock is trusted: {}", standing.why),
                (true, false) => tracing::warn!("the clock is not trusted: {}. Times are marked", standing.why),
                _ => {}
            }
            *told = standing;
            true
        });
    }
}

/// Reads both clocks; none when other programs kept them apart.
fn take() -> Option<Look> {
    let synchronised = kernel::synchronised();
    (0..5).find_map(|_| {
        let before = Uptime::now();
        let wall = Timestamp::now();
        let uptime = Uptime::now();
        let together = uptime.duration().saturating_sub(before.duration()) <= TOGETHER;
        together.then(|| Look { wall, uptime, synchronised, battery: battery::keeps(wall) })
    })
}
