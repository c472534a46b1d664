//! A piece in progress: which block comes from whom.

use proto::geometry::{BLOCK_LEN, Block, Geometry, PieceIndex};

use super::action::PeerKey;

/// State of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Missing,
    Requested(PeerKey, Option<PeerKey>),
    Received(PeerKey),
}

/// A piece of which at least one block was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Partial {
    piece: PieceIndex,
    /// The peer that began it, while it is still at it.
    pub(crate) owner: Option<PeerKey>,
    /// Only the owner may deliver it: an earlier copy from several peers was wrong.
    pub(crate) exclusive: bool,
    slots: Vec<Slot>,
    missing: u32,
    received: u32,
}

impl Partial {
    pub(crate) fn new(
        geometry: &Geometry,
        piece: PieceIndex,
        owner: PeerKey,
        exclusive: bool,
    ) -> Self {
        let blocks = geometry.blocks_in(piece);
        let slots = vec![Slot::Missing; blocks as usize];
        Self { piece, owner: Some(owner), exclusive, slots, missing: blocks, received: 0 }
    }

    pub(crate) fn has_missing(&self) -> bool {
        self.missing > 0
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.received as usize == self.slots.len()
    }

    pub(crate) fn received(&self) -> u32 {
        self.received
    }

    /// Whether nobody is asked for any of its blocks now.
    pub(crate) fn is_idle(&self) -> bool {
        (self.missing + self.received) as usize == self.slots.len()
    }

    /// Begins again, with nothing received.
    pub(crate) fn restart(&mut self, owner: PeerKey) {
        self.slots.fill(Slot::Missing);
        (self.missing, self.received) = (u32::try_from(self.slots.len()).unwrap_or(u32::MAX), 0);
        self.owner = Some(owner);
    }

    /// Blocks with these numbers were wrong: they come again, from anybody.
    pub(crate) fn take_back(&mut self, wrong: &[u32]) {
        for number in wrong {
            if let Some(slot @ Slot::Received(_)) = self.slots.get_mut(*number as usize) {
                *slot = Slot::Missing;
                self.missing += 1;
                self.received -= 1;
            }
        }
        (self.owner, self.exclusive) = (None, false);
    }

    /// Whether no block is here and none is asked for.
    pub(crate) fn is_untouched(&self) -> bool {
        self.missing as usize == self.slots.len()
    }

    /// Books the first missing block for `peer`.
    pub(crate) fn request_missing(&mut self, geometry: &Geometry, peer: PeerKey) -> Option<Block> {
        let number = self.slots.iter().position(|slot| *slot == Slot::Missing)?;
        self.slots[number] = Slot::Requested(peer, None);
        self.missing -= 1;
        geometry.block(self.piece, u32::try_from(number).ok()?)
    }

    /// Books, for the end-game, a block that one other peer was asked for and `peer` was not.
    pub(crate) fn request_again(&mut self, geometry: &Geometry, peer: PeerKey) -> Option<Block> {
        // from the end: the first peer works from the start
        let number = self
            .slots
            .iter()
            .rposition(|slot| matches!(slot, Slot::Requested(first, None) if *first != peer))?;
        if let Slot::Requested(_, second) = &mut self.slots[number] {
            *second = Some(peer);
        }
        geometry.block(self.piece, u32::try_from(number).ok()?)
    }

    /// Takes a request back. Nothing happens when `peer` was not asked for the block.
    pub(crate) fn release(&mut self, block: Block, peer: PeerKey) {
        let Some(slot) = self.slots.get_mut((block.begin / BLOCK_LEN) as usize) else { return };
        match *slot {
            Slot::Requested(first, None) if first == peer => {
                *slot = Slot::Missing;
                self.missing += 1;
            }
            Slot::Requested(first, Some(second)) if first == peer => {
                *slot = Slot::Requested(second, None)
            }
            Slot::Requested(first, Some(second)) if second == peer => {
                *slot = Slot::Requested(first, None)
            }
            _ => {}
        }
    }

    /// Notes a block as received: `None` when it is here already, else the other peers that were
    /// asked for it.
    pub(crate) fn receive(&mut self, block: Block, from: PeerKey) -> Option<[Option<PeerKey>; 2]> {
        let slot = self.slots.get_mut((block.begin / BLOCK_LEN) as usize)?;
        let others = match *slot {
            Slot::Received(_) => return None,
            Slot::Missing => {
                self.missing -= 1;
                [None, None]
            }
            Slot::Requested(first, second) => {
                [Some(first).filter(|p| *p != from), second.filter(|p| *p != from)]
            }
        };
        *slot = Slot::Received(from);
        self.received += 1;
        Some(others)
    }

    /// All blocks not here count as delivered by `from` (a web seed fetches whole pieces); the
    /// peers that were asked for them are returned with the block.
    pub(crate) fn receive_rest(
        &mut self,
        geometry: &Geometry,
        from: PeerKey,
    ) -> Vec<(PeerKey, Block)> {
        let mut cancel = Vec::new();
        for number in 0..geometry.blocks_in(self.piece) {
            if let Some(block) = geometry.block(self.piece, number)
                && let Some(others) = self.receive(block, from)
            {
                cancel.extend(others.into_iter().flatten().map(|peer| (peer, block)));
            }
        }
        cancel
    }

    /// The peer each block came from, in block order; meaningful once the piece is complete.
    pub(crate) fn sources(&self) -> Vec<PeerKey> {
        let from = |slot: &Slot| match slot {
            Slot::Received(peer) => Some(*peer),
            _ => None,
        };
        self.slots.iter().filter_map(from).collect()
    }
}
