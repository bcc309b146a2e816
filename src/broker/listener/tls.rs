//! The TLS of a listener: our certificate, whom we believe, and the name that a client's certificate carries.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::common_name;
use super::config;
use crate::tls::{self, FileError};

/// What a handshake needs, read from the files once; a reload reads them anew.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    server: Arc<ServerConfig>,
    /// None when clients are asked for no certificate.
    pub trust: Option<Arc<Trust>>,
}

/// Whose certificates are good here, and for what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trust {
    authorities: Vec<CertificateDer<'static>>,
    pub is_required: bool,
    names_users: bool,
}

/// What a client's certificate says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Certificate {
    /// None was asked for, or none was shown.
    None,
    /// A good one, which is not to name the user.
    Shown,
    /// The user.
    Names(Arc<str>),
    /// A good one that was to name the user, and has no common name.
    Nameless,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, or they do not fit together; the text says which.
    pub(super) fn load(config: &config::Tls) -> Result<Self, FileError> {
        let provider = tls::provider();
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| FileError::wrong(format!("TLS: {e}")))?;
        let (builder, trust) = match &config.clients {
            None => (builder.with_no_client_auth(), None),
            Some(path) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(tls::authorities(path)?), provider);
                let verifier =
                    if config.require_certificate { verifier } else { verifier.allow_unauthenticated() }.build();
                let verifier = verifier.map_err(|e| FileError::wrong(format!("TLS: {}: {e}", path.display())))?;
                let trust = Trust {
                    authorities: tls::certificates(path)?,
                    is_required: config.require_certificate,
                    names_users: config.user_from_certificate,
                };
                (builder.with_client_cert_verifier(verifier), Some(Arc::new(trust)))
            }
        };
        let server = builder
            .with_single_cert(tls::certificates(&config.certificate)?, tls::private_key(&config.key)?)
            .map_err(|e| {
                let (certificate, key) = (config.certificate.display(), config.key.display());
                let advice = if e.to_string().contains("UnsupportedCertVersion") {
                    " (the certificate is of X.509 version 1: make one of version 3, as openssl x509 -req does with -extfile)"
                } else {
                    ""
                };
                FileError::wrong(format!("TLS: {certificate} and {key} do not fit together: {e}{advice}"))
            })?;
        Ok(Self { server: Arc::new(server), trust })
    }

    /// The handshake.
    ///
    /// # Errors
    /// When the client does not do its part; it has been told why, as far as TLS can.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Certificate)> {
        let stream = TlsAcceptor::from(self.server.clone()).accept(stream).await?;
        let certificate = match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
            Some(certificate) if self.trust.as_ref().is_some_and(|trust| trust.names_users) => {
                common_name(certificate).map_or(Certificate::Nameless, |name| Certificate::Names(name.into()))
            }
            Some(_) => Certificate::Shown,
            None => Certificate::None,
        };
        Ok((stream, certificate))
    }
}
