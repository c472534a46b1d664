//! What keeps a tracker from starting.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use store::StoreError;

use crate::state::StateError;
use crate::tls::TlsError;

/// A wrong configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what is expected.
    #[error("the configuration file {} is wrong", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value is not valid.
    #[error("{field} cannot be {text:?}")]
    Value {
        /// Which setting.
        field: &'static str,
        /// What it was set to.
        text: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A setting that is wrong, or missing.
    #[error("{0}")]
    Setting(String),
    /// A limit of nothing at all.
    #[error("limits.{field} cannot be 0: give the largest number that may be kept")]
    ZeroLimit {
        /// Which limit.
        field: &'static str,
    },
}

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: is another tracker running? choose another with --listen")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The address cannot be listened on over UDP.
    #[error("cannot listen on {addr} (UDP): choose another with --udp")]
    Udp {
        /// The address.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot speak TLS")]
    Tls(#[source] TlsError),
    /// The store cannot be opened.
    #[error("cannot open the store given by --store")]
    Store(#[source] StoreError),
    /// The state cannot be opened.
    #[error("cannot use the state given by --state")]
    State(#[source] StateError),
    /// There is no inventory that is right.
    #[error("cannot use the inventory given by --inventory, and there is no former one: {0}")]
    Inventory(String),
}
