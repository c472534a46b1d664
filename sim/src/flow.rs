//! One direction of a connection, and the two ends of a link.

use std::collections::VecDeque;

use proto::geometry::{Block, Geometry};
use swarm::core::PeerKey;

use crate::item::Item;
use crate::node::NodeId;
use crate::setup::Network;
use crate::world::nanos;

/// One direction of a connection: flows `2n` and `2n + 1` belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlowId(pub(crate) u32);

impl FlowId {
    pub(crate) const NONE: FlowId = FlowId(u32::MAX);

    /// The other direction of the same connection.
    pub(crate) fn back(self) -> Self {
        Self(self.0 ^ 1)
    }

    pub(crate) fn at(self) -> usize {
        self.0 as usize
    }
}

/// Where a flow waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// It has nothing to send.
    Nowhere,
    /// In its sender's round.
    Uplink,
    /// In front of the link between two segments, whose queue is full.
    Trunk,
    /// In front of its receiver, whose queue is full.
    Downlink,
}

/// How a connection is being closed by the sender of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    No,
    /// When what waits is sent.
    Soon,
    /// At once.
    Now,
}

/// What a burst touches comes first and fills a cache line or two: a large swarm has a million flows, and
/// looking one up is most of what an event costs.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Flow {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    /// Bytes for which the receiver keeps room.
    pub(crate) credit: u32,
    /// Bursts under way.
    pub(crate) in_flight: u32,
    /// Bytes handed over in writes, sent, delivered.
    pub(crate) written: u64,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    /// Position of the first message's last byte; kept here since the queue is mostly not cached.
    pub(crate) first_end: u64,
    /// One-way delay, nanoseconds.
    pub(crate) latency: u64,
    /// The connection, as the sender's core knows it.
    pub(crate) key: PeerKey,
    pub(crate) waits: Waits,
    /// The sender has the connection.
    pub(crate) open: bool,
    /// In the list of flows whose writer must run.
    pub(crate) dirty: bool,
    pub(crate) blocked: bool,
    /// The link between two segments that it crosses.
    pub(crate) trunk: Option<usize>,
    /// Nothing arrives before: what was lost comes first.
    pub(crate) held_until: u64,
    /// Messages with the position of their last byte. The first `committed` are with the kernel or
    /// in a write that it has not taken yet; the rest waits for the writer.
    pub(crate) items: VecDeque<(u64, Item)>,
    pub(crate) committed: usize,
    /// Blocks of a write that the kernel has not taken whole.
    pub(crate) writing: Vec<Block>,
    /// When it came up.
    pub(crate) since: u64,
    pub(crate) outgoing: bool,
    /// The hello was written.
    pub(crate) greeted: bool,
    pub(crate) closing: Closing,
}

impl Flow {
    pub(crate) fn new(from: NodeId, to: NodeId) -> Self {
        Self {
            from,
            to,
            key: PeerKey(0),
            open: false,
            outgoing: false,
            dirty: false,
            greeted: false,
            closing: Closing::No,
            waits: Waits::Nowhere,
            credit: 0,
            items: VecDeque::new(),
            committed: 0,
            first_end: u64::MAX,
            written: 0,
            sent: 0,
            delivered: 0,
            writing: Vec::new(),
            blocked: false,
            in_flight: 0,
            latency: 0,
            held_until: 0,
            since: 0,
            trunk: None,
        }
    }

    /// Prepares a freed flow for its next connection; buffers keep their memory.
    pub(crate) fn reuse(&mut self, from: NodeId, to: NodeId) {
        let (mut items, mut writing) =
            (std::mem::take(&mut self.items), std::mem::take(&mut self.writing));
        items.clear();
        writing.clear();
        *self = Self { items, writing, dirty: self.dirty, ..Self::new(from, to) };
    }

    pub(crate) fn unsent(&self) -> u64 {
        self.written - self.sent
    }

    /// What the receiver has not acknowledged.
    pub(crate) fn on_its_way(&self) -> u64 {
        self.written - self.delivered
    }

    /// Takes out the first message, if all of it was delivered.
    pub(crate) fn take_delivered(&mut self) -> Option<Item> {
        if self.first_end > self.delivered {
            return None;
        }
        self.committed -= 1;
        let (_, item) = self.items.pop_front()?;
        if self.items.is_empty() {
            // begin again at the front of the buffer, which is in the cache
            self.items.clear();
        }
        self.first_end = match self.items.front() {
            Some((end, _)) if self.committed > 0 => *end,
            _ => u64::MAX,
        };
        Some(item)
    }

    /// The kernel, or a write to it, takes over what waits for the writer.
    pub(crate) fn commit(&mut self, geometry: &Geometry) {
        for (end, item) in self.items.iter_mut().skip(self.committed) {
            self.written += u64::from(item.size(geometry));
            *end = self.written;
        }
        if self.committed == 0 {
            self.first_end = self.items.front().map_or(u64::MAX, |(end, _)| *end);
        }
        self.committed = self.items.len();
    }

    /// Adds a message behind those that were committed.
    pub(crate) fn append(&mut self, item: Item, geometry: &Geometry) {
        self.items.push_back((0, item));
        self.commit(geometry);
    }

    /// Forgets all that is not sent.
    pub(crate) fn forget(&mut self) {
        self.sent = self.written;
        self.items.clear();
        self.committed = 0;
        self.first_end = u64::MAX;
        self.writing.clear();
        self.blocked = false;
    }

    /// Messages that wait for the writer.
    pub(crate) fn waiting(&self) -> usize {
        self.items.len() - self.committed
    }
}

/// A node's link to the network.
#[derive(Debug)]
pub(crate) struct Port {
    /// Bytes per second.
    pub(crate) up_rate: u64,
    pub(crate) down_rate: u64,
    /// Most bytes that one flow sends in a row.
    pub(crate) burst: u32,
    /// Flows with something to send, in turn.
    pub(crate) ready: VecDeque<FlowId>,
    /// Flows that wait for room in front of the downlink.
    pub(crate) parked: VecDeque<FlowId>,
    /// What the uplink sends: flow and bytes.
    pub(crate) sending: Option<(FlowId, u32)>,
    /// Acknowledgements to be sent, in bytes.
    pub(crate) acks: u64,
    /// Bytes on the way to, or in front of, the downlink, and the most there may be.
    pub(crate) queued: u64,
    pub(crate) limit: u64,
    pub(crate) down_free: u64,
    /// Bytes with headers, both ways.
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Port {
    /// A link with these rates in a network.
    pub(crate) fn of(network: &Network, up: u64, down: u64) -> Self {
        // like TCP's automatic sizing: a millisecond worth of packets, at least one
        let by_rate = || u32::try_from(up / 1_000 / 1_514).unwrap_or(u32::MAX).clamp(1, 4);
        let packets = network.burst.unwrap_or_else(by_rate);
        Self::new(up, down, nanos(network.queue), packets.clamp(1, 40) * 1448)
    }

    fn new(up_rate: u64, down_rate: u64, queue_nanos: u64, burst: u32) -> Self {
        let limit = time_times_rate(queue_nanos, down_rate).max(8 * u64::from(burst));
        Self {
            up_rate,
            down_rate,
            burst,
            ready: VecDeque::new(),
            parked: VecDeque::new(),
            sending: None,
            acks: 0,
            queued: 0,
            limit,
            down_free: 0,
            sent: 0,
            received: 0,
        }
    }
}

/// Bytes in a time in nanoseconds at a rate in bytes per second.
pub(crate) fn time_times_rate(nanos: u64, rate: u64) -> u64 {
    (nanos / 1_000).saturating_mul(rate) / 1_000_000
}

/// Nanoseconds that bytes take at a rate in bytes per second.
pub(crate) fn nanos_for(bytes: u64, rate: u64) -> u64 {
    bytes.saturating_mul(1_000_000_000) / rate.max(1)
}
