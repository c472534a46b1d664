//! Whose blocks go out next.
//!
//! Many peers may be unchoked and have requests queued; sending to all of them at once would finish
//! every piece late. So only a few are served at a time, each for one quantum (a piece or more), the
//! peer furthest behind first: a peer has a whole piece soon and can pass it on, and its next
//! requests are here already when its turn comes again. That a turn passes on needs no message,
//! unlike a choke, so the uplink never waits for a round trip. A turn whose receiver is full is not
//! waited for either: another one is given beside it.
//!
//! ```text
//!   requests ──▶ ready ──grant──▶ active ──(quantum sent)──▶ ready again, or gone when it wants no more
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use super::Moment;
use super::action::PeerKey;

/// Who has fewer pieces has hardly any: its link is idle, and it passes on what it gets at once.
const BEGINNER: u32 = 16;

#[derive(Debug, Clone, Copy)]
struct Turn {
    peer: PeerKey,
    /// Bytes taken for sending.
    taken: u64,
    /// Of these, bytes that are with the socket.
    handed: u64,
    /// Grant, or the last block that went out.
    progress: Moment,
}

/// Peers that are served and peers that wait for it.
#[derive(Debug)]
pub(crate) struct Turns {
    active: Vec<Turn>,
    ready: VecDeque<PeerKey>,
    at_once: usize,
    /// Of those, peers that have hardly any piece.
    beginners: usize,
    quantum: u64,
    /// Others are served beside a turn from which nothing went out for so long.
    patience: Duration,
}

impl Turns {
    pub(crate) fn new(at_once: usize, beginners: usize, quantum: u64) -> Self {
        Self {
            active: Vec::new(),
            ready: VecDeque::new(),
            at_once: at_once.max(1),
            beginners: beginners.max(1),
            quantum,
            patience: Duration::MAX,
        }
    }

    /// Bytes after which a turn ends.
    pub(crate) fn quantum(&self) -> u64 {
        self.quantum
    }

    /// Turns end after so many bytes.
    pub(crate) fn set_quantum(&mut self, bytes: u64) {
        self.quantum = bytes;
    }

    fn find(&mut self, peer: PeerKey) -> Option<&mut Turn> {
        self.active.iter_mut().find(|turn| turn.peer == peer)
    }

    /// A peer has requests waiting.
    pub(crate) fn want(&mut self, peer: PeerKey) {
        if self.active.iter().all(|turn| turn.peer != peer) && !self.ready.contains(&peer) {
            self.ready.push_back(peer);
        }
    }

    /// Whether a peer waits and a turn is free.
    pub(crate) fn is_wanted(&self, now: Moment) -> bool {
        !self.ready.is_empty() && self.busy(now).count() < self.at_once
    }

    /// The turns that others wait for.
    fn busy(&self, now: Moment) -> impl Iterator<Item = &Turn> {
        let patience = self.patience;
        self.active.iter().filter(move |turn| now.saturating_sub(turn.progress) < patience)
    }

    /// Gives a turn, when one is free, to the waiting peer that has the fewest pieces: the swarm is
    /// done when its last node is. Among equals, to the one that waits longest.
    pub(crate) fn grant(
        &mut self,
        now: Moment,
        pieces: impl Fn(PeerKey) -> u32,
    ) -> Option<PeerKey> {
        if !self.is_wanted(now) {
            return None;
        }
        let beginner = |peer: PeerKey| pieces(peer) < BEGINNER;
        let full = self.busy(now).filter(|turn| beginner(turn.peer)).count() >= self.beginners;
        let at = (0..self.ready.len())
            .filter(|at| !(full && beginner(self.ready[*at])))
            .min_by_key(|at| pieces(self.ready[*at]))?;
        let peer = self.ready.remove(at)?;
        self.active.push(Turn { peer, taken: 0, handed: 0, progress: now });
        Some(peer)
    }

    /// Whether a block may be taken for a peer now.
    pub(crate) fn may_take(&self, peer: PeerKey) -> bool {
        self.active.iter().any(|turn| turn.peer == peer && turn.taken < self.quantum)
    }

    /// A block was taken for a peer.
    pub(crate) fn took(&mut self, peer: PeerKey, bytes: u64) {
        if let Some(turn) = self.find(peer) {
            turn.taken += bytes;
        }
    }

    /// Bytes that the turns given will hand to sockets yet, without those that take nothing.
    pub(crate) fn promised(&self, now: Moment) -> u64 {
        let left = |turn: &Turn| self.quantum.max(turn.taken) - turn.handed;
        self.busy(now).map(left).sum()
    }

    /// A block is with the socket; `more` says whether the peer has requests left.
    pub(crate) fn sent(&mut self, peer: PeerKey, bytes: u64, more: bool, now: Moment) {
        if let Some(turn) = self.find(peer) {
            turn.handed = (turn.handed + bytes).min(turn.taken);
            turn.progress = now;
        }
        self.settle(peer, more);
    }

    /// Ends the turn of a peer that had its share or wants nothing.
    pub(crate) fn settle(&mut self, peer: PeerKey, more: bool) {
        let quantum = self.quantum;
        let ends = |turn: &Turn| turn.handed == turn.taken && (!more || turn.taken >= quantum);
        if let Some(at) = self.active.iter().position(|turn| turn.peer == peer)
            && ends(&self.active[at])
        {
            self.active.swap_remove(at);
            if more {
                self.ready.push_back(peer);
            }
        }
        if !more {
            self.ready.retain(|ready| *ready != peer);
        }
    }

    /// A peer is gone.
    pub(crate) fn leave(&mut self, peer: PeerKey) {
        self.active.retain(|turn| turn.peer != peer);
        self.ready.retain(|ready| *ready != peer);
    }

    /// Serves others beside those that took nothing for so long.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_few_at_once_each_for_a_quantum_in_turn() {
        let mut turns = Turns::new(2, 2, 100);
        for peer in 0..4 {
            turns.want(PeerKey(peer));
            turns.want(PeerKey(peer));
        }
        assert_eq!(turns.grant(MS(0), |_| 0), Some(PeerKey(0)));
        assert_eq!(turns.grant(MS(0), |_| 0), Some(PeerKey(1)));
        assert_eq!(turns.grant(MS(0), |_| 0), None);
        assert!(!turns.may_take(PeerKey(2)));
        for _ in 0..2 {
            assert!(turns.may_take(PeerKey(0)));
            turns.took(PeerKey(0), 60);
        }
        assert!(!turns.may_take(PeerKey(0)), "it had its share");
        assert_eq!(turns.promised(MS(2)), 120 + 100, "what was taken, and another turn");
        turns.sent(PeerKey(0), 60, true, MS(1));
        assert_eq!(turns.promised(MS(2)), 60 + 100);
        assert_eq!(turns.grant(MS(1), |_| 0), None, "one block is not with the socket yet");
        turns.sent(PeerKey(0), 60, true, MS(2));
        let order: Vec<u32> = std::iter::from_fn(|| {
            let peer = turns.grant(MS(3), |_| 0)?;
            turns.took(peer, 100);
            turns.sent(peer, 100, peer.0 < 3, MS(3));
            Some(peer.0)
        })
        .take(6)
        .collect();
        assert_eq!(order, [2, 3, 0, 2, 0, 2], "3 wants no more, 1 is still at it");
    }

    #[test]
    fn a_turn_grows_with_the_link() {
        let config = crate::core::CoreConfig::default();
        assert_eq!(config.turn(3_000_000), 32 << 10, "25 Mbit/s");
        assert_eq!(config.turn(125_000_000), 125_000, "a millisecond");
        assert_eq!(config.turn(2_000_000_000), 256 << 10);
        let mut turns = Turns::new(1, 1, 100);
        turns.want(PeerKey(0));
        assert_eq!(turns.grant(MS(0), |_| 0), Some(PeerKey(0)));
        turns.took(PeerKey(0), 100);
        assert!(!turns.may_take(PeerKey(0)));
        turns.set_quantum(200);
        assert!(turns.may_take(PeerKey(0)));
    }

    #[test]
    fn the_one_furthest_behind_is_first() {
        let mut turns = Turns::new(1, 1, 100);
        for peer in 0..4 {
            turns.want(PeerKey(peer));
        }
        let pieces = [7, 3, 9, 3];
        let order: Vec<u32> = std::iter::from_fn(|| {
            let peer = turns.grant(MS(0), |peer| pieces[peer.0 as usize])?;
            turns.settle(peer, false);
            Some(peer.0)
        })
        .collect();
        assert_eq!(order, [1, 3, 0, 2], "among equals the one that waits longest");
    }

    #[test]
    fn a_stuck_peer_holds_nobody_up() {
        let mut turns = Turns::new(1, 1, 100);
        turns.want(PeerKey(0));
        turns.want(PeerKey(1));
        assert_eq!(turns.grant(MS(0), |_| 0), Some(PeerKey(0)));
        turns.took(PeerKey(0), 100);
        turns.set_patience(MS(500));
        assert_eq!(turns.grant(MS(499), |_| 0), None);
        assert_eq!(turns.grant(MS(500), |_| 0), Some(PeerKey(1)));
        turns.sent(PeerKey(0), 100, false, MS(900));
        assert!(turns.active.iter().all(|turn| turn.peer == PeerKey(1)));
    }

    #[test]
    fn requests_taken_back_end_the_turn() {
        let mut turns = Turns::new(1, 1, 100);
        turns.want(PeerKey(0));
        turns.want(PeerKey(1));
        assert_eq!(turns.grant(MS(0), |_| 0), Some(PeerKey(0)));
        turns.settle(PeerKey(0), false);
        assert_eq!(turns.grant(MS(0), |_| 0), Some(PeerKey(1)));
        turns.leave(PeerKey(1));
        turns.want(PeerKey(1));
        turns.leave(PeerKey(1));
        assert_eq!(turns.grant(MS(0), |_| 0), None);
    }

    #[test]
    fn few_beginners_at_once_and_others_beside_them() {
        let mut turns = Turns::new(3, 1, 100);
        for peer in 0..5 {
            turns.want(PeerKey(peer));
        }
        let pieces = [0, 50, 1, 40, 2];
        let order: Vec<u32> =
            std::iter::from_fn(|| Some(turns.grant(MS(0), |peer| pieces[peer.0 as usize])?.0))
                .collect();
        assert_eq!(order, [0, 3, 1], "one that begins, and who is ahead beside it");
        turns.settle(PeerKey(0), false);
        assert_eq!(turns.grant(MS(1), |peer| pieces[peer.0 as usize]), Some(PeerKey(2)));
    }
}
