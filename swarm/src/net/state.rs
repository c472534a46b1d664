//! What the tasks of one torrent share, and how actions of the core are carried out.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use proto::bitfield::Bitfield;
use proto::geometry::{BLOCK_LEN, Block, Geometry, PieceIndex};
use proto::hash::{PeerId, PieceHash, Sha256Digest};
use proto::hash_range::HashRange;
use proto::merkle::{BlockTree, Node};
use proto::priority::canonical as canonical_priority;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::backlog::Whole;
use super::book::Book;
use super::digests;
use super::pex::Exchange;
use super::stall::Trouble;
use super::tiers::Tiers;
use crate::config::SessionConfig;
use crate::core::{self, Action, Check, CloseReason, Control, Identity, Moment, PeerKey};
use crate::log;
use crate::sorted::SortedMap;

/// One connected peer.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) address: SocketAddr,
    pub(crate) peer_id: PeerId,
    pub(crate) outgoing: bool,
    pub(crate) client: Option<String>,
    /// Our end of the connection.
    pub(crate) local: SocketAddr,
    /// Where the peer takes connections, as far as is known.
    pub(crate) listens: Option<SocketAddr>,
    pub(crate) pex: Exchange,
    /// Messages that wait for the writer.
    pub(crate) out: VecDeque<Control>,
    /// Longest run of blocks that it takes in one message ([`super::runs`]).
    pub(crate) run: u32,
    /// Hashes that it asks for (BEP 52), which the writer answers one by one.
    pub(crate) questions: VecDeque<HashRange>,
    /// Where the writer writes to; none in tests without connections.
    pub(crate) socket: Option<Arc<OwnedWriteHalf>>,
    /// Wakes the writer.
    pub(crate) wake: Arc<Notify>,
    pub(crate) cancel: CancellationToken,
    pub(crate) since: Moment,
    pub(crate) heard: Moment,
    /// Why it is being closed, if we do that.
    pub(crate) closing: Option<CloseReason>,
}

/// Most memory in buffers of done pieces that are kept.
const SPARE: u64 = 8 * 1024 * 1024;

/// So long a complete piece may wait for others to be hashed together with.
const SOON: Duration = Duration::from_millis(5);

/// When a peer connects again over other addresses, its connection is dead after this silence.
const STALE: Duration = Duration::from_secs(5);

/// Blocks of a piece as digests: what a wrong copy looked like.
type Evidence = Vec<PieceHash>;

/// Everything that changes, behind one mutex.
#[derive(Debug)]
pub(crate) struct State {
    geometry: Geometry,
    /// `None` while what is on disk is being checked.
    pub(crate) core: Option<core::Torrent>,
    pub(crate) links: SortedMap<PeerKey, Link>,
    next_key: u32,
    buffers: SortedMap<PieceIndex, Vec<u8>>,
    /// Buffers of pieces that are done, for the next ones: fresh memory would have to be cleared.
    spare: Vec<Vec<u8>>,
    evidence: SortedMap<PieceIndex, Evidence>,
    /// Wrong pieces of whose blocks a peer was asked for the digests.
    held: SortedMap<PieceIndex, Vec<u8>>,
    pub(crate) book: Book,
    pub(crate) tiers: Tiers,
    pub(crate) trouble: Trouble,
    /// When fetching began.
    pub(crate) started: Moment,
}

/// What is to be done outside of the lock.
#[derive(Debug, Default)]
pub(crate) struct Todo {
    /// Complete pieces to be hashed.
    pub(crate) verify: Vec<Whole>,
    /// More will be complete in a moment ([`State::is_more_soon`]).
    pub(crate) more_soon: bool,
    /// The fetch has just completed.
    pub(crate) completed: bool,
    /// Turns wait for the sockets.
    pub(crate) look_soon: bool,
}

impl State {
    pub(crate) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            core: None,
            links: SortedMap::new(),
            next_key: 0,
            buffers: SortedMap::new(),
            spare: Vec::new(),
            evidence: SortedMap::new(),
            held: SortedMap::new(),
            book: Book::default(),
            tiers: Tiers::default(),
            trouble: Trouble::default(),
            started: Moment::ZERO,
        }
    }

    /// Shows the core what peers have not acknowledged.
    pub(crate) fn look_at_sockets(&mut self, now: Moment) {
        let Self { core: Some(core), links, .. } = self else { return };
        core.look_at_sockets(now, |key| {
            let socket = links.get(&key).and_then(|link| link.socket.as_deref());
            let left = socket.map(|half| sys::socket::unacknowledged(half.as_ref().as_fd()));
            left.and_then(Result::ok).map_or(0, u64::from)
        });
    }

    pub(crate) fn new_key(&mut self) -> PeerKey {
        let key = PeerKey(self.next_key);
        self.next_key = (self.next_key + 1) % (u32::MAX - 1);
        key
    }

    /// Carries out what the core wants, as far as that needs no waiting.
    pub(crate) fn drain(&mut self) -> Todo {
        self.drain_with(None)
    }

    fn drain_with(&mut self, failed: Option<(PieceIndex, &[u8])>) -> Todo {
        let mut todo = Todo::default();
        let limit = 20_000.max(2 * self.geometry.pieces() as usize);
        let Some(core) = &mut self.core else { return todo };
        while let Some(action) = core.poll() {
            match action {
                Action::Send(key, message) => {
                    if let Some(link) = self.links.get_mut(&key) {
                        link.out.push_back(message);
                        link.wake.notify_one();
                        if link.out.len() > limit {
                            // it makes us answer and does not read
                            link.closing = Some(CloseReason::Violation);
                            link.cancel.cancel();
                        }
                    }
                }
                Action::Serve(key) => {
                    if let Some(link) = self.links.get(&key) {
                        link.wake.notify_one();
                    }
                }
                Action::Verify(piece) => {
                    if let Some(data) = self.buffers.remove(&piece) {
                        todo.verify.push(Whole { piece, data });
                    }
                }
                Action::Discard(piece) => {
                    self.held.remove(&piece);
                    if let Some(buffer) = self.buffers.remove(&piece) {
                        keep_spare(&mut self.spare, buffer, &self.geometry);
                    }
                }
                Action::KeepEvidence(piece) => {
                    let failed = failed.filter(|(wrong, _)| *wrong == piece).map(|(_, data)| data);
                    if let Some(data) = failed.or(self.held.get(&piece).map(Vec::as_slice)) {
                        self.evidence.insert(piece, evidence(data));
                    }
                }
                Action::Hold(piece) => {
                    if let Some((_, data)) = failed.filter(|(wrong, _)| *wrong == piece) {
                        self.held.insert(piece, data.to_vec());
                    }
                }
                Action::Resume(piece) => {
                    if let Some(data) = self.held.remove(&piece) {
                        self.buffers.insert(piece, data);
                    }
                }
                Action::Disconnect(key, reason) => {
                    if let Some(link) = self.links.get_mut(&key) {
                        link.closing.get_or_insert(reason);
                        // the writer ends the connection when what is queued is sent
                        link.wake.notify_one();
                        if reason != CloseReason::BothComplete {
                            link.cancel.cancel();
                        }
                    }
                }
                Action::Ban(identity) => {
                    log::warn!(peer = %identity.ip, id = %identity.id, "peer banned: it sends wrong data");
                    self.trouble.liar = Some(identity.ip);
                }
                Action::LookSoon => todo.look_soon = true,
                Action::Completed => todo.completed = true,
            }
        }
        todo
    }

    /// A block came in: its bytes are kept if the core wants them.
    pub(crate) fn block(
        &mut self,
        now: Moment,
        key: PeerKey,
        block: Block,
        data: &[u8],
    ) -> Result<(), core::Violation> {
        let Some(core) = &mut self.core else { return Ok(()) };
        if core.block(now, key, block)? == core::Receipt::Keep {
            let size = self.geometry.piece_size(block.piece) as usize;
            let spare = &mut self.spare;
            let buffer = self.buffers.get_or_insert_with(block.piece, || {
                let mut buffer = spare.pop().unwrap_or_default();
                buffer.resize(size, 0);
                buffer
            });
            let start = block.begin as usize;
            buffer[start..start + data.len()].copy_from_slice(data);
        }
        Ok(())
    }

    /// A peer sent the digests of a piece's blocks, or refused to.
    pub(crate) fn hashes(
        &mut self,
        now: Moment,
        key: PeerKey,
        tree: &BlockTree,
        range: &HashRange,
        nodes: &[[u8; 32]],
    ) {
        let (Some(core), Some(piece)) = (&mut self.core, tree.piece_of(range)) else { return };
        let Some(data) = self.held.get(&piece) else { return };
        let nodes: Vec<Node> = nodes.iter().copied().map(Sha256Digest).collect();
        let differing = tree.piece_is(piece, &nodes).then(|| {
            let own = digests::blocks(&[data]).into_iter().flatten();
            let pairs = (0u32..).zip(own.zip(nodes));
            pairs.filter(|(_, (own, wanted))| own != wanted).map(|(at, _)| at).collect::<Vec<_>>()
        });
        core.hashes(now, key, piece, differing.as_deref());
    }

    /// A piece was hashed (and stored, when it was good).
    pub(crate) fn checked(&mut self, now: Moment, whole: Whole, check: Check) -> Todo {
        let todo = self.judged(now, whole.piece, check, &whole.data);
        keep_spare(&mut self.spare, whole.data, &self.geometry);
        todo
    }

    /// Whether `pieces` more are asked for and come within a few milliseconds, as fast as they come
    /// now.
    pub(crate) fn is_more_soon(&self, now: Moment, pieces: usize) -> bool {
        let bytes = pieces as u64 * u64::from(self.geometry.piece_length());
        self.core.as_ref().is_some_and(|core| core.expects(now, bytes, SOON))
    }

    fn judged(&mut self, now: Moment, piece: PieceIndex, check: Check, data: &[u8]) -> Todo {
        let Some(core) = &mut self.core else { return Todo::default() };
        let good = check == Check::Good;
        core.checked(now, piece, check);
        if good && let Some(wrong) = self.evidence.remove(&piece) {
            let differing: Vec<u32> = evidence(data)
                .iter()
                .zip(&wrong)
                .zip(0u32..)
                .filter(|((now, then), _)| now != then)
                .map(|(_, number)| number)
                .collect();
            core.compared(piece, &differing);
        }
        self.drain_with((!good).then_some((piece, data)))
    }

    /// Whether a peer may connect: `Err` says why not. An older connection of the same peer that
    /// must give way is closed.
    pub(crate) fn admit(
        &mut self,
        identity: Identity,
        local: SocketAddr,
        outgoing: bool,
        own_id: PeerId,
        config: &SessionConfig,
        now: Moment,
    ) -> Result<(), &'static str> {
        let Some(core) = &mut self.core else { return Err("still checking what is on disk") };
        if core.is_banned(&identity) {
            return Err("banned");
        }
        let same = self
            .links
            .iter()
            .find(|(_, link)| link.peer_id == identity.id && link.closing.is_none());
        if let Some((key, link)) = same {
            // both sides keep the connection that the smaller id dialled
            let preferred = |outgoing: bool| outgoing == (own_id < identity.id);
            // an address went away on either side: the old connection will never say so
            let moved = (link.local.ip(), link.address.ip()) != (local.ip(), identity.ip)
                && link.address.is_ipv4() == identity.ip.is_ipv4()
                && now.saturating_sub(link.heard) >= STALE;
            if !moved && (link.outgoing == outgoing || preferred(link.outgoing)) {
                return Err("connected already");
            }
            let key = *key;
            self.close(key, CloseReason::Violation);
        }
        let from_there =
            self.links.values().filter(|link| link.address.ip() == identity.ip).count();
        // on one host everybody has the same address
        if !identity.ip.is_loopback() && from_there >= config.max_per_address {
            return Err("too many peers at this address");
        }
        if self.links.len() >= config.max_peers && !self.evict(now) {
            return Err("no room for more peers");
        }
        Ok(())
    }

    /// Makes room by closing a peer that is of no use in either direction: of several, the one of
    /// lowest priority, as its other end would choose (BEP 40).
    fn evict(&mut self, now: Moment) -> bool {
        let Some(core) = &self.core else { return false };
        let useless = self.links.iter().filter(|(key, link)| {
            link.closing.is_none()
                && now.saturating_sub(link.since).as_secs() >= 30
                && core.peer(**key, now).is_some_and(|p| !p.interested && p.useful == 0)
        });
        let useless = useless.min_by_key(|(_, link)| {
            canonical_priority(link.local, link.listens.unwrap_or(link.address))
        });
        let Some(key) = useless.map(|(key, _)| *key) else { return false };
        self.close(key, CloseReason::Violation);
        true
    }

    fn close(&mut self, key: PeerKey, reason: CloseReason) {
        if let Some(link) = self.links.get_mut(&key) {
            link.closing.get_or_insert(reason);
            link.cancel.cancel();
        }
    }

    /// The verified pieces, as far as they are known yet.
    pub(crate) fn have(&self) -> Bitfield {
        self.core
            .as_ref()
            .map_or_else(|| Bitfield::empty(self.geometry.pieces()), |c| c.have().clone())
    }
}

fn keep_spare(spare: &mut Vec<Vec<u8>>, buffer: Vec<u8>, geometry: &Geometry) {
    if spare.len() as u64 * u64::from(geometry.piece_length()) < SPARE {
        spare.push(buffer);
    }
}

fn evidence(data: &[u8]) -> Evidence {
    data.chunks(BLOCK_LEN as usize).map(PieceHash::of).collect()
}

#[cfg(test)]
mod tests;
