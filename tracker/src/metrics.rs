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
    /// Those of them that were not done: no requests, with a connection id that is not ours, or too many.
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

/// How numbers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0: with units, and an end.
    OpenMetrics,
}

impl Format {
    /// What the reader asks for: OpenMetrics only if it says so.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let open = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
        if open { Self::OpenMetrics } else { Self::Text }
    }

    /// As a content type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a number does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    Gauge,
    /// It is one; the labels say something.
    Info,
}

impl Kind {
    /// What the name of its samples ends with.
    fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Gauge => "",
            Self::Info => "_info",
        }
    }
}

/// Numbers that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Family<'a> {
    /// Name without the suffix that its kind has; ends with the unit, if there is one.
    pub name: &'a str,
    /// What they do.
    pub kind: Kind,
    /// `seconds`, `bytes`, …; empty: a plain number.
    pub unit: &'a str,
    /// For people, in one line.
    pub help: &'a str,
}

/// Writes numbers for Prometheus and all who read its formats.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    text: String,
}

impl Exposition {
    /// Nothing yet.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, text: String::new() }
    }

    /// One family with its values; labels are `name="value"` pairs that need no escaping.
    pub fn family(&mut self, family: Family<'_>, values: &[(String, f64)]) {
        let Family { name, kind, unit, help } = family;
        let (text, suffix) = (&mut self.text, kind.suffix());
        // Writing to a String cannot fail.
        let _ = match self.format {
            // families have the names of their samples there, and no kind for labels alone
            Format::Text => {
                let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
                writeln!(text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}")
            }
            Format::OpenMetrics => {
                let kind = match kind {
                    Kind::Counter => "counter",
                    Kind::Gauge => "gauge",
                    Kind::Info => "info",
                };
                let _ = writeln!(text, "# TYPE {name} {kind}");
                if !unit.is_empty() {
                    let _ = writeln!(text, "# UNIT {name} {unit}");
                }
                writeln!(text, "# HELP {name} {help}")
            }
        };
        for (labels, value) in values {
            let _ = match labels.as_str() {
                "" => writeln!(text, "{name}{suffix} {value}"),
                labels => writeln!(text, "{name}{suffix}{{{labels}}} {value}"),
            };
        }
    }

    /// The finished text.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_have_the_same_samples() {
        let written = |format| {
            let mut out = Exposition::new(format);
            let family = |name, kind, unit| Family { name, kind, unit, help: "Help." };
            out.family(family("x_bytes", Kind::Counter, "bytes"), &[("a=\"b\"".into(), 2.5)]);
            out.family(family("x_build", Kind::Info, ""), &[("v=\"1\"".into(), 1.0)]);
            out.finish()
        };
        assert_eq!(
            written(Format::Text),
            "# HELP x_bytes_total Help.\n# TYPE x_bytes_total counter\nx_bytes_total{a=\"b\"} 2.5\n\
             # HELP x_build_info Help.\n# TYPE x_build_info gauge\nx_build_info{v=\"1\"} 1\n"
        );
        assert_eq!(
            written(Format::OpenMetrics),
            "# TYPE x_bytes counter\n# UNIT x_bytes bytes\n# HELP x_bytes Help.\n\
             x_bytes_total{a=\"b\"} 2.5\n# TYPE x_build info\n# HELP x_build Help.\n\
             x_build_info{v=\"1\"} 1\n# EOF\n"
        );
    }
}
