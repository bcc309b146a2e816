//! What either end of a TLS connection needs: certificates and keys from PEM files, and one choice of cryptography.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The cryptography of every TLS connection: `ring`, which needs nothing but a C compiler on every target.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Why certificates and keys cannot be used; the text names the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    text: String,
    /// The file is there, and may not be read.
    pub is_denied: bool,
}

impl FileError {
    pub(crate) fn wrong(text: String) -> Self {
        Self { text, is_denied: false }
    }

    fn unread(what: &str, path: &Path, error: &pem::Error) -> Self {
        let is_denied = matches!(error, pem::Error::Io(e) if e.kind() == ErrorKind::PermissionDenied);
        let advice = if is_denied { "; the gateway's user has to be able to read it" } else { "" };
        Self { text: format!("TLS: no {what} can be read from {}: {error}{advice}", path.display()), is_denied }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for FileError {}

/// All certificates of a PEM file, at least one.
///
/// # Errors
/// When there is none, or the file cannot be read.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let wrong = |e| FileError::unread("certificate", path, &e);
    let found: Vec<_> = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)?;
    if found.is_empty() {
        return Err(FileError::wrong(format!("TLS: {} contains no certificate in PEM form", path.display())));
    }
    Ok(found)
}

/// The private key of a PEM file.
///
/// # Errors
/// When there is none, or the file cannot be read.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| FileError::unread("private key", path, &e))
}

/// The authorities of a PEM file: what they vouch for is believed.
///
/// # Errors
/// When there is none, one is not valid, or the file cannot be read.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let wrong = |e| FileError::wrong(format!("TLS: a certificate in {} is not valid: {e}", path.display()));
        roots.add(certificate).map_err(wrong)?;
    }
    Ok(roots)
}
