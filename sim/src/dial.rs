//! Who is connected with whom: announces and dials (after `net::announce` and `net::dial`).

use std::time::Duration;

use swarm::config::peers_wanted;
use swarm::core::PeerView;

use crate::book::jittered;
use crate::flow::FlowId;
use crate::node::NodeId;
use crate::setup::Setup;
use crate::world::{Event, World, nanos};

/// Peers asked for by a node that fetches, and by one that is complete.
const NUMWANT: usize = 50;
const NUMWANT_COMPLETE: usize = 5;

/// With fewer connections a fetching node asks the tracker again soon.
const HUNGRY: usize = 5;

/// A connection that is of no use gives way after this long.
const EVICT_AFTER: u64 = 30_000_000_000;

fn wanted(setup: &Setup, age: u64) -> usize {
    peers_wanted(setup.target_peers, setup.settled_peers, Duration::from_nanos(age))
}

impl World {
    /// One-way delay between two nodes: the same for both directions, and in every run of a seed.
    pub(crate) fn latency(&self, a: NodeId, b: NodeId) -> u64 {
        let network = &self.setup.network;
        let spread = nanos(network.latency_spread);
        let pair = (u64::from(a.0.min(b.0)) << 32) | u64::from(a.0.max(b.0));
        let draw =
            fastrand::Rng::with_seed(self.setup.seed ^ pair.wrapping_mul(0x9e37_79b9_7f4a_7c15))
                .u64(0..=spread);
        nanos(network.latency) + draw
    }

    /// Whether two nodes are in one segment.
    pub(crate) fn is_near(&self, a: NodeId, b: NodeId) -> bool {
        self.nodes[a.at()].segment == self.nodes[b.at()].segment
    }

    pub(crate) fn announce(&mut self, id: NodeId) {
        let node = &self.nodes[id.at()];
        let (done, life, seeder) = (node.core.is_done(), node.life, node.seeder);
        self.tracker.announce(id, done);
        let want = if done && !seeder { NUMWANT_COMPLETE } else { NUMWANT };
        let nodes = &self.nodes;
        let segment = |node: NodeId| nodes[node.at()].segment;
        let peers = self.tracker.peers(id, want, segment, self.now, &mut self.rng);
        let now = self.now;
        let near: Vec<bool> = peers.iter().map(|peer| self.is_near(id, *peer)).collect();
        let node = &mut self.nodes[id.at()];
        for (peer, near) in peers.iter().zip(near) {
            node.book.add(*peer, near);
        }
        let hungry = node.links.len() < HUNGRY;
        if hungry {
            node.book.hurry(&peers, now);
        }
        let interval = self.tracker.interval(done, &mut self.rng);
        let wait = if hungry && !done {
            jittered(1_000_000_000, &mut self.rng).min(interval)
        } else {
            interval / 10 * 9 + self.rng.u64(0..=interval.min(5_000_000_000) / 10)
        };
        self.calendar.push(now + wait, Event::Announce(id, life));
        self.dial_more(id);
    }

    /// Starts as many dials as are due.
    pub(crate) fn dial_more(&mut self, id: NodeId) {
        loop {
            let node = &mut self.nodes[id.at()];
            let complete = node.core.is_done();
            let (target, dials) = match (complete, node.seeder) {
                (true, false) => (1, 1),
                _ => (wanted(&self.setup, self.now - node.started_at), self.setup.max_dials),
            };
            if node.links.len() + node.dialing >= target || node.dialing >= dials {
                return;
            }
            let Some(to) = node.book.next(self.now, complete, &mut self.rng) else { return };
            node.dialing += 1;
            let life = node.life;
            // a connection and a handshake: two round trips
            let at = self.now + 4 * self.latency(id, to);
            self.calendar.push(at, Event::Dialed { from: id, life, to });
        }
    }

    pub(crate) fn dialed(&mut self, from: NodeId, to: NodeId) {
        self.nodes[from.at()].dialing -= 1;
        let linked = self.nodes[from.at()].links.iter().any(|f| self.flows[f.at()].to == to);
        if linked {
            let near = self.is_near(from, to);
            self.nodes[from.at()].book.connected(to, near);
        } else if self.nodes[to.at()].alive && self.admits(from, to) && self.admits(to, from) {
            self.connect(from, to);
        } else {
            self.nodes[from.at()].book.failed(to, self.now, &mut self.rng);
        }
    }

    /// Whether a node takes a connection with another; makes room if it can.
    fn admits(&mut self, id: NodeId, other: NodeId) -> bool {
        let identity = other.identity(self.nodes[other.at()].life);
        let node = &self.nodes[id.at()];
        if node.core.is_banned(&identity) {
            return false;
        }
        if node.links.len() < node.max_peers {
            return true;
        }
        let now = self.moment(id);
        let useless = |v: PeerView| !v.interested && v.useful == 0;
        let old = |f: &FlowId| self.now - self.flows[f.at()].since >= EVICT_AFTER;
        let view = |f: &FlowId| node.core.peer(self.flows[f.at()].key, now);
        let found = node.links.iter().find(|f| old(f) && view(f).is_some_and(useless)).copied();
        match found {
            Some(flow) => {
                self.close(flow);
                true
            }
            None => false,
        }
    }
}
