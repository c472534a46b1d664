//! Nodes that boot something else than their channel says.
//!
//! Two may say so: `bee-packer` with the store at hand, which writes the store's `assignments.json`, and
//! whoever has the admin's token, over HTTP. The later word counts. So what the store's file said when it
//! was last read is kept, and only what is different now is taken over.

use std::collections::BTreeMap;
use std::time::Instant;

use proto::node_id::NodeId;
use store::RevisionRef;

use crate::boot::values::KernelArgs;
use crate::state::{AssignmentRow, Op};

/// What nodes were told.
#[derive(Debug, Default)]
pub(crate) struct Assignments {
    table: BTreeMap<NodeId, AssignmentRow>,
    /// Since when this tracker knows that a node was told what it was told; not on disk.
    since: BTreeMap<NodeId, Instant>,
}

/// What one node was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) revision: RevisionRef,
    pub(crate) kernel_args: KernelArgs,
}

impl Assignments {
    pub(crate) fn restore(table: BTreeMap<NodeId, AssignmentRow>) -> Self {
        let now = Instant::now();
        let since = table.keys().map(|node| (*node, now)).collect();
        Self { table, since }
    }

    /// Every node that was told something, and since when.
    pub(crate) fn told(&self) -> impl Iterator<Item = (NodeId, &RevisionRef, Instant)> {
        self.table
            .iter()
            .filter_map(|(node, row)| Some((*node, row.revision.as_ref()?, *self.since.get(node)?)))
    }

    /// What the first of these addresses that was told anything was told.
    pub(crate) fn find(&self, macs: &[NodeId]) -> Option<Assignment> {
        macs.iter().find_map(|mac| {
            let row = self.table.get(mac)?;
            let revision = row.revision.clone()?;
            Some(Assignment { revision, kernel_args: row.kernel_args.clone() })
        })
    }

    /// Every node that was told something.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &RevisionRef, &KernelArgs)> {
        self.table
            .iter()
            .filter_map(|(node, row)| Some((*node, row.revision.as_ref()?, &row.kernel_args)))
    }

    /// Takes over what has changed in the store's file.
    pub(crate) fn follow(&mut self, file: &store::Assignments) -> Vec<Op> {
        let mut ops = Vec::new();
        for (node, revision) in file.iter() {
            let row = self.table.entry(node).or_default();
            if row.in_store.as_ref() != Some(revision) {
                let said = Some(revision.clone());
                *row =
                    AssignmentRow { revision: said.clone(), in_store: said, ..Default::default() };
                ops.push(Op::Assign { node, row: row.clone() });
                self.since.insert(node, Instant::now());
            }
        }
        for (node, row) in &mut self.table {
            if row.in_store.is_some() && file.get(*node).is_none() {
                *row = AssignmentRow::default();
                ops.push(Op::Assign { node: *node, row: row.clone() });
            }
        }
        self.sweep();
        ops
    }

    pub(crate) fn assign(&mut self, nodes: &[NodeId], told: &Assignment) -> Vec<Op> {
        let assign = |node: &NodeId| {
            let row = self.table.entry(*node).or_default();
            row.revision = Some(told.revision.clone());
            row.kernel_args = told.kernel_args.clone();
            self.since.insert(*node, Instant::now());
            Op::Assign { node: *node, row: row.clone() }
        };
        nodes.iter().map(assign).collect()
    }

    /// Lets nodes (`None`: all) follow their channel again; gives those that did not.
    pub(crate) fn unassign(&mut self, nodes: Option<&[NodeId]>) -> (Vec<NodeId>, Vec<Op>) {
        let (mut freed, mut ops) = (Vec::new(), Vec::new());
        for (node, row) in &mut self.table {
            if row.revision.is_some() && nodes.is_none_or(|nodes| nodes.contains(node)) {
                row.revision = None;
                row.kernel_args = KernelArgs::default();
                freed.push(*node);
                ops.push(Op::Assign { node: *node, row: row.clone() });
            }
        }
        self.sweep();
        (freed, ops)
    }

    fn sweep(&mut self) {
        self.table.retain(|_, row| row.revision.is_some() || row.in_store.is_some());
        self.since.retain(|node, _| self.table.contains_key(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId([n; 6])
    }

    fn revision(n: u8) -> RevisionRef {
        format!("debian@{}", format!("{n:x}").repeat(12)).parse().unwrap()
    }

    fn told(n: u8) -> Assignment {
        Assignment { revision: revision(n), kernel_args: "quiet".parse().unwrap() }
    }

    #[test]
    fn the_later_word_counts_whoever_said_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = store::Store::init(dir.path()).unwrap();
        let file = |text: &str| {
            let text = format!("{{\"version\":1,\"nodes\":{{{text}}}}}");
            std::fs::write(dir.path().join("assignments.json"), text).unwrap();
            store.assignments().unwrap()
        };
        let one = format!("\"{}\":\"{}\"", node(1), revision(1));
        let two = format!("{one},\"{}\":\"{}\"", node(2), revision(1));
        let mut table = Assignments::default();
        let says = |table: &Assignments, n| table.find(&[node(9), node(n)]).map(|a| a.revision);

        assert_eq!(table.follow(&file(&one)).len(), 1);
        assert_eq!(says(&table, 1), Some(revision(1)));
        assert_eq!(table.assign(&[node(1), node(3)], &told(2)).len(), 2);
        assert_eq!(table.find(&[node(1)]), Some(told(2)));
        // the file was written again for another node's sake
        assert_eq!(table.follow(&file(&two)).len(), 1);
        assert_eq!((says(&table, 1), says(&table, 2)), (Some(revision(2)), Some(revision(1))));
        // unassigned over HTTP while the file still has it: stays so, over a restart, too
        let (freed, _) = table.unassign(Some(&[node(1), node(7)]));
        assert_eq!(freed, [node(1)]);
        let mut table = Assignments::restore(table.table.clone());
        assert!(table.follow(&file(&two)).is_empty());
        assert_eq!(says(&table, 1), None);
        // and until the file says something new
        assert_eq!(table.follow(&file("")).len(), 2);
        assert_eq!(table.follow(&file(&one)).len(), 1);
        assert_eq!(says(&table, 1), Some(revision(1)));
        assert_eq!(says(&table, 3), Some(revision(2)), "not the file's");
        assert_eq!(table.unassign(None).0, [node(1), node(3)]);
        assert_eq!(table.iter().count(), 0);
    }
}
