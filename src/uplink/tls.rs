//! TLS to the cloud: whom we trust, who we are, and what an error means to the person who has to mend it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Config;
use super::dial::Stream;
use super::unchecked::Unchecked;
use crate::tls::{self, FileError};

/// Wraps a connection to `host` in TLS. The files are read anew each time: certificates are renewed on disk.
///
/// # Errors
/// When a file cannot be read, or the handshake fails; the text says what to look at.
pub(super) async fn wrap<S: Stream>(stream: S, host: &str, config: &Config) -> Result<TlsStream<S>, String> {
    let host = config.server_name.as_deref().unwrap_or(host);
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| format!("TLS: `{host}` is not a name for a server"))?;
    if config.insecure {
        tracing::warn!(
            "`insecure` is set: whoever answers as {host} is believed, and gets the password and all messages"
        );
    }
    let config = config.clone();
    let client = tokio::task::spawn_blocking(move || client(&config));
    let client = client.await.map_err(|e| format!("TLS: {e}"))??;
    TlsConnector::from(Arc::new(client)).connect(name, stream).await.map_err(|e| explain(&e, host))
}

fn client(config: &Config) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS: {e}"))?;
    let builder = match config.insecure {
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(tls::provider()))),
        false => builder.with_root_certificates(roots(config.ca.as_deref())?),
    };
    let text = |e: FileError| e.to_string();
    let client = match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(tls::certificates(certificate).map_err(text)?, tls::private_key(key).map_err(text)?)
            .map_err(|e| format!("TLS: {} and {} do not fit together: {e}", certificate.display(), key.display())),
        _ => Ok(builder.with_no_client_auth()),
    };
    let mut client = client?;
    client.alpn_protocols = config.alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect();
    Ok(client)
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let Some(ca) = ca else {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            return Err(
                "TLS: this system has no list of trusted certificates: install ca-certificates, or set `ca`".into()
            );
        }
        return Ok(roots);
    };
    tls::authorities(ca).map_err(|e| e.to_string())
}

fn explain(error: &io::Error, host: &str) -> String {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    let what = match inner {
        Some(Error::InvalidCertificate(wrong)) => match wrong {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the cloud's certificate has expired (or the clock here is wrong)".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the cloud's certificate is not valid yet: is the clock here set?".into()
            }
            CertificateError::UnknownIssuer => {
                "the cloud's certificate is from an issuer that is not trusted here: set `ca` to the issuer's".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the cloud's certificate is for another name than {host}: see `server-name`")
            }
            CertificateError::Revoked => "the cloud's certificate has been revoked".into(),
            other => format!("the cloud's certificate is not valid: {other}"),
        },
        Some(Error::AlertReceived(
            alert @ (AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied),
        )) => format!("the cloud does not accept our certificate ({alert:?}): see `certificate` and `key`"),
        Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            "the cloud speaks none of the protocols in `alpn` on this port".into()
        }
        Some(Error::InvalidMessage(_)) => "the cloud does not speak TLS on this port".into(),
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "the cloud closed the connection".into(),
        None => error.to_string(),
    };
    format!("TLS: {what}")
}
