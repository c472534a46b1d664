//! Whether a piece is what the torrent says.
//!
//! The pieces of a hybrid torrent are compared by the SHA-256 of their blocks (BEP 52), which covers all
//! that SHA-1 does: four blocks are hashed at once, in 0.7 cycles per byte against 0.5 for SHA-1 of four
//! pieces and 1.3 for that of one. A processor without instructions for SHA-256 takes twice as
//! long for it as for SHA-1, so there it is done only when the caller asks for it.

use std::sync::Arc;

use proto::geometry::{BLOCK_LEN, PieceIndex};
use proto::hash::{PieceHash, Sha256Digest};
use proto::merkle::{BlockTree, Node};
use proto::metainfo::Metainfo;
use sys::{sha1, sha256};

/// The digests of a torrent.
#[derive(Debug)]
pub(crate) struct Digests {
    metainfo: Arc<Metainfo>,
    by_blocks: bool,
}

impl Digests {
    /// With `sha256` a hybrid torrent is compared by SHA-256 whatever it costs.
    pub(crate) fn new(metainfo: Arc<Metainfo>, sha256: bool) -> Self {
        Self { metainfo, by_blocks: sha256 || sha256::is_quick() }
    }

    fn tree(&self) -> Option<&BlockTree> {
        self.metainfo.info.tree().filter(|_| self.by_blocks)
    }

    /// How many pieces are best compared together: four inputs fill the processor.
    pub(crate) fn batch(&self) -> usize {
        let blocks = self.metainfo.info.geometry.piece_length() / BLOCK_LEN;
        match self.tree() {
            Some(_) => (sha256::LANES / blocks as usize).max(1),
            None => sha1::LANES,
        }
    }

    /// Which of these pieces are good.
    pub(crate) fn compare(&self, pieces: &[(PieceIndex, &[u8])]) -> Vec<bool> {
        let data: Vec<&[u8]> = pieces.iter().map(|(_, data)| *data).collect();
        let indices = pieces.iter().map(|(piece, _)| *piece);
        match self.tree() {
            Some(tree) => {
                let nodes = blocks(&data);
                indices.zip(nodes).map(|(piece, own)| tree.piece_is(piece, &own)).collect()
            }
            None => {
                let hashes = piece_hashes(&data);
                let wanted = |piece| self.metainfo.info.piece_hash(piece);
                indices.zip(hashes).map(|(piece, hash)| wanted(piece) == Some(hash)).collect()
            }
        }
    }
}

/// SHA-256 of the blocks of each piece.
pub(crate) fn blocks(pieces: &[&[u8]]) -> Vec<Vec<Node>> {
    let mut all: Vec<&[u8]> = Vec::new();
    for piece in pieces {
        all.extend(piece.chunks(BLOCK_LEN as usize));
    }
    let digests = sha256::each(&all);
    let mut rest = digests.as_slice();
    let mut nodes = Vec::new();
    for piece in pieces {
        let (own, others) = rest.split_at(piece.len().div_ceil(BLOCK_LEN as usize));
        nodes.push(own.iter().copied().map(Sha256Digest).collect());
        rest = others;
    }
    nodes
}

/// Hashes pieces, several at once where the processor can and they are of one length.
fn piece_hashes(pieces: &[&[u8]]) -> Vec<PieceHash> {
    let mut hashes = Vec::with_capacity(pieces.len());
    for few in pieces.chunks(sha1::LANES) {
        // with two or three the places of the others are filled with one of them
        let lane = |number: usize| few.get(number).or(few.first()).copied().unwrap_or_default();
        let together = if few.len() > 1 { sha1::four(std::array::from_fn(lane)) } else { None };
        match together {
            Some(all) => hashes.extend(all.into_iter().take(few.len()).map(PieceHash)),
            None => hashes.extend(few.iter().map(|piece| PieceHash::of(piece))),
        }
    }
    hashes
}

#[cfg(test)]
mod tests {
    use proto::geometry::Geometry;
    use proto::merkle;
    use proto::metainfo::Info;

    use super::*;

    /// A torrent of `bytes` whose hashes of one kind, or of none, are wrong.
    fn digests(bytes: &[u8], length: u32, wrong_v1: bool, sha256: bool) -> Digests {
        let geometry = Geometry::new(bytes.len() as u64, length.into()).unwrap();
        let level = merkle::piece_level(geometry.total(), length);
        let pieces = bytes.chunks(length as usize);
        let layer = pieces.clone().map(|p| merkle::root(&merkle::blocks(p), 0, level)).collect();
        let first = |p: &[u8]| PieceHash::of(if wrong_v1 { b"" } else { p });
        let info = Info::new("image", geometry, true, pieces.map(first).collect()).unwrap();
        let info = if sha256 { info.with_tree(layer).unwrap() } else { info };
        let metainfo = Metainfo::new(info, Vec::new(), Vec::new(), None).unwrap();
        Digests::new(Arc::new(metainfo), true)
    }

    #[test]
    fn hybrid_pieces_are_compared_by_sha256() {
        for (total, length) in [(300_000, 16_384), (300_000, 65_536), (40_000, 65_536)] {
            let mut bytes: Vec<u8> = (0..=250_u8).cycle().take(total).collect();
            for (wrong_v1, sha256) in [(false, false), (false, true), (true, true)] {
                let digests = digests(&bytes, length, wrong_v1, sha256);
                let all = |bytes: &[u8]| -> Vec<bool> {
                    let pieces = bytes.chunks(length as usize);
                    digests.compare(&(0..).map(PieceIndex).zip(pieces).collect::<Vec<_>>())
                };
                assert!(all(&bytes).into_iter().all(|good| good), "{total} {length} {sha256}");
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                let wrong: Vec<bool> = all(&bytes);
                assert_eq!(wrong.iter().filter(|good| !**good).count(), 1);
                assert_eq!(wrong.last(), Some(&false));
                bytes[last] ^= 1;
            }
        }
    }

    #[test]
    fn four_inputs_are_hashed_together() {
        let bytes = vec![0; 1 << 20];
        let batch = |length, sha256| digests(&bytes, length, false, sha256).batch();
        assert_eq!([16, 32, 64, 256].map(|kib| batch(kib << 10, true)), [4, 2, 1, 1]);
        assert_eq!([16, 32, 64, 256].map(|kib| batch(kib << 10, false)), [4; 4]);
    }

    #[test]
    fn several_pieces_have_the_hashes_that_each_has_alone() {
        let bytes: Vec<u8> = (0..=250_u8).cycle().take(100_000).collect();
        let mut pieces: Vec<&[u8]> = bytes.chunks(8_000).collect();
        // a short one in the middle, too
        pieces.insert(2, &bytes[5..77]);
        for count in 0..pieces.len() {
            let alone: Vec<PieceHash> = pieces[..count].iter().map(|p| PieceHash::of(p)).collect();
            assert_eq!(piece_hashes(&pieces[..count]), alone, "{count}");
        }
    }
}
