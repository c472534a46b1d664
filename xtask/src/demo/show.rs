//! Shows the cluster while it works: in place on a terminal, otherwise a line now and then.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::machine::{Machine, Stage};
use super::process::Joined;
use super::steps::minutes;
use super::table::{Row, line, table};
use super::tracker::Seen;

/// How often a line is written where the table cannot be drawn.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// What is on the screen.
#[derive(Debug)]
pub(crate) struct Show {
    begin: Instant,
    screen: Option<Screen>,
    last_line: Option<Instant>,
}

#[derive(Debug)]
struct Screen {
    rows: usize,
    columns: usize,
    drawn: usize,
}

impl Show {
    /// Nothing yet.
    pub(crate) fn new() -> Show {
        let screen = io::stdout().is_terminal().then(|| {
            let (rows, columns) = screen_size();
            Screen { rows, columns, drawn: 0 }
        });
        Show { begin: Instant::now(), screen, last_line: None }
    }

    /// Draws the state of things.
    pub(crate) fn draw(
        &mut self,
        machines: &[Machine],
        joined: &[Joined],
        seen: &HashMap<String, Seen>,
    ) {
        let machine_rows: Vec<_> =
            machines.iter().map(|machine| machine_row(machine, seen)).collect();
        let joined_rows: Vec<_> = joined.iter().map(|joined| joined_row(joined, seen)).collect();
        let mut out = io::stdout().lock();
        // a closed terminal is no reason to stop
        let _ = match &mut self.screen {
            Some(screen) => {
                let lines = table(&machine_rows, &joined_rows, screen.rows, screen.columns);
                let up = if screen.drawn > 0 {
                    format!("\x1b[{}A", screen.drawn)
                } else {
                    String::new()
                };
                let text: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
                screen.drawn = lines.len();
                write!(out, "{up}{text}\x1b[J")
            }
            None if self.last_line.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) => {
                self.last_line = Some(Instant::now());
                writeln!(
                    out,
                    "{:>6} {}",
                    minutes(self.begin.elapsed()),
                    line(&machine_rows, &joined_rows)
                )
            }
            None => Ok(()),
        };
        let _ = out.flush();
    }

    /// Leaves the table where it is; what is written next comes under it.
    pub(crate) fn finish(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.drawn = 0;
        }
        self.last_line = None;
    }
}

fn machine_row(machine: &Machine, seen: &HashMap<String, Seen>) -> Row {
    let node = machine.node();
    let heard = seen.get(node.mac());
    let mut row = row(node.name(), heard);
    // the console knows more than the tracker before the client speaks and after it has ended
    let latest = machine.latest();
    match (row.stage.as_str(), latest) {
        ("" | "netboot" | "handover", Some(stage)) => row.stage = stage.label().to_owned(),
        ("" | "netboot", None) => row.stage = "power on".to_owned(),
        _ => {}
    }
    if latest.is_some_and(|stage| stage >= Stage::Fetched) {
        row.percent = Some(100.0);
    }
    row
}

fn joined_row(joined: &Joined, seen: &HashMap<String, Seen>) -> Row {
    let mut row = row(joined.node().name(), seen.get(joined.node().mac()));
    if row.stage.is_empty() {
        row.stage = "starting".to_owned();
    }
    if let Some(complete) = joined.complete() {
        row.percent = Some(100.0);
        row.rate = 0;
        row.sources = complete.sources;
        row.stage = "seeding".to_owned();
    }
    row
}

fn row(name: &str, seen: Option<&Seen>) -> Row {
    let Some(seen) = seen else {
        return Row { name: name.to_owned(), ..Row::default() };
    };
    let stall = seen.stall.as_ref().map(|stall| stall.detail.clone());
    Row {
        name: name.to_owned(),
        stage: seen.stage.clone(),
        percent: (seen.stage != "netboot").then_some(seen.percent),
        rate: seen.rate,
        peers: seen.peers,
        sources: seen.sources,
        trouble: stall.or_else(|| seen.waits.clone()).or_else(|| seen.failed.clone()),
    }
}

/// Rows and columns of the terminal; what is usual when it will not say.
fn screen_size() -> (usize, usize) {
    let output = Command::new("stty").arg("size").stdin(Stdio::inherit()).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(rows), Some(columns)) if rows > 0 && columns > 0 => (rows, columns),
        _ => (24, 80),
    }
}
