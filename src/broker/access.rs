//! Who may connect, publish and subscribe: the user list and the access rules. Pure but for reading the file.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use serde::Deserialize;

use crate::mqtt::topic;

/// `[[broker.acl]]`: what a user, or everybody, may read and write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// For this user only; for everybody when absent.
    pub user: Option<String>,
    /// For this client id only.
    pub client_id: Option<String>,
    /// Topic filters that may be subscribed to. `%u` stands for the user, `%c` for the client id.
    pub read: Vec<String>,
    /// Topic filters that may be published to, with the same placeholders.
    pub write: Vec<String>,
}

/// The users and rules of a broker.
#[derive(Debug, Default)]
pub struct Access {
    users: Option<Users>,
    rules: Vec<Rule>,
}

impl Access {
    /// Without a user list everybody may connect; without rules everybody who may connect may do everything.
    pub fn new(users: Option<Users>, rules: Vec<Rule>) -> Self {
        Self { users, rules }
    }

    /// Whether these credentials open a connection. Takes a good part of a second: not for the router's task.
    pub fn may_connect(&self, user: Option<&str>, password: Option<&[u8]>) -> bool {
        match (&self.users, user) {
            (None, _) => true,
            (Some(users), Some(user)) => users.verify(user, password.unwrap_or_default()),
            (Some(_), None) => false,
        }
    }

    /// Whether a client may publish on `topic`. Topics that begin with `$` are the gateway's own.
    pub fn may_publish(&self, user: Option<&str>, client_id: &str, topic: &str) -> bool {
        !topic.starts_with('$')
            && self.allows(user, client_id, |rule| &rule.write, |pattern| topic::matches(pattern, topic))
    }

    /// Whether a client may subscribe to `filter`: one pattern has to cover all that it can match. A shared filter
    /// matches no more than what stands within it.
    pub fn may_subscribe(&self, user: Option<&str>, client_id: &str, filter: &str) -> bool {
        let filter = topic::unshared(filter);
        self.allows(user, client_id, |rule| &rule.read, |pattern| covers(pattern, filter))
    }

    fn allows<'a>(
        &'a self,
        user: Option<&str>,
        client_id: &str,
        patterns: impl Fn(&'a Rule) -> &'a Vec<String>,
        fits: impl Fn(&str) -> bool,
    ) -> bool {
        // A name with a separator or a wildcard in it must not widen a pattern.
        let plain = |name: &str| !name.contains(['/', '+', '#']);
        self.rules.is_empty()
            || self
                .rules
                .iter()
                .filter(|rule| rule.user.as_deref().is_none_or(|wanted| user == Some(wanted)))
                .filter(|rule| rule.client_id.as_deref().is_none_or(|wanted| client_id == wanted))
                .flat_map(patterns)
                .any(|pattern| {
                    let user_fits = !pattern.contains("%u") || user.is_some_and(plain);
                    let client_fits = !pattern.contains("%c") || plain(client_id);
                    user_fits && client_fits && fits(&fill(pattern, user.unwrap_or_default(), client_id))
                })
    }
}

/// The pattern with its placeholders filled in; what is filled in is not looked at again.
fn fill(pattern: &str, user: &str, client_id: &str) -> String {
    let with_client: Vec<_> = pattern.split("%u").map(|part| part.replace("%c", client_id)).collect();
    with_client.join(user)
}

/// Whether every topic that `filter` matches is matched by `pattern` as well.
fn covers(pattern: &str, filter: &str) -> bool {
    if filter.starts_with('$') && pattern.starts_with(['+', '#']) {
        return false;
    }
    let (mut pattern, mut filter) = (pattern.split('/'), filter.split('/'));
    loop {
        match (pattern.next(), filter.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// A file of users and hashed passwords, one `name:hash` a line, as Mosquitto writes them too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    hashes: BTreeMap<Arc<str>, Hash>,
}

/// A hashed password. `$7$iterations$salt$hash` is PBKDF2 with SHA-512, `$6$salt$hash` is plain SHA-512 over password
/// and salt (mosquitto_passwd(1)).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hash {
    Pbkdf2 { iterations: NonZeroU32, salt: Vec<u8>, hash: Vec<u8> },
    Sha512 { salt: Vec<u8>, hash: Vec<u8> },
}

/// Slow enough to make guessing costly, fast enough for the smallest Pi.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(25_000).expect("not zero");

impl Users {
    /// Reads a user file.
    ///
    /// # Errors
    /// When it cannot be read, or a line is no `name:hash` that is known; the text says which.
    pub fn load(path: &Path) -> Result<Self, UsersError> {
        let text = std::fs::read_to_string(path).map_err(|e| UsersError::Read(path.display().to_string(), e))?;
        let mut users = Self::default();
        for (i, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = line.split_once(':').and_then(|(name, hash)| Some((name, Hash::parse(hash.trim_end())?)));
            let (name, hash) = parsed.ok_or_else(|| UsersError::Line(path.display().to_string(), i + 1))?;
            users.hashes.insert(name.into(), hash);
        }
        Ok(users)
    }

    /// Writes the user file; it is replaced whole or not at all. Only its owner and the group of its folder may read
    /// it: as root in `/etc/fieldpost`, that is the gateway's.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&temporary)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Not allowed to everybody, and then the group is the writer's own.
        let _ = std::os::unix::fs::fchown(&file, None, Some(folder.metadata()?.gid()));
        for (name, hash) in &self.hashes {
            writeln!(file, "{name}:{hash}")?;
        }
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    }

    /// Adds a user, or gives a user a new password.
    ///
    /// # Errors
    /// When the name cannot stand in the file.
    pub fn add(&mut self, name: &str, password: &str) -> Result<(), String> {
        if name.is_empty() || name.contains([':', '\n', '\r', '\0']) || name.starts_with('#') {
            return Err(format!("`{name}` is no user name: it may not be empty, begin with `#` or contain `:`"));
        }
        // Twelve bytes: Mosquitto's older releases take no other length.
        let mut salt = vec![0; 12];
        SystemRandom::new().fill(&mut salt).map_err(|_| "the system gives no random numbers".to_owned())?;
        let mut hash = vec![0; digest::SHA512_OUTPUT_LEN];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, ITERATIONS, &salt, password.as_bytes(), &mut hash);
        self.hashes.insert(name.into(), Hash::Pbkdf2 { iterations: ITERATIONS, salt, hash });
        Ok(())
    }

    /// Removes a user; false when there is none of this name.
    pub fn remove(&mut self, name: &str) -> bool {
        self.hashes.remove(name).is_some()
    }

    /// The users' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.hashes.keys().map(|name| &**name)
    }

    fn verify(&self, name: &str, password: &[u8]) -> bool {
        match self.hashes.get(name) {
            Some(hash) => hash.verify(password),
            None => {
                // An unknown name takes as long as a wrong password, so that time tells nothing about names.
                let absent = Hash::Pbkdf2 { iterations: ITERATIONS, salt: vec![0; 12], hash: vec![0; 64] };
                absent.verify(password);
                false
            }
        }
    }
}

impl Hash {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('$')?.split('$');
        let kind = parts.next()?;
        let iterations = if kind == "7" { Some(parts.next()?.parse().ok()?) } else { None };
        let salt = BASE64.decode(parts.next()?).ok()?;
        let hash = BASE64.decode(parts.next()?).ok()?;
        if parts.next().is_some() || hash.len() != digest::SHA512_OUTPUT_LEN {
            return None;
        }
        match (kind, iterations) {
            ("7", Some(iterations)) => Some(Self::Pbkdf2 { iterations, salt, hash }),
            ("6", None) => Some(Self::Sha512 { salt, hash }),
            _ => None,
        }
    }

    fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Pbkdf2 { iterations, salt, hash } => {
                pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, *iterations, salt, password, hash).is_ok()
            }
            Self::Sha512 { salt, hash } => {
                let found = digest::digest(&digest::SHA512, &[password, salt].concat());
                // Compared behind a MAC, so that the time taken tells nothing of how much is right.
                let key = hmac::Key::new(hmac::HMAC_SHA512, salt);
                hmac::verify(&key, found.as_ref(), hmac::sign(&key, hash).as_ref()).is_ok()
            }
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pbkdf2 { iterations, salt, hash } => {
                write!(f, "$7${iterations}${}${}", BASE64.encode(salt), BASE64.encode(hash))
            }
            Self::Sha512 { salt, hash } => write!(f, "$6${}${}", BASE64.encode(salt), BASE64.encode(hash)),
        }
    }
}

/// Why a user file cannot be used.
#[derive(Debug)]
pub enum UsersError {
    /// It cannot be read.
    Read(String, io::Error),
    /// This line is not `name:hash`.
    Line(String, usize),
}

impl fmt::Display for UsersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, e) => {
                write!(f, "cannot read the user list {path}: {e}")?;
                match e.kind() {
                    io::ErrorKind::NotFound => write!(f, "; `fieldpost user add {path} NAME` makes one"),
                    io::ErrorKind::PermissionDenied => f.write_str("; the gateway's user has to be able to read it"),
                    _ => Ok(()),
                }
            }
            Self::Line(path, line) => {
                write!(f, "{path}, line {line}: not NAME:HASH with a hash that begins with $7$ or $6$")
            }
        }
    }
}

impl std::error::Error for UsersError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_file_round_trips_and_verifies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let mut users = Users::default();
        users.add("ada", "pass:word").unwrap();
        assert!(users.add("a:b", "x").is_err());
        users.save(&path).unwrap();
        let loaded = Users::load(&path).unwrap();
        assert_eq!(loaded, users);
        let access = Access::new(Some(loaded), Vec::new());
        assert!(access.may_connect(Some("ada"), Some(b"pass:word")));
        assert!(!access.may_connect(Some("ada"), Some(b"wrong")));
        assert!(!access.may_connect(Some("bob"), Some(b"pass:word")));
        assert!(!access.may_connect(None, None));
    }

    #[test]
    fn a_bad_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::fs::write(&path, "# users\nada:plain\n").unwrap();
        assert!(Users::load(&path).unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn rules_deny_what_they_do_not_allow() {
        let rules = vec![
            Rule { user: Some("dash".into()), read: vec!["plant/#".into()], ..Rule::default() },
            Rule { read: vec!["own/%u/#".into()], write: vec!["own/%u/+".into(), "c/%c".into()], ..Rule::default() },
        ];
        let access = Access::new(None, rules);
        assert!(access.may_subscribe(Some("dash"), "c", "plant/+/x"));
        assert!(access.may_subscribe(Some("dash"), "c", "plant/#"));
        assert!(!access.may_subscribe(Some("dash"), "c", "#"));
        assert!(!access.may_subscribe(Some("other"), "c", "plant/a"));
        assert!(access.may_subscribe(Some("other"), "c", "own/other/a/#"));
        assert!(!access.may_subscribe(Some("+"), "c", "own/+/a"), "a wildcard for a name widens nothing");
        assert!(!access.may_subscribe(Some("%c"), "+", "own/x/a"), "nor does a placeholder");
        assert!(!access.may_publish(Some("dash"), "c", "plant/a"));
        assert!(access.may_publish(Some("dash"), "c", "own/dash/a"));
        assert!(!access.may_publish(Some("dash"), "c", "own/other/a"));
        assert!(access.may_publish(None, "me", "c/me"));
        assert!(!access.may_publish(None, "c", "$SYS/x"));
        assert!(access.may_subscribe(Some("dash"), "c", "$share/g/plant/+"));
        assert!(!access.may_subscribe(Some("dash"), "c", "$share/plant/secret"));
        assert!(Access::default().may_subscribe(None, "c", "#"));
    }
}
