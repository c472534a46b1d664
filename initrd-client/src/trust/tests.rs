//! Every link of the chain, broken once.

use std::collections::BTreeMap;

use proto::geometry::Geometry;
use proto::hash::PieceHash;
use proto::manifest::{Artefact, MANIFEST_VERSION};
use proto::metainfo::Info;
use proto::signature::{PublicKey, TrustedComment};

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
        v2: None,
        verity: None,
        kernel_release: None,
        build: BTreeMap::new(),
    }
}

fn pinned(pin: Option<Pin>) -> Demands {
    Demands { pin, policy: None }
}

fn read(manifest: &Manifest, pin: Option<Pin>) -> Result<Accepted, TrustError> {
    super::manifest(&manifest.to_bytes().unwrap(), None, &pinned(pin))
}

fn torrent(
    bytes: Vec<u8>,
    accepted: Option<Accepted>,
    pin: Option<Pin>,
) -> Result<Trusted, TrustError> {
    super::torrent(bytes, accepted, &pinned(pin))
}

/// A key pair, and a policy that trusts it.
struct Signer {
    pair: minisign::KeyPair,
    policy: TrustPolicy,
}

impl Signer {
    fn new() -> Self {
        let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let key: PublicKey = pair.pk.to_base64().parse().unwrap();
        Self { pair, policy: TrustPolicy::new(vec![key]).unwrap() }
    }

    fn sign(&self, bytes: &[u8], comment: &str) -> Vec<u8> {
        let signed = minisign::sign(None, &self.pair.sk, bytes, Some(comment), None).unwrap();
        signed.to_bytes()
    }

    fn demands(&self) -> Demands {
        Demands { pin: None, policy: Some(self.policy.clone()) }
    }
}

fn signed_by(pin: Option<Pin>) -> Demands {
    Demands { pin, ..Signer::new().demands() }
}

#[test]
fn a_signed_chain_is_accepted() {
    let signer = Signer::new();
    let (metainfo, bytes) = sample_torrent();
    let manifest = sample_manifest().to_bytes().unwrap();
    let digest = Sha256Digest::of(&manifest);
    let comment = TrustedComment::text(UnixTime(1000), "demo", "0123456789ab");
    let signature = signer.sign(&manifest, &comment);
    for pin in [None, Some(Pin::Manifest(digest)), Some(Pin::InfoHash(metainfo.info_hash))] {
        let demands = Demands { pin, ..signer.demands() };
        let accepted = super::manifest(&manifest, Some(&signature), &demands).unwrap();
        let trusted = super::torrent(bytes.clone(), Some(accepted), &demands).unwrap();
        let signed = trusted.signed.unwrap();
        assert_eq!((signed.name.as_str(), signed.sha256), ("demo", Sha256Digest([3; 32])));
        assert_eq!(signed.by.comment.time, Some(UnixTime(1000)));
        assert_eq!(trusted.manifest_sha256, Some(digest));
    }
    // and a pin is still held against it
    let other = Demands { pin: Some(Pin::Manifest(Sha256Digest([9; 32]))), ..signer.demands() };
    let error = super::manifest(&manifest, Some(&signature), &other).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused, "{error}");
    // a node that demands nothing is not stopped by a signature that it cannot judge
    let found = super::manifest(&manifest, Some(b"garbage"), &Demands::default()).unwrap();
    assert_eq!(torrent(bytes, Some(found), None).unwrap().signed, None);
}

#[test]
fn every_broken_signature_has_its_own_answer() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let manifest = sample_manifest().to_bytes().unwrap();
    let comment = TrustedComment::text(UnixTime(1000), "demo", "0123456789ab");
    let signature = signer.sign(&manifest, &comment);
    let mut altered = manifest.clone();
    altered[20] ^= 1;
    let newer = String::from_utf8(signature.clone()).unwrap().replace("timestamp:1", "timestamp:2");
    for (manifest, signature, exit, words) in [
        (&manifest, None, Exit::Unsigned, "bee-packer sign"),
        (
            &manifest,
            Some(stranger.sign(&manifest, &comment)),
            Exit::WrongKey,
            "sign it with the key",
        ),
        (&altered, Some(signature.clone()), Exit::AlteredManifest, "bee-packer verify"),
        (&manifest, Some(newer.into_bytes()), Exit::AlteredManifest, "altered"),
        (&manifest, Some(b"<html>".to_vec()), Exit::AlteredManifest, "damaged"),
    ] {
        let error = super::manifest(manifest, signature.as_deref(), &signer.demands()).unwrap_err();
        assert_eq!((error.exit(), error.patience()), (exit, Patience::Short), "{error}");
        let text = crate::discover::chain(&error);
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn what_is_not_a_manifest_cannot_be_signed() {
    let (_, bytes) = sample_torrent();
    let error = super::torrent(bytes, None, &signed_by(None)).unwrap_err();
    assert_eq!((error.exit(), error.patience()), (Exit::Unsigned, Patience::None), "{error}");
}

#[test]
fn what_was_signed_too_early_is_refused() {
    let signer = Signer::new();
    let manifest = sample_manifest().to_bytes().unwrap();
    let mut demands = signer.demands();
    demands.policy.as_mut().unwrap().not_before = Some(UnixTime(1000));
    let check = |comment: &str| {
        super::manifest(&manifest, Some(&signer.sign(&manifest, comment)), &demands)
    };
    check("timestamp:1000").unwrap();
    check("timestamp:1001\tfile:manifest.json\thashed").unwrap();
    for (comment, words) in [
        ("timestamp:999", "signed at 1970-01-01T00:16:39Z"),
        ("name:demo", "without a time"),
        ("timestamp:999\ttimestamp:2000", "00:16:39Z"),
    ] {
        let error = check(comment).unwrap_err();
        assert_eq!((error.exit(), error.patience()), (Exit::TooOld, Patience::None));
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_torrent_of_another_revision_is_refused() {
    let signer = Signer::new();
    let manifest = sample_manifest().to_bytes().unwrap();
    let signature = signer.sign(&manifest, "");
    let accepted = super::manifest(&manifest, Some(&signature), &signer.demands()).unwrap();
    let geometry = Geometry::new(40_000, 32_768).unwrap();
    let info = Info::new("rootimg.sfs", geometry, false, vec![PieceHash([2; 20]); 2]).unwrap();
    let other = Metainfo::new(info, vec![], vec![], None).unwrap().to_bytes().unwrap();
    let error = super::torrent(other, Some(accepted), &signer.demands()).unwrap_err();
    assert_eq!((error.exit(), error.patience()), (Exit::WrongTorrent, Patience::Short), "{error}");
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
    assert!(
        matches!(error, TrustError::ManifestPin { .. }) && error.patience() == Patience::None,
        "{error}"
    );
    let other = Some(Pin::InfoHash(InfoHash([9; 20])));
    let error = read(&sample_manifest(), other).unwrap_err();
    assert!(
        matches!(error, TrustError::InfoHashPin { .. }) && error.patience() == Patience::None,
        "{error}"
    );
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
        super::manifest(&page, None, &pinned(pin)).unwrap_err(),
        super::manifest(&page, None, &signed_by(pin)).unwrap_err(),
        torrent(page.clone(), None, None).unwrap_err(),
        torrent(page, read(&sample_manifest(), None).ok(), None).unwrap_err(),
    ] {
        assert_eq!(error.patience(), Patience::Endless, "{error}");
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
    assert!(
        error.to_string().contains("info-hash") && error.patience() == Patience::None,
        "{error}"
    );
    let mut wrong = sample_manifest();
    wrong.artefacts.get_mut(&ArtefactKind::Image).unwrap().length = 5;
    let error = torrent(bytes, read(&wrong, None).ok(), None).unwrap_err();
    assert!(error.to_string().contains("image length 5"), "{error}");
}
