//! The events of one boot, in order, each once.

use std::time::Instant;

use proto::event::{Event, EventKind};

/// One event and when it arrived.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The event.
    pub event: Event,
    /// When it arrived here.
    pub received: Instant,
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
    /// Adds an event; `false` when it is there already. Beyond `limit` the oldest progress report goes,
    /// or else the oldest event.
    pub fn insert(&mut self, event: Event, limit: usize, now: Instant) -> bool {
        let key = place(&event);
        let Err(at) = self.0.binary_search_by_key(&key, |entry| place(&entry.event)) else {
            return false;
        };
        self.0.insert(at, Entry { event, received: now });
        if self.0.len() > limit {
            let progress = |entry: &Entry| matches!(entry.event.kind, EventKind::Fetch(_));
            let victim = self.0.iter().position(progress).unwrap_or(0);
            self.0.remove(victim);
            return victim != at;
        }
        true
    }

    /// The events, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.0
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
        for Entry { event, .. } in &self.0 {
            let stage = event.kind.stage();
            if !times.iter().any(|(known, _)| *known == stage) {
                times.push((stage, event.uptime_ms));
            }
        }
        times
    }
}
