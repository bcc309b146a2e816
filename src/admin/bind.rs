//! Opening the page's address, and what to do when that fails.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::access::Access;
use super::connection::Listener;
use super::{Admin, Config};

/// Opens the address and reads the password; nothing is served before [`Admin::run`].
///
/// # Errors
/// See [`BindError`].
pub async fn bind(config: &Config) -> Result<Admin, BindError> {
    let listen = &config.listen;
    let wanted: SocketAddr = listen.parse().map_err(|_| BindError::NotAnAddress(listen.clone()))?;
    let password = match &config.password {
        None if !wanted.ip().is_loopback() => return Err(BindError::NeedsPassword(wanted)),
        None => None,
        Some(secret) => match secret.read().map_err(BindError::Password)? {
            empty if empty.is_empty() => return Err(BindError::EmptyPassword),
            password => Some(password),
        },
    };
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(wanted),
        io::ErrorKind::PermissionDenied => BindError::Permission(wanted),
        io::ErrorKind::AddrNotAvailable => BindError::NotHere(wanted),
        _ => BindError::Other(wanted, error),
    };
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Admin { listener: Listener::new(listener), access: Access::new(address.ip(), password.as_deref()), address })
}

/// Why the page cannot be served.
#[derive(Debug)]
pub enum BindError {
    /// `listen` is not an address and a port.
    NotAnAddress(String),
    /// The address can be reached from other machines, and there is no password.
    NeedsPassword(SocketAddr),
    /// The password cannot be read.
    Password(io::Error),
    /// The password is empty.
    EmptyPassword,
    /// Another program listens there.
    InUse(SocketAddr),
    /// Ports below 1024 are for root, unless granted.
    Permission(SocketAddr),
    /// The address is not one of this machine's.
    NotHere(SocketAddr),
    /// Anything else that the system says.
    Other(SocketAddr, io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnAddress(text) => {
                write!(f, "admin.listen: `{text}` is not an address and a port; write it like \"127.0.0.1:8080\"")
            }
            Self::NeedsPassword(address) => write!(
                f,
                "admin.listen: other machines can reach {address}, so the page needs a password; \
                 set admin.password, or listen on 127.0.0.1"
            ),
            Self::Password(error) => write!(f, "admin.password: {error}"),
            Self::EmptyPassword => f.write_str("admin.password: it is empty; set one, or remove the key"),
            Self::InUse(address) => write!(
                f,
                "admin.listen: {address} is in use by another program; stop it (`ss -ltnp` shows which), \
                 or choose another port"
            ),
            Self::Permission(address) => {
                write!(f, "admin.listen: no permission to listen on {address}; choose a port of 1024 or above")
            }
            Self::NotHere(address) => write!(
                f,
                "admin.listen: {} is not an address of this machine (`ip address` lists them); \
                 0.0.0.0 means all of them",
                address.ip()
            ),
            Self::Other(address, error) => write!(f, "admin.listen: cannot listen on {address}: {error}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Password(error) | Self::Other(_, error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn config(listen: &str, password: Option<&str>) -> Config {
        Config { listen: listen.into(), password: password.map(|p| Secret::Plain(p.into())) }
    }

    #[tokio::test]
    async fn beyond_loopback_is_refused_without_a_password() {
        for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let error = bind(&config(listen, None)).await.unwrap_err();
            assert!(matches!(error, BindError::NeedsPassword(_)), "{listen}: {error}");
        }
        bind(&config("0.0.0.0:0", Some("hush"))).await.unwrap();
        assert!(matches!(bind(&config("0.0.0.0:0", Some(""))).await, Err(BindError::EmptyPassword)));
    }

    #[tokio::test]
    async fn errors_say_what_where_and_what_to_do() {
        let first = bind(&config("127.0.0.1:0", None)).await.unwrap();
        let address = first.address().to_string();
        let error = bind(&config(&address, None)).await.unwrap_err().to_string();
        assert!(error.contains(&address) && error.contains("in use") && error.contains("another port"), "{error}");

        let error = bind(&config("8080", None)).await.unwrap_err().to_string();
        assert!(error.contains("`8080`") && error.contains("127.0.0.1:8080"), "{error}");

        let error = bind(&config("192.0.2.1:0", Some("hush"))).await.unwrap_err().to_string();
        assert!(error.contains("192.0.2.1 is not an address of this machine"), "{error}");
    }

    #[test]
    fn the_config_has_defaults_and_refuses_unknown_keys() {
        assert_eq!(toml::from_str::<Config>("").unwrap(), config("127.0.0.1:8080", None));
        assert_eq!(toml::from_str::<Config>("password = 'x'").unwrap(), config("127.0.0.1:8080", Some("x")));
        assert!(toml::from_str::<Config>("port = 80").is_err());
    }
}
