//! The TLS of a listener: our certificate, whom we believe, and the name that a client's certificate carries.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::common_name;
use super::config;
use crate::tls;

/// What a handshake needs, read from the files once; a reload reads them anew.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    server: Arc<ServerConfig>,
    names_users: bool,
}

/// What a client's certificate says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Certificate {
    /// Nothing that counts: none was asked for, none was shown, or it is not to name the user.
    None,
    /// The user.
    Names(Arc<str>),
    /// It was to name the user, and has no common name.
    Nameless,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, or they do not fit together; the text says which.
    pub(super) fn load(config: &config::Tls) -> Result<Self, String> {
        let provider = tls::provider();
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS: {e}"))?;
        let builder = match &config.clients {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(tls::authorities(path)?), provider);
                let verifier =
                    if config.require_certificate { verifier } else { verifier.allow_unauthenticated() }.build();
                builder.with_client_cert_verifier(verifier.map_err(|e| format!("TLS: {}: {e}", path.display()))?)
            }
        };
        let server = builder
            .with_single_cert(tls::certificates(&config.certificate)?, tls::private_key(&config.key)?)
            .map_err(|e| {
                let (certificate, key) = (config.certificate.display(), config.key.display());
                format!("TLS: {certificate} and {key} do not fit together: {e}")
            })?;
        Ok(Self { server: Arc::new(server), names_users: config.user_from_certificate })
    }

    /// The handshake.
    ///
    /// # Errors
    /// When the client does not do its part; it has been told why, as far as TLS can.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Certificate)> {
        let stream = TlsAcceptor::from(self.server.clone()).accept(stream).await?;
        let certificate = match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
            Some(certificate) if self.names_users => match common_name(certificate) {
                Some(name) => Certificate::Names(name.into()),
                None => Certificate::Nameless,
            },
            _ => Certificate::None,
        };
        Ok((stream, certificate))
    }
}
