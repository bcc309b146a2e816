//! `fieldpost bridge test`: what the rules of the uplinks do with a message, by the same code that carries it.

use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use serde::Serialize;

use super::super::{exit, load, output};
use crate::config::Config;
use crate::mapping::Mapping;
use crate::message::{Message, QoS};
use crate::mqtt::topic;
use crate::uplink;
use crate::uplink::rules::{Retain, Rule};
use crate::uplink::way::{Passage, Stay, Way};

/// The exit code when nothing goes over.
const NOTHING: u8 = 1;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The topic, as it is called where the message comes from
    topic: String,
    /// The config
    #[arg(default_value = super::super::CONFIG)]
    file: PathBuf,
    /// Where the message comes from; both, one after the other, when this is not said
    #[arg(long)]
    from: Option<Side>,
    /// Its payload: of what comes down on the topic of a command, it is shown what it would do
    #[arg(long)]
    payload: Option<String>,
    /// Its quality of service: 0, 1 or 2
    #[arg(long, default_value = "1", value_parser = qos)]
    qos: QoS,
    /// It is to be retained
    #[arg(long)]
    retain: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Where a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    /// The local broker: it goes up
    Here,
    /// The cloud: it comes down
    Cloud,
}

pub(super) fn run(args: &Args) -> ExitCode {
    if let Err(why) = topic::check_name(&args.topic) {
        output::complain(&format!("`{}` is no topic that a message can have: {why}\n", args.topic));
        return exit::USAGE.into();
    }
    let config = match load(&args.file) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let report = Report::new(&config, args);
    let text = if args.json {
        serde_json::to_string_pretty(&report).expect("keys are text") + "\n"
    } else {
        report.to_string()
    };
    let printed = output::print(&text);
    let goes = report.ways.iter().any(|way| way.goes.is_some());
    if goes || printed != ExitCode::SUCCESS { printed } else { NOTHING.into() }
}

/// All that is shown.
#[derive(Debug, Serialize)]
struct Report {
    topic: String,
    ways: Vec<OneWay>,
}

/// What happens on one uplink in one direction.
#[derive(Debug, Serialize)]
struct OneWay {
    uplink: Arc<str>,
    from: Side,
    /// The rules whose filters match, in order: the first decides.
    rules: Vec<Matching>,
    goes: Option<Goes>,
    /// Why nothing goes, or under what condition something does.
    why: Option<String>,
    /// What happens then: a command that is carried out, another uplink that takes it up.
    then: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Matching {
    /// From 1, as people count.
    rule: usize,
    filter: Arc<str>,
    drop: bool,
}

/// What comes out.
#[derive(Debug, Serialize)]
struct Goes {
    topic: Arc<str>,
    qos: QoS,
    retain: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_s: Option<u64>,
    /// By which gateways it has come, as it tells.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trail: Vec<String>,
}

impl Report {
    fn new(config: &Config, args: &Args) -> Self {
        let payload = args.payload.clone().unwrap_or_default();
        let message = Message { qos: args.qos, retain: args.retain, ..Message::new(args.topic.as_str(), payload) };
        let sides = [Side::Here, Side::Cloud];
        let wanted = sides.into_iter().filter(|side| args.from.is_none_or(|from| from == *side));
        let ways = wanted.flat_map(|side| {
            let message = Arc::new(message.clone());
            config.uplinks.iter().map(move |(name, uplink)| {
                let way = uplink.way_of(config.gateway.id.clone(), name.clone());
                match side {
                    Side::Here => OneWay::up(&way, uplink, &message),
                    Side::Cloud => OneWay::down(&way, config, &message, args.payload.is_some()),
                }
            })
        });
        Self { topic: args.topic.clone(), ways: ways.collect() }
    }
}

impl OneWay {
    fn up(way: &Way, uplink: &uplink::Config, message: &Arc<Message>) -> Self {
        let mut this = Self::begin(way, Side::Here, &way.up, message);
        let (passage, condition) = match way.up(message) {
            // A cloud that knows bridges echoes nothing; that shows when we are there.
            Err(why @ Stay::Echo { .. }) if uplink.bridge => (
                Way { echoes: false, ..way.clone() }.up(message),
                Some(format!("only if the cloud knows bridges: else {why}")),
            ),
            passage => (passage, None),
        };
        this.why = condition;
        this.outcome(passage, message, |passage| way.sent(message.clone(), passage));
        this
    }

    fn down(way: &Way, config: &Config, message: &Arc<Message>, with_payload: bool) -> Self {
        let mut this = Self::begin(way, Side::Cloud, &way.down, message);
        let passage = way.down(message);
        let Some(received) = this.outcome(passage, message, |passage| way.received(message.clone(), passage)) else {
            return this;
        };
        let mapping = Mapping::new(config.gateway.id.clone(), config.routes.clone());
        match mapping.command(&received) {
            Some(Ok(wish)) if with_payload => {
                this.then.push(format!("a command: {}.{} is to be {}", wish.device, wish.point, wish.value));
            }
            Some(Err(refusal)) if with_payload => this.then.push(format!("no command: {refusal}")),
            Some(_) => this.then.push("a command to a device".to_owned()),
            None => {}
        }
        for (name, other) in config.uplinks.iter().filter(|(name, _)| *name != way.uplink) {
            if let Ok(passage) = other.way_of(config.gateway.id.clone(), name.clone()).up(&received) {
                this.then.push(format!("up again by uplink {name}, as {}", passage.topic));
            }
        }
        this
    }

    fn begin(way: &Way, from: Side, rules: &[Rule], message: &Message) -> Self {
        let matching = rules.iter().enumerate().filter(|(_, rule)| topic::matches(&rule.filter, &message.topic));
        let rules =
            matching.map(|(n, rule)| Matching { rule: n + 1, filter: rule.filter.clone(), drop: rule.carry.is_none() });
        Self { uplink: way.uplink.clone(), from, rules: rules.collect(), goes: None, why: None, then: Vec::new() }
    }

    /// Notes what comes out, and gives it back.
    fn outcome(
        &mut self,
        passage: Result<Passage, Stay>,
        message: &Message,
        carried: impl FnOnce(&Passage) -> Arc<Message>,
    ) -> Option<Arc<Message>> {
        match passage {
            Ok(passage) => {
                let out = carried(&passage);
                self.goes = Some(Goes {
                    topic: passage.topic.clone(),
                    qos: message.qos.min(passage.qos),
                    retain: message.retain && passage.retain == Retain::Keep,
                    max_age_s: passage.max_age.map(|age| age.as_secs()),
                    trail: crate::trail::hops(&out).map(str::to_owned).collect(),
                });
                Some(out)
            }
            Err(why) => {
                self.why = Some(why.to_string());
                None
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ways.is_empty() {
            return writeln!(f, "there is no uplink");
        }
        for way in &self.ways {
            let (direction, list) = match way.from {
                Side::Here => ("up to", "publish"),
                Side::Cloud => ("down from", "subscribe"),
            };
            writeln!(f, "{direction} {}", way.uplink)?;
            for (n, Matching { rule, filter, drop }) in way.rules.iter().enumerate() {
                let decides = if n == 0 { "decides" } else { "would be for it, but an earlier one is" };
                let drop = if *drop { ", which drops" } else { "" };
                writeln!(f, "  rule {rule} of `{list}`, {filter}{drop}: {decides}")?;
            }
            match &way.goes {
                Some(goes) => writeln!(f, "  {goes}")?,
                None => writeln!(f, "  nothing goes: {}", way.why.as_deref().unwrap_or_default())?,
            }
            if let (Some(_), Some(condition)) = (&way.goes, &way.why) {
                writeln!(f, "  {condition}")?;
            }
            for then in &way.then {
                writeln!(f, "  then {then}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Goes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let retain = if self.retain { ", retained" } else { "" };
        let mut more = String::new();
        if let Some(age) = self.max_age_s {
            let _ = write!(more, ", for {age} s at most");
        }
        if !self.trail.is_empty() {
            let _ = write!(more, ", marked {}", self.trail.join(" "));
        }
        write!(f, "goes as {} at QoS {}{retain}{more}", self.topic, u8::from(self.qos))
    }
}

fn qos(text: &str) -> Result<QoS, String> {
    text.parse::<u8>().map_err(|e| e.to_string())?.try_into()
}
