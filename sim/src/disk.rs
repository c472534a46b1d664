//! What a node's driver keeps of received blocks, and the truth about their bytes.

use proto::bitfield::Bitfield;
use proto::geometry::{BLOCK_LEN, Block, Geometry, PieceIndex};

/// A piece in progress, a bit per block.
#[derive(Debug, Clone, Copy)]
struct Buffer {
    piece: PieceIndex,
    here: u128,
    wrong: u128,
}

/// Buffers of pieces in progress, stored pieces, evidence of wrong copies.
#[derive(Debug)]
pub(crate) struct Disk {
    buffers: Vec<Buffer>,
    evidence: Vec<(PieceIndex, u128)>,
    /// Wrong blocks of the piece that failed last.
    failed: Option<(PieceIndex, u128)>,
    /// Wrong blocks of pieces of whose blocks somebody was asked for the digests.
    held: Vec<(PieceIndex, u128)>,
    /// Pieces written, all of them good.
    stored: Bitfield,
    /// Bytes of the blocks in buffers.
    pub(crate) buffered: u64,
}

impl Disk {
    pub(crate) fn new(stored: Bitfield) -> Self {
        Self {
            buffers: Vec::new(),
            evidence: Vec::new(),
            failed: None,
            held: Vec::new(),
            stored,
            buffered: 0,
        }
    }

    pub(crate) fn stored(&self) -> &Bitfield {
        &self.stored
    }

    /// Keeps a block.
    pub(crate) fn put(&mut self, block: Block, wrong: bool) {
        let bit = 1u128 << (block.begin / BLOCK_LEN);
        let at = self.buffers.iter().position(|b| b.piece == block.piece);
        let at = at.unwrap_or_else(|| {
            self.buffers.push(Buffer { piece: block.piece, here: 0, wrong: 0 });
            self.buffers.len() - 1
        });
        let buffer = &mut self.buffers[at];
        if buffer.here & bit == 0 {
            self.buffered += u64::from(block.length);
        }
        buffer.here |= bit;
        buffer.wrong = if wrong { buffer.wrong | bit } else { buffer.wrong & !bit };
    }

    /// Hashes a piece, and stores it when it is good. `None` when there is no buffer for it.
    pub(crate) fn check(&mut self, piece: PieceIndex, geometry: &Geometry) -> Option<bool> {
        let buffer = self.take(piece, geometry)?;
        let all = u128::MAX >> (128 - geometry.blocks_in(piece));
        // what was never received is not the image either
        let wrong = buffer.wrong | (all & !buffer.here);
        if wrong != 0 {
            self.failed = Some((piece, wrong));
            return Some(false);
        }
        self.stored.insert(piece);
        Some(true)
    }

    fn take(&mut self, piece: PieceIndex, geometry: &Geometry) -> Option<Buffer> {
        let at = self.buffers.iter().position(|b| b.piece == piece)?;
        let buffer = self.buffers.swap_remove(at);
        let bytes: u64 = (0..geometry.blocks_in(piece))
            .filter(|number| buffer.here & (1 << number) != 0)
            .filter_map(|number| geometry.block(piece, number))
            .map(|block| u64::from(block.length))
            .sum();
        self.buffered -= bytes;
        Some(buffer)
    }

    /// Keeps the piece that failed last until it is known which of its blocks are wrong.
    pub(crate) fn hold(&mut self, piece: PieceIndex) {
        self.held.extend(self.failed.take().filter(|(failed, _)| *failed == piece));
    }

    /// The wrong blocks of a piece that is held.
    pub(crate) fn held(&self, piece: PieceIndex) -> Option<Vec<u32>> {
        let (_, wrong) = self.held.iter().find(|(held, _)| *held == piece)?;
        Some(numbers(*wrong))
    }

    /// What is good of a piece that was held is a piece in progress again.
    pub(crate) fn resume(&mut self, piece: PieceIndex, geometry: &Geometry) {
        let Some(at) = self.held.iter().position(|(held, _)| *held == piece) else { return };
        let (_, wrong) = self.held.swap_remove(at);
        for number in (0..geometry.blocks_in(piece)).filter(|number| wrong & (1 << number) == 0) {
            if let Some(block) = geometry.block(piece, number) {
                self.put(block, false);
            }
        }
    }

    /// Forgets a piece in progress.
    pub(crate) fn discard(&mut self, piece: PieceIndex, geometry: &Geometry) {
        self.held.retain(|(held, _)| *held != piece);
        let _ = self.take(piece, geometry);
    }

    /// Keeps what the piece that failed last looked like.
    pub(crate) fn keep_evidence(&mut self, piece: PieceIndex) {
        let held = self.held.iter().find(|(held, _)| *held == piece).copied();
        let failed = self.failed.take().filter(|(failed, _)| *failed == piece);
        if let Some((_, wrong)) = failed.or(held) {
            self.evidence.retain(|(kept, _)| *kept != piece);
            self.evidence.push((piece, wrong));
        }
    }

    /// The blocks in which an earlier copy differs from the good one that is here now.
    pub(crate) fn compare(&mut self, piece: PieceIndex) -> Option<Vec<u32>> {
        let at = self.evidence.iter().position(|(kept, _)| *kept == piece)?;
        let (_, wrong) = self.evidence.swap_remove(at);
        Some(numbers(wrong))
    }
}

fn numbers(bits: u128) -> Vec<u32> {
    (0..128).filter(|number| bits & (1 << number) != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_or_a_wrong_block_fails_the_piece() {
        let geometry = Geometry::new(65_536 + 20_000, 65_536).unwrap();
        let mut disk = Disk::new(Bitfield::empty(2));
        let block = |piece, number| geometry.block(PieceIndex(piece), number).unwrap();
        for number in 0..3 {
            disk.put(block(0, number), false);
        }
        assert_eq!(disk.check(PieceIndex(0), &geometry), Some(false), "a block is missing");
        for number in 0..4 {
            disk.put(block(0, number), number == 1);
        }
        assert_eq!(disk.check(PieceIndex(0), &geometry), Some(false));
        disk.keep_evidence(PieceIndex(0));
        for number in 0..4 {
            disk.put(block(0, number), false);
        }
        assert_eq!(disk.check(PieceIndex(0), &geometry), Some(true));
        assert_eq!(disk.compare(PieceIndex(0)), Some(vec![1]));
        disk.put(block(1, 0), false);
        disk.put(block(1, 1), false);
        assert_eq!(disk.buffered, 20_000);
        assert_eq!(disk.check(PieceIndex(1), &geometry), Some(true));
        assert_eq!((disk.buffered, disk.stored().is_full()), (0, true));
        assert_eq!(disk.check(PieceIndex(1), &geometry), None);
    }
}
