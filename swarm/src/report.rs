//! Best-effort event reporter: tells the tracker how a boot goes, and never delays the boot.
//!
//! Events wait in a bounded queue and go out about once a second in one batch. A batch is sent
//! again, unchanged, until it is acknowledged; meanwhile new progress replaces old progress, and
//! when the queue is full the oldest progress goes first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::event::{Event, EventBatch, EventKind, MAX_BATCH_EVENTS};
use proto::node_id::NodeId;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use crate::http::{self, Limits};
use crate::log;
use crate::net::tasks;

const INTERVAL: Duration = Duration::from_secs(1);
const QUEUE: usize = 128;
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Sends events from a background task. Dropping it ends the task; [`Reporter::flush`] first.
#[derive(Debug)]
pub struct Reporter {
    shared: Arc<Shared>,
    idle: watch::Receiver<bool>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Debug)]
struct Queue {
    events: VecDeque<Event>,
    next_seq: u64,
    flushing: bool,
}

impl Reporter {
    /// Starts reporting to `base_url` (`http://tracker:6969`) for a node; every batch says what `about`
    /// says of boot and node. Needs a tokio runtime.
    #[must_use]
    pub fn start(base_url: &str, node: NodeId, about: EventBatch) -> Self {
        let url = format!("{}/api/v1/nodes/{node}/events", base_url.trim_end_matches('/'));
        let queue = Queue { events: VecDeque::new(), next_seq: 0, flushing: false };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), wake: Notify::new() });
        let (idle_tx, idle) = watch::channel(true);
        let task = tasks::spawn(&TaskTracker::new(), run(shared.clone(), url, about, idle_tx));
        Self { shared, idle, task }
    }

    /// Queues an event; never waits.
    pub fn send(&self, kind: EventKind) {
        let uptime = uptime_ms();
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push(uptime, kind);
        drop(queue);
        self.shared.wake.notify_one();
    }

    /// Waits until everything queued is acknowledged, at most for `limit`.
    pub async fn flush(&self, limit: Duration) {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).flushing = true;
        self.shared.wake.notify_one();
        let mut idle = self.idle.clone();
        let done = async {
            loop {
                let empty = self
                    .shared
                    .queue
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .events
                    .is_empty();
                if (empty && *idle.borrow_and_update()) || idle.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(limit, done).await.is_err() {
            log::debug!("the tracker did not take all events in time");
        }
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).flushing = false;
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Queue {
    fn push(&mut self, uptime_ms: u64, kind: EventKind) {
        let is_progress = |event: &Event| matches!(event.kind, EventKind::Fetch(_));
        if matches!(kind, EventKind::Fetch(_) | EventKind::Exchange(_)) {
            // only the newest of these is worth sending
            let stage = kind.stage();
            self.events.retain(|event| event.kind.stage() != stage);
        }
        if self.events.len() >= QUEUE {
            let victim = self.events.iter().position(is_progress).unwrap_or(0);
            self.events.remove(victim);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.events.push_back(Event { seq, uptime_ms, kind });
    }

    fn take(&mut self) -> Vec<Event> {
        let count = self.events.len().min(MAX_BATCH_EVENTS);
        self.events.drain(..count).collect()
    }
}

async fn run(shared: Arc<Shared>, url: String, mut batch: EventBatch, idle: watch::Sender<bool>) {
    let limits =
        Limits { total: Duration::from_secs(10), max_body: 64 * 1024, ..Limits::default() };
    loop {
        batch.events = shared.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if batch.events.is_empty() {
            idle.send_replace(true);
            shared.wake.notified().await;
            continue;
        }
        idle.send_replace(false);
        let Ok(body) = serde_json::to_vec(&batch) else { continue };
        let mut backoff = INTERVAL;
        while let Err(error) = http::post_json(&url, body.clone(), limits).await {
            if let http::HttpError::Status { status: 400..=499, .. } = error {
                log::warn!(%url, %error, "the tracker refuses events");
                break; // the same bytes will not be taken later either
            }
            log::debug!(%url, %error, "events not delivered");
            shared.pause(backoff + Duration::from_millis(fastrand::u64(0..500))).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
        idle.send_replace(true);
        shared.pause(INTERVAL).await;
    }
}

impl Shared {
    /// Sleeps, but not when somebody waits for the queue to drain.
    async fn pause(&self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while !self.queue.lock().unwrap_or_else(PoisonError::into_inner).flushing {
            if tokio::time::timeout_at(end, self.wake.notified()).await.is_err() {
                return;
            }
        }
    }
}

/// Milliseconds since the kernel started; 0 when it does not say.
fn uptime_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let Some((seconds, rest)) = text.split_whitespace().next().and_then(|t| t.split_once('.'))
    else {
        return 0;
    };
    let hundredths: u64 = rest.get(..2).and_then(|t| t.parse().ok()).unwrap_or(0);
    seconds.parse::<u64>().unwrap_or(0) * 1000 + hundredths * 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::event::FetchProgress;

    fn queue() -> Queue {
        Queue { events: VecDeque::new(), next_seq: 0, flushing: false }
    }

    #[test]
    fn progress_is_coalesced_and_the_queue_is_bounded() {
        let mut queue = queue();
        queue.push(1, EventKind::Attach { device: "/dev/loop0".into() });
        for bytes in 0..10 {
            queue.push(2, EventKind::Fetch(FetchProgress { bytes, ..FetchProgress::default() }));
        }
        assert_eq!(queue.events.len(), 2);
        assert!(matches!(queue.events[1].kind, EventKind::Fetch(FetchProgress { bytes: 9, .. })));
        for _ in 0..2 * QUEUE {
            queue.push(3, EventKind::Failed { message: "x".into(), refused: None, cause: None });
        }
        assert_eq!(queue.events.len(), QUEUE);
        assert!(
            queue.events.iter().all(|e| !matches!(e.kind, EventKind::Fetch(_))),
            "progress goes first"
        );
        let seqs: Vec<u64> = queue.take().iter().map(|e| e.seq).collect();
        assert!(seqs.is_sorted());
    }
}
