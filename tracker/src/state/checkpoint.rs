//! From SQLite's log to the medium and into the database, beside the writer.
//!
//! SQLite would do that within the commit that makes the log longer than 1000 pages, and whoever waits for
//! this commit would wait for all those pages and two fsync(2). Here a thread does it each second, over a
//! connection of its own, while commits go on. The log starts anew when a commit finds all of it moved. Under
//! load there is always something new, so when the log is long the writer moves that rest between two commits:
//! it is little, since the thread has just moved all the other.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;

use super::error::describe;
use super::journal::{NotStored, Written};
use crate::app::lock;

/// What nodes have reported is on the medium after this time.
const EVERY: Duration = Duration::from_secs(1);

/// How far the thread stands back behind those that answer nodes (`nice`): nobody waits for it.
const NICE: i32 = 10;

/// Pages of a long log: 32 MB.
const LONG: i64 = 8192;

/// What the thread and the writer tell each other.
#[derive(Debug, Default)]
pub(super) struct Log {
    long: AtomicBool,
    trouble: Mutex<Option<NotStored>>,
}

impl Log {
    /// Why the log cannot be moved, if so.
    pub(super) fn trouble(&self) -> Option<NotStored> {
        lock(&self.trouble).clone()
    }

    /// For the writer, between two commits: moves the rest of a long log.
    pub(super) fn shorten(&self, connection: &Connection) {
        if self.long.swap(false, Ordering::Relaxed)
            && let Err(error) = pages(connection)
        {
            // the thread will find the same, and tell
            tracing::debug!(%error, "the log of the state stays long");
        }
    }
}

/// The thread; ends with this value.
#[derive(Debug)]
pub(super) struct Checkpoints {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts it. `written` tells when there is something to move.
    pub(super) fn start(
        connection: Connection,
        path: PathBuf,
        log: Arc<Log>,
        written: watch::Receiver<Written>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let work = move || {
            // of this thread alone. It takes milliseconds of a processor, which others have a use for
            if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                tracing::debug!(%error, "the state's log is moved at the usual priority");
            }
            let mut moved = 0;
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                let done = written.borrow().done;
                if done == moved {
                    continue;
                }
                match pages(&connection) {
                    Ok(length) => {
                        moved = done;
                        log.long.store(length > LONG, Ordering::Relaxed);
                        *lock(&log.trouble) = None;
                    }
                    Err(error) => {
                        let text = NotStored(describe(&path, error).into());
                        let mut trouble = lock(&log.trouble);
                        if trouble.as_ref() != Some(&text) {
                            tracing::error!(error = &*text.0, "the state's log cannot be moved");
                            *trouble = Some(text);
                        }
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(work)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that moves the state's log has panicked");
        }
    }
}

/// Brings the log to the medium and into the database, as far as no reader needs it; the log's pages.
fn pages(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    #[test]
    fn a_long_log_starts_anew_between_two_commits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let writer = schema::open(&path).unwrap();
        let beside = schema::open_beside(&path).unwrap();
        let commit = |n: i64| {
            writer.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?1)", [n]).unwrap();
        };
        let length = || std::fs::metadata(dir.path().join("state.db-wal")).unwrap().len();
        (0..500).for_each(commit);
        let log = Log::default();
        let before = length();
        log.shorten(&writer);
        commit(500);
        assert!(length() > before, "it was not long");
        log.long.store(true, Ordering::Relaxed);
        log.shorten(&writer);
        commit(501);
        assert!(pages(&beside).unwrap() < 10);
        assert!(!log.long.load(Ordering::Relaxed));
        let kept: i64 =
            writer.query_row("SELECT count(*) FROM meta", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 502);
    }
}
