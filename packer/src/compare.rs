//! What two revisions differ in.
//!
//! Both images are mounted, in a mount namespace of this process: whatever happens to it, no mount and
//! no loop device is left.

mod files;
mod mounted;
mod packages;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use proto::manifest::ArtefactKind;
use proto::metainfo::{Metainfo, MetainfoError};
use serde::Serialize;
use store::{RevisionDir, StoreError};
use sys::loop_device::LoopError;
use sys::mount::MountError;

pub use files::{FileChange, FileChanges};
pub use packages::{PackageChange, PackageChanges};

use mounted::Pair;

/// Two revisions could not be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// A revision cannot be read.
    #[error(transparent)]
    Store(StoreError),
    /// A torrent cannot be understood.
    #[error("{path} is no usable torrent: `bee-packer verify` shows what is damaged")]
    Torrent {
        /// The torrent.
        path: PathBuf,
        /// Why.
        source: MetainfoError,
    },
    /// No mount namespace of our own.
    #[error("cannot make a mount namespace: comparing mounts both images, run it as root")]
    Namespace {
        /// Why.
        source: io::Error,
    },
    /// No loop device.
    #[error(transparent)]
    Loop(LoopError),
    /// An image cannot be mounted.
    #[error(transparent)]
    Mount(MountError),
    /// Something in an image cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The list of packages cannot be read.
    #[error("cannot read the packages of {path}: {reason}")]
    Packages {
        /// The database.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Bytes of the parts of a revision that has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// The image.
    pub image: u64,
    /// The kernel.
    pub kernel: Option<u64>,
    /// The initrd.
    pub initrd: Option<u64>,
}

/// Pieces of the newer image that the older one has as well, wherever they lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SharedPieces {
    /// Of the newer image, in all.
    pub pieces: u32,
    /// Of these, what a node that has the older image need not fetch.
    pub shared: u32,
    /// Bytes of a piece in the older and in the newer image. Pieces of different lengths are never
    /// the same.
    pub piece_length: [u32; 2],
}

/// The whole answer.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// Packages of dpkg or rpm.
    pub packages: PackageChanges,
    /// Files, directories, links and devices.
    pub files: FileChanges,
    /// Of the older and the newer revision.
    pub sizes: [Sizes; 2],
    /// Of the images.
    pub pieces: SharedPieces,
}

/// Compares `newer` with `older`, byte by byte. Needs root, and a process with one thread: it gets a
/// mount namespace of its own, for good.
///
/// # Errors
/// [`CompareError`].
pub fn compare(older: &RevisionDir, newer: &RevisionDir) -> Result<Difference, CompareError> {
    let both = [older, newer];
    let sizes = [sizes(older)?, sizes(newer)?];
    let torrents = [torrent(older)?, torrent(newer)?];
    let pair = Pair::mount(both.map(RevisionDir::image))?;
    let [old_root, new_root] = pair.roots();
    Ok(Difference {
        packages: packages::compare(old_root, new_root, pair.scratch())?,
        files: files::compare(old_root, new_root)?,
        sizes,
        pieces: shared(&torrents[0], &torrents[1]),
    })
}

fn sizes(revision: &RevisionDir) -> Result<Sizes, CompareError> {
    let manifest = revision.manifest().map_err(CompareError::Store)?;
    let length = |kind| manifest.artefact(kind).map(|a| a.length);
    Ok(Sizes {
        image: length(ArtefactKind::Image).unwrap_or_default(),
        kernel: length(ArtefactKind::Kernel),
        initrd: length(ArtefactKind::Initrd),
    })
}

fn torrent(revision: &RevisionDir) -> Result<Metainfo, CompareError> {
    let path = revision.torrent();
    let bytes =
        fs::read(&path).map_err(|source| CompareError::Read { path: path.clone(), source })?;
    Metainfo::parse(&bytes).map_err(|source| CompareError::Torrent { path, source })
}

fn shared(older: &Metainfo, newer: &Metainfo) -> SharedPieces {
    let hashes = |m: &Metainfo| -> Vec<_> {
        m.info.geometry.indices().filter_map(|index| m.info.piece_hash(index)).collect()
    };
    let piece_length = [older, newer].map(|m| m.info.geometry.piece_length());
    let known: HashSet<_> =
        if piece_length[0] == piece_length[1] { hashes(older) } else { Vec::new() }
            .into_iter()
            .collect();
    let shared = hashes(newer).iter().filter(|hash| known.contains(hash)).count();
    SharedPieces {
        pieces: newer.info.geometry.pieces(),
        shared: u32::try_from(shared).unwrap_or(u32::MAX),
        piece_length,
    }
}
