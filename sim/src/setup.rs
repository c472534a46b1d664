//! What a simulation is made of.

use std::time::Duration;

use swarm::core::CoreConfig;
use swarm::{Role, SessionConfig};

/// Links and the transport on them.
#[derive(Debug, Clone)]
pub struct Network {
    /// Bytes per second of each uplink and each downlink.
    pub rate: u64,
    /// One-way delay between two nodes, at least.
    pub latency: Duration,
    /// Further one-way delay, another for each pair, between zero and this.
    pub latency_spread: Duration,
    /// Count Ethernet, IP and TCP headers, and acknowledgements on the way back.
    pub headers: bool,
    /// Unsent bytes that the kernel takes per connection (`TCP_NOTSENT_LOWAT` of the engine).
    pub send_buffer: u32,
    /// What may wait in front of a downlink before senders are held back, as time at its rate.
    pub queue: Duration,
    /// Most packets that one connection sends in a row; by the rate when `None`.
    pub burst: Option<u32>,
    /// Bursts lost, in a million. A lost one arrives later and holds up what follows it on its own
    /// connection, not what others send.
    pub loss: u32,
}

impl Network {
    /// A quiet local network of links with `rate` bytes per second.
    #[must_use]
    pub fn new(rate: u64) -> Self {
        Self {
            rate,
            latency: Duration::from_micros(300),
            latency_spread: Duration::ZERO,
            headers: true,
            send_buffer: 16 * 1024,
            queue: Duration::from_millis(20),
            burst: None,
            loss: 0,
        }
    }
}

/// A swarm: node 0 is the admin seeder, all others start empty.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Fixes all random choices.
    pub seed: u64,
    /// Nodes that fetch.
    pub leechers: u32,
    /// Bytes of the image.
    pub total: u64,
    /// Bytes of a piece; at most 128 blocks.
    pub piece: u64,
    /// The links.
    pub network: Network,
    /// Connections that a node dials for, and most it takes.
    pub target_peers: usize,
    /// … and after some seconds (`swarm::config::peers_wanted`), if that is more.
    pub settled_peers: usize,
    /// Most connections of a node.
    pub max_peers: usize,
    /// Most connections of the seeder.
    pub seeder_peers: usize,
    /// Dials under way at once.
    pub max_dials: usize,
    /// Policies of every core.
    pub core: CoreConfig,
    /// Policies of the seeder's core, `core` when `None`.
    pub seeder_core: Option<CoreConfig>,
    /// Whether the seeder steers ([`CoreConfig::initial_seeding`]).
    pub initial_seeding: bool,
    /// Take samples of why links idle.
    pub samples: bool,
}

impl Setup {
    /// A swarm with the engine's own numbers; `rate` in bytes per second.
    #[must_use]
    pub fn new(seed: u64, leechers: u32, total: u64, piece: u64, rate: u64) -> Self {
        let (node, admin) = (SessionConfig::new(Role::Node), SessionConfig::new(Role::Admin));
        Self {
            seed,
            leechers,
            total,
            piece,
            network: Network::new(rate),
            target_peers: node.target_peers,
            settled_peers: node.settled_peers,
            max_peers: node.max_peers,
            seeder_peers: admin.max_peers,
            max_dials: node.max_dials,
            core: node.core,
            seeder_core: None,
            initial_seeding: true,
            samples: false,
        }
    }
}

/// A swarm that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The image cannot be cut like that.
    #[error("the image cannot be cut into pieces")]
    Geometry(#[from] proto::geometry::GeometryError),
    /// More blocks in a piece than the simulated disk keeps apart.
    #[error("pieces of {blocks} blocks are too long: the simulation takes at most 128 (2 MiB)")]
    LongPieces {
        /// Blocks in a piece.
        blocks: u32,
    },
    /// No bytes per second.
    #[error("links need a rate above zero")]
    NoRate,
}
