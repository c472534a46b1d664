//! What to ask a peer for.
//!
//! A wanted piece is *free* (nobody was asked for it), *in progress* ([`Partial`]) or *here*. Free
//! pieces are indexed by availability, so a change of availability is O(1) and the rarest piece is
//! found without a scan over all. Pieces in progress with blocks left to ask for are in `open`.
//!
//! Order for a peer: urgent pieces by index (a reader waits for them), its own piece in progress,
//! pieces that somebody abandoned (a complete peer gives new pieces first: its upload is the one
//! the swarm cannot replace), high-priority free pieces, free pieces, pieces of others. When no
//! block is left to ask for anywhere, the end-game asks a second peer for what is outstanding.

use proto::bitfield::Bitfield;
use proto::geometry::{Block, Geometry, PieceIndex};

use super::action::PeerKey;
use super::partial::Partial;
use super::rarity::Rarity;
use crate::sorted::{SortedMap, SortedSet};

/// How much a piece is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Not fetched.
    Skip,
    /// Rarest first among its like.
    #[default]
    Normal,
    /// Before all normal pieces, rarest first.
    High,
    /// A reader waits for it: before everything else, in order of index, from several peers.
    Urgent,
}

/// What the picker must know of a peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) key: PeerKey,
    pub(crate) has: &'a Bitfield,
    /// Pieces it rejected since its last unchoke.
    pub(crate) refused: &'a SortedSet<PieceIndex>,
    /// The only pieces it may be asked for, if not all.
    pub(crate) limit: Option<&'a SortedSet<PieceIndex>>,
}

impl Asker<'_> {
    fn offers(&self, piece: PieceIndex) -> bool {
        self.has.has(piece)
            && !self.refused.contains(&piece)
            && self.limit.is_none_or(|limit| limit.contains(&piece))
    }
}

/// What a delivered block led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It was here already, or its piece is not in progress.
    Unneeded,
    /// Kept. The peers named were asked for it too.
    Kept { cancel: [Option<PeerKey>; 2], complete: bool },
}

#[derive(Debug)]
pub(crate) struct Picker {
    geometry: Geometry,
    have: Bitfield,
    availability: Vec<u32>,
    priority: Vec<Priority>,
    normal: Rarity,
    high: Rarity,
    /// Urgent pieces not here yet, free or in progress.
    urgent: SortedSet<PieceIndex>,
    partials: SortedMap<PieceIndex, Partial>,
    /// Pieces in progress with a block nobody was asked for.
    open: SortedSet<PieceIndex>,
    /// Complete pieces that are being hashed.
    verifying: SortedSet<PieceIndex>,
    /// To be fetched from one peer alone.
    suspect: SortedSet<PieceIndex>,
    max_partials: usize,
    random_first: u32,
    /// Pieces with a priority above `Skip`.
    wanted: u32,
    /// Of those, the ones that are here.
    wanted_here: u32,
    /// Pieces that no peer has.
    unseen: u32,
}

impl Picker {
    pub(crate) fn new(
        geometry: Geometry,
        have: Bitfield,
        max_partial_bytes: u64,
        random_first: u32,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let pieces = geometry.pieces();
        let max = max_partial_bytes / u64::from(geometry.piece_length());
        let mut normal = Rarity::new(pieces);
        geometry.indices().filter(|p| !have.has(*p)).for_each(|p| normal.insert(p, 0, rng));
        Self {
            geometry,
            availability: vec![0; pieces as usize],
            priority: vec![Priority::Normal; pieces as usize],
            normal,
            high: Rarity::new(pieces),
            urgent: SortedSet::new(),
            partials: SortedMap::new(),
            open: SortedSet::new(),
            verifying: SortedSet::new(),
            suspect: SortedSet::new(),
            max_partials: usize::try_from(max).unwrap_or(usize::MAX).max(4),
            random_first,
            wanted: pieces,
            wanted_here: have.count(),
            unseen: pieces,
            have,
        }
    }

    pub(crate) fn have(&self) -> &Bitfield {
        &self.have
    }

    /// Whether every wanted piece is here.
    pub(crate) fn is_done(&self) -> bool {
        self.wanted_here == self.wanted
    }

    pub(crate) fn availability(&self, piece: PieceIndex) -> u32 {
        self.availability[piece.as_usize()]
    }

    /// Whether some peer has each piece.
    pub(crate) fn all_seen(&self) -> bool {
        self.unseen == 0
    }

    /// Whether the piece is wanted and not here.
    pub(crate) fn wants(&self, piece: PieceIndex) -> bool {
        self.priority[piece.as_usize()] > Priority::Skip && !self.have.has(piece)
    }

    /// Pieces of `other` that are wanted and not here.
    pub(crate) fn useful(&self, other: &Bitfield) -> u32 {
        u32::try_from(other.iter().filter(|p| self.wants(*p)).count()).unwrap_or(u32::MAX)
    }

    /// Whether every wanted block was asked for or is here.
    pub(crate) fn nothing_left_to_ask(&self) -> bool {
        self.open.is_empty() && self.normal.len() == 0 && self.high.len() == 0
    }

    /// One more peer has the piece.
    pub(crate) fn peer_has(&mut self, piece: PieceIndex, rng: &mut fastrand::Rng) {
        self.move_level(piece, true, rng);
    }

    /// One peer less has the piece.
    pub(crate) fn peer_lost(&mut self, piece: PieceIndex, rng: &mut fastrand::Rng) {
        self.move_level(piece, false, rng);
    }

    fn move_level(&mut self, piece: PieceIndex, up: bool, rng: &mut fastrand::Rng) {
        let level = &mut self.availability[piece.as_usize()];
        let from = *level;
        *level = if up { from + 1 } else { from.saturating_sub(1) };
        let to = *level;
        match (from, to) {
            (0, 1..) => self.unseen -= 1,
            (1.., 0) => self.unseen += 1,
            _ => {}
        }
        self.normal.shift(piece, from, to, rng);
        self.high.shift(piece, from, to, rng);
    }

    fn index_free(&mut self, piece: PieceIndex, rng: &mut fastrand::Rng) {
        let level = self.availability(piece);
        match self.priority[piece.as_usize()] {
            Priority::Skip => {}
            Priority::Normal => self.normal.insert(piece, level, rng),
            Priority::High | Priority::Urgent => self.high.insert(piece, level, rng),
        }
    }

    fn unindex(&mut self, piece: PieceIndex) {
        let level = self.availability(piece);
        for set in [&mut self.normal, &mut self.high] {
            if set.contains(piece) {
                set.remove(piece, level);
            }
        }
    }

    /// Changes how much a piece is wanted. A piece in progress is finished even if it is skipped.
    pub(crate) fn set_priority(
        &mut self,
        piece: PieceIndex,
        priority: Priority,
        rng: &mut fastrand::Rng,
    ) {
        let old = std::mem::replace(&mut self.priority[piece.as_usize()], priority);
        let here = u32::from(self.have.has(piece));
        match (old > Priority::Skip, priority > Priority::Skip) {
            (false, true) => {
                (self.wanted, self.wanted_here) = (self.wanted + 1, self.wanted_here + here)
            }
            (true, false) => {
                (self.wanted, self.wanted_here) = (self.wanted - 1, self.wanted_here - here)
            }
            _ => {}
        }
        if priority == Priority::Urgent && here == 0 {
            self.urgent.insert(piece);
        } else {
            self.urgent.remove(&piece);
        }
        if here == 0 && !self.partials.contains_key(&piece) {
            self.unindex(piece);
            self.index_free(piece, rng);
        }
    }

    /// A piece once here is gone again. False when it was not here.
    pub(crate) fn lose(&mut self, piece: PieceIndex, rng: &mut fastrand::Rng) -> bool {
        if !self.have.remove(piece) {
            return false;
        }
        if self.priority[piece.as_usize()] > Priority::Skip {
            self.wanted_here -= 1;
        }
        if self.priority[piece.as_usize()] == Priority::Urgent {
            self.urgent.insert(piece);
        }
        self.index_free(piece, rng);
        true
    }

    /// The next block to ask `asker` for, booked for it.
    pub(crate) fn pick(&mut self, asker: Asker<'_>, rng: &mut fastrand::Rng) -> Option<Block> {
        if let Some(piece) = self.urgent_for(asker) {
            return self.take(piece, asker.key);
        }
        let mine = |p: &Partial| p.owner == Some(asker.key);
        let orphan = |p: &Partial| p.owner.is_none();
        let room = self.partials.len() < self.max_partials;
        let mut piece = self.open_for(asker, mine);
        if piece.is_none() && !asker.has.is_full() {
            piece = self.open_for(asker, orphan);
        }
        if piece.is_none() && room {
            piece = self.free_for(asker, rng);
        }
        let piece = piece
            .or_else(|| self.open_for(asker, orphan))
            .or_else(|| self.open_for(asker, |_| true))?;
        self.take(piece, asker.key)
    }

    /// A block that somebody else was asked for already; only when nothing else is left anywhere.
    pub(crate) fn pick_end_game(
        &mut self,
        asker: Asker<'_>,
        rng: &mut fastrand::Rng,
    ) -> Option<Block> {
        if !self.nothing_left_to_ask() || self.partials.is_empty() {
            return None;
        }
        let start = rng.usize(..self.partials.len());
        let (head, tail): (Vec<_>, Vec<_>) =
            self.partials.iter_mut().enumerate().partition(|(at, _)| *at >= start);
        head.into_iter()
            .chain(tail)
            .filter(|(_, (piece, partial))| asker.offers(**piece) && !partial.exclusive)
            .find_map(|(_, (_, partial))| partial.request_again(&self.geometry, asker.key))
    }

    fn urgent_for(&self, asker: Asker<'_>) -> Option<PieceIndex> {
        self.urgent.iter().copied().find(|piece| {
            asker.offers(*piece)
                && match self.partials.get(piece) {
                    Some(partial) => partial.has_missing() && self.may_join(partial, asker.key),
                    None => true,
                }
        })
    }

    fn may_join(&self, partial: &Partial, key: PeerKey) -> bool {
        // an exclusive piece that its owner left lying is begun again by the next peer
        !partial.exclusive || partial.owner == Some(key) || partial.is_idle()
    }

    fn open_for(&self, asker: Asker<'_>, accept: impl Fn(&Partial) -> bool) -> Option<PieceIndex> {
        self.open.iter().copied().find(|piece| {
            asker.offers(*piece)
                && self
                    .partials
                    .get(piece)
                    .is_some_and(|p| accept(p) && self.may_join(p, asker.key))
        })
    }

    fn free_for(&self, asker: Asker<'_>, rng: &mut fastrand::Rng) -> Option<PieceIndex> {
        let high = self.high.seen_rarest_first().find(|p| asker.offers(*p));
        if high.is_some() {
            return high;
        }
        if self.have.count() < self.random_first {
            self.normal.rotated(rng).find(|p| asker.offers(*p))
        } else {
            self.normal.seen_rarest_first().find(|p| asker.offers(*p))
        }
    }

    /// A free piece for a source that has all of them and delivers whole pieces.
    pub(crate) fn take_whole(&mut self, source: PeerKey) -> Option<PieceIndex> {
        let urgent = self.urgent.iter().copied().find(|p| !self.partials.contains_key(p));
        let free =
            urgent.or_else(|| self.high.rarest_first().chain(self.normal.rarest_first()).next());
        // pieces that peers left lying are fetched as a whole again
        let idle = |p: &PieceIndex| {
            self.partials.get(p).is_some_and(|partial| partial.owner.is_none() || partial.is_idle())
        };
        let piece = free.or_else(|| self.open.iter().copied().find(idle))?;
        while self.take(piece, source).is_some() {}
        if let Some(partial) = self.partials.get_mut(&piece) {
            partial.owner = Some(source);
        }
        Some(piece)
    }

    /// Puts a free piece in progress.
    fn begin(&mut self, piece: PieceIndex, peer: PeerKey) {
        self.unindex(piece);
        let exclusive = self.suspect.contains(&piece);
        self.partials.insert(piece, Partial::new(&self.geometry, piece, peer, exclusive));
        self.open.insert(piece);
    }

    fn take(&mut self, piece: PieceIndex, peer: PeerKey) -> Option<Block> {
        if !self.partials.contains_key(&piece) {
            self.begin(piece, peer);
        }
        let partial = self.partials.get_mut(&piece)?;
        if partial.exclusive && partial.owner != Some(peer) {
            partial.restart(peer);
        }
        let block = partial.request_missing(&self.geometry, peer);
        if !partial.has_missing() {
            self.open.remove(&piece);
        } else if partial.owner.is_none() {
            partial.owner = Some(peer);
        }
        block
    }

    /// A request to `peer` will not be answered. True when the bytes of the piece must be dropped.
    pub(crate) fn release(&mut self, block: Block, peer: PeerKey, rng: &mut fastrand::Rng) -> bool {
        let Some(partial) = self.partials.get_mut(&block.piece) else { return false };
        if self.verifying.contains(&block.piece) {
            return false;
        }
        partial.release(block, peer);
        if partial.owner == Some(peer) && !partial.exclusive {
            partial.owner = None;
        }
        if !partial.has_missing() {
            return false;
        }
        self.open.insert(block.piece);
        if partial.is_untouched() {
            return self.free(block.piece, rng);
        }
        false
    }

    /// The bookings of a peer that is gone or choked are all released; it owns nothing any more.
    pub(crate) fn disown(&mut self, peer: PeerKey) {
        for piece in &self.open {
            if let Some(partial) = self.partials.get_mut(piece)
                && partial.owner == Some(peer)
            {
                partial.owner = None;
            }
        }
    }

    fn free(&mut self, piece: PieceIndex, rng: &mut fastrand::Rng) -> bool {
        let partial = self.partials.remove(&piece);
        self.open.remove(&piece);
        self.verifying.remove(&piece);
        if partial.is_some() && !self.have.has(piece) {
            self.index_free(piece, rng);
        }
        partial.is_some_and(|p| p.received() > 0)
    }

    /// A block came in from a peer that was asked for it. It may have been given up since, and nobody
    /// else asked: it is as good as one in time.
    pub(crate) fn deliver(&mut self, block: Block, from: PeerKey) -> Delivery {
        if !self.partials.contains_key(&block.piece) && self.wants(block.piece) {
            self.begin(block.piece, from);
        }
        let Some(partial) = self.partials.get_mut(&block.piece) else { return Delivery::Unneeded };
        if partial.exclusive && partial.owner != Some(from) {
            return Delivery::Unneeded;
        }
        let Some(cancel) = partial.receive(block, from) else { return Delivery::Unneeded };
        if !partial.has_missing() {
            self.open.remove(&block.piece);
        }
        let complete = partial.is_complete();
        if complete {
            self.verifying.insert(block.piece);
        }
        Delivery::Kept { cancel, complete }
    }

    /// A source delivered a whole piece; returns the requests to cancel, `None` when the piece is
    /// not wanted any more.
    pub(crate) fn deliver_whole(
        &mut self,
        piece: PieceIndex,
        from: PeerKey,
    ) -> Option<Vec<(PeerKey, Block)>> {
        let partial = self.partials.get_mut(&piece)?;
        if !self.verifying.insert(piece) {
            return None;
        }
        let mut fresh = Partial::new(&self.geometry, piece, from, partial.exclusive);
        std::mem::swap(partial, &mut fresh);
        partial.receive_rest(&self.geometry, from);
        self.open.remove(&piece);
        Some(fresh.receive_rest(&self.geometry, from))
    }

    /// A whole-piece source gives up.
    pub(crate) fn abandon_whole(
        &mut self,
        piece: PieceIndex,
        source: PeerKey,
        rng: &mut fastrand::Rng,
    ) -> bool {
        if self.verifying.contains(&piece)
            || self.partials.get(&piece).is_none_or(|p| p.owner != Some(source))
        {
            return false;
        }
        self.free(piece, rng)
    }

    /// A complete piece is good.
    pub(crate) fn confirm(&mut self, piece: PieceIndex) -> bool {
        self.partials.remove(&piece);
        self.verifying.remove(&piece);
        self.open.remove(&piece);
        self.suspect.remove(&piece);
        self.urgent.remove(&piece);
        if !self.have.insert(piece) {
            return false;
        }
        if self.priority[piece.as_usize()] > Priority::Skip {
            self.wanted_here += 1;
        }
        true
    }

    /// A complete piece is wrong: it is free again, and the sources of its blocks are returned.
    pub(crate) fn refuse(&mut self, piece: PieceIndex, rng: &mut fastrand::Rng) -> Vec<PeerKey> {
        let sources = self.partials.get(&piece).map(Partial::sources).unwrap_or_default();
        if sources.windows(2).any(|pair| pair[0] != pair[1]) {
            self.suspect.insert(piece);
        }
        self.free(piece, rng);
        sources
    }

    /// Blocks of a complete piece are wrong, the others good: only the wrong ones are asked for again.
    /// False when none is left of it.
    pub(crate) fn take_back(
        &mut self,
        piece: PieceIndex,
        wrong: &[u32],
        rng: &mut fastrand::Rng,
    ) -> bool {
        self.verifying.remove(&piece);
        self.suspect.remove(&piece);
        let Some(partial) = self.partials.get_mut(&piece) else { return false };
        partial.take_back(wrong);
        if partial.is_untouched() {
            self.free(piece, rng);
            return false;
        }
        self.open.insert(piece);
        true
    }

    /// The peers the blocks of a piece came from so far.
    pub(crate) fn sources(&self, piece: PieceIndex) -> Vec<PeerKey> {
        self.partials.get(&piece).map(Partial::sources).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
