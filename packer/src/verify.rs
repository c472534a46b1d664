//! Reading a revision back: is every byte still what the manifest says?

use std::fmt;
use std::fs;
use std::io;

use proto::manifest::{Artefact, ArtefactKind, HybridHashes, Manifest};
use proto::merkle::BlockTree;
use proto::metainfo::Metainfo;
use store::{RevisionDir, StoreError};

use crate::event::{Event, Observer, Stage};
use crate::meter::Meter;
use crate::torrent::Hashes;
use crate::{digest, torrent, verity};

/// Something that is not as the manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// File name in the revision.
    pub file: String,
    /// In what it differs.
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.reason)
    }
}

/// Reads every file of the revision once; returns what is damaged.
///
/// # Errors
/// Those of reading the manifest; a part that cannot be read is a [`Damage`].
pub fn verify(revision: &RevisionDir, observe: Observer<'_>) -> Result<Vec<Damage>, StoreError> {
    let manifest = match revision.manifest() {
        Ok(manifest) => manifest,
        Err(e @ (StoreError::Altered { .. } | StoreError::Manifest { .. })) => {
            return Ok(vec![damage("manifest.json", e)]);
        }
        Err(e) => return Err(e),
    };
    observe(Event::Stage { stage: Stage::Hash });
    let mut found = Vec::new();
    for (kind, expected) in &manifest.artefacts {
        if *kind != ArtefactKind::Image {
            let actual = digest::artefact(&revision.artefact(*kind));
            found.extend(compare(*kind, expected, actual));
        }
    }
    found.extend(image(revision, &manifest, observe));
    Ok(found)
}

/// The image against the manifest, and against its torrent if that is usable.
fn image(revision: &RevisionDir, manifest: &Manifest, observe: Observer<'_>) -> Vec<Damage> {
    let mut found = Vec::new();
    let Some(expected) = manifest.artefact(ArtefactKind::Image) else { return found };
    let torrent_file = ArtefactKind::Torrent.file_name();
    let metainfo = fs::read(revision.torrent())
        .map_err(|e| damage(torrent_file, e))
        .and_then(|bytes| Metainfo::parse(&bytes).map_err(|e| damage(torrent_file, e)));
    let metainfo = metainfo.map_err(|e| found.push(e)).ok();
    if let Some(metainfo) = &metainfo {
        if metainfo.info_hash != manifest.info_hash {
            found.push(damage(torrent_file, "its info-hash is not the manifest's"));
        }
        if manifest.v2.is_some() && HybridHashes::of(metainfo) != manifest.v2 {
            found.push(damage(torrent_file, "its BEP 52 hashes are not the manifest's"));
        }
        if metainfo.info.geometry.total() != expected.length {
            found.push(damage(torrent_file, "its length is not the image's"));
        }
    }
    let piece_length = metainfo.as_ref().map_or(1 << 20, |m| m.info.geometry.piece_length());
    let mut meter = Meter::new(observe, Stage::Hash, expected.length);
    let hashed = torrent::hash(&revision.image(), piece_length, |done| meter.bytes(done));
    if let (Some(metainfo), Ok(hashes)) = (&metainfo, &hashed) {
        found.extend(compare_pieces(metainfo, hashes));
    }
    found.extend(compare(ArtefactKind::Image, &expected, hashed.map(|hashes| hashes.whole)));
    if let Some(verity) = &manifest.verity {
        let path = revision.image();
        // what cannot be read was told above
        if verity::fits(&path, verity).is_ok_and(|fits| !fits) {
            found.push(damage(
                ArtefactKind::Image.file_name(),
                "its dm-verity tree is not the manifest's",
            ));
        }
    }
    found
}

/// The first and the number of the pieces that differ, by SHA-1 or by the SHA-256 of their blocks.
fn compare_pieces(metainfo: &Metainfo, hashes: &Hashes) -> Option<Damage> {
    let layer = metainfo.info.tree().map(BlockTree::layer);
    let differs = metainfo.info.geometry.indices().filter(|index| {
        let at = index.as_usize();
        metainfo.info.piece_hash(*index) != hashes.pieces.get(at).copied()
            || layer.is_some_and(|layer| layer.get(at) != hashes.layer.get(at))
    });
    let offsets: Vec<u64> = differs.map(|i| metainfo.info.geometry.piece_offset(i)).collect();
    let first = offsets.first()?;
    let reason =
        format!("{} pieces differ from the torrent, the first at byte {first}", offsets.len());
    Some(damage(ArtefactKind::Image.file_name(), reason))
}

fn compare(
    kind: ArtefactKind,
    expected: &Artefact,
    actual: io::Result<Artefact>,
) -> Option<Damage> {
    let reason = match actual {
        Ok(actual) if actual == *expected => return None,
        Ok(actual) if actual.length != expected.length => {
            format!("has {} bytes, not {}", actual.length, expected.length)
        }
        Ok(actual) => format!("has SHA-256 {}, not {}", actual.sha256, expected.sha256),
        Err(e) => e.to_string(),
    };
    Some(damage(kind.file_name(), reason))
}

fn damage(file: &str, reason: impl fmt::Display) -> Damage {
    Damage { file: file.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use proto::hash::Sha256Digest;
    use proto::merkle;

    use super::*;
    use crate::torrent::TorrentFormat;

    #[test]
    fn both_kinds_of_hashes_are_compared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let bytes: Vec<u8> = (0..=250_u8).cycle().take(100_000).collect();
        fs::write(&path, &bytes).unwrap();
        let hash = || torrent::hash(&path, 32_768, |_| {}).unwrap();
        let good = torrent::info(hash(), 32_768, false, TorrentFormat::Hybrid).unwrap();
        let mut layer = merkle::layer(&bytes, 32_768);
        layer[2] = Sha256Digest::ZERO;
        let wrong = torrent::info(hash(), 32_768, false, TorrentFormat::V1).unwrap();
        let wrong = wrong.with_tree(layer).unwrap();
        let compare = |info| compare_pieces(&torrent::metainfo(info, &[], &[]).unwrap(), &hash());
        assert_eq!(compare(good), None);
        let damage = compare(wrong).unwrap().to_string();
        assert!(damage.contains("1 pieces differ") && damage.contains("65536"), "{damage}");
    }
}
