//! Where a cloud broker listens, as a URL says it.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// One of the broker's addresses: `mqtt://host:port` or `mqtts://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Over TLS; port 8883 unless said otherwise, and 1883 without.
    pub tls: bool,
    /// A name or an IP address, an IPv6 one without brackets.
    pub host: String,
    pub port: u16,
}

/// The addresses of one broker, tried in turn: one URL or a list. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses(pub Vec<Address>);

impl FromStr for Address {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| {
            format!("`{url}` is not a URL: write it as mqtt://HOST, or mqtts://HOST for one with TLS")
        })?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "mqtt" => false,
            "mqtts" => true,
            "ws" | "wss" => {
                return Err(format!(
                    "`{scheme}` in `{url}`: MQTT over WebSocket is not supported yet; use mqtt or mqtts"
                ));
            }
            _ => return Err(format!("`{scheme}` in `{url}` is not a scheme known here; use mqtt or mqtts")),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            // The URL is shown in logs and on the page, so it is not repeated here either.
            return Err("the URL has a user or password in it: set `username` and `password` instead".into());
        }
        if !matches!(path, "" | "/") {
            return Err(format!("`{path}` in `{url}` has no meaning: MQTT over TCP has no path"));
        }
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
            None if port.is_empty() => 1883 + 7000 * u16::from(tls),
            None => return Err(format!("`{port}` in `{url}` is not a port: it follows the host after a `:`")),
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(format!("the port `{port}` in `{url}` is not a number from 1 to 65535")),
            },
        };
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
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
        ] {
            assert_eq!(url.parse::<Address>().map(|a| a.to_string()).as_deref(), Ok(shown));
        }
    }

    #[test]
    fn errors_name_the_part_and_never_a_password() {
        for (url, part) in [
            ("broker.example.com", "mqtt://HOST"),
            ("http://x", "`http`"),
            ("wss://x", "WebSocket is not supported yet"),
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
