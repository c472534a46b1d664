//! Which machine a message is about.
//!
//! A machine has several network cards and may boot from any of them. It is one node when
//!
//! - the inventory lists the addresses as those of one machine, or
//! - the machine says so in its events, and proves by its token that its firmware just asked for a script.
//!
//! The second is not believed blindly, since addresses are less unique than they should be: USB cards that
//! move from machine to machine, network interfaces of management controllers with one address in a whole
//! series. Two nodes stay two when the inventory has them as two, when their boards have different UUIDs, or
//! when the other one was heard after this one's kernel had started, when it runs, or when it knows its UUID and this
//! one does not say any. A UUID alone unites nothing: there are boards that all have the same.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use proto::event::EventBatch;
use proto::node_id::NodeId;

use super::Nodes;
use super::log::Log;
use super::node::Node;
use crate::state::Op;

/// What a node says of itself.
#[derive(Debug)]
pub(super) struct Claim {
    macs: Vec<NodeId>,
    uuid: Option<String>,
    boot_id: String,
    /// When its kernel started.
    began: Instant,
    now: Instant,
}

impl Claim {
    /// Takes it out of a batch; one without events does not say when the boot began.
    pub(super) fn of(batch: &mut EventBatch, now: Instant) -> Option<Self> {
        let uptime = batch.events.iter().map(|event| event.uptime_ms).max()?;
        Some(Self {
            macs: std::mem::take(&mut batch.macs),
            uuid: batch.uuid.take(),
            boot_id: batch.boot_id.clone(),
            began: now.checked_sub(Duration::from_millis(uptime))?,
            now,
        })
    }

    /// Whether an address of `other` can be one of the node that claims it.
    fn may_unite_with(&self, other: &Node) -> bool {
        let differs = other.uuid.is_some() && other.uuid != self.uuid;
        let same_boot = other.boot_id.as_ref() == Some(&self.boot_id);
        // when the kernel started is only what it says: a node that was heard in time runs
        let runs = other.stage == "seeding" && !other.old(self.now);
        !differs && (same_boot || other.heard < self.began && !runs)
    }
}

impl Nodes {
    /// The node that `id` is an address of; makes it, or makes one of several, when that is known now.
    pub(super) fn enter(
        &mut self,
        id: NodeId,
        addr: IpAddr,
        claim: Option<&Claim>,
        now: Instant,
    ) -> (&mut Node, &mut Log) {
        let inventory = self.inventory.clone();
        let listed = inventory.of(id);
        let mut home = self.homes.get(&id).copied();
        let mut macs = BTreeSet::from([id]);
        for mac in listed.map(|entry| entry.macs.as_slice()).unwrap_or_default() {
            macs.insert(*mac);
            home = self.join(home, *mac);
        }
        for mac in claim.map(|claim| claim.macs.as_slice()).unwrap_or_default() {
            let another = inventory
                .of(*mac)
                .is_some_and(|entry| listed.is_some_and(|listed| listed.name != entry.name));
            let may = |other: &Node| claim.is_some_and(|claim| claim.may_unite_with(other));
            let owner = self.get(*mac);
            if !another && owner.is_none_or(|other| home == Some(other.id) || may(other)) {
                macs.insert(*mac);
                home = self.join(home, *mac);
            }
        }
        let home = match home {
            Some(home) => home,
            None => self.make(id, addr, now),
        };
        for mac in &macs {
            self.homes.insert(*mac, home);
        }
        // `home` is in the table: it was found by an address, or made
        let node = self.table.entry(home).or_insert_with(|| Node::new(home, addr, now));
        node.seeder_patience = self.seeder_patience;
        let uuid = claim.and_then(|claim| claim.uuid.as_ref()).or(node.uuid.as_ref()).cloned();
        let grown = macs.iter().any(|mac| !node.macs.contains(mac)) || node.uuid != uuid;
        macs.extend(&node.macs);
        node.macs = macs.into_iter().collect();
        node.uuid = uuid;
        let moved = node.addr != addr;
        node.addr = addr;
        node.heard = now;
        if grown || moved {
            self.log.node(node);
        }
        (node, &mut self.log)
    }

    /// The node behind `mac`, made one with `home`.
    fn join(&mut self, home: Option<NodeId>, mac: NodeId) -> Option<NodeId> {
        let other = self.homes.get(&mac).copied();
        match (home, other) {
            (Some(home), Some(other)) if home != other => Some(self.merge(home, other)),
            (home, other) => home.or(other),
        }
    }

    fn make(&mut self, id: NodeId, addr: IpAddr, now: Instant) -> NodeId {
        if self.table.len() >= self.limits.nodes {
            let forgotten = self.least_missed().and_then(|id| self.forget(id));
            // it may run its image all the same
            if forgotten.is_some_and(|node| node.revision.is_some()) {
                self.begin_anew();
            }
        }
        self.table.insert(id, Node::new(id, addr, now));
        self.homes.insert(id, id);
        id
    }

    /// Who was not heard for the longest time, of those whom the inventory does not have while there are any:
    /// addresses that somebody makes up push out each other.
    fn least_missed(&self) -> Option<NodeId> {
        let listed = |node: &Node| node.macs.iter().any(|mac| self.inventory.of(*mac).is_some());
        let mut stranger: Option<&Node> = None;
        for node in self.table.values() {
            // the inventory last: in a flood this is done for each new address
            if stranger.is_none_or(|other| node.heard < other.heard) && !listed(node) {
                stranger = Some(node);
            }
        }
        let oldest = || self.table.values().min_by_key(|node| node.heard);
        stranger.or_else(oldest).map(|node| node.id)
    }

    fn forget(&mut self, id: NodeId) -> Option<Node> {
        let node = self.table.remove(&id)?;
        for mac in &node.macs {
            if self.homes.get(mac) == Some(&id) {
                self.homes.remove(mac);
            }
        }
        self.log.dead(node.timeline.rows());
        self.log.sweep();
        self.log.push(|| Op::DropNode(id));
        Some(node)
    }

    /// Makes one node of two: its boot is that of `active`, its id that of the one with the longer past.
    fn merge(&mut self, active: NodeId, other: NodeId) -> NodeId {
        let (Some(mut active), Some(mut other)) =
            (self.table.remove(&active), self.table.remove(&other))
        else {
            return active;
        };
        tracing::info!(node = %active.id, is = %other.id, "two addresses, one node");
        other.restart(None, &mut self.log);
        let (keep, gone) = if (other.boots, active.id) > (active.boots, other.id) {
            (other.id, active.id)
        } else {
            (active.id, other.id)
        };
        let boot = active.boot.max(other.boot) + 1;
        let rows = active.timeline.rows().collect();
        self.log.push(|| Op::MoveEvents { rows, to: keep, boot });
        self.log.move_boots(gone, keep);
        self.log.push(|| Op::DropNode(gone));
        (active.id, active.boot) = (keep, boot);
        active.boots += other.boots;
        active.bound = active.bound.max(other.bound);
        active.macs.append(&mut other.macs);
        active.macs.sort_unstable();
        active.macs.dedup();
        active.uuid = active.uuid.or(other.uuid);
        other.former.into_iter().for_each(|boot_id| active.remember(boot_id));
        for mac in &active.macs {
            self.homes.insert(*mac, keep);
        }
        self.log.node(&active);
        self.table.insert(keep, active);
        keep
    }
}

#[cfg(test)]
#[path = "identity/tests.rs"]
mod tests;
