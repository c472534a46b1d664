//! Complete pieces that wait to be hashed, and who works them off.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use proto::geometry::PieceIndex;
use tokio::sync::Notify;

/// So many bytes may wait or be hashed before readers stop reading, or two batches.
const MOST: usize = 4 * 1024 * 1024;

/// A piece whose blocks are all here.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) piece: PieceIndex,
    pub(crate) data: Vec<u8>,
}

/// Pieces in memory between the last block and the storage.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<Waiting>,
    most_workers: usize,
    /// Pieces that are best hashed together.
    batch: usize,
    /// Bytes waiting and being hashed from which on readers wait.
    most: usize,
    shrunk: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<Whole>,
    /// Bytes waiting and being hashed.
    bytes: usize,
    workers: usize,
    /// Fewer than a batch are worked off, too: no more are about to come.
    hurry: bool,
}

impl Waiting {
    /// Whether one more worker is worth being woken. One that is at it comes to the next pieces
    /// sooner than another wakes up.
    fn wants_worker(&mut self, queue: &Queue) -> bool {
        let enough = if self.hurry { 1 } else { queue.batch };
        let more = self.workers < queue.most_workers
            && self.pieces.len() >= enough + 2 * queue.batch * self.workers;
        self.workers += usize::from(more);
        more
    }
}

impl Queue {
    /// For pieces of `length` bytes. `batch` of them are hashed together where they are no more than
    /// [`MOST`]; as many come in meanwhile.
    pub(crate) fn new(most_workers: usize, batch: usize, length: u32) -> Self {
        let length = length.max(1) as usize;
        let batch = (MOST / length).clamp(1, batch.max(1));
        let most = MOST.max(2 * batch * length);
        Self { state: Mutex::default(), most_workers, batch, most, shrunk: Notify::new() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many pieces are best hashed together.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// Queues a piece; without `hurry`, more are about to come with which it may wait. True when one
    /// more worker is to be started, which calls [`Self::pop`] until it gets nothing.
    #[must_use]
    pub(crate) fn push(&self, whole: Whole, hurry: bool) -> bool {
        let mut state = self.lock();
        state.bytes += whole.data.len();
        state.pieces.push_back(whole);
        state.hurry = hurry;
        state.wants_worker(self)
    }

    /// What waits for more has waited long enough. True when a worker is to be started.
    #[must_use]
    pub(crate) fn hurry(&self) -> bool {
        let mut state = self.lock();
        state.hurry = true;
        state.wants_worker(self)
    }

    /// The next pieces for a worker; none end it.
    pub(crate) fn pop(&self) -> Vec<Whole> {
        let mut state = self.lock();
        let count = match state.pieces.len() {
            waiting if waiting >= self.batch || state.hurry => waiting.min(self.batch),
            _ => 0,
        };
        if count == 0 {
            state.workers -= 1;
        }
        state.pieces.drain(..count).collect()
    }

    /// Pieces of so many bytes are hashed and stored.
    pub(crate) fn done(&self, bytes: usize) {
        let mut state = self.lock();
        let full = state.bytes >= self.most;
        state.bytes = state.bytes.saturating_sub(bytes);
        if full && state.bytes < self.most {
            drop(state);
            self.shrunk.notify_waiters();
        }
    }

    /// Waits until there is room for more.
    pub(crate) async fn room(&self) {
        while self.lock().bytes >= self.most {
            let shrunk = self.shrunk.notified();
            tokio::pin!(shrunk);
            // from here on no notice is missed
            shrunk.as_mut().enable();
            if self.lock().bytes < self.most {
                return;
            }
            shrunk.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn whole(number: u32, length: usize) -> Whole {
        Whole { piece: PieceIndex(number), data: vec![0; length] }
    }

    #[tokio::test]
    async fn readers_wait_for_the_hash_and_go_on() {
        let piece = MOST / 4;
        let queue = Queue::new(2, 1, u32::try_from(piece).unwrap());
        let started: Vec<bool> =
            (0..5).map(|number| queue.push(whole(number, piece), true)).collect();
        // the first at once, another when the first has two more before it
        assert_eq!(started, [true, false, true, false, false]);
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, queue.room()).await.is_err());
        let worker = async {
            loop {
                let few = queue.pop();
                if few.is_empty() {
                    break;
                }
                few.iter().for_each(|whole| queue.done(whole.data.len()));
                tokio::task::yield_now().await;
            }
        };
        let (room, ()) = tokio::join!(tokio::time::timeout(soon, queue.room()), worker);
        assert!(room.is_ok());
        assert!(queue.pop().is_empty(), "the other worker ends as well");
        assert!(queue.push(whole(9, 0), true), "nobody is at it any more");
    }

    #[test]
    fn pieces_wait_for_others_only_while_more_are_about_to_come() {
        let queue = Queue::new(4, 4, 1024);
        let started: Vec<bool> =
            (0..6).map(|number| queue.push(whole(number, 1024), false)).collect();
        assert_eq!(started, [false, false, false, true, false, false]);
        let numbers = |few: Vec<Whole>| few.iter().map(|w| w.piece.0).collect::<Vec<_>>();
        assert_eq!(numbers(queue.pop()), [0, 1, 2, 3]);
        assert!(queue.pop().is_empty(), "two wait for two more");
        assert!(queue.hurry(), "they have waited long enough");
        assert_eq!(numbers(queue.pop()), [4, 5]);
        assert!(queue.pop().is_empty());
        assert!(!queue.hurry(), "nothing waits");
        assert!(!queue.push(whole(6, 1024), false));
        assert!(queue.push(whole(7, 1024), true), "the last ones");
        assert_eq!(numbers(queue.pop()), [6, 7]);
    }

    #[test]
    fn large_pieces_are_not_held_back_for_each_other() {
        for (length, batch) in [(16 << 10, 4), (1 << 20, 4), (2 << 20, 2), (16 << 20, 1)] {
            assert_eq!(Queue::new(4, 4, length).batch(), batch, "{length}");
        }
    }
}
