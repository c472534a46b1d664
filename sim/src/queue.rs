//! The calendar of a simulation: events in order of time, first in first out among equals.
//!
//! Most events are due within milliseconds, so the near future is a ring of short buckets. Only the
//! bucket that is due is kept in order; what lies beyond the ring waits in a heap.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Width of a bucket as a power of two of nanoseconds: 16 µs.
const WIDTH: u32 = 14;

/// Buckets in the ring: 134 ms, more than the engine's tick.
const BUCKETS: u64 = 8192;

#[derive(Debug, Clone, Copy)]
struct Entry<E> {
    at: u64,
    number: u64,
    event: E,
}

impl<E> Entry<E> {
    fn key(&self) -> (u64, u64) {
        (self.at, self.number)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// Events to come. Times are nanoseconds since the start.
#[derive(Debug)]
pub(crate) struct Calendar<E> {
    ring: Vec<Vec<Entry<E>>>,
    /// Number of the bucket that is due, counted from time zero.
    due: u64,
    current: BinaryHeap<Reverse<Entry<E>>>,
    far: BinaryHeap<Reverse<Entry<E>>>,
    in_ring: usize,
    next: u64,
}

impl<E: Copy> Calendar<E> {
    pub(crate) fn new() -> Self {
        Self {
            ring: (0..BUCKETS).map(|_| Vec::new()).collect(),
            due: 0,
            current: BinaryHeap::new(),
            far: BinaryHeap::new(),
            in_ring: 0,
            next: 0,
        }
    }

    /// Adds an event. A time that is past counts as now.
    pub(crate) fn push(&mut self, at: u64, event: E) {
        let entry = Entry { at, number: self.next, event };
        self.next += 1;
        let bucket = at >> WIDTH;
        if bucket <= self.due {
            self.current.push(Reverse(entry));
        } else if bucket < self.due + BUCKETS {
            self.in_ring += 1;
            self.ring[slot(bucket)].push(entry);
        } else {
            self.far.push(Reverse(entry));
        }
    }

    /// Takes the first event out, with its time.
    pub(crate) fn pop(&mut self) -> Option<(u64, E)> {
        while self.current.is_empty() {
            self.advance()?;
        }
        self.current.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }

    fn advance(&mut self) -> Option<()> {
        if self.in_ring > 0 {
            self.due += 1;
        } else {
            self.due = self.far.peek()?.0.at >> WIDTH;
        }
        let bucket = &mut self.ring[slot(self.due)];
        self.in_ring -= bucket.len();
        self.current.extend(bucket.drain(..).map(Reverse));
        while self.far.peek().is_some_and(|Reverse(entry)| entry.at >> WIDTH <= self.due) {
            self.current.extend(self.far.pop());
        }
        Some(())
    }
}

fn slot(bucket: u64) -> usize {
    (bucket % BUCKETS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_events_in_order_of_time_and_arrival() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut calendar = Calendar::new();
        let mut model = std::collections::BTreeMap::new();
        let mut now = 0;
        for number in 0..200_000u64 {
            if rng.u32(..100) < 52 {
                let reach = [0, 1_000, 40_000, 3_000_000, 900_000_000][rng.usize(..5)];
                let at = now + rng.u64(0..=reach);
                calendar.push(at, number);
                model.insert((at, number), number);
            } else {
                let expected = model.pop_first().map(|((at, _), event)| (at, event));
                assert_eq!(calendar.pop(), expected);
                now = expected.map_or(now, |(at, _)| at);
            }
        }
        while let Some(((at, _), event)) = model.pop_first() {
            assert_eq!(calendar.pop(), Some((at, event)));
        }
        assert_eq!(calendar.pop(), None);
    }
}
