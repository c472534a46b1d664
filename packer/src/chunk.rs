//! The hashes of a part of an image whose length, and so the length of its pieces, is not known yet.

use proto::geometry::BLOCK_LEN;
use proto::hash::PieceHash;
use proto::merkle::Node;

use crate::{hashes, piece_length, verity};

/// Bytes of a chunk: the longest piece, so that a piece of whatever length lies in one chunk.
pub(crate) const CHUNK: usize = piece_length::MAX as usize;

/// Blocks of a whole chunk.
pub(crate) const BLOCKS: usize = CHUNK / BLOCK_LEN as usize;

/// Lengths that a piece may turn out to have: each the double of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidates {
    /// The shortest.
    pub(crate) from: u32,
    /// The longest.
    pub(crate) to: u32,
}

impl Candidates {
    /// Just this one.
    pub(crate) fn only(length: u32) -> Self {
        Self { from: length, to: length }
    }

    /// Whether this is one of them.
    pub(crate) fn has(self, length: u32) -> bool {
        self.lengths().any(|candidate| candidate == length)
    }

    fn lengths(self) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(self.from), |length| length.checked_mul(2))
            .take_while(move |length| *length <= self.to)
    }
}

/// The hashes of one chunk.
#[derive(Debug)]
pub(crate) struct ChunkHashes {
    /// SHA-256 of each block.
    pub(crate) blocks: Vec<Node>,
    /// SHA-1 of each piece, by length of a piece.
    pieces: Vec<(u32, Vec<PieceHash>)>,
    /// For a dm-verity tree, [`verity::leaves`]; empty when there is to be none.
    pub(crate) leaves: Vec<u8>,
}

impl ChunkHashes {
    /// Hashes `bytes`, at most a chunk; for a dm-verity tree as well, if `verity`.
    pub(crate) fn of(bytes: &[u8], candidates: Candidates, verity: bool) -> Self {
        let pieces = candidates.lengths().map(|length| {
            let pieces: Vec<&[u8]> = bytes.chunks(length as usize).collect();
            (length, hashes::of_pieces(&pieces))
        });
        let leaves = if verity { verity::leaves(bytes) } else { Vec::new() };
        Self { pieces: pieces.collect(), blocks: hashes::of_blocks(&[bytes]), leaves }
    }

    /// SHA-1 of its pieces of that length, if that was among the candidates.
    pub(crate) fn pieces(&self, length: u32) -> Option<&[PieceHash]> {
        let found = self.pieces.iter().find(|(candidate, _)| *candidate == length);
        found.map(|(_, hashes)| hashes.as_slice())
    }
}
