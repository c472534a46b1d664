//! Stores and images to seed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use proto::geometry::Geometry;
use proto::hash::{PieceHash, Sha256Digest};
use proto::manifest::{Artefact, ArtefactKind, MANIFEST_VERSION, Manifest};
use proto::metainfo::{Info, Metainfo};
use store::{Channel, RevisionRef, Store};

/// Longest wait for anything that must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Bytes that look different in every piece.
pub(crate) fn image(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i / 5 + i / 16384 * 17 + seed * 101) % 251).unwrap()).collect()
}

/// A torrent of `image` in pieces of 32 KiB, with these trackers.
pub(crate) fn torrent(image: &[u8], trackers: &[&str]) -> Metainfo {
    let geometry = Geometry::new(image.len() as u64, 32768).unwrap();
    let pieces = image.chunks(32768).map(PieceHash::of).collect();
    let info = Info::new("rootimg.sfs", geometry, false, pieces).unwrap();
    let tiers = trackers.iter().map(|url| vec![(*url).to_owned()]).collect();
    Metainfo::new(info, tiers, Vec::new(), None).unwrap()
}

/// Packs and publishes a revision named `name`.
pub(crate) fn publish(store: &Store, name: &str, image: &[u8], trackers: &[&str]) -> RevisionRef {
    let reference = pack(store, name, image, trackers);
    store.publish(&reference, &Channel::default()).unwrap();
    reference
}

/// Packs a revision named `name`.
pub(crate) fn pack(store: &Store, name: &str, image: &[u8], trackers: &[&str]) -> RevisionRef {
    let torrent = torrent(image, trackers);
    let draft = store.begin().unwrap();
    let parts = [
        (ArtefactKind::Image, image.to_vec()),
        (ArtefactKind::Torrent, torrent.to_bytes().unwrap()),
        (ArtefactKind::Kernel, b"a kernel".to_vec()),
        (ArtefactKind::Initrd, b"an initrd".to_vec()),
    ];
    let mut manifest = Manifest {
        version: MANIFEST_VERSION,
        name: name.to_owned(),
        artefacts: Default::default(),
        info_hash: torrent.info_hash,
        v2: None,
        verity: None,
        kernel_release: None,
        build: Default::default(),
    };
    for (kind, bytes) in parts {
        fs::write(draft.dir().join(kind.file_name()), &bytes).unwrap();
        let artefact = Artefact { length: bytes.len() as u64, sha256: Sha256Digest::of(&bytes) };
        manifest.artefacts.insert(kind, artefact);
    }
    store.commit(draft, &manifest).unwrap().revision.reference().clone()
}

/// Overwrites a file of a revision, which no program ever does: an accident, or worse.
pub(crate) fn tamper(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    // In place, as an accident would: the revision's files may be read-only.
    let mut permissions = fs::metadata(path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(path, permissions).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Waits until `done` holds; panics with `what` after [`DEADLINE`].
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
