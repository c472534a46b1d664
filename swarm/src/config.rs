//! What a session and a torrent are told at their start.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proto::metainfo::Metainfo;
use proto::units::ByteRate;

use crate::core::CoreConfig;
use crate::storage::Storage;

/// What this peer is; told to others in the peer id and in the extension handshake's `v`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The admin host's seeder: many connections, initial seeding.
    Admin,
    /// A node that boots, or re-seeds.
    Node,
}

/// Settings of a session.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Where peers connect to; port 0 takes a free one. `[::]` serves IPv4 as well.
    pub listen: SocketAddr,
    /// What this peer is.
    pub role: Role,
    /// Upper bound of what is sent to peers, over all torrents.
    pub upload_limit: Option<ByteRate>,
    /// Upper bound of what is sent to one peer.
    pub upload_limit_per_peer: Option<ByteRate>,
    /// Upper bound of what is received from peers and web seeds, over all torrents.
    pub download_limit: Option<ByteRate>,
    /// Find peers on this network by multicast (BEP 14); never for private torrents.
    pub local_discovery: bool,
    /// Connections per torrent that the dialer aims at.
    pub target_peers: usize,
    /// … and after some seconds ([`peers_wanted`]), if that is more.
    pub settled_peers: usize,
    /// Most connections per torrent.
    pub max_peers: usize,
    /// Most connections per torrent with one address; loopback is not counted.
    pub max_per_address: usize,
    /// Dials under way at once, per torrent.
    pub max_dials: usize,
    /// Time for a connection and its handshake.
    pub connect_timeout: Duration,
    /// A peer from which nothing is heard for this long is dropped; others send a keep-alive every
    /// two minutes.
    pub peer_timeout: Duration,
    /// A peer that takes nothing of what is sent for this long is dropped.
    pub write_timeout: Duration,
    /// Time given to `stopped` announces at shutdown; all of it takes twice that at most.
    pub stop_timeout: Duration,
    /// Policies of the core. `initial_seeding` is taken from the [`TorrentSpec`].
    pub core: CoreConfig,
}

/// A crowd that starts together has its connections, and its first pieces, after this long.
const SETTLING: Duration = Duration::from_secs(3);

/// Connections that the dialer aims at, so long after a torrent was started: few at first, since each costs a
/// Have for each piece, and a crowd that begins has no time for them. Then those catch up who were found by few:
/// everybody serves its neighbours alike, and of 1,000 nodes those with 25 to 28 connections were the last.
#[must_use]
pub fn peers_wanted(target: usize, settled: usize, age: Duration) -> usize {
    if age < SETTLING { target } else { target.max(settled) }
}

impl SessionConfig {
    /// Defaults for a role: 25 to 40 connections for a node, up to 1000 for the admin seeder.
    #[must_use]
    pub fn new(role: Role) -> Self {
        // nodes behind one router share an address
        let (target_peers, settled_peers, max_peers, max_per_address) = match role {
            Role::Admin => (40, 40, 1000, 100),
            Role::Node => (25, 31, 40, 16),
        };
        Self {
            listen: SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 6881),
            role,
            upload_limit: None,
            upload_limit_per_peer: None,
            download_limit: None,
            local_discovery: true,
            target_peers,
            settled_peers,
            max_peers,
            max_per_address,
            max_dials: 16,
            connect_timeout: Duration::from_secs(5),
            peer_timeout: Duration::from_secs(150),
            write_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_millis(450),
            core: CoreConfig::default(),
        }
    }
}

/// When data that is said to be complete is compared with the torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Each piece is hashed before its first byte is sent; a mismatch fails the torrent.
    OnFirstRead,
    /// Never: the caller has hashed it in this very process.
    Trusted,
}

/// What is in the storage when a torrent is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitialHave {
    /// Nothing: fetch everything.
    Nothing,
    /// Everything: seed.
    Everything {
        /// How far that is believed.
        verify: Verify,
    },
    /// Unknown: hash what is there and keep the good pieces.
    Check,
}

/// One image to fetch or to seed.
#[derive(Clone)]
pub struct TorrentSpec {
    /// The torrent.
    pub metainfo: Arc<Metainfo>,
    /// Where its bytes are.
    pub storage: Arc<dyn Storage>,
    /// What is there already.
    pub have: InitialHave,
    /// Announce URLs in tiers (BEP 12); replaces the torrent's.
    pub trackers: Option<Vec<Vec<String>>>,
    /// Give each piece out once until it is seen elsewhere, while complete (the admin's steering).
    pub initial_seeding: bool,
    /// Fetch missing pieces over HTTP (BEP 19) when no peer delivers.
    pub web_seeds: bool,
    /// Compare each piece by SHA-256 where the torrent is hybrid (BEP 52), also on a processor that is
    /// slow at it: SHA-1 is not enough for the caller.
    pub sha256: bool,
}

impl TorrentSpec {
    /// A torrent with the trackers of its file, nothing there, no steering, web seeds allowed.
    #[must_use]
    pub fn new(metainfo: Arc<Metainfo>, storage: Arc<dyn Storage>) -> Self {
        Self {
            metainfo,
            storage,
            have: InitialHave::Nothing,
            trackers: None,
            initial_seeding: false,
            web_seeds: true,
            sha256: false,
        }
    }
}

impl std::fmt::Debug for TorrentSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TorrentSpec")
            .field("info_hash", &self.metainfo.info_hash)
            .field("have", &self.have)
            .field("trackers", &self.trackers)
            .field("initial_seeding", &self.initial_seeding)
            .field("web_seeds", &self.web_seeds)
            .finish_non_exhaustive()
    }
}
