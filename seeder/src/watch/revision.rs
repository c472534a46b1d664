//! One revision: whether it is what its manifest says, and whether it has changed since.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use proto::hash::InfoHash;
use proto::manifest::{Artefact, ArtefactKind};
use proto::metainfo::Metainfo;
use store::{RevisionDir, StoreError};
use swarm::storage::{FileStorage, FileStorageError, Storage};
use thiserror::Error;

use crate::torrent_file::{self, TorrentFileError};

/// Why a revision is refused: it is never announced then.
#[derive(Debug, Error)]
pub(super) enum RevisionError {
    /// The manifest is missing, altered or not valid.
    #[error("its manifest is not usable")]
    Manifest {
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The torrent is missing or not valid.
    #[error("its torrent is not usable")]
    Torrent {
        /// Why.
        #[source]
        source: TorrentFileError,
    },
    /// The torrent is another one than the manifest names.
    #[error(
        "its torrent is not the one in its manifest (info-hash {found} instead of {stated}): restore or re-publish it"
    )]
    OtherTorrent {
        /// Of the torrent.
        found: InfoHash,
        /// In the manifest.
        stated: InfoHash,
    },
    /// The torrent is not byte for byte what the manifest names.
    #[error("its torrent was altered after it was packed: restore or re-publish it")]
    AlteredTorrent,
    /// The lengths disagree.
    #[error(
        "its image has {found} bytes, its torrent says {torrent}, its manifest {manifest}: restore or re-publish it"
    )]
    Length {
        /// Of the file.
        found: u64,
        /// In the torrent.
        torrent: u64,
        /// In the manifest.
        manifest: u64,
    },
    /// The image cannot be opened.
    #[error("its image cannot be opened")]
    Image {
        /// Why.
        #[source]
        source: FileStorageError,
    },
}

/// A revision that can be seeded. The image stays open, once, for as long as it is seeded: pruning
/// or replacing the file does not change what is sent.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) metainfo: Metainfo,
    pub(super) storage: FileStorage,
}

/// Opens a revision and compares its parts with each other. Blocks on the disk; the image itself
/// is not read here: every piece is verified when it is first sent.
pub(super) fn open(dir: &RevisionDir) -> Result<Opened, RevisionError> {
    let manifest = dir.manifest().map_err(|e| RevisionError::Manifest { source: e })?;
    let (metainfo, bytes) =
        torrent_file::read(&dir.torrent()).map_err(|e| RevisionError::Torrent { source: e })?;
    if metainfo.info_hash != manifest.info_hash {
        return Err(RevisionError::OtherTorrent {
            found: metainfo.info_hash,
            stated: manifest.info_hash,
        });
    }
    let stated = manifest.artefact(ArtefactKind::Torrent);
    if stated != Some(Artefact::of(ArtefactKind::Torrent, &bytes)) {
        return Err(RevisionError::AlteredTorrent);
    }
    let storage =
        FileStorage::open_read_only(dir.image()).map_err(|e| RevisionError::Image { source: e })?;
    let torrent = metainfo.info.geometry.total();
    let manifest = manifest.artefact(ArtefactKind::Image).map_or(0, |image| image.length);
    let found = storage.len();
    if found != torrent || found != manifest {
        return Err(RevisionError::Length { found, torrent, manifest });
    }
    Ok(Opened { metainfo, storage })
}

/// What tells that a file is no longer the one that was opened.
type FileStamp = Option<(u64, u64, i64, i64)>;

/// The state of the files that matter for seeding. Two equal ones mean: nothing changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp([FileStamp; 3]);

impl Stamp {
    /// Looks at the files; none of them is opened.
    pub(super) fn of(dir: &RevisionDir) -> Self {
        Self([dir.image(), dir.torrent(), dir.manifest_path()].map(stamp))
    }
}

fn stamp(path: PathBuf) -> FileStamp {
    let of = |meta: Metadata| (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
    std::fs::metadata(path).map_err(|e: io::Error| e.kind()).ok().map(of)
}
