//! `node`: hands on the image that this node runs from.
//!
//! ```text
//! root:          boot.json ─▶ torrent ─▶ open the block device ─▶ is it the recorded one?
//! unprivileged:  first, last and some random pieces hash right? ─▶ listen, announce, seed
//! ```
//!
//! What was verified in the initrd was a device with this number at that time. Since then somebody
//! may have attached another image to it, so nothing is announced before the device has shown
//! pieces of the recorded one; every other piece is verified when it is first sent.

mod device;
mod mirror;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use proto::boot_record::{BootRecord, BootRecordError};
use proto::event::{EventBatch, EventKind};
use proto::hash::InfoHash;
use proto::metainfo::Metainfo;
use swarm::Role;
use swarm::report::Reporter;
use sys::direct::DirectReader;
use sys::notify::Notifier;
use sys::priority::PriorityError;
use sys::privileges::{Identity, PrivilegeError};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

pub use device::DeviceError;

use crate::config::{NodeSettings, PeerSettings};
use crate::exit::Exit;
use crate::output::{Output, Uploaded};
use crate::seed::{Seed, SeedError};
use crate::storage::DirectStorage;
use crate::torrent_file::{self, TorrentFileError};

/// Seconds between reports of the bytes sent.
const REPORT_EVERY: u64 = 30;

/// Time given to the last report at the end.
const LAST_REPORT: Duration = Duration::from_millis(200);

/// Largest boot record, in bytes.
const MAX_RECORD: u64 = 1 << 20;

/// Why the node does not seed.
#[derive(Debug, Error)]
pub enum NodeError {
    /// There is no record of the boot.
    #[error(
        "cannot read the boot record {}: this machine was not booted by bee-initrd-client, or /run was emptied",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system call said.
        #[source]
        source: io::Error,
    },
    /// The record is not valid.
    #[error("the boot record {} is not usable", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: BootRecordError,
    },
    /// The torrent is not usable.
    #[error("the boot left no usable torrent")]
    Torrent {
        /// Which, and why.
        #[source]
        source: TorrentFileError,
    },
    /// Record and torrent disagree.
    #[error("the torrent {torrent} has info-hash {found}, the boot record says {recorded}")]
    OtherTorrent {
        /// The torrent file.
        torrent: String,
        /// What it is.
        found: InfoHash,
        /// What it should be.
        recorded: InfoHash,
    },
    /// The device is not what was booted.
    #[error("the image is not seeded")]
    Device {
        /// Which device, and why.
        #[source]
        source: DeviceError,
    },
    /// Privileges cannot be given up.
    #[error("cannot become an unprivileged user")]
    Privileges {
        /// Why.
        #[source]
        source: PrivilegeError,
    },
    /// The priority cannot be lowered.
    #[error("cannot lower the priority")]
    Priority {
        /// Why.
        #[source]
        source: PriorityError,
    },
    /// Seeding failed.
    #[error("cannot seed {device}")]
    Seed {
        /// The device.
        device: String,
        /// Why.
        #[source]
        source: SeedError,
    },
}

impl NodeError {
    /// The exit code that tells this.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Read { .. }
            | Self::Record { .. }
            | Self::Torrent { .. }
            | Self::OtherTorrent { .. } => Exit::Input,
            Self::Device { source: DeviceError::Open { .. } } => Exit::Input,
            Self::Device { .. } => Exit::WrongImage,
            Self::Privileges { .. } => Exit::Privileges,
            Self::Priority { .. } => Exit::Failure,
            Self::Seed { source, .. } => source.exit(),
        }
    }
}

/// A node's image, opened; nothing of it is announced yet.
#[derive(Debug)]
pub struct Prepared {
    record: BootRecord,
    metainfo: Arc<Metainfo>,
    storage: DirectStorage,
    user: String,
    peers: PeerSettings,
    http: Option<SocketAddr>,
}

/// Reads the record, opens the device, gives up root, and makes sure that the device holds the
/// recorded image.
///
/// Must run before any thread is started: priorities and "no new privileges" are per thread.
///
/// # Errors
/// [`NodeError`]. Nothing was announced then.
pub fn prepare(settings: NodeSettings) -> Result<Prepared, NodeError> {
    let record = read_record(&settings.boot_record)?;
    let (metainfo, _) = torrent_file::read(Path::new(&record.torrent))
        .map_err(|e| NodeError::Torrent { source: e })?;
    if metainfo.info_hash != record.info_hash {
        return Err(NodeError::OtherTorrent {
            torrent: record.torrent.clone(),
            found: metainfo.info_hash,
            recorded: record.info_hash,
        });
    }
    let device = |source| NodeError::Device { source };
    // Look up before the device is opened and privileges go: the message is the better one.
    let identity = if sys::privileges::is_root() {
        let (user, group) = (settings.user.as_str(), settings.group.as_deref());
        let identity = Identity::look_up(user, group);
        Some(identity.map_err(|e| NodeError::Privileges { source: e })?)
    } else {
        None
    };
    let file = device::open(&record).map_err(device)?;
    let priority = |source| NodeError::Priority { source };
    sys::priority::set_nice(settings.nice).map_err(priority)?;
    sys::priority::set_io_idle().map_err(priority)?;
    let user = match identity {
        None => "an unprivileged user already".to_owned(),
        Some(identity) => {
            sys::privileges::drop_to(&identity).map_err(|e| NodeError::Privileges { source: e })?;
            identity.name
        }
    };
    tracing::debug!(user, device = record.device, "privileges are gone");

    let reader = DirectReader::from_file(file, Path::new(&record.device))
        .map_err(|e| device(DeviceError::Length { device: record.device.clone(), source: e }))?;
    device::check(&reader, &record, &metainfo).map_err(device)?;
    let storage = DirectStorage::new(reader, record.length);
    let mut peers = settings.peers;
    peers.upload_limit = peers.upload_limit.or(record.upload_limit);
    peers.local_discovery = peers.local_discovery.or(Some(!record.no_lsd));
    if peers.trackers.is_none() && !record.trackers.is_empty() {
        peers.trackers = Some(record.trackers.clone());
    }
    let http = settings.http;
    Ok(Prepared { record, metainfo: Arc::new(metainfo), storage, user, peers, http })
}

fn read_record(path: &Path) -> Result<BootRecord, NodeError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_RECORD).read_to_end(&mut bytes))
        .map_err(|e| NodeError::Read { path: path.into(), source: e })?;
    BootRecord::parse(&bytes).map_err(|e| NodeError::Record { path: path.into(), source: e })
}

impl Prepared {
    /// Seeds until `stop`, and tells the tracker so now and then.
    ///
    /// # Errors
    /// [`NodeError::Seed`].
    pub async fn run(
        self,
        output: Output,
        notifier: &Notifier,
        stop: CancellationToken,
    ) -> Result<(), NodeError> {
        let Self { record, metainfo, storage, user, peers, http } = self;
        let reporter = reporter(&record);
        let (mut seconds, mut told) = (0, 0);
        let port = AtomicU16::new(0);
        let report = |uploaded: &Uploaded| {
            let serves = port.load(Ordering::Relaxed);
            let due = seconds % REPORT_EVERY == 0 || serves != told;
            if let Some(reporter) = reporter.as_ref().filter(|_| due) {
                told = serves;
                reporter.send(EventKind::Seeding {
                    device: record.device.clone(),
                    user: user.clone(),
                    uploaded: uploaded.swarm_bytes,
                    http: (serves != 0).then_some(serves),
                });
            }
            seconds += 1;
        };
        let seed = Seed { metainfo, storage: Arc::new(storage), role: Role::Node };
        let over = stop.child_token();
        let seeding = async {
            let result = seed.run(peers, output, notifier, stop, report).await;
            over.cancel();
            result
        };
        let mirror = async {
            if let Some(listen) = http {
                mirror::run(&record, listen, &port, output, over.clone()).await;
            }
        };
        let (result, ()) = tokio::join!(seeding, mirror);
        if let Some(reporter) = reporter {
            if let Err(e) = &result {
                reporter.send(EventKind::Failed {
                    message: e.to_string(),
                    refused: None,
                    cause: None,
                });
            }
            reporter.flush(LAST_REPORT).await;
        }
        result.map_err(|e| NodeError::Seed { device: record.device, source: e })
    }
}

/// Where events go, if anywhere, and as which node and boot.
fn reporter(record: &BootRecord) -> Option<Reporter> {
    let (base, node) = (record.report.as_deref()?, record.node?);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let mut about = EventBatch::new(boot_id.trim().to_owned());
    about.token.clone_from(&record.token);
    Some(Reporter::start(base, node, about))
}
