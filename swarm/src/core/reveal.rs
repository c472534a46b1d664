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
//!        └── peer left, silent, or slow ─┘
//! ```
//!
//! When everything was shown, hiding goes on: whoever comes later gets the image from the nodes, and
//! about one image leaves the seeder. It is shown to a peer to whom nothing comes from elsewhere, to
//! one that is alone with the seeder, and to all when nothing moves, when nobody has anything from
//! others, or when others only claim to have it.

mod ending;
mod shown;

use std::net::IpAddr;
use std::time::Duration;

use proto::bitfield::Bitfield;
use proto::geometry::PieceIndex;

use super::Moment;
use super::action::PeerKey;
use crate::sorted::SortedMap;
use shown::{Open, Shown};

/// How long it may go without being seen anywhere before somebody else is shown it.
const LOST_PATIENCE: Duration = Duration::from_secs(15);

/// Patience with slow links ends here.
const LONGEST_ROUND: Duration = Duration::from_secs(60);

/// A peer that holds pieces open and does not want anything loses them after this long.
const UNWANTED_PATIENCE: Duration = Duration::from_secs(5);

/// Peers that became complete are taken to serve others for this long.
const GRADUATES_STAY: Duration = Duration::from_secs(60);

/// With every incomplete peer gone for this long, the next ones are a new crowd.
const CROWD_GAP: Duration = Duration::from_secs(30);

/// State of initial seeding.
#[derive(Debug)]
pub(crate) struct Reveal {
    pieces: u32,
    open_target: usize,
    /// Pieces shown to nobody and seen nowhere, in random order.
    pool: Vec<PieceIndex>,
    in_pool: Bitfield,
    peers: SortedMap<PeerKey, Shown>,
    /// Sent whole, not seen yet, and no longer held against the peer.
    sent: Vec<(PieceIndex, PeerKey, Moment)>,
    finished: bool,
    empty_since: Option<Moment>,
    last_progress: Moment,
    /// When a peer at an address became complete, the last one there.
    graduated: SortedMap<IpAddr, Moment>,
    /// Pieces that went out whole.
    sent_whole: u32,
    /// Since when everything is shown and nobody fetches it.
    drained_since: Option<Moment>,
    /// Some peer has a piece that was not shown to it: they give each other what they got.
    relayed: bool,
    /// What it takes to send everybody a block: the uplink's queue is as long when all were sent one.
    round: Duration,
}

impl Reveal {
    pub(crate) fn new(pieces: u32, open_target: usize, rng: &mut fastrand::Rng) -> Self {
        let mut reveal = Self {
            pieces,
            open_target,
            pool: Vec::new(),
            in_pool: Bitfield::empty(pieces),
            peers: SortedMap::new(),
            sent: Vec::new(),
            finished: false,
            empty_since: None,
            last_progress: Moment::ZERO,
            graduated: SortedMap::new(),
            sent_whole: 0,
            drained_since: None,
            relayed: false,
            round: Duration::ZERO,
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
        self.graduated.clear();
        self.sent_whole = 0;
        self.relayed = false;
    }

    /// Sets what it takes now to send everybody a block. On a slow link what was sent may take that
    /// long to arrive, and everybody's first gain as well.
    pub(crate) fn set_round(&mut self, round: Duration) {
        self.round = round.min(LONGEST_ROUND);
    }

    /// Whether pieces are being hidden now.
    pub(crate) fn is_active(&self) -> bool {
        !self.finished
    }

    /// A peer connected, from this address. True when pieces are hidden from it.
    pub(crate) fn join(
        &mut self,
        peer: PeerKey,
        ip: IpAddr,
        now: Moment,
        rng: &mut fastrand::Rng,
    ) -> bool {
        // who was complete and begins again has lost it, as a node that boots once more
        let came_back = self.graduated.remove(&ip).is_some();
        let nobody_has_it = came_back && !self.finished && !self.has_graduates(now);
        if let Some(since) = self.empty_since.take()
            && (nobody_has_it || now.saturating_sub(since) >= CROWD_GAP)
        {
            self.restart(rng);
        }
        if self.finished {
            return false;
        }
        if self.peers.is_empty() {
            self.last_progress = now;
        }
        self.peers.insert(peer, Shown::new(self.pieces, now));
        true
    }

    /// The peer at an address is complete: it is a source for others from now on.
    pub(crate) fn graduated(&mut self, ip: IpAddr, now: Moment) {
        self.graduated.retain(|_, at| now.saturating_sub(*at) < GRADUATES_STAY);
        self.graduated.insert(ip, now);
    }

    fn has_graduates(&self, now: Moment) -> bool {
        self.graduated.values().any(|at| now.saturating_sub(*at) < GRADUATES_STAY)
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
        now: Moment,
        rng: &mut fastrand::Rng,
    ) {
        let open = self.peers.remove(&peer).map(|shown| shown.open).unwrap_or_default();
        let sent: Vec<PieceIndex> =
            self.sent.iter().filter(|(_, to, _)| *to == peer).map(|(piece, ..)| *piece).collect();
        self.sent.retain(|(_, to, _)| *to != peer);
        if self.finished || self.has_graduates(now) {
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
        let Some(shown) = self.peers.get_mut(&peer) else { return };
        (shown.gained, shown.last_gain) = (shown.gained + 1, now);
        self.relayed |= !shown.pieces.has(piece);
        if let Some(at) = shown.open.iter().position(|o| o.piece == piece) {
            shown.open.swap_remove(at);
            self.last_progress = now;
        }
    }

    /// Whether a peer has something to take here, or will have as soon as it has taken that. In a large
    /// crowd each is shown one piece, and then the next one when there is one left.
    pub(crate) fn offers(&self, peer: PeerKey, crowd: usize) -> bool {
        self.finished
            || self.shown_at_once(crowd) > 1
            || self.peers.get(&peer).is_none_or(|shown| !shown.open.is_empty())
    }

    /// Pieces that a peer is shown and has not taken, in a crowd of several.
    fn shown_at_once(&self, crowd: usize) -> usize {
        self.open_target.min(self.pieces as usize / (2 * crowd.max(1))).max(1)
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
            self.sent_whole += 1;
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

    /// What a slow peer alone has would reach the others at its pace: it goes out once more.
    fn show_again(&mut self, slow: PeerKey, its: &[PieceIndex], rng: &mut fastrand::Rng) {
        let on_its_way =
            self.sent.extract_if(.., |(_, to, _)| *to == slow).map(|(piece, ..)| piece);
        let pieces: Vec<PieceIndex> = on_its_way.chain(its.iter().copied()).collect();
        for piece in pieces {
            if !self.is_open(piece) {
                self.put_back(piece, rng);
            }
        }
    }

    /// Takes back what is not wanted, and what was sent long ago and is seen nowhere.
    pub(crate) fn tick(
        &mut self,
        now: Moment,
        wants: impl Fn(PeerKey) -> bool,
        seen: impl Fn(PieceIndex) -> bool,
        only_at: impl Fn(PeerKey) -> Vec<PieceIndex>,
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
        shown::judge(&mut self.peers, now);
        if self.in_pool.is_empty() {
            // all would wait for what slow ones hold
            let slow: Vec<PeerKey> =
                self.peers.iter().filter(|(_, shown)| shown.slow).map(|(key, _)| *key).collect();
            for key in slow {
                self.take_back(key, |_| true, &seen, rng);
                self.show_again(key, &only_at(key), rng);
            }
        }
        self.sent.retain(|(piece, ..)| !seen(*piece));
        let (lost, kept) = std::mem::take(&mut self.sent)
            .into_iter()
            .partition(|(.., at)| waited(*at) >= LOST_PATIENCE + self.round * 2);
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
        let target = if crowd <= 2 {
            (self.open_target * 2).max(per_second * 2)
        } else {
            self.shown_at_once(crowd)
        };
        let left = self.in_pool.count() as usize;
        let shown = self.peers.get_mut(&peer)?;
        let target = match (shown.slow, left < crowd * self.open_target) {
            (false, _) => target,
            (true, false) => 1,
            (true, true) => 0,
        };
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
}

#[cfg(test)]
mod tests;
