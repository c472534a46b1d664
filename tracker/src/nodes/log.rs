//! What changes in the table of nodes, for the disk. Collects nothing in a tracker that keeps nothing.

use proto::event::Event;
use proto::node_id::NodeId;

use super::node::Node;
use crate::state::{NodeRow, Op, PastBoot};

/// Events that are no longer kept are deleted by this many: neighbours on the disk go together.
const SWEEP: usize = 512;

/// Changes since [`Log::drain`].
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// `Some`: number of past boots kept of a node.
    keep: Option<usize>,
    ops: Vec<Op>,
    last_row: i64,
    dead: Vec<i64>,
}

impl Log {
    /// Collects from now on; `last_row` is the last number given to an event.
    pub(crate) fn keep(&mut self, past_boots: usize, last_row: i64) {
        self.keep = Some(past_boots);
        self.last_row = last_row;
    }

    /// What was collected.
    pub(crate) fn drain(&mut self) -> Vec<Op> {
        if self.dead.len() >= SWEEP {
            self.sweep();
        }
        std::mem::take(&mut self.ops)
    }

    /// Deletes now what is no longer kept. A node that is forgotten and comes back counts its boots from the
    /// start: it must not find events of its former life.
    pub(super) fn sweep(&mut self) {
        let mut rows = std::mem::take(&mut self.dead);
        if !rows.is_empty() {
            rows.sort_unstable();
            self.ops.push(Op::DropEvents(rows));
        }
    }

    /// A new event; gives the number of its row.
    pub(super) fn event(&mut self, node: NodeId, boot: u32, event: &Event) -> i64 {
        if self.keep.is_some() {
            self.last_row += 1;
            let (row, event) = (self.last_row, Box::new(event.clone()));
            self.ops.push(Op::AddEvent { row, node, boot, event });
        }
        self.last_row
    }

    /// Events that are no longer kept.
    pub(super) fn dead(&mut self, rows: impl IntoIterator<Item = i64>) {
        if self.keep.is_some() {
            self.dead.extend(rows);
        }
    }

    /// Something about a node that is not in its events.
    pub(super) fn node(&mut self, node: &Node) {
        self.push(|| Op::PutNode(Box::new(NodeRow::of(node))));
    }

    pub(super) fn end_boot(&mut self, node: NodeId, boot: impl FnOnce() -> PastBoot) {
        if let Some(keep) = self.keep {
            self.ops.push(Op::EndBoot { node, boot: Box::new(boot()), keep });
        }
    }

    /// The past boots of a node that is another one.
    pub(super) fn move_boots(&mut self, from: NodeId, to: NodeId) {
        if let Some(keep) = self.keep {
            self.ops.push(Op::MoveBoots { from, to, keep });
        }
    }

    pub(super) fn push(&mut self, op: impl FnOnce() -> Op) {
        if self.keep.is_some() {
            self.ops.push(op());
        }
    }
}
