//! Who may come in at a listener: what the config says now. A reload puts new doors in the place of the old.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::config::{self, Anonymous};
use super::tls::{Certificate, Tls};
use crate::broker::Config;
use crate::broker::access::{Access, Login, Users, UsersError};
use crate::mqtt::{Connect, Reason};

/// One listener's door.
#[derive(Clone, Debug)]
pub struct Door {
    access: Arc<Access>,
    anonymous: Anonymous,
    pub(super) tls: Option<Tls>,
}

/// As whom a client is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Without a password. It may have given a user name, and nobody has checked it.
    Anonymous,
    /// With the right password.
    User(Login),
    /// With a certificate that names it.
    Certificate(Arc<str>),
}

/// Why doors cannot be made: a file is not as it has to be.
#[derive(Debug)]
pub enum DoorError {
    /// The user list.
    Users(UsersError),
    /// A certificate or key, of this listener.
    Tls(String, String),
}

impl fmt::Display for DoorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Users(e) => e.fmt(f),
            Self::Tls(listen, why) => write!(f, "the broker's listener {listen}: {why}"),
        }
    }
}

impl std::error::Error for DoorError {}

impl Door {
    /// Reads all files that `config` names: the access for the router, and the doors in the order of
    /// [`Config::listeners`]. Blocks on the disk.
    ///
    /// # Errors
    /// When one file is not as it has to be; then there is no door at all.
    pub fn all(config: &Config) -> Result<(Arc<Access>, Vec<Self>), DoorError> {
        let users = config.users.as_deref().map(Users::load).transpose().map_err(DoorError::Users)?;
        let access = Arc::new(Access::new(users, config.acl.clone()));
        let door = |listener: &config::Config| {
            let tls = listener.tls.as_ref().map(Tls::load).transpose();
            let tls = tls.map_err(|why| DoorError::Tls(listener.listen.clone(), why))?;
            let certified = listener.tls.as_ref().is_some_and(|tls| tls.require_certificate);
            let anonymous = listener.anonymous.or(config.anonymous).unwrap_or(match access.has_users() {
                true => Anonymous::Never,
                // Who has a certificate is known.
                false if certified => Anonymous::Always,
                false => Anonymous::Loopback,
            });
            Ok(Self { access: access.clone(), anonymous, tls })
        };
        let doors = config.listeners().iter().map(door).collect::<Result<_, _>>()?;
        Ok((access, doors))
    }

    /// Whether a password has to be looked at, which takes long and can be guessed.
    pub(super) fn asks_password(&self, certificate: &Certificate, connect: &Connect) -> bool {
        *certificate == Certificate::None && self.access.has_users() && connect.user.is_some()
    }

    /// Lets a client in, or not. Takes a good part of a second when [`Door::asks_password`].
    ///
    /// # Errors
    /// The code for its CONNACK.
    pub(super) fn admit(&self, from: IpAddr, certificate: Certificate, connect: &Connect) -> Result<Identity, Reason> {
        match (certificate, &connect.user) {
            (Certificate::Names(name), _) => Ok(Identity::Certificate(name)),
            (Certificate::Nameless, _) => Err(Reason::NOT_AUTHORIZED),
            (Certificate::None, Some(user)) if self.access.has_users() => {
                let password = connect.password.as_deref().unwrap_or_default();
                self.access.login(user, password).map(Identity::User).ok_or(Reason::BAD_USER_OR_PASSWORD)
            }
            (Certificate::None, _) if self.admits_anonymous(from) => Ok(Identity::Anonymous),
            (Certificate::None, _) => Err(Reason::NOT_AUTHORIZED),
        }
    }

    /// Whether who came in before, through this door as it was then, may stay.
    pub(super) fn still_admits(&self, from: IpAddr, identity: &Identity) -> bool {
        match identity {
            Identity::Certificate(_) => true,
            Identity::User(login) => self.access.knows(login),
            Identity::Anonymous => self.admits_anonymous(from),
        }
    }

    fn admits_anonymous(&self, from: IpAddr) -> bool {
        match self.anonymous {
            Anonymous::Never => false,
            Anonymous::Loopback => from.to_canonical().is_loopback(),
            Anonymous::Always => true,
        }
    }
}

/// The doors of all listeners, to be replaced while clients come and go.
#[derive(Clone, Debug)]
pub struct Doors(pub(super) Vec<watch::Sender<Door>>);

impl Doors {
    /// Puts new doors in place, in the same order. Who would not be let in any more has to leave.
    pub fn replace(&self, doors: Vec<Door>) {
        for (old, new) in self.0.iter().zip(doors) {
            old.send_replace(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::mqtt::Version;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn door(users: Option<Users>, anonymous: Anonymous) -> Door {
        Door { access: Arc::new(Access::new(users, Vec::new())), anonymous, tls: None }
    }

    fn connect(user: Option<&str>, password: &'static str) -> Connect {
        let mut connect = Connect::new(Version::V5, "c");
        connect.user = user.map(Arc::from);
        connect.password = Some(password.into());
        connect
    }

    #[test]
    fn without_a_list_the_address_decides() {
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        let here = [HERE, IpAddr::V6(Ipv6Addr::LOCALHOST), mapped];
        for (anonymous, local, far) in
            [(Anonymous::Never, false, false), (Anonymous::Loopback, true, false), (Anonymous::Always, true, true)]
        {
            let door = door(None, anonymous);
            let admits = |from| door.admit(from, Certificate::None, &connect(None, "")).is_ok();
            assert!(here.iter().all(|from| admits(*from) == local), "{anonymous:?}");
            assert_eq!(admits(FAR), far, "{anonymous:?}");
        }
    }

    #[test]
    fn with_a_list_the_password_decides_and_a_removed_user_may_not_stay() {
        let mut users = Users::default();
        users.add("ada", "secret").unwrap();
        let before = door(Some(users.clone()), Anonymous::Never);
        let admit = |user, password| before.admit(HERE, Certificate::None, &connect(user, password));
        let identity = admit(Some("ada"), "secret").unwrap();
        assert_eq!(admit(Some("ada"), "wrong"), Err(Reason::BAD_USER_OR_PASSWORD));
        assert_eq!(admit(Some("eve"), "secret"), Err(Reason::BAD_USER_OR_PASSWORD));
        assert_eq!(admit(None, ""), Err(Reason::NOT_AUTHORIZED));
        assert!(before.still_admits(FAR, &identity) && !before.still_admits(HERE, &Identity::Anonymous));
        users.remove("ada");
        assert!(!door(Some(users), Anonymous::Never).still_admits(FAR, &identity));
    }

    #[test]
    fn a_certificate_that_names_the_user_is_enough() {
        let door = door(Some(Users::default()), Anonymous::Always);
        let named = Certificate::Names("meter".into());
        let identity = door.admit(FAR, named, &connect(Some("ada"), "x"));
        assert_eq!(identity, Ok(Identity::Certificate("meter".into())));
        let nameless = door.admit(FAR, Certificate::Nameless, &connect(None, ""));
        assert_eq!(nameless, Err(Reason::NOT_AUTHORIZED));
    }
}
