//! What the program prints: results on stdout, progress and errors on stderr.

use std::io::{self, IsTerminal as _, Write as _};

use packer::event::Event;
use proto::units::ByteSize;
use serde::Serialize;

/// One line on stdout. A reader that went away is no error.
pub(crate) fn line(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// One JSON object on stdout.
pub(crate) fn json(value: &impl Serialize) {
    // maps with text keys only: serialising cannot fail
    line(&serde_json::to_string(value).unwrap_or_default());
}

/// The final error: always as text on stderr, and as an event with `--json`.
pub(crate) fn error(as_json: bool, error: &anyhow::Error) {
    if as_json {
        json(&serde_json::json!({ "event": "error", "text": format!("{error:#}") }));
    }
    let _ = writeln!(io::stderr().lock(), "bee-packer: {error:#}");
}

/// Something to know, on stderr.
pub(crate) fn warn(text: &str) {
    let _ = writeln!(io::stderr().lock(), "bee-packer: {text}");
}

/// Shows events as they come: as lines of JSON, and to a person at a terminal as a bar.
pub(crate) struct Progress {
    to: To,
}

/// Where events go.
#[derive(Clone, Copy)]
enum To {
    /// stdout, as JSON, between the results: `--json`.
    Results,
    /// stderr, as a line that is rewritten, which makes sense on a terminal only.
    Bar,
    /// stderr, as JSON: whoever reads it is a program, or looks at it later.
    Log,
}

impl Progress {
    pub(crate) fn new(json: bool) -> Self {
        let to = match (json, io::stderr().is_terminal()) {
            (true, _) => To::Results,
            (false, true) => To::Bar,
            (false, false) => To::Log,
        };
        Self { to }
    }

    pub(crate) fn event(&self, event: &Event) {
        match self.to {
            To::Results => json(event),
            To::Bar => show(event),
            // as in `json`, it cannot fail
            To::Log => {
                let text = serde_json::to_string(event).unwrap_or_default();
                let _ = writeln!(io::stderr().lock(), "{text}");
            }
        }
    }
}

/// Writes over the line that the last event left.
fn show(event: &Event) {
    const CLEAR: &str = "\r\x1b[K";
    let mut err = io::stderr().lock();
    let _ = match event {
        Event::Stage { stage } => write!(err, "{}", stage.describe()),
        Event::Progress { stage, percent, written, rate, remaining_s, .. } => {
            let written =
                written.map_or_else(String::new, |w| format!(", {} written", ByteSize(w)));
            let left = remaining_s.map_or_else(String::new, |s| format!(", {} left", time(s)));
            let (stage, bar, rate) = (stage.describe(), bar(*percent), ByteSize(*rate));
            write!(err, "{CLEAR}{stage} {bar} {percent} %, {rate}/s{written}{left}")
        }
        Event::Done { stage, elapsed_ms } => {
            let (seconds, tenths) = (elapsed_ms / 1000, elapsed_ms % 1000 / 100);
            writeln!(err, "{CLEAR}{}: {seconds}.{tenths} s", stage.describe())
        }
        // the error names them
        Event::Secret { allowed: false, .. } => Ok(()),
        Event::Secret { finding, .. } => {
            let (path, kind) = (&finding.path, finding.kind.describe());
            writeln!(err, "{CLEAR}warning: {path} is packed: {kind} (--allow-secret)")
        }
        Event::Warning { text } => writeln!(err, "{CLEAR}warning: {text}"),
    };
    let _ = err.flush();
}

/// A tenth of the way is one mark.
fn bar(percent: u8) -> String {
    let done = usize::from(percent.min(100) / 10);
    format!("[{}{}]", "#".repeat(done), "-".repeat(10 - done))
}

/// `12 s`, `3 min 05 s`.
fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        _ => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_for_people() {
        assert_eq!(
            (bar(0), bar(59), bar(100)),
            ("[----------]".into(), "[#####-----]".into(), "[##########]".into())
        );
        assert_eq!((time(59), time(185)), ("59 s".into(), "3 min 05 s".into()));
    }
}
