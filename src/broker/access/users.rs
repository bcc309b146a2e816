//! The users and their hashed passwords: a file that `fieldpost user` writes, and Mosquitto's own in the same form.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher};
use std::io;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};

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

    /// Looks a user up and checks the password. Takes a good part of a second, whether there is such a user or not.
    pub(super) fn verify(&self, name: &str, password: &[u8]) -> Option<Login> {
        let hash = self.hashes.get_key_value(name);
        let right = hash.map_or_else(|| self.decoy(name), |(_, hash)| hash.clone()).verify(password);
        hash.filter(|_| right).map(|(name, hash)| Login { name: name.clone(), hash: hash.clone() })
    }

    /// Whether a login of before would be one still: the user is there, with the same password.
    pub(super) fn knows(&self, login: &Login) -> bool {
        self.hashes.get(&login.name) == Some(&login.hash)
    }

    /// What an unknown name is checked against, so that time tells nothing about names: something as costly as the
    /// hash of a user of this list, always the same for one name.
    fn decoy(&self, name: &str) -> Hash {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let any = usize::try_from(hasher.finish() % (self.hashes.len().max(1) as u64)).unwrap_or_default();
        match self.hashes.values().nth(any) {
            Some(Hash::Sha512 { salt, .. }) => Hash::Sha512 { salt: salt.clone(), hash: vec![0; 64] },
            Some(Hash::Pbkdf2 { iterations, salt, .. }) => {
                Hash::Pbkdf2 { iterations: *iterations, salt: salt.clone(), hash: vec![0; 64] }
            }
            None => Hash::Pbkdf2 { iterations: ITERATIONS, salt: vec![0; 12], hash: vec![0; 64] },
        }
    }
}

/// A user who has given the right password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub name: Arc<str>,
    hash: Hash,
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
        assert!(loaded.verify("ada", b"wrong").is_none());
        assert!(loaded.verify("bob", b"pass:word").is_none());
        let login = loaded.verify("ada", b"pass:word").unwrap();
        assert!(loaded.knows(&login));
        users.add("ada", "another").unwrap();
        assert!(!users.knows(&login), "a new password ends what began with the old one");
        assert!(!Users::default().knows(&login));
    }

    #[test]
    fn a_bad_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::fs::write(&path, "# users\nada:plain\n").unwrap();
        assert!(Users::load(&path).unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn an_unknown_name_costs_as_much_as_a_known_one() {
        let hash = Hash::Pbkdf2 { iterations: NonZeroU32::new(101).unwrap(), salt: vec![1; 12], hash: vec![1; 64] };
        let users = Users { hashes: [("ada".into(), hash)].into() };
        assert!(matches!(users.decoy("eve"), Hash::Pbkdf2 { iterations, .. } if iterations.get() == 101));
        assert!(matches!(Users::default().decoy("eve"), Hash::Pbkdf2 { iterations, .. } if iterations == ITERATIONS));
        assert!(!users.decoy("eve").verify(b""));
    }
}
