//! The state machine of one torrent: peers come and go, messages and blocks arrive, time passes.
//!
//! This file holds the state, connections and time. What we ask for is in `fetch`, what we serve in
//! `serve`, what peers say in `incoming`, whose doing wrong pieces are in `judge`.

mod fetch;
mod incoming;
mod judge;
mod serve;

use std::collections::VecDeque;
use std::time::Duration;

use proto::bitfield::Bitfield;
use proto::geometry::{Geometry, PieceIndex};

use self::judge::Question;
use super::Moment;
use super::across::Across;
use super::action::{Action, CloseReason, Control, Identity, PeerKey};
use super::blame::Blame;
use super::choker::Choker;
use super::config::CoreConfig;
use super::downlink::Downlink;
use super::givers::Givers;
use super::peer::Peer;
use super::peers::Peers;
use super::picker::{Picker, Priority};
use super::rate::Rate;
use super::reveal::Reveal;
use super::turns::Turns;
use super::uplink::Uplink;
use crate::sorted::SortedMap;

/// Identities of peers that left, kept so that a piece they helped with can still be judged.
const DEPARTED: usize = 512;

/// What is known of a peer when its handshake is done.
#[derive(Debug, Clone, Copy)]
pub struct PeerSetup {
    /// Who it is.
    pub identity: Identity,
    /// Whether both sides offered BEP 6.
    pub fast: bool,
    /// Whether it is in our subnet: what only others have is fetched from there about once.
    pub near: bool,
    /// Whether both sides speak BEP 52: it can be asked for hashes.
    pub v2: bool,
}

/// Counters of one torrent, in bytes unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Verified, from peers whose id says admin.
    pub from_admin: u64,
    /// Verified, from other peers.
    pub from_peers: u64,
    /// Verified, from the web seed.
    pub from_web: u64,
    /// Blocks sent.
    pub uploaded: u64,
    /// Blocks received, needed or not.
    pub downloaded: u64,
    /// Blocks received and dropped, duplicates and wrong pieces.
    pub wasted: u64,
    /// Pieces that failed their hash.
    pub hash_failures: u32,
}

/// What the core knows of a connected peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerView {
    /// Pieces it says it has.
    pub pieces: u32,
    /// Whether it has all.
    pub complete: bool,
    /// Whether it may request from us.
    pub unchoked: bool,
    /// Whether it lets us request.
    pub unchokes_us: bool,
    /// Whether it wants something of ours.
    pub interested: bool,
    /// Its pieces that we want.
    pub useful: u32,
    /// Bytes received.
    pub downloaded: u64,
    /// Bytes sent.
    pub uploaded: u64,
    /// Bytes per second received.
    pub down_rate: u64,
    /// Bytes per second sent.
    pub up_rate: u64,
    /// Bytes asked for and not here.
    pub outstanding: u64,
}

/// The core of one torrent. Feed it events, then take its actions with [`Torrent::poll`].
#[derive(Debug)]
pub struct Torrent {
    pub(super) config: CoreConfig,
    geometry: Geometry,
    rng: fastrand::Rng,
    pub(super) picker: Picker,
    choker: Choker,
    turns: Turns,
    uplink: Uplink,
    reveal: Option<Reveal>,
    across: Across,
    blame: Blame,
    /// Wrong pieces of whose blocks somebody was asked for the digests.
    questions: SortedMap<PieceIndex, Question>,
    pub(super) peers: Peers,
    departed: SortedMap<PeerKey, Identity>,
    /// Our pieces in the order they came; peers are told from here.
    log: Vec<PieceIndex>,
    actions: VecDeque<Action>,
    pub(super) totals: Totals,
    givers: Givers,
    pub(super) downlink: Downlink,
    /// When the downlink was last looked at, and the bytes received by then.
    pub(super) looked: Option<(Moment, u64)>,
    up: Rate,
    down: Rate,
    /// Bytes asked for and not here, all peers together.
    asked: u64,
    /// What it takes from a request to its block, as a moving mean over all peers.
    usual_answer: Duration,
    /// Connected peers that lack something.
    crowd: usize,
    completed: bool,
    /// Blocks became free to ask for: idle peers are asked before the call returns.
    refill: bool,
}

impl Torrent {
    /// A torrent of which `have` is here already. `seed` fixes all random choices.
    #[must_use]
    pub fn new(config: CoreConfig, geometry: Geometry, have: Bitfield, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let have = if have.pieces() == geometry.pieces() {
            have
        } else {
            Bitfield::empty(geometry.pieces())
        };
        let completed = have.is_full();
        let reveal = (config.initial_seeding && completed)
            .then(|| Reveal::new(geometry.pieces(), config.open_reveals, &mut rng));
        let quantum = u64::from(config.quantum.max(geometry.piece_length()));
        let picker =
            Picker::new(geometry, have, config.max_partial_bytes, config.random_first, &mut rng);
        Self {
            uplink: Uplink::new(config.longest_queue),
            turns: Turns::new(config.served_at_once, config.beginners_at_once, quantum),
            choker: Choker::new(config.upload_slots, quantum, config.idle),
            picker,
            reveal,
            across: Across::new(geometry.pieces()),
            blame: Blame::default(),
            questions: SortedMap::new(),
            peers: Peers::default(),
            departed: SortedMap::new(),
            log: Vec::new(),
            actions: VecDeque::new(),
            totals: Totals::default(),
            givers: Givers::default(),
            downlink: Downlink::default(),
            looked: None,
            up: Rate::default(),
            down: Rate::default(),
            asked: 0,
            usual_answer: Duration::ZERO,
            crowd: 0,
            completed,
            refill: false,
            config,
            geometry,
            rng,
        }
        .with_slots()
    }

    fn with_slots(mut self) -> Self {
        self.choker.set_slots(self.slots());
        self
    }

    /// Peers that may be unchoked, by what is here, and by how much there is to go round: with few
    /// pieces many slots have the same ones asked for everywhere.
    fn slots(&self) -> usize {
        let (here, all) = (self.picker.have().count(), self.geometry.pieces());
        let more = (here / 2).min(all / 48) as usize;
        self.config.upload_slots.min(self.config.first_slots.max(1) + more)
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// A handshake is done: the first messages are queued.
    pub fn connected(&mut self, now: Moment, key: PeerKey, setup: PeerSetup) {
        if self.blame.is_banned(&setup.identity) {
            self.actions.push_back(Action::Disconnect(key, CloseReason::Banned));
            return;
        }
        let PeerSetup { identity, fast, near, v2 } = setup;
        self.across.join(key, identity.id, near, now);
        let mut peer = Peer::new(identity, fast, self.geometry.pieces(), now, self.config.reqq);
        (peer.near, peer.v2) = (near, v2);
        peer.told = self.log.len();
        peer.hidden = match &mut self.reveal {
            Some(reveal) if self.completed => reveal.join(key, identity.ip, now, &mut self.rng),
            _ => false,
        };
        let have = self.picker.have();
        let first = match (fast, have.is_full() && !peer.hidden, have.is_empty() || peer.hidden) {
            (true, true, _) => Some(Control::HaveAll),
            (true, _, true) => Some(Control::HaveNone),
            (false, _, true) => None,
            _ => Some(Control::Bitfield(have.clone())),
        };
        self.peers.insert(key, peer);
        self.crowd += 1;
        if let Some(message) = first {
            self.send(key, message);
        }
        self.show_more(now, key);
    }

    /// A connection is gone.
    pub fn disconnected(&mut self, now: Moment, key: PeerKey) {
        let Some(peer) = self.peers.remove(key) else { return };
        self.asked -= peer.outstanding_bytes();
        if self.departed.len() >= DEPARTED {
            self.departed.pop_first();
        }
        self.departed.insert(key, peer.identity);
        if !peer.is_complete() {
            self.crowd -= 1;
        }
        for piece in peer.has.iter() {
            self.picker.peer_lost(piece, &mut self.rng);
        }
        for request in peer.outstanding.iter().filter(|o| !o.lapsed) {
            self.release(request.block, key);
        }
        self.picker.disown(key);
        self.not_answered(now, |question| question.is_for(key));
        self.across.leave(key, peer.near, &peer.has, self.across_step(now), now);
        self.turns.leave(key);
        self.uplink.leave(key);
        let change = self.choker.leave(key, now);
        self.apply(change);
        self.grant_turns(now);
        if let Some(reveal) = &mut self.reveal {
            let picker = &self.picker;
            reveal.leave(key, |p| picker.availability(p) > 0, &peer.has, now, &mut self.rng);
            if self.crowd == 0 {
                reveal.crowd_gone(now);
            }
        }
        self.finish_call(now);
    }

    /// Time passed: call this about every 50 ms while peers are connected.
    pub fn tick(&mut self, now: Moment) {
        if self.picker.is_done() {
            self.looked = None;
        } else {
            self.look_at_downlink(now);
        }
        self.check_silence(now);
        self.not_answered(now, |question| question.is_late(now));
        for at in 0..self.peers.len() {
            let due = |peer: &Peer| peer.have_due.is_some_and(|due| due <= now);
            if let Some((key, _)) = self.peers.entry_at(at).filter(|(_, peer)| due(peer)) {
                self.tell_pieces(key);
            }
        }
        for at in 0..self.peers.len() {
            if let Some((key, peer)) = self.peers.entry_at(at)
                && peer.told_interest
                && peer.useless_since.is_some()
            {
                self.tell_interest(now, key);
            }
        }
        let picker = &self.picker;
        self.across.tick(|piece| picker.wants(piece), now);
        self.tick_slots(now);
        self.tick_turns(now);
        self.tick_reveal(now);
        self.fill_all(now);
        self.finish_call(now);
    }

    fn finish_call(&mut self, now: Moment) {
        while std::mem::take(&mut self.refill) {
            self.fill_all(now);
        }
        self.grant_turns(now);
    }

    fn send(&mut self, key: PeerKey, message: Control) {
        self.actions.push_back(Action::Send(key, message));
    }

    fn identity(&self, key: PeerKey) -> Option<Identity> {
        self.peers.get(key).map(|p| p.identity).or_else(|| self.departed.get(&key).copied())
    }

    fn ban(&mut self, banned: Vec<Identity>) {
        for identity in banned {
            self.actions.push_back(Action::Ban(identity));
        }
        let keys: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, p)| self.blame.is_banned(&p.identity))
            .map(|(k, _)| k)
            .collect();
        for key in keys {
            if let Some(peer) = self.peers.get_mut(key) {
                // until it is gone
                peer.snubbed = true;
            }
            self.actions.push_back(Action::Disconnect(key, CloseReason::Banned));
        }
    }

    /// Whether a peer was banned: refuse its handshake.
    #[must_use]
    pub fn is_banned(&self, identity: &Identity) -> bool {
        self.blame.is_banned(identity)
    }

    /// The verified pieces.
    #[must_use]
    pub fn have(&self) -> &Bitfield {
        self.picker.have()
    }

    /// Whether every wanted piece is here.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.picker.is_done()
    }

    /// The counters.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Verified bytes by the address of who gave them, and those of givers that are not kept apart.
    pub fn given(&self) -> (impl Iterator<Item = (std::net::IpAddr, u64)>, u64) {
        (self.givers.iter(), self.givers.others())
    }

    /// Bytes per second: received, sent.
    #[must_use]
    pub fn rates(&self, now: Moment) -> (u64, u64) {
        (self.down.per_second(now), self.up.per_second(now))
    }

    /// Whether pieces are being hidden (initial seeding).
    #[must_use]
    pub fn is_hiding(&self) -> bool {
        self.reveal.as_ref().is_some_and(Reveal::is_active)
    }

    /// Connected peers that lack something.
    #[must_use]
    pub fn crowd(&self) -> usize {
        self.crowd
    }

    /// What is known of a peer.
    #[must_use]
    pub fn peer(&self, key: PeerKey, now: Moment) -> Option<PeerView> {
        self.peers.get(key).map(|peer| PeerView {
            pieces: peer.has.count(),
            complete: peer.is_complete(),
            unchoked: !peer.choked,
            unchokes_us: !peer.chokes_us,
            interested: peer.interested,
            useful: peer.useful,
            downloaded: peer.downloaded,
            uploaded: peer.uploaded,
            down_rate: peer.down.per_second(now),
            up_rate: peer.up.per_second(now),
            outstanding: peer.outstanding_bytes(),
        })
    }

    /// Changes how much a piece is wanted.
    pub fn set_priority(&mut self, now: Moment, piece: PieceIndex, priority: Priority) {
        if self.geometry.piece(piece.0).is_none() {
            return;
        }
        self.picker.set_priority(piece, priority, &mut self.rng);
        self.recount(now);
    }

    /// A reader waits for bytes of the image: their pieces come before everything else, in order.
    pub fn want(&mut self, now: Moment, offset: u64, length: u64) {
        let end = offset.saturating_add(length).min(self.geometry.total());
        let first = self.geometry.piece_at(offset);
        let last = self.geometry.piece_at(end.saturating_sub(1));
        if let (Some(first), Some(last)) = (first, last) {
            for piece in (first.0..=last.0).map(PieceIndex) {
                self.picker.set_priority(piece, Priority::Urgent, &mut self.rng);
            }
            self.recount(now);
        }
    }

    /// A piece that was here is gone (evicted): it is neither served nor announced any more, and
    /// wanted again.
    pub fn lose_piece(&mut self, now: Moment, piece: PieceIndex) {
        if !self.picker.lose(piece, &mut self.rng) {
            return;
        }
        self.completed = false;
        self.log.retain(|logged| *logged != piece);
        let end = self.log.len();
        let keys: Vec<PeerKey> = self.peers.keys();
        for key in keys {
            self.drop_uploads(key, |block| block.piece == piece);
            if let Some(peer) = self.peers.get_mut(key) {
                // positions moved: what may have been skipped is told again, which does no harm
                peer.told = peer.told.saturating_sub(1).min(end);
            }
        }
        self.recount(now);
    }

    fn recount(&mut self, now: Moment) {
        let keys: Vec<PeerKey> = self.peers.keys();
        for key in keys {
            let picker = &self.picker;
            self.peers.change(key, |peer| peer.useful = picker.useful(&peer.has));
            self.tell_interest(now, key);
        }
        self.refill = true;
        self.finish_call(now);
    }

    /// How long nothing may move before a seeder that hides pieces shows them all.
    fn reveal_patience(&self) -> Duration {
        self.config.give_up / 6
    }
}
