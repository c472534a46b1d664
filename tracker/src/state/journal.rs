//! From the tables in memory to the disk: a queue, a thread, and one commit for many requests.
//!
//! ```text
//!  request ─ changes memory ─ push ─▶ queue ─▶ thread: BEGIN … COMMIT, at most one in 3 ms ─▶ log of SQLite
//!          ◀──────────────── answer ◀───────── done up to N │ failed, and why                │ each second
//!                                                                 checkpoint: fsync, into the database
//! ```
//!
//! A commit is written to the log, so that no kill takes it back. What somebody ordered ([`Op::is_order`]) is
//! in addition on the medium (fsync(2)) before it is acknowledged, with all that was committed before. What
//! nodes report gets there within about a second: a power cut may take the last second of progress reports,
//! and the nodes go on reporting. To wait for the medium with each of them would make the delay of every
//! report that of the slowest disk, and the tracker does not need to know more than the next report says.
//!
//! Changes are pushed while the lock of the table is held that they come from, so they are written in the
//! order in which memory took them. What cannot be written stays in the queue and is tried again every
//! second; meanwhile nothing is acknowledged. A request that repeats an event which memory has already
//! waits for all that was pushed before it, so it is acknowledged only when the event is on disk.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::watch;

use super::checkpoint::{Checkpoints, Log};
use super::error::{self, StateError};
use super::op::Op;
use super::schema;
use crate::app::lock;

/// Time between the beginnings of two commits: each has a price, whatever is in it. The first after a pause
/// waits for nothing.
const GATHER: Duration = Duration::from_millis(3);

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
pub(super) struct Written {
    /// Changes ever written.
    pub(super) done: u64,
    failed: Option<NotStored>,
}

/// The way to the disk.
#[derive(Debug)]
pub(crate) struct Journal {
    shared: Arc<Shared>,
    written: watch::Receiver<Written>,
    log: Arc<Log>,
    threads: Mutex<Option<(JoinHandle<()>, Checkpoints)>>,
}

/// A place in the queue; what was pushed up to there is waited for with [`Journal::stored`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl Journal {
    /// Starts the thread that owns the connection, and the one that looks after its log.
    pub(crate) fn start(connection: Connection, path: PathBuf) -> Result<Self, StateError> {
        let beside = schema::open_beside(&path)?;
        let failed = |source| error::file("start the writer of", &path)(source);
        let shared = Arc::new(Shared::default());
        let log = Arc::new(Log::default());
        let (sender, written) = watch::channel(Written::default());
        let started = Checkpoints::start(beside, path.clone(), log.clone(), written.clone());
        let checkpoints = started.map_err(failed)?;
        let writer = Writer {
            connection,
            path: path.clone(),
            shared: shared.clone(),
            log: log.clone(),
            written: sender,
            to_medium: None,
        };
        let thread = std::thread::Builder::new().name("state".to_owned());
        let thread = thread.spawn(move || writer.run()).map_err(failed)?;
        let threads = Mutex::new(Some((thread, checkpoints)));
        Ok(Self { shared, written, log, threads })
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
        self.written.borrow().failed.clone().or_else(|| self.log.trouble())
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
        let Some((thread, checkpoints)) = lock(&self.threads).take() else { return };
        if thread.join().is_err() {
            tracing::error!("the thread that writes the state has panicked");
        }
        drop(checkpoints);
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
    log: Arc<Log>,
    written: watch::Sender<Written>,
    /// Whether commits wait for the medium, as SQLite was told last.
    to_medium: Option<bool>,
}

impl Writer {
    fn run(mut self) {
        let mut next = Instant::now();
        while let Some(closing) = self.wait() {
            if !closing {
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            next = Instant::now() + GATHER;
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
                    self.log.shorten(&self.connection);
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
        let to_medium = ops.iter().any(|(_, op)| op.is_order());
        if self.to_medium != Some(to_medium) {
            let level = if to_medium { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.to_medium = Some(to_medium);
        }
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (at, op) in ops {
            op.write(&transaction, *at)?;
        }
        transaction.commit()
    }

    fn failed(&self, source: rusqlite::Error) {
        let text = error::describe(&self.path, source);
        let known = self.written.borrow().failed.as_ref().is_some_and(|known| *known.0 == *text);
        if !known {
            tracing::error!(error = text, "the state cannot be stored; trying again every second");
            self.written.send_modify(|w| w.failed = Some(NotStored(text.into())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::node_id::NodeId;

    /// 1: NORMAL, 2: FULL.
    fn level(writer: &Writer) -> i64 {
        let found = writer.connection.pragma_query_value(None, "synchronous", |row| row.get(0));
        found.unwrap()
    }

    #[test]
    fn what_was_ordered_waits_for_the_medium_and_what_nodes_report_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let mut writer = Writer {
            connection: schema::open(&path).unwrap(),
            path,
            shared: Arc::default(),
            log: Arc::default(),
            written: watch::channel(Written::default()).0,
            to_medium: None,
        };
        let report = || (0, Op::DropNode(NodeId([2, 0, 0, 0, 0, 1])));
        let order = || (0, Op::PutMeta { key: "x", value: vec![1] });
        for (ops, expected) in [
            (vec![report()], 1),
            (vec![report(), order(), report()], 2),
            (vec![order()], 2),
            (vec![report()], 1),
        ] {
            writer.commit(&ops).unwrap();
            assert_eq!(level(&writer), expected, "{ops:?}");
        }
    }
}
