//! Named steps with a time and a result each, and the summary at the end: what `check`, `test` and
//! `dist` print.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::workspace::say;

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As it should; the notes are worth reading all the same.
    Passed {
        /// Lines for people.
        notes: Vec<String>,
    },
    /// Not as it should: what is wrong, one entry per finding.
    Failed {
        /// Findings; an entry may have several lines.
        problems: Vec<String>,
    },
}

impl Outcome {
    /// Passed when there are no problems.
    pub(crate) fn of(problems: Vec<String>) -> Outcome {
        match problems.is_empty() {
            true => Outcome::Passed { notes: Vec::new() },
            false => Outcome::Failed { problems },
        }
    }
}

/// The steps that have run.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration, Outcome)>,
    /// Whether each step is printed when it ends.
    quiet: bool,
}

impl Steps {
    /// Runs a step, and prints its name, result and time.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> anyhow::Result<Outcome>) {
        let started = Instant::now();
        let outcome =
            step().unwrap_or_else(|error| Outcome::Failed { problems: vec![format!("{error:#}")] });
        let took = started.elapsed();
        if !self.quiet {
            let (Outcome::Passed { notes: lines } | Outcome::Failed { problems: lines }) = &outcome;
            say(line(name, took, &outcome));
            lines.iter().for_each(|text| say(indented(text)));
        }
        self.done.push((name.to_owned(), took, outcome));
    }

    /// Whether a step with this name has failed.
    pub(crate) fn has_failed(&self, name: &str) -> bool {
        self.done.iter().any(|(n, _, o)| n == name && matches!(o, Outcome::Failed { .. }))
    }

    /// Number of steps that failed.
    pub(crate) fn failed(&self) -> usize {
        self.done.iter().filter(|(_, _, o)| matches!(o, Outcome::Failed { .. })).count()
    }

    /// Number of steps that passed.
    pub(crate) fn passed(&self) -> usize {
        self.done.len() - self.failed()
    }

    /// Prints every step with its time.
    pub(crate) fn print_table(&self) {
        say("");
        self.done.iter().for_each(|(name, took, outcome)| say(line(name, *took, outcome)));
    }

    /// Prints the failures again, with what was wrong in each.
    pub(crate) fn print_failures(&self) {
        for (name, _, outcome) in &self.done {
            if let Outcome::Failed { problems } = outcome {
                say(format_args!("\n{name} failed:"));
                problems.iter().for_each(|problem| say(indented(problem)));
            }
        }
    }
}

fn line(name: &str, took: Duration, outcome: &Outcome) -> String {
    let (word, colour) = match outcome {
        Outcome::Passed { .. } => ("ok  ", "32"),
        Outcome::Failed { .. } => ("FAIL", "31"),
    };
    let word = match std::io::stdout().is_terminal() {
        true => format!("\x1b[{colour}m{word}\x1b[0m"),
        false => word.to_owned(),
    };
    format!("{word} {:>7.1} s  {name}", took.as_secs_f64())
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("     {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_errors_and_findings_as_failures() {
        let mut steps = Steps { quiet: true, ..Steps::default() };
        steps.run("good", || Ok(Outcome::of(vec![])));
        steps.run("bad", || Ok(Outcome::of(vec!["wrong".into()])));
        steps.run("broken", || anyhow::bail!("cannot run"));
        assert_eq!((steps.passed(), steps.failed()), (1, 2));
        assert!(steps.has_failed("bad") && steps.has_failed("broken") && !steps.has_failed("good"));
    }
}
