//! What peers say.

use proto::bitfield::Bitfield;
use proto::geometry::{Block, PieceIndex};

use super::Torrent;
use crate::core::Moment;
use crate::core::action::{Action, CloseReason, Control, PeerKey, Violation};

impl Torrent {
    /// A message came in.
    ///
    /// # Errors
    /// [`Violation`]: the connection must be closed.
    pub fn message(
        &mut self,
        now: Moment,
        key: PeerKey,
        message: Control,
    ) -> Result<(), Violation> {
        let Some(peer) = self.peers.get_mut(key) else { return Ok(()) };
        let first = !std::mem::replace(&mut peer.opened, true);
        let fast_only =
            matches!(message, Control::HaveAll | Control::HaveNone | Control::Reject(_));
        if fast_only && !peer.fast {
            return Err(Violation::NotNegotiated);
        }
        match message {
            Control::Choke => self.on_choke(key),
            Control::Unchoke => self.on_unchoke(now, key),
            Control::Interested => self.on_interest(now, key, true),
            Control::NotInterested => self.on_interest(now, key, false),
            Control::Have(piece) => self.on_have(now, key, piece)?,
            Control::Bitfield(field) => self.on_bitfield(now, key, field)?,
            // late ones are harmless where they add something
            Control::HaveAll => self.on_pieces(now, key, Bitfield::full(self.geometry.pieces())),
            Control::HaveNone if first => {}
            Control::HaveNone => {}
            Control::Request(block) => self.on_request(now, key, self.valid(block)?),
            Control::Cancel(block) => self.on_cancel(key, self.valid(block)?),
            Control::Reject(block) => self.on_reject(key, self.valid(block)?),
            Control::AskHashes(_) => {}
        }
        self.finish_call(now);
        Ok(())
    }

    /// What the extension handshake told: how many requests the peer queues, whether it wants
    /// nothing, and whether it takes what it asked for in parts.
    pub fn extension(
        &mut self,
        key: PeerKey,
        reqq: Option<u32>,
        upload_only: bool,
        in_parts: bool,
    ) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.reqq = reqq.map_or(self.config.reqq, |q| q.clamp(1, self.config.reqq));
            peer.upload_only = upload_only;
            peer.uploads.set_in_parts(in_parts);
        }
    }

    fn valid(&self, block: Block) -> Result<Block, Violation> {
        if self.geometry.contains(block) && block.length <= proto::wire::MAX_REQUEST_LEN {
            Ok(block)
        } else {
            Err(Violation::BadBlock(block.piece.0))
        }
    }

    fn on_choke(&mut self, key: PeerKey) {
        self.peers.change(key, |peer| peer.chokes_us = true);
        let Some(peer) = self.peers.get_mut(key) else { return };
        if !peer.fast {
            // without BEP 6 a choke silently drops every request; what is under way may still come
            self.asked -= peer.outstanding_bytes();
            let dropped = peer.forget_asked();
            peer.cancelled += u32::try_from(dropped.len()).unwrap_or(u32::MAX);
            for request in dropped.iter().filter(|o| !o.lapsed) {
                self.release(request.block, key);
            }
            self.picker.disown(key);
        }
    }

    fn on_unchoke(&mut self, now: Moment, key: PeerKey) {
        self.peers.change(key, |peer| peer.chokes_us = false);
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.refused.clear();
        if peer.outstanding.is_empty() {
            peer.snubbed = false;
        }
        self.fill(now, key);
    }

    fn on_interest(&mut self, now: Moment, key: PeerKey, interested: bool) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if std::mem::replace(&mut peer.interested, interested) == interested {
            return;
        }
        self.settle_slot(now, key);
    }

    fn on_have(&mut self, now: Moment, key: PeerKey, piece: PieceIndex) -> Result<(), Violation> {
        if self.geometry.piece(piece.0).is_none() {
            return Err(Violation::NoSuchPiece(piece.0));
        }
        self.gain(now, key, piece);
        self.after_gain(now, key);
        Ok(())
    }

    fn on_bitfield(&mut self, now: Moment, key: PeerKey, field: Bitfield) -> Result<(), Violation> {
        if field.pieces() != self.geometry.pieces() {
            return Err(Violation::BadBitfield);
        }
        self.on_pieces(now, key, field);
        Ok(())
    }

    fn on_pieces(&mut self, now: Moment, key: PeerKey, field: Bitfield) {
        for piece in field.iter() {
            self.gain(now, key, piece);
        }
        self.after_gain(now, key);
    }

    fn gain(&mut self, now: Moment, key: PeerKey, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if !peer.has.insert(piece) {
            return;
        }
        let (complete, near, hides) = (peer.is_complete(), peer.near, peer.hides());
        let ip = peer.identity.ip;
        if complete {
            self.crowd -= 1;
        }
        if self.picker.wants(piece) {
            self.peers.change(key, |peer| peer.useful += 1);
        }
        self.picker.peer_has(piece, &mut self.rng);
        if near {
            self.across.here(piece);
        } else if !hides && self.picker.wants(piece) {
            let step = self.across_step(now);
            self.across.there(piece, step, now);
        }
        if let Some(reveal) = &mut self.reveal {
            reveal.seen(key, piece, now);
            if complete {
                reveal.graduated(ip, now);
            }
            if self.crowd == 0 {
                reveal.crowd_gone(now);
            }
        }
    }

    fn after_gain(&mut self, now: Moment, key: PeerKey) {
        self.tell_interest(now, key);
        self.fill(now, key);
        self.show_more(now, key);
        let peer = self.peers.get(key);
        let complete = peer.is_some_and(crate::core::peer::Peer::is_complete);
        if complete && peer.is_some_and(|peer| !peer.near) {
            // it may have been hiding until now
            let step = self.across_step(now);
            for piece in self.geometry.indices().filter(|piece| self.picker.wants(*piece)) {
                self.across.there(piece, step, now);
            }
        }
        if complete && self.completed {
            self.actions.push_back(Action::Disconnect(key, CloseReason::BothComplete));
        }
    }

    fn on_reject(&mut self, key: PeerKey, block: Block) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(request) = peer.settle(block) else { return };
        self.asked -= u64::from(block.length);
        if !peer.chokes_us {
            // it will not give this piece now; asking again at once would be a loop
            peer.refused.insert(block.piece);
        }
        if !request.lapsed {
            self.release(block, key);
        }
    }
}
