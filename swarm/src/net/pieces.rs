//! Complete pieces on their way into the storage.

use std::sync::Arc;

use proto::geometry::PieceIndex;

use super::backlog::Whole;
use super::state::Todo;
use super::tasks;
use super::torrent::Shared;
use crate::core::Check;
use crate::log;
use crate::progress::TorrentError;

impl Shared {
    /// Hashes and stores complete pieces, here or on threads for blocking work.
    pub(crate) fn carry_out(self: &Arc<Self>, todo: Todo) {
        let mut pending = vec![todo];
        while let Some(todo) = pending.pop() {
            if todo.completed {
                self.on_completed();
            }
            if todo.look_soon {
                self.ticker.notify_one();
            }
            if self.disk.is_quick(todo.more_soon) {
                let mut rest = todo.verify.into_iter().peekable();
                while rest.peek().is_some() {
                    let few = rest.by_ref().take(self.disk.queue.batch()).collect();
                    pending.append(&mut self.settle(few));
                }
            } else {
                for whole in todo.verify {
                    if self.disk.queue.push(whole, !todo.more_soon) {
                        self.start_worker();
                    }
                }
            }
        }
    }

    /// Pieces that wait for others to be hashed with do so no longer.
    pub(super) fn hurry(self: &Arc<Self>) {
        if self.disk.queue.hurry() {
            self.start_worker();
        }
    }

    fn start_worker(self: &Arc<Self>) {
        let shared = self.clone();
        tasks::spawn(&self.tasks, async move {
            let worker = shared.clone();
            // none when the runtime is going down
            let _ = shared.disk.blocking(move || worker.work_off()).await;
        });
    }

    /// Hashes and stores what is queued until nothing is. A thread that is at it already takes the
    /// next pieces without being woken.
    fn work_off(self: &Arc<Self>) {
        loop {
            let few = self.disk.queue.pop();
            if few.is_empty() {
                return;
            }
            let bytes = few.iter().map(|whole| whole.data.len()).sum();
            let todos = self.settle(few);
            self.disk.queue.done(bytes);
            for todo in todos {
                self.carry_out(todo);
            }
        }
    }

    /// Hashes and stores a few pieces.
    fn settle(&self, few: Vec<Whole>) -> Vec<Todo> {
        let results = self.disk.check_and_write(&few);
        few.into_iter().zip(results).map(|(whole, good)| self.checked(whole, good)).collect()
    }

    fn checked(&self, whole: Whole, good: Result<bool, TorrentError>) -> Todo {
        match good {
            Ok(good) => {
                if !good {
                    log::warn!(piece = whole.piece.0, "piece failed its hash");
                }
                let now = self.now();
                let mut state = self.lock();
                if good {
                    state.trouble.last_data = now;
                }
                let check = match (good, self.disk.one_block_each()) {
                    (true, _) => Check::Good,
                    (false, true) => Check::WrongBlocks(vec![0]),
                    (false, false) => Check::Wrong,
                };
                state.checked(now, whole, check)
            }
            Err(error) => {
                self.fail(error);
                Todo::default()
            }
        }
    }

    /// A whole piece from a web seed: hashed and stored. `None` when peers were faster.
    pub(crate) async fn web_piece(
        self: &Arc<Self>,
        piece: PieceIndex,
        data: Vec<u8>,
    ) -> Option<bool> {
        let now = self.now();
        let needed = {
            let mut state = self.lock();
            let needed = state.core.as_mut().is_some_and(|core| core.web_done(now, piece));
            let todo = state.drain();
            drop(state);
            self.carry_out(todo);
            needed
        };
        if !needed {
            return None;
        }
        let disk = self.disk.clone();
        let whole = Whole { piece, data };
        let job = move || (disk.check_and_write(std::slice::from_ref(&whole)).pop(), whole);
        let (result, whole) = self.disk.blocking(job).await?;
        let result = result?;
        let good = matches!(result, Ok(true));
        let todo = self.checked(whole, result);
        self.carry_out(todo);
        Some(good)
    }
}
