//! Questions for nodes of a merkle tree: what messages 21 to 23 of BEP 52 are about.

use crate::merkle::Node;

/// Some nodes next to each other on one level of a file's tree, and their proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashRange {
    /// `pieces root`: which file.
    pub root: Node,
    /// Their level: 0 are the blocks.
    pub base_layer: u32,
    /// The first of them, counted on its level. A multiple of `length`.
    pub index: u32,
    /// How many: a power of two.
    pub length: u32,
    /// Levels above `base_layer` of which the nodes are given that lead up to the root.
    pub proof_layers: u32,
}

impl HashRange {
    /// Bytes on the wire.
    pub const LEN: usize = 48;

    /// Reads it; nothing but the length is checked.
    #[must_use]
    pub fn parse(bytes: &[u8; Self::LEN]) -> Self {
        let (root, rest) = bytes.split_at(32);
        let mut words = rest.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word));
        let mut next = || words.next().unwrap_or_default();
        Self {
            root: Node::from_slice(root).unwrap_or(Node::ZERO),
            base_layer: next(),
            index: next(),
            length: next(),
            proof_layers: next(),
        }
    }

    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let (root, rest) = out.split_at_mut(32);
        root.copy_from_slice(self.root.as_bytes());
        let words = [self.base_layer, self.index, self.length, self.proof_layers];
        for (place, word) in rest.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *place = word.to_be_bytes();
        }
        out
    }
}
