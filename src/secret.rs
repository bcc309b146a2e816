//! A password or token, and where it is kept. Never shown.

mod command;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Where a secret comes from: `"plain"`, `{ file = "…" }`, `{ env = "…" }`, `{ credential = "…" }` or
/// `{ command = ["…"] }`.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The text itself.
    Plain(String),
    /// A file's content, without a line break at its end.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A systemd credential: a file in `$CREDENTIALS_DIRECTORY` (systemd.exec, `LoadCredential=`).
    Credential(String),
    /// What a program prints, without a line break at its end: it and its arguments, without a shell. Never empty.
    Command(Vec<String>),
}

impl Secret {
    /// The same, with a relative path of a file, or of a program that is not looked up in `PATH`, taken from `folder`.
    #[must_use]
    pub fn relative_to(self, folder: &Path) -> Self {
        match self {
            Secret::File(path) => Secret::File(folder.join(path)),
            Secret::Command(mut command) => {
                if let Some(program) = command.first_mut().filter(|program| program.contains('/')) {
                    *program = folder.join(&*program).to_string_lossy().into_owned();
                }
                Secret::Command(command)
            }
            other => other,
        }
    }

    /// Reads the secret as it is now. Waits for a command: up to 10 s.
    ///
    /// # Errors
    /// When the file, variable or credential cannot be read, or the command fails; the error names it.
    pub fn read(&self) -> io::Result<String> {
        let named = |e: io::Error, what: String| io::Error::new(e.kind(), format!("{what}: {e}"));
        let file = |path: PathBuf| {
            std::fs::read_to_string(&path)
                .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                .map_err(|e| named(e, format!("cannot read the secret in {}", path.display())))
        };
        match self {
            Secret::Plain(text) => Ok(text.clone()),
            Secret::Command(command) => command::run(command),
            Secret::File(path) => file(path.clone()),
            Secret::Env(name) => std::env::var(name)
                .map_err(|e| io::Error::new(io::ErrorKind::NotFound, format!("environment variable {name}: {e}"))),
            Secret::Credential(name) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    io::Error::new(
                        io::ErrorKind::NotFound,
                        format!("credential {name}: not started by systemd with LoadCredential="),
                    )
                })?;
                file(PathBuf::from(folder).join(name))
            }
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Plain(_) => f.write_str("Plain(…)"),
            Secret::File(path) => f.debug_tuple("File").field(path).finish(),
            Secret::Env(name) => f.debug_tuple("Env").field(name).finish(),
            Secret::Credential(name) => f.debug_tuple("Credential").field(name).finish(),
            // There may be a key among the arguments.
            Secret::Command(command) => write!(f, "Command({:?}, …)", command.first()),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretVisitor;

        impl<'de> Visitor<'de> for SecretVisitor {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, { file = \"…\" }, { env = \"…\" }, { credential = \"…\" } or { command = [\"…\"] }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::Plain(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
                const KEYS: &[&str] = &["file", "env", "credential", "command"];
                let key: String = map.next_key()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
                let secret = match key.as_str() {
                    "file" => Secret::File(map.next_value()?),
                    "env" => Secret::Env(map.next_value()?),
                    "credential" => Secret::Credential(map.next_value()?),
                    "command" => Secret::Command(map.next_value().and_then(program)?),
                    other => return Err(de::Error::unknown_field(other, KEYS)),
                };
                if map.next_key::<String>()?.is_some() {
                    return Err(de::Error::invalid_length(2, &self));
                }
                Ok(secret)
            }
        }

        deserializer.deserialize_any(SecretVisitor)
    }
}

fn program<E: de::Error>(command: Vec<String>) -> Result<Vec<String>, E> {
    match command.first() {
        Some(program) if !program.is_empty() => Ok(command),
        _ => Err(E::custom("command is a program and its arguments: [\"get-token\", \"--short\"]")),
    }
}
