//! Who sent bad bytes.
//!
//! A wrong piece from one source is that source's doing. A wrong piece from several is fetched again
//! from a single peer; the blocks that differ from the good copy show who lied. Two strikes and a
//! peer is banned for the session. Where the digests of blocks are known (BEP 52) nothing has to be
//! concluded: who sent a wrong block is banned at once.

use std::net::IpAddr;

use proto::geometry::PieceIndex;

use super::action::Identity;
use crate::sorted::{SortedMap, SortedSet};

/// Strikes that ban.
const LIMIT: u32 = 2;

/// Banned ids from one address after which the whole address is refused.
const LIARS_PER_ADDRESS: usize = 3;

/// Most identities remembered.
const MEMORY: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Blame {
    strikes: SortedMap<Identity, u32>,
    banned: SortedSet<Identity>,
    refused: SortedSet<IpAddr>,
    /// Source of each block of a wrong piece, until a good copy is there.
    evidence: SortedMap<PieceIndex, Vec<Option<Identity>>>,
}

/// What a wrong piece led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) banned: Vec<Identity>,
    pub(crate) keep_evidence: bool,
}

impl Blame {
    /// A piece was wrong; `sources` per block, `None` for a source that is not a peer.
    pub(crate) fn failed(&mut self, piece: PieceIndex, sources: Vec<Option<Identity>>) -> Verdict {
        let single = sources.windows(2).all(|pair| pair[0] == pair[1]);
        if single {
            let banned = sources.first().copied().flatten().and_then(|peer| self.strike(peer));
            return Verdict { banned: banned.into_iter().collect(), keep_evidence: false };
        }
        if self.evidence.len() >= 64 || self.evidence.contains_key(&piece) {
            return Verdict::default();
        }
        self.evidence.insert(piece, sources);
        Verdict { banned: Vec::new(), keep_evidence: true }
    }

    /// A good copy of a piece that was wrong is here; `differing` are the block numbers that were
    /// wrong before. Returns who is banned for it.
    pub(crate) fn compared(&mut self, piece: PieceIndex, differing: &[u32]) -> Vec<Identity> {
        let sources = self.evidence.remove(&piece).unwrap_or_default();
        let liars: SortedSet<Identity> = differing
            .iter()
            .filter_map(|block| sources.get(*block as usize).copied().flatten())
            .collect();
        liars.into_iter().filter_map(|peer| self.strike(peer)).collect()
    }

    /// Blocks from these peers are wrong, beyond doubt: they are banned at once. Returns who was not
    /// yet.
    pub(crate) fn proven(&mut self, liars: SortedSet<Identity>) -> Vec<Identity> {
        liars.into_iter().filter(|peer| self.ban(*peer)).collect()
    }

    fn strike(&mut self, peer: Identity) -> Option<Identity> {
        if self.strikes.len() >= MEMORY {
            self.strikes.pop_first();
        }
        let count = self.strikes.get_or_insert_with(peer, || 0);
        *count += 1;
        (*count >= LIMIT && self.ban(peer)).then_some(peer)
    }

    /// False when it is banned already.
    fn ban(&mut self, peer: Identity) -> bool {
        if self.banned.len() >= MEMORY || !self.banned.insert(peer) {
            return false;
        }
        if self.banned.iter().filter(|other| other.ip == peer.ip).count() >= LIARS_PER_ADDRESS {
            self.refused.insert(peer.ip);
        }
        true
    }

    pub(crate) fn is_banned(&self, peer: &Identity) -> bool {
        self.banned.contains(peer) || self.refused.contains(&peer.ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::hash::PeerId;

    fn peer(last: u8) -> Identity {
        Identity { ip: IpAddr::from([10, 0, 0, 1]), id: PeerId([last; 20]) }
    }

    #[test]
    fn a_single_source_is_banned_the_second_time() {
        let mut blame = Blame::default();
        assert_eq!(blame.failed(PieceIndex(0), vec![Some(peer(1)); 4]), Verdict::default());
        assert!(!blame.is_banned(&peer(1)));
        assert_eq!(blame.failed(PieceIndex(3), vec![Some(peer(1)); 4]).banned, [peer(1)]);
        assert!(blame.is_banned(&peer(1)) && !blame.is_banned(&peer(2)));
    }

    #[test]
    fn the_liar_among_several_is_found_by_comparing() {
        let mut blame = Blame::default();
        for piece in 0..2 {
            let sources = vec![Some(peer(1)), Some(peer(2)), Some(peer(3)), Some(peer(2))];
            assert!(blame.failed(PieceIndex(piece), sources).keep_evidence);
            let banned = blame.compared(PieceIndex(piece), &[1, 3]);
            assert_eq!(banned, if piece == 0 { vec![] } else { vec![peer(2)] });
        }
        assert!(!blame.is_banned(&peer(1)) && !blame.is_banned(&peer(3)));
    }

    #[test]
    fn an_address_full_of_liars_is_refused() {
        let mut blame = Blame::default();
        for id in 1..=3 {
            blame.failed(PieceIndex(0), vec![Some(peer(id))]);
            blame.failed(PieceIndex(0), vec![Some(peer(id))]);
        }
        assert!(blame.is_banned(&peer(99)));
    }

    #[test]
    fn a_web_source_is_nobody() {
        let mut blame = Blame::default();
        for _ in 0..3 {
            assert_eq!(blame.failed(PieceIndex(0), vec![None; 3]), Verdict::default());
        }
    }
}
