//! Whether the wall clock is believed. Pure.
//!
//! | seen | the rule `auto` | `ntp` |
//! |---|---|---|
//! | it shows a time before this version was made | not believed, whatever else | the same |
//! | the kernel says that it is synchronised | believed | believed |
//! | a clock with a battery had set it when the gateway started | believed | |
//! | somebody set it while the gateway ran | believed | |
//! | anything else | not believed | not believed |
//!
//! What was believed once is believed until the computer is started anew: a time server that is out of reach for a day
//! costs a second or two, and nothing has to be marked for that.

use serde::{Deserialize, Serialize};

use super::{Moment, RELEASED, Timestamp, Uptime};

/// From how many milliseconds on the wall clock has been set, and not just been read a little late.
const STEP: u64 = 100;

/// `[gateway] clock`: when the wall clock is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// By all signs that there are.
    #[default]
    Auto,
    /// Only when the kernel says that a time server, or a receiver of one, keeps it.
    Ntp,
    /// Always.
    Trusted,
}

/// What there is to see at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) wall: Timestamp,
    pub(super) uptime: Uptime,
    /// Whether the kernel calls the clock synchronised, if it says.
    pub(super) synchronised: Option<bool>,
    /// Whether a clock with a battery shows the same.
    pub(super) battery: bool,
}

/// How the wall clock stands: what the page shows of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Standing {
    /// Whether it is believed.
    pub synced: bool,
    /// Why, or why not.
    pub why: String,
    /// How often it was set since the gateway started.
    pub steps: u64,
    /// The last time.
    pub step: Option<Step>,
}

/// The wall clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Step {
    /// When it was seen.
    pub at: Moment,
    /// How far forward, in milliseconds; back when it is negative.
    #[serde(rename = "by_ms")]
    pub by: i64,
}

/// What speaks for the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    Config,
    Kernel,
    Battery,
    Set,
    Earlier,
}

/// The rule, and what was seen since the gateway started.
#[derive(Debug)]
pub(super) struct Trust {
    rule: Rule,
    ground: Option<Ground>,
    /// How far the wall clock is ahead of the time since the start, in milliseconds: that changes only when it is set.
    ahead: Option<i64>,
    last: Option<Look>,
    steps: u64,
    step: Option<Step>,
}

impl Trust {
    pub(super) fn new(rule: Rule) -> Self {
        let ground = (rule == Rule::Trusted).then_some(Ground::Config);
        Self { rule, ground, ahead: None, last: None, steps: 0, step: None }
    }

    /// Takes in what is seen. Returns by how many milliseconds the clock was set since the last look, if it was.
    pub(super) fn look(&mut self, look: Look) -> Option<i64> {
        let ahead = look.wall.0.saturating_sub(look.uptime.millis());
        let first = self.ahead.is_none();
        let step = self.ahead.map(|before| ahead.saturating_sub(before)).filter(|by| by.unsigned_abs() >= STEP);
        if first || step.is_some() {
            self.ahead = Some(ahead);
        }
        self.last = Some(look);
        if look.synchronised == Some(true) {
            self.ground = self.ground.filter(|ground| *ground == Ground::Config).or(Some(Ground::Kernel));
        } else if self.rule == Rule::Auto && self.ground.is_none() && look.is_plausible() {
            self.ground = match (first, step) {
                (true, _) if look.battery => Some(Ground::Battery),
                (false, Some(_)) => Some(Ground::Set),
                _ => None,
            };
        }
        if let Some(by) = step {
            self.steps += 1;
            let at = Moment { wall: look.wall, uptime: Some(look.uptime), trusted: self.synced() };
            self.step = Some(Step { at, by });
        }
        step
    }

    /// An earlier run since the same start of the computer believed a clock that was so many milliseconds ahead of the
    /// time since then.
    pub(super) fn recall(&mut self, ahead: i64) {
        let same = self.ahead.is_some_and(|now| now.abs_diff(ahead) < STEP);
        if same && self.ground.is_none() {
            self.ground = Some(Ground::Earlier);
        }
    }

    pub(super) fn standing(&self) -> Standing {
        Standing { synced: self.synced(), why: self.why(), steps: self.steps, step: self.step }
    }

    fn synced(&self) -> bool {
        self.ground.is_some() && self.is_plausible()
    }

    fn is_plausible(&self) -> bool {
        self.last.is_none_or(|look| look.is_plausible())
    }

    fn why(&self) -> String {
        if let Some(look) = self.last.filter(|look| !look.is_plausible()) {
            let date = look.wall.to_string();
            return format!("it shows {}, and this program is newer", date.get(..10).unwrap_or(&date));
        }
        let silent = self.last.is_some_and(|look| look.synchronised.is_none());
        let why = match (self.ground, self.rule) {
            (Some(Ground::Config), _) => "the config says so",
            (Some(Ground::Kernel), _) => "a time server keeps it",
            (Some(Ground::Battery), _) => "this computer has a clock that goes on without power",
            (Some(Ground::Set), _) => "it was set while the gateway ran",
            (Some(Ground::Earlier), _) => "it was set since the computer was started",
            (None, _) if silent => "nobody is known to have set it, and the kernel may not be asked",
            (None, Rule::Ntp) => "no time server has set it since the computer was started",
            (None, _) => "nobody has set it since the computer was started",
        };
        why.to_owned()
    }
}

impl Look {
    fn is_plausible(&self) -> bool {
        self.wall >= RELEASED.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const TODAY: i64 = RELEASED.1.0 + 1000 * HOUR;

    /// The clock shows `wall` at this many seconds after the start of the computer.
    fn look(wall: i64, uptime: i64) -> Look {
        Look { wall: Timestamp(wall), uptime: Uptime::of(uptime * 1000), synchronised: Some(false), battery: false }
    }

    fn synchronised(look: Look) -> Look {
        Look { synchronised: Some(true), ..look }
    }

    #[test]
    fn a_pi_is_believed_when_a_time_server_has_set_it_and_from_then_on() {
        for rule in [Rule::Auto, Rule::Ntp] {
            let mut trust = Trust::new(rule);
            assert_eq!(trust.look(look(TODAY, 10)), None);
            assert!(!trust.standing().synced);
            assert_eq!(trust.look(synchronised(look(TODAY + 1000, 11))), None);
            assert!(trust.standing().synced);
            // The server is away for a day: the kernel gives up after nine hours.
            assert_eq!(trust.look(look(TODAY + 25 * HOUR, 10 + 25 * 3600)), None);
            assert!(trust.standing().synced);
        }
    }

    #[test]
    fn a_time_before_this_version_is_never_believed() {
        for rule in [Rule::Auto, Rule::Ntp, Rule::Trusted] {
            let mut trust = Trust::new(rule);
            trust.look(synchronised(Look { battery: true, ..look(100_000, 100) }));
            let standing = trust.standing();
            assert!(!standing.synced && standing.why.contains("1970-01-01"), "{standing:?}");
        }
    }

    #[test]
    fn a_battery_counts_at_the_start_and_by_all_signs_only() {
        for (rule, believed) in [(Rule::Auto, true), (Rule::Ntp, false), (Rule::Trusted, true)] {
            let mut trust = Trust::new(rule);
            trust.look(Look { battery: true, ..look(TODAY, 10) });
            assert_eq!(trust.standing().synced, believed);
        }
    }

    #[test]
    fn a_clock_set_by_hand_is_believed_by_all_signs_only() {
        for (rule, believed) in [(Rule::Auto, true), (Rule::Ntp, false)] {
            let mut trust = Trust::new(rule);
            trust.look(look(10_000, 10));
            assert_eq!(trust.look(look(TODAY, 20)), Some(TODAY - 20_000));
            let standing = trust.standing();
            assert_eq!((standing.synced, standing.steps), (believed, 1));
        }
    }

    #[test]
    fn steps_are_seen_once_with_their_size_and_cost_no_trust() {
        let mut trust = Trust::new(Rule::Auto);
        trust.look(synchronised(look(TODAY, 100)));
        assert_eq!(trust.look(look(TODAY + 5 * HOUR + 1000, 101)), Some(5 * HOUR));
        assert_eq!(trust.look(look(TODAY + 5 * HOUR + 2000, 102)), None);
        assert_eq!(trust.look(look(TODAY + 3050, 103)), Some(50 - 5 * HOUR));
        assert_eq!(trust.look(look(TODAY + 4000, 104)), None, "no step, but two clocks read one after the other");
        let standing = trust.standing();
        assert!(standing.synced);
        assert_eq!((standing.steps, standing.step.map(|step| step.by)), (2, Some(50 - 5 * HOUR)));
        // Back to the beginning, and right again.
        trust.look(look(105_000, 105));
        assert!(!trust.standing().synced);
        trust.look(look(TODAY + 6000, 106));
        assert!(trust.standing().synced);
    }

    #[test]
    fn what_an_earlier_run_believed_is_believed_if_it_is_the_same_clock() {
        for (ahead, believed) in [(TODAY - 10_000, true), (TODAY - 9_950, true), (TODAY, false)] {
            let mut trust = Trust::new(Rule::Ntp);
            trust.look(look(TODAY, 10));
            trust.recall(ahead);
            assert_eq!(trust.standing().synced, believed);
        }
    }

    #[test]
    fn a_kernel_that_does_not_say_is_named() {
        let mut trust = Trust::new(Rule::Auto);
        trust.look(Look { synchronised: None, ..look(TODAY, 10) });
        assert!(trust.standing().why.contains("may not be asked"));
    }
}
