//! Counters for `/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What happened since the tracker started.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Announces that were answered with peers.
    pub announces: Counter,
    /// Announces that got a failure reason.
    pub announce_failures: Counter,
    /// Scrapes.
    pub scrapes: Counter,
    /// Datagrams that came in over UDP.
    pub datagrams: Counter,
    /// Those of them that got no answer: no requests, or with a connection id that is not ours.
    pub datagrams_dropped: Counter,
    /// Boot scripts handed to nodes.
    pub boot_scripts: Counter,
    /// Boot events taken, repeated ones not counted.
    pub events: Counter,
    /// Batches of events refused because they carry no token.
    pub events_refused: Counter,
    /// Orders without the admin's token.
    pub unauthorized: Counter,
    /// Connections accepted.
    pub connections: Counter,
    /// Connections refused because their address has too many.
    pub connections_refused: Counter,
    responses: Mutex<BTreeMap<u16, u64>>,
}

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metrics {
    /// Counts an HTTP response by its status.
    pub fn response(&self, status: u16) {
        let mut responses = crate::app::lock(&self.responses);
        *responses.entry(status).or_default() += 1;
    }

    /// Responses by status.
    #[must_use]
    pub fn responses(&self) -> BTreeMap<u16, u64> {
        crate::app::lock(&self.responses).clone()
    }
}

/// Writes the Prometheus text format.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// One metric with its values; labels are `name="value"` pairs that need no escaping.
    pub fn metric(&mut self, name: &str, kind: &str, help: &str, values: &[(String, f64)]) {
        let text = &mut self.0;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}");
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = match labels.as_str() {
                "" => writeln!(text, "{name} {value}"),
                labels => writeln!(text, "{name}{{{labels}}} {value}"),
            };
        }
    }

    /// The finished text.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }
}
