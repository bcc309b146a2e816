//! Where a cloud broker listens, as a URL says it.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// One of the broker's addresses: `mqtt://host:port`, or `ws://host:port/path` for MQTT over WebSocket; `mqtts` and `wss`
/// with TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Over TLS.
    pub tls: bool,
    /// A name or an IP address, an IPv6 one without brackets.
    pub host: String,
    /// 1883, 8883 with TLS, 80 and 443 over WebSocket unless said otherwise.
    pub port: u16,
    /// What is asked for over WebSocket, with its query; none without WebSocket.
    pub path: Option<String>,
}

/// Where brokers have their WebSocket when nobody says otherwise.
const PATH: &str = "/mqtt";

/// The addresses of one broker, tried in turn: one URL or a list. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses(pub Vec<Address>);

impl FromStr for Address {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| {
            format!("`{url}` is not a URL: write it as mqtt://HOST, or mqtts://HOST for one with TLS")
        })?;
        let (tls, websocket) = match scheme.to_ascii_lowercase().as_str() {
            "mqtt" => (false, false),
            "mqtts" => (true, false),
            "ws" => (false, true),
            "wss" => (true, true),
            _ => return Err(format!("`{scheme}` in `{url}` is not a scheme known here; use mqtt, mqtts, ws or wss")),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            // The URL is shown in logs and on the page, so it is not repeated here either.
            return Err("the URL has a user or password in it: set `username` and `password` instead".into());
        }
        let path = if websocket { Some(websocket_path(path)?) } else { no_path(path, url).map(|()| None)? };
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, port) = v6.split_once(']').ok_or_else(|| format!("`[` without `]` in `{url}`"))?;
                host.parse::<std::net::Ipv6Addr>()
                    .map_err(|_| format!("`{host}` in `{url}` is not an IPv6 address"))?;
                (host, port)
            }
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        if host.is_empty() {
            return Err(format!("`{url}` has no host"));
        }
        if let Some(c) = host.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("the host in `{url}` contains {c:?}"));
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => match (websocket, tls) {
                (false, false) => 1883,
                (false, true) => 8883,
                (true, false) => 80,
                (true, true) => 443,
            },
            None => return Err(format!("`{port}` in `{url}` is not a port: it follows the host after a `:`")),
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(format!("the port `{port}` in `{url}` is not a number from 1 to 65535")),
            },
        };
        Ok(Self { tls, host: host.to_owned(), port, path })
    }
}

fn no_path(path: &str, url: &str) -> Result<(), String> {
    if matches!(path, "" | "/") {
        return Ok(());
    }
    Err(format!("`{path}` in `{url}` has no meaning: MQTT over TCP has no path"))
}

/// What stands in the request for this path. The query may be a signature, and is not repeated in errors.
fn websocket_path(path: &str) -> Result<String, String> {
    if path.contains('#') {
        return Err("a URL for WebSocket has no `#` (RFC 6455, 3)".into());
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the path of the URL has characters in it that have to be written with %, as in %20".into());
    }
    Ok(match path.strip_prefix('?') {
        Some(_) => format!("{PATH}{path}"),
        None if path.is_empty() => PATH.into(),
        None => path.into(),
    })
}

impl Address {
    /// Host and port, as they stand in a URL.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (&self.path, self.tls) {
            (None, false) => "mqtt",
            (None, true) => "mqtts",
            (Some(_), false) => "ws",
            (Some(_), true) => "wss",
        };
        write!(f, "{scheme}://{}", self.authority())?;
        match self.path.as_deref().map(|path| path.split_once('?').ok_or(path)) {
            None => Ok(()),
            Some(Err(path)) => f.write_str(path),
            // Some clouds take a signature there.
            Some(Ok((path, _))) => write!(f, "{path}?…"),
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Addresses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL such as \"mqtts://broker.example.com\", or a list of them")
            }

            fn visit_str<E: de::Error>(self, url: &str) -> Result<Addresses, E> {
                Ok(Addresses(vec![url.parse().map_err(E::custom)?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Addresses, A::Error> {
                let mut addresses = Vec::new();
                while let Some(address) = list.next_element()? {
                    addresses.push(address);
                }
                if addresses.is_empty() {
                    return Err(de::Error::invalid_length(0, &self));
                }
                Ok(Addresses(addresses))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls_and_shows_them_again() {
        for (url, shown) in [
            ("mqtt://broker.example.com", "mqtt://broker.example.com:1883"),
            ("MQTTS://broker.example.com/", "mqtts://broker.example.com:8883"),
            ("mqtts://10.0.0.1:443", "mqtts://10.0.0.1:443"),
            ("mqtt://[fe80::1]:1884", "mqtt://[fe80::1]:1884"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
            ("ws://a", "ws://a:80/mqtt"),
            ("wss://a/", "wss://a:443/"),
            ("wss://[::1]:8084/mqtt/x", "wss://[::1]:8084/mqtt/x"),
            ("wss://a?X-Amz-Signature=geheim", "wss://a:443/mqtt?…"),
        ] {
            assert_eq!(url.parse::<Address>().map(|a| a.to_string()).as_deref(), Ok(shown));
        }
    }

    #[test]
    fn errors_name_the_part_and_never_a_password() {
        for (url, part) in [
            ("broker.example.com", "mqtt://HOST"),
            ("http://x", "`http`"),
            ("wss://x/a#b", "no `#`"),
            ("wss://x/a b?geheim", "%20"),
            ("mqtt://", "no host"),
            ("mqtt://:1883", "no host"),
            ("mqtt://x:0", "port `0`"),
            ("mqtt://x:99999", "port `99999`"),
            ("mqtt://x/path", "`/path`"),
            ("mqtt://[::1", "`[`"),
            ("mqtt://[zz]", "`zz`"),
            ("mqtt://[::1]1883", "`1883`"),
            ("mqtt://a b", "' '"),
            ("mqtt://user:geheim@x", "`username` and `password`"),
        ] {
            let error = url.parse::<Address>().expect_err(url);
            assert!(error.contains(part) && !error.contains("geheim"), "{url}: {error}");
        }
    }
}
