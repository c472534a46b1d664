//! Complete pieces that wait to be hashed, and who works them off.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use proto::geometry::PieceIndex;
use tokio::sync::Notify;

/// So many bytes may wait or be hashed before readers stop reading.
const MOST: usize = 4 * 1024 * 1024;

/// Pieces in memory between the last block and the storage.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<Waiting>,
    most_workers: usize,
    shrunk: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<(PieceIndex, Vec<u8>)>,
    /// Bytes waiting and being hashed.
    bytes: usize,
    workers: usize,
}

impl Queue {
    pub(crate) fn new(most_workers: usize) -> Self {
        Self { state: Mutex::default(), most_workers, shrunk: Notify::new() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a piece. True when one more worker is to be started, which calls [`Self::pop`] until it
    /// gets nothing.
    #[must_use]
    pub(crate) fn push(&self, piece: PieceIndex, data: Vec<u8>) -> bool {
        let mut state = self.lock();
        state.bytes += data.len();
        state.pieces.push_back((piece, data));
        // one that is at it comes to the next piece sooner than another wakes up
        let more = state.workers < self.most_workers && state.pieces.len() > 2 * state.workers;
        state.workers += usize::from(more);
        more
    }

    /// The next piece for a worker; `None` ends it.
    pub(crate) fn pop(&self) -> Option<(PieceIndex, Vec<u8>)> {
        let mut state = self.lock();
        let next = state.pieces.pop_front();
        if next.is_none() {
            state.workers -= 1;
        }
        next
    }

    /// A piece of so many bytes is hashed and stored.
    pub(crate) fn done(&self, bytes: usize) {
        let mut state = self.lock();
        let full = state.bytes >= MOST;
        state.bytes = state.bytes.saturating_sub(bytes);
        if full && state.bytes < MOST {
            drop(state);
            self.shrunk.notify_waiters();
        }
    }

    /// Waits until there is room for more.
    pub(crate) async fn room(&self) {
        while self.lock().bytes >= MOST {
            let shrunk = self.shrunk.notified();
            tokio::pin!(shrunk);
            // from here on no notice is missed
            shrunk.as_mut().enable();
            if self.lock().bytes < MOST {
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

    #[tokio::test]
    async fn readers_wait_for_the_hash_and_go_on() {
        let queue = Queue::new(2);
        let piece = MOST / 4;
        let started: Vec<bool> =
            (0..5).map(|number| queue.push(PieceIndex(number), vec![0; piece])).collect();
        // the first at once, another when the first has two more before it
        assert_eq!(started, [true, false, true, false, false]);
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, queue.room()).await.is_err());
        let worker = async {
            while let Some((_, data)) = queue.pop() {
                queue.done(data.len());
                tokio::task::yield_now().await;
            }
        };
        let (room, ()) = tokio::join!(tokio::time::timeout(soon, queue.room()), worker);
        assert!(room.is_ok());
        assert!(queue.pop().is_none(), "the other worker ends as well");
        assert!(queue.push(PieceIndex(9), Vec::new()), "nobody is at it any more");
    }
}
