//! Who may see the page: by the address that the browser believes to talk to, or by password.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{hmac, rand::SystemRandom};

/// The rule that every request has to pass.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// No password, and so loopback only. A web page elsewhere can still make a browser here ask this address under a
    /// name of its own (DNS rebinding), and would then read the answer; the name in `Host` tells.
    Local { bound: IpAddr },
    /// Whoever knows the password.
    Password(Arc<Password>),
}

/// A password, kept only as a MAC under a key that lives as long as the process.
#[derive(Debug)]
pub(crate) struct Password {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl Access {
    /// The rule for a page bound to `bound`.
    pub(crate) fn new(bound: IpAddr, password: Option<&str>) -> Self {
        match password {
            None => Self::Local { bound },
            Some(password) => Self::Password(Arc::new(Password::new(password))),
        }
    }
}

/// Lets a request through to its path, or answers why not.
pub(crate) async fn check(State(access): State<Access>, request: Request, next: Next) -> Response {
    match &access {
        Access::Local { bound } if !host_is_local(request.headers(), *bound) => {
            let text = "This page answers to localhost only. Set admin.password to use another name.\n";
            (StatusCode::MISDIRECTED_REQUEST, text).into_response()
        }
        // Whether the process lives is no secret, and what asks for it often cannot log in.
        Access::Password(password) if request.uri().path() != "/healthz" && !password.given(request.headers()) => {
            let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"fieldpost\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, ask, "This page needs the password; any user name will do.\n").into_response()
        }
        _ => next.run(request).await,
    }
}

fn host_is_local(headers: &HeaderMap, bound: IpAddr) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    // The port may differ: an SSH tunnel has one of its own.
    if let Some(rest) = host.strip_prefix('[') {
        let ip = rest.split_once(']').and_then(|(ip, _)| ip.parse::<Ipv6Addr>().ok());
        return ip.is_some_and(|ip| ip.is_loopback() || bound == ip);
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let ip = name.parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback() || ip == bound)
}

impl Password {
    fn new(password: &str) -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .expect("Linux gives random bytes to a process that has begun");
        let tag = hmac::sign(&key, password.as_bytes());
        Self { key, tag }
    }

    /// Whether the headers carry the password (RFC 7617); compared in constant time.
    fn given(&self, headers: &HeaderMap) -> bool {
        let given = || {
            let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
            let (scheme, credentials) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("basic").then_some(())?;
            let decoded = STANDARD.decode(credentials.trim()).ok()?;
            let colon = decoded.iter().position(|&byte| byte == b':')?;
            Some(decoded[colon + 1..].to_vec())
        };
        given().is_some_and(|password| hmac::verify(&self.key, &password, self.tag.as_ref()).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn only_local_names_are_local() {
        let local = |host: &str| host_is_local(&headers(header::HOST, host), "127.0.0.2".parse().unwrap());
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.2:1", "[::1]", "[::1]:8080"] {
            assert!(local(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8080", "192.168.1.5", "[::2]", "[", "", "127.0.0.1.nip.io"]
        {
            assert!(!local(host), "{host}");
        }
        assert!(!host_is_local(&HeaderMap::new(), "127.0.0.1".parse().unwrap()), "no Host at all");
    }

    #[test]
    fn only_the_password_opens() {
        let password = Password::new("h:ush");
        let given =
            |text: &str| password.given(&headers(header::AUTHORIZATION, &format!("Basic {}", STANDARD.encode(text))));
        assert!(given("anyone:h:ush") && given(":h:ush"));
        for wrong in ["anyone:h:us", "anyone:", "h:ush:", "hush", "", "anyone:H:ush"] {
            assert!(!given(wrong), "{wrong}");
        }
        assert!(!password.given(&headers(header::AUTHORIZATION, "Bearer h:ush")));
        assert!(!password.given(&headers(header::AUTHORIZATION, "Basic ***")));
        assert!(!password.given(&HeaderMap::new()));
    }
}
