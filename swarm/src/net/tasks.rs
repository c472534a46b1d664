//! Tasks and jobs on threads, of one kind each.
//!
//! tokio's code for a task is compiled for every kind of future, 2 KB each; a box makes one kind of
//! all. Tasks here live as long as a connection, and a job on a thread hashes or reads a piece, so
//! what a box costs is not seen.

use std::pin::Pin;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Starts a task that `tasks` waits for.
pub(crate) fn spawn(
    tasks: &TaskTracker,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(task);
    tasks.spawn(task)
}

/// Starts a job that may block. The receiver fails when the runtime is going down, or the job
/// panicked.
pub(crate) fn on_thread<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (give, result) = oneshot::channel();
    let job: Box<dyn FnOnce() + Send> = Box::new(move || {
        // nobody waits for it any more
        let _ = give.send(job());
    });
    tokio::task::spawn_blocking(job);
    result
}
