//! The users and their hashed passwords: a file that `fieldpost user` writes, and Mosquitto's own in the same form.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::hash::{DefaultHasher, Hash as _, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use super::hash::{Hash, Unusable};

/// A file of users and hashed passwords, one `name:hash` a line, as Mosquitto writes them too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    hashes: BTreeMap<Arc<str>, Hash>,
}

impl Users {
    /// Reads a user file.
    ///
    /// # Errors
    /// When it cannot be read, or a line is no `name:hash` that is known; the text says which.
    pub fn load(path: &Path) -> Result<Self, UsersError> {
        let text = std::fs::read_to_string(path).map_err(|e| UsersError::Read(path.display().to_string(), e))?;
        let mut users = Self::default();
        for (i, line) in text.lines().enumerate() {
            if is_comment(line) {
                continue;
            }
            let wrong = |why| UsersError::Line(path.display().to_string(), i + 1, why);
            let (name, hash) = line.split_once(':').ok_or_else(|| wrong(Unusable::Unknown))?;
            users.hashes.insert(name.into(), Hash::parse(hash.trim_end()).map_err(wrong)?);
        }
        Ok(users)
    }

    /// Reads a user file, changes it and writes it; nobody else does meanwhile. It is replaced whole or not at all, and
    /// its comments stay. Only its owner and the group of its folder may read it: as root in `/etc/fieldpost`, that is
    /// the gateway's. A file that is not there is as an empty one.
    ///
    /// # Errors
    /// What `change` finds wrong, and when the file cannot be read or written; then it is as it was.
    pub fn edit<E: From<UsersError> + From<io::Error>>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = File::open(folder)?;
        // The file itself is another one after each change.
        flock(&folder, FlockOperation::LockExclusive).map_err(io::Error::from)?;
        let (mut users, before) = match fs::read_to_string(path) {
            Ok(text) => (Self::load(path)?, text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => <(Self, String)>::default(),
            Err(e) => return Err(UsersError::Read(path.display().to_string(), e).into()),
        };
        change(&mut users)?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = Path::new(&temporary);
        // Of a change that was cut off.
        if let Err(e) = fs::remove_file(temporary)
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(e.into());
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        // Not allowed to everybody, and then the group is the writer's own.
        let _ = std::os::unix::fs::fchown(&file, None, Some(folder.metadata()?.gid()));
        file.set_permissions(Permissions::from_mode(0o640))?;
        file.write_all(users.written_over(&before).as_bytes())?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        folder.sync_all()?;
        Ok(())
    }

    /// The text of the file, as it is to be after it was `before`.
    fn written_over(&self, before: &str) -> String {
        let mut left: BTreeMap<&str, &Hash> = self.hashes.iter().map(|(name, hash)| (&**name, hash)).collect();
        let mut text = String::new();
        for line in before.lines() {
            match line.split_once(':') {
                Some((name, _)) if !is_comment(line) => {
                    if let Some(hash) = left.remove(name) {
                        text += &format!("{name}:{hash}\n");
                    }
                }
                _ => text += &format!("{line}\n"),
            }
        }
        left.into_iter().for_each(|(name, hash)| text += &format!("{name}:{hash}\n"));
        text
    }

    /// Adds a user, or gives a user a new password.
    ///
    /// # Errors
    /// When the name cannot stand in the file.
    pub fn add(&mut self, name: &str, password: &str) -> Result<(), String> {
        if name.is_empty() || name.contains([':', '\n', '\r', '\0']) || name.starts_with('#') {
            return Err(format!("`{name}` is no user name: it may not be empty, begin with `#` or contain `:`"));
        }
        self.hashes.insert(name.into(), Hash::new(password)?);
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
    ///
    /// # Errors
    /// Which of the two is not so.
    pub(super) fn still_knows(&self, login: &Login) -> Result<(), &'static str> {
        match self.hashes.get(&login.name) {
            None => Err("its user is gone from the list"),
            Some(hash) if *hash != login.hash => Err("its user has a new password"),
            Some(_) => Ok(()),
        }
    }

    /// What an unknown name is checked against, so that time tells nothing about names: something as costly as the
    /// hash of a user of this list, always the same for one name.
    fn decoy(&self, name: &str) -> Hash {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let any = usize::try_from(hasher.finish() % (self.hashes.len().max(1) as u64)).unwrap_or_default();
        self.hashes.values().nth(any).map_or_else(Hash::like_new, Hash::decoy)
    }
}

fn is_comment(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with('#')
}

/// A user who has given the right password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub name: Arc<str>,
    hash: Hash,
}

/// Why a user file cannot be used.
#[derive(Debug)]
pub enum UsersError {
    /// It cannot be read.
    Read(String, io::Error),
    /// This line is not `name:hash`, or no such hash as is known.
    Line(String, usize, Unusable),
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
            Self::Line(path, line, why) => write!(f, "{path}, line {line}: {why}"),
        }
    }
}

impl std::error::Error for UsersError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Failed;

    impl<E: std::error::Error> From<E> for Failed {
        fn from(_: E) -> Self {
            Self
        }
    }

    fn add(path: &Path, name: &str, password: &str) {
        Users::edit(path, |users| users.add(name, password).map_err(|_| Failed)).unwrap();
    }

    #[test]
    fn a_user_file_round_trips_and_verifies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let mut users = Users::default();
        assert!(users.add("a:b", "x").is_err());
        add(&path, "ada", "pass:word");
        let loaded = Users::load(&path).unwrap();
        assert!(loaded.verify("ada", b"wrong").is_none());
        assert!(loaded.verify("bob", b"pass:word").is_none());
        let login = loaded.verify("ada", b"pass:word").unwrap();
        assert_eq!(loaded.still_knows(&login), Ok(()));
        users.add("ada", "another").unwrap();
        assert_eq!(users.still_knows(&login), Err("its user has a new password"));
        assert_eq!(Users::default().still_knows(&login), Err("its user is gone from the list"));
    }

    #[test]
    fn a_change_leaves_the_rest_of_the_file_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        for name in ["bob", "ada", "eve"] {
            add(&path, name, "x");
        }
        let text = fs::read_to_string(&path).unwrap();
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
        fs::write(&path, format!("# who\n\n{}\n# the guest\n{}\n", line("eve"), line("ada"))).unwrap();
        // Of a change that was cut off, for all to read.
        fs::write(folder.path().join("users.new"), "old").unwrap();
        fs::set_permissions(folder.path().join("users.new"), Permissions::from_mode(0o666)).unwrap();
        add(&path, "bob", "y");
        add(&path, "ada", "new");
        let names: Vec<_> =
            fs::read_to_string(&path).unwrap().lines().map(|l| l[..l.len().min(5)].to_owned()).collect();
        assert_eq!(names, ["# who", "", "eve:$", "# the", "ada:$", "bob:$"]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert!(Users::load(&path).unwrap().verify("ada", b"new").is_some());
        let nothing = Users::edit(&path, |users| {
            users.remove("eve");
            Err(Failed)
        });
        assert!(nothing.is_err() && Users::load(&path).unwrap().names().count() == 3);
        Users::edit(&path, |users| users.remove("eve").then_some(()).ok_or(Failed)).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with("# who\n\n# the guest\nada:"));
    }

    #[test]
    fn changes_at_the_same_time_are_all_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::thread::scope(|scope| {
            for n in 0..8 {
                let path = &path;
                scope.spawn(move || add(path, &format!("user{n}"), "x"));
            }
        });
        assert_eq!(Users::load(&path).unwrap().names().count(), 8);
    }

    #[test]
    fn a_bad_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, "# users\nada:plain\n").unwrap();
        assert!(Users::load(&path).unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn an_unknown_name_costs_as_much_as_a_known_one() {
        let argon2 = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let hash = Hash::parse(argon2).unwrap();
        let users = Users { hashes: [("ada".into(), hash)].into() };
        assert!(users.decoy("eve").to_string().starts_with("$argon2id$v=19$m=64,t=1,p=1$"));
        assert!(Users::default().decoy("eve").to_string().starts_with("$7$25000$"));
        assert!(!users.decoy("eve").verify(b""));
    }
}
