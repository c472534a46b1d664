//! What the nodes told about their boots. Pure state: the clock comes from outside.
//!
//! At most [`Limits::nodes`] nodes with [`Limits::events_per_node`] events are kept; the node not heard for
//! the longest time gives way, those of the inventory last, and of a node's events the oldest progress report. What changes is collected
//! in a log, from which `crate::state` makes it last; `Nodes::restore` is the way back.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::event::EventBatch;
use proto::node_id::NodeId;

mod asked;
mod identity;
pub(crate) mod log;
pub(crate) mod memory;
pub mod mirror;
pub mod node;
mod restore;
pub mod timeline;
pub mod trouble;
mod trust;

use identity::Claim;
use log::Log;
use node::{Node, Told};

use crate::inventory::Inventory;

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
    /// Every MAC address of every node, and the node's id.
    homes: HashMap<NodeId, NodeId>,
    inventory: Arc<Inventory>,
    /// Time from the end of an initrd until the re-seeder must have reported.
    seeder_patience: Duration,
    /// How often a mirror was named.
    named: u64,
    complete_since: Option<i64>,
    pub(crate) log: Log,
}

/// What a batch changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Events that were new.
    pub events: usize,
    /// The stage the node has entered, when it has.
    pub stage: Option<&'static str>,
}

/// Who sends a batch.
#[derive(Debug, Clone, Copy)]
pub struct Sender {
    /// Where it came from.
    pub addr: IpAddr,
    /// Number of its boot token, if it has one that this tracker gave to this node.
    pub token: Option<u64>,
}

impl From<IpAddr> for Sender {
    fn from(addr: IpAddr) -> Self {
        Self { addr, token: None }
    }
}

impl Nodes {
    /// An empty table.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            table: HashMap::new(),
            homes: HashMap::new(),
            inventory: Arc::default(),
            seeder_patience: node::SEEDER_PATIENCE,
            named: 0,
            complete_since: None,
            log: Log::default(),
        }
    }

    /// With another patience for re-seeders than [`node::SEEDER_PATIENCE`].
    #[must_use]
    pub fn patient(mut self, seeder_patience: Duration) -> Self {
        self.seeder_patience = seeder_patience;
        self
    }

    /// Takes a batch; sent twice it changes nothing the second time.
    pub fn take(
        &mut self,
        id: NodeId,
        sender: impl Into<Sender>,
        mut batch: EventBatch,
        now: Instant,
    ) -> Taken {
        let limit = self.limits.events_per_node;
        let sender = sender.into();
        let token = sender.token.filter(|token| self.fits(id, &batch.boot_id, *token));
        // who cannot prove that it is this node cannot say which other addresses are this node's
        let claim = token.and_then(|_| Claim::of(&mut batch, now));
        let (node, log) = self.enter(id, sender.addr, claim.as_ref(), now);
        let (before, row) = (node.stage, node.row());
        let events = node.take(batch, token, limit, now, log);
        if node.row() != row {
            log.node(node);
        }
        Taken { events, stage: (node.stage != before).then_some(node.stage) }
    }

    /// Whether a token's number fits the boot of a node.
    #[must_use]
    pub fn fits(&self, id: NodeId, boot_id: &str, token: u64) -> bool {
        self.get(id).is_none_or(|node| node.fits(boot_id, token))
    }

    /// Whether events are not to be taken, because their boot has shown its token and they do not.
    #[must_use]
    pub fn refuses(&self, id: NodeId, boot_id: &str, token: Option<u64>) -> bool {
        self.get(id).is_some_and(|node| node.refuses(boot_id, token))
    }

    /// Notes that a node's firmware asked what to boot, and what it was told.
    pub fn asked(&mut self, id: NodeId, addr: IpAddr, told: Told<'_>, now: Instant) {
        let (node, log) = self.enter(id, addr, None, now);
        node.asked(told, log);
        log.node(node);
    }

    /// One node, by any of its addresses.
    #[must_use]
    pub fn get(&self, mac: NodeId) -> Option<&Node> {
        self.table.get(self.homes.get(&mac)?)
    }

    /// Every node, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.table.values()
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
