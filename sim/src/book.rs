//! The addresses a node knows: which to dial and when again (after `net::book` of the engine).

use crate::node::NodeId;

/// Dials in ten that go to the own segment, while there is somebody to dial in it and elsewhere.
const NEAR: u8 = 8;

const FIRST_WAIT: u64 = 800_000_000;
const MAX_WAIT: u64 = 60_000_000_000;
const COMPLETE_WAIT: u64 = 900_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Dialing,
    Connected,
    Never,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    node: NodeId,
    state: State,
    failures: u32,
    again_at: u64,
    complete_at: Option<u64>,
    /// In the same segment.
    near: bool,
}

/// Known addresses. Times in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Book {
    entries: Vec<Entry>,
}

impl Book {
    fn entry(&mut self, node: NodeId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.node == node)
    }

    pub(crate) fn add(&mut self, node: NodeId, near: bool) {
        if self.entry(node).is_none() {
            let state = State::Idle;
            self.entries.push(Entry {
                node,
                state,
                failures: 0,
                again_at: 0,
                complete_at: None,
                near,
            });
        }
    }

    /// A random address that may be dialled; it counts as being dialled.
    pub(crate) fn next(
        &mut self,
        now: u64,
        complete: bool,
        rng: &mut fastrand::Rng,
    ) -> Option<NodeId> {
        let due = |entry: &Entry| {
            entry.state == State::Idle
                && entry.again_at <= now
                && !(complete && entry.complete_at.is_some_and(|at| now < at + COMPLETE_WAIT))
        };
        let all = self.entries.iter().filter(|e| due(e)).count();
        if all == 0 {
            return None;
        }
        let near = self.entries.iter().filter(|e| due(e) && e.near).count();
        let choose_near = near > 0 && near < all && rng.u8(..10) < NEAR;
        let count = if choose_near { near } else { all };
        let entry = self
            .entries
            .iter_mut()
            .filter(|e| due(e) && (!choose_near || e.near))
            .nth(rng.usize(..count))?;
        entry.state = State::Dialing;
        Some(entry.node)
    }

    pub(crate) fn failed(&mut self, node: NodeId, now: u64, rng: &mut fastrand::Rng) {
        if let Some(entry) = self.entry(node) {
            entry.failures += 1;
            let wait = FIRST_WAIT << (entry.failures - 1).min(9);
            entry.state = State::Idle;
            entry.again_at = now + jittered(wait.min(MAX_WAIT), rng);
        }
    }

    pub(crate) fn connected(&mut self, node: NodeId, near: bool) {
        self.add(node, near);
        if let Some(entry) = self.entry(node) {
            entry.state = State::Connected;
        }
    }

    /// The connection is closed. `useful`: it carried something, so it is dialled again soon.
    pub(crate) fn closed(
        &mut self,
        node: NodeId,
        useful: bool,
        complete: bool,
        now: u64,
        rng: &mut fastrand::Rng,
    ) {
        let Some(entry) = self.entry(node).filter(|e| e.state == State::Connected) else { return };
        entry.failures = if useful { 0 } else { (entry.failures + 1).min(6) };
        if complete {
            entry.complete_at = Some(now);
        }
        entry.state = State::Idle;
        entry.again_at = now + jittered((FIRST_WAIT << entry.failures).min(MAX_WAIT), rng);
    }

    /// Never again: it was banned.
    pub(crate) fn forget(&mut self, node: NodeId) {
        if let Some(entry) = self.entry(node) {
            entry.state = State::Never;
        }
    }

    /// The tracker says that they live: dial them within a second.
    pub(crate) fn hurry(&mut self, nodes: &[NodeId], now: u64) {
        for node in nodes {
            if let Some(entry) = self.entry(*node).filter(|e| e.state == State::Idle) {
                entry.again_at = entry.again_at.min(now + 1_000_000_000);
            }
        }
    }
}

/// Between 75 % and 125 % of a time.
pub(crate) fn jittered(wait: u64, rng: &mut fastrand::Rng) -> u64 {
    wait / 4 * 3 + rng.u64(0..=wait / 2)
}
