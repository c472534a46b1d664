//! The handle on one torrent.

use std::sync::Arc;

use proto::hash::InfoHash;
use tokio::sync::watch;

use crate::config::{SessionConfig, TorrentSpec};
use crate::progress::{Completed, PeerStat, Progress, TorrentError};

/// A running torrent; clones are handles on the same one.
#[derive(Debug, Clone)]
pub struct Torrent {
    info_hash: InfoHash,
    progress: watch::Receiver<Progress>,
    _keep: Arc<watch::Sender<Progress>>,
}

impl Torrent {
    pub(crate) fn start(_config: &SessionConfig, spec: TorrentSpec) -> Self {
        let (sender, progress) = watch::channel(Progress::default());
        Self { info_hash: spec.metainfo.info_hash, progress, _keep: Arc::new(sender) }
    }

    /// Its info-hash.
    #[must_use]
    pub fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// Where it stands, from now on.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// The connected peers.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStat> {
        Vec::new()
    }

    /// Waits until everything is here and verified. Returns at once for a seed.
    ///
    /// # Errors
    /// [`TorrentError`] when the torrent failed or was stopped first.
    pub async fn completed(&self) -> Result<Completed, TorrentError> {
        std::future::pending().await
    }

    /// Takes the torrent out of its session: `stopped` is announced, connections close.
    pub async fn remove(&self) {}
}
