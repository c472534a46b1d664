//! Whom to serve: a few slots, passed on round-robin.
//!
//! Nodes of one cluster are friends, so there is no tit-for-tat. Few slots at a time let a peer have
//! a whole piece soon, and so have something to give; passing the slot on after each piece spreads
//! pieces evenly.
//!
//! ```text
//!   interested ──▶ queue ──grant──▶ slot ──(quantum served, or idle)──▶ back of the queue
//!                                   │  ▲
//!                     wants nothing ▼  │ interested
//!                                  resting ──(somebody waits)──▶ choked
//! ```
//!
//! Who wants nothing keeps its slot until somebody waits for one: the next piece that it lacks costs a
//! request, and neither four messages nor the way to and fro that an unchoke takes.

use std::collections::VecDeque;
use std::time::Duration;

use super::Moment;
use super::action::PeerKey;
use crate::sorted::SortedSet;

/// The longest that a slot may be idle, whatever the observed delays.
const MAX_IDLE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy)]
struct Slot {
    peer: PeerKey,
    served: u64,
    /// Grant, request or upload, whichever was last.
    active: Moment,
    /// Until the first request came.
    unanswered_since: Option<Moment>,
    /// The peer wants nothing now.
    rests: bool,
}

/// The slots and who waits for one.
#[derive(Debug)]
pub(crate) struct Choker {
    slots: Vec<Slot>,
    max_slots: usize,
    queue: VecDeque<PeerKey>,
    queued: SortedSet<PeerKey>,
    quantum: u64,
    idle: Duration,
    /// Smoothed time from unchoke to the first request.
    response: Duration,
    /// Peers that lost the slot before they asked, and when they were unchoked.
    late: Vec<(PeerKey, Moment)>,
}

/// What to tell peers after a step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) choke: Vec<PeerKey>,
    pub(crate) unchoke: Vec<PeerKey>,
}

impl Choker {
    pub(crate) fn new(max_slots: usize, quantum: u64, idle: Duration) -> Self {
        Self {
            slots: Vec::new(),
            max_slots,
            queue: VecDeque::new(),
            queued: SortedSet::new(),
            quantum,
            idle,
            response: Duration::ZERO,
            late: Vec::new(),
        }
    }

    /// Sets how many may be unchoked. Fewer take effect as slots pass on.
    pub(crate) fn set_slots(&mut self, slots: usize) {
        self.max_slots = slots;
    }

    pub(crate) fn holds(&self, peer: PeerKey) -> bool {
        self.slots.iter().any(|slot| slot.peer == peer)
    }

    /// Whether a peer uses a slot or waits for one.
    pub(crate) fn knows(&self, peer: PeerKey) -> bool {
        let uses = |slot: &Slot| slot.peer == peer && !slot.rests;
        self.queued.contains(&peer) || self.slots.iter().any(uses)
    }

    /// Peers that hold a slot.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> impl Iterator<Item = PeerKey> + '_ {
        self.slots.iter().map(|slot| slot.peer)
    }

    /// How long a slot may be without a request: several times what a request takes to arrive.
    pub(crate) fn patience(&self) -> Duration {
        self.idle.max(self.response * 3).min(MAX_IDLE.max(self.idle))
    }

    /// A peer wants something.
    pub(crate) fn want(&mut self, peer: PeerKey, now: Moment) -> Change {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.peer == peer) {
            (slot.rests, slot.active) = (false, now);
        } else if self.queued.insert(peer) {
            self.queue.push_back(peer);
        }
        self.fill(now, Change::default())
    }

    /// A peer wants nothing now: it stays unchoked until another wants its slot.
    pub(crate) fn rest(&mut self, peer: PeerKey, now: Moment) -> Change {
        match self.slots.iter_mut().find(|slot| slot.peer == peer) {
            Some(slot) => {
                (slot.rests, slot.unanswered_since) = (true, None);
                self.fill(now, Change::default())
            }
            None => self.leave(peer, now),
        }
    }

    /// A peer may not want anything any more, or is gone.
    pub(crate) fn leave(&mut self, peer: PeerKey, now: Moment) -> Change {
        if self.queued.remove(&peer) {
            self.queue.retain(|p| *p != peer);
        }
        self.late.retain(|(p, _)| *p != peer);
        let mut change = Change::default();
        if self.holds(peer) {
            self.slots.retain(|slot| slot.peer != peer);
            change.choke.push(peer);
        }
        self.fill(now, change)
    }

    /// A request came in.
    pub(crate) fn requested(&mut self, peer: PeerKey, now: Moment) {
        let mut since = None;
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.peer == peer) {
            slot.active = now;
            since = slot.unanswered_since.take();
        } else if let Some(at) = self.late.iter().position(|(p, _)| *p == peer) {
            since = Some(self.late.swap_remove(at).1);
        }
        if let Some(since) = since {
            let took = now.saturating_sub(since);
            self.response = (self.response * 7 + took) / 8;
        }
    }

    /// Bytes went out to a peer; its slot passes on when it had its share and others wait.
    pub(crate) fn served(&mut self, peer: PeerKey, bytes: u64, now: Moment) -> Change {
        let mut change = Change::default();
        let quantum = self.quantum;
        if let Some(at) = self.slots.iter().position(|slot| slot.peer == peer) {
            let slot = &mut self.slots[at];
            slot.served += bytes;
            slot.active = now;
            if slot.served >= quantum && !self.queue.is_empty() {
                self.rotate(at, &mut change);
            }
        }
        self.fill(now, change)
    }

    /// Takes slots from peers that do not ask. `busy` says whether a peer has requests waiting, and
    /// for how long it may make no progress with them.
    pub(crate) fn tick(
        &mut self,
        now: Moment,
        busy: impl Fn(PeerKey) -> Option<Duration>,
    ) -> (Change, Vec<PeerKey>) {
        let (mut change, mut idlers) = (Change::default(), Vec::new());
        if !self.queue.is_empty() {
            let patience = self.patience();
            for at in (0..self.slots.len()).rev() {
                let slot = self.slots[at];
                let allowed = busy(slot.peer).unwrap_or(patience);
                if now.saturating_sub(slot.active) >= allowed {
                    if let Some(since) = slot.unanswered_since {
                        self.late.retain(|(p, _)| *p != slot.peer);
                        self.late.push((slot.peer, since));
                    }
                    idlers.push(slot.peer);
                    self.rotate(at, &mut change);
                }
            }
        }
        (self.fill(now, change), idlers)
    }

    fn rotate(&mut self, at: usize, change: &mut Change) {
        let peer = self.slots.remove(at).peer;
        change.choke.push(peer);
        if self.queued.insert(peer) {
            self.queue.push_back(peer);
        }
    }

    /// Takes the slot that has rested longest.
    fn wake(&mut self) -> Option<PeerKey> {
        let resting = (0..self.slots.len()).filter(|at| self.slots[*at].rests);
        let at = resting.min_by_key(|at| self.slots[*at].active)?;
        Some(self.slots.remove(at).peer)
    }

    fn fill(&mut self, now: Moment, mut change: Change) -> Change {
        while !self.queue.is_empty() {
            if self.slots.len() >= self.max_slots {
                let Some(peer) = self.wake() else { break };
                change.choke.push(peer);
                continue;
            }
            let Some(peer) = self.queue.pop_front() else { break };
            self.queued.remove(&peer);
            self.slots.push(Slot {
                peer,
                served: 0,
                active: now,
                unanswered_since: Some(now),
                rests: false,
            });
            // choked and granted again in one step: it need not know
            match change.choke.iter().position(|p| *p == peer) {
                Some(at) => drop(change.choke.swap_remove(at)),
                None => change.unchoke.push(peer),
            }
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn choker(slots: usize) -> Choker {
        Choker::new(slots, 100, MS(250))
    }

    #[test]
    fn slots_are_bounded_and_pass_on_in_turn() {
        let mut choker = choker(2);
        for key in 0..5 {
            choker.want(PeerKey(key), MS(0));
        }
        assert_eq!(choker.holders().collect::<Vec<_>>(), [PeerKey(0), PeerKey(1)]);
        let mut order = Vec::new();
        for step in 0..10 {
            let first = choker.holders().next().unwrap();
            assert_eq!(choker.served(first, 60, MS(step)), Change::default());
            let change = choker.served(first, 60, MS(step));
            assert_eq!(change.choke, [first]);
            order.extend(change.unchoke.iter().map(|p| p.0));
            assert_eq!(choker.holders().count(), 2);
        }
        assert_eq!(order, [2, 3, 4, 0, 1, 2, 3, 4, 0, 1]);
    }

    #[test]
    fn nobody_waits_so_nobody_is_choked() {
        let mut choker = choker(2);
        choker.want(PeerKey(7), MS(0));
        assert_eq!(choker.served(PeerKey(7), 1000, MS(1)), Change::default());
        assert_eq!(choker.tick(MS(60_000), |_| None), (Change::default(), vec![]));
    }

    #[test]
    fn an_idle_slot_is_taken_and_a_busy_one_is_not() {
        let mut choker = choker(2);
        for key in 0..3 {
            choker.want(PeerKey(key), MS(0));
        }
        choker.requested(PeerKey(0), MS(10));
        assert_eq!(choker.tick(MS(200), |_| None).0, Change::default());
        let busy = |p| (p == PeerKey(0)).then_some(MS(5000));
        let (change, idle) = choker.tick(MS(260), busy);
        assert_eq!(
            (change.choke, change.unchoke, idle),
            (vec![PeerKey(1)], vec![PeerKey(2)], vec![PeerKey(1)])
        );
        assert_eq!(
            choker.tick(MS(5011), busy).1,
            [PeerKey(2), PeerKey(0)],
            "stalled with requests"
        );
    }

    #[test]
    fn who_wants_nothing_stays_unchoked_until_another_waits() {
        let mut choker = choker(2);
        choker.want(PeerKey(0), MS(0));
        choker.want(PeerKey(1), MS(1));
        assert_eq!(choker.rest(PeerKey(0), MS(2)), Change::default());
        assert_eq!(choker.rest(PeerKey(1), MS(3)), Change::default());
        assert!(!choker.knows(PeerKey(0)) && choker.holds(PeerKey(0)));
        assert_eq!(choker.want(PeerKey(0), MS(4)), Change::default(), "it is unchoked already");
        let change = choker.want(PeerKey(2), MS(5));
        assert_eq!((change.choke, change.unchoke), (vec![PeerKey(1)], vec![PeerKey(2)]));
        assert_eq!(choker.want(PeerKey(3), MS(6)), Change::default(), "nobody rests: it waits");
        let change = choker.rest(PeerKey(2), MS(7));
        assert_eq!((change.choke, change.unchoke), (vec![PeerKey(2)], vec![PeerKey(3)]));
        assert_eq!(choker.rest(PeerKey(2), MS(8)), Change::default(), "it has nothing to keep");
        assert_eq!(choker.leave(PeerKey(3), MS(9)).choke, [PeerKey(3)]);
    }

    #[test]
    fn patience_grows_with_the_observed_delay() {
        let mut choker = choker(1);
        choker.want(PeerKey(0), MS(0));
        choker.want(PeerKey(1), MS(0));
        let mut now = 0;
        for _ in 0..40 {
            // every request arrives 400 ms after the unchoke, later than the first patience
            let holder = choker.holders().next().unwrap();
            now += 260;
            choker.tick(MS(now), |_| None);
            now += 140;
            choker.requested(holder, MS(now));
        }
        assert!(choker.patience() > MS(400), "{:?}", choker.patience());
    }
}
