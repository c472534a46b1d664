//! What we ask for, and what becomes of what comes.

use std::time::Duration;

use proto::geometry::{BLOCK_LEN, Block, PieceIndex};
use proto::hash::{PeerId, PeerRole};

use super::Torrent;
use crate::core::Moment;
use crate::core::action::{Action, CloseReason, Control, PeerKey, Receipt, Violation};
use crate::core::peer::{HaveWish, Outstanding, Peer};
use crate::core::picker::{Asker, Delivery};
use crate::core::rate::{time_for, time_worth};

/// Blocks nobody asked for that are forgiven.
const UNSOLICITED: u32 = 32;

/// The part of all windows that may be open across a link to another subnet.
const ACROSS: u64 = 4;

/// A request is late in the end-game after so many times what an answer takes.
const LATE: u32 = 4;

/// Who is behind asks for more only while less is under way than comes in this time: slow links are
/// always behind, and would fill everybody's queues.
const CATCH_UP: Duration = Duration::from_millis(400);

/// See [`Torrent::pace`]: 25 Mbit/s.
const PACE: u64 = 781_250;

/// Haves wait eight seconds at most.
const SLOWEST: u32 = 32;

impl Torrent {
    /// Our own id in handshakes: near peers share out by it who fetches what from other subnets.
    pub fn set_id(&mut self, id: PeerId) {
        self.across.set_own(id);
    }

    /// A block came in; the caller keeps its bytes when the answer is [`Receipt::Keep`].
    ///
    /// # Errors
    /// [`Violation`]: the connection must be closed.
    pub fn block(&mut self, now: Moment, key: PeerKey, block: Block) -> Result<Receipt, Violation> {
        let number = block.begin / BLOCK_LEN;
        if !block.begin.is_multiple_of(BLOCK_LEN)
            || self.geometry.block(block.piece, number) != Some(block)
        {
            return Err(Violation::BadBlock(block.piece.0));
        }
        let Some(peer) = self.peers.get_mut(key) else { return Ok(Receipt::Waste) };
        peer.opened = true;
        let length = u64::from(block.length);
        if let Some(request) = peer.settle(block) {
            self.asked -= length;
            let took = now.saturating_sub(request.asked_at);
            peer.answers.note(took, now);
            self.usual_answer = (self.usual_answer * 15 + took) / 16;
        } else {
            if peer.cancelled > 0 {
                peer.cancelled -= 1;
            } else {
                peer.unsolicited += 1;
                if peer.unsolicited > UNSOLICITED {
                    return Err(Violation::Unsolicited);
                }
                self.totals.downloaded += length;
                self.totals.wasted += length;
                return Ok(Receipt::Waste);
            }
        }
        self.across.fed(now);
        peer.down.add(now, length);
        peer.downloaded += length;
        peer.quiet_since = now;
        peer.snubbed = false;
        self.down.add(now, length);
        self.totals.downloaded += length;
        let receipt = match self.picker.deliver(block, key) {
            Delivery::Unneeded => {
                self.totals.wasted += length;
                Receipt::Waste
            }
            Delivery::Kept { cancel, complete } => {
                if let Some(peer) = self.peers.get_mut(key) {
                    peer.gave.insert(block.piece);
                }
                for other in cancel.into_iter().flatten() {
                    self.cancel(now, other, block);
                }
                if complete {
                    self.actions.push_back(Action::Verify(block.piece));
                }
                Receipt::Keep
            }
        };
        self.fill(now, key);
        self.finish_call(now);
        Ok(receipt)
    }

    fn cancel(&mut self, now: Moment, key: PeerKey, block: Block) {
        if let Some(peer) = self.peers.get_mut(key)
            && peer.settle(block).is_some()
        {
            peer.cancelled += 1;
            self.asked -= u64::from(block.length);
            self.send(key, Control::Cancel(block));
            self.fill(now, key);
        }
    }

    /// Whether so many bytes are asked for, and come within this time as fast as they come now.
    #[must_use]
    pub fn expects(&self, now: Moment, bytes: u64, within: Duration) -> bool {
        let rate = self.down.per_second(now);
        rate > 0 && time_for(bytes, rate) <= within && self.asked >= bytes
    }

    pub(super) fn count_sources(&mut self, piece: PieceIndex, sources: &[PeerKey]) {
        for (source, number) in sources.iter().zip(0u32..) {
            let length = self.geometry.block(piece, number).map_or(0, |b| u64::from(b.length));
            if *source == PeerKey::WEB {
                self.totals.from_web += length;
                continue;
            }
            let identity = self.identity(*source);
            if let Some(identity) = identity {
                self.givers.add(identity.ip, length);
            }
            if identity.is_some_and(|i| i.id.role() == PeerRole::Admin) {
                self.totals.from_admin += length;
            } else {
                self.totals.from_peers += length;
            }
        }
    }

    pub(super) fn after_gaining(&mut self, now: Moment, piece: PieceIndex) {
        self.log.push(piece);
        self.across.got(piece);
        self.choker.set_slots(self.slots());
        let batch = self.have_batch(now);
        // hardly anybody here has it: each millisecond counts for all behind us
        let rare = self.picker.availability(piece) < self.config.rare_below
            && self.picker.have().count() <= self.config.rare_until;
        let lacking = self.peers.lacking(piece);
        for (at, lacks) in lacking.into_iter().enumerate() {
            if !lacks {
                self.peers.change_at(at, |peer| peer.useful = peer.useful.saturating_sub(1));
            }
            let Some((key, peer)) = self.peers.entry_at(at) else { break };
            let wait = match peer.wants_haves() {
                HaveWish::Soon if lacks && rare => Duration::ZERO,
                // it may starve, wanting nothing of ours yet
                HaveWish::Soon if lacks && !peer.interested => batch / 4,
                HaveWish::Soon => batch,
                HaveWish::AtOnce => Duration::ZERO,
                // the first one tells it that nodes have others to fetch from
                HaveWish::Rarely if !peer.knows_of_others && !peer.gave.contains(&piece) => {
                    peer.knows_of_others = true;
                    Duration::ZERO
                }
                // what it acknowledges leaves it over the link that all wait for
                HaveWish::Rarely => batch.max(self.config.have_batch * 4),
            };
            let due = now + wait;
            peer.have_due = Some(peer.have_due.map_or(due, |earlier| earlier.min(due)));
            let news = peer.has_news_of_interest();
            if wait.is_zero() {
                self.tell_pieces(key);
            }
            if news {
                self.tell_interest(now, key);
            }
        }
        if self.picker.is_done() && !self.completed {
            self.completed = self.picker.have().is_full();
            self.look_at_downlink(now);
            self.actions.push_back(Action::Completed);
            let complete: Vec<PeerKey> =
                self.peers.iter().filter(|(_, p)| p.is_complete()).map(|(k, _)| k).collect();
            if self.completed {
                for key in complete {
                    self.tell_pieces(key);
                    self.actions.push_back(Action::Disconnect(key, CloseReason::BothComplete));
                }
            }
        }
    }

    /// How many times slower this link is than one that brings [`PACE`] in a quarter of a second:
    /// what is said by the clock is said as often for each piece, so that a slow link does not cost
    /// more packets than a fast one.
    fn pace(&self, now: Moment) -> u32 {
        match self.down.per_second(now) {
            0 => 1,
            rate => u32::try_from(PACE * 4 / rate).unwrap_or(u32::MAX).clamp(1, SLOWEST),
        }
    }

    /// How long a Have waits for others to go with.
    fn have_batch(&self, now: Moment) -> Duration {
        self.config.have_batch * self.pace(now)
    }

    /// Says whether we want something of a peer, when that changed. Ours hear that we do at once,
    /// and that we do not when it lasts: each piece that comes and goes changes it.
    pub(super) fn tell_interest(&mut self, now: Moment, key: PeerKey) {
        let done = self.picker.is_done();
        let lasts = self.config.interest_lasts * self.pace(now);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let wanted = peer.useful > 0;
        peer.useless_since = match wanted {
            true => None,
            false => peer.useless_since.or(Some(now)),
        };
        let useless = peer.useless_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        if !wanted && !done && peer.is_ours() && useless < lasts {
            return;
        }
        if peer.told_interest != wanted {
            peer.told_interest = wanted;
            self.send(key, if wanted { Control::Interested } else { Control::NotInterested });
        }
    }

    /// Asks every peer for as much as its window holds.
    pub(super) fn fill_all(&mut self, now: Moment) {
        for at in 0..self.peers.len() {
            if let Some((key, _)) = self.peers.entry_at(at).filter(|(_, p)| p.can_be_asked()) {
                self.fill(now, key);
            }
        }
    }

    /// Asks a peer for as much as its window holds.
    pub(super) fn fill(&mut self, now: Moment, key: PeerKey) {
        if !self.peers.get(key).is_some_and(Peer::can_be_asked) {
            return;
        }
        let sources = self.peers.askable();
        let far = |p: &Peer| !p.near && !p.hides();
        let asked_across = match self.peers.get(key).is_some_and(far) {
            true => self.peers.values().filter(|p| far(p)).map(Peer::outstanding_bytes).sum(),
            false => 0,
        };
        debug_assert_eq!(
            self.asked,
            self.peers.values().map(Peer::outstanding_bytes).sum::<u64>(),
            "asked for or settled beside the sum"
        );
        let piece = self.geometry.piece_length();
        let least = self.config.least_window(piece, self.asked);
        let per_second = self.down.per_second(now);
        let catch_up = self.asked < time_worth(per_second, CATCH_UP);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let behind = if catch_up { u64::from(peer.useful) * u64::from(piece) } else { 0 };
        let least = least.max(self.config.window_behind(behind, per_second));
        let shown = if peer.hides() { self.config.window_shown(piece) } else { 0 };
        let least = least.max(shown);
        let mut room = peer.room(&self.config, sources, least, now);
        // a seeder that hides shows each piece to one peer: nobody else will bring it
        let limit = if far(peer) { self.across.limit(now) } else { None };
        if let Some(limit) = limit {
            let window = u64::from(self.config.total_window) / ACROSS;
            room = room.min(window.saturating_sub(asked_across));
            if limit.iter().all(|piece| !peer.has.has(*piece)) {
                return;
            }
        }
        let mut asked = false;
        while room > 0 {
            let asker = Asker { key, has: &peer.has, refused: &peer.refused, limit };
            let mut block = self.picker.pick(asker, &mut self.rng);
            if block.is_none() && peer.outstanding.len() < self.config.end_game_requests {
                block = self.picker.pick_end_game(asker, &mut self.rng);
            }
            let Some(block) = block else { break };
            // it was given up, and is on its way all the same: asked for again, it would come twice
            if peer.asked_again(block) {
                continue;
            }
            asked = true;
            if peer.outstanding.is_empty() {
                peer.quiet_since = now;
            }
            peer.ask(Outstanding { block, asked_at: now, lapsed: false });
            self.asked += u64::from(block.length);
            room = room.saturating_sub(u64::from(block.length));
            self.actions.push_back(Action::Send(key, Control::Request(block)));
        }
        if asked && self.peers.get(key).is_some_and(|peer| peer.have_due.is_some()) {
            // the packet goes anyway
            self.tell_pieces(key);
        }
    }

    /// How long a node waits for a near peer to fetch a piece from another subnet and to tell.
    pub(super) fn across_step(&self, now: Moment) -> Duration {
        self.have_batch(now) * 2 + self.usual_answer * 4
    }

    /// A request will not be answered by a peer: others may be asked.
    pub(super) fn release(&mut self, block: Block, key: PeerKey) {
        if self.picker.release(block, key, &mut self.rng) {
            self.actions.push_back(Action::Discard(block.piece));
        }
        self.refill = true;
    }

    /// Gives the requests of silent peers to others, and closes connections that stay silent.
    pub(super) fn check_silence(&mut self, now: Moment) {
        let total = (self.asked, self.down.per_second(now));
        let keys: Vec<PeerKey> =
            self.peers.iter().filter(|(_, p)| !p.outstanding.is_empty()).map(|(k, _)| k).collect();
        for key in keys {
            let Some(peer) = self.peers.get_mut(key) else { continue };
            let silence = now.saturating_sub(peer.quiet_since);
            if silence < peer.patience(&self.config, total, now) {
                continue;
            }
            if silence >= self.config.give_up {
                self.actions.push_back(Action::Disconnect(key, CloseReason::Silent));
                continue;
            }
            peer.snubbed = true;
            let lapsed: Vec<Block> =
                peer.outstanding.iter().filter(|o| !o.lapsed).map(|o| o.block).collect();
            peer.outstanding.iter_mut().for_each(|o| o.lapsed = true);
            for block in lapsed {
                self.release(block, key);
            }
            self.picker.disown(key);
        }
        self.take_back_late(now);
    }

    /// Gives the last requests that wait much longer than usual, at a slow link or behind others,
    /// to others too: only they hold the node up.
    fn take_back_late(&mut self, now: Moment) {
        if !self.picker.nothing_left_to_ask() {
            return;
        }
        let patience = (self.usual_answer * LATE).max(self.config.idle);
        let mut late = Vec::new();
        for (key, peer) in self.peers.iter_mut() {
            for request in peer.outstanding.iter_mut().filter(|o| !o.lapsed) {
                if now.saturating_sub(request.asked_at) >= patience {
                    request.lapsed = true;
                    // asked for nothing more until it has answered
                    peer.snubbed = true;
                    late.push((request.block, key));
                }
            }
        }
        for (block, key) in late {
            self.release(block, key);
        }
    }

    /// A free piece for the web seed, which delivers whole pieces: call `web_done` or `web_failed`.
    pub fn web_take(&mut self) -> Option<PieceIndex> {
        self.picker.take_whole(PeerKey::WEB)
    }

    /// The web seed delivered a piece: false when it is not needed any more, else it is to be
    /// verified now.
    pub fn web_done(&mut self, now: Moment, piece: PieceIndex) -> bool {
        let length = u64::from(self.geometry.piece_size(piece));
        self.totals.downloaded += length;
        self.down.add(now, length);
        let Some(cancel) = self.picker.deliver_whole(piece, PeerKey::WEB) else {
            self.totals.wasted += length;
            return false;
        };
        for (key, block) in cancel {
            self.cancel(now, key, block);
        }
        self.finish_call(now);
        true
    }

    /// The web seed failed: the piece is free again.
    pub fn web_failed(&mut self, now: Moment, piece: PieceIndex) {
        if self.picker.abandon_whole(piece, PeerKey::WEB, &mut self.rng) {
            self.actions.push_back(Action::Discard(piece));
        }
        self.refill = true;
        self.finish_call(now);
    }
}
