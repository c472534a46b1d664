//! What is fetched from another part of the network.
//!
//! The link between two subnets may be no faster than one node's, and everybody behind it shares it.
//! So a piece should cross it about once: of the nodes here, one asks for it over there, the others
//! get it from that one. Who it is needs no message. Each node ranks itself and its near peers by a hash
//! of piece and peer id (rendezvous hashing), and the first asks at once; the next ones wait a step for
//! each rank before them, in case the first cannot.
//!
//! ```text
//!   seen over there ──rank × step──▶ open: may be asked for across ──a near peer has it──▶ closed
//! ```
//!
//! Nothing of this is a rule for ever: a node to which nothing comes asks whom it can, wherever they
//! are, for a while, and longer each time. While all peers are near, nothing is ever held back.

use std::time::Duration;

use proto::bitfield::Bitfield;
use proto::geometry::PieceIndex;
use proto::hash::{PeerId, PeerRole};

use super::Moment;
use super::action::PeerKey;
use crate::sorted::{SortedMap, SortedSet};

/// With nothing received for this long, everybody may be asked …
const STARVED: Duration = Duration::from_secs(1);

/// … for this long, and twice as long each time after.
const RELIEF: Duration = Duration::from_secs(1);

/// No peer across has the piece.
const UNSEEN: Moment = Moment::MAX;

/// Pieces over here and over there.
#[derive(Debug)]
pub(crate) struct Across {
    own: u64,
    /// Near peers that take part in the ranking.
    near: SortedMap<PeerKey, u64>,
    /// Connected peers of other subnets.
    far: usize,
    /// Near peers that have each piece.
    holders: Vec<u16>,
    /// When each piece was first seen across.
    seen: Vec<Moment>,
    /// Pieces that may be asked for across.
    open: SortedSet<PieceIndex>,
    /// Pieces that may be, from then on, unless a near peer has them by then.
    waiting: SortedSet<(Moment, PieceIndex)>,
    /// The last block, or the start.
    fed: Moment,
    relief: Duration,
    relieved_until: Moment,
}

impl Across {
    pub(crate) fn new(pieces: u32) -> Self {
        Self {
            own: 0,
            near: SortedMap::new(),
            far: 0,
            holders: vec![0; pieces as usize],
            seen: vec![UNSEEN; pieces as usize],
            open: SortedSet::new(),
            waiting: SortedSet::new(),
            fed: Moment::ZERO,
            relief: RELIEF,
            relieved_until: Moment::ZERO,
        }
    }

    /// Our own id: others rank us by it.
    pub(crate) fn set_own(&mut self, id: PeerId) {
        self.own = number(id);
    }

    /// A peer connected.
    pub(crate) fn join(&mut self, key: PeerKey, id: PeerId, near: bool, now: Moment) {
        if !near {
            self.far += 1;
        } else if id.role() == PeerRole::Node {
            // others do not know the rule, or have everything
            self.near.insert(key, number(id));
        }
        if self.near.len() + self.far == 1 {
            self.fed = now;
        }
    }

    /// A peer is gone, with what it had.
    pub(crate) fn leave(
        &mut self,
        key: PeerKey,
        near: bool,
        its: &Bitfield,
        step: Duration,
        now: Moment,
    ) {
        self.near.remove(&key);
        if !near {
            self.far -= 1;
            return;
        }
        for piece in its.iter() {
            let holders = &mut self.holders[piece.as_usize()];
            *holders = holders.saturating_sub(1);
            if *holders == 0 && self.seen[piece.as_usize()] != UNSEEN {
                self.wait(piece, now, step);
            }
        }
    }

    /// A near peer has a piece.
    pub(crate) fn here(&mut self, piece: PieceIndex) {
        let holders = &mut self.holders[piece.as_usize()];
        *holders = holders.saturating_add(1);
        self.open.remove(&piece);
    }

    /// A peer across has a piece that we want. `step` is what a rank waits for the one before it.
    pub(crate) fn there(&mut self, piece: PieceIndex, step: Duration, now: Moment) {
        if self.seen[piece.as_usize()] == UNSEEN {
            self.seen[piece.as_usize()] = now;
            self.wait(piece, now, step);
        }
    }

    fn wait(&mut self, piece: PieceIndex, now: Moment, step: Duration) {
        if self.holders[piece.as_usize()] > 0 {
            return;
        }
        match self.rank(piece) {
            0 => drop(self.open.insert(piece)),
            rank => drop(self.waiting.insert((now + step * rank, piece))),
        }
    }

    /// How many near peers come before us for a piece.
    fn rank(&self, piece: PieceIndex) -> u32 {
        let own = mix(self.own, piece);
        let before = self.near.values().filter(|id| mix(**id, piece) > own).count();
        u32::try_from(before).unwrap_or(u32::MAX)
    }

    /// A piece is here.
    pub(crate) fn got(&mut self, piece: PieceIndex) {
        self.open.remove(&piece);
    }

    /// A block came in.
    pub(crate) fn fed(&mut self, now: Moment) {
        self.fed = now;
    }

    /// Time passed. True when more may be asked for than before.
    pub(crate) fn tick(&mut self, wants: impl Fn(PieceIndex) -> bool, now: Moment) -> bool {
        if self.far == 0 {
            return false;
        }
        let mut more = false;
        while let Some((at, piece)) = self.waiting.first().copied().filter(|(at, _)| *at <= now) {
            self.waiting.remove(&(at, piece));
            if self.holders[piece.as_usize()] == 0 && wants(piece) {
                more |= self.open.insert(piece);
            }
        }
        if now.saturating_sub(self.fed) >= STARVED && now >= self.relieved_until {
            self.relieved_until = now + self.relief;
            self.relief *= 2;
            self.fed = now;
            more = true;
        }
        more
    }

    /// What a peer across may be asked for: `None` when that is everything.
    pub(crate) fn limit(&self, now: Moment) -> Option<&SortedSet<PieceIndex>> {
        (now >= self.relieved_until).then_some(&self.open)
    }
}

/// A peer id as a number, all of it (FNV-1a).
fn number(id: PeerId) -> u64 {
    id.0.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The weight of a peer for a piece (the finalizer of `SplitMix64`).
fn mix(id: u64, piece: PieceIndex) -> u64 {
    let mut hash = id ^ u64::from(piece.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn id(number: u8) -> PeerId {
        PeerId::new(PeerRole::Node, [number; 12])
    }

    /// The state of `nodes` nodes that are near each other and have one far peer each.
    fn subnet(nodes: u8, pieces: u32) -> Vec<Across> {
        let each = |own: u8| {
            let mut across = Across::new(pieces);
            across.set_own(id(own));
            for other in (0..nodes).filter(|other| *other != own) {
                across.join(PeerKey(other.into()), id(other), true, MS(0));
            }
            across.join(PeerKey(99), id(99), false, MS(0));
            across
        };
        (0..nodes).map(each).collect()
    }

    fn may(across: &Across, piece: u32, now: Moment) -> bool {
        across.limit(now).is_none_or(|open| open.contains(&PieceIndex(piece)))
    }

    #[test]
    fn one_of_all_asks_and_the_next_after_a_step() {
        let mut nodes = subnet(8, 100);
        for node in &mut nodes {
            (0..100).for_each(|piece| node.there(PieceIndex(piece), MS(500), MS(10)));
        }
        for (millis, askers) in [(10, 1), (510, 2), (1_010, 3)] {
            for node in &mut nodes {
                node.fed(MS(millis));
                node.tick(|_| true, MS(millis));
            }
            for piece in 0..100 {
                let count = nodes.iter().filter(|node| may(node, piece, MS(millis))).count();
                assert_eq!(count, askers, "piece {piece} after {millis} ms");
            }
        }
        let shares: Vec<usize> = subnet(8, 100)
            .iter()
            .map(|n| (0..100).filter(|p| n.rank(PieceIndex(*p)) == 0).count())
            .collect();
        assert!(shares.iter().all(|share| (4..=25).contains(share)), "{shares:?}");
    }

    #[test]
    fn what_a_near_peer_has_is_not_asked_for_across_until_it_is_gone() {
        let mut node = subnet(1, 4).remove(0);
        node.join(PeerKey(1), id(1), true, MS(0));
        let mut has = Bitfield::empty(4);
        has.insert(PieceIndex(2));
        node.here(PieceIndex(2));
        (0..4).for_each(|piece| node.there(PieceIndex(piece), MS(500), MS(0)));
        node.tick(|_| true, MS(600));
        let open = |node: &Across| (0..4).map(|p| may(node, p, MS(600))).collect::<Vec<_>>();
        assert_eq!(open(&node), [true, true, false, true]);
        node.leave(PeerKey(1), true, &has, MS(500), MS(600));
        assert_eq!(open(&node), [true; 4], "nobody is before us now");
        node.got(PieceIndex(0));
        assert_eq!(open(&node), [false, true, true, true]);
    }

    #[test]
    fn who_starves_asks_anybody_for_longer_each_time() {
        let mut node = subnet(2, 1).remove(0);
        node.here(PieceIndex(0));
        node.there(PieceIndex(0), MS(500), MS(0));
        let mut relieved = 0;
        for millis in (0..10_000).step_by(50) {
            node.tick(|_| true, MS(millis));
            relieved += u32::from(may(&node, 0, MS(millis)));
        }
        // one second in two, then ever more
        assert!((130..190).contains(&relieved), "{relieved} of 200");
        for millis in (10_000..40_000).step_by(50) {
            node.fed(MS(millis));
            node.tick(|_| true, MS(millis));
        }
        assert!(!may(&node, 0, MS(40_000)), "it is fed");
    }

    #[test]
    fn alone_in_its_subnet_a_node_asks_for_everything() {
        let mut node = subnet(1, 3).remove(0);
        (0..3).for_each(|piece| node.there(PieceIndex(piece), MS(500), MS(0)));
        assert!((0..3).all(|piece| may(&node, piece, MS(0))));
    }
}
