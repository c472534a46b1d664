//! What we serve and what we show.

use std::time::Duration;

use proto::bitfield::Bitfield;
use proto::geometry::{BLOCK_LEN, Block};

use super::Torrent;
use crate::core::Moment;
use crate::core::action::{Action, Control, PeerKey};
use crate::core::choker::Change;
use crate::core::rate::time_for;
use crate::core::reveal::Reveal;

/// A turn whose block goes out later than this, and a fifth later than its share of the uplink, has a
/// receiver that is full. Simulated, 300 nodes and 64 MB, last node: after six shares and 0.1 s 1.27, after
/// 2 shares 1.22, 1.5 shares 1.18, 1.2 shares 1.14, one share 1.16, and 30 nodes and 32 MB 1.15 instead of
/// 1.13. At 100 Mbit/s a share is 5 ms: 300 nodes and 128 MB took 1.17 when this was 10 ms, now 1.16.
const LEAST_PATIENCE: Duration = Duration::from_millis(5);

/// What a round of blocks takes at most, or while the rate is not known.
const LONGEST_ROUND: Duration = Duration::from_secs(3);

impl Torrent {
    pub(super) fn on_request(&mut self, now: Moment, key: PeerKey, block: Block) {
        let hidden = self.reveal.as_ref().is_some_and(|r| !r.may_request(key, block.piece));
        let Some(peer) = self.peers.get_mut(key) else { return };
        let full = peer.uploads.count() >= u64::from(self.config.reqq);
        self.choker.requested(key, now);
        if let Some(reveal) = &mut self.reveal {
            reveal.requested(key);
        }
        if peer.choked || hidden || full || !self.picker.have().has(block.piece) {
            if peer.fast {
                self.reject(key, block);
            }
            return;
        }
        peer.uploads.push(block);
        self.turns.want(key);
        self.grant_turns(now);
    }

    /// Tells a peer that what it asked for will not come, in its own terms.
    fn reject(&mut self, key: PeerKey, block: Block) {
        let Some(peer) = self.peers.get(key) else { return };
        if !peer.uploads.in_parts() {
            return self.send(key, Control::Reject(block));
        }
        block.parts().for_each(|part| self.send(key, Control::Reject(part)));
    }

    pub(super) fn on_cancel(&mut self, key: PeerKey, block: Block) {
        self.drop_uploads(key, |queued| *queued == block);
    }

    /// Takes requests off a peer's queue and tells it, where BEP 6 lets us.
    pub(super) fn drop_uploads(&mut self, key: PeerKey, which: impl Fn(&Block) -> bool) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let dropped = peer.uploads.remove(which);
        self.turns.settle(key, !peer.uploads.is_empty());
        if peer.fast {
            for block in dropped {
                self.send(key, Control::Reject(block));
            }
        }
    }

    /// The next block to send to a peer, taken off its queue. Call [`Torrent::uploaded`] when it is
    /// with the socket. Haves that wait are queued before it, and so is the choke when this is the last
    /// block of its slot: they ride along.
    pub fn next_upload(&mut self, now: Moment, key: PeerKey) -> Option<Block> {
        if !self.turns.may_take(key) {
            return None;
        }
        // a fast link is pushed to by turns, which are several blocks
        let turn = self.turns.quantum();
        let most = match turn > u64::from(self.config.quantum) {
            true => u32::try_from(turn).unwrap_or(u32::MAX).next_multiple_of(BLOCK_LEN),
            false => BLOCK_LEN,
        };
        let peer = self.peers.get_mut(key)?;
        let block = peer.uploads.pop(most)?;
        peer.sending += 1;
        let length = u64::from(block.length);
        let fast = peer.fast;
        self.turns.took(key, length);
        self.tell_pieces(key);
        if fast {
            // with BEP 6 a choke takes back nothing that was asked for
            self.count_towards_slot(now, key, length);
        }
        Some(block)
    }

    /// A block was handed to the socket.
    pub fn uploaded(&mut self, now: Moment, key: PeerKey, block: Block) {
        let length = u64::from(block.length);
        self.totals.uploaded += length;
        self.up.add(now, length);
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.sending = peer.sending.saturating_sub(1);
        peer.up.add(now, length);
        peer.uploaded += length;
        let fast = peer.fast;
        let mut sent_whole = false;
        if let Some(reveal) = &mut self.reveal {
            let size = self.geometry.piece_size(block.piece);
            sent_whole = reveal.sent(key, block.piece, block.length, size, now);
        }
        let more = self.peers.get(key).is_some_and(|peer| !peer.uploads.is_empty());
        self.uplink.sent(key, length, now);
        self.turns.sent(key, length, more, now);
        if !fast {
            self.count_towards_slot(now, key, length);
        }
        if sent_whole {
            self.show_more(now, key);
        }
        self.grant_turns(now);
    }

    fn count_towards_slot(&mut self, now: Moment, key: PeerKey, bytes: u64) {
        let change = self.choker.served(key, bytes, now);
        self.apply(change);
    }

    /// Wakes the peers whose turn it is.
    pub(super) fn grant_turns(&mut self, now: Moment) {
        let peers = &self.peers;
        let pieces = |key: PeerKey| peers.get(key).map_or(0, |peer| peer.has.count());
        while self.turns.is_wanted(now) && self.uplink.has_room(self.turns.promised(now), now) {
            let Some(key) = self.turns.grant(now, pieces) else { break };
            self.actions.push_back(Action::Serve(key));
        }
        if self.uplink.wants_look() {
            self.actions.push_back(Action::LookSoon);
        }
    }

    /// Looks at the sockets, and gives the turns that waited for that: call this with every
    /// [`Torrent::tick`], and as often as [`Torrent::look_again`] says. `left` gives the bytes that
    /// were handed to a peer's socket and are not acknowledged by its kernel.
    pub fn look_at_sockets(&mut self, now: Moment, left: impl Fn(PeerKey) -> u64) {
        self.uplink.look(now, left);
        self.grant_turns(now);
    }

    /// How soon turns that wait want the sockets looked at, if any do.
    #[must_use]
    pub fn look_again(&self) -> Option<Duration> {
        self.uplink.look_again()
    }

    pub(super) fn tick_turns(&mut self, now: Moment) {
        let turn = self.config.turn(self.up.per_second(now));
        self.turns.set_quantum(turn);
        // one block or, on a fast link, one push of each turn
        let push = if turn > u64::from(self.config.quantum) { turn } else { u64::from(BLOCK_LEN) };
        let round = match self.uplink_rate(now) {
            0 => LONGEST_ROUND,
            rate => time_for(push * self.config.served_at_once as u64, rate).min(LONGEST_ROUND),
        };
        self.turns.set_patience((round * 6 / 5).max(LEAST_PATIENCE));
        self.grant_turns(now);
    }

    pub(super) fn apply(&mut self, change: Change) {
        for key in change.choke {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.choked = true;
                self.send(key, Control::Choke);
                self.drop_uploads(key, |_| true);
            }
        }
        for key in change.unchoke {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.choked = false;
                self.send(key, Control::Unchoke);
            }
        }
    }

    pub(super) fn tick_slots(&mut self, now: Moment) {
        // a peer that asked but does not take what is sent: on a slow link a full slot takes long
        let quantum = u64::from(self.config.quantum.max(self.geometry.piece_length()));
        let slow =
            time_for(quantum * self.config.upload_slots as u64, self.uplink_rate(now).max(1));
        let allowed = Duration::from_secs(5) + slow.min(Duration::from_secs(20)) * 2;
        let peers = &self.peers;
        let busy = |key: PeerKey| {
            peers.get(key).filter(|p| p.sending > 0 || !p.uploads.is_empty()).map(|_| allowed)
        };
        let (change, idle) = self.choker.tick(now, busy);
        self.apply(change);
        if let Some(reveal) = &mut self.reveal {
            for key in idle {
                let picker = &self.picker;
                reveal.idle_turn(key, |p| picker.availability(p) > 0, &mut self.rng);
            }
        }
    }

    /// Tells a peer which pieces we got since it was told last.
    pub(super) fn tell_pieces(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.have_due = None;
        let waits = peer.hides();
        for piece in &self.log[peer.told.min(self.log.len())..] {
            let gave = peer.gave.remove(piece);
            if !peer.has.has(*piece) || gave || waits {
                self.actions.push_back(Action::Send(key, Control::Have(*piece)));
            }
        }
        peer.told = self.log.len();
    }

    /// While pieces are hidden: shows a peer its next ones.
    pub(super) fn show_more(&mut self, now: Moment, key: PeerKey) {
        let (Some(reveal), Some(peer)) = (&mut self.reveal, self.peers.get(key)) else { return };
        if !peer.hidden {
            return;
        }
        let per_second = peer.up.per_second(now) / u64::from(self.geometry.piece_length());
        let per_second = usize::try_from(per_second).unwrap_or(usize::MAX / 2);
        while let Some(piece) = reveal.next(key, &peer.has, self.crowd, per_second, now) {
            self.actions.push_back(Action::Send(key, Control::Have(piece)));
        }
        self.settle_slot(now, key);
    }

    /// Who wants something that it may have takes part in the slots. A peer that has taken all it was
    /// shown would hold its slot until it says that it wants nothing: with more nodes than pieces the
    /// seeder waited for that half of its time.
    pub(super) fn settle_slot(&mut self, now: Moment, key: PeerKey) {
        let offers = self.reveal.as_ref().is_none_or(|reveal| reveal.offers(key, self.crowd));
        let wants = self.peers.get(key).is_some_and(|peer| peer.interested && offers);
        if self.choker.knows(key) != wants {
            let hides = self.reveal.as_ref().is_some_and(Reveal::is_active);
            let change = match wants {
                true => self.choker.want(key, now),
                false if hides => self.choker.leave(key, now),
                false => self.choker.rest(key, now),
            };
            self.apply(change);
        }
    }

    /// What the uplink carries, in bytes per second. Not what it carries now, when it ever was full: it is
    /// not slow because nobody asks for anything, or because turns are stuck.
    fn uplink_rate(&self, now: Moment) -> u64 {
        self.uplink.rate().unwrap_or_else(|| self.up.per_second(now))
    }

    pub(super) fn tick_reveal(&mut self, now: Moment) {
        let rate = self.uplink_rate(now);
        let Some(reveal) = &mut self.reveal else { return };
        if !reveal.is_active() {
            return;
        }
        let (peers, picker) = (&self.peers, &self.picker);
        let wants = |key: PeerKey| peers.get(key).is_some_and(|p| p.interested);
        let only_at = |key: PeerKey| {
            let its = peers.get(key).map(|p| p.has.iter()).into_iter().flatten();
            its.filter(|piece| picker.availability(*piece) == 1).collect()
        };
        let round = if rate == 0 { 0 } else { self.crowd as u64 * u64::from(BLOCK_LEN) };
        reveal.set_round(time_for(round, rate.max(1)));
        reveal.tick(now, wants, |p| picker.availability(p) > 0, only_at, &mut self.rng);
        for at in 0..self.peers.len() {
            if let Some(key) = self.peers.key_at(at) {
                self.show_more(now, key);
            }
        }
        let patience = self.reveal_patience();
        let all_seen = self.picker.all_seen();
        let busy = self.peers.values().any(|p| p.sending > 0 || !p.uploads.is_empty());
        let Some(reveal) = &mut self.reveal else { return };
        let shown = match reveal.should_finish(all_seen, busy, self.crowd, patience, now) {
            true => reveal.finish(),
            false => reveal.stalled(now),
        };
        for (key, shown) in shown {
            self.show_all(key, &shown);
            self.settle_slot(now, key);
        }
    }

    /// Ends hiding from a peer, to which some pieces were shown.
    fn show_all(&mut self, key: PeerKey, shown: &Bitfield) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.hidden = false;
        if peer.fast && peer.is_ours() {
            // BEP 6 wants it first; ours take it at any time
            self.actions.push_back(Action::Send(key, Control::HaveAll));
            return;
        }
        for piece in self.geometry.indices() {
            if !shown.has(piece) && !peer.has.has(piece) {
                self.actions.push_back(Action::Send(key, Control::Have(piece)));
            }
        }
    }
}
