//! Who may come in at a listener: what the config says now. A reload puts new doors in the place of the old.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::config::{self, Anonymous};
use super::tls::{Certificate, Tls, Trust};
use crate::broker::Config;
use crate::broker::access::{Access, Login, Users, UsersError};
use crate::mqtt::Reason;
use crate::tls::FileError;

/// One listener's door.
#[derive(Clone, Debug)]
pub struct Door {
    access: Arc<Access>,
    anonymous: Anonymous,
    pub(super) tls: Option<Tls>,
}

/// Who a client says it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim {
    pub user: Option<Arc<str>>,
    pub password: Option<Bytes>,
}

/// How a client has come in.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    pub identity: Identity,
    /// By which its certificate was good, if it has shown one.
    pub trust: Option<Arc<Trust>>,
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

impl Identity {
    /// The name by which the rules know it.
    pub(super) fn user(&self) -> Option<Arc<str>> {
        match self {
            Self::Anonymous => None,
            Self::User(login) => Some(login.name.clone()),
            Self::Certificate(name) => Some(name.clone()),
        }
    }
}

/// Why doors cannot be made: a file is not as it has to be.
#[derive(Debug)]
pub enum DoorError {
    /// The user list.
    Users(UsersError),
    /// A certificate or key, of this listener.
    Tls(String, FileError),
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

    /// Whether the password of a client with a user name has to be looked at, which takes long and can be guessed.
    pub(super) fn asks_password(&self, certificate: &Certificate) -> bool {
        matches!(certificate, Certificate::None | Certificate::Shown) && self.access.has_users()
    }

    /// Lets a client in, or not. Takes a good part of a second when [`Door::asks_password`].
    ///
    /// # Errors
    /// The code for its CONNACK.
    pub(super) fn admit(&self, from: IpAddr, certificate: Certificate, claim: &Claim) -> Result<Identity, Reason> {
        match (certificate, &claim.user) {
            (Certificate::Names(name), _) => Ok(Identity::Certificate(name)),
            (Certificate::Nameless, _) => Err(Reason::NOT_AUTHORIZED),
            (_, Some(user)) if self.access.has_users() => {
                let password = claim.password.as_deref().unwrap_or_default();
                self.access.login(user, password).map(Identity::User).ok_or(Reason::BAD_USER_OR_PASSWORD)
            }
            _ if self.admits_anonymous(from) => Ok(Identity::Anonymous),
            _ => Err(Reason::NOT_AUTHORIZED),
        }
    }

    /// Whether who came in before, through this door as it was then, may stay.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn still_admits(&self, from: IpAddr, admission: &Admission) -> Result<(), &'static str> {
        let trust = self.tls.as_ref().and_then(|tls| tls.trust.as_deref());
        match admission.trust.as_deref() {
            Some(then) if trust != Some(then) => {
                return Err("other authorities vouch for clients now, or their certificates count for something else");
            }
            None if trust.is_some_and(|trust| trust.is_required) => {
                return Err("it has no certificate, and may not connect without any more");
            }
            _ => {}
        }
        match &admission.identity {
            Identity::Certificate(_) => Ok(()),
            Identity::User(login) => self.access.still_knows(login),
            Identity::Anonymous if self.admits_anonymous(from) => Ok(()),
            Identity::Anonymous => Err("it has no user name, and may not connect without any more"),
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

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn door(users: Option<Users>, anonymous: Anonymous) -> Door {
        Door { access: Arc::new(Access::new(users, Vec::new())), anonymous, tls: None }
    }

    fn claim(user: Option<&str>, password: &'static str) -> Claim {
        Claim { user: user.map(Arc::from), password: Some(password.into()) }
    }

    fn stays(door: &Door, from: IpAddr, identity: Identity) -> bool {
        door.still_admits(from, &Admission { identity, trust: None }).is_ok()
    }

    #[test]
    fn without_a_list_the_address_decides() {
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        let here = [HERE, IpAddr::V6(Ipv6Addr::LOCALHOST), mapped];
        for (anonymous, local, far) in
            [(Anonymous::Never, false, false), (Anonymous::Loopback, true, false), (Anonymous::Always, true, true)]
        {
            let door = door(None, anonymous);
            let admits = |from| door.admit(from, Certificate::None, &claim(None, "")).is_ok();
            assert!(here.iter().all(|from| admits(*from) == local), "{anonymous:?}");
            assert_eq!(admits(FAR), far, "{anonymous:?}");
        }
    }

    #[test]
    fn with_a_list_the_password_decides_and_a_removed_user_may_not_stay() {
        let mut users = Users::default();
        users.add("ada", "secret").unwrap();
        let before = door(Some(users.clone()), Anonymous::Never);
        let admit = |user, password| before.admit(HERE, Certificate::None, &claim(user, password));
        let identity = admit(Some("ada"), "secret").unwrap();
        assert_eq!(admit(Some("ada"), "wrong"), Err(Reason::BAD_USER_OR_PASSWORD));
        assert_eq!(admit(Some("eve"), "secret"), Err(Reason::BAD_USER_OR_PASSWORD));
        assert_eq!(admit(None, ""), Err(Reason::NOT_AUTHORIZED));
        assert_eq!(identity.user().as_deref(), Some("ada"));
        assert!(stays(&before, FAR, identity.clone()) && !stays(&before, HERE, Identity::Anonymous));
        users.remove("ada");
        assert!(!stays(&door(Some(users), Anonymous::Never), FAR, identity));
    }

    #[test]
    fn a_name_that_nobody_has_checked_is_no_name() {
        let open = door(None, Anonymous::Always).admit(FAR, Certificate::None, &claim(Some("ada"), "x")).unwrap();
        assert_eq!(open.user(), None);
    }

    #[test]
    fn a_certificate_that_names_the_user_is_enough() {
        let door = door(Some(Users::default()), Anonymous::Always);
        let named = Certificate::Names("meter".into());
        let identity = door.admit(FAR, named, &claim(Some("ada"), "x"));
        assert_eq!(identity, Ok(Identity::Certificate("meter".into())));
        let nameless = door.admit(FAR, Certificate::Nameless, &claim(None, ""));
        assert_eq!(nameless, Err(Reason::NOT_AUTHORIZED));
    }
}
