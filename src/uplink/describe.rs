//! A connection to a cloud in words: how it is made, and what is not safe about it. Pure.

use std::net::IpAddr;

use super::address::Address;
use super::config::{Config, Protocol};

impl Config {
    /// How the cloud is reached, in a few parts of a sentence.
    pub fn way(&self) -> Vec<String> {
        let mut way = vec![match self.protocol {
            Protocol::V5 => "MQTT 5".to_owned(),
            Protocol::V311 => "MQTT 3.1.1".to_owned(),
        }];
        if self.url.0.iter().any(|address| address.path.is_some()) {
            way.push("over WebSocket".into());
        }
        if self.url.0.iter().any(|address| address.tls) {
            way.push(match (&self.ca, self.insecure) {
                (_, true) => "TLS with any certificate".into(),
                (Some(ca), _) => format!("TLS trusting {}", ca.display()),
                (None, _) => "TLS trusting the system's authorities".into(),
            });
            way.extend(self.server_name.as_ref().map(|name| format!("as {name}")));
            way.extend(self.certificate.as_ref().map(|ours| format!("with the certificate {}", ours.display())));
            if !self.alpn.is_empty() {
                way.push(format!("ALPN {}", self.alpn.join(" ")));
            }
        }
        way.extend(self.proxy.as_ref().map(|proxy| format!("through the proxy {proxy}")));
        if self.keeps_session() {
            way.push(format!("the cloud keeps the session for {}", self.session));
        }
        way
    }

    /// What is not safe about it.
    pub fn risks(&self) -> Vec<String> {
        let mut risks = Vec::new();
        if self.insecure {
            risks.push("any certificate is believed (insecure = true)".to_owned());
        }
        let open = self.url.0.iter().find(|address| !address.tls && !is_this_machine(address));
        if let Some(open) = open.filter(|_| self.password.is_some()) {
            risks.push(format!("the password goes to {open} unencrypted"));
        }
        risks
    }
}

fn is_this_machine(address: &Address) -> bool {
    address.host == "localhost" || address.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(text: &str) -> (String, String) {
        let config: Config = toml::from_str(text).expect("it is valid");
        (config.way().join(", "), config.risks().join("; "))
    }

    #[test]
    fn says_how_and_what_is_unsafe_and_no_password() {
        for (text, way, risks) in [
            (
                "url = \"mqtts://a\"\nusername = \"u\"\npassword = \"geheim\"",
                "MQTT 5, TLS trusting the system's authorities",
                "",
            ),
            (
                "url = \"wss://a\"\ninsecure = true\nprotocol = \"3.1.1\"\nproxy = \"http://u:geheim@p\"",
                "MQTT 3.1.1, over WebSocket, TLS with any certificate, through the proxy http://p:3128",
                "any certificate is believed (insecure = true)",
            ),
            (
                "url = [\"mqtt://localhost\", \"mqtt://b\"]\nusername = \"u\"\npassword = \"geheim\"\nsession = \"1h\"",
                "MQTT 5, the cloud keeps the session for 1h",
                "the password goes to mqtt://b:1883 unencrypted",
            ),
            ("url = \"mqtt://127.0.0.1\"\nusername = \"u\"\npassword = \"geheim\"", "MQTT 5", ""),
        ] {
            assert_eq!(described(text), (way.to_owned(), risks.to_owned()));
        }
    }
}
