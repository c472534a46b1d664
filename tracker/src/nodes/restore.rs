//! The table as it was when the tracker ended.

use std::sync::Arc;

use super::Nodes;
use super::node::Node;
use super::timeline::{Entry, Inserted};
use crate::inventory::Inventory;
use crate::state::{LoadedEvent, NodeRow};

impl Nodes {
    /// Takes what was on disk: nodes first, then their events in the order in which they came. From now
    /// on changes are collected, and `past_boots` kept of each node.
    pub(crate) fn restore(
        &mut self,
        nodes: Vec<(NodeRow, std::time::Instant)>,
        events: Vec<LoadedEvent>,
        past_boots: usize,
        last_row: i64,
    ) {
        self.log.keep(past_boots, last_row);
        for (row, heard) in nodes {
            self.homes.extend(row.macs.iter().map(|mac| (*mac, row.id)));
            let mut node = row.into_node(heard);
            node.seeder_patience = self.seeder_patience;
            self.table.insert(node.id, node);
        }
        let limit = self.limits.events_per_node;
        for LoadedEvent { row, node, boot, received, event } in events {
            let Some(node) = self.table.get_mut(&node).filter(|node| node.boot == boot) else {
                // of a boot that is over, or of a node that was forgotten
                self.log.dead([row]);
                continue;
            };
            node.heard = node.heard.max(received);
            match node.put(Entry { event, received, row }, limit) {
                Inserted::New => {}
                Inserted::Known => self.log.dead([row]),
                Inserted::Instead(victim) => self.log.dead([victim]),
            }
        }
    }

    /// Which addresses belong together, from now on.
    pub fn set_inventory(&mut self, inventory: Arc<Inventory>) {
        self.inventory = inventory;
    }
}

impl Node {
    /// What is stored of it beside its events.
    pub(super) fn row(&self) -> NodeRow {
        NodeRow::of(self)
    }
}

impl NodeRow {
    pub(crate) fn of(node: &Node) -> Self {
        Self {
            id: node.id,
            macs: node.macs.clone(),
            uuid: node.uuid.clone(),
            addr: node.addr,
            boot: node.boot,
            boots: node.boots,
            boot_id: node.boot_id.clone(),
            former: node.former.clone(),
            asked: node.asked,
            // what events said comes back with them
            revision: node.revision.clone(),
            waits: node.waits.clone(),
            trust: node.trust,
            bound: node.bound,
        }
    }

    fn into_node(self, heard: std::time::Instant) -> Node {
        let mut node = Node::new(self.id, self.addr, heard);
        node.macs = self.macs;
        node.uuid = self.uuid;
        node.boot = self.boot;
        node.boots = self.boots;
        node.boot_id = self.boot_id;
        node.former = self.former;
        node.asked = self.asked;
        node.revision = self.revision;
        node.waits = self.waits;
        node.trust = self.trust;
        node.bound = self.bound;
        node.stage = node.asked.stage();
        node
    }
}
