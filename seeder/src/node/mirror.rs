//! Kernel and initrd of the revision that this node runs, over HTTP, for nodes that boot next.
//!
//! ```text
//! manifest (digest: boot record) ─▶ where? (tracker) ─▶ kernel, initrd (digests: manifest) ─▶ memory ─▶ HTTP
//! ```
//!
//! The initrd that this node booted with is gone, so the files are fetched again: from another mirror, or,
//! one node at a time and only while there is none, from where the manifest came from. What does not have
//! the manifest's length and SHA-256 is thrown away. Nothing that goes wrong here ends the seeding.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use proto::boot_record::BootRecord;
use proto::hash::Sha256Digest;
use proto::manifest::{ArtefactKind, MANIFEST_FILE, MAX_MANIFEST_LEN, Manifest, ManifestError};
use proto::mirrors::{MAX_MIRRORS_LEN, MIRRORS_PATH, Mirrors};
use proto::node_id::NodeId;
use sha2::{Digest as _, Sha256};
use store::{NameError, RevisionId, RevisionName, RevisionRef};
use swarm::http::{self as client, HttpError, Limits};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::http::{HttpConfig, HttpError as ServeError, HttpServer, Netboot};
use crate::output::{Event, Output};

/// What iPXE needs.
const KINDS: [ArtefactKind; 2] = [ArtefactKind::Kernel, ArtefactKind::Initrd];

/// Largest kernel or initrd that is held in memory, in bytes.
const MAX_FILE: u64 = 128 << 20;

/// Before anything is tried again that did not work.
const PAUSE: Duration = Duration::from_secs(20);

/// Longest pause that a tracker may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(600);

/// Why this node serves no kernel and initrd.
#[derive(Debug, Error)]
pub(super) enum MirrorError {
    /// The boot record does not say enough.
    #[error("the boot record names no {0}: boot by a manifest (root=beeswarm:URL/) with a tracker")]
    Record(&'static str),
    /// A file cannot be fetched.
    #[error("cannot fetch {url}")]
    Fetch {
        /// From where.
        url: String,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// A file is not what it should be.
    #[error("{url} is not what was booted: SHA-256 {found} in place of {wanted}")]
    Content {
        /// From where.
        url: String,
        /// What it is.
        found: Sha256Digest,
        /// What it should be.
        wanted: Sha256Digest,
    },
    /// The manifest is not usable.
    #[error("the manifest cannot be used")]
    Manifest(#[source] ManifestError),
    /// Its name is none.
    #[error("the manifest's name cannot be used")]
    Name(#[source] NameError),
    /// The image came without kernel or initrd, or with one too large.
    #[error("the revision has no {0}, or one of more than 128 MiB")]
    Missing(&'static str),
    /// The tracker's answer.
    #[error("the tracker's answer makes no sense")]
    Answer(#[source] serde_json::Error),
    /// Nobody has the files at the moment.
    #[error("no node near has kernel and initrd, and another one fetches them")]
    Nobody {
        /// When to ask again.
        pause: Duration,
    },
    /// No memory for the files.
    #[error("cannot keep {file} in memory")]
    Memory {
        /// Which.
        file: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The port is not to be had.
    #[error("cannot serve")]
    Serve(#[source] ServeError),
}

impl MirrorError {
    /// When to try again; `None`: it stays as it is.
    fn pause(&self) -> Option<Duration> {
        match self {
            Self::Record(_) | Self::Missing(_) | Self::Name(_) => None,
            Self::Nobody { pause } => Some((*pause).clamp(Duration::from_secs(1), MAX_PAUSE)),
            _ => Some(PAUSE),
        }
    }
}

/// Fetches what is missing, and serves it until `stop`. `port` tells where, 0 until it does.
pub(super) async fn run(
    record: &BootRecord,
    listen: SocketAddr,
    port: &AtomicU16,
    output: Output,
    stop: CancellationToken,
) {
    let server = tokio::select! {
        server = open(record, listen) => server,
        () = stop.cancelled() => None,
    };
    let Some(server) = server else { return };
    let address = server.local_addr();
    output.emit(&Event::Listening { service: "http", address });
    tracing::info!(%address, "serving kernel and initrd over http");
    port.store(address.port(), Ordering::Relaxed);
    stop.cancelled().await;
    port.store(0, Ordering::Relaxed);
    server.shutdown().await;
}

/// Tries until there is a server; `None` when there never will be.
async fn open(record: &BootRecord, listen: SocketAddr) -> Option<HttpServer> {
    let mut last = String::new();
    loop {
        let error = match serve(record, listen).await {
            Ok(server) => return Some(server),
            Err(error) => error,
        };
        let text = describe(&error);
        let Some(pause) = error.pause() else {
            tracing::warn!(err = text, "kernel and initrd are not served");
            return None;
        };
        if matches!(error, MirrorError::Nobody { .. }) {
            tracing::debug!(err = text, "kernel and initrd are not served yet");
        } else if text != last {
            tracing::warn!(err = text, "kernel and initrd are not served yet");
            last = text;
        }
        // nodes that boot together do not ask together
        tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
    }
}

async fn serve(record: &BootRecord, listen: SocketAddr) -> Result<HttpServer, MirrorError> {
    let want = Wanted::of(record)?;
    let manifest = want.manifest().await?;
    let name = RevisionName::new(manifest.name.as_str()).map_err(MirrorError::Name)?;
    let id = want.digest.to_string();
    let id = RevisionId::new(id.get(..12).unwrap_or_default()).map_err(MirrorError::Name)?;
    let revision = RevisionRef { name, id };
    let sources = want.sources(&revision).await?;
    let mut files = Vec::new();
    for kind in KINDS {
        files.push((kind, fetch(kind, &manifest, &sources).await?));
    }
    let netboot = Netboot::new(revision, files);
    let more = Arc::new(String::new);
    HttpServer::netboot(HttpConfig::new(listen), netboot, more).map_err(MirrorError::Serve)
}

/// What the boot record says of it.
struct Wanted<'a> {
    /// Folder that the manifest came from, without trailing slash.
    folder: &'a str,
    /// SHA-256 of the manifest.
    digest: Sha256Digest,
    tracker: &'a str,
    node: NodeId,
}

impl<'a> Wanted<'a> {
    fn of(record: &'a BootRecord) -> Result<Self, MirrorError> {
        let source = record.source.as_str();
        let folder = source.strip_suffix(MANIFEST_FILE).unwrap_or(source);
        if !folder.starts_with("http://") || !folder.ends_with('/') {
            return Err(MirrorError::Record("manifest"));
        }
        Ok(Self {
            folder: folder.trim_end_matches('/'),
            digest: record.manifest_sha256.ok_or(MirrorError::Record("manifest"))?,
            tracker: record.report.as_deref().ok_or(MirrorError::Record("tracker"))?,
            node: record.node.ok_or(MirrorError::Record("node"))?,
        })
    }

    async fn manifest(&self) -> Result<Manifest, MirrorError> {
        let url = format!("{}/{MANIFEST_FILE}", self.folder);
        let bytes = get(&url, u64::try_from(MAX_MANIFEST_LEN).unwrap_or(u64::MAX)).await?;
        let found = Sha256Digest::of(&bytes);
        if found != self.digest {
            return Err(MirrorError::Content { url, found, wanted: self.digest });
        }
        Manifest::parse(&bytes).map_err(MirrorError::Manifest)
    }

    /// Folders that have the files, in the order to ask them.
    async fn sources(&self, revision: &RevisionRef) -> Result<Vec<String>, MirrorError> {
        let (tracker, node) = (self.tracker.trim_end_matches('/'), self.node);
        let url = format!("{tracker}{MIRRORS_PATH}?node={node}&revision={revision}");
        let bytes = get(&url, MAX_MIRRORS_LEN).await?;
        let answer: Mirrors = serde_json::from_slice(&bytes).map_err(MirrorError::Answer)?;
        let mut sources = answer.sources;
        if answer.origin {
            sources.push(self.folder.to_owned());
        }
        if sources.is_empty() {
            let pause = Duration::from_secs(u64::from(answer.retry_after_s));
            return Err(MirrorError::Nobody { pause });
        }
        Ok(sources)
    }
}

async fn get(url: &str, max_body: u64) -> Result<Vec<u8>, MirrorError> {
    let limits = Limits { max_body, ..Limits::default() };
    let response = client::get(url, limits).await;
    response
        .map(|response| response.body)
        .map_err(|source| MirrorError::Fetch { url: url.to_owned(), source })
}

/// The file from the first of `sources` that has the right one.
async fn fetch(
    kind: ArtefactKind,
    manifest: &Manifest,
    sources: &[String],
) -> Result<(File, u64), MirrorError> {
    let file = kind.file_name();
    let artefact = manifest.artefact(kind).filter(|artefact| artefact.length <= MAX_FILE);
    let artefact = artefact.ok_or(MirrorError::Missing(file))?;
    let mut first_error = None;
    for source in sources {
        let url = format!("{source}/{file}");
        match fetch_one(&url, file, artefact.length, artefact.digest.value()).await {
            Ok(found) => return Ok((found, artefact.length)),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or(MirrorError::Nobody { pause: PAUSE }))
}

async fn fetch_one(
    url: &str,
    name: &'static str,
    length: u64,
    wanted: Sha256Digest,
) -> Result<File, MirrorError> {
    let memory = |source| MirrorError::Memory { file: name, source };
    let mut file = sys::fs::memory_file(name).map_err(memory)?;
    let mut hash = Sha256::new();
    let limits = Limits { max_body: length, total: Duration::from_secs(300), ..Limits::default() };
    let mut sink = |chunk: &[u8]| {
        hash.update(chunk);
        file.write_all(chunk)
    };
    let answer = client::stream(url, limits, &mut sink).await;
    answer.map_err(|source| MirrorError::Fetch { url: url.to_owned(), source })?;
    let found = Sha256Digest(hash.finalize().into());
    if found != wanted {
        return Err(MirrorError::Content { url: url.to_owned(), found, wanted });
    }
    Ok(file)
}

fn describe(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", describe(cause))).unwrap_or_default();
    format!("{error}{cause}")
}
