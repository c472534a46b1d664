//! How the fleet came to where it is: a sample every two seconds, for the charts.
//!
//! A quarter of an hour is kept as it was sampled, a day as a sample a minute: 200 KB, whatever happens.
//! It lives in memory only; a chart begins where the tracker did.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use proto::event::Sources;
use proto::node_id::NodeId;

use super::Phase;
use crate::nodes::node::Node;

/// Time between two samples.
pub(crate) const EVERY: Duration = Duration::from_secs(2);

/// Samples of the short chart: a quarter of an hour.
const FINE: usize = 450;

/// Samples that make one of the long chart: a minute.
const PER_COARSE: u32 = 30;

/// Samples of the long chart: a day.
const COARSE: usize = 1440;

/// The fleet at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    /// Nodes by phase, in the order of [`Phase::ALL`].
    pub(crate) phases: [u32; 6],
    /// Bytes per second since the sample before, by where they came from.
    pub(crate) rates: Sources,
}

/// What a sample is made of: a node, without the lock that holds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    id: NodeId,
    boot: u32,
    phase: Phase,
    sources: Sources,
}

impl From<&Node> for Seen {
    fn from(node: &Node) -> Self {
        let (phase, sources) = (Phase::of(node.stage), node.sources);
        Self { id: node.id, boot: node.boot, phase, sources }
    }
}

/// Collects samples.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// What each node had received in which boot.
    seen: HashMap<NodeId, (u32, Sources)>,
    last: Option<Instant>,
    fine: VecDeque<Sample>,
    coarse: VecDeque<Sample>,
    /// Sum of the rates that are not in `coarse` yet, and their number.
    pending: (Sources, u32),
}

/// How far a chart looks back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window {
    Short,
    Day,
}

impl History {
    /// Adds a sample.
    pub(crate) fn record(&mut self, nodes: Vec<Seen>, now: Instant) {
        let mut phases = [0; 6];
        let mut received = Sources::default();
        let known = std::mem::take(&mut self.seen);
        for node in nodes {
            if let Some(at) = Phase::ALL.iter().position(|p| *p == node.phase) {
                phases[at] += 1;
            }
            let before = match known.get(&node.id) {
                Some((boot, sources)) if *boot == node.boot => *sources,
                // a tracker that starts has not seen these bytes move
                None if self.last.is_none() => node.sources,
                _ => Sources::default(),
            };
            received += minus(node.sources, before);
            self.seen.insert(node.id, (node.boot, node.sources));
        }
        let since = self.last.map_or(EVERY, |last| now.saturating_duration_since(last));
        self.last = Some(now);
        let sample = Sample { at: now, phases, rates: per_second(received, since) };
        push(&mut self.fine, sample, FINE);
        self.pending.0 += sample.rates;
        self.pending.1 += 1;
        if self.pending.1 == PER_COARSE {
            let (sum, count) = std::mem::take(&mut self.pending);
            let rates = divided(sum, count.into());
            push(&mut self.coarse, Sample { rates, ..sample }, COARSE);
        }
    }

    /// The samples of a window, oldest first. Rates of the short one are the mean over three: nodes report
    /// every two seconds, but not in step.
    pub(crate) fn samples(&self, window: Window) -> Vec<Sample> {
        match window {
            Window::Day => self.coarse.iter().copied().collect(),
            Window::Short => (0..self.fine.len()).map(|at| self.smooth(at)).collect(),
        }
    }

    fn smooth(&self, at: usize) -> Sample {
        let mut sum = Sources::default();
        let from = at.saturating_sub(2);
        for sample in self.fine.range(from..=at) {
            sum += sample.rates;
        }
        let count = u64::try_from(at - from + 1).unwrap_or(1);
        Sample { rates: divided(sum, count), ..self.fine[at] }
    }

    /// Bytes per second by source, now.
    pub(crate) fn rates(&self) -> Sources {
        match self.fine.len().checked_sub(1) {
            Some(last) => self.smooth(last).rates,
            None => Sources::default(),
        }
    }
}

fn push(to: &mut VecDeque<Sample>, sample: Sample, most: usize) {
    if to.len() == most {
        to.pop_front();
    }
    to.push_back(sample);
}

fn minus(all: Sources, part: Sources) -> Sources {
    Sources {
        admin: all.admin.saturating_sub(part.admin),
        peers: all.peers.saturating_sub(part.peers),
        web: all.web.saturating_sub(part.web),
    }
}

fn divided(all: Sources, by: u64) -> Sources {
    let by = by.max(1);
    Sources { admin: all.admin / by, peers: all.peers / by, web: all.web / by }
}

fn per_second(bytes: Sources, time: Duration) -> Sources {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = |bytes: u64| bytes.saturating_mul(1000) / milliseconds;
    Sources { admin: rate(bytes.admin), peers: rate(bytes.peers), web: rate(bytes.web) }
}

#[cfg(test)]
#[path = "history/tests.rs"]
mod tests;
