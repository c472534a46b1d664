//! Nodes that were told what to boot, and did not ask since.
//!
//! A node that runs and reports is patient, not stuck: it takes what it was told at its next boot. One that
//! says nothing from the moment on at which it was told is off, or boots from somewhere else.

use std::collections::HashSet;
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

/// Somebody was told what to boot, longer ago than [`PATIENCE`].
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) node: NodeId,
    pub(super) revision: RevisionRef,
    pub(super) since: Instant,
    pub(super) age: Duration,
}

impl Told {
    /// All that should have asked by now.
    pub(super) fn all(app: &App, now: Instant) -> Vec<Self> {
        let assignments = lock(&app.assignments);
        let old = |(node, revision, since): (NodeId, &RevisionRef, Instant)| {
            let age = now.saturating_duration_since(since);
            let told = || Self { node, revision: revision.clone(), since, age };
            (age > PATIENCE).then(told)
        };
        assignments.told().filter_map(old).collect()
    }

    fn trouble(&self) -> Trouble {
        let (revision, time) = (&self.revision, seconds(self.age));
        let detail = format!("it was told to boot {revision} {time} ago, and did not ask since");
        Trouble { cause: Cause::NotAsked, detail }
    }
}

/// Whether a node that was heard before was not heard since it was told.
pub(super) fn by(node: &Node, told: &[Told]) -> Option<Trouble> {
    let told = told.iter().find(|told| node.macs.contains(&told.node))?;
    (node.heard < told.since).then(|| told.trouble())
}

/// Those that were never heard. A node of the inventory is one, whichever of its addresses were told.
pub(super) fn by_nobody(
    told: &[Told],
    heard: &HashSet<NodeId>,
    inventory: &Inventory,
) -> Vec<Stalled> {
    let mut seen = HashSet::new();
    let mut stalled = Vec::new();
    for told in told {
        let entry = inventory.of(told.node);
        let macs = entry.map_or(std::slice::from_ref(&told.node), |entry| entry.macs.as_slice());
        let id = macs.first().copied().unwrap_or(told.node);
        if macs.iter().any(|mac| heard.contains(mac)) || !seen.insert(id) {
            continue;
        }
        let name = entry.map_or_else(|| id.to_string(), |entry| entry.name.to_string());
        stalled.push(Stalled { id, name, stage: ABSENT, trouble: told.trouble(), heard: None });
    }
    stalled
}
