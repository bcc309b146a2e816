//! Opening the page's address, and what to do when that fails.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, lookup_host};

use super::access::Access;
use super::connection::Listener;
use super::{Admin, Config};

/// Opens the address and reads the password; nothing is served before [`Admin::run`].
///
/// # Errors
/// See [`BindError`].
pub async fn bind(config: &Config) -> Result<Admin, BindError> {
    let addresses = resolve(&config.listen).await?;
    let wanted = addresses[0];
    // A name may stand for several addresses, and any of them may be the one that is opened.
    let open = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback());
    let password = match (&config.password, open) {
        (None, Some(open)) => return Err(BindError::NeedsPassword(*open)),
        (None, None) => None,
        (Some(secret), _) => match secret.read().map_err(BindError::Password)? {
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
    let listener = TcpListener::bind(&addresses[..]).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Admin { listener: Listener::new(listener), access: Access::new(address.ip(), password.as_deref()), address })
}

/// The addresses that `listen` stands for, at least one.
async fn resolve(listen: &str) -> Result<Vec<SocketAddr>, BindError> {
    let (_, port) = listen.rsplit_once(':').ok_or_else(|| BindError::NotAnAddress(listen.to_owned()))?;
    port.parse::<u16>().map_err(|_| BindError::NotAnAddress(listen.to_owned()))?;
    let unknown = |error| BindError::Unknown(listen.to_owned(), error);
    let addresses: Vec<_> = lookup_host(listen).await.map_err(unknown)?.collect();
    if addresses.is_empty() { Err(unknown(io::ErrorKind::NotFound.into())) } else { Ok(addresses) }
}

/// Why the page cannot be served.
#[derive(Debug)]
pub enum BindError {
    /// `listen` is not an address and a port.
    NotAnAddress(String),
    /// The name in `listen` cannot be looked up.
    Unknown(String, io::Error),
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
            Self::Unknown(text, error) => {
                write!(f, "admin.listen: the name in `{text}` is not known ({error}); write an address, like 127.0.0.1")
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
            Self::Password(error) | Self::Unknown(_, error) | Self::Other(_, error) => Some(error),
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
    async fn a_name_is_as_good_as_its_addresses() {
        let admin = bind(&config("localhost:0", None)).await.unwrap();
        assert!(admin.address().ip().is_loopback());
        // Whether or not this machine has IPv6, it is no address beyond it.
        let mapped = bind(&config("[::ffff:127.0.0.1]:0", None)).await;
        assert!(!matches!(mapped, Err(BindError::NeedsPassword(_) | BindError::NotAnAddress(_))), "{mapped:?}");
        let error = bind(&config("no-such-name.invalid:80", Some("hush"))).await.unwrap_err();
        assert!(matches!(error, BindError::Unknown(..)), "{error}");
        let error = bind(&config("localhost:http", None)).await.unwrap_err();
        assert!(matches!(error, BindError::NotAnAddress(_)), "{error}");
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
