//! An HTTP proxy on the way to the cloud: it is asked for a tunnel by CONNECT (RFC 9110, 9.3.6).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::BufMut as _;
use serde::{Deserialize, Deserializer, de};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::address::Address;
use super::remote::shown;

/// The head of an answer is smaller, with all that proxies put into one.
const MOST_HEAD: usize = 16 * 1024;

/// A proxy: `http://[user:password@]host:port`. Shown without user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// A name or an IP address, an IPv6 one without brackets.
    pub host: String,
    /// 3128 unless said otherwise.
    pub port: u16,
    /// `user:password`, as HTTP's basic authentication has it (RFC 7617).
    credentials: Option<String>,
}

impl Proxy {
    /// Asks for a tunnel to `to` over a connection to the proxy. From then on the stream is that to the cloud.
    ///
    /// # Errors
    /// When there is none; the text says what the proxy has against it.
    pub(super) async fn tunnel<S>(&self, stream: &mut S, to: &Address) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let lost = |e: std::io::Error| format!("the proxy {self} closed the connection: {e}");
        let authority = to.authority();
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some(credentials) = &self.credentials {
            request += &format!("Proxy-Authorization: Basic {}\r\n", BASE64.encode(credentials));
        }
        request += "\r\n";
        stream.write_all(request.as_bytes()).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;

        let mut head = Vec::with_capacity(256);
        while !head.ends_with(b"\r\n\r\n") {
            // One at a time: what stands behind the head belongs to the tunnel.
            if stream.read_buf(&mut (&mut head).limit(1)).await.map_err(lost)? == 0 {
                return Err(format!("the proxy {self} closed the connection without an answer"));
            }
            if head.len() > MOST_HEAD || !could_be_http(&head) {
                return Err(format!("the proxy {self} does not answer as an HTTP proxy does"));
            }
        }
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = shown(&String::from_utf8_lossy(line));
        let said = line.split_once(' ').map_or("", |(_, said)| said).trim();
        match said.get(..3).and_then(|code| code.parse::<u16>().ok()) {
            Some(200..300) => Ok(()),
            Some(401 | 407) if self.credentials.is_none() => {
                Err(format!("the proxy {self} wants user and password ({said}): write http://USER:PASSWORD@HOST:PORT"))
            }
            // Some say so with the code of a server.
            Some(401 | 407) => Err(format!("the proxy {self} refuses user or password ({said})")),
            Some(403) => Err(format!("the proxy {self} does not allow connections to {authority} ({said})")),
            Some(_) => Err(format!("the proxy {self} cannot connect to {authority}: {said}")),
            None => Err(format!("the proxy {self} does not answer as an HTTP proxy does")),
        }
    }
}

fn could_be_http(head: &[u8]) -> bool {
    let begin = b"HTTP/1.";
    head.starts_with(&begin[..begin.len().min(head.len())])
}

impl FromStr for Proxy {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        // What is wrong is never repeated: there may be a password in it.
        let form = || "write the proxy as \"http://HOST:PORT\" or \"http://USER:PASSWORD@HOST:PORT\"".to_owned();
        let (scheme, rest) = url.split_once("://").ok_or_else(form)?;
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" | "socks" | "socks4" | "socks5" | "socks5h" => {
                return Err(format!("a proxy over {scheme} is not supported: only http (CONNECT) is"));
            }
            _ => return Err(form()),
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((credentials, authority)) => (Some(unescape(credentials)?), authority),
            None => (None, rest),
        };
        // A path, or an `@` or `/` of a password that is not escaped.
        if authority.contains(['/', '?', '#']) || credentials.as_ref().is_some_and(|c| !c.contains(':')) {
            return Err(format!("{}; in them, `@`, `:`, `/` and `%` are written %40, %3A, %2F and %25", form()));
        }
        let address: Address = format!("mqtt://{authority}").parse().map_err(|_| form())?;
        let says_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if says_port { address.port } else { 3128 };
        Ok(Self { host: address.host, port, credentials })
    }
}

/// User and password with their %-escapes (RFC 3986, 2.1) resolved; the first `:` stands between them.
fn unescape(text: &str) -> Result<String, String> {
    let bad = || "in user and password of the proxy, a % is followed by two hexadecimal digits; itself it is %25";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        bytes.push(*first);
        if *first == b'%' {
            let digits = more.get(..2).filter(|d| d.iter().all(u8::is_ascii_hexdigit)).ok_or_else(bad)?;
            let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
            bytes.pop();
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
            rest = &more[2..];
        }
    }
    String::from_utf8(bytes).map_err(|_| "user and password of the proxy are not UTF-8".into())
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "http://[{}]:{}", self.host, self.port),
            false => write!(f, "http://{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.credentials.is_some() { ", with a password" } else { "" };
        write!(f, "Proxy({self}{user})")
    }
}

impl<'de> Deserialize<'de> for Proxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[test]
    fn reads_urls_and_shows_them_without_the_password() {
        for (url, shown, credentials) in [
            ("http://proxy:8080", "http://proxy:8080", None),
            ("HTTP://[fd00::1]/", "http://[fd00::1]:3128", None),
            ("http://me:ge%40im%3A%25x@proxy", "http://proxy:3128", Some("me:ge@im:%x")),
            ("http://me:a@b@proxy:1", "http://proxy:1", Some("me:a@b")),
        ] {
            let proxy: Proxy = url.parse().expect(url);
            assert_eq!((proxy.to_string(), proxy.credentials.as_deref()), (shown.to_owned(), credentials));
            assert!(!format!("{proxy:?}").contains("ge@im"));
        }
    }

    #[test]
    fn errors_say_what_to_write_and_never_a_password() {
        for (url, part) in [
            ("proxy:3128", "http://HOST:PORT"),
            ("socks5://u:geheim@x", "over socks5"),
            ("https://u:geheim@x", "over https"),
            ("http://u:geheim@", "http://HOST:PORT"),
            ("http://u:geheim@x:99999", "http://HOST:PORT"),
            ("http://u:geheim@x/path", "%2F"),
            ("http://u:ge/heim", "%2F"),
            ("http://geheim@x", "http://USER:PASSWORD@"),
            ("http://u:geheim%4@x", "%25"),
            ("http://u:geheim%zz@x", "%25"),
            ("http://u:geheim%ff@x", "UTF-8"),
        ] {
            let error = url.parse::<Proxy>().expect_err(url);
            assert!(error.contains(part) && !error.contains("heim"), "{url}: {error}");
        }
    }

    async fn ask(url: &str, answer: &[u8]) -> (Result<(), String>, String, Vec<u8>) {
        let proxy: Proxy = url.parse().expect("a proxy");
        let (mut ours, mut theirs) = duplex(4096);
        theirs.write_all(answer).await.expect("room");
        let to = "mqtts://[::1]:443".parse().expect("an address");
        let tunnel = proxy.tunnel(&mut ours, &to).await;
        ours.shutdown().await.expect("it ends");
        let mut request = String::new();
        theirs.shutdown().await.expect("it ends");
        theirs.read_to_string(&mut request).await.expect("text");
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.expect("the rest");
        (tunnel, request, rest)
    }

    #[tokio::test]
    async fn what_stands_behind_the_answer_belongs_to_the_tunnel() {
        let (tunnel, request, rest) = ask("http://me:pass@p", b"HTTP/1.0 200 OK\r\nVia: x\r\n\r\n\x20\x02").await;
        assert_eq!((tunnel, rest), (Ok(()), vec![0x20, 0x02]));
        let said = "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nProxy-Authorization: Basic bWU6cGFzcw==\r\n\r\n";
        assert_eq!(request, said);
    }

    #[tokio::test]
    async fn a_refusal_says_who_has_what_against_whom() {
        for (url, answer, part) in [
            ("http://p", "HTTP/1.1 407 Auth\r\n\r\n", "wants user and password (407 Auth)"),
            ("http://me:geheim@p", "HTTP/1.1 407 Auth\r\n\r\n", "refuses user or password"),
            ("http://p", "HTTP/1.1 403 Filtered\r\n\r\nno", "does not allow connections to [::1]:443"),
            ("http://p", "HTTP/1.1 502 Bad \u{1b}[1m\nGateway\r\n\r\n", "502 Bad [1mGateway"),
            ("http://p", "SSH-2.0-x\r\n", "does not answer as an HTTP proxy"),
            ("http://p", "HTTP/1.1 abc\r\n\r\n", "does not answer as an HTTP proxy"),
        ] {
            let (tunnel, ..) = ask(url, answer.as_bytes()).await;
            let error = tunnel.expect_err(answer);
            assert!(error.contains(part) && !error.contains("geheim"), "{error}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_cut_off() {
        let proxy: Proxy = "http://p".parse().expect("a proxy");
        let (mut ours, theirs) = duplex(2 * MOST_HEAD);
        let (_read, mut write) = tokio::io::split(theirs);
        write.write_all(&[&b"HTTP/1.1 200 OK\r\n"[..], &[b'x'; MOST_HEAD]].concat()).await.expect("room");
        let to = "mqtt://a".parse().expect("an address");
        assert!(proxy.tunnel(&mut ours, &to).await.expect_err("too much").contains("HTTP proxy"));
    }
}
