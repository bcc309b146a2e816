//! `[uplink.NAME]`: which cloud broker, who we are to it, and what is carried over.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::address::Addresses;
use super::mark::Mark;
use super::proxy::Proxy;
use super::retained::SendRetained;
use super::rules::{self, Rule};
use super::way::{Trail, Way};
use crate::broker::replay::{Precedence, Replay};
use crate::mqtt::Version;
use crate::rate::Rate;
use crate::secret::Secret;
use crate::store::WhenFull;
use crate::units::{Period, Size};

/// One cloud broker.
#[derive(Clone, Debug, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where it listens: one URL, or a list that is tried in turn.
    pub url: Addresses,
    pub username: Option<Secret>,
    /// Read anew for each connection, as `username` is.
    pub password: Option<Secret>,
    /// What the cloud knows us by; `GATEWAY-NAME` when none is set.
    pub client_id: Option<String>,
    /// What goes up. The first rule that matches a topic decides.
    #[serde(default, deserialize_with = "rules::read_up")]
    pub publish: Vec<Rule>,
    /// What comes down; nothing else does.
    #[serde(default)]
    pub subscribe: Vec<Rule>,
    /// When the retained messages of the local broker go up although they have not changed.
    #[serde(default)]
    pub send_retained: SendRetained,
    /// Whether messages are marked on their way up, so that none comes round.
    #[serde(default)]
    pub trail: Trail,
    /// Whether a cloud of MQTT 3.1.1 is told that we are a bridge, so that it sends nothing back that we brought.
    #[serde(default = "yes")]
    pub bridge: bool,
    /// The other uplinks to the same cloud, by name, as the whole config shows.
    #[serde(skip)]
    pub siblings: Vec<Arc<str>>,
    /// `"5"` or `"3.1.1"`.
    #[serde(default)]
    pub protocol: Protocol,
    /// How long the connection may be silent before it is probed: `"1s"` to `"18h"`.
    #[serde(default = "keep_alive", deserialize_with = "read_keep_alive")]
    pub keep_alive: Period,
    /// How many messages may be under way at once, 1 to 65535; the cloud may allow fewer.
    #[serde(default = "window", deserialize_with = "read_window")]
    pub window: u16,
    /// What goes first after an outage.
    #[serde(default)]
    pub replay: Precedence,
    /// So much a second goes up at most, beside acknowledgements and pings; any when none is set.
    pub rate: Option<Rate>,
    /// The same for the backlog alone, with `replay = "live-first"`.
    pub backlog_rate: Option<Rate>,
    /// How messages carry their number, and that they are late.
    #[serde(default)]
    pub mark: Mark,
    /// The same in bytes; one message goes in any case.
    #[serde(default = "window_bytes", deserialize_with = "read_window_bytes")]
    pub window_bytes: Size,
    /// How long the cloud keeps our session while we are away; zero for not at all. With MQTT 3.1.1 it decides itself.
    #[serde(default = "session", deserialize_with = "read_session")]
    pub session: Period,
    /// Whether topics are sent as numbers once the cloud knows them, as far as it allows.
    #[serde(default = "topic_aliases")]
    pub topic_aliases: bool,
    /// Who vouches for the cloud: a PEM file. The system's own list when none is set.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key, PEM files, for a cloud that asks for one.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// The name that the cloud's certificate has to be for, when it is not that in the URL.
    pub server_name: Option<String>,
    /// What the TLS handshake offers to speak, as AWS IoT wants it on port 443.
    #[serde(default, deserialize_with = "read_alpn")]
    pub alpn: Vec<String>,
    /// Whether the cloud's certificate is believed unseen.
    #[serde(default)]
    pub insecure: bool,
    /// An HTTP proxy on the way.
    pub proxy: Option<Proxy>,
    /// How long each step of connecting may take: the name, TCP, the proxy, TLS, WebSocket, logging in.
    #[serde(default = "connect_timeout", deserialize_with = "read_patience")]
    pub connect_timeout: Period,
    /// How long the cloud may owe an acknowledgement, besides what a slow line takes.
    #[serde(default = "stuck", deserialize_with = "read_patience")]
    pub stuck: Period,
    /// The topic at the cloud that says `online` or `offline`, retained; `fieldpost/GATEWAY/status` when none is set,
    /// and no such topic when it is empty.
    pub status: Option<String>,
    /// The bytes that may wait for it; as much as the store holds when none is set.
    pub max_size: Option<Size>,
    /// What gives way when its queue is full, if not what does in the whole store.
    pub when_full: Option<WhenFull>,
}

/// The version of MQTT spoken to the cloud.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    #[serde(rename = "3.1.1")]
    V311,
    #[default]
    #[serde(rename = "5")]
    V5,
}

impl From<Protocol> for Version {
    fn from(protocol: Protocol) -> Version {
        match protocol {
            Protocol::V311 => Version::V311,
            Protocol::V5 => Version::V5,
        }
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = Config::deserialize(deserializer)?;
        config.check().map_err(D::Error::custom)?;
        Ok(config)
    }
}

impl Config {
    /// The way to this cloud from `gateway`, by the uplink of that `name`. Before MQTT 5 it echoes, unless it turns out to
    /// know bridges.
    pub fn way_of(&self, gateway: Arc<str>, uplink: Arc<str>) -> Way {
        let five = self.protocol == Protocol::V5;
        // Another gateway knows whose uplink this is by its status, unless that is set otherwise.
        let trail = match self.trail {
            Trail::Auto if self.status.is_some() => Trail::Always,
            trail => trail,
        };
        let (up, down) = (self.publish.as_slice().into(), self.subscribe.as_slice().into());
        let siblings = self.siblings.as_slice().into();
        Way { gateway, uplink, siblings, up, down, trail, five, echoes: !five }
    }

    /// How the local session is read.
    pub(super) fn replay(&self) -> Replay {
        Replay {
            order: self.replay,
            backlog_rate: self.backlog_rate,
            numbered: self.mark != Mark::None,
            window_bytes: usize::try_from(self.window_bytes.0).unwrap_or(usize::MAX),
        }
    }

    /// Whether the cloud is to keep our session while we are away.
    pub(super) fn keeps_session(&self) -> bool {
        !self.session.0.is_zero()
    }

    /// What one key alone does not show.
    fn check(&self) -> Result<(), String> {
        if self.certificate.is_some() != self.key.is_some() {
            return Err("`certificate` and `key` belong together: set both or neither".into());
        }
        if self.password.is_some() && self.username.is_none() && self.protocol == Protocol::V311 {
            return Err("`password` needs a `username` with MQTT 3.1.1".into());
        }
        if self.backlog_rate.is_some() && self.replay == Precedence::InOrder {
            return Err("`backlog-rate` needs `replay = \"live-first\"`: in order, there is only `rate`".into());
        }
        if self.mark == Mark::Properties && self.protocol == Protocol::V311 {
            return Err("`mark = \"properties\"` needs MQTT 5: with 3.1.1, use `mark = \"json\"`".into());
        }
        let plain = self.url.0.iter().find(|address| !address.tls);
        let tls = [
            (self.ca.is_some(), "ca"),
            (self.certificate.is_some(), "certificate"),
            (self.server_name.is_some(), "server-name"),
            (!self.alpn.is_empty(), "alpn"),
            (self.insecure, "insecure"),
        ];
        if let (Some(plain), Some((_, key))) = (plain, tls.iter().find(|(set, _)| *set)) {
            let secure = if plain.path.is_some() { "wss" } else { "mqtts" };
            return Err(format!("`{key}` is for TLS, but {plain} is without: write {secure}://"));
        }
        if self.insecure && self.ca.is_some() {
            return Err("`ca` says whose certificate is believed, and `insecure` that any is: take one away".into());
        }
        if self.client_id.as_deref() == Some("") && self.keeps_session() {
            return Err(
                "the cloud keeps a `session` for a client that it knows again: set `client-id`, or leave it away"
                    .into(),
            );
        }
        if self.send_retained == SendRetained::WhenLost && self.status.as_deref() == Some("") {
            return Err("`send-retained = \"when-lost\"` needs `status`: by it we see what the cloud has kept".into());
        }
        if !self.bridge && self.protocol == Protocol::V5 {
            return Err("`bridge` is for `protocol = \"3.1.1\"`: MQTT 5 has a way of its own, No Local".into());
        }
        if let Some(topic) = self.status.as_ref().filter(|topic| !topic.is_empty()) {
            crate::mqtt::topic::check_name(topic).map_err(|e| format!("`status` is no topic: {e}"))?;
        }
        Ok(())
    }
}

fn yes() -> bool {
    true
}

fn keep_alive() -> Period {
    Period(Duration::from_secs(30))
}

fn window_bytes() -> Size {
    Size(256 << 10)
}

fn session() -> Period {
    Period(Duration::ZERO)
}

fn topic_aliases() -> bool {
    true
}

fn connect_timeout() -> Period {
    Period(Duration::from_secs(10))
}

fn stuck() -> Period {
    Period(Duration::from_secs(20))
}

fn window() -> u16 {
    100
}

fn read_keep_alive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
    let period = Period::deserialize(deserializer)?;
    // MQTT counts it in seconds, in 16 bits.
    if period.0.as_secs() == 0 || period.0.as_secs() > u64::from(u16::MAX) {
        return Err(D::Error::custom(format!("keep-alive is from 1s to 18h, not {period}")));
    }
    Ok(period)
}

fn read_session<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
    let period = Period::deserialize(deserializer)?;
    // MQTT counts it in seconds, in 32 bits.
    if period.0.subsec_nanos() != 0 || period.0.as_secs() > u64::from(u32::MAX) {
        return Err(D::Error::custom(format!("session is in whole seconds, to 49710 days, not {period}")));
    }
    Ok(period)
}

fn read_window_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    let size = Size::deserialize(deserializer)?;
    // More would wait in the sockets.
    match size.0 {
        1024..=16_777_216 => Ok(size),
        _ => Err(D::Error::custom(format!("window-bytes is from 1KiB to 16MiB, not {size}"))),
    }
}

fn read_patience<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
    let period = Period::deserialize(deserializer)?;
    if period.0 < Duration::from_secs(1) || period.0 > Duration::from_secs(600) {
        return Err(D::Error::custom(format!("this is from 1s to 10m, not {period}")));
    }
    Ok(period)
}

fn read_alpn<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let protocols = Vec::<String>::deserialize(deserializer)?;
    // RFC 7301, 3.1.
    match protocols.iter().find(|protocol| !(1..=255).contains(&protocol.len())) {
        Some(wrong) => Err(D::Error::custom(format!("a protocol in alpn has 1 to 255 bytes, not {}", wrong.len()))),
        None => Ok(protocols),
    }
}

fn read_window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    match u16::deserialize(deserializer)? {
        0 => Err(D::Error::custom("window is from 1 to 65535: with 0 nothing would ever be sent")),
        window => Ok(window),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn reads_the_example_and_fills_in_the_rest() {
        let config = read(
            r##"url = "mqtts://broker.example.com:8883"
            username = "plant7"
            password = { file = "/etc/fieldpost/cloud.password" }
            publish = ["plant/#"]
            subscribe = ["cmd/plant7/#"]"##,
        )
        .expect("it is valid");
        assert_eq!(config.url.0[0].to_string(), "mqtts://broker.example.com:8883");
        assert_eq!((&*config.publish[0].filter, &*config.subscribe[0].filter), ("plant/#", "cmd/plant7/#"));
        assert_eq!((config.replay, config.mark, config.rate), (Precedence::InOrder, Mark::None, None));
        assert_eq!((config.protocol, config.keep_alive, config.window), (Protocol::V5, keep_alive(), 100));
        let several = read(r#"url = ["mqtt://a", "mqtt://b:1"]"#).expect("a list is valid");
        assert_eq!(several.url.0.len(), 2);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, part) in [
            ("", "missing field `url`"),
            ("url = []", "a URL such as"),
            ("url = 1", "a URL such as"),
            ("url = [\"mqtt://a\", \"mqtt://\"]", "no host"),
            ("url = \"mqtt://a\"\nkeep-alive = \"0s\"", "from 1s to 18h"),
            ("url = \"mqtt://a\"\nwindow = 0", "from 1 to 65535"),
            ("url = \"mqtt://a\"\nprotocol = \"4\"", "`3.1.1`"),
            ("url = \"mqtt://a\"\nusrname = \"x\"", "unknown field `usrname`"),
            ("url = \"mqtts://a\"\nkey = \"x\"", "belong together"),
            ("url = \"mqtt://a\"\nca = \"x\"", "write mqtts://"),
            ("url = [\"wss://a\", \"ws://b\"]\nalpn = [\"x\"]", "`alpn` is for TLS, but ws://b:80/mqtt"),
            ("url = \"mqtts://a\"\nalpn = [\"\"]", "1 to 255 bytes"),
            ("url = \"mqtts://a\"\nca = \"x\"\ninsecure = true", "take one away"),
            ("url = \"mqtt://a\"\nproxy = \"socks5://b\"", "over socks5"),
            ("url = \"mqtt://a\"\nsession = \"1h\"\nclient-id = \"\"", "set `client-id`"),
            ("url = \"mqtt://a\"\nwindow-bytes = \"10B\"", "from 1KiB to 16MiB"),
            ("url = \"mqtt://a\"\nstuck = \"0s\"", "from 1s to 10m"),
            ("url = \"mqtt://a\"\nconnect-timeout = \"1h\"", "from 1s to 10m"),
            ("url = \"mqtt://a\"\nprotocol = \"3.1.1\"\npassword = \"x\"", "needs a `username`"),
            ("url = \"mqtt://a\"\nreplay = \"newest\"", "`live-first`"),
            ("url = \"mqtt://a\"\nbacklog-rate = { messages = 1 }", "needs `replay = \"live-first\"`"),
            ("url = \"mqtt://a\"\nrate = { messages = 0 }", "at least 1 a second"),
            ("url = \"mqtt://a\"\nmark = \"properties\"\nprotocol = \"3.1.1\"", "needs MQTT 5"),
            ("url = \"mqtt://a\"\nmark = \"xml\"", "`properties`"),
            ("url = \"mqtt://a\"\nstatus = \"a/#\"", "`status` is no topic"),
            ("url = \"mqtt://a\"\nstatus = \"\"\nsend-retained = \"when-lost\"", "needs `status`"),
            ("url = \"mqtt://a\"\nbridge = false", "MQTT 5 has a way of its own"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
