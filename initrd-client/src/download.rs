//! One image, from the swarm into a file: what `fetch` and `boot` have in common.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::metainfo::Metainfo;
use proto::units::ByteRate;
use swarm::storage::Storage;
use swarm::{
    Completed, InitialHave, Phase, Progress, Role, Session, SessionConfig, SessionError, Torrent,
    TorrentError, TorrentSpec,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::image::{self, ImageError};
use crate::narrator::Narrator;
use crate::trust::SignedImage;

/// Progress is looked at this often.
const TICK: Duration = Duration::from_millis(900);

/// What to fetch and how to take part.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The torrent, already trusted.
    pub metainfo: Arc<Metainfo>,
    /// What the complete image must be, when a signature says it.
    pub signed: Option<SignedImage>,
    /// Announce URLs in tiers that replace the torrent's.
    pub trackers: Option<Vec<Vec<String>>>,
    /// Where peers connect to; `None` is every address, TCP port 6881.
    pub listen: Option<SocketAddr>,
    /// Upper bound of what is sent to peers.
    pub upload_limit: Option<ByteRate>,
    /// Upper bound of what is received from peers and web seeds.
    pub download_limit: Option<ByteRate>,
    /// Look for peers on this network by multicast (BEP 14), unless the torrent is private.
    pub local_discovery: bool,
}

/// Why an image did not become complete.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The port cannot be opened, or the storage has the wrong length.
    #[error("cannot join the swarm")]
    Session(#[source] SessionError),
    /// The storage failed.
    #[error("the fetch cannot go on")]
    Torrent(#[source] TorrentError),
    /// The image is not what was signed.
    #[error(transparent)]
    Image(ImageError),
    /// SIGTERM or SIGINT.
    #[error("ended by a signal; what is verified stays, and the next run goes on from there")]
    Interrupted,
    /// The signals cannot be waited for.
    #[error("cannot watch for signals")]
    Signals(#[source] std::io::Error),
}

/// A running transfer.
pub struct Download {
    session: Session,
    torrent: Torrent,
    storage: Arc<dyn Storage>,
    /// What the whole image must be, when only a signature says more than SHA-1.
    whole: Option<SignedImage>,
    stop: Stop,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("whole", &self.whole).finish_non_exhaustive()
    }
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn watch() -> Result<Self, DownloadError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(DownloadError::Signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(DownloadError::Signals)?,
        })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Download {
    /// Joins the swarm. Peers can connect when this returns.
    ///
    /// # Errors
    /// [`DownloadError::Session`].
    pub async fn start(
        plan: Plan,
        storage: Arc<dyn Storage>,
        have: InitialHave,
    ) -> Result<Self, DownloadError> {
        let stop = Stop::watch()?;
        let signed = plan.signed.is_some();
        let mut config = SessionConfig::new(Role::Node);
        config.upload_limit = plan.upload_limit;
        config.download_limit = plan.download_limit;
        config.local_discovery = plan.local_discovery;
        if let Some(listen) = plan.listen {
            config.listen = listen;
        }
        let session = Session::bind(config).await.map_err(DownloadError::Session)?;
        // each piece of a hybrid torrent is compared by SHA-256 when it comes, all together are the image
        let hybrid = plan.metainfo.info.tree().is_some();
        let whole = plan.signed.filter(|_| !hybrid);
        let spec = TorrentSpec {
            have,
            trackers: plan.trackers,
            sha256: signed,
            ..TorrentSpec::new(plan.metainfo, storage.clone())
        };
        let torrent = session.add(spec).await.map_err(DownloadError::Session)?;
        Ok(Self { session, torrent, storage, whole, stop })
    }

    /// Where peers connect to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.session.local_addr()
    }

    /// Waits until every piece is here and verified, telling how far it is about once a second; then,
    /// when a signature says what the image must be and its torrent knows SHA-1 alone, compares all of it.
    ///
    /// # Errors
    /// [`DownloadError::Torrent`] when the storage fails, [`DownloadError::Image`],
    /// [`DownloadError::Interrupted`].
    pub async fn complete(&mut self, narrator: &mut Narrator) -> Result<Completed, DownloadError> {
        let progress = self.torrent.progress();
        let torrent = self.torrent.clone();
        let completed = torrent.completed();
        tokio::pin!(completed);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let completed = loop {
            tokio::select! {
                done = &mut completed => break done.map_err(DownloadError::Torrent)?,
                _ = tick.tick() => {
                    narrator.progress(&progress.borrow().clone());
                    narrator.exchange(|| torrent.exchange());
                }
                () = self.stop.requested() => return Err(DownloadError::Interrupted),
            }
        };
        if let Some(signed) = &self.whole {
            let check = image::check(self.storage.clone(), signed);
            tokio::select! {
                checked = check => checked.map_err(DownloadError::Image)?,
                () = self.stop.requested() => return Err(DownloadError::Interrupted),
            }
        }
        narrator.exchanged(torrent.exchange());
        narrator.complete(&completed, &progress.borrow().clone());
        Ok(completed)
    }

    /// Hands the image on until a signal comes or `limit` is over.
    ///
    /// # Errors
    /// [`DownloadError::Torrent`] when the storage fails.
    pub async fn seed(
        &mut self,
        limit: Option<Duration>,
        narrator: &mut Narrator,
        device: &str,
        user: &str,
    ) -> Result<(), DownloadError> {
        let progress = self.torrent.progress();
        let end = limit.map(|limit| Instant::now() + limit);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let over = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => return Ok(()),
                () = self.stop.requested() => return Ok(()),
                _ = tick.tick() => {}
            }
            let now = progress.borrow().clone();
            if matches!(now.phase, Phase::Failed(_)) {
                // tells the cause as a typed error
                self.torrent.completed().await.map_err(DownloadError::Torrent)?;
            }
            narrator.seeding(&now, device, user);
        }
    }

    /// The last figures.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.torrent.progress().borrow().clone()
    }

    /// Leaves the swarm: tells the tracker and closes all connections, within a second.
    pub async fn stop(self) {
        self.session.shutdown().await;
    }
}
