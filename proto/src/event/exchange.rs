//! What only nodes know of a swarm: from whom each has its bytes, and which pieces it has.
//!
//! Both are bounded whatever the swarm is: the sixteen that gave most by address and the others as a sum,
//! and at most 2048 bits for the pieces of an image of any size.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::bitfield::Bitfield;
use crate::geometry::PieceIndex;

/// Most givers that are named.
pub const MAX_GIVERS: usize = 16;

/// Most bits of [`Holding::bits`].
pub const MAX_BITS: u32 = 2048;

/// What a node has, and from whom: sent every ten seconds while it fetches, and when it is complete.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Exchange {
    /// Who gave most, at most [`MAX_GIVERS`].
    pub from: Vec<Gift>,
    /// Verified bytes from all other peers. What web seeds gave is in
    /// [`Sources`](super::Sources) alone.
    #[serde(default)]
    pub others: u64,
    /// The pieces that it has; absent: not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holding: Option<Holding>,
}

/// What one peer gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gift {
    /// Address of the giver, as the receiver sees it.
    pub from: IpAddr,
    /// Verified bytes.
    pub bytes: u64,
}

impl Exchange {
    /// Brings what came from outside into its bounds: givers beyond [`MAX_GIVERS`] join the others, pieces
    /// that are not well told are not told.
    pub(super) fn bound(&mut self) {
        self.from.sort_by_key(|gift| std::cmp::Reverse(gift.bytes));
        let rest = self.from.iter().skip(MAX_GIVERS);
        self.others = rest.fold(self.others, |sum, gift| sum.saturating_add(gift.bytes));
        self.from.truncate(MAX_GIVERS);
        if self.holding.as_ref().is_some_and(|holding| holding.groups().is_none()) {
            self.holding = None;
        }
    }
}

/// The pieces that a node has. Beyond [`MAX_BITS`] pieces a bit stands for some pieces in a row, and is
/// set when all of them are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Pieces of the image.
    pub pieces: u32,
    /// The bits in hex, four per digit, the first piece in the highest bit.
    pub bits: String,
}

impl Holding {
    /// Pieces that a bit stands for, in an image of so many; 1 at least.
    #[must_use]
    pub fn pieces_per_bit(pieces: u32) -> u32 {
        pieces.div_ceil(MAX_BITS).max(1)
    }

    /// Of these verified pieces.
    #[must_use]
    pub fn of(have: &Bitfield) -> Self {
        let pieces = have.pieces();
        let per = Self::pieces_per_bit(pieces);
        let count = pieces.div_ceil(per);
        let held = |group: u32| {
            let first = group * per;
            group < count
                && (first..(first + per).min(pieces)).all(|piece| have.has(PieceIndex(piece)))
        };
        let digit = |at: u32| {
            let bit = |n: u32| u32::from(held(at * 4 + n)) << (3 - n);
            char::from_digit(bit(0) | bit(1) | bit(2) | bit(3), 16).unwrap_or('0')
        };
        Self { pieces, bits: (0..count.div_ceil(4)).map(digit).collect() }
    }

    /// Whether each group of pieces is held; `None` when the text does not fit the number of pieces.
    #[must_use]
    pub fn groups(&self) -> Option<Vec<bool>> {
        let count =
            usize::try_from(self.pieces.div_ceil(Self::pieces_per_bit(self.pieces))).ok()?;
        if self.bits.len() != count.div_ceil(4) {
            return None;
        }
        let mut groups = Vec::with_capacity(self.bits.len() * 4);
        for digit in self.bits.chars() {
            let digit = digit.to_digit(16)?;
            groups.extend((0..4).map(|n| digit & (8 >> n) != 0));
        }
        // spare bits at the end are zero, as in a bitfield of BEP 3
        if groups.iter().skip(count).any(|held| *held) {
            return None;
        }
        groups.truncate(count);
        Some(groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn have(pieces: u32, held: impl Iterator<Item = u32>) -> Bitfield {
        let mut field = Bitfield::empty(pieces);
        held.for_each(|piece| {
            field.insert(PieceIndex(piece));
        });
        field
    }

    #[test]
    fn pieces_come_back_as_they_were() {
        for pieces in [1, 3, 4, 5, 8, 77, MAX_BITS] {
            let field = have(pieces, (0..pieces).step_by(3));
            let told = Holding::of(&field);
            let groups = told.groups().unwrap();
            assert_eq!(groups.len(), pieces as usize);
            let same = |(at, held): (usize, &bool)| *held == at.is_multiple_of(3);
            assert!(groups.iter().enumerate().all(same), "{pieces}: {told:?}");
        }
        assert_eq!(Holding::of(&have(5, [0, 4].into_iter())).bits, "88");
    }

    #[test]
    fn of_many_pieces_a_bit_stands_for_some() {
        let pieces = MAX_BITS * 3 - 1;
        let mut field = Bitfield::full(pieces);
        field.remove(PieceIndex(4));
        let groups = Holding::of(&field).groups().unwrap();
        assert_eq!(groups.len(), MAX_BITS as usize);
        let missing: Vec<_> = groups.iter().enumerate().filter(|(_, held)| !**held).collect();
        assert_eq!(missing, [(1, &false)], "the last group is shorter, and held");
        assert_eq!(Holding::of(&Bitfield::full(4_000_000)).bits.len(), 512);
    }

    #[test]
    fn what_is_wrong_is_not_told_and_many_givers_become_a_sum() {
        for (pieces, bits) in [(5, "8"), (5, "8g"), (5, "81"), (0, "0"), (4_000_000_000, "ff")] {
            let holding = Holding { pieces, bits: bits.to_owned() };
            assert_eq!(holding.groups(), None, "{pieces} {bits}");
        }
        let gift = |n: u8| Gift { from: IpAddr::from([10, 0, 0, n]), bytes: n.into() };
        let mut exchange = Exchange {
            from: (1..=20).map(gift).collect(),
            others: 5,
            holding: Some(Holding { pieces: 5, bits: "é".into() }),
        };
        exchange.bound();
        assert_eq!(exchange.from.len(), MAX_GIVERS);
        assert_eq!((exchange.from[0], exchange.others), (gift(20), 5 + 1 + 2 + 3 + 4));
        assert_eq!(exchange.holding, None);
    }
}
