//! Initial seeding: what a complete peer shows while the swarm does not have everything yet.
//!
//! After BEP 16: the seeder pretends to have nothing and shows each peer a few pieces that no other
//! peer was shown, so that each piece leaves it once and the rest comes from peers. Unlike BEP 16 it
//! does not wait for a piece to be seen at a third peer before it shows the next one, only for the
//! piece to be sent; a foreign client that hides its Haves, a single leecher and a late one are not
//! slowed.
//!
//! ```text
//!   pool (shown to nobody) ──show──▶ open at a peer ──its Have, or sent whole──▶ closed
//!        ▲                               │
//!        └── peer left, or was silent ───┘      every piece seen at some peer ─▶ all is shown
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use proto::bitfield::Bitfield;
use proto::geometry::PieceIndex;

use super::Moment;
use super::action::PeerKey;

/// How long it may go without being seen anywhere before somebody else is shown it.
const LOST_PATIENCE: Duration = Duration::from_secs(15);

/// With everything shown and fetched, the uplink may idle for this long before all is shown to all.
const DRAINED_PATIENCE: Duration = Duration::from_millis(150);

/// The same while some peer has not fetched what it was shown: its slot may take a while to come.
const UNFETCHED_PATIENCE: Duration = Duration::from_secs(1);

/// A peer that holds pieces open and does not want anything loses them after this long.
const UNWANTED_PATIENCE: Duration = Duration::from_secs(5);

/// With every incomplete peer gone for this long, the next ones are a new crowd.
const CROWD_GAP: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
struct Open {
    piece: PieceIndex,
    shown_at: Moment,
    sent: u32,
}

#[derive(Debug)]
struct Shown {
    pieces: Bitfield,
    open: Vec<Open>,
    /// Times in a row that it had a slot and asked for nothing.
    idle_turns: u32,
}

/// State of initial seeding.
#[derive(Debug)]
pub(crate) struct Reveal {
    pieces: u32,
    open_target: usize,
    /// Pieces shown to nobody and seen nowhere, in random order.
    pool: Vec<PieceIndex>,
    in_pool: Bitfield,
    peers: BTreeMap<PeerKey, Shown>,
    /// Sent whole, not seen yet, and no longer held against the peer.
    sent: Vec<(PieceIndex, PeerKey, Moment)>,
    finished: bool,
    empty_since: Option<Moment>,
    last_progress: Moment,
    /// Since when everything is shown and nobody fetches it.
    drained_since: Option<Moment>,
}

impl Reveal {
    pub(crate) fn new(pieces: u32, open_target: usize, rng: &mut fastrand::Rng) -> Self {
        let mut reveal = Self {
            pieces,
            open_target,
            pool: Vec::new(),
            in_pool: Bitfield::empty(pieces),
            peers: BTreeMap::new(),
            sent: Vec::new(),
            finished: false,
            empty_since: None,
            last_progress: Moment::ZERO,
            drained_since: None,
        };
        reveal.restart(rng);
        reveal
    }

    fn restart(&mut self, rng: &mut fastrand::Rng) {
        self.pool = (0..self.pieces).map(PieceIndex).collect();
        rng.shuffle(&mut self.pool);
        self.in_pool = Bitfield::full(self.pieces);
        self.finished = false;
        self.peers.clear();
        self.sent.clear();
    }

    /// Whether pieces are being hidden now.
    pub(crate) fn is_active(&self) -> bool {
        !self.finished
    }

    /// A peer connected. True when pieces are hidden from it.
    pub(crate) fn join(&mut self, peer: PeerKey, now: Moment, rng: &mut fastrand::Rng) -> bool {
        if let Some(since) = self.empty_since.take()
            && now.saturating_sub(since) >= CROWD_GAP
        {
            self.restart(rng);
        }
        if self.finished {
            return false;
        }
        if self.peers.is_empty() {
            self.last_progress = now;
        }
        let pieces = Bitfield::empty(self.pieces);
        self.peers.insert(peer, Shown { pieces, open: Vec::new(), idle_turns: 0 });
        true
    }

    /// The last incomplete peer is gone.
    pub(crate) fn crowd_gone(&mut self, now: Moment) {
        self.empty_since.get_or_insert(now);
    }

    /// A peer left; what it held open and what is now seen nowhere can be shown to others.
    pub(crate) fn leave(
        &mut self,
        peer: PeerKey,
        seen: impl Fn(PieceIndex) -> bool,
        its: &Bitfield,
        rng: &mut fastrand::Rng,
    ) {
        let open = self.peers.remove(&peer).map(|shown| shown.open).unwrap_or_default();
        let sent: Vec<PieceIndex> =
            self.sent.iter().filter(|(_, to, _)| *to == peer).map(|(piece, ..)| *piece).collect();
        self.sent.retain(|(_, to, _)| *to != peer);
        if self.finished {
            return;
        }
        for piece in open.iter().map(|o| o.piece).chain(sent).chain(its.iter()) {
            if !seen(piece) && !self.is_open(piece) {
                self.put_back(piece, rng);
            }
        }
    }

    fn is_open(&self, piece: PieceIndex) -> bool {
        self.peers.values().any(|shown| shown.open.iter().any(|o| o.piece == piece))
            || self.sent.iter().any(|(sent, ..)| *sent == piece)
    }

    fn put_back(&mut self, piece: PieceIndex, rng: &mut fastrand::Rng) {
        if self.in_pool.insert(piece) {
            if self.pool.len() > 2 * self.pieces as usize {
                // stale entries of peers that came and went
                self.pool = self.in_pool.iter().filter(|p| *p != piece).collect();
                rng.shuffle(&mut self.pool);
            }
            let at = rng.usize(..=self.pool.len());
            self.pool.push(piece);
            let last = self.pool.len() - 1;
            self.pool.swap(at, last);
        }
    }

    /// Whether a piece may be sent to a peer.
    pub(crate) fn may_request(&self, peer: PeerKey, piece: PieceIndex) -> bool {
        self.finished || self.peers.get(&peer).is_none_or(|shown| shown.pieces.has(piece))
    }

    /// A peer says it has a piece: it need not be shown to anybody for its own sake.
    pub(crate) fn seen(&mut self, peer: PeerKey, piece: PieceIndex, now: Moment) {
        self.in_pool.remove(piece);
        if let Some(shown) = self.peers.get_mut(&peer)
            && let Some(at) = shown.open.iter().position(|o| o.piece == piece)
        {
            shown.open.swap_remove(at);
            self.last_progress = now;
        }
    }

    /// A peer asks: it takes what it was shown.
    pub(crate) fn requested(&mut self, peer: PeerKey) {
        if let Some(shown) = self.peers.get_mut(&peer) {
            shown.idle_turns = 0;
        }
    }

    /// Bytes of a piece went out to a peer. A piece that went out whole is not open any more: its
    /// Have may take long, and the next one can be shown. True then.
    pub(crate) fn sent(
        &mut self,
        peer: PeerKey,
        piece: PieceIndex,
        bytes: u32,
        size: u32,
        now: Moment,
    ) -> bool {
        self.last_progress = now;
        let Some(shown) = self.peers.get_mut(&peer) else { return false };
        let Some(at) = shown.open.iter().position(|o| o.piece == piece) else { return false };
        shown.open[at].sent += bytes;
        let whole = shown.open[at].sent >= size;
        if whole {
            shown.open.swap_remove(at);
            self.sent.push((piece, peer, now));
        }
        whole
    }

    /// A peer had a slot and asked for nothing: after the second time its pieces go to others.
    pub(crate) fn idle_turn(
        &mut self,
        peer: PeerKey,
        seen: impl Fn(PieceIndex) -> bool,
        rng: &mut fastrand::Rng,
    ) {
        let Some(shown) = self.peers.get_mut(&peer) else { return };
        shown.idle_turns += 1;
        if shown.idle_turns >= 2 {
            self.take_back(peer, |_| true, seen, rng);
        }
    }

    fn take_back(
        &mut self,
        peer: PeerKey,
        which: impl Fn(&Open) -> bool,
        seen: impl Fn(PieceIndex) -> bool,
        rng: &mut fastrand::Rng,
    ) {
        let Some(shown) = self.peers.get_mut(&peer) else { return };
        let (lost, kept) =
            std::mem::take(&mut shown.open).into_iter().partition::<Vec<_>, _>(which);
        shown.open = kept;
        for open in lost {
            if !seen(open.piece) && !self.is_open(open.piece) {
                self.put_back(open.piece, rng);
            }
        }
    }

    /// Takes back what is not wanted, and what was sent long ago and is seen nowhere.
    pub(crate) fn tick(
        &mut self,
        now: Moment,
        wants: impl Fn(PeerKey) -> bool,
        seen: impl Fn(PieceIndex) -> bool,
        rng: &mut fastrand::Rng,
    ) {
        if self.finished {
            return;
        }
        let keys: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, shown)| !shown.open.is_empty())
            .map(|(key, _)| *key)
            .collect();
        let waited = |since: Moment| now.saturating_sub(since);
        for key in keys {
            if !wants(key) {
                let stale = |o: &Open| waited(o.shown_at) >= UNWANTED_PATIENCE;
                self.take_back(key, stale, &seen, rng);
            }
        }
        self.sent.retain(|(piece, ..)| !seen(*piece));
        let (lost, kept) = std::mem::take(&mut self.sent)
            .into_iter()
            .partition(|(.., at)| waited(*at) >= LOST_PATIENCE);
        self.sent = kept;
        let lost: Vec<_> = lost;
        for (piece, ..) in lost {
            self.put_back(piece, rng);
        }
    }

    /// The next piece to show to a peer, if it has room for one. `per_second` is how many pieces the
    /// peer takes in a second.
    pub(crate) fn next(
        &mut self,
        peer: PeerKey,
        has: &Bitfield,
        crowd: usize,
        per_second: usize,
        now: Moment,
    ) -> Option<PieceIndex> {
        if self.finished {
            return None;
        }
        // few peers: little to share out, and no time may be lost, not even with clients that keep
        // their Haves to themselves
        let pieces = self.pieces as usize;
        let target = if crowd <= 2 {
            (self.open_target * 2).max(per_second * 2)
        } else {
            self.open_target.min(pieces / (2 * crowd)).max(1)
        };
        let shown = self.peers.get_mut(&peer)?;
        if shown.open.len() >= target {
            return None;
        }
        // stale entries (seen meanwhile) are dropped on the way
        while let Some(last) = self.pool.last() {
            if self.in_pool.has(*last) {
                break;
            }
            self.pool.pop();
        }
        let at = self.pool.iter().rposition(|p| self.in_pool.has(*p) && !has.has(*p))?;
        let piece = self.pool.swap_remove(at);
        self.in_pool.remove(piece);
        shown.pieces.insert(piece);
        shown.open.push(Open { piece, shown_at: now, sent: 0 });
        Some(piece)
    }

    /// Whether hiding has no purpose any more: everything was seen, or everything was shown and the
    /// uplink idles (`busy` says that it does not), or nothing moves for `patience` although
    /// somebody wants something.
    pub(crate) fn should_finish(
        &mut self,
        all_seen: bool,
        busy: bool,
        crowd: usize,
        patience: Duration,
        now: Moment,
    ) -> bool {
        if self.finished || crowd == 0 {
            return false;
        }
        if busy || !self.in_pool.is_empty() {
            self.drained_since = None;
        } else {
            self.drained_since.get_or_insert(now);
        }
        let unfetched = self.peers.values().any(|shown| !shown.open.is_empty());
        let allowed = if unfetched { UNFETCHED_PATIENCE } else { DRAINED_PATIENCE };
        let drained = self.drained_since.is_some_and(|since| now.saturating_sub(since) >= allowed);
        let stuck = now.saturating_sub(self.last_progress) >= patience;
        all_seen || drained || stuck
    }

    /// Ends hiding. Returns each peer with what was shown to it.
    pub(crate) fn finish(&mut self) -> Vec<(PeerKey, Bitfield)> {
        self.finished = true;
        self.drained_since = None;
        self.pool.clear();
        self.in_pool = Bitfield::empty(self.pieces);
        std::mem::take(&mut self.peers)
            .into_iter()
            .map(|(key, shown)| (key, shown.pieces))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: fn(u64) -> Duration = Duration::from_secs;

    fn setup(pieces: u32, peers: u32) -> (Reveal, fastrand::Rng) {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut reveal = Reveal::new(pieces, 4, &mut rng);
        for key in 0..peers {
            assert!(reveal.join(PeerKey(key), SEC(0), &mut rng));
        }
        (reveal, rng)
    }

    fn show_all(reveal: &mut Reveal, peer: u32, crowd: usize) -> Vec<u32> {
        let none = Bitfield::empty(reveal.pieces);
        std::iter::from_fn(|| reveal.next(PeerKey(peer), &none, crowd, 0, SEC(0)).map(|p| p.0))
            .collect()
    }

    #[test]
    fn each_piece_is_shown_once() {
        let (mut reveal, _) = setup(100, 5);
        let mut shown: Vec<u32> = (0..5).flat_map(|peer| show_all(&mut reveal, peer, 5)).collect();
        assert_eq!(shown.len(), 20, "four per peer");
        shown.sort_unstable();
        shown.dedup();
        assert_eq!(shown.len(), 20, "no piece twice");
    }

    #[test]
    fn a_have_opens_the_next_and_hidden_pieces_are_refused() {
        let (mut reveal, _) = setup(100, 5);
        let first = show_all(&mut reveal, 0, 5);
        assert!(reveal.may_request(PeerKey(0), PieceIndex(first[0])));
        assert!(!reveal.may_request(PeerKey(1), PieceIndex(first[0])));
        reveal.seen(PeerKey(0), PieceIndex(first[0]), SEC(1));
        assert_eq!(show_all(&mut reveal, 0, 5).len(), 1);
    }

    #[test]
    fn pieces_of_a_gone_peer_come_back() {
        let (mut reveal, mut rng) = setup(8, 2);
        let first = show_all(&mut reveal, 0, 2);
        assert_eq!(first.len(), 8, "twice as many while there are only two peers");
        assert!(show_all(&mut reveal, 1, 2).is_empty());
        reveal.leave(PeerKey(0), |p| p.0 == first[3], &Bitfield::empty(8), &mut rng);
        let mut second = show_all(&mut reveal, 1, 2);
        second.push(first[3]);
        second.sort_unstable();
        assert_eq!(second, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn silence_ends_hiding_in_the_end() {
        let (mut reveal, mut rng) = setup(4, 3);
        let held = show_all(&mut reveal, 0, 3);
        assert_eq!(held.len(), 1);
        reveal.idle_turn(PeerKey(0), |_| false, &mut rng);
        assert_eq!(reveal.pool.len(), 3);
        reveal.idle_turn(PeerKey(0), |_| false, &mut rng);
        assert_eq!(reveal.pool.len(), 4, "a peer that never asks loses its pieces");
        assert!(!reveal.should_finish(false, true, 3, SEC(10), SEC(9)));
        assert!(reveal.should_finish(false, true, 3, SEC(10), SEC(10)));
        assert_eq!(reveal.finish().len(), 3);
        assert!(!reveal.join(PeerKey(9), SEC(11), &mut rng), "late joiners see everything");
    }

    #[test]
    fn an_idle_uplink_with_nothing_to_show_ends_hiding() {
        let (mut reveal, _) = setup(4, 2);
        assert!(!reveal.should_finish(false, false, 2, SEC(10), SEC(1)), "there is more to show");
        assert_eq!(show_all(&mut reveal, 0, 2).len(), 4);
        assert!(!reveal.should_finish(false, true, 2, SEC(10), SEC(2)));
        assert!(!reveal.should_finish(false, false, 2, SEC(10), SEC(3)));
        assert!(reveal.should_finish(false, false, 2, SEC(10), SEC(4)));
    }

    #[test]
    fn a_new_crowd_is_steered_again() {
        let (mut reveal, mut rng) = setup(4, 1);
        reveal.finish();
        reveal.crowd_gone(SEC(100));
        assert!(!reveal.join(PeerKey(5), SEC(110), &mut rng));
        reveal.crowd_gone(SEC(120));
        assert!(reveal.join(PeerKey(6), SEC(150), &mut rng));
    }

    #[test]
    fn what_was_sent_whole_makes_room_and_comes_back_when_nobody_shows_it() {
        let (mut reveal, mut rng) = setup(100, 5);
        let first = show_all(&mut reveal, 0, 5);
        assert!(!reveal.sent(PeerKey(0), PieceIndex(first[0]), 60, 100, SEC(1)));
        assert!(show_all(&mut reveal, 0, 5).is_empty());
        assert!(reveal.sent(PeerKey(0), PieceIndex(first[0]), 40, 100, SEC(1)));
        assert_eq!(show_all(&mut reveal, 0, 5).len(), 1);
        assert!(!reveal.in_pool.has(PieceIndex(first[0])));
        reveal.tick(SEC(15), |_| true, |_| false, &mut rng);
        assert!(!reveal.in_pool.has(PieceIndex(first[0])));
        reveal.tick(SEC(16), |_| true, |_| false, &mut rng);
        assert!(reveal.in_pool.has(PieceIndex(first[0])), "nobody said that it has it");
    }
}
