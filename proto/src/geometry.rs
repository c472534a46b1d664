//! How an image is cut into pieces and blocks.

use serde::{Deserialize, Serialize};

/// Bytes in a block, the unit of a request (BEP 3: everybody uses 2^14).
pub const BLOCK_LEN: u32 = 16 * 1024;

/// Smallest piece length accepted, in bytes.
pub const MIN_PIECE_LEN: u32 = 16 * 1024;

/// Largest piece length accepted, in bytes.
pub const MAX_PIECE_LEN: u32 = 64 * 1024 * 1024;

/// Most pieces accepted in one torrent: 1 Mi pieces are 20 MiB of hashes.
pub const MAX_PIECES: u32 = 1 << 20;

/// Index of a piece, checked against a [`Geometry`] when it comes from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PieceIndex(pub u32);

impl PieceIndex {
    /// As an index into a slice.
    #[must_use]
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// Part of a piece as a request names it: offset and length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// The piece.
    pub piece: PieceIndex,
    /// First byte within the piece.
    pub begin: u32,
    /// Bytes.
    pub length: u32,
}

impl Block {
    /// The blocks of [`BLOCK_LEN`] bytes that it consists of; the last one may be shorter.
    pub fn parts(self) -> impl Iterator<Item = Block> {
        (0..self.length).step_by(BLOCK_LEN as usize).map(move |at| Block {
            begin: self.begin.saturating_add(at),
            length: (self.length - at).min(BLOCK_LEN),
            ..self
        })
    }

    /// With the one behind it, when that begins where this ends and both together have at most `longest`
    /// bytes.
    #[must_use]
    pub fn joined(self, next: Block, longest: u32) -> Option<Block> {
        let length = self.length.checked_add(next.length)?;
        let follows =
            self.piece == next.piece && self.begin.checked_add(self.length) == Some(next.begin);
        (follows && length <= longest).then_some(Block { length, ..self })
    }
}

/// Why a size cannot be cut into pieces.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// Not a power of two between 16 KiB and 64 MiB.
    #[error("piece length {0} is not a power of two between 16 KiB and 64 MiB")]
    PieceLength(u64),
    /// An image of no bytes.
    #[error("the content is empty")]
    Empty,
    /// More pieces than [`MAX_PIECES`].
    #[error("{pieces} pieces are too many (at most {MAX_PIECES}): use a larger piece length")]
    TooManyPieces {
        /// Pieces that would result.
        pieces: u64,
    },
}

/// Total length and piece length of one content: the arithmetic of pieces and blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    total: u64,
    piece_length: u32,
    pieces: u32,
}

impl Geometry {
    /// Checks the two lengths, both in bytes.
    ///
    /// # Errors
    /// [`GeometryError`] names what is out of range.
    pub fn new(total: u64, piece_length: u64) -> Result<Self, GeometryError> {
        let valid = piece_length.is_power_of_two()
            && (u64::from(MIN_PIECE_LEN)..=u64::from(MAX_PIECE_LEN)).contains(&piece_length);
        let length = u32::try_from(piece_length).ok().filter(|_| valid);
        let piece_length = length.ok_or(GeometryError::PieceLength(piece_length))?;
        if total == 0 {
            return Err(GeometryError::Empty);
        }
        let pieces = total.div_ceil(u64::from(piece_length));
        match u32::try_from(pieces).ok().filter(|p| *p <= MAX_PIECES) {
            Some(pieces) => Ok(Self { total, piece_length, pieces }),
            None => Err(GeometryError::TooManyPieces { pieces }),
        }
    }

    /// Bytes of the whole content.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes of every piece but the last.
    #[must_use]
    pub fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// Number of pieces, at least one.
    #[must_use]
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// All piece indices.
    pub fn indices(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + use<> {
        (0..self.pieces).map(PieceIndex)
    }

    /// Accepts an index from outside when it names a piece.
    #[must_use]
    pub fn piece(&self, index: u32) -> Option<PieceIndex> {
        (index < self.pieces).then_some(PieceIndex(index))
    }

    /// Offset in bytes of a piece in the content.
    #[must_use]
    pub fn piece_offset(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_length)
    }

    /// Bytes of a piece; the last one may be short.
    #[must_use]
    pub fn piece_size(&self, piece: PieceIndex) -> u32 {
        let rest = self.total.saturating_sub(self.piece_offset(piece));
        u32::try_from(rest).map_or(self.piece_length, |rest| rest.min(self.piece_length))
    }

    /// Number of 16 KiB blocks in a piece.
    #[must_use]
    pub fn blocks_in(&self, piece: PieceIndex) -> u32 {
        self.piece_size(piece).div_ceil(BLOCK_LEN)
    }

    /// The block with a number within its piece.
    #[must_use]
    pub fn block(&self, piece: PieceIndex, number: u32) -> Option<Block> {
        let begin = number.checked_mul(BLOCK_LEN)?;
        let size = self.piece_size(piece);
        (piece.0 < self.pieces && begin < size).then(|| Block {
            piece,
            begin,
            length: BLOCK_LEN.min(size - begin),
        })
    }

    /// Whether a block from outside lies within its piece and is not empty.
    #[must_use]
    pub fn contains(&self, block: Block) -> bool {
        block.piece.0 < self.pieces
            && block.length > 0
            && block
                .begin
                .checked_add(block.length)
                .is_some_and(|end| end <= self.piece_size(block.piece))
    }

    /// Offset in bytes of a block in the content.
    #[must_use]
    pub fn block_offset(&self, block: Block) -> u64 {
        self.piece_offset(block.piece) + u64::from(block.begin)
    }

    /// The piece that holds a byte of the content.
    #[must_use]
    pub fn piece_at(&self, offset: u64) -> Option<PieceIndex> {
        if offset >= self.total {
            return None;
        }
        u32::try_from(offset / u64::from(self.piece_length)).ok().map(PieceIndex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_piece_and_block_are_short() {
        let g = Geometry::new(100_000, 32_768).unwrap();
        assert_eq!(g.pieces(), 4);
        assert_eq!(g.piece_size(PieceIndex(3)), 100_000 - 3 * 32_768);
        assert_eq!(g.blocks_in(PieceIndex(0)), 2);
        assert_eq!(g.block(PieceIndex(3), 0).unwrap().length, 1696);
        assert_eq!(g.block(PieceIndex(3), 1), None);
        assert_eq!(g.block(PieceIndex(4), 0), None);
        assert_eq!(g.piece_at(99_999), Some(PieceIndex(3)));
        assert_eq!(g.piece_at(100_000), None);
    }

    #[test]
    fn blocks_cover_the_content_once() {
        let g = Geometry::new(1_000_003, 65_536).unwrap();
        let sum: u64 = g
            .indices()
            .flat_map(|p| (0..g.blocks_in(p)).map(move |n| (p, n)))
            .map(|(p, n)| u64::from(g.block(p, n).unwrap().length))
            .sum();
        assert_eq!(sum, g.total());
    }

    #[test]
    fn refuses_bad_sizes() {
        assert_eq!(Geometry::new(1, 1000), Err(GeometryError::PieceLength(1000)));
        assert_eq!(Geometry::new(1, 1 << 40), Err(GeometryError::PieceLength(1 << 40)));
        assert_eq!(Geometry::new(0, 1 << 14), Err(GeometryError::Empty));
        assert!(matches!(
            Geometry::new(u64::MAX, 1 << 14),
            Err(GeometryError::TooManyPieces { .. })
        ));
        let g = Geometry::new(16_384, 16_384).unwrap();
        assert!(!g.contains(Block { piece: PieceIndex(0), begin: u32::MAX, length: 2 }));
        assert!(!g.contains(Block { piece: PieceIndex(0), begin: 0, length: 0 }));
    }
}
