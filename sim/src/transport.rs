//! How bytes get from one node to another: uplinks in turn, queues in front of downlinks.

use crate::flow::{FlowId, Waits, nanos_for};
use crate::node::NodeId;
use crate::world::{Event, World};

/// TCP payload of a full packet.
const MSS: u32 = 1448;

/// Ethernet, IPv4 and TCP headers with time stamps.
const HEADER: u32 = 66;

/// Bursts up to this size go ahead although a downlink's queue is full: they hardly lengthen it.
const SMALL: u64 = 600;

/// A loss shows after about this long on a local network (fast retransmission, or a timer).
const LOSS_NANOS: u64 = 30_000_000;

impl World {
    fn wire_size(&self, bytes: u32) -> u64 {
        let headers = if self.headers { HEADER * bytes.div_ceil(MSS) } else { 0 };
        u64::from(bytes) + u64::from(headers)
    }

    /// A flow has bytes to send: it takes its turn.
    pub(crate) fn enqueue(&mut self, id: FlowId) {
        let flow = &mut self.flows[id.at()];
        if flow.waits == Waits::Nowhere && flow.unsent() > 0 {
            flow.waits = Waits::Uplink;
            let from = flow.from;
            self.nodes[from.at()].port.ready.push_back(id);
            self.start_uplink(from);
        }
    }

    /// Begins the next burst, if the uplink is free and somebody may send.
    pub(crate) fn start_uplink(&mut self, node: NodeId) {
        if self.nodes[node.at()].port.sending.is_some() {
            return;
        }
        while let Some(id) = self.nodes[node.at()].port.ready.pop_front() {
            if self.flows[id.at()].credit > 0 || self.take_credit(id) {
                self.send_burst(id);
                return;
            }
        }
    }

    /// Reserves room in front of the receiver's downlink, or parks the flow there.
    fn take_credit(&mut self, id: FlowId) -> bool {
        let flow = &mut self.flows[id.at()];
        let burst = self.nodes[flow.from.at()].port.burst;
        let size = u32::try_from(flow.unsent()).unwrap_or(u32::MAX).min(burst);
        if size == 0 {
            flow.waits = Waits::Nowhere;
            return false;
        }
        let bytes = u64::from(size);
        if let Some(trunk) = flow.trunk {
            let trunk = &mut self.trunks[trunk];
            if trunk.is_full(bytes) && bytes > SMALL {
                trunk.parked.push_back(id);
                flow.waits = Waits::Trunk;
                return false;
            }
        }
        let port = &mut self.nodes[flow.to.at()].port;
        if port.queued > 0 && port.queued + bytes > port.limit && bytes > SMALL {
            port.parked.push_back(id);
            flow.waits = Waits::Downlink;
            return false;
        }
        port.queued += bytes;
        flow.credit = size;
        if let Some(trunk) = flow.trunk {
            self.trunks[trunk].queued += bytes;
        }
        true
    }

    fn send_burst(&mut self, id: FlowId) {
        let size = self.flows[id.at()].credit;
        let wire = self.wire_size(size);
        let lost = self.loss > 0 && self.rng.u32(..1_000_000) < self.loss;
        let now = self.now;
        let flow = &mut self.flows[id.at()];
        let port = &mut self.nodes[flow.from.at()].port;
        flow.credit = 0;
        flow.sent += u64::from(size);
        flow.in_flight += 1;
        let bytes = wire + std::mem::take(&mut port.acks) + if lost { wire } else { 0 };
        let done = now + nanos_for(bytes, port.up_rate);
        port.sending = Some((id, size));
        port.sent += bytes;
        if lost {
            flow.held_until = done + LOSS_NANOS + 3 * flow.latency;
        }
        let node = flow.from;
        if flow.unsent() > 0 {
            port.ready.push_back(id);
        } else {
            flow.waits = Waits::Nowhere;
        }
        let taken = flow.blocked && flow.unsent() <= self.send_buffer;
        self.calendar.push(done, Event::UplinkFree(node));
        if taken {
            self.write_done(id);
        }
    }

    /// The uplink of a node has sent a burst.
    pub(crate) fn uplink_free(&mut self, node: NodeId) {
        if let Some((id, size)) = self.nodes[node.at()].port.sending.take() {
            let flow = &self.flows[id.at()];
            let at = (self.now + flow.latency).max(flow.held_until);
            if let Some(trunk) = flow.trunk {
                let wire = self.wire_size(size);
                let out = self.trunks[trunk].pass(wire, at);
                self.calendar.push(out, Event::Crossed(id, size));
            } else if self.same_latency {
                // what leaves first arrives first, so its place in the queue is known now
                self.arrive(id, size, at);
            } else {
                self.calendar.push(at, Event::Arrive(id, size));
            }
        }
        self.start_uplink(node);
    }

    /// A burst reaches the queue of its receiver's downlink.
    pub(crate) fn arrive(&mut self, id: FlowId, size: u32, at: u64) {
        let wire = self.wire_size(size);
        let last_packet = self.wire_size(size.min(MSS));
        let port = &mut self.nodes[self.flows[id.at()].to.at()].port;
        port.received += wire;
        // packet by packet: an idle downlink works while the burst still comes in
        let behind_others = port.down_free + nanos_for(wire, port.down_rate);
        let alone = at + nanos_for(last_packet, port.down_rate);
        port.down_free = behind_others.max(alone);
        self.calendar.push(port.down_free, Event::Deliver(id, size));
    }

    /// A burst is with the receiver's kernel: whole messages go to its engine.
    pub(crate) fn deliver(&mut self, id: FlowId, size: u32) {
        let flow = &mut self.flows[id.at()];
        flow.in_flight -= 1;
        flow.delivered += u64::from(size);
        let (from, to) = (flow.from, flow.to);
        self.give_room(to, u64::from(size));
        if self.headers {
            self.acknowledge(from, to, size);
        }
        self.read(id);
        self.free_if_over(id);
    }

    /// One acknowledgement for two packets. On an idle link it costs nobody anything.
    fn acknowledge(&mut self, from: NodeId, to: NodeId, size: u32) {
        let bytes = u64::from(HEADER * size.div_ceil(MSS)) / 2;
        let receiver = &mut self.nodes[to.at()].port;
        if receiver.sending.is_some() {
            receiver.acks += bytes;
        }
        let sender = &mut self.nodes[from.at()].port;
        if sender.down_free > self.now {
            sender.down_free += nanos_for(bytes, sender.down_rate);
        }
    }

    /// Bytes left the queue of a downlink: who waits for room may send.
    fn give_room(&mut self, node: NodeId, bytes: u64) {
        self.nodes[node.at()].port.queued -= bytes;
        while let Some(id) = self.nodes[node.at()].port.parked.front().copied() {
            let flow = &mut self.flows[id.at()];
            let from = flow.from;
            let burst = self.nodes[from.at()].port.burst;
            let size = u32::try_from(flow.unsent()).unwrap_or(u32::MAX).min(burst);
            let port = &mut self.nodes[node.at()].port;
            if port.queued > 0 && port.queued + u64::from(size) > port.limit {
                return;
            }
            port.parked.pop_front();
            flow.waits = Waits::Uplink;
            if flow.trunk.is_none() {
                port.queued += u64::from(size);
                flow.credit = size;
            }
            self.nodes[from.at()].port.ready.push_back(id);
            self.start_uplink(from);
        }
    }

    /// Nothing more of this flow is sent; what is under way still arrives.
    pub(crate) fn silence(&mut self, id: FlowId) {
        let flow = &mut self.flows[id.at()];
        let (from, to, credit) = (flow.from, flow.to, std::mem::take(&mut flow.credit));
        let trunk = flow.trunk;
        let waits = std::mem::replace(&mut flow.waits, Waits::Nowhere);
        flow.forget();
        match waits {
            Waits::Nowhere => {}
            Waits::Uplink => self.nodes[from.at()].port.ready.retain(|other| *other != id),
            Waits::Downlink => self.nodes[to.at()].port.parked.retain(|other| *other != id),
            Waits::Trunk => {
                if let Some(trunk) = trunk {
                    self.trunks[trunk].parked.retain(|other| *other != id);
                }
            }
        }
        if let Some(trunk) = trunk.filter(|_| credit > 0) {
            self.trunks[trunk].queued -= u64::from(credit);
            self.give_trunk(trunk);
        }
        if credit > 0 {
            self.give_room(to, u64::from(credit));
        }
    }
}
