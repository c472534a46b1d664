//! The one place where the program speaks: console or JSON lines, kernel log, tracker.
//!
//! Speaking is best effort. A closed pipe, a full kernel log or a dead tracker never stops a boot.

mod console;
pub mod text;

use std::fmt::Debug;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proto::event::exchange::Exchange;
use proto::event::{EventBatch, EventKind, FetchProgress, Stall, StallCause};
use proto::node_id::NodeId;
use serde_json::{Value, json};
use swarm::report::Reporter;
use swarm::{Completed, Progress};
use sys::kmsg::{Level, LineWriter};
use sys::memory::ProcessMemory;

use crate::exit::Exit;
use crate::network;
use crate::retry::Complaints;
use console::Tail;

/// Progress goes to people and to the tracker this often.
const HUMAN_INTERVAL: Duration = Duration::from_millis(1900);

/// Progress goes into the kernel log this often: enough to see afterwards where the time went.
const KMSG_INTERVAL: Duration = Duration::from_secs(10);

/// The tracker hears this often who gave what.
const EXCHANGE_INTERVAL: Duration = Duration::from_secs(10);

/// While seeding, people and tracker hear this often.
const SEEDING_INTERVAL: Duration = Duration::from_secs(10);

/// What the lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Sentences.
    Human,
    /// One JSON object per line.
    Json,
}

/// A network that is not up yet is normal for this long after the start.
const NETWORK_GRACE: Duration = Duration::from_secs(6);

/// Tells console, kernel log and tracker what happens.
pub struct Narrator {
    style: Style,
    out: Box<dyn Write + Send>,
    kmsg: Option<KernelLog>,
    reporter: Option<Reporter>,
    /// What happened before it was known where to report to.
    backlog: Vec<EventKind>,
    complaints: Complaints,
    /// What was said last.
    tail: Tail,
    /// Where the state of the cards is read from when something is wrong.
    net: Option<PathBuf>,
    started: Instant,
    last_human: Option<Instant>,
    last_kmsg: Option<Instant>,
    last_exchange: Option<Instant>,
}

impl Debug for Narrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Narrator").field("style", &self.style).finish_non_exhaustive()
    }
}

impl Narrator {
    /// Speaks to `out` only.
    #[must_use]
    pub fn new(style: Style, out: Box<dyn Write + Send>) -> Self {
        Self {
            style,
            out,
            kmsg: None,
            reporter: None,
            backlog: Vec::new(),
            complaints: Complaints::default(),
            tail: Tail::new(),
            net: None,
            started: Instant::now(),
            last_human: None,
            last_kmsg: None,
            last_exchange: None,
        }
    }

    /// Speaks into the kernel log too. Lines that the kernel shows on the console by itself are not
    /// written there a second time.
    pub fn use_kernel_log(&mut self) {
        self.kmsg = Some(KernelLog::open());
        self.tail.kernel = Some("/dev/kmsg".into());
    }

    /// Asks the cards below `net` (`/sys/class/net`) from now on before anybody else is blamed.
    pub fn watch_cards(&mut self, net: &Path) {
        self.net = Some(net.to_owned());
    }

    /// Sends events to the tracker at `base_url` from now on, and those that happened before.
    pub fn report_to(&mut self, base_url: &str, node: NodeId, about: EventBatch) {
        if self.reporter.is_some() {
            return;
        }
        let reporter = Reporter::start(base_url, node, about);
        for kind in self.backlog.drain(..) {
            reporter.send(kind);
        }
        self.reporter = Some(reporter);
    }

    /// A step of the boot.
    pub fn tell(&mut self, kind: EventKind) {
        let (level, text) = text::describe(&kind);
        let mut object = json!({});
        if let Ok(Value::Object(fields)) = serde_json::to_value(&kind) {
            for (name, value) in fields.into_iter().filter(|(name, _)| name != "stage") {
                object[name] = value;
            }
        }
        if !matches!(kind, EventKind::Stalled(_)) {
            self.tail.moves();
        }
        self.line(kind.stage(), object, level, &text);
        self.report(kind);
    }

    /// Something worth a line, and nothing else.
    pub fn note(&mut self, text: &str) {
        self.line("note", json!({ "text": text }), Level::Info, text);
    }

    /// Nothing moves: said at once when the cause is new, then every ten seconds. Returns the cause, which
    /// the cards may know better.
    pub fn stall(&mut self, stall: Stall) -> StallCause {
        let stall = match &self.net {
            Some(net) => network::blame(stall, &network::cards(net)),
            None => stall,
        };
        let cause = stall.cause;
        let is_early = self.started.elapsed() < NETWORK_GRACE;
        let is_normal = is_early && matches!(cause, StallCause::NoCarrier | StallCause::NoAddress);
        if !is_normal && self.complaints.is_due(&stall, Instant::now()) {
            self.tell(EventKind::Stalled(stall));
        }
        if self.tail.is_due(Instant::now()) {
            self.report_console();
        }
        cause
    }

    /// How far the fetch is. To be called about once a second: JSON has every call, people and the
    /// tracker hear every other second, the kernel log every tenth.
    pub fn progress(&mut self, progress: &Progress) {
        if let Some(stall) = &progress.stall {
            self.stall(stall.clone());
        } else if progress.down_rate > 0 {
            self.complaints.clear();
            self.tail.moves();
        }
        let event = FetchProgress {
            bytes: progress.bytes_verified,
            total: progress.bytes_total,
            rate: progress.down_rate,
            upload_rate: progress.up_rate,
            uploaded: progress.bytes_uploaded,
            peers: progress.peers_connected,
            sources: progress.sources,
        };
        if self.style == Style::Json {
            let mut object = serde_json::to_value(event).unwrap_or_default();
            object["percent"] = json!((event.percent() * 10.0).round() / 10.0);
            object["phase"] = json!(text::phase(&progress.phase));
            object["peers_known"] = json!(progress.peers_known);
            object["hash_failures"] = json!(progress.hash_failures);
            self.json("progress", object);
        }
        if is_due(&mut self.last_human, HUMAN_INTERVAL) {
            let text = text::progress(progress);
            self.tail.push(&text);
            let is_logged = is_due(&mut self.last_kmsg, KMSG_INTERVAL)
                && self.kmsg.as_ref().is_some_and(|kmsg| kmsg.line(Level::Info, &text));
            if self.style == Style::Human && !is_logged {
                self.write(&format!("beeswarm: {text}\n"));
            }
            self.report(EventKind::Fetch(event));
        }
    }

    /// From whom what is here came, and what that is; to be called often: the tracker hears it every ten
    /// seconds, and nobody else.
    pub fn exchange(&mut self, exchange: impl FnOnce() -> Exchange) {
        if is_due(&mut self.last_exchange, EXCHANGE_INTERVAL) {
            self.exchanged(exchange());
        }
    }

    /// The same at the end of the fetch.
    pub fn exchanged(&mut self, exchange: Exchange) {
        // kept from before there is somebody to report to, it would be of no use
        if self.reporter.is_some() {
            self.report(EventKind::Exchange(exchange));
        }
    }

    /// The image is here, every piece of it verified.
    pub fn complete(&mut self, completed: &Completed, progress: &Progress) {
        let kind = EventKind::Verify {
            bytes: completed.bytes,
            seconds: completed.elapsed.as_secs_f64(),
            sources: completed.sources,
            hash_failures: completed.hash_failures,
        };
        let (level, text) = text::describe(&kind);
        let object = json!({
            "bytes": completed.bytes,
            "fetch_seconds": completed.elapsed.as_secs_f64(),
            "sources": completed.sources,
            "hash_failures": completed.hash_failures,
            "wasted": progress.bytes_wasted,
            "uploaded": progress.bytes_uploaded,
            "memory": memory(),
            "downlink": downlink(completed),
        });
        self.line("complete", object, level, &text);
        self.report(kind);
        self.last_human = None;
    }

    /// The image is handed on. To be called about once a second.
    pub fn seeding(&mut self, progress: &Progress, device: &str, user: &str) {
        if self.style == Style::Json {
            let object = json!({
                "uploaded": progress.bytes_uploaded,
                "upload_rate": progress.up_rate,
                "peers": progress.peers_connected,
            });
            self.json("seeding", object);
        }
        if is_due(&mut self.last_human, SEEDING_INTERVAL) {
            let kind = EventKind::Seeding {
                device: device.to_owned(),
                user: user.to_owned(),
                uploaded: progress.bytes_uploaded,
                http: None,
            };
            if self.style == Style::Human {
                let (_, text) = text::describe(&kind);
                self.write(&format!("beeswarm: {text}\n"));
            }
            self.report(kind);
        }
    }

    /// It cannot go on. `message` has cause and remedy.
    pub fn failed(&mut self, message: &str, exit: Exit, cause: Option<StallCause>) {
        let refused = exit.refusal();
        let mut object = json!({ "message": message, "exit": exit as u8 });
        if let Some(refused) = refused {
            object["refused"] = json!(refused);
        }
        if let Some(cause) = cause {
            object["cause"] = json!(cause);
        }
        self.line("failed", object, Level::Error, &format!("FAILED: {message}"));
        self.report(EventKind::Failed { message: message.to_owned(), refused, cause });
        self.report_console();
    }

    /// Gives the last events a chance to arrive; waits no longer than `limit`.
    pub async fn flush(&mut self, limit: Duration) {
        if let Some(reporter) = &self.reporter {
            reporter.flush(limit).await;
        }
    }

    /// Sends the last lines of the console.
    fn report_console(&mut self) {
        // before there is somebody to report to nobody would be sent the newest
        if let Some(reporter) = &self.reporter {
            reporter.send(EventKind::Console(self.tail.console()));
        }
    }

    fn report(&mut self, kind: EventKind) {
        match &self.reporter {
            Some(reporter) => reporter.send(kind),
            None if self.backlog.len() < 32 => self.backlog.push(kind),
            None => {}
        }
    }

    fn line(&mut self, event: &str, object: Value, level: Level, text: &str) {
        self.tail.push(text);
        let is_shown = self.kmsg.as_ref().is_some_and(|kmsg| kmsg.line(level, text));
        match self.style {
            Style::Human if is_shown => {}
            Style::Human => self.write(&format!("beeswarm: {text}\n")),
            Style::Json => self.json(event, object),
        }
    }

    fn json(&mut self, event: &str, mut object: Value) {
        object["event"] = json!(event);
        object["seconds"] = json!(self.started.elapsed().as_secs_f64());
        self.write(&format!("{object}\n"));
    }

    fn write(&mut self, line: &str) {
        // nobody can be told that nobody can be told
        let _ = self.out.write_all(line.as_bytes()).and_then(|()| self.out.flush());
    }
}

/// The kernel log, and how much of it the kernel shows on the console.
struct KernelLog {
    writer: LineWriter,
    /// Levels below this are shown (`console_loglevel`, proc_sys_kernel(5)).
    shown_below: u8,
}

impl KernelLog {
    fn open() -> Self {
        let printk = std::fs::read_to_string("/proc/sys/kernel/printk").unwrap_or_default();
        let level = printk.split_whitespace().next().and_then(|level| level.parse().ok());
        // unknown: rather twice than not at all
        Self { writer: LineWriter::kmsg(), shown_below: level.unwrap_or(0) }
    }

    /// Writes a line; returns whether the console shows it.
    fn line(&self, level: Level, text: &str) -> bool {
        self.writer.line(level, text) && (level as u8) < self.shown_below
    }
}

fn is_due(last: &mut Option<Instant>, interval: Duration) -> bool {
    let now = Instant::now();
    if last.is_some_and(|last| now.duration_since(last) < interval) {
        return false;
    }
    *last = Some(now);
    true
}

/// Where the time of the fetch went: `{cause: [milliseconds, bytes that arrived meanwhile]}`.
fn downlink(completed: &Completed) -> Value {
    let mut object = json!({});
    for (cause, spell) in completed.downlink.spells() {
        let millis = u64::try_from(spell.time.as_millis()).unwrap_or(u64::MAX);
        object[cause.name()] = json!([millis, spell.bytes]);
    }
    object
}

fn memory() -> Value {
    match ProcessMemory::read() {
        Ok(memory) => json!({
            "peak": memory.peak,
            "resident": memory.resident,
            "anonymous": memory.anonymous,
            "file": memory.file,
        }),
        Err(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests;
