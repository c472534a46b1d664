//! The events of one boot, in order, each once.

use std::time::Instant;

use proto::event::audit::Audit;
use proto::event::console::Console;
use proto::event::{Event, EventKind};

/// One event and when it arrived.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The event.
    pub event: Event,
    /// When it arrived here.
    pub received: Instant,
    /// Its row on disk.
    pub(crate) row: i64,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is there already.
    Known,
    /// It is there now.
    New,
    /// It is there now, and another one had to go, whose row this is; or it went itself.
    Instead(i64),
}

/// Events by the time the node gave them.
///
/// Within one boot two programs report (the initrd client, later the seeder), and each counts its
/// events from the start. So an event is named by its sequence number *and* its time: a batch sent
/// again repeats both, two programs never share them.
#[derive(Debug, Default)]
pub struct Timeline(Vec<Entry>);

fn place(event: &Event) -> (u64, u64) {
    (event.uptime_ms, event.seq)
}

impl Timeline {
    /// Whether an event is there.
    #[must_use]
    pub fn contains(&self, event: &Event) -> bool {
        self.find(event).is_ok()
    }

    fn find(&self, event: &Event) -> Result<usize, usize> {
        let key = place(event);
        self.0.binary_search_by_key(&key, |entry| place(&entry.event))
    }

    /// Adds an event. Beyond `limit` the oldest progress report goes, or else the oldest event whose stage
    /// is reported again later: the last one of each stage says what the node does.
    pub fn insert(&mut self, entry: Entry, limit: usize) -> Inserted {
        let Err(at) = self.find(&entry.event) else { return Inserted::Known };
        let (report, stage) = (entry.event.kind.is_report(), entry.event.kind.stage());
        self.0.insert(at, entry);
        if report {
            // each says all that the one before said
            let same = |entry: &Entry| entry.event.kind.stage() == stage;
            let first = self.0.iter().position(same);
            let last = self.0.iter().rposition(same);
            if let (Some(first), true) = (first, first != last) {
                return Inserted::Instead(self.0.remove(first).row);
            }
        }
        if self.0.len() <= limit {
            return Inserted::New;
        }
        let victim = self.victim();
        Inserted::Instead(self.0.remove(victim).row)
    }

    fn victim(&self) -> usize {
        let progress = |entry: &Entry| matches!(entry.event.kind, EventKind::Fetch(_));
        let mut reports = self.0.iter().enumerate().filter(|(_, entry)| progress(entry));
        if let (Some((oldest, _)), Some(_)) = (reports.next(), reports.next()) {
            return oldest;
        }
        let (mut later, mut victim) = (Vec::new(), 0);
        for (at, entry) in self.0.iter().enumerate().rev() {
            let stage = entry.event.kind.stage();
            if later.contains(&stage) {
                victim = at;
            } else {
                later.push(stage);
            }
        }
        victim
    }

    /// The events, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// What the console showed last, and when that came.
    #[must_use]
    pub fn console(&self) -> Option<(&Console, &Entry)> {
        self.0.iter().rev().find_map(|entry| match &entry.event.kind {
            EventKind::Console(console) => Some((console, entry)),
            _ => None,
        })
    }

    /// The last verdict about the hardware.
    #[must_use]
    pub fn audit(&self) -> Option<&Audit> {
        self.0.iter().rev().find_map(|entry| match &entry.event.kind {
            EventKind::Audit(audit) => Some(audit),
            _ => None,
        })
    }

    /// The rows of all events.
    pub(crate) fn rows(&self) -> impl Iterator<Item = i64> {
        self.0.iter().map(|entry| entry.row)
    }

    /// The time of the last event, in milliseconds since the node's kernel started.
    #[must_use]
    pub fn last_uptime_ms(&self) -> Option<u64> {
        self.0.last().map(|entry| entry.event.uptime_ms)
    }

    /// When each stage was first reported, in order of time.
    #[must_use]
    pub fn stage_times(&self) -> Vec<(&'static str, u64)> {
        let mut times: Vec<(&'static str, u64)> = Vec::new();
        for Entry { event, .. } in self.0.iter().filter(|entry| !entry.event.kind.is_report()) {
            let stage = event.kind.stage();
            if !times.iter().any(|(known, _)| *known == stage) {
                times.push((stage, event.uptime_ms));
            }
        }
        times
    }
}
