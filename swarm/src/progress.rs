//! What a torrent tells while it runs and when it ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::event::{Sources, Stall};
use proto::hash::PeerId;

use crate::core::Downlink;
use crate::net::tiers::Crowd;

/// Where a torrent stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Phase {
    /// Hashing what is on disk.
    #[default]
    Checking,
    /// Fetching what is missing.
    Fetching,
    /// Everything is here.
    Seeding,
    /// It cannot go on; the text says why. Nothing is served or announced any more.
    Failed(String),
}

/// A snapshot of a torrent; sent about four times a second while something moves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Where it stands.
    pub phase: Phase,
    /// Verified pieces.
    pub pieces_have: u32,
    /// Pieces in all.
    pub pieces_total: u32,
    /// Verified bytes.
    pub bytes_verified: u64,
    /// Bytes of the image.
    pub bytes_total: u64,
    /// Verified bytes of this session by where they came from.
    pub sources: Sources,
    /// Bytes sent to peers.
    pub bytes_uploaded: u64,
    /// Bytes received that were not needed or wrong.
    pub bytes_wasted: u64,
    /// Pieces that failed their hash.
    pub hash_failures: u32,
    /// Connected peers.
    pub peers_connected: u32,
    /// Known peer addresses.
    pub peers_known: u32,
    /// How large the crowd is, as a tracker said last.
    pub crowd: Option<Crowd>,
    /// Bytes of pieces received per second.
    pub down_rate: u64,
    /// Bytes of pieces sent per second.
    pub up_rate: u64,
    /// Why nothing moves, if nothing moves.
    pub stall: Option<Stall>,
}

/// One connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStat {
    /// Its address.
    pub address: SocketAddr,
    /// Its id.
    pub peer_id: PeerId,
    /// `v` of its extension handshake.
    pub client: Option<String>,
    /// Whether we dialled.
    pub outgoing: bool,
    /// Pieces it says it has.
    pub pieces_have: u32,
    /// Whether it may request from us.
    pub unchoked: bool,
    /// Whether it lets us request.
    pub unchokes_us: bool,
    /// Whether it wants something we have.
    pub interested: bool,
    /// Bytes of pieces received from it.
    pub downloaded: u64,
    /// Bytes of pieces sent to it.
    pub uploaded: u64,
    /// Bytes per second received from it.
    pub down_rate: u64,
    /// Bytes per second sent to it.
    pub up_rate: u64,
    /// Bytes requested from it and not yet here.
    pub outstanding: u64,
}

/// What a finished fetch reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed {
    /// Bytes of the image.
    pub bytes: u64,
    /// From the first moment after checking to the last verified piece.
    pub elapsed: Duration,
    /// Verified bytes of this session by where they came from.
    pub sources: Sources,
    /// Pieces that failed their hash on the way.
    pub hash_failures: u32,
    /// Where the time went.
    pub downlink: Downlink,
}

/// Why a torrent ended without being complete.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TorrentError {
    /// The storage could not be read.
    #[error("cannot read the image at byte {offset}")]
    Read {
        /// First byte of the read.
        offset: u64,
        /// The error.
        #[source]
        source: Arc<io::Error>,
    },
    /// The storage could not be written.
    #[error("cannot write the image at byte {offset}")]
    Write {
        /// First byte of the write.
        offset: u64,
        /// The error.
        #[source]
        source: Arc<io::Error>,
    },
    /// The storage ends before the image does.
    #[error(
        "the image ends at byte {length}, but the torrent says it has {expected} bytes: it was cut off; restore or re-publish it"
    )]
    Truncated {
        /// Bytes there are.
        length: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// Data that was said to be complete differs from the torrent.
    #[error(
        "piece {piece} of the image differs from the torrent: this is another image, or it was damaged; restore or re-publish it"
    )]
    WrongData {
        /// The first piece found to differ.
        piece: u32,
    },
    /// The torrent was removed, or its session was shut down.
    #[error("the torrent was stopped")]
    Stopped,
}

impl TorrentError {
    /// The message with its cause, for a person.
    #[must_use]
    pub fn text(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}
