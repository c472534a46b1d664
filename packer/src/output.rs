//! What the program prints: results on stdout, progress and errors on stderr.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use packer::event::{Event, Stage};
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
    shown: RefCell<Option<(Stage, Instant)>>,
}

impl Progress {
    pub(crate) fn new(json: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { json, terminal, shown: RefCell::new(None) }
    }

    pub(crate) fn event(&self, event: &Event) {
        if self.json {
            return json(event);
        }
        let mut err = io::stderr().lock();
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        let _ = match event {
            Event::Stage { stage } => {
                *self.shown.borrow_mut() = Some((*stage, Instant::now()));
                if self.terminal {
                    write!(err, "{}", stage.describe())
                } else {
                    writeln!(err, "{} ...", stage.describe())
                }
            }
            Event::Progress { stage, percent } if self.terminal => {
                let left = self
                    .remaining(*stage, *percent)
                    .map_or_else(String::new, |left| format!(", {} s left", left.as_secs()));
                write!(err, "{clear}{} {percent} %{left}", stage.describe())
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

    /// By the time taken so far; none before there is something to judge by.
    fn remaining(&self, stage: Stage, percent: u8) -> Option<Duration> {
        let (shown, start) = (*self.shown.borrow())?;
        (shown == stage && percent >= 5)
            .then(|| start.elapsed() * u32::from(100 - percent.min(100)) / u32::from(percent))
    }
}
