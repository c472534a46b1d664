//! Every link of the chain, broken once.

use std::collections::BTreeMap;

use proto::geometry::Geometry;
use proto::hash::PieceHash;
use proto::manifest::{Artefact, MANIFEST_VERSION};
use proto::metainfo::Info;

use super::*;

fn sample_torrent() -> (Metainfo, Vec<u8>) {
    let geometry = Geometry::new(40_000, 32_768).unwrap();
    let info = Info::new("rootimg.sfs", geometry, false, vec![PieceHash([1; 20]); 2]).unwrap();
    let metainfo =
        Metainfo::new(info, vec![vec!["http://t/announce".into()]], vec![], None).unwrap();
    let bytes = metainfo.to_bytes().unwrap();
    (metainfo, bytes)
}

fn sample_manifest() -> Manifest {
    let (metainfo, bytes) = sample_torrent();
    let image = Artefact { length: 40_000, sha256: Sha256Digest([3; 32]) };
    let torrent = Artefact { length: bytes.len() as u64, sha256: Sha256Digest::of(&bytes) };
    Manifest {
        version: MANIFEST_VERSION,
        name: "demo".into(),
        artefacts: BTreeMap::from([(ArtefactKind::Image, image), (ArtefactKind::Torrent, torrent)]),
        info_hash: metainfo.info_hash,
        kernel_release: None,
        build: BTreeMap::new(),
    }
}

fn read(manifest: &Manifest, pin: Option<Pin>) -> Result<(Manifest, Sha256Digest), TrustError> {
    super::manifest(&manifest.to_bytes().unwrap(), pin)
}

#[test]
fn a_whole_chain_is_accepted() {
    let (metainfo, bytes) = sample_torrent();
    let digest = Sha256Digest::of(&sample_manifest().to_bytes().unwrap());
    for pin in [None, Some(Pin::Manifest(digest)), Some(Pin::InfoHash(metainfo.info_hash))] {
        let found = read(&sample_manifest(), pin).unwrap();
        let trusted = torrent(bytes.clone(), Some(found), pin).unwrap();
        assert_eq!(trusted.manifest_sha256, Some(digest));
        assert_eq!(trusted.torrent, bytes);
    }
    let bare = torrent(bytes, None, Some(Pin::InfoHash(metainfo.info_hash))).unwrap();
    assert_eq!(bare.manifest_sha256, None);
}

#[test]
fn a_wrong_pin_is_final() {
    let (_, bytes) = sample_torrent();
    let error = read(&sample_manifest(), Some(Pin::Manifest(Sha256Digest([9; 32])))).unwrap_err();
    assert!(matches!(error, TrustError::ManifestPin { .. }) && !error.may_pass(), "{error}");
    let other = Some(Pin::InfoHash(InfoHash([9; 20])));
    let error = read(&sample_manifest(), other).unwrap_err();
    assert!(matches!(error, TrustError::InfoHashPin { .. }) && !error.may_pass(), "{error}");
    let error = torrent(bytes.clone(), None, other).unwrap_err();
    assert!(matches!(error, TrustError::InfoHashPin { .. }), "{error}");
    let error = torrent(bytes, None, Some(Pin::Manifest(Sha256Digest([9; 32])))).unwrap_err();
    assert_eq!(error, TrustError::PinNeedsManifest);
}

#[test]
fn a_web_page_may_go_away() {
    let page = b"\n<!DOCTYPE html><title>502</title>".to_vec();
    // also with a pin: the page says nothing about what the server will have later
    let pin = Some(Pin::Manifest(Sha256Digest([9; 32])));
    for error in [
        super::manifest(&page, pin).unwrap_err(),
        torrent(page.clone(), None, None).unwrap_err(),
        torrent(page, read(&sample_manifest(), None).ok(), None).unwrap_err(),
    ] {
        assert!(error.may_pass(), "{error}");
        assert!(error.to_string().contains("a web page"), "{error}");
    }
}

#[test]
fn a_corrupt_torrent_is_named() {
    let (_, mut bytes) = sample_torrent();
    let manifest = read(&sample_manifest(), None).unwrap();
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    let error = torrent(bytes.clone(), Some(manifest), None).unwrap_err();
    assert!(matches!(error, TrustError::TorrentDigest { html: false, .. }), "{error}");
    bytes.truncate(last);
    let error = torrent(bytes, None, None).unwrap_err();
    assert!(matches!(error, TrustError::Torrent { html: false, .. }), "{error}");
}

#[test]
fn a_manifest_that_contradicts_its_torrent_is_refused() {
    let (_, bytes) = sample_torrent();
    let mut wrong = sample_manifest();
    wrong.info_hash = InfoHash([8; 20]);
    let error = torrent(bytes.clone(), read(&wrong, None).ok(), None).unwrap_err();
    assert!(error.to_string().contains("info-hash") && !error.may_pass(), "{error}");
    let mut wrong = sample_manifest();
    wrong.artefacts.get_mut(&ArtefactKind::Image).unwrap().length = 5;
    let error = torrent(bytes, read(&wrong, None).ok(), None).unwrap_err();
    assert!(error.to_string().contains("image length 5"), "{error}");
}
