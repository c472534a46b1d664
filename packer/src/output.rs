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

/// Shows events as they come.
pub(crate) struct Progress {
    json: bool,
    /// A line that is rewritten makes sense on a terminal only.
    terminal: bool,
}

impl Progress {
    pub(crate) fn new(json: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { json, terminal }
    }

    pub(crate) fn event(&self, event: &Event) {
        if self.json {
            return json(event);
        }
        let mut err = io::stderr().lock();
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        let _ = match event {
            Event::Stage { stage } => {
                if self.terminal {
                    write!(err, "{}", stage.describe())
                } else {
                    writeln!(err, "{} ...", stage.describe())
                }
            }
            Event::Progress { stage, percent, written, rate, remaining_s, .. } if self.terminal => {
                let written =
                    written.map_or_else(String::new, |w| format!(", {} written", ByteSize(w)));
                let left = remaining_s.map_or_else(String::new, |s| format!(", {} left", time(s)));
                let (stage, bar, rate) = (stage.describe(), bar(*percent), ByteSize(*rate));
                write!(err, "{clear}{stage} {bar} {percent} %, {rate}/s{written}{left}")
            }
            Event::Progress { .. } => Ok(()),
            Event::Done { stage, elapsed_ms } => {
                let (seconds, tenths) = (elapsed_ms / 1000, elapsed_ms % 1000 / 100);
                writeln!(err, "{clear}{}: {seconds}.{tenths} s", stage.describe())
            }
            // the error names them
            Event::Secret { allowed: false, .. } => Ok(()),
            Event::Secret { finding, .. } => {
                let (path, kind) = (&finding.path, finding.kind.describe());
                writeln!(err, "{clear}warning: {path} is packed: {kind} (--allow-secret)")
            }
            Event::Warning { text } => writeln!(err, "{clear}warning: {text}"),
        };
        let _ = err.flush();
    }
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
