//! TLS beside plain HTTP: firmware and initrds speak no TLS, admins and browsers do.
//!
//! What nodes get is proved by digests and signatures; TLS keeps the admin's token from being read, and knows an
//! admin by a certificate.

use std::fs::File;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;

/// The section `[tls]` of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Address and port for HTTPS, beside those of plain HTTP.
    pub listen: SocketAddr,
    /// File with the certificate and those it is signed by, PEM.
    pub certificate: PathBuf,
    /// File with its private key, PEM.
    pub key: PathBuf,
    /// File with certificates (PEM): who has one that they signed may give orders, without a token. Default: nobody.
    pub client_ca: Option<PathBuf>,
    /// Orders that come over plain HTTP, other than from this host itself (a proxy on it included), are refused.
    /// Default false.
    #[serde(default)]
    pub orders_only: bool,
}

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("[tls] {}: {reason}", path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

fn wrong(path: &Path) -> impl Fn(&dyn std::fmt::Display) -> TlsError + '_ {
    move |reason| TlsError { path: path.to_owned(), reason: reason.to_string() }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates(&self.certificate)?;
        let bad_key = wrong(&self.key);
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| bad_key(&e))?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(&self.certificate)(&e))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let bad = wrong(path);
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|e| bad(&e))?;
                }
                // who has none may read
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .allow_unauthenticated()
                        .build()
                        .map_err(|e| bad(&e))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|e| wrong(&self.certificate)(&format!("{e} ({})", self.key.display())))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = wrong(path);
    let file = File::open(path).map_err(|e| bad(&e))?;
    let found = CertificateDer::pem_reader_iter(BufReader::new(file));
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|e| bad(&e))?;
    if found.is_empty() {
        return Err(bad(&"it has no certificate (PEM)"));
    }
    Ok(found)
}
