//! From the tables in memory to the disk: a queue, a thread, and one commit for many requests.
//!
//! ```text
//!  request ─ changes memory ─ push ─▶ queue ─▶ thread: 5 ms of gathering, BEGIN … COMMIT (fsync)
//!          ◀──────────────── answer ◀───────── done up to N │ failed, and why
//! ```
//!
//! Changes are pushed while the lock of the table is held that they come from, so they are written in the
//! order in which memory took them. What cannot be written stays in the queue and is tried again every
//! second; meanwhile nothing is acknowledged. A request that repeats an event which memory has already
//! waits for all that was pushed before it, so it is acknowledged only when the event is on disk.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::watch;

use super::error::{StateError, Trouble};
use super::op::Op;
use crate::app::lock;

/// A commit waits this long for more to commit: it costs an fsync(2) whatever is in it.
const GATHER: Duration = Duration::from_millis(5);

/// Changes in one commit.
const BATCH: usize = 20_000;

/// Changes that may wait while the disk does not take any; from then on events are refused unread.
const BACKLOG: usize = 100_000;

/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// A disk that takes longer is told of instead of waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why something is not on disk (yet).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tracker's state is not stored: {0}")]
pub struct NotStored(pub Arc<str>);

#[derive(Debug, Default)]
struct Queue {
    /// With the time of each, in milliseconds of Unix time.
    ops: VecDeque<(i64, Op)>,
    /// Changes ever pushed.
    pushed: u64,
    closing: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Debug, Clone, Default)]
struct Written {
    /// Changes ever written.
    done: u64,
    failed: Option<NotStored>,
}

/// The way to the disk.
#[derive(Debug)]
pub(crate) struct Journal {
    shared: Arc<Shared>,
    written: watch::Receiver<Written>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A place in the queue; what was pushed up to there is waited for with [`Journal::stored`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl Journal {
    /// Starts the thread that owns the connection.
    pub(crate) fn start(connection: Connection, path: PathBuf) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (sender, written) = watch::channel(Written::default());
        let writer = Writer { connection, path, shared: shared.clone(), written: sender };
        let thread =
            std::thread::Builder::new().name("state".to_owned()).spawn(move || writer.run())?;
        Ok(Self { shared, written, thread: Mutex::new(Some(thread)) })
    }

    /// Queues changes, or drops them when too many wait. To be called under the lock of the table that
    /// changed.
    pub(crate) fn push(&self, ops: impl IntoIterator<Item = Op>) -> Result<Place, NotStored> {
        let mut queue = lock(&self.shared.queue);
        let at = unix_ms(SystemTime::now());
        let before = queue.ops.len();
        if before >= BACKLOG {
            return Err(self.trouble().unwrap_or_else(slow));
        }
        queue.ops.extend(ops.into_iter().map(|op| (at, op)));
        let added = queue.ops.len() - before;
        queue.pushed += u64::try_from(added).unwrap_or(u64::MAX);
        let place = Place(queue.pushed);
        drop(queue);
        if before == 0 && added > 0 {
            self.shared.wake.notify_one();
        }
        Ok(place)
    }

    /// Whether there is room for what must not be lost.
    pub(crate) fn check(&self) -> Result<(), NotStored> {
        if lock(&self.shared.queue).ops.len() < BACKLOG {
            return Ok(());
        }
        Err(self.trouble().unwrap_or_else(slow))
    }

    /// Why nothing is stored at the moment, if so.
    pub(crate) fn trouble(&self) -> Option<NotStored> {
        self.written.borrow().failed.clone()
    }

    /// Waits until everything up to `place` is on disk.
    pub(crate) async fn stored(&self, place: Place) -> Result<(), NotStored> {
        let mut written = self.written.clone();
        let settled = written.wait_for(|w| w.done >= place.0 || w.failed.is_some());
        match tokio::time::timeout(PATIENCE, settled).await {
            Ok(Ok(written)) if written.done >= place.0 => Ok(()),
            Ok(Ok(written)) => Err(written.failed.clone().unwrap_or_else(ended)),
            Ok(Err(_)) => Err(ended()),
            Err(_) => Err(slow()),
        }
    }

    /// Writes what waits (once more when that fails) and ends the thread.
    pub(crate) fn close(&self) {
        lock(&self.shared.queue).closing = true;
        self.shared.wake.notify_one();
        let thread = lock(&self.thread).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes the state has panicked");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

fn ended() -> NotStored {
    NotStored("the writer has ended; restart bee-tracker".into())
}

fn slow() -> NotStored {
    NotStored("the disk has not answered for 5 s".into())
}

pub(crate) fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

struct Writer {
    connection: Connection,
    path: PathBuf,
    shared: Arc<Shared>,
    written: watch::Sender<Written>,
}

impl Writer {
    fn run(mut self) {
        while let Some(closing) = self.wait() {
            if !closing {
                std::thread::sleep(GATHER);
            }
            let ops: Vec<_> = {
                let mut queue = lock(&self.shared.queue);
                let count = queue.ops.len().min(BATCH);
                queue.ops.drain(..count).collect()
            };
            match self.commit(&ops) {
                Ok(()) => {
                    let was_failing = self.written.borrow().failed.is_some();
                    if was_failing {
                        tracing::info!("the state is stored again");
                    }
                    let count = u64::try_from(ops.len()).unwrap_or(u64::MAX);
                    self.written.send_modify(|w| {
                        w.done += count;
                        w.failed = None;
                    });
                }
                Err(error) => {
                    self.failed(error);
                    let mut queue = lock(&self.shared.queue);
                    ops.into_iter().rev().for_each(|op| queue.ops.push_front(op));
                    if closing {
                        return;
                    }
                    let pause = self.shared.wake.wait_timeout_while(queue, RETRY, |q| !q.closing);
                    drop(pause);
                }
            }
        }
        // leaves one file, which is quicker to start from
        let _ = self.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
    }

    /// Waits for work; `None` when there is none and will be none. `true` at the end.
    fn wait(&self) -> Option<bool> {
        let queue = lock(&self.shared.queue);
        let idle = |queue: &mut Queue| queue.ops.is_empty() && !queue.closing;
        let waited = self.shared.wake.wait_while(queue, idle);
        let queue = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        if queue.ops.is_empty() { None } else { Some(queue.closing) }
    }

    fn commit(&mut self, ops: &[(i64, Op)]) -> rusqlite::Result<()> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (at, op) in ops {
            op.write(&transaction, *at)?;
        }
        transaction.commit()
    }

    fn failed(&self, source: rusqlite::Error) {
        let error =
            StateError::Database { path: self.path.clone(), trouble: Trouble::of(&source), source };
        let text = crate::catalog::describe(&error);
        let known = self.written.borrow().failed.as_ref().is_some_and(|known| *known.0 == *text);
        if !known {
            tracing::error!(error = text, "the state cannot be stored; trying again every second");
            self.written.send_modify(|w| w.failed = Some(NotStored(text.into())));
        }
    }
}
