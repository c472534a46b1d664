//! `seed`: one torrent, from a file or a block device, until told to stop.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proto::metainfo::Metainfo;
use swarm::storage::{FileStorage, FileStorageError, Storage};
use swarm::{InitialHave, Phase, Role, Session, SessionError, Torrent, TorrentSpec, Verify};
use sys::direct::{DirectError, DirectReader};
use sys::notify::Notifier;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::config::{PeerSettings, SeedSettings};
use crate::exit::Exit;
use crate::output::{Event, Output, Uploaded};
use crate::session;
use crate::storage::DirectStorage;
use crate::torrent_file::{self, TorrentFileError};

/// Why a torrent is not seeded, or no longer.
#[derive(Debug, Error)]
pub enum SeedError {
    /// The torrent file is not usable.
    #[error("no usable torrent")]
    Torrent {
        /// Which, and why.
        #[source]
        source: TorrentFileError,
    },
    /// The image cannot be examined.
    #[error("cannot examine {}", path.display())]
    Data {
        /// File or device.
        path: PathBuf,
        /// What the system call said.
        #[source]
        source: io::Error,
    },
    /// The image file cannot be opened.
    #[error("cannot open the image")]
    File {
        /// Which, and why.
        #[source]
        source: FileStorageError,
    },
    /// The device cannot be opened.
    #[error("cannot open the device")]
    Device {
        /// Which, and why.
        #[source]
        source: DirectError,
    },
    /// The image ends too early.
    #[error(
        "{} has {len} bytes, but the torrent describes {wanted}: it is cut off, or another image",
        path.display()
    )]
    TooShort {
        /// File or device.
        path: PathBuf,
        /// Bytes there are.
        len: u64,
        /// Bytes there should be.
        wanted: u64,
    },
    /// The session or torrent could not be started.
    #[error("cannot start to seed")]
    Session {
        /// Why.
        #[source]
        source: SessionError,
    },
    /// The engine gave the torrent up: its data is not what the torrent says, or unreadable.
    #[error("seeding ended: {reason}")]
    Failed {
        /// As the engine says it.
        reason: String,
    },
}

impl SeedError {
    /// The exit code that tells this.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Torrent { .. } | Self::Data { .. } | Self::File { .. } | Self::Device { .. } => {
                Exit::Input
            }
            Self::TooShort { .. } | Self::Failed { .. } => Exit::WrongImage,
            Self::Session { source: SessionError::Listen { .. } } => Exit::Listen,
            Self::Session { .. } => Exit::Failure,
        }
    }
}

/// Seeds until `stop`.
///
/// # Errors
/// [`SeedError`].
pub async fn run(
    settings: SeedSettings,
    output: Output,
    notifier: &Notifier,
    stop: CancellationToken,
) -> Result<(), SeedError> {
    let (metainfo, _) =
        torrent_file::read(&settings.torrent).map_err(|e| SeedError::Torrent { source: e })?;
    let storage = open(&settings.data, metainfo.info.geometry.total())?;
    let seed = Seed { metainfo: Arc::new(metainfo), storage, role: Role::Admin };
    seed.run(settings.peers, output, notifier, stop, |_| {}).await
}

/// Opens an image: a device with direct I/O, a file in the ordinary way.
fn open(path: &Path, wanted: u64) -> Result<Arc<dyn Storage>, SeedError> {
    let meta =
        std::fs::metadata(path).map_err(|e| SeedError::Data { path: path.into(), source: e })?;
    let storage: Arc<dyn Storage> = if meta.file_type().is_block_device() {
        let reader = DirectReader::open(path).map_err(|e| SeedError::Device { source: e })?;
        Arc::new(DirectStorage::new(reader, wanted))
    } else {
        Arc::new(FileStorage::open_read_only(path).map_err(|e| SeedError::File { source: e })?)
    };
    if storage.len() < wanted {
        return Err(SeedError::TooShort { path: path.into(), len: storage.len(), wanted });
    }
    Ok(storage)
}

/// One complete image, ready to be seeded.
pub(crate) struct Seed {
    pub(crate) metainfo: Arc<Metainfo>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) role: Role,
}

impl Seed {
    /// Seeds until `stop` or until the engine gives up; `each_second` sees the counters.
    pub(crate) async fn run(
        self,
        peers: PeerSettings,
        output: Output,
        notifier: &Notifier,
        stop: CancellationToken,
        mut each_second: impl FnMut(&Uploaded),
    ) -> Result<(), SeedError> {
        let failed = |source| SeedError::Session { source };
        let session = session::bind(&peers, self.role).await.map_err(failed)?;
        let address = session.local_addr();
        output.emit(&Event::Listening { service: "swarm", address });
        let torrent = self.add(&session, peers).await.map_err(failed)?;
        let info_hash = self.metainfo.info_hash;
        let bytes = self.metainfo.info.geometry.total();
        tracing::info!(%address, %info_hash, bytes, "seeding");
        output.emit(&Event::Seeding { revision: None, info_hash: info_hash.to_string(), bytes });
        notifier.ready();

        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut progress = torrent.progress();
        let result = loop {
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                _ = second.tick() => {
                    let uploaded = counters(&torrent);
                    output.emit(&Event::Uploaded(uploaded));
                    notifier.status(&status(&uploaded));
                    notifier.watchdog();
                    each_second(&uploaded);
                }
                changed = progress.changed() => if changed.is_err() {
                    break Err(SeedError::Failed { reason: "the engine stopped".to_owned() });
                },
            }
            if let Phase::Failed(reason) = progress.borrow_and_update().phase.clone() {
                break Err(SeedError::Failed { reason });
            }
        };
        notifier.stopping();
        let image_bytes = counters(&torrent).image_bytes;
        session.shutdown().await;
        output.emit(&Event::Stopped { image_bytes });
        tracing::info!(image_bytes, "stopped");
        result
    }

    async fn add(&self, session: &Session, peers: PeerSettings) -> Result<Torrent, SessionError> {
        let mut spec = TorrentSpec::new(Arc::clone(&self.metainfo), Arc::clone(&self.storage));
        spec.have = InitialHave::Everything { verify: Verify::OnFirstRead };
        spec.trackers = peers.trackers;
        spec.initial_seeding = self.role == Role::Admin;
        spec.web_seeds = false;
        session.add(spec).await
    }
}

fn counters(torrent: &Torrent) -> Uploaded {
    let progress = torrent.progress();
    let progress = progress.borrow();
    Uploaded {
        swarm_bytes: progress.bytes_uploaded,
        image_bytes: progress.bytes_uploaded,
        rate: progress.up_rate,
        peers: progress.peers_connected,
        torrents: 1,
        ..Uploaded::default()
    }
}

/// One line for `systemctl status`.
pub(crate) fn status(uploaded: &Uploaded) -> String {
    let sent = proto::units::ByteSize(uploaded.image_bytes);
    let rate = proto::units::ByteRate(uploaded.rate);
    let (torrents, peers) = (uploaded.torrents, uploaded.peers);
    format!("images: {torrents}, peers: {peers}, rate: {rate}, sent: {sent}")
}
