//! What a run measured.

use serde::Serialize;

use super::downlink::{self, Seconds};
use super::meter::MachineUse;
use super::scenario::{Role, Scenario};
use super::stats;

/// A combination of circumstances that every client is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Case {
    pub(crate) scenario: Scenario,
    pub(crate) nodes: u32,
    /// Of each link, in each direction.
    pub(crate) bits_per_second: u64,
}

/// What was seen of one node. Times are seconds after the crowd's start.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NodeResult {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) client: String,
    /// When it started; for one that was killed, the last time. `None` when it never did.
    pub(crate) started: Option<f64>,
    /// When it was done.
    pub(crate) done: Option<f64>,
    /// Seconds that the image takes over its link, without any header.
    pub(crate) ideal: f64,
    /// Bytes that its interface received until it was done, headers included, in images: an upper
    /// bound for what came twice.
    pub(crate) received_images: Option<f64>,
    /// Bytes that came more than once or were wrong, in images; clients that do not say have none.
    pub(crate) duplicates: Option<f64>,
    /// Largest resident set without mapped files, in bytes.
    pub(crate) anonymous: u64,
    /// Seconds of its downlink by cause until it was done; clients that do not say have none.
    pub(crate) downlink: Option<Seconds>,
    /// Seconds in which it was ready to run and waited for a processor, until it was done.
    pub(crate) cpu_wait: Option<f64>,
    /// How its program ended before it was done.
    pub(crate) ended: Option<String>,
}

/// What one run of one client measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunResult {
    pub(crate) client: String,
    #[serde(flatten)]
    pub(crate) case: Case,
    /// Counted from 1.
    pub(crate) run: u32,
    /// Seconds below which no node with a link of the common rate can be done.
    pub(crate) ideal_seconds: f64,
    /// The nodes that are to have the image; liars are not among them.
    pub(crate) members: Vec<NodeResult>,
    /// Nodes that sent wrong data.
    pub(crate) liars: u32,
    /// Nodes whose file is not the image.
    pub(crate) wrong: u32,
    /// Bytes that left the admin host, headers included, in images.
    pub(crate) admin_images: f64,
    /// Processor seconds of all clients, seeder and tracker per GB delivered, in their own code.
    pub(crate) cpu_user_per_gb: f64,
    /// The same, in the kernel.
    pub(crate) cpu_system_per_gb: f64,
    /// What the machine did, other programs included.
    pub(crate) machine: MachineUse,
    /// TCP segments sent again, all nodes together.
    pub(crate) retransmits: u64,
    /// Connections lost because a listener's queue was full, all nodes together.
    pub(crate) listen_overflows: u64,
    /// How often the machine's neighbour table was full; `None` when the kernel does not say.
    pub(crate) neighbour_overflows: Option<u64>,
    /// What else is worth knowing.
    pub(crate) notes: Vec<String>,
}

impl NodeResult {
    /// Its time from start to completion, divided by the ideal.
    pub(crate) fn ratio(&self) -> Option<f64> {
        Some((self.done? - self.started?) / self.ideal)
    }
}

impl RunResult {
    /// Nodes that finished.
    pub(crate) fn done(&self) -> usize {
        self.members.iter().filter(|node| node.done.is_some()).count()
    }

    /// Whether every node has the image, and no wrong byte.
    pub(crate) fn is_complete(&self) -> bool {
        self.done() == self.members.len() && self.wrong == 0
    }

    /// The largest ratio among nodes with links of the common rate; `None` when one did not finish.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let ratios: Option<Vec<f64>> = self.fast().map(NodeResult::ratio).collect();
        stats::largest(ratios?)
    }

    /// The median ratio of those among them that finished.
    pub(crate) fn median_ratio(&self) -> Option<f64> {
        stats::median(self.fast().filter_map(NodeResult::ratio))
    }

    /// The largest ratio among the nodes with this role; `None` when there is none, or one did not
    /// finish.
    pub(crate) fn ratio_of(&self, role: Role) -> Option<f64> {
        let ratios: Option<Vec<f64>> =
            self.members.iter().filter(|node| node.role == role).map(NodeResult::ratio).collect();
        stats::largest(ratios?)
    }

    /// Mean share of the image that a node received more than once, or wrong.
    pub(crate) fn duplicates(&self) -> Option<f64> {
        stats::mean(self.members.iter().filter_map(|node| node.duplicates))
    }

    /// The same of the node that received most of it.
    pub(crate) fn most_duplicates(&self) -> Option<f64> {
        stats::largest(self.members.iter().filter_map(|node| node.duplicates))
    }

    /// Images that a node received at most, headers included.
    pub(crate) fn received_images(&self) -> Option<f64> {
        stats::median(self.members.iter().filter_map(|node| node.received_images))
    }

    /// Largest resident set of a node without mapped files, in bytes.
    pub(crate) fn anonymous(&self) -> u64 {
        self.members.iter().map(|node| node.anonymous).max().unwrap_or(0)
    }

    /// Seconds of a downlink by cause, mean of the nodes with links of the common rate.
    pub(crate) fn downlink(&self) -> Option<Seconds> {
        downlink::mean(self.fast().filter_map(|node| node.downlink.as_ref()))
    }

    /// Seconds that a node waited for a processor, mean of all.
    pub(crate) fn cpu_wait(&self) -> Option<f64> {
        stats::mean(self.members.iter().filter_map(|node| node.cpu_wait))
    }

    /// Processor seconds per GB delivered.
    pub(crate) fn cpu_per_gb(&self) -> f64 {
        self.cpu_user_per_gb + self.cpu_system_per_gb
    }

    fn fast(&self) -> impl Iterator<Item = &NodeResult> {
        self.members.iter().filter(|node| node.role != Role::Slow)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A node that was done this many ideals after its start.
    pub(crate) fn node(role: Role, ratio: Option<f64>) -> NodeResult {
        let ideal = if role == Role::Slow { 50.0 } else { 5.0 };
        NodeResult {
            name: "n1".to_owned(),
            role,
            client: "beeswarm".to_owned(),
            started: Some(2.0),
            done: ratio.map(|ratio| 2.0 + ratio * ideal),
            ideal,
            received_images: ratio.map(|_| 1.05),
            duplicates: Some(0.01),
            anonymous: 4 << 20,
            downlink: None,
            cpu_wait: Some(0.25),
            ended: None,
        }
    }

    /// A run in which the nodes had these ratios.
    pub(crate) fn run(client: &str, case: Case, ratios: &[f64]) -> RunResult {
        RunResult {
            client: client.to_owned(),
            case,
            run: 1,
            ideal_seconds: 5.0,
            members: ratios.iter().map(|ratio| node(Role::Plain, Some(*ratio))).collect(),
            liars: 0,
            wrong: 0,
            admin_images: 1.1,
            cpu_user_per_gb: 2.0,
            cpu_system_per_gb: 6.0,
            machine: MachineUse { idle: 0.5, user_seconds: 1.0, system_seconds: 1.0 },
            retransmits: 7,
            listen_overflows: 0,
            neighbour_overflows: Some(0),
            notes: Vec::new(),
        }
    }

    pub(crate) fn case(scenario: Scenario, nodes: u32) -> Case {
        Case { scenario, nodes, bits_per_second: 25_000_000 }
    }

    #[test]
    fn a_ratio_counts_from_the_nodes_own_start() {
        assert_eq!(node(Role::Plain, Some(1.5)).ratio(), Some(1.5));
        assert_eq!(node(Role::Slow, Some(1.5)).ratio(), Some(1.5));
        assert_eq!(node(Role::Plain, None).ratio(), None);
    }

    #[test]
    fn slow_nodes_are_counted_apart() {
        let mut run = run("beeswarm", case(Scenario::SlowTenth, 4), &[1.1, 1.3, 1.2]);
        run.members.push(node(Role::Slow, Some(1.9)));
        assert_eq!(run.ratio(), Some(1.3));
        assert_eq!(run.median_ratio(), Some(1.2));
        assert_eq!(run.ratio_of(Role::Slow), Some(1.9));
        assert_eq!(run.ratio_of(Role::Late), None);
        assert!(run.is_complete());
    }

    #[test]
    fn a_node_left_behind_has_no_ratio() {
        let mut run = run("beeswarm", case(Scenario::FlashCrowd, 3), &[1.1, 1.3]);
        run.members.push(node(Role::Plain, None));
        assert_eq!((run.ratio(), run.median_ratio(), run.done()), (None, Some(1.3), 2));
        assert!(!run.is_complete());
    }
}
