//! `[uplink.NAME]`: which cloud broker, who we are to it, and what is carried over.

use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::address::Addresses;
use super::rules::Rule;
use crate::mqtt::Version;
use crate::secret::Secret;
use crate::store::WhenFull;
use crate::units::{Period, Size};

/// One cloud broker.
#[derive(Clone, Debug, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where it listens: one URL, or a list that is tried in turn.
    pub url: Addresses,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// What the cloud knows us by; `GATEWAY-NAME` when none is set.
    pub client_id: Option<String>,
    /// What goes up. The first rule that matches a topic decides.
    #[serde(default)]
    pub publish: Vec<Rule>,
    /// What comes down; nothing else does.
    #[serde(default)]
    pub subscribe: Vec<Rule>,
    /// `"5"` or `"3.1.1"`.
    #[serde(default)]
    pub protocol: Protocol,
    /// How long the connection may be silent before it is probed: `"1s"` to `"18h"`.
    #[serde(default = "keep_alive", deserialize_with = "read_keep_alive")]
    pub keep_alive: Period,
    /// How many messages may be under way at once, 1 to 65535; the cloud may allow fewer.
    #[serde(default = "window", deserialize_with = "read_window")]
    pub window: u16,
    /// Who vouches for the cloud: a PEM file. The system's own list when none is set.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key, PEM files, for a cloud that asks for one.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
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
    /// What one key alone does not show.
    fn check(&self) -> Result<(), String> {
        if self.certificate.is_some() != self.key.is_some() {
            return Err("`certificate` and `key` belong together: set both or neither".into());
        }
        if self.password.is_some() && self.username.is_none() && self.protocol == Protocol::V311 {
            return Err("`password` needs a `username` with MQTT 3.1.1".into());
        }
        let plain = self.url.0.iter().find(|address| !address.tls);
        if let (Some(plain), true) = (plain, self.ca.is_some() || self.certificate.is_some()) {
            return Err(format!("`ca`, `certificate` and `key` are for TLS, but {plain} is without: write mqtts://"));
        }
        if let Some(topic) = self.status.as_ref().filter(|topic| !topic.is_empty()) {
            crate::mqtt::topic::check_name(topic).map_err(|e| format!("`status` is no topic: {e}"))?;
        }
        Ok(())
    }
}

fn keep_alive() -> Period {
    Period(Duration::from_secs(30))
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
            ("url = \"mqtt://a\"\nprotocol = \"3.1.1\"\npassword = \"x\"", "needs a `username`"),
            ("url = \"mqtt://a\"\nstatus = \"a/#\"", "`status` is no topic"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
