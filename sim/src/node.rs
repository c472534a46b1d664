//! One simulated host: the engine's core, its disk, its link and what it counts.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proto::hash::{PeerId, PeerRole};
use swarm::core::{Identity, PeerKey, Torrent};

use crate::book::Book;
use crate::conduct::Conduct;
use crate::disk::Disk;
use crate::flow::{FlowId, Port};
use crate::sample::{Idle, PHASES};

/// Number of a node; 0 is the admin seeder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    pub(crate) fn at(self) -> usize {
        self.0 as usize
    }

    /// Who it is to others, in its `life`th life.
    #[must_use]
    pub fn identity(self, life: u32) -> Identity {
        // a peer id is made of 32 letters
        let digit = |shift: u32| u8::try_from(self.0 >> shift & 31).unwrap_or(0);
        let mut random = [0; 12];
        for (at, shift) in [0, 5, 10, 15, 20, 25, 30].into_iter().enumerate() {
            random[at] = digit(shift);
        }
        random[8] = u8::try_from(life & 31).unwrap_or(0);
        random[9] = u8::try_from(life >> 5 & 31).unwrap_or(0);
        let role = if self.0 == 0 { PeerRole::Admin } else { PeerRole::Node };
        let ip = IpAddr::V4(Ipv4Addr::from(0x0a00_0001_u32.wrapping_add(self.0)));
        Identity { ip, id: PeerId::new(role, random) }
    }
}

/// Counters of a node.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Blocks sent, bytes of payload.
    pub payload_sent: u64,
    /// Messages sent but blocks.
    pub messages: u64,
    /// Of those, Haves.
    pub haves: u64,
    /// Writes to connections without a block: each costs the processor about what a block costs.
    pub control_writes: u64,
    /// Writes to connections with blocks.
    pub block_writes: u64,
    /// Connections that came up.
    pub connections: u64,
    /// Most messages that ever waited for one connection's writer.
    pub most_waiting: usize,
    /// Connections closed for a violation of the protocol, by us.
    pub violations: u64,
}

/// A host in the simulation.
#[derive(Debug)]
pub struct Node {
    pub(crate) core: Torrent,
    pub(crate) conduct: Conduct,
    /// It was never anything but honest.
    pub(crate) was_honest: bool,
    pub(crate) alive: bool,
    /// Still to complete before the run is over.
    pub(crate) awaited: bool,
    pub(crate) life: u32,
    /// Added to the simulation's clock, nanoseconds.
    pub(crate) skew: u64,
    /// When its core's timers are due.
    pub(crate) tick_at: u64,
    /// When it looks at them or at its sockets next: other events are out of date.
    pub(crate) wakes_at: u64,
    pub(crate) started_at: u64,
    pub(crate) first_piece_at: Option<u64>,
    pub(crate) finished_at: Option<u64>,
    pub(crate) seeder: bool,
    pub(crate) max_peers: usize,
    pub(crate) dialing: usize,
    pub(crate) links: Vec<FlowId>,
    /// Flow of each connection, by key.
    pub(crate) by_key: Vec<FlowId>,
    pub(crate) book: Book,
    pub(crate) disk: Disk,
    pub(crate) port: Port,
    /// Part of the network, see [`crate::World::set_segments`].
    pub(crate) segment: usize,
    pub(crate) counts: Counts,
    /// By phase of its fetch.
    pub(crate) idle: [Idle; PHASES],
}

/// The flow that a key stands for, where a part of the node is borrowed.
pub(crate) fn flow_of(by_key: &[FlowId], key: PeerKey) -> Option<FlowId> {
    by_key.get(key.0 as usize).copied().filter(|id| *id != FlowId::NONE)
}

impl Node {
    /// The flow that a key of this node's core stands for.
    pub(crate) fn flow(&self, key: PeerKey) -> Option<FlowId> {
        flow_of(&self.by_key, key)
    }

    /// A key that was not used before in this life.
    pub(crate) fn new_key(&mut self, id: FlowId) -> PeerKey {
        let key = PeerKey(u32::try_from(self.by_key.len()).unwrap_or(u32::MAX - 1));
        self.by_key.push(id);
        key
    }

    /// The engine's state.
    #[must_use]
    pub fn core(&self) -> &Torrent {
        &self.core
    }

    /// When it had every piece, since the start of the simulation.
    #[must_use]
    pub fn finished_at(&self) -> Option<Duration> {
        self.finished_at.map(Duration::from_nanos)
    }

    /// When it started, in its present life.
    #[must_use]
    pub fn started_at(&self) -> Duration {
        Duration::from_nanos(self.started_at)
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.alive
    }

    /// Its life, counted from 0; each restart begins another.
    #[must_use]
    pub fn life(&self) -> u32 {
        self.life
    }

    /// How it behaves.
    #[must_use]
    pub fn conduct(&self) -> Conduct {
        self.conduct
    }

    /// Whether it was never anything but honest.
    #[must_use]
    pub fn was_honest(&self) -> bool {
        self.was_honest
    }

    /// What it counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Connections it has.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.links.len()
    }

    /// Bytes that left it, headers included where the network counts them.
    #[must_use]
    pub fn wire_sent(&self) -> u64 {
        self.port.sent
    }

    /// Bytes that reached it, headers included where the network counts them.
    #[must_use]
    pub fn wire_received(&self) -> u64 {
        self.port.received
    }
}
