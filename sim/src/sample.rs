//! Why links idle: looked at from outside, at regular moments.

use serde::Serialize;
use swarm::core::PeerView;

use crate::node::{Node, NodeId};
use crate::report::{DownCause, Seconds, UpCause, real};
use crate::world::World;

/// Time between two looks at a node, in small swarms.
pub(crate) const SAMPLE_NANOS: u64 = 17_300_000;

/// What a downlink was seen doing until its node was complete.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Down {
    /// Something arrives.
    pub busy: u64,
    /// The node has no connection.
    pub unconnected: u64,
    /// No peer has a piece that the node lacks.
    pub nothing_offered: u64,
    /// Peers have pieces it lacks; none of them unchokes it.
    pub choked: u64,
    /// Peers unchoke it; none of those has a piece it lacks, others have.
    pub uninteresting: u64,
    /// It asked, and what it asked for waits at the sender.
    pub sender_queue: u64,
    /// It asked, and request or answer is on the way.
    pub round_trip: u64,
    /// Every block it lacks is asked for.
    pub end_game: u64,
    /// An unchoking peer has pieces it lacks, and it asked for nothing.
    pub not_asked: u64,
}

/// What an uplink was seen doing until its node was complete.
#[derive(Debug, Clone, Copy, Default, Serialize)]
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
    pub(crate) fn seconds(of: &[&Node], every: u64) -> Seconds<DownCause> {
        mean::<Down>(
            of,
            every,
            |node, phase| node.idle[phase].down,
            &[
                ("busy", |d| d.busy),
                ("unconnected", |d| d.unconnected),
                ("nothing offered", |d| d.nothing_offered),
                ("choked by all that have something", |d| d.choked),
                ("nothing interesting at unchoked", |d| d.uninteresting),
                ("asked: queue of the sender", |d| d.sender_queue),
                ("asked: round trip", |d| d.round_trip),
                ("end-game", |d| d.end_game),
                ("not asked", |d| d.not_asked),
            ],
        )
    }
}

impl Up {
    /// Mean seconds by cause and phase.
    pub(crate) fn seconds(of: &[&Node], every: u64) -> Seconds<UpCause> {
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
    samples: fn(&Node, usize) -> T,
    causes: &[Cause<T>],
) -> Seconds<&'static str> {
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
        let views: Vec<(PeerView, u64, u64)> = node
            .links
            .iter()
            .filter_map(|f| {
                let (flow, back) = (&self.flows[f.at()], &self.flows[f.back().at()]);
                Some((node.core.peer(flow.key, now)?, flow.unsent(), back.unsent()))
            })
            .collect();
        let at = phase(node.core.have().count(), self.geometry.pieces());
        let mut idle = node.idle[at];
        *self.down_cause(id, &views, &mut idle.down) += 1;
        *self.up_cause(id, &views, &mut idle.up) += 1;
        self.nodes[id.at()].idle[at] = idle;
        true
    }

    fn down_cause<'a>(
        &self,
        id: NodeId,
        views: &[(PeerView, u64, u64)],
        down: &'a mut Down,
    ) -> &'a mut u64 {
        let node = &self.nodes[id.at()];
        if node.port.down_free > self.now {
            return &mut down.busy;
        }
        if views.is_empty() {
            return &mut down.unconnected;
        }
        let asked: u64 = views.iter().map(|(view, ..)| view.outstanding).sum();
        if asked > 0 {
            let have = u64::from(node.core.have().count());
            let here = have * u64::from(self.geometry.piece_length()) + node.disk.buffered;
            if here + asked >= self.geometry.total() {
                return &mut down.end_game;
            }
            let queued = views.iter().any(|(view, _, theirs)| view.outstanding > 0 && *theirs > 0);
            return if queued { &mut down.sender_queue } else { &mut down.round_trip };
        }
        if views.iter().any(|(view, ..)| view.unchokes_us && view.useful > 0) {
            return &mut down.not_asked;
        }
        if views.iter().all(|(view, ..)| view.useful == 0) {
            return &mut down.nothing_offered;
        }
        if views.iter().any(|(view, ..)| view.unchokes_us) {
            return &mut down.uninteresting;
        }
        &mut down.choked
    }

    fn up_cause<'a>(
        &self,
        id: NodeId,
        views: &[(PeerView, u64, u64)],
        up: &'a mut Up,
    ) -> &'a mut u64 {
        if self.nodes[id.at()].port.sending.is_some() {
            return &mut up.busy;
        }
        if views.iter().any(|(_, ours, _)| *ours > 0) {
            return &mut up.held_back;
        }
        if views.iter().all(|(view, ..)| !view.interested) {
            return &mut up.nobody_interested;
        }
        if views.iter().all(|(view, ..)| !(view.unchoked && view.interested)) {
            return &mut up.all_choked;
        }
        &mut up.not_asked
    }
}
