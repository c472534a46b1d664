//! What a node tells the page, copied while the table of nodes is locked. All that takes time (names,
//! titles, order) is done afterwards: reports of nodes wait for this lock.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use proto::event::Sources;
use proto::event::audit::Verdict;
use proto::node_id::NodeId;

use super::not_asked::{self, Told};
use crate::nodes::node::Node;
use crate::nodes::trouble::Trouble;

/// One node.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: NodeId,
    pub(super) macs: Vec<NodeId>,
    pub(super) addr: IpAddr,
    pub(super) stage: &'static str,
    pub(super) percent: f64,
    /// Bytes per second.
    pub(super) rate: u64,
    /// Time that it needs at this rate; `None` when it has none.
    pub(super) left: Option<Duration>,
    pub(super) sources: Sources,
    pub(super) sent: u64,
    pub(super) audit: Option<Verdict>,
    pub(super) old: bool,
    pub(super) trouble: Option<Trouble>,
    pub(super) heard: Instant,
}

impl Row {
    pub(super) fn of(node: &Node, told: &Told, now: Instant) -> Self {
        let rate = node.rate(now);
        let missing = node.progress.total.saturating_sub(node.progress.bytes);
        Self {
            id: node.id,
            macs: node.macs.clone(),
            addr: node.addr,
            stage: node.stage,
            percent: node.percent,
            rate,
            left: missing.checked_div(rate).map(Duration::from_secs),
            sources: node.sources,
            sent: node.sent(),
            audit: node.audit.as_ref().map(|audit| audit.verdict),
            old: node.old(now),
            trouble: node.trouble(now).or_else(|| not_asked::by(node, told)),
            heard: node.heard,
        }
    }
}
