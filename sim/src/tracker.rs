//! The tracker: random peers, those handed out least first (after `tracker::policy`).

use crate::node::NodeId;

/// Hand-outs lose half of their weight in this time.
const HALF_LIFE: u64 = 10_000_000_000;

/// How much larger than the answer the sample is from which the least loaded are taken.
const SPREAD: usize = 3;

/// The part of an answer that is from the asker's own segment, in tenths.
const NEAR: usize = 8;

/// Announces per second that a growing crowd is held to.
const ANNOUNCES_PER_SECOND: usize = 2_500;

#[derive(Debug, Clone, Copy, Default)]
struct Member {
    listed: bool,
    complete: bool,
    /// Hand-outs, times 256, as of a number of half-lives.
    load: u64,
    as_of: u64,
}

impl Member {
    fn load(&self, now: u64) -> u64 {
        self.load >> (now / HALF_LIFE - self.as_of).min(63)
    }
}

/// What the tracker knows.
#[derive(Debug)]
pub(crate) struct Tracker {
    members: Vec<Member>,
    listed: Vec<NodeId>,
    complete: usize,
}

impl Tracker {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { members: vec![Member::default(); nodes], listed: Vec::new(), complete: 0 }
    }

    /// A node tells about itself.
    pub(crate) fn announce(&mut self, node: NodeId, complete: bool) {
        let member = &mut self.members[node.at()];
        if !std::mem::replace(&mut member.listed, true) {
            self.listed.push(node);
        }
        let before = std::mem::replace(&mut member.complete, complete);
        self.complete = self.complete + usize::from(complete) - usize::from(before);
    }

    /// A node is gone. One that crashed stays listed, as with a real tracker for some minutes.
    pub(crate) fn stopped(&mut self, node: NodeId) {
        let member = &mut self.members[node.at()];
        if std::mem::replace(&mut member.listed, false) {
            self.listed.retain(|other| *other != node);
            self.complete -= usize::from(std::mem::replace(&mut member.complete, false));
        }
    }

    /// At most `want` peers for a node; `segment` tells where a node is.
    pub(crate) fn peers(
        &mut self,
        node: NodeId,
        want: usize,
        segment: impl Fn(NodeId) -> usize,
        now: u64,
        rng: &mut fastrand::Rng,
    ) -> Vec<NodeId> {
        let asks_complete = self.members[node.at()].complete;
        let suits = |members: &[Member], other: NodeId| {
            other != node && !(asks_complete && members[other.at()].complete)
        };
        let mut sample = Vec::with_capacity(want * SPREAD);
        if self.listed.len() <= want * SPREAD * 2 {
            sample.extend(self.listed.iter().filter(|o| suits(&self.members, **o)));
            rng.shuffle(&mut sample);
            sample.truncate(want * SPREAD);
        } else {
            // a collision now and then only makes the sample smaller
            for _ in 0..want * SPREAD {
                let other = self.listed[rng.usize(..self.listed.len())];
                if suits(&self.members, other) && !sample.contains(&other) {
                    sample.push(other);
                }
            }
        }
        // a stable sort: ties stay in random order
        sample.sort_by_key(|other| self.members[other.at()].load(now));
        let mut near = want * NEAR / 10;
        let own = segment(node);
        // those of the own segment that are wanted first, the rest in its order behind them
        sample.sort_by_cached_key(|other| {
            let taken = near > 0 && segment(*other) == own;
            near -= usize::from(taken);
            !taken
        });
        let seeder = NodeId(0);
        if !asks_complete && self.members[0].listed && node != seeder {
            sample.retain(|other| *other != seeder);
            sample.insert(0, seeder);
        }
        sample.truncate(want);
        for other in &sample {
            let member = &mut self.members[other.at()];
            member.load = member.load(now) + 256;
            member.as_of = now / HALF_LIFE;
        }
        sample
    }

    /// Nanoseconds until a node should come again.
    pub(crate) fn interval(&self, complete: bool, rng: &mut fastrand::Rng) -> u64 {
        let leechers = self.listed.len() - self.complete;
        let seconds = if leechers == 0 {
            rng.u64(60..=90)
        } else if complete {
            rng.u64(15..=30)
        } else {
            let base = ((leechers / ANNOUNCES_PER_SECOND) as u64).max(3);
            rng.u64(base..=base + 2)
        };
        seconds * 1_000_000_000
    }
}
