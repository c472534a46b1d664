//! The set of pieces a peer has, in the bit order of the wire (BEP 3: high bit first).

use crate::geometry::PieceIndex;

/// A fixed-size set of piece indices.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitfield {
    bytes: Vec<u8>,
    pieces: u32,
    ones: u32,
}

/// A bitfield message of the wrong length, or with bits set past the last piece.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BitfieldError {
    /// Length in bytes does not fit the number of pieces.
    #[error("bitfield of {got} bytes where {expected} were expected")]
    Length {
        /// Bytes expected.
        expected: usize,
        /// Bytes received.
        got: usize,
    },
    /// A spare bit at the end is set.
    #[error("bitfield names pieces beyond the last one")]
    SpareBits,
}

impl Bitfield {
    /// The empty set over `pieces` pieces.
    #[must_use]
    pub fn empty(pieces: u32) -> Self {
        Self { bytes: vec![0; byte_len(pieces)], pieces, ones: 0 }
    }

    /// The full set over `pieces` pieces.
    #[must_use]
    pub fn full(pieces: u32) -> Self {
        let mut bytes = vec![0xff; byte_len(pieces)];
        if let (Some(last), spare @ 1..) = (bytes.last_mut(), spare_bits(pieces)) {
            *last = 0xff << spare;
        }
        Self { bytes, pieces, ones: pieces }
    }

    /// Reads the payload of a bitfield message.
    ///
    /// # Errors
    /// [`BitfieldError`] when it does not fit `pieces`.
    pub fn from_bytes(bytes: &[u8], pieces: u32) -> Result<Self, BitfieldError> {
        let expected = byte_len(pieces);
        if bytes.len() != expected {
            return Err(BitfieldError::Length { expected, got: bytes.len() });
        }
        let spare_mask = (1u16 << spare_bits(pieces)) - 1;
        if bytes.last().is_some_and(|last| u16::from(*last) & spare_mask != 0) {
            return Err(BitfieldError::SpareBits);
        }
        let ones = bytes.iter().map(|b| b.count_ones()).sum();
        Ok(Self { bytes: bytes.to_vec(), pieces, ones })
    }

    /// The payload of a bitfield message.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of pieces the set ranges over.
    #[must_use]
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// Number of pieces in the set.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.ones
    }

    /// Whether every piece is in the set.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ones == self.pieces
    }

    /// Whether no piece is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ones == 0
    }

    /// Whether the piece is in the set; an index out of range is not.
    #[must_use]
    pub fn has(&self, piece: PieceIndex) -> bool {
        piece.0 < self.pieces
            && self.bytes.get(piece.as_usize() / 8).is_some_and(|b| b & mask(piece) != 0)
    }

    /// Adds a piece; true when it was not in the set before. Out of range is ignored.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        if piece.0 >= self.pieces || self.has(piece) {
            return false;
        }
        self.bytes[piece.as_usize() / 8] |= mask(piece);
        self.ones += 1;
        true
    }

    /// Removes a piece; true when it was in the set.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        if !self.has(piece) {
            return false;
        }
        self.bytes[piece.as_usize() / 8] &= !mask(piece);
        self.ones -= 1;
        true
    }

    /// The pieces in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.bytes.iter().zip(0u32..).filter(|(byte, _)| **byte != 0).flat_map(|(byte, at)| {
            (0..8)
                .filter(move |bit| byte & (0x80 >> bit) != 0)
                .map(move |bit| PieceIndex(at * 8 + bit))
        })
    }
}

impl std::fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bitfield({}/{})", self.ones, self.pieces)
    }
}

fn byte_len(pieces: u32) -> usize {
    pieces.div_ceil(8) as usize
}

fn spare_bits(pieces: u32) -> u32 {
    pieces.div_ceil(8) * 8 - pieces
}

fn mask(piece: PieceIndex) -> u8 {
    0x80 >> (piece.0 % 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(pieces in 1u32..200, picks in prop::collection::vec(0u32..220, 0..100)) {
            let mut field = Bitfield::empty(pieces);
            let mut set = std::collections::BTreeSet::new();
            for pick in picks {
                prop_assert_eq!(field.insert(PieceIndex(pick)), pick < pieces && set.insert(pick));
            }
            prop_assert_eq!(field.iter().map(|p| p.0).collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
            let again = Bitfield::from_bytes(field.as_bytes(), pieces).unwrap();
            prop_assert_eq!(again, field);
        }

        #[test]
        fn full_is_full(pieces in 1u32..200) {
            let full = Bitfield::full(pieces);
            prop_assert_eq!(full.iter().count(), pieces as usize);
            prop_assert!(full.is_full());
            prop_assert_eq!(Bitfield::from_bytes(full.as_bytes(), pieces).unwrap(), full);
        }
    }

    #[test]
    fn refuses_wrong_payloads() {
        assert!(matches!(Bitfield::from_bytes(&[0, 0], 8), Err(BitfieldError::Length { .. })));
        assert_eq!(Bitfield::from_bytes(&[0x01], 7), Err(BitfieldError::SpareBits));
    }
}
