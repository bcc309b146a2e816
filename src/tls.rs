//! What either end of a TLS connection needs: certificates and keys from PEM files, and one choice of cryptography.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The cryptography of every TLS connection: `ring`, which needs nothing but a C compiler on every target.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// All certificates of a PEM file, at least one.
///
/// # Errors
/// When there is none, or the file cannot be read; the text names it.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |e| format!("TLS: no certificate can be read from {}: {e}", path.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)?;
    if found.is_empty() {
        return Err(format!("TLS: {} contains no certificate in PEM form", path.display()));
    }
    Ok(found)
}

/// The private key of a PEM file.
///
/// # Errors
/// When there is none, or the file cannot be read; the text names it.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|e| format!("TLS: no private key can be read from {}: {e}", path.display()))
}

/// The authorities of a PEM file: what they vouch for is believed.
///
/// # Errors
/// When there is none, one is not valid, or the file cannot be read; the text names it.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| format!("TLS: a certificate in {} is not valid: {e}", path.display()))?;
    }
    Ok(roots)
}
