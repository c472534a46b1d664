//! The demo's steps, said as they begin, and timed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::workspace::say;

/// Steps done so far.
#[derive(Debug)]
pub(crate) struct Steps {
    begin: Instant,
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    /// None yet; the clock runs from `begin`.
    pub(crate) fn new(begin: Instant) -> Steps {
        Steps { begin, done: Vec::new() }
    }

    /// Does one step.
    pub(crate) fn run<T>(
        &mut self,
        title: &'static str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        say(format_args!("[{}] {title}", minutes(self.begin.elapsed())));
        let start = Instant::now();
        let result = work().context(title);
        self.done.push((title, start.elapsed()));
        result
    }

    /// Title and duration of each step done, failed ones too.
    pub(crate) fn done(&self) -> &[(&'static str, Duration)] {
        &self.done
    }

    /// Since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }
}

/// A duration as minutes and seconds: `2:05`.
pub(crate) fn minutes(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// A note under a step.
pub(crate) fn note(text: impl std::fmt::Display) {
    say(format_args!("       {text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_a_clock() {
        assert_eq!(minutes(Duration::from_secs(125)), "2:05");
        assert_eq!(minutes(Duration::ZERO), "0:00");
    }

    #[test]
    fn a_failed_step_is_named_and_counted() {
        let mut steps = Steps::new(Instant::now());
        let result: Result<()> = steps.run("Flying", || anyhow::bail!("no wings"));
        assert_eq!(format!("{:#}", result.unwrap_err()), "Flying: no wings");
        assert_eq!(steps.done().len(), 1);
    }
}
