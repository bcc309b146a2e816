//! The database file: one owner, its own schema, and what happens when it is none of that.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Error, ErrorCode, OpenFlags};

use super::books::Books;
use super::migration;
use super::renewal::{self, beside};
use super::salvage;
use super::tables::{Bounds, Tables};
use super::{QueueId, Recovered, Session};

/// The schema, step by step: step n leads from `user_version` n to n + 1.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001-queues-sessions-retained.sql"),
    include_str!("../../migrations/0002-handshakes-wills.sql"),
    include_str!("../../migrations/0003-runs.sql"),
    include_str!("../../migrations/0004-aside.sql"),
    include_str!("../../migrations/0005-clock.sql"),
];

/// The step after whose SQL the entries of earlier schemas become runs.
const RUNS: usize = 2;

/// `PRAGMA application_id` of a store: "FPst".
const APPLICATION_ID: i32 = 0x4650_7374;

/// Why the store cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// A later Fieldpost wrote it; going back is not possible without losing what this one does not know.
    Newer { path: PathBuf, found: i64, known: i64 },
    /// Another process has it open.
    Locked { path: PathBuf },
    /// It is the sound database of another program.
    Foreign { path: PathBuf },
    /// There is none; only who reads minds.
    Missing { path: PathBuf },
    /// An earlier Fieldpost wrote it; only who reads minds.
    Older { path: PathBuf, found: i64, known: i64 },
    /// It cannot be read as it is; a gateway would repair it.
    Damaged { path: PathBuf, what: String },
    /// The gateway's user may not write it, or its folder.
    Denied { path: PathBuf, what: String },
    /// It cannot be read or written.
    Io { path: PathBuf, what: String },
}

impl OpenError {
    fn io(path: &Path, what: String, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied { path, what },
            _ => Self::Io { path, what },
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Newer { path, found, known } => write!(
                f,
                "the store {} was written by a newer fieldpost (its schema is {found}, this one knows {known}): \
                 install that version again, or move the file away to begin with an empty store",
                path.display()
            ),
            OpenError::Locked { path } => write!(
                f,
                "the store {} is in use by another fieldpost: stop that one first, or set another `path` in [store]",
                path.display()
            ),
            OpenError::Foreign { path } => write!(
                f,
                "{} is the database of another program and is left alone: set another `path` in [store]",
                path.display()
            ),
            OpenError::Missing { path } => {
                write!(f, "there is no store at {}: no gateway has run with this config yet", path.display())
            }
            OpenError::Older { path, found, known } => write!(
                f,
                "the store {} was written by an older fieldpost (its schema is {found}, this one reads {known}): start the \
                 gateway once, which brings it up to date",
                path.display()
            ),
            OpenError::Damaged { path, what } => write!(
                f,
                "the store {} is damaged ({what}): start the gateway, which saves what can be read of it",
                path.display()
            ),
            OpenError::Denied { path, what } => write!(
                f,
                "cannot open the store {}: {what}; the gateway's user has to own its folder, or set another `path` in \
                 [store]",
                path.display()
            ),
            OpenError::Io { path, what } => write!(f, "cannot open the store {}: {what}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}

/// How often, and after what time, a lock that is held is tried again.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The file, held against other processes for as long as this lives. None of it for `:memory:`.
#[derive(Debug)]
pub(super) struct Owned {
    path: PathBuf,
    /// The kernel lets go of the lock with the process, however that ends.
    _lock: Option<File>,
}

impl Owned {
    /// Takes the file at `path`; makes its folder when there is none.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        if in_memory(path) {
            return Ok(Self { path: path.into(), _lock: None });
        }
        let io = |what: &str, e: io::Error| OpenError::io(path, format!("{what}: {e}"), &e);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|e| io(&format!("cannot make the folder {}", folder.display()), e))?;
        }
        // Beside the database and never removed: a lock on a file that can be replaced locks nobody out.
        let lock = beside(path, ".lock");
        let file = private().open(&lock).map_err(|e| io(&format!("cannot open {}", lock.display()), e))?;
        let mut locked = file.try_lock();
        // A process that is just being started has everything of its parent's for a moment, locks too.
        for _ in 0..LOCK_TRIES {
            if !matches!(locked, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(LOCK_PAUSE);
            locked = file.try_lock();
        }
        match locked {
            Ok(()) => Ok(Self { path: path.into(), _lock: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.into() }),
            Err(TryLockError::Error(e)) => Err(io(&format!("cannot lock {}", lock.display()), e)),
        }
    }

    /// Opens the database. One that is damaged is moved aside, and what can be read of it is carried over; as
    /// with [`Self::renew`], sessions in `known` need not be read.
    pub(super) fn open(
        &self,
        bounds: &Bounds,
        known: &BTreeMap<QueueId, Session>,
    ) -> Result<(Tables, Recovered), OpenError> {
        if !in_memory(&self.path) {
            let what = |e| format!("what a repair that was cut off has left beside it cannot be tidied up: {e}");
            if renewal::resume(&self.path).map_err(|e| OpenError::Io { path: self.path.clone(), what: what(e) })? {
                tracing::warn!("the repair of the store {}, which was cut off, is finished", self.path.display());
            }
        }
        let opened = connect(&self.path).and_then(|connection| Ok(Tables::new(connection, bounds)?));
        match opened {
            Err(Refused::Sqlite(e)) if damaged(&e) || e.sqlite_error_code() == Some(ErrorCode::Unknown) => {
                self.renew(bounds, known, &explain(&e))
            }
            opened => opened.map_err(|e| e.at(&self.path)),
        }
    }

    /// Begins a new database with what can be read of the damaged one, which is moved aside. No connection to it may be
    /// open. When this fails, it stays where it is. Sessions in `known` need not be read, and their queues count.
    pub(super) fn renew(
        &self,
        bounds: &Bounds,
        known: &BTreeMap<QueueId, Session>,
        why: &str,
    ) -> Result<(Tables, Recovered), OpenError> {
        let path = &self.path;
        tracing::error!("the store {} is damaged ({why}): what can be read of it is carried over", path.display());
        let begun = if in_memory(path) { Ok(()) } else { self.replace(bounds, known) };
        let opened = begun.and_then(|()| Ok(Tables::new(connect(path)?, bounds)?));
        opened.map_err(|e| match e.at(path) {
            OpenError::Io { path, what } => {
                OpenError::Io { path, what: format!("it is damaged ({why}), and no new one can be made: {what}") }
            }
            other => other,
        })
    }

    fn replace(&self, bounds: &Bounds, known: &BTreeMap<QueueId, Session>) -> Result<(), Refused> {
        let io = |e: io::Error| OpenError::Io { path: self.path.clone(), what: e.to_string() };
        let new = renewal::begin(&self.path).map_err(io)?;
        let (mut tables, _) = Tables::new(connect(&new)?, bounds)?;
        tables.reconcile(known, &Books::default())?;
        let mut connection = tables.connection;
        salvage::carry_over(&self.path, &mut connection)?;
        // What cannot be read back must show while the old one is still in its place.
        let (Tables { connection, .. }, _) = Tables::new(connection, bounds)?;
        // All of it in one file, for one rename.
        connection.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
        connection.close().map_err(|(_, e)| e)?;
        let aside = renewal::complete(&self.path).map_err(io)?;
        tracing::error!("the damaged store is kept as {}; remove it when nobody needs it", aside.display());
        Ok(())
    }
}

/// A connection to the database at `path`, with the schema of today.
fn connect(path: &Path) -> Result<Connection, Refused> {
    let mut connection = if in_memory(path) {
        Connection::open_in_memory()?
    } else {
        // SQLite gives its -wal and -shm files the mode of the database.
        let made = private().open(path);
        drop(made.map_err(|e| OpenError::io(path, e.to_string(), &e))?);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(path, flags)?
    };
    connection.busy_timeout(Duration::from_secs(2))?;
    let found = schema(&connection, path)?;
    // FULL: what is committed survives a power cut. WAL costs one write and one sync for it.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 4194304; PRAGMA temp_store = MEMORY;",
    )?;
    for (n, step) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        if n == RUNS {
            migration::entries_to_runs(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", n as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(connection)
}

/// A connection that only reads the database at `path`, beside a gateway or without one.
pub(super) fn connect_to_read(path: &Path) -> Result<Connection, OpenError> {
    // What SQLite says of a file that cannot be opened does not tell why.
    File::open(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => OpenError::Missing { path: path.into() },
        _ => OpenError::io(path, e.to_string(), &e),
    })?;
    let opened = (|| {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(2))?;
        let (found, known) = (schema(&connection, path)?, MIGRATIONS.len() as i64);
        if found < known {
            return Err(Refused::Open(OpenError::Older { path: path.into(), found, known }));
        }
        Ok(connection)
    })();
    opened.map_err(|e: Refused| match e {
        Refused::Open(e) => e,
        Refused::Sqlite(e) => unreadable(path, &e),
    })
}

/// What it means that reading failed.
pub(super) fn unreadable(path: &Path, error: &Error) -> OpenError {
    let (path, what) = (path.to_owned(), explain(error));
    if damaged(error) { OpenError::Damaged { path, what } } else { OpenError::Io { path, what } }
}

/// Whether a gateway, or a command that changes something, has the store at `path` now.
///
/// # Errors
/// When that is not ours to know.
pub fn is_in_use(path: &Path) -> Result<bool, OpenError> {
    if in_memory(path) {
        return Ok(false);
    }
    let lock = beside(path, ".lock");
    let file = match File::open(&lock) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(OpenError::io(path, format!("cannot open {}: {e}", lock.display()), &e)),
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(OpenError::io(path, format!("cannot lock {}: {e}", lock.display()), &e)),
    }
}

/// The schema of a database, which is a store, or empty.
fn schema(connection: &Connection, path: &Path) -> Result<i64, Refused> {
    let number = |pragma: &str| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
    let (application, found) = (number("application_id")?, number("user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let known = MIGRATIONS.len() as i64;
    if tables > 0 && application != i64::from(APPLICATION_ID) {
        return Err(Refused::Open(OpenError::Foreign { path: path.into() }));
    }
    if found > known {
        return Err(Refused::Open(OpenError::Newer { path: path.into(), found, known }));
    }
    Ok(found)
}

/// What a person can do something about in an error of SQLite.
pub(super) fn explain(error: &Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "disk full".into(),
        Some(ErrorCode::ReadOnly) => "the file or its file system is read-only".into(),
        Some(ErrorCode::CannotOpen) => format!("the file cannot be opened ({error})"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another program holds it locked".into(),
        Some(ErrorCode::SystemIoFailure) => format!("the disk fails ({error})"),
        _ => error.to_string(),
    }
}

/// Whether trying again cannot help.
pub(super) fn damaged(error: &Error) -> bool {
    // A value that is not of its column's type was not written by this program.
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        || matches!(
            error,
            Error::FromSqlConversionFailure(..) | Error::InvalidColumnType(..) | Error::IntegralValueOutOfRange(..)
        )
}

enum Refused {
    Open(OpenError),
    Sqlite(Error),
}

impl Refused {
    fn at(self, path: &Path) -> OpenError {
        match self {
            Refused::Open(e) => e,
            Refused::Sqlite(e) => OpenError::Io { path: path.into(), what: explain(&e) },
        }
    }
}

impl From<OpenError> for Refused {
    fn from(e: OpenError) -> Self {
        Refused::Open(e)
    }
}

impl From<Error> for Refused {
    fn from(e: Error) -> Self {
        Refused::Sqlite(e)
    }
}

fn in_memory(path: &Path) -> bool {
    path == Path::new(":memory:")
}

/// Open for writing, made when missing, for this user's eyes only.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}
