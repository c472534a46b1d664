//! Why links idle: looked at from outside, at regular moments.

use swarm::core::{DownCause, PeerView};

use crate::node::{Node, NodeId};
use crate::report::{Seconds, real};
use crate::world::World;

/// Time between two looks at a node, in small swarms.
pub(crate) const SAMPLE_NANOS: u64 = 17_300_000;

/// What a downlink was seen doing until its node was complete.
#[derive(Debug, Clone, Copy, Default)]
pub struct Down {
    /// Something arrives.
    pub busy: u64,
    /// Nothing does, by [`DownCause`].
    pub idle: [u64; DownCause::ALL.len()],
}

/// What an uplink was seen doing until its node was complete.
#[derive(Debug, Clone, Copy, Default)]
pub struct Up {
    /// Something is sent.
    pub busy: u64,
    /// Nobody wants a piece of it.
    pub nobody_interested: u64,
    /// Somebody does and none of those is unchoked.
    pub all_choked: u64,
    /// Somebody is unchoked and asks for nothing.
    pub not_asked: u64,
    /// There is something to send; the receivers' downlinks hold it back.
    pub held_back: u64,
}

/// Samples of one node.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Idle {
    pub(crate) down: Down,
    pub(crate) up: Up,
}

/// Phases of a node's fetch: until it has a tenth of the pieces, until it lacks a tenth, the end.
pub(crate) const PHASES: usize = 3;

/// The phase of a node that has `have` of `pieces`.
fn phase(have: u32, pieces: u32) -> usize {
    match u64::from(have) * 10 {
        have if have < u64::from(pieces) => 0,
        have if have < u64::from(pieces) * 9 => 1,
        _ => 2,
    }
}

impl Down {
    /// Mean seconds by cause and phase.
    pub(crate) fn seconds(of: &[&Node], every: u64) -> Seconds {
        let Seconds(mut rows) =
            mean::<Down>(of, every, |node, phase| node.idle[phase].down, &[("busy", |d| d.busy)]);
        for cause in DownCause::ALL {
            let idle = |node: &Node, phase: usize| node.idle[phase].down.idle[cause as usize];
            let Seconds(row) = mean::<u64>(of, every, idle, &[(cause.name(), |count| *count)]);
            rows.extend(row);
        }
        Seconds(rows)
    }
}

impl Up {
    /// Mean seconds by cause and phase.
    pub(crate) fn seconds(of: &[&Node], every: u64) -> Seconds {
        mean::<Up>(
            of,
            every,
            |node, phase| node.idle[phase].up,
            &[
                ("busy", |u| u.busy),
                ("nobody interested", |u| u.nobody_interested),
                ("interested, all choked", |u| u.all_choked),
                ("unchoked, not asked", |u| u.not_asked),
                ("held back by receivers", |u| u.held_back),
            ],
        )
    }
}

/// A cause and where it is counted.
type Cause<T> = (&'static str, fn(&T) -> u64);

fn mean<T>(
    of: &[&Node],
    every: u64,
    samples: impl Fn(&Node, usize) -> T,
    causes: &[Cause<T>],
) -> Seconds {
    let each = real(every) / 1e9 / real(of.len().max(1) as u64);
    let spent = |phase: usize, count: &fn(&T) -> u64| {
        real(of.iter().map(|node| count(&samples(node, phase))).sum()) * each
    };
    let row = |(name, count): &Cause<T>| (*name, std::array::from_fn(|at| spent(at, count)));
    Seconds(causes.iter().map(row).collect())
}

impl World {
    /// Looks at a node. False when there is nothing more to learn from it.
    pub(crate) fn sample(&mut self, id: NodeId) -> bool {
        let node = &self.nodes[id.at()];
        if node.finished_at.is_some() && !node.seeder {
            return false;
        }
        let now = self.moment(id);
        let views: Vec<(PeerView, u64)> = node
            .links
            .iter()
            .filter_map(|f| {
                let flow = &self.flows[f.at()];
                Some((node.core.peer(flow.key, now)?, flow.unsent()))
            })
            .collect();
        let at = phase(node.core.have().count(), self.geometry.pieces());
        let mut idle = node.idle[at];
        if node.port.down_free > self.now {
            idle.down.busy += 1;
        } else {
            idle.down.idle[node.core.down_cause(now) as usize] += 1;
        }
        *self.up_cause(id, &views, &mut idle.up) += 1;
        self.nodes[id.at()].idle[at] = idle;
        true
    }

    fn up_cause<'a>(&self, id: NodeId, views: &[(PeerView, u64)], up: &'a mut Up) -> &'a mut u64 {
        if self.nodes[id.at()].port.sending.is_some() {
            return &mut up.busy;
        }
        if views.iter().any(|(_, ours)| *ours > 0) {
            return &mut up.held_back;
        }
        if views.iter().all(|(view, _)| !view.interested) {
            return &mut up.nobody_interested;
        }
        if views.iter().all(|(view, _)| !(view.unchoked && view.interested)) {
            return &mut up.all_choked;
        }
        &mut up.not_asked
    }
}
