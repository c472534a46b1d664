//! Nodes at the rate that they have: announces and boot events, each on a connection of its own as ours
//! are, into a tracker that keeps its state on the disk, while people look at its pages.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use proto::event::{EVENT_VERSION, Event, EventBatch, EventKind, FetchProgress};
use serde::Serialize;

use super::contender::{Contender, Running};
use super::load::{self, Crowd, Timetable, Until, Way};

/// Seconds between two events of a node.
const EVENT_EVERY: f64 = 2.0;

/// Questions of a kind that may be under way at once. Nodes do not wait for each other: with too few, the delay
/// of one answer would hold back the questions after it, and all would be measured as late.
const ASKERS: usize = 256;

/// What is asked of the tracker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    nodes: usize,
    /// If they announce: seconds between two announces of a node, and what their p99 must be below.
    announces: Option<(f64, f64)>,
    /// Pages that are open: each hears the stream of changes and is loaded again every two seconds.
    pages: usize,
    /// The events' p99 must be below, in seconds.
    event_goal: f64,
}

impl Shape {
    /// Those that the project has goals for.
    pub(super) const ALL: [Self; 2] = [
        Self { nodes: 10_000, announces: Some((3.0, 0.010)), pages: 0, event_goal: 0.010 },
        Self { nodes: 5_000, announces: None, pages: 5, event_goal: 0.050 },
    ];
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Crowded {
    nodes: usize,
    announce_every: Option<f64>,
    pages: usize,
    /// Share of a processor that the tracker used.
    busy: f64,
    announces: Option<Delays>,
    events: Delays,
    /// Events that were sent and are not in the tracker.
    lost: usize,
    /// Bytes that the open pages were sent.
    page_bytes: usize,
    pub(super) reached: bool,
}

/// From the moment a question is due to its answer, in seconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Delays {
    count: usize,
    median: f64,
    p99: f64,
    longest: f64,
}

impl Crowded {
    /// For people.
    pub(super) fn line(&self) -> String {
        let Self { nodes, pages, busy, events, lost, .. } = self;
        let announces = self.announce_every.map(|every| format!("announce every {every} s and "));
        let announces = announces.unwrap_or_default();
        let delays = |what: &str, of: Delays| {
            format!(
                "{what} p99 {:.1} ms (median {:.1}, longest {:.1})",
                of.p99 * 1e3,
                of.median * 1e3,
                of.longest * 1e3
            )
        };
        let mut all: Vec<String> =
            self.announces.map(|of| delays("announces", of)).into_iter().collect();
        all.push(delays("events", *events));
        format!(
            "{nodes} nodes that {announces}report every {EVENT_EVERY} s, a connection each, state on the disk, \
             {pages} pages open: {busy:.2} of a core; {}; {lost} of {} events lost: {}",
            all.join(", "),
            events.count,
            if self.reached { "reached" } else { "MISSED" }
        )
    }
}

/// Lets a crowd of that shape announce and report for `length`.
pub(super) fn measure(
    shape: Shape,
    program: &Path,
    folder: &Path,
    length: Duration,
) -> anyhow::Result<Crowded> {
    let state = folder.join(format!("state-{}", shape.nodes));
    // of the last time
    if state.exists() {
        fs::remove_dir_all(&state).with_context(|| format!("cannot remove {}", state.display()))?;
    }
    let more = ["--state".as_ref(), state.as_os_str()];
    let running = Running::start((Contender::Beeswarm, Way::Connection), program, folder, &more)?;
    let address = running.address;
    let crowd = Crowd { torrents: 1, peers: shape.nodes };
    load::flat_out(address, Way::Udp, crowd, Until::Once)?;
    let table =
        |every: f64| Timetable { per_second: shape.nodes as f64 / every, threads: ASKERS, length };
    let over = AtomicBool::new(false);
    let (used, begin) = (running.processor_time()?, Instant::now());
    let (announces, events, page_bytes) = thread::scope(|scope| {
        let mut pages = Vec::new();
        for _ in 0..shape.pages {
            pages.push(scope.spawn(|| hear(address, &over)));
            pages.push(scope.spawn(|| reload(address, &over)));
        }
        let announces = shape.announces.map(|(every, _)| {
            let question = move |n| load::node_announce(crowd, n);
            scope.spawn(move || load::at_a_rate(address, table(every), question, load::announced))
        });
        let question = |number| event(shape.nodes, number);
        let events = load::at_a_rate(address, table(EVENT_EVERY), question, |_| Ok(()));
        over.store(true, Ordering::Relaxed);
        let mut page_bytes = 0;
        for page in pages {
            page_bytes += ended(page).context("an open page")?;
        }
        anyhow::Ok((announces.map(ended).transpose()?, events?, page_bytes))
    })?;
    let busy = (running.processor_time()? - used) / begin.elapsed().as_secs_f64();
    let kept = events_of(address)?;
    let (announces, events) = (announces.map(|all| delays(&all)), delays(&events));
    let lost = events.count.saturating_sub(kept);
    let reached = busy < 1.0
        && lost == 0
        && shape.announces.zip(announces).is_none_or(|((_, goal), of)| of.p99 < goal)
        && events.p99 < shape.event_goal;
    Ok(Crowded {
        nodes: shape.nodes,
        announce_every: shape.announces.map(|(every, _)| every),
        pages: shape.pages,
        busy,
        announces,
        events,
        lost,
        page_bytes,
        reached,
    })
}

/// What a thread has returned.
fn ended<T>(thread: ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().map_err(|_| anyhow::anyhow!("a thread panicked")).and_then(|result| result)
}

/// An open page's stream of changes; the bytes that came.
fn hear(address: SocketAddr, over: &AtomicBool) -> anyhow::Result<usize> {
    let mut stream = load::connect(address)?;
    let ask = "GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    stream.write_all(ask.as_bytes())?;
    let (mut buffer, mut bytes) = ([0; 64 << 10], 0);
    while !over.load(Ordering::Relaxed) {
        let count = stream.read(&mut buffer).context("the stream of changes is silent")?;
        ensure!(count > 0, "the stream of changes has ended");
        bytes += count;
    }
    Ok(bytes)
}

/// A page without JavaScript; the bytes that came.
fn reload(address: SocketAddr, over: &AtomicBool) -> anyhow::Result<usize> {
    let mut bytes = 0;
    while !over.load(Ordering::Relaxed) {
        let mut stream = load::connect(address)?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        bytes += load::answer(&mut stream, true)?.len();
        thread::sleep(Duration::from_secs(2));
    }
    Ok(bytes)
}

/// Events that the tracker has taken, by its own account.
fn events_of(address: SocketAddr) -> anyhow::Result<usize> {
    let mut stream = load::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let text = String::from_utf8(load::answer(&mut stream, true)?).context("/metrics is text")?;
    let line = text.lines().find_map(|line| line.strip_prefix("beeswarm_tracker_events_total "));
    line.and_then(|count| count.trim().parse().ok()).context("/metrics has no number of events")
}

/// A node's report, as the client in the initrd sends it.
fn event(nodes: usize, number: usize) -> Vec<u8> {
    let node = number % nodes;
    let seq = u64::try_from(number / nodes).unwrap_or(u64::MAX);
    let kind = EventKind::Fetch(FetchProgress::default());
    let batch = EventBatch {
        version: EVENT_VERSION,
        boot_id: format!("bench-{node}"),
        token: None,
        macs: Vec::new(),
        uuid: None,
        events: vec![Event { seq, uptime_ms: seq * 2000, kind }],
    };
    let body = serde_json::to_string(&batch).unwrap_or_default();
    let [.., a, b] = node.to_be_bytes();
    format!(
        "POST /api/v1/nodes/52:54:00:00:{a:02x}:{b:02x}/events HTTP/1.1\r\nHost: localhost\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the list")]
fn delays(sorted: &[f64]) -> Delays {
    let at = |part: f64| {
        let position = (sorted.len() as f64 * part) as usize;
        sorted.get(position.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    };
    Delays { count: sorted.len(), median: at(0.5), p99: at(0.99), longest: at(1.0) }
}
