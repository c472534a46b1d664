//! What a run measured, in one structure for tables and JSON.

use serde::Serialize;

use crate::node::{Node, NodeId};
use crate::sample::{Down, PHASES, Up};
use crate::trace::Spread;
use crate::world::World;

/// What a run measured. Ratios are against the time that the image takes over one link without
/// headers; `None` where a node did not complete.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Seed of the run.
    pub seed: u64,
    /// Nodes that fetched.
    pub nodes: u32,
    /// Of those, complete.
    pub complete: u32,
    /// Seconds that the image takes over one link without headers.
    pub ideal_seconds: f64,
    /// Last node's completion since the start of the first, as a ratio.
    pub ratio: Option<f64>,
    /// The median node's.
    pub median_ratio: Option<f64>,
    /// The fastest node's.
    pub first_ratio: Option<f64>,
    /// Bytes that left the seeder, headers included, in images.
    pub admin_images: f64,
    /// Blocks that left the seeder, in images.
    pub admin_payload_images: f64,
    /// Blocks received twice or in vain, in percent of all.
    pub duplicate_percent: f64,
    /// Bytes received on the wire in percent of the image, mean over the nodes.
    pub wire_percent: f64,
    /// Messages sent but blocks, mean over the nodes.
    pub messages: f64,
    /// Of those, Haves.
    pub haves: f64,
    /// Writes without a block, and with blocks, mean over the nodes.
    pub control_writes: f64,
    /// See above.
    pub block_writes: f64,
    /// Seconds from a node's start to its first piece, median and most.
    pub first_piece_median: f64,
    /// See above.
    pub first_piece_most: f64,
    /// Connections at the end, least and mean.
    pub connections_least: usize,
    /// See above.
    pub connections_mean: f64,
    /// Seconds that a downlink spent, mean over the nodes until their completion.
    pub down: Seconds,
    /// Seconds that an uplink spent, mean over the nodes until their completion.
    pub up: Seconds,
    /// The same of the seeder's uplink, until the run was over.
    pub admin_up: Seconds,
    /// How pieces spread, by when they left the seeder: the first third, the second, the last.
    pub spreads: Vec<Spread>,
    /// Events simulated.
    pub events: u64,
    /// What must never happen and did.
    pub faults: Vec<String>,
}

/// Seconds by cause, in each phase: until a node has a tenth of the pieces, until it lacks a tenth,
/// the end. A seeder is in the last one from the start.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Seconds(pub Vec<(&'static str, [f64; PHASES])>);

impl World {
    /// Sums up a run.
    #[must_use]
    pub fn report(&self) -> Report {
        let leechers: Vec<&Node> = self.nodes().skip(1).map(|(_, node)| node).collect();
        let image = real(self.geometry.total());
        let ideal = image / real(self.setup.network.rate);
        let mut done: Vec<f64> =
            leechers.iter().filter_map(|n| n.finished_at()).map(|at| at.as_secs_f64()).collect();
        done.sort_by(f64::total_cmp);
        let mut first: Vec<f64> = leechers
            .iter()
            .filter_map(|n| n.first_piece_at.map(|at| seconds(at - n.started_at)))
            .collect();
        first.sort_by(f64::total_cmp);
        let all = done.len() == leechers.len();
        let ratio = |at: Option<&f64>| at.map(|at| at / ideal);
        let sum = |of: &dyn Fn(&Node) -> u64| leechers.iter().map(|n| of(n)).sum::<u64>();
        let mean = |of: &dyn Fn(&Node) -> u64| real(sum(of)) / leechers.len().max(1) as f64;
        let seeder = self.node(NodeId(0));
        Report {
            seed: self.setup.seed,
            nodes: self.setup.leechers,
            complete: u32::try_from(done.len()).unwrap_or(u32::MAX),
            ideal_seconds: ideal,
            ratio: ratio(done.last().filter(|_| all)),
            median_ratio: ratio(done.get(leechers.len() / 2)),
            first_ratio: ratio(done.first()),
            admin_images: real(seeder.wire_sent()) / image,
            admin_payload_images: real(seeder.counts.payload_sent) / image,
            duplicate_percent: 100.0 * real(sum(&|n| n.core.totals().wasted))
                / real(sum(&|n| n.core.totals().downloaded).max(1)),
            wire_percent: 100.0 * mean(&|n| n.wire_received()) / image,
            messages: mean(&|n| n.counts.messages),
            haves: mean(&|n| n.counts.haves),
            control_writes: mean(&|n| n.counts.control_writes),
            block_writes: mean(&|n| n.counts.block_writes),
            first_piece_median: first.get(first.len() / 2).copied().unwrap_or(f64::NAN),
            first_piece_most: first.last().copied().unwrap_or(f64::NAN),
            connections_least: leechers.iter().map(|n| n.connections()).min().unwrap_or(0),
            connections_mean: mean(&|n| n.connections() as u64),
            down: Down::seconds(&leechers, self.sample_every),
            up: Up::seconds(&leechers, self.sample_every),
            admin_up: Up::seconds(&[seeder], self.sample_every),
            spreads: self.trace.spreads(),
            events: self.events(),
            faults: self.faults().to_vec(),
        }
    }
}

fn seconds(nanos: u64) -> f64 {
    real(nanos) / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "a report has a few digits")]
pub(crate) fn real(number: u64) -> f64 {
    number as f64
}
