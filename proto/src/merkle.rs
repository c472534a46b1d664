//! Merkle trees of SHA-256 over the 16 KiB blocks of a file (BEP 52).
//!
//! Level 0 are the blocks' digests, each level above has one node for two of the level below. What
//! lies past the end of the file counts as a digest of zeros at level 0.

use sha2::Digest as _;

use crate::geometry::{BLOCK_LEN, Geometry, PieceIndex};
use crate::hash::Sha256Digest;
use crate::hash_range::HashRange;

/// A node of the tree: the SHA-256 of a block, or of the two nodes below it.
pub type Node = Sha256Digest;

/// Most hashes in an answer (BEP 52 says that more should not be asked for).
pub const MAX_HASHES: u32 = 512;

/// Why piece hashes are no tree of a content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Number of hashes differs from number of pieces.
    #[error("`piece layers` has {hashes} hashes for {pieces} pieces")]
    LayerLength {
        /// Hashes found.
        hashes: usize,
        /// Pieces that the lengths give.
        pieces: u32,
    },
    /// The hashes lead to another root.
    #[error("`piece layers` does not hash to `pieces root`: {got} instead of {wanted}")]
    Root {
        /// In the torrent.
        wanted: Node,
        /// Of the hashes.
        got: Node,
    },
}

/// The node above two others.
#[must_use]
pub fn parent(left: Node, right: Node) -> Node {
    let mut pair = sha2::Sha256::new();
    pair.update(left.0);
    pair.update(right.0);
    Sha256Digest(pair.finalize().into())
}

/// The node at `level` over nothing but blocks past the end.
#[must_use]
pub fn padding(level: u32) -> Node {
    (0..level).fold(Node::ZERO, |node, _| parent(node, node))
}

/// The node `height` levels above `nodes`, which are the first of those at `level`; the others lie past
/// the end.
#[must_use]
pub fn root(nodes: &[Node], level: u32, height: u32) -> Node {
    let mut nodes = nodes.to_vec();
    let mut pad = padding(level);
    for _ in 0..height {
        nodes = nodes.chunks(2).map(|two| parent(two[0], *two.get(1).unwrap_or(&pad))).collect();
        pad = parent(pad, pad);
    }
    nodes.first().copied().unwrap_or(pad)
}

/// `pieces root` of a file with these blocks, whatever the length of its pieces: the tree has as many
/// levels as the blocks need.
#[must_use]
pub fn pieces_root(blocks: &[Node]) -> Node {
    root(blocks, 0, blocks.len().next_power_of_two().ilog2())
}

/// The part of a file's tree that a torrent has: its root and the nodes that stand for pieces. One
/// that exists fits its geometry, and the pieces hash to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockTree {
    root: Node,
    layer: Vec<Node>,
    /// Level of the layer: a node there is over one piece.
    level: u32,
    /// Level of the root.
    height: u32,
}

impl BlockTree {
    /// The tree of a content with the node of each piece.
    ///
    /// # Errors
    /// [`TreeError::LayerLength`].
    pub fn new(geometry: &Geometry, layer: Vec<Node>) -> Result<Self, TreeError> {
        let pieces = geometry.pieces();
        if layer.len() != pieces as usize {
            return Err(TreeError::LayerLength { hashes: layer.len(), pieces });
        }
        let level = piece_level(geometry.total(), geometry.piece_length());
        let height = level + pieces.next_power_of_two().ilog2();
        Ok(Self { root: root(&layer, level, height - level), layer, level, height })
    }

    /// `pieces root`.
    #[must_use]
    pub fn root(&self) -> Node {
        self.root
    }

    /// The node of each piece: `piece layers`, or the root of a file of one piece.
    #[must_use]
    pub fn layer(&self) -> &[Node] {
        &self.layer
    }

    /// Whether a piece consists of blocks with these digests.
    #[must_use]
    pub fn piece_is(&self, piece: PieceIndex, blocks: &[Node]) -> bool {
        self.layer.get(piece.as_usize()) == Some(&root(blocks, 0, self.level))
    }

    /// What to ask for to learn the digests of a piece's blocks. `None` when they are known, or too
    /// many for one question.
    #[must_use]
    pub fn blocks_of(&self, piece: PieceIndex) -> Option<HashRange> {
        let length = 1 << self.level;
        let index = piece.0.checked_mul(length)?;
        let range = HashRange { root: self.root, base_layer: 0, index, length, proof_layers: 0 };
        (2..=MAX_HASHES).contains(&length).then_some(range)
    }

    /// The piece of which blocks' digests are asked for.
    #[must_use]
    pub fn piece_of(&self, range: &HashRange) -> Option<PieceIndex> {
        let below = range.root == self.root && range.base_layer == 0 && self.level > 0;
        below.then(|| PieceIndex(range.index >> self.level))
    }

    /// The answer to a question for hashes: those of the base layer, then the uncles from the lowest
    /// on. `blocks` are the digests of the blocks of [`Self::piece_of`]. `None` when this is no
    /// question that is answered: only for blocks of one piece and for pieces, as BEP 52 demands.
    #[must_use]
    pub fn answer(&self, range: &HashRange, blocks: &[Node]) -> Option<Vec<Node>> {
        let &HashRange { root, base_layer, index, length, proof_layers } = range;
        let whole = length.is_power_of_two() && (2..=MAX_HASHES).contains(&length);
        let width = 1u32.checked_shl(self.height.checked_sub(base_layer)?)?;
        let fits = index.is_multiple_of(length.max(1)) && index < width && length <= width;
        let known = base_layer == self.level || (base_layer == 0 && length <= 1 << self.level);
        if root != self.root || !(whole && fits && known) {
            return None;
        }
        // the root itself needs no proof
        if proof_layers >= self.height - base_layer {
            return None;
        }
        let node = |level: u32, at: u32| {
            let (nodes, below, from) = if level >= self.level {
                (self.layer.as_slice(), self.level, 0)
            } else {
                let first = (index >> (self.level - base_layer)) << (self.level - level);
                (blocks, 0, first)
            };
            let up = level - below;
            let range = span(nodes.len(), (at - from) << up, 1 << up);
            self::root(nodes.get(range).unwrap_or_default(), below, up)
        };
        let base = (index..index + length).map(|at| node(base_layer, at));
        let uncles =
            (length.ilog2()..=proof_layers).map(|up| node(base_layer + up, (index >> up) ^ 1));
        Some(base.chain(uncles).collect())
    }
}

/// The part of `from..from + count` that exists.
fn span(length: usize, from: u32, count: u32) -> std::ops::Range<usize> {
    let from = (from as usize).min(length);
    from..(from + count as usize).min(length)
}

/// The level of the nodes that stand for pieces of a file of `total` bytes. A file of one piece has no
/// higher tree than its blocks need.
#[must_use]
pub fn piece_level(total: u64, piece_length: u32) -> u32 {
    let bytes = total.clamp(1, u64::from(piece_length.max(1)));
    bytes.div_ceil(u64::from(BLOCK_LEN)).next_power_of_two().ilog2()
}

/// The digests of a piece's blocks, one after the other. Where many are made, make several at once.
#[must_use]
pub fn blocks(piece: &[u8]) -> Vec<Node> {
    piece.chunks(BLOCK_LEN as usize).map(Sha256Digest::of).collect()
}

/// The node of each piece of a content in memory: what [`BlockTree::new`] wants.
#[must_use]
pub fn layer(content: &[u8], piece_length: u32) -> Vec<Node> {
    let level = piece_level(content.len() as u64, piece_length);
    let pieces = content.chunks(piece_length.max(1) as usize);
    pieces.map(|piece| root(&blocks(piece), 0, level)).collect()
}

#[cfg(test)]
mod tests;
