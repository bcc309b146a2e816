//! A hashed password, in the forms in which Mosquitto writes them (mosquitto_passwd(1)).

use std::fmt;
use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD as UNPADDED};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};

/// Slow enough to make guessing costly, fast enough for the smallest Pi.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(25_000).expect("not zero");
/// The memory that one look at a password may take, in KiB, and how often it may go through it: two at a time have to fit
/// into the smallest Pi. Mosquitto's own choice is 46 MiB, once.
const MOST_MEMORY: u32 = 64 * 1024;
const MOST_PASSES: u32 = 10;
const MOST_LANES: u32 = 16;

/// A hashed password. `$7$iterations$salt$hash` is PBKDF2 with SHA-512, which is what we write; `$argon2id$…` is what
/// Mosquitto writes since 2.1, and `$6$salt$hash`, plain SHA-512 over password and salt, what it wrote before 2.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Pbkdf2 { iterations: NonZeroU32, salt: Vec<u8>, hash: Vec<u8> },
    Argon2id { cost: Cost, salt: Vec<u8>, hash: Vec<u8> },
    Sha512 { salt: Vec<u8>, hash: Vec<u8> },
}

/// What one look costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// In KiB.
    memory: u32,
    passes: u32,
    lanes: u32,
}

/// Why a text is no hash that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is of no form that we know.
    Unknown,
    /// Looking at a password would take more than a small computer has.
    TooCostly,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "not NAME:HASH with a hash that begins with $7$, $argon2id$ or $6$",
            Self::TooCostly => {
                "this argon2 hash takes more than 64 MiB or 10 passes: set the password anew with `fieldpost user add`"
            }
        })
    }
}

impl Hash {
    /// A new password's.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub(super) fn new(password: &str) -> Result<Self, String> {
        // Twelve bytes: Mosquitto's older releases take no other length.
        let mut salt = vec![0; 12];
        SystemRandom::new().fill(&mut salt).map_err(|_| "the system gives no random numbers".to_owned())?;
        let mut hash = vec![0; digest::SHA512_OUTPUT_LEN];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, ITERATIONS, &salt, password.as_bytes(), &mut hash);
        Ok(Self::Pbkdf2 { iterations: ITERATIONS, salt, hash })
    }

    /// One that is as costly as a new one and that no password has.
    pub(super) fn like_new() -> Self {
        Self::Pbkdf2 { iterations: ITERATIONS, salt: vec![0; 12], hash: vec![0; digest::SHA512_OUTPUT_LEN] }
    }

    /// One that is as costly as this one and that no password has.
    pub(super) fn decoy(&self) -> Self {
        let mut decoy = self.clone();
        let (Self::Pbkdf2 { hash, .. } | Self::Argon2id { hash, .. } | Self::Sha512 { hash, .. }) = &mut decoy;
        hash.fill(0);
        decoy
    }

    /// Reads what stands in a file.
    ///
    /// # Errors
    /// When it is no hash, or one that costs too much.
    pub(super) fn parse(text: &str) -> Result<Self, Unusable> {
        if let Some(rest) = text.strip_prefix("$argon2id$v=19$") {
            return parse_argon2(rest);
        }
        parse_sha512(text).ok_or(Unusable::Unknown)
    }

    /// Whether it is the password's.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Pbkdf2 { iterations, salt, hash } => {
                pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, *iterations, salt, password, hash).is_ok()
            }
            Self::Argon2id { cost, salt, hash } => {
                let mut found = vec![0; hash.len()];
                let params = Params::new(cost.memory, cost.passes, cost.lanes, Some(hash.len()));
                let done = params.and_then(|params| {
                    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                        .hash_password_into(password, salt, &mut found)
                });
                done.is_ok() && same(&found, hash, salt)
            }
            Self::Sha512 { salt, hash } => {
                let found = digest::digest(&digest::SHA512, &[password, salt].concat());
                same(found.as_ref(), hash, salt)
            }
        }
    }
}

/// What stands behind the version: `m=47104,t=1,p=1$salt$hash`.
fn parse_argon2(text: &str) -> Result<Hash, Unusable> {
    let parsed = || {
        let mut parts = text.split('$');
        let mut costs = parts.next()?.split(',');
        let mut cost = |name: &str| costs.next()?.strip_prefix(name)?.parse::<u32>().ok();
        let cost = Cost { memory: cost("m=")?, passes: cost("t=")?, lanes: cost("p=")? };
        let (salt, hash) = (UNPADDED.decode(parts.next()?).ok()?, UNPADDED.decode(parts.next()?).ok()?);
        let good = costs.next().is_none() && parts.next().is_none() && (16..=64).contains(&hash.len());
        (good && salt.len() >= argon2::MIN_SALT_LEN).then_some((cost, salt, hash))
    };
    let (cost, salt, hash) = parsed().ok_or(Unusable::Unknown)?;
    if cost.memory > MOST_MEMORY || cost.passes > MOST_PASSES || cost.lanes > MOST_LANES {
        return Err(Unusable::TooCostly);
    }
    Params::new(cost.memory, cost.passes, cost.lanes, Some(hash.len())).map_err(|_| Unusable::Unknown)?;
    Ok(Hash::Argon2id { cost, salt, hash })
}

fn parse_sha512(text: &str) -> Option<Hash> {
    let mut parts = text.strip_prefix('$')?.split('$');
    let kind = parts.next()?;
    let iterations = if kind == "7" { Some(parts.next()?.parse().ok()?) } else { None };
    let salt = BASE64.decode(parts.next()?).ok()?;
    let hash = BASE64.decode(parts.next()?).ok()?;
    if parts.next().is_some() || hash.len() != digest::SHA512_OUTPUT_LEN {
        return None;
    }
    match (kind, iterations) {
        ("7", Some(iterations)) => Some(Hash::Pbkdf2 { iterations, salt, hash }),
        ("6", None) => Some(Hash::Sha512 { salt, hash }),
        _ => None,
    }
}

/// Compared behind a MAC, so that the time taken tells nothing of how much is right.
fn same(found: &[u8], hash: &[u8], salt: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA512, salt);
    hmac::verify(&key, found, hmac::sign(&key, hash).as_ref()).is_ok()
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pbkdf2 { iterations, salt, hash } => {
                write!(f, "$7${iterations}${}${}", BASE64.encode(salt), BASE64.encode(hash))
            }
            Self::Argon2id { cost: Cost { memory, passes, lanes }, salt, hash } => {
                let (salt, hash) = (UNPADDED.encode(salt), UNPADDED.encode(hash));
                write!(f, "$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}")
            }
            Self::Sha512 { salt, hash } => write!(f, "$6${}${}", BASE64.encode(salt), BASE64.encode(hash)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference implementation's own example, `password` with `somesalt` (argon2's test.c, version 0x13).
    const EXAMPLE: &str = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn argon2_is_read_as_others_write_it() {
        let hash = Hash::parse(EXAMPLE).unwrap();
        assert!(hash.verify(b"password") && !hash.verify(b"Password"));
        assert_eq!(hash.to_string(), EXAMPLE);
        assert!(!hash.decoy().verify(b"password"));
    }

    #[test]
    fn what_costs_too_much_or_is_no_hash_is_refused() {
        for (old, new, why) in [
            ("m=65536", "m=65537", Unusable::TooCostly),
            ("m=65536", "m=4294967295", Unusable::TooCostly),
            ("t=2", "t=11", Unusable::TooCostly),
            ("p=1", "p=17", Unusable::TooCostly),
            ("m=65536", "m=1", Unusable::Unknown),
            ("t=2", "t=0", Unusable::Unknown),
            ("p=1", "p=1,x=1", Unusable::Unknown),
            ("v=19", "v=16", Unusable::Unknown),
            ("argon2id", "argon2i", Unusable::Unknown),
            ("$c29tZXNhbHQ$", "$c2FsdA$", Unusable::Unknown),
            ("RPPc", "RPPc$", Unusable::Unknown),
        ] {
            assert_eq!(Hash::parse(&EXAMPLE.replace(old, new)), Err(why), "{new}");
        }
        for text in ["", "plain", "$", "$8$x$y", "$7$0$c2FsdA==$c2FsdA=="] {
            assert_eq!(Hash::parse(text), Err(Unusable::Unknown), "{text}");
        }
    }
}
