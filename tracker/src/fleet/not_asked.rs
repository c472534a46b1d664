//! Nodes that were told what to boot, and did not ask since.
//!
//! A node that runs and reports is patient, not stuck: it takes what it was told at its next boot. One that
//! says nothing from the moment on at which it was told is off, or boots from somewhere else.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use proto::node_id::NodeId;
use store::RevisionRef;

use super::{ABSENT, Stalled};
use crate::app::{App, lock};
use crate::inventory::Inventory;
use crate::nodes::node::Node;
use crate::nodes::trouble::{Cause, Trouble, seconds};

/// A machine that is switched on asks within this time, also a slow one with much memory to test.
const PATIENCE: Duration = Duration::from_secs(300);

/// By address: who was told what to boot, longer ago than [`PATIENCE`].
pub(super) type Told = BTreeMap<NodeId, Order>;

/// What one was told.
#[derive(Debug, Clone)]
pub(super) struct Order {
    revision: RevisionRef,
    since: Instant,
    age: Duration,
}

/// All that should have asked by now.
pub(super) fn all(app: &App, now: Instant) -> Told {
    let assignments = lock(&app.assignments);
    let old = |(node, revision, since): (NodeId, &RevisionRef, Instant)| {
        let age = now.saturating_duration_since(since);
        let order = || (node, Order { revision: revision.clone(), since, age });
        (age > PATIENCE).then(order)
    };
    assignments.told().filter_map(old).collect()
}

impl Order {
    fn trouble(&self) -> Trouble {
        let (revision, time) = (&self.revision, seconds(self.age));
        let detail = format!("it was told to boot {revision} {time} ago, and did not ask since");
        Trouble { cause: Cause::NotAsked, detail }
    }
}

/// Whether a node that was heard before was not heard since it was told.
pub(super) fn by(node: &Node, told: &Told) -> Option<Trouble> {
    let orders = node.macs.iter().filter_map(|mac| told.get_key_value(mac));
    let (_, order) = orders.min_by_key(|(mac, _)| **mac)?;
    (node.heard < order.since).then(|| order.trouble())
}

/// What is wrong with one that was never heard.
pub(crate) fn never_heard(app: &App, macs: &[NodeId]) -> Option<Trouble> {
    let told = all(app, Instant::now());
    macs.iter().find_map(|mac| told.get(mac)).map(Order::trouble)
}

/// Those that were never heard. A node of the inventory is one, whichever of its addresses were told.
pub(super) fn by_nobody(
    told: &Told,
    heard: &HashSet<NodeId>,
    inventory: &Inventory,
) -> Vec<Stalled> {
    let mut seen = HashSet::new();
    let mut stalled = Vec::new();
    for (mac, order) in told {
        let entry = inventory.of(*mac);
        let macs = entry.map_or(std::slice::from_ref(mac), |entry| entry.macs.as_slice());
        let id = macs.first().copied().unwrap_or(*mac);
        if macs.iter().any(|mac| heard.contains(mac)) || !seen.insert(id) {
            continue;
        }
        let name = inventory.name(id);
        stalled.push(Stalled { id, name, stage: ABSENT, trouble: order.trouble(), heard: None });
    }
    stalled
}
