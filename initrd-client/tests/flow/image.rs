//! Images, torrents and manifests to test with.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::Command;

use proto::geometry::Geometry;
use proto::hash::{PieceHash, Sha256Digest};
use proto::manifest::{Artefact, ArtefactKind, HybridHashes, MANIFEST_VERSION, Manifest};
use proto::merkle;
use proto::metainfo::{Info, Metainfo};
use proto::verity::{VERITY_BLOCK, VERITY_SALT, Verity};

const PIECE: usize = 64 * 1024;

/// An image with its torrent and manifest, in a folder of its own.
pub(crate) struct Image {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) bytes: Vec<u8>,
    pub(crate) metainfo: Metainfo,
    pub(crate) torrent: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

impl Image {
    /// Bytes that look random, announced to `trackers`.
    pub(crate) fn noise(length: usize, trackers: &[String]) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let bytes = (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            })
            .collect();
        Self::of(bytes, trackers)
    }

    /// A squashfs image of a tiny root.
    pub(crate) fn root(trackers: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::squash(&Self::tree(dir.path()), trackers)
    }

    /// The same with a dm-verity tree, but for its hashes: they are zero.
    pub(crate) fn with_tree(trackers: &[String]) -> Self {
        let mut bytes = Self::root(&[]).bytes;
        let block = VERITY_BLOCK as usize;
        let blocks = NonZeroU64::new(bytes.len().div_ceil(block) as u64).unwrap();
        let verity = Verity::new(Sha256Digest([7; 32]), VERITY_SALT, blocks).unwrap();
        bytes.resize(usize::try_from(verity.length()).unwrap(), 0);
        Self::made(bytes, trackers, Some(verity), |info| info)
    }

    /// The same root as EROFS.
    pub(crate) fn erofs(trackers: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root, file) = (Self::tree(dir.path()), dir.path().join("image"));
        let run = Command::new("mkfs.erofs").arg("-zlz4hc").arg(&file).arg(root).output();
        let run = run.expect("this test needs mkfs.erofs: install erofs-utils");
        assert!(run.status.success(), "{run:?}");
        Self::of(std::fs::read(file).unwrap(), trackers)
    }

    fn tree(dir: &Path) -> PathBuf {
        let root = dir.join("root");
        std::fs::create_dir_all(root.join("sbin")).unwrap();
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("sbin/init"), "#!/bin/sh\n").unwrap();
        std::fs::write(root.join("etc/hostname"), "from-the-image\n").unwrap();
        std::fs::write(root.join("filler"), Self::noise(400_000, &[]).bytes).unwrap();
        root
    }

    /// A squashfs image of a folder that is no system.
    pub(crate) fn no_system(trackers: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("readme"), "no system here\n").unwrap();
        Self::squash(dir.path(), trackers)
    }

    fn squash(root: &Path, trackers: &[String]) -> Self {
        let out = tempfile::tempdir().unwrap();
        let file = out.path().join("image.sfs");
        let run = Command::new("mksquashfs")
            .arg(root)
            .arg(&file)
            .args(["-quiet", "-no-progress"])
            .output();
        let run = run.expect("this test needs mksquashfs: install squashfs-tools");
        assert!(run.status.success(), "{run:?}");
        Self::of(std::fs::read(file).unwrap(), trackers)
    }

    /// The same with a hybrid torrent.
    pub(crate) fn hybrid(length: usize, trackers: &[String]) -> Self {
        let bytes = Self::noise(length, &[]).bytes;
        let layer = merkle::layer(&bytes, 64 * 1024);
        Self::made(bytes, trackers, None, |info| info.with_tree(layer).unwrap())
    }

    pub(crate) fn of(bytes: Vec<u8>, trackers: &[String]) -> Self {
        Self::made(bytes, trackers, None, |info| info)
    }

    fn made(
        bytes: Vec<u8>,
        trackers: &[String],
        verity: Option<Verity>,
        more: impl FnOnce(Info) -> Info,
    ) -> Self {
        let geometry = Geometry::new(bytes.len() as u64, PIECE as u64).unwrap();
        let pieces = bytes.chunks(PIECE).map(PieceHash::of).collect();
        let info = more(Info::new("rootimg.sfs", geometry, false, pieces).unwrap());
        let tiers = trackers.iter().map(|url| vec![url.clone()]).collect();
        let metainfo = Metainfo::new(info, tiers, Vec::new(), None).unwrap();
        let torrent = metainfo.to_bytes().unwrap();
        let part =
            |bytes: &[u8]| Artefact { length: bytes.len() as u64, sha256: Sha256Digest::of(bytes) };
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            name: "test".into(),
            artefacts: [
                (ArtefactKind::Image, part(&bytes)),
                (ArtefactKind::Torrent, part(&torrent)),
            ]
            .into(),
            info_hash: metainfo.info_hash,
            v2: HybridHashes::of(&metainfo),
            verity,
            kernel_release: None,
            build: Default::default(),
        };
        let manifest = manifest.to_bytes().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("rootimg.sfs"), &bytes).unwrap();
        std::fs::write(dir.path().join("rootimg.torrent"), &torrent).unwrap();
        Self { dir, bytes, metainfo, torrent, manifest }
    }

    /// The complete image in a file.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("rootimg.sfs")
    }

    /// The torrent in a file.
    pub(crate) fn torrent_file(&self) -> PathBuf {
        self.dir.path().join("rootimg.torrent")
    }

    /// Where a fetch goes.
    pub(crate) fn output(&self) -> PathBuf {
        self.dir.path().join("fetched")
    }
}
