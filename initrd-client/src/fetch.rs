//! `fetch`: an image into a file, anywhere.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proto::event::EventBatch;
use proto::kernel_args::{Pin, Source};
use proto::node_id::NodeId;
use proto::signature::PublicKey;
use proto::units::ByteRate;
use swarm::InitialHave;
use swarm::storage::{FileStorage, FileStorageError};

use crate::discover::{DiscoverError, Surroundings, discover};
use crate::download::{Download, DownloadError, Plan};
use crate::exit::Exit;
use crate::image;
use crate::narrator::Narrator;
use crate::network;
use crate::policy::{self, PolicyError};
use crate::trust::Demands;

/// What the command line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOptions {
    /// Where the torrent is.
    pub torrent: Source,
    /// Where the image goes.
    pub output: PathBuf,
    /// What the torrent must be.
    pub pin: Option<Pin>,
    /// Whose signature the manifest must have; none is demanded without a key and `trust`.
    pub keys: Vec<PublicKey>,
    /// A trust policy, as an initrd has it.
    pub trust: Option<PathBuf>,
    /// Announce URLs that replace the torrent's.
    pub trackers: Vec<String>,
    /// Where peers connect to.
    pub listen: Option<SocketAddr>,
    /// Upper bound of what is sent.
    pub upload_limit: Option<ByteRate>,
    /// Upper bound of what is received.
    pub download_limit: Option<ByteRate>,
    /// Look for peers on this network by multicast.
    pub local_discovery: bool,
    /// Where events go.
    pub report: Option<String>,
    /// Name in events.
    pub node: Option<NodeId>,
    /// What to do with the complete image.
    pub seed: Seed,
}

/// What to do with the complete image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seed {
    /// Exit.
    #[default]
    No,
    /// Hand it on for a time, then exit.
    For(Duration),
    /// Hand it on until a signal comes.
    Forever,
}

/// Why a fetch ended without an image.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It is not known which signature to demand.
    #[error(transparent)]
    Policy(PolicyError),
    /// No torrent.
    #[error(transparent)]
    Discover(DiscoverError),
    /// No file.
    #[error(transparent)]
    Storage(FileStorageError),
    /// No transfer.
    #[error(transparent)]
    Download(DownloadError),
}

impl FetchError {
    /// The exit code that says it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Policy(_) => Exit::Policy,
            Self::Discover(error) => discover_exit(error),
            Self::Storage(error) => storage_exit(error),
            Self::Download(error) => download_exit(error),
        }
    }
}

/// Exit code for a torrent that was not found.
#[must_use]
pub fn discover_exit(error: &DiscoverError) -> Exit {
    match error {
        DiscoverError::Url(_) | DiscoverError::Read { .. } => Exit::Usage,
        DiscoverError::Refused { source, .. } => source.exit(),
    }
}

/// Exit code for a file that cannot take the image.
#[must_use]
pub fn storage_exit(error: &FileStorageError) -> Exit {
    match error {
        FileStorageError::NoSpace { .. } => Exit::NoRoom,
        _ => Exit::Device,
    }
}

/// Exit code for a transfer that ended.
#[must_use]
pub fn download_exit(error: &DownloadError) -> Exit {
    match error {
        DownloadError::Image(error) => error.exit(),
        DownloadError::Interrupted => Exit::Interrupted,
        DownloadError::Torrent(_) => Exit::Device,
        DownloadError::Session(_) => Exit::Usage,
        DownloadError::Signals(_) => Exit::Failure,
    }
}

/// Runs the command to its end.
///
/// # Errors
/// [`FetchError`].
pub async fn run(options: FetchOptions, narrator: &mut Narrator) -> Result<(), FetchError> {
    let net = Path::new("/sys/class/net");
    narrator.watch_cards(net);
    let node = options.node.or_else(|| network::node_id(&network::cards(net)));
    if let (Some(report), Some(node)) = (&options.report, node) {
        narrator.report_to(report, node, EventBatch::new(boot_id()));
    }
    let surroundings = Surroundings { net: net.into(), resolver: None };
    let demands = demands(&options).map_err(FetchError::Policy)?;
    if demands.policy.is_some() {
        narrator.note(&policy::describe(&demands));
    }
    let trusted = discover(&options.torrent, &demands, &surroundings, narrator)
        .await
        .map_err(FetchError::Discover)?;
    if let Some(signer) = policy::describe_signer(&trusted) {
        narrator.note(&signer);
    }
    let length = trusted.metainfo.info.geometry.total();
    let have = initial_have(&options.output);
    let storage = FileStorage::create(&options.output, length).map_err(FetchError::Storage)?;
    let plan = Plan {
        metainfo: Arc::new(trusted.metainfo),
        signed: trusted.signed,
        trackers: tiers(&options.trackers),
        listen: options.listen,
        upload_limit: options.upload_limit,
        download_limit: options.download_limit,
        local_discovery: options.local_discovery,
    };
    let mut download =
        Download::start(plan, Arc::new(storage), have).await.map_err(FetchError::Download)?;
    narrator.note(&format!("listening on {}", download.local_addr()));
    let result = transfer(&mut download, &options, narrator).await;
    // also after an error: the tracker should not send others here
    download.stop().await;
    if matches!(&result, Err(DownloadError::Image(_))) {
        image::discard(&options.output);
    }
    result.map_err(FetchError::Download)
}

/// A policy that was asked for must be there.
fn demands(options: &FetchOptions) -> Result<Demands, PolicyError> {
    let mut given = None;
    if let Some(path) = &options.trust {
        let missing = || std::io::ErrorKind::NotFound.into();
        let policy = policy::baked(path)?;
        given = Some(
            policy.ok_or_else(|| PolicyError::Read { path: path.clone(), source: missing() })?,
        );
    }
    policy::demands(given, &options.keys, options.pin)
}

async fn transfer(
    download: &mut Download,
    options: &FetchOptions,
    narrator: &mut Narrator,
) -> Result<(), DownloadError> {
    download.complete(narrator).await?;
    let limit = match options.seed {
        Seed::No => return Ok(()),
        Seed::For(limit) => Some(limit),
        Seed::Forever => None,
    };
    let device = options.output.display().to_string();
    download.seed(limit, narrator, &device, &user()).await
}

/// A file that is there already is checked piece by piece, and what fits is kept.
#[must_use]
pub fn initial_have(output: &Path) -> InitialHave {
    match std::fs::metadata(output) {
        Ok(meta) if meta.len() > 0 => InitialHave::Check,
        _ => InitialHave::Nothing,
    }
}

/// Announce URLs, each a tier of its own: the first that answers is used (BEP 12).
#[must_use]
pub fn tiers(urls: &[String]) -> Option<Vec<Vec<String>>> {
    (!urls.is_empty()).then(|| urls.iter().map(|url| vec![url.clone()]).collect())
}

/// Names this run: many nodes of a lab share one kernel, and a node may fetch twice in one boot.
fn boot_id() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("{}-{}", kernel.trim(), std::process::id())
}

/// Who we are, for the status page.
fn user() -> String {
    let uid = std::fs::metadata("/proc/self").map_or(0, |meta| meta.uid());
    if uid == 0 { "root".to_owned() } else { format!("uid {uid}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tracker_is_a_tier() {
        assert_eq!(tiers(&[]), None);
        let urls = ["http://a/".to_owned(), "http://b/".to_owned()];
        assert_eq!(tiers(&urls), Some(vec![vec![urls[0].clone()], vec![urls[1].clone()]]));
    }

    #[test]
    fn a_file_with_content_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        assert_eq!(initial_have(&path), InitialHave::Nothing);
        std::fs::write(&path, "x").unwrap();
        assert_eq!(initial_have(&path), InitialHave::Check);
    }

    #[test]
    fn boot_ids_fit_the_protocol() {
        let id = boot_id();
        assert!(!id.is_empty() && id.len() <= 64, "{id}");
    }
}
