//! What the nodes told about their boots. Pure state: the clock comes from outside.
//!
//! It lives in memory: after a restart a node is back with its next event, from whichever boot and
//! stage it is in. At most [`Limits::nodes`] nodes with [`Limits::events_per_node`] events are kept; the
//! node not heard for the longest time gives way, and of a node's events the oldest progress report.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use proto::event::EventBatch;
use proto::node_id::NodeId;
use store::RevisionRef;

pub mod node;
pub mod timeline;

use node::Node;

/// How much may be kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Nodes.
    pub nodes: usize,
    /// Events of one node.
    pub events_per_node: usize,
}

/// Every node that was heard.
#[derive(Debug)]
pub struct Nodes {
    limits: Limits,
    table: HashMap<NodeId, Node>,
}

/// What a batch changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Events that were new.
    pub events: usize,
    /// The stage the node has entered, when it has.
    pub stage: Option<&'static str>,
}

impl Nodes {
    /// An empty table.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, table: HashMap::new() }
    }

    /// Takes a batch; sent twice it changes nothing the second time.
    pub fn take(&mut self, id: NodeId, addr: IpAddr, batch: EventBatch, now: Instant) -> Taken {
        let limit = self.limits.events_per_node;
        let node = self.node(id, addr, now);
        let before = node.stage;
        let events = node.take(batch, limit, now);
        Taken { events, stage: (node.stage != before).then_some(node.stage) }
    }

    /// Notes that a node's firmware asked what to boot, and what it was told.
    pub fn asked(
        &mut self,
        id: NodeId,
        addr: IpAddr,
        offer: Result<&RevisionRef, &str>,
        now: Instant,
    ) {
        self.node(id, addr, now).asked(offer);
    }

    fn node(&mut self, id: NodeId, addr: IpAddr, now: Instant) -> &mut Node {
        if !self.table.contains_key(&id) && self.table.len() >= self.limits.nodes {
            let oldest = self.table.iter().min_by_key(|(_, node)| node.heard).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                self.table.remove(&oldest);
            }
        }
        let node = self.table.entry(id).or_insert_with(|| Node::new(id, addr, now));
        node.addr = addr;
        node.heard = now;
        node
    }

    /// One node.
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.table.get(&id)
    }

    /// Every node, by id.
    #[must_use]
    pub fn all(&self) -> Vec<&Node> {
        let mut all: Vec<_> = self.table.values().collect();
        all.sort_by_key(|node| node.id);
        all
    }
}

#[cfg(test)]
#[path = "nodes/tests.rs"]
mod tests;
