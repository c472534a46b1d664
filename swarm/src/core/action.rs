//! What goes into and comes out of the core.

use std::net::IpAddr;

use proto::bitfield::Bitfield;
use proto::geometry::{Block, PieceIndex};
use proto::hash::PeerId;

/// Names one connection for as long as it lives; never used twice in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u32);

impl PeerKey {
    /// Stands for the web seed as a source of blocks.
    pub const WEB: PeerKey = PeerKey(u32::MAX);
}

/// Who a peer is beyond one connection: bans hold on to this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Its address, without the port: outgoing and incoming connections differ there.
    pub ip: IpAddr,
    /// The id it gave in the handshake.
    pub id: PeerId,
}

/// A message without payload bytes, in either direction (BEP 3 and BEP 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// No more requests are served.
    Choke,
    /// Requests are served from now on.
    Unchoke,
    /// The sender wants something that the receiver has.
    Interested,
    /// The sender wants nothing that the receiver has.
    NotInterested,
    /// The sender has a piece.
    Have(PieceIndex),
    /// All the sender has, as the first message.
    Bitfield(Bitfield),
    /// BEP 6: the sender has everything.
    HaveAll,
    /// BEP 6: the sender has nothing.
    HaveNone,
    /// Asks for a block.
    Request(Block),
    /// Takes a request back.
    Cancel(Block),
    /// BEP 6: a request will not be served.
    Reject(Block),
    /// BEP 52: asks for the digests of a piece's blocks. Only sent: what peers ask is answered without
    /// the core.
    AskHashes(PieceIndex),
}

/// What hashing a complete piece showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// It is verified and stored.
    Good,
    /// It is wrong somewhere.
    Wrong,
    /// Blocks with these numbers are wrong, and no others (BEP 52).
    WrongBlocks(Vec<u32>),
}

/// What the core wants done. Actions come in order and must be carried out in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Queue a message to a peer.
    Send(PeerKey, Control),
    /// The peer has requests to serve: pull them with `next_upload` when its socket takes more.
    Serve(PeerKey),
    /// Turns have begun to wait for what is on its way: look at the sockets as soon as `look_again`
    /// says, not at the next tick.
    LookSoon,
    /// Every block of the piece is here: hash it, then call `checked`.
    Verify(PieceIndex),
    /// Forget the bytes collected for the piece.
    Discard(PieceIndex),
    /// The piece was wrong and came from several peers: keep a digest of each of its blocks, and
    /// when a good copy is there tell `compared` which blocks differ.
    KeepEvidence(PieceIndex),
    /// The piece was wrong, and a peer was asked for the digests of its blocks: keep the bytes until
    /// `Resume` or `Discard`, and tell `hashes` what the peer says.
    Hold(PieceIndex),
    /// Go on collecting the piece that was held: its wrong blocks come again.
    Resume(PieceIndex),
    /// Close the connection.
    Disconnect(PeerKey, CloseReason),
    /// The peer is banned for the session: refuse it from now on.
    Ban(Identity),
    /// Every wanted piece is here and verified.
    Completed,
}

/// Why a connection is closed by the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Neither side needs anything from the other.
    BothComplete,
    /// It sent bad data.
    Banned,
    /// It accepted requests and sent nothing.
    Silent,
    /// It broke the protocol.
    Violation,
}

/// What became of a received block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// Keep the bytes.
    Keep,
    /// Drop the bytes: they are here already or were never asked for.
    Waste,
}

/// A message that no honest peer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A piece index past the end.
    #[error("named piece {0}, which does not exist")]
    NoSuchPiece(u32),
    /// A block outside of its piece, or longer than allowed.
    #[error("named a block outside of piece {0}")]
    BadBlock(u32),
    /// A bitfield for another number of pieces.
    #[error("sent a bitfield of the wrong length")]
    BadBitfield,
    /// A BEP 6 message without having offered BEP 6.
    #[error("used the fast extension without offering it")]
    NotNegotiated,
    /// Sent blocks nobody asked for, again and again.
    #[error("keeps sending blocks that were not asked for")]
    Unsolicited,
    /// Asks for hashes faster than they are answered.
    #[error("asks for too many hashes at once")]
    Questions,
}
