//! The manifest of a revision: what it consists of, with the digest of each part.
//!
//! It names no time and no host: the same input gives the same manifest, and the revision id is
//! taken from its digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hash::{InfoHash, InfoHashV2, Sha256Digest};
use crate::metainfo::Metainfo;
use crate::verity::Verity;
use crate::versioned::{self, Unfit};

/// Version of the format that this crate writes.
pub const MANIFEST_VERSION: u32 = 1;

/// Largest manifest accepted, in bytes.
pub const MAX_MANIFEST_LEN: usize = 256 * 1024;

/// Name of the manifest in a revision.
pub const MANIFEST_FILE: &str = "manifest.json";

/// Parts that a revision consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtefactKind {
    /// `rootimg.sfs`: squashfs or EROFS. The name is the same for both: torrents, URLs and clients know
    /// it; which it is stands in the superblock.
    Image,
    /// `rootimg.torrent`
    Torrent,
    /// `vmlinuz`
    Kernel,
    /// `initrd.img`
    Initrd,
}

impl ArtefactKind {
    /// Every kind, in the order they are listed.
    pub const ALL: [Self; 4] = [Self::Image, Self::Torrent, Self::Kernel, Self::Initrd];

    /// File name of the part in a revision's directory.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Image => "rootimg.sfs",
            Self::Torrent => "rootimg.torrent",
            Self::Kernel => "vmlinuz",
            Self::Initrd => "initrd.img",
        }
    }
}

/// Length and digest of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artefact {
    /// Bytes.
    pub length: u64,
    /// SHA-256 of the whole file.
    pub sha256: Sha256Digest,
}

/// What a hybrid torrent adds to a manifest (BEP 52).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HybridHashes {
    /// SHA-256 of the torrent's `info`.
    pub info_hash: InfoHashV2,
    /// Root of the merkle tree over the image's blocks of 16 KiB: it covers every byte.
    pub pieces_root: Sha256Digest,
}

impl HybridHashes {
    /// What a torrent has of it.
    #[must_use]
    pub fn of(metainfo: &Metainfo) -> Option<Self> {
        let pieces_root = metainfo.info.tree()?.root();
        Some(Self { info_hash: metainfo.info_hash_v2?, pieces_root })
    }
}

/// What one revision is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// Name of the image, as in the store.
    pub name: String,
    /// The parts. Image and torrent are always there; a revision may have no kernel of its own.
    pub artefacts: BTreeMap<ArtefactKind, Artefact>,
    /// SHA-1 of the torrent's `info` (BEP 3).
    pub info_hash: InfoHash,
    /// The same of BEP 52, when the torrent is hybrid. Optional, so that version 1 stays readable.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub v2: Option<HybridHashes>,
    /// The dm-verity tree behind the image, when it has one. Who does not know it mounts the image alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verity: Option<Verity>,
    /// Kernel release the initrd was made for, as `uname -r` gives it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kernel_release: Option<String>,
    /// Facts for people: packer version, source, compression. Sorted; no times.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub build: BTreeMap<String, String>,
}

/// Why a manifest was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`MAX_MANIFEST_LEN`].
    #[error("manifest of {0} bytes is larger than {MAX_MANIFEST_LEN}")]
    TooLarge(usize),
    /// Not JSON of this shape; the text says where.
    #[error("not a valid manifest: {0}")]
    Json(String),
    /// Written by a newer packer.
    #[error("manifest has version {0}; this program reads version {MANIFEST_VERSION}: update it")]
    Version(u32),
    /// A part that must be there is not.
    #[error("manifest names no {0:?}")]
    Missing(ArtefactKind),
    /// Image and dm-verity tree do not make up the file.
    #[error("the image has {image} bytes, with its dm-verity tree it must have {wanted}")]
    Verity {
        /// Bytes of the artefact.
        image: u64,
        /// What follows from the tree.
        wanted: u64,
    },
}

impl From<Unfit> for ManifestError {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::TooLarge(bytes) => Self::TooLarge(bytes),
            Unfit::Json(text) => Self::Json(text),
            Unfit::Version(version) => Self::Version(version),
        }
    }
}

/// Key in [`Manifest::build`]: words for kernel arguments beyond the first version's that the client in
/// the initrd knows. A client refuses an argument that it does not know, so the tracker has to ask first.
pub const ARGUMENTS_FACT: &str = "kernel-arguments";

/// What the clients of this version know beyond those of the first.
pub const ARGUMENTS_KNOWN: &str = "token";

impl Manifest {
    /// Whether the client in the initrd knows `beeswarm.WORD=`, as far as the packer knew.
    #[must_use]
    pub fn takes_argument(&self, word: &str) -> bool {
        let known = self.build.get(ARGUMENTS_FACT);
        known.is_some_and(|known| known.split(' ').any(|known| known == word))
    }

    /// Reads `manifest.json`.
    ///
    /// # Errors
    /// [`ManifestError`] when it is too large, not JSON, of another version, or lacks a part.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = versioned::parse(bytes, MAX_MANIFEST_LEN, MANIFEST_VERSION)?;
        for kind in [ArtefactKind::Image, ArtefactKind::Torrent] {
            if !manifest.artefacts.contains_key(&kind) {
                return Err(ManifestError::Missing(kind));
            }
        }
        if let (Some(verity), Some(image)) =
            (manifest.verity, manifest.artefact(ArtefactKind::Image))
            && verity.length() != image.length
        {
            return Err(ManifestError::Verity { image: image.length, wanted: verity.length() });
        }
        Ok(manifest)
    }

    /// The bytes of `manifest.json`: pretty-printed, keys in fixed order, newline at the end.
    ///
    /// # Errors
    /// [`ManifestError::Json`] when it cannot be written (none in practice).
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| ManifestError::Json(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Length and digest of a part, if the revision has it.
    #[must_use]
    pub fn artefact(&self, kind: ArtefactKind) -> Option<Artefact> {
        self.artefacts.get(&kind).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::verity::VERITY_SALT;

    fn sample() -> Manifest {
        let artefact = Artefact { length: 5, sha256: Sha256Digest::of(b"hello") };
        Manifest {
            version: MANIFEST_VERSION,
            name: "demo".into(),
            artefacts: ArtefactKind::ALL.map(|kind| (kind, artefact)).into(),
            info_hash: InfoHash([7; 20]),
            v2: Some(HybridHashes {
                info_hash: InfoHashV2([8; 32]),
                pieces_root: Sha256Digest([9; 32]),
            }),
            verity: None,
            kernel_release: Some("6.1.0-1-amd64".into()),
            build: [("packer".to_owned(), "0.1.0".to_owned())].into(),
        }
    }

    #[test]
    fn round_trip_is_stable() {
        let bytes = sample().to_bytes().unwrap();
        assert_eq!(Manifest::parse(&bytes).unwrap(), sample());
        assert_eq!(Manifest::parse(&bytes).unwrap().to_bytes().unwrap(), bytes);
    }

    #[test]
    fn what_hybrid_torrents_add_may_be_missing() {
        let mut plain = sample();
        plain.v2 = None;
        let bytes = plain.to_bytes().unwrap();
        assert!(!String::from_utf8(bytes.clone()).unwrap().contains("v2"));
        assert_eq!(Manifest::parse(&bytes).unwrap(), plain);
    }

    #[test]
    fn a_tree_and_its_image_make_up_the_file() {
        let blocks = NonZeroU64::new(3).unwrap();
        let verity = Verity::new(Sha256Digest([1; 32]), VERITY_SALT, blocks);
        let mut manifest = Manifest { verity, ..sample() };
        let error = Manifest::parse(&manifest.to_bytes().unwrap()).unwrap_err();
        assert_eq!(error, ManifestError::Verity { image: 5, wanted: 5 * 4096 });
        let image = Artefact { length: 5 * 4096, sha256: Sha256Digest::ZERO };
        manifest.artefacts.insert(ArtefactKind::Image, image);
        assert_eq!(Manifest::parse(&manifest.to_bytes().unwrap()).unwrap(), manifest);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let mut other = sample();
        other.version = 9;
        assert_eq!(Manifest::parse(&other.to_bytes().unwrap()), Err(ManifestError::Version(9)));
        let mut bare = sample();
        bare.artefacts.remove(&ArtefactKind::Torrent);
        assert_eq!(
            Manifest::parse(&bare.to_bytes().unwrap()),
            Err(ManifestError::Missing(ArtefactKind::Torrent))
        );
        assert!(matches!(Manifest::parse(b"<html>"), Err(ManifestError::Json(_))));
        assert!(matches!(
            Manifest::parse(&vec![b' '; MAX_MANIFEST_LEN + 1]),
            Err(ManifestError::TooLarge(_))
        ));
    }
}
