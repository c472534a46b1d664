//! Whom a client believes over TLS, and by which certificate it is known.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::error::AskError;

/// Where Debian and its kin have the authorities that the host believes, also the admin's own ones.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How a tracker at `https://` is known, and how it knows us.
#[derive(Debug, Clone, Default, Args)]
pub struct TlsArgs {
    /// Certificates (PEM) of the authorities that may have signed that of a tracker at https://
    /// [default: /etc/ssl/certs/ca-certificates.crt]
    #[arg(long, value_name = "FILE", env = "BEESWARM_TRACKER_CA")]
    pub ca: Option<PathBuf>,
    /// Own certificate (PEM), for a tracker at https://: one that its client_ca signed gives orders, without a token
    #[arg(long, value_name = "FILE", env = "BEESWARM_TRACKER_CERT", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key of --cert (PEM, without a passphrase)
    #[arg(long, value_name = "FILE", env = "BEESWARM_TRACKER_KEY", requires = "cert")]
    pub key: Option<PathBuf>,
}

impl TlsArgs {
    /// Whether any of them is set.
    pub(super) fn is_given(&self) -> bool {
        self.ca.is_some() || self.cert.is_some() || self.key.is_some()
    }

    /// The file of the authorities, and all settings.
    pub(super) fn read(&self) -> Result<(PathBuf, TlsConfig), AskError> {
        let provider = Arc::new(ring::default_provider());
        let ca = match &self.ca {
            Some(ca) => ca.clone(),
            None if Path::new(SYSTEM_CA).is_file() => PathBuf::from(SYSTEM_CA),
            None => return Err(AskError::NoAuthority(SYSTEM_CA)),
        };
        let own = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some(identity(cert, key, &provider)?),
            _ => None,
        };
        let settings = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(authorities(&ca)?)))
            .client_cert(own)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        Ok((ca, settings))
    }
}

fn authorities(path: &Path) -> Result<Vec<Certificate<'static>>, AskError> {
    let found = certificates("--ca", path)?;
    // ureq passes over what is none, and would blame the tracker's certificate
    if RootCertStore::empty().add_parsable_certificates(found.iter().cloned()).0 == 0 {
        let reason = "has no certificate that can be read (PEM, X.509)".to_owned();
        return Err(AskError::Unusable { option: "--ca", path: path.to_owned(), reason });
    }
    Ok(found.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
}

fn identity(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<ClientCert, AskError> {
    let chain = certificates("--cert", cert)?;
    let unusable = |reason| AskError::Unusable { option: "--key", path: key.to_owned(), reason };
    let text = read("--key", key)?;
    let Ok(der) = PrivateKeyDer::from_pem_slice(&text) else {
        return Err(unusable(no_key(key, &text)));
    };
    // ureq takes for granted that they belong together
    CertifiedKey::from_der(chain.clone(), der, provider).map_err(|error| {
        unusable(format!(
            "is not the key of --cert {}, or of no known kind: {error}",
            cert.display()
        ))
    })?;
    let key = PrivateKey::from_pem(&text).map_err(|_| unusable(no_key(key, &text)))?;
    let chain: Vec<_> = chain.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(ClientCert::new_with_certs(&chain, key))
}

fn no_key(path: &Path, text: &[u8]) -> String {
    if String::from_utf8_lossy(text).contains("ENCRYPTED") {
        return format!(
            "is protected by a passphrase: openssl pkey -in {} writes it without",
            path.display()
        );
    }
    "has no private key (PEM)".to_owned()
}

fn certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, AskError> {
    let text = read(option, path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok).collect();
    if found.is_empty() {
        let reason = "has no certificate (PEM)".to_owned();
        return Err(AskError::Unusable { option, path: path.to_owned(), reason });
    }
    Ok(found)
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, AskError> {
    fs::read(path).map_err(|source| AskError::Read { option, path: path.to_owned(), source })
}
