//! Networks of two segments with one link between them, shared by all that cross it.

use std::collections::VecDeque;

use crate::flow::{FlowId, Waits, nanos_for, time_times_rate};
use crate::node::NodeId;
use crate::world::{World, nanos};

/// The way out of a segment of the network, shared by all that leave it.
#[derive(Debug)]
pub(crate) struct Trunk {
    rate: u64,
    limit: u64,
    /// Bytes on the way to it or in front of it.
    pub(crate) queued: u64,
    /// Flows that wait for room.
    pub(crate) parked: VecDeque<FlowId>,
    free: u64,
    /// Bytes that crossed, with headers.
    pub(crate) carried: u64,
}

impl Trunk {
    pub(crate) fn new(rate: u64, queue_nanos: u64) -> Self {
        let limit = time_times_rate(queue_nanos, rate).max(8 * 1448);
        Self { rate, limit, queued: 0, parked: VecDeque::new(), free: 0, carried: 0 }
    }

    pub(crate) fn is_full(&self, bytes: u64) -> bool {
        self.queued > 0 && self.queued + bytes > self.limit
    }

    /// Takes a burst with `wire` bytes that comes in at `at`; when it is through.
    pub(crate) fn pass(&mut self, wire: u64, at: u64) -> u64 {
        self.carried += wire;
        self.free = self.free.max(at) + nanos_for(wire, self.rate);
        self.free
    }
}

impl World {
    /// Puts nodes behind links of `rate` bytes per second each way, one for each segment: the nodes of
    /// a segment reach each other without it. The others, the seeder too, are in a segment of their own.
    pub fn set_segments(&mut self, rate: u64, far: &[NodeId]) {
        let queue = nanos(self.setup.network.queue);
        self.trunks = vec![Trunk::new(rate, queue), Trunk::new(rate, queue)];
        for node in far {
            self.nodes[node.at()].segment = 1;
        }
    }

    /// Bytes with headers that left each segment.
    #[must_use]
    pub fn crossed_bytes(&self) -> Vec<u64> {
        self.trunks.iter().map(|trunk| trunk.carried).collect()
    }

    /// A burst has left the link between two segments: who waits for room there may send.
    pub(crate) fn crossed(&mut self, id: FlowId, size: u32) {
        if let Some(trunk) = self.flows[id.at()].trunk {
            self.trunks[trunk].queued -= u64::from(size);
            self.give_trunk(trunk);
        }
        self.arrive(id, size, self.now);
    }

    pub(crate) fn give_trunk(&mut self, trunk: usize) {
        while let Some(id) = self.trunks[trunk].parked.front().copied() {
            let flow = &mut self.flows[id.at()];
            let from = flow.from;
            let burst = self.nodes[from.at()].port.burst;
            let size = u64::from(burst).min(flow.unsent());
            if self.trunks[trunk].is_full(size) {
                return;
            }
            self.trunks[trunk].parked.pop_front();
            // it reserves there, and before its receiver, when it may send
            flow.waits = Waits::Uplink;
            self.nodes[from.at()].port.ready.push_back(id);
            self.start_uplink(from);
        }
    }
}
