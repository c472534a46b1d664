//! Complete pieces on their way into the storage.

use std::sync::Arc;

use proto::geometry::PieceIndex;

use super::state::Todo;
use super::torrent::Shared;
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
            for (piece, data) in todo.verify {
                if self.disk.is_quick() {
                    let good = self.disk.check_and_write(piece, &data);
                    pending.push(self.checked(piece, good, data));
                } else if self.disk.queue.push(piece, data) {
                    let shared = self.clone();
                    self.tasks.spawn(async move {
                        let worker = shared.clone();
                        shared.disk.blocking(move || worker.work_off()).await
                    });
                }
            }
        }
    }

    /// Hashes and stores what is queued until nothing is. A thread that is at it already takes the
    /// next piece without being woken.
    fn work_off(self: &Arc<Self>) {
        while let Some((piece, data)) = self.disk.queue.pop() {
            let good = self.disk.check_and_write(piece, &data);
            let bytes = data.len();
            let todo = self.checked(piece, good, data);
            self.disk.queue.done(bytes);
            self.carry_out(todo);
        }
    }

    fn checked(&self, piece: PieceIndex, good: Result<bool, TorrentError>, data: Vec<u8>) -> Todo {
        match good {
            Ok(good) => {
                if !good {
                    log::warn!(piece = piece.0, "piece failed its hash");
                }
                let now = self.now();
                let mut state = self.lock();
                if good {
                    state.trouble.last_data = now;
                }
                state.checked(now, piece, good, data)
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
        let job = move || (disk.check_and_write(piece, &data), data);
        let (result, data) = self.disk.blocking(job).await?;
        let good = matches!(result, Ok(true));
        let todo = self.checked(piece, result, data);
        self.carry_out(todo);
        Some(good)
    }
}
