//! The one line at the top: is all well, and if not, what is wrong, in plain words. Pure.

use std::collections::HashMap;

use serde::Serialize;

use super::snapshot::Snapshot;
use super::words;
use crate::reading::Quality;
use crate::status::{Point, State};

/// How much attention something wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Not known yet.
    Wait,
    /// Works, but somebody should look.
    Warn,
    /// Does not work.
    Bad,
}

/// The verdict on the whole gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) tone: Tone,
    /// A few words.
    pub(crate) title: String,
    /// Whole sentences, the worst first.
    pub(crate) lines: Vec<Line>,
}

/// One sentence of a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    pub(crate) tone: Tone,
    pub(crate) text: String,
}

impl Tone {
    /// As the page's style sheet names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Wait => "wait",
            Tone::Warn => "warn",
            Tone::Bad => "bad",
        }
    }

    /// The tone of a state.
    pub(crate) fn of(state: &State) -> Self {
        match state {
            State::Up => Tone::Good,
            State::Unknown => Tone::Wait,
            State::Down(_) => Tone::Bad,
        }
    }
}

impl Verdict {
    /// Whether the gateway does its work.
    pub(crate) fn ready(&self) -> bool {
        matches!(self.tone, Tone::Good | Tone::Warn)
    }
}

/// Judges a snapshot.
pub(crate) fn judge(snapshot: &Snapshot) -> Verdict {
    let mut lines = Vec::new();
    store(snapshot, &mut lines);
    wires(snapshot, &mut lines);
    uplinks(snapshot, &mut lines);
    clock(snapshot, &mut lines);
    lines.sort_by_key(|line| std::cmp::Reverse(line.tone));
    let tone = lines.first().map_or(Tone::Good, |line| line.tone);
    let worst = lines.iter().filter(|line| line.tone == tone).count() as u64;
    let title = match tone {
        Tone::Good => "All good".into(),
        Tone::Wait => "Starting".into(),
        Tone::Warn => words::count(worst, "thing needs a look", "things need a look"),
        Tone::Bad => words::count(worst, "thing is wrong", "things are wrong"),
    };
    if lines.is_empty() {
        lines.push(Line { tone, text: all_good(snapshot) });
    }
    Verdict { tone, title, lines }
}

fn store(snapshot: &Snapshot, lines: &mut Vec<Line>) {
    let store = &snapshot.store;
    match &store.state {
        State::Up => {}
        State::Unknown => say(lines, Tone::Wait, "The store is being opened.".into()),
        State::Down(why) => {
            let text = format!("The store cannot write: {why}. Messages wait in memory until it can.");
            say(lines, Tone::Bad, text);
        }
    }
    if store.max_bytes > 0 && store.bytes >= store.max_bytes / 10 * 9 {
        let part = store.bytes as f64 / store.max_bytes as f64;
        say(lines, Tone::Warn, format!("The store is {} full.", words::percent(part)));
    }
    if store.short {
        let (free, reserve) = (words::bytes(store.free.unwrap_or(0)), words::bytes(store.reserve));
        let text =
            format!("The disk has {free} left, and {reserve} are to stay free: the store does not grow any more.");
        say(lines, Tone::Warn, text);
    }
    if store.refusing > 0 {
        let queues = words::count(store.refusing as u64, "queue is full and takes", "queues are full and take");
        say(lines, Tone::Bad, format!("{queues} nothing new: publishers are refused."));
    }
    let causes = &snapshot.broker.causes;
    if causes.total() > 0 {
        let text = words::count(causes.total(), "message was", "messages were");
        say(lines, Tone::Warn, format!("{text} dropped since the start: {causes}."));
    }
}

fn clock(snapshot: &Snapshot, lines: &mut Vec<Line>) {
    if !snapshot.clock.synced {
        let why = &snapshot.clock.why;
        let text = format!("The clock is not trusted: {why}. Times are marked, and corrected when it is set.");
        say(lines, Tone::Warn, text);
    }
}

fn wires(snapshot: &Snapshot, lines: &mut Vec<Line>) {
    // Which devices can be expected to have good points.
    let mut answering = HashMap::new();
    for bus in &snapshot.buses {
        if let State::Down(why) = &bus.state {
            let devices = words::count(bus.devices.len() as u64, "device", "devices");
            say(lines, Tone::Bad, format!("Bus {} is down: {why}. It has {devices}.", bus.name));
        }
        for device in &bus.devices {
            let bus_down = matches!(bus.state, State::Down(_));
            match &device.state {
                State::Down(why) if !bus_down => {
                    say(lines, Tone::Bad, format!("Device {} does not answer: {why}.", device.name));
                }
                State::Unknown if !bus_down => {
                    say(lines, Tone::Wait, format!("Device {} has not been asked yet.", device.name));
                }
                _ => {}
            }
            answering.insert(&device.name, device.state == State::Up && !bus_down);
        }
    }
    // What hangs on something that is down has been said.
    let wanting = |p: &&Point| p.quality != Quality::Good && answering.get(&p.device).copied().unwrap_or(true);
    let (unread, faulty): (Vec<&Point>, Vec<&Point>) =
        snapshot.points.iter().filter(wanting).partition(|p| p.at.is_none() && p.fault.is_none());
    if !unread.is_empty() {
        let points = words::count(unread.len() as u64, "point has", "points have");
        say(lines, Tone::Wait, format!("{points} not been read yet."));
    }
    if let [first, others @ ..] = faulty.as_slice() {
        let fault = first.fault.as_deref().map(|fault| format!(" ({fault})")).unwrap_or_default();
        let text = match others.len() as u64 {
            0 => format!("{}/{} has no good value{fault}.", first.device, first.point),
            n => {
                let others = words::count(n, "other point have", "other points have");
                format!("{}/{}{fault} and {others} no good value.", first.device, first.point)
            }
        };
        say(lines, Tone::Warn, text);
    }
}

fn uplinks(snapshot: &Snapshot, lines: &mut Vec<Line>) {
    for joined in &snapshot.uplinks {
        let (uplink, name) = (&joined.uplink, &joined.uplink.name);
        let waiting = match joined.queue.as_ref().map_or(0, |queue| queue.entries) {
            0 => "Nothing waits for it yet".into(),
            n => format!("{} for it", words::count(n, "message waits", "messages wait")),
        };
        match &uplink.state {
            State::Up => {}
            State::Unknown => say(lines, Tone::Wait, format!("Uplink {name} is connecting.")),
            State::Down(why) => {
                say(lines, Tone::Bad, format!("Uplink {name} is not connected: {why}. {waiting}."));
            }
        }
        if uplink.refused > 0 {
            let refused = words::count(uplink.refused, "message", "messages");
            say(lines, Tone::Warn, format!("The broker of uplink {name} has refused {refused} since the start."));
        }
    }
}

fn all_good(snapshot: &Snapshot) -> String {
    let devices: usize = snapshot.buses.iter().map(|bus| bus.devices.len()).sum();
    let mut parts = Vec::new();
    if devices > 0 {
        parts.push(words::count(devices as u64, "device answers", "devices answer"));
    }
    if !snapshot.points.is_empty() {
        parts.push(words::count(snapshot.points.len() as u64, "point is fresh", "points are fresh"));
    }
    match snapshot.uplinks.as_slice() {
        [] => {}
        [one] => parts.push(format!("uplink {} is connected", one.uplink.name)),
        more => parts.push(format!("{} uplinks are connected", more.len())),
    }
    parts.push("the store is in order".into());
    let mut text = parts.join(", ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text + "."
}

fn say(lines: &mut Vec<Line>, tone: Tone, text: String) {
    lines.push(Line { tone, text });
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Parts, board};
    use super::*;
    use crate::status::Cause;

    fn judged(change: impl FnOnce(&Parts)) -> Verdict {
        let (board, parts) = board();
        change(&parts);
        judge(&Snapshot::take(&board))
    }

    fn down(why: &str) -> State {
        State::Down(why.into())
    }

    #[test]
    fn all_good_says_what_is_good() {
        let verdict = judged(|_| {});
        assert_eq!((verdict.tone, &*verdict.title), (Tone::Good, "All good"));
        assert_eq!(
            verdict.lines[0].text,
            "1 device answers, 1 point is fresh, uplink cloud is connected, the store is in order."
        );
        assert!(verdict.ready());
    }

    #[test]
    fn what_hangs_on_a_fault_is_not_told_again() {
        let verdict = judged(|parts| {
            parts.bus.send_modify(|bus| {
                bus.state = down("no such port");
                bus.devices[0].state = down("the bus is down");
            });
            parts.points.send_modify(|points| points[0].quality = Quality::Stale);
        });
        assert_eq!((&*verdict.title, verdict.lines.len()), ("1 thing is wrong", 1));
        assert_eq!(verdict.lines[0].text, "Bus plc is down: no such port. It has 1 device.");
        assert!(!verdict.ready());
    }

    #[test]
    fn a_refused_point_of_a_device_that_answers_is_a_warning() {
        let verdict = judged(|parts| {
            parts.points.send_modify(|points| {
                points[0].quality = Quality::Bad;
                points[0].fault = Some("exception 2 (illegal data address)".into());
            });
        });
        assert_eq!((verdict.tone, &*verdict.title), (Tone::Warn, "1 thing needs a look"));
        assert!(verdict.lines[0].text.starts_with("meter/voltage has no good value (exception 2"), "{verdict:?}");
        assert!(verdict.ready());
    }

    #[test]
    fn the_worst_comes_first_and_names_the_verdict() {
        let verdict = judged(|parts| {
            parts.store.send_modify(|store| store.bytes = 950);
            parts.uplink.send_modify(|uplink| uplink.state = down("refused"));
            parts.broker.send_modify(|broker| broker.queues[0].entries = 2);
        });
        let texts: Vec<_> = verdict.lines.iter().map(|line| &*line.text).collect();
        assert_eq!(
            texts,
            ["Uplink cloud is not connected: refused. 2 messages wait for it.", "The store is 95 % full."]
        );
    }

    #[test]
    fn a_disk_that_fills_and_what_was_dropped_are_told() {
        let verdict = judged(|parts| {
            parts.store.send_modify(|store| {
                (store.short, store.free, store.reserve, store.refusing) = (true, Some(12 << 20), 64 << 20, 2);
            });
            parts.broker.send_modify(|broker| {
                broker.causes.add(Cause::Age, 3);
                broker.causes.add(Cause::Disk, 1);
            });
        });
        let texts: Vec<_> = verdict.lines.iter().map(|line| &*line.text).collect();
        assert_eq!(
            texts,
            [
                "2 queues are full and take nothing new: publishers are refused.",
                "The disk has 12 MiB left, and 64 MiB are to stay free: the store does not grow any more.",
                "4 messages were dropped since the start: 3 (older than max-age), 1 (the disk is full: see reserve).",
            ]
        );
        assert_eq!(verdict.tone, Tone::Bad);
    }

    #[test]
    fn a_start_is_no_fault() {
        let verdict = judged(|parts| {
            parts.bus.send_modify(|bus| bus.devices[0].state = State::Unknown);
            parts.uplink.send_modify(|uplink| uplink.state = State::Unknown);
            parts.store.send_modify(|store| store.state = State::Unknown);
        });
        assert_eq!((verdict.tone, &*verdict.title, verdict.ready()), (Tone::Wait, "Starting", false));
    }
}
