//! `[[broker.listener]]`: an address where clients connect, and how.

use std::path::PathBuf;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Address and port.
    pub listen: String,
    /// With it, connections are encrypted.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// MQTT over WebSocket, for programs in browsers; on any path.
    #[serde(default)]
    pub websocket: bool,
    /// Whose pages may connect over WebSocket, as browsers name them: `https://host:port`. All when it is empty.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Who may connect without a user name; [`super::super::Config::anonymous`] when it says nothing.
    #[serde(default)]
    pub anonymous: Option<Anonymous>,
}

impl Config {
    /// Plain MQTT on TCP.
    pub fn plain(listen: impl Into<String>) -> Self {
        Self { listen: listen.into(), tls: None, websocket: false, origins: Vec::new(), anonymous: None }
    }

    /// How its clients would write it in a URL.
    pub fn scheme(&self) -> &'static str {
        match (self.websocket, self.tls.is_some()) {
            (false, false) => "mqtt",
            (false, true) => "mqtts",
            (true, false) => "ws",
            (true, true) => "wss",
        }
    }
}

/// The TLS of a listener: PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tls {
    /// The certificate that clients see, with those between it and the authority behind it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that vouch for clients; without them clients are asked for no certificate.
    pub clients: Option<PathBuf>,
    /// Nobody connects without a certificate.
    #[serde(default)]
    pub require_certificate: bool,
    /// The common name in a client's certificate is its user, and it is asked for no password.
    #[serde(default)]
    pub user_from_certificate: bool,
}

impl<'de> Deserialize<'de> for Tls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tls = Tls::deserialize(deserializer)?;
        for (key, set) in
            [("require-certificate", tls.require_certificate), ("user-from-certificate", tls.user_from_certificate)]
        {
            if set && tls.clients.is_none() {
                return Err(D::Error::custom(format!(
                    "`{key}` needs `clients`: the file of the authorities that vouch for clients"
                )));
            }
        }
        Ok(tls)
    }
}

/// From where a client may connect without a user name that is in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Anonymous {
    /// From nowhere.
    Never,
    /// From this machine.
    Loopback,
    /// From anywhere.
    Always,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn reads_listeners_of_all_kinds() {
        let tls = "tls = { certificate = \"c\", key = \"k\" }\n";
        for (text, scheme) in [
            ("listen = \"a:1\"\n".to_owned(), "mqtt"),
            (format!("listen = \"a:1\"\n{tls}"), "mqtts"),
            ("listen = \"a:1\"\nwebsocket = true\n".to_owned(), "ws"),
            (format!("listen = \"a:1\"\nwebsocket = true\nanonymous = \"always\"\n{tls}"), "wss"),
        ] {
            assert_eq!(read(&text).expect(&text).scheme(), scheme);
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, part) in [
            ("", "missing field `listen`"),
            ("listen = \"a:1\"\nanonymous = \"no\"", "unknown variant `no`"),
            ("listen = \"a:1\"\ntls.certificate = \"c\"", "missing field `key`"),
            (
                "listen = \"a:1\"\ntls = { certificate = \"c\", key = \"k\", require-certificate = true }",
                "needs `clients`",
            ),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
