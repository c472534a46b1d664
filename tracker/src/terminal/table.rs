//! Nodes as lines of a terminal.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use proto::event::Sources;
use serde::Deserialize;

use crate::http::figures::{bytes, rate};

/// Colours, as SGR parameters.
pub(super) const RED: &str = "31";
const GREEN: &str = "32";
const BLUE: &str = "34";
const BOLD: &str = "1";
const DIM: &str = "2";

/// Columns of what is no terminal: nothing is cut there that people read by other programs.
const WIDE: usize = 500;

/// How much room there is, and whether there are colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    columns: usize,
    /// `None`: endless.
    rows: Option<usize>,
    colours: bool,
}

/// A node of `/api/v1/nodes`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct NodeLine {
    id: String,
    name: Option<String>,
    rack: Option<String>,
    stage: String,
    percent: f64,
    rate: u64,
    peers: u32,
    sources: Sources,
    revision: Option<String>,
    trouble: Option<Cause>,
    last_seen_ms: u64,
}

/// What is wrong.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Cause {
    cause: String,
    detail: String,
    remedy: String,
}

/// A node of `/api/v1/stalled`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct StalledLine {
    name: String,
    stage: String,
    #[serde(flatten)]
    trouble: Cause,
    last_seen_ms: Option<u64>,
}

impl Screen {
    /// Standard output of this process.
    pub(super) fn of_this_process() -> Self {
        let out = std::io::stdout();
        if !out.is_terminal() {
            return Self { columns: WIDE, rows: None, colours: false };
        }
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let size = rustix::termios::tcgetwinsize(&out).ok().filter(|size| size.ws_col > 0);
        Self {
            columns: size.map_or(80, |size| usize::from(size.ws_col)),
            rows: size.map(|size| usize::from(size.ws_row)),
            colours: !set("NO_COLOR") && !dumb,
        }
    }

    pub(super) fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Lines for a table, below some and above one.
    fn room(&self, others: usize) -> usize {
        self.rows.map_or(usize::MAX, |rows| rows.saturating_sub(others + 1).max(1))
    }
}

/// The nodes, those in trouble before the others.
pub(super) fn nodes(mut all: Vec<NodeLine>, screen: &Screen) -> String {
    all.sort_by_cached_key(|node| (node.trouble.is_none(), crate::fleet::natural(&label(node))));
    let mut stages: BTreeMap<&str, usize> = BTreeMap::new();
    all.iter().for_each(|node| *stages.entry(&node.stage).or_default() += 1);
    let up = stages.remove("seeding").unwrap_or(0);
    let stuck = all.iter().filter(|node| node.trouble.is_some()).count();
    let together: u64 = all.iter().map(|node| node.rate).sum();
    let mut summary = screen.paint(BOLD, &format!("{up} of {} up", all.len()));
    if stuck > 0 {
        summary.push_str(&screen.paint(RED, &format!(", {stuck} in trouble")));
    }
    for (stage, count) in &stages {
        summary.push_str(&format!(", {count} {stage}"));
    }
    summary.push_str(&format!("; {} together\n", rate(together)));
    let shown = all.len().min(screen.room(3));
    let head = [
        "NODE",
        "RACK",
        "STAGE",
        "DONE",
        "RATE",
        "PEERS",
        "RECEIVED FROM",
        "REVISION",
        "HEARD",
        "TROUBLE",
    ];
    let rows = all.iter().take(shown).map(|node| {
        let fetching = node.stage == "fetch";
        let when = |text: String| if fetching { text } else { String::new() };
        let colour = match (&node.trouble, node.stage.as_str()) {
            (Some(_), _) => RED,
            (None, "seeding") => GREEN,
            (None, "fetch") => BLUE,
            (None, _) => "",
        };
        let cells = [
            label(node),
            node.rack.clone().unwrap_or_default(),
            node.stage.clone(),
            // 100 is complete, not nearly
            format!("{:.1} %", (node.percent * 10.0).floor() / 10.0),
            when(rate(node.rate)),
            when(node.peers.to_string()),
            received(node.sources),
            node.revision.clone().unwrap_or_default(),
            ago(Some(node.last_seen_ms)),
            node.trouble.as_ref().map(|t| format!("{}: {}", t.cause, t.detail)).unwrap_or_default(),
        ];
        (colour, cells)
    });
    let mut text = summary + &table(&head, rows.collect(), screen);
    more(&mut text, all.len() - shown, screen);
    text
}

/// Who needs somebody's eye, with what to do.
pub(super) fn stalled(all: &[StalledLine], screen: &Screen) -> String {
    if all.is_empty() {
        return screen.paint(GREEN, "nobody needs attention") + "\n";
    }
    let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
    all.iter().for_each(|node| *causes.entry(&node.trouble.cause).or_default() += 1);
    let counts: Vec<String> = causes.iter().map(|(cause, n)| format!("{n} {cause}")).collect();
    let summary =
        screen.paint(BOLD, &format!("{} in trouble: {}", all.len(), counts.join(", "))) + "\n";
    let shown = all.len().min(screen.room(3));
    let head = ["NODE", "STAGE", "HEARD", "CAUSE", "WHAT IS KNOWN", "WHAT TO DO"];
    let rows = all.iter().take(shown).map(|node| {
        let Cause { cause, detail, remedy } = node.trouble.clone();
        let cells =
            [node.name.clone(), node.stage.clone(), ago(node.last_seen_ms), cause, detail, remedy];
        (RED, cells)
    });
    let mut text = summary + &table(&head, rows.collect(), screen);
    more(&mut text, all.len() - shown, screen);
    text
}

fn more(text: &mut String, count: usize, screen: &Screen) {
    if count > 0 {
        text.push_str(&screen.paint(DIM, &format!("… and {count} more")));
        text.push('\n');
    }
}

fn label(node: &NodeLine) -> String {
    node.name.clone().unwrap_or_else(|| node.id.clone())
}

fn received(from: Sources) -> String {
    let parts = [("peers", from.peers), ("admin", from.admin), ("web", from.web)];
    let some = parts.iter().filter(|(_, part)| *part > 0);
    some.map(|(name, part)| format!("{name} {}", bytes(*part))).collect::<Vec<_>>().join(", ")
}

fn ago(milliseconds: Option<u64>) -> String {
    match milliseconds.map(|ms| ms / 1000) {
        None => "never".to_owned(),
        Some(seconds @ ..120) => format!("{seconds} s"),
        Some(seconds @ ..7200) => format!("{} min", seconds / 60),
        Some(seconds) => format!("{} h", seconds / 3600),
    }
}

/// Columns as wide as what is in them; what is wider than the screen is cut, colours are put around
/// whole lines afterwards.
fn table<const N: usize>(
    head: &[&str; N],
    rows: Vec<(&str, [String; N])>,
    screen: &Screen,
) -> String {
    let mut widths = head.map(str::len);
    for (_, cells) in &rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    // a column in which nobody has anything takes no room
    let empty: [bool; N] =
        std::array::from_fn(|at| !rows.is_empty() && rows.iter().all(|(_, c)| c[at].is_empty()));
    let line = |cells: &[String; N]| {
        let mut line = String::new();
        for (at, (cell, width)) in
            cells.iter().zip(widths).enumerate().filter(|(at, _)| !empty[*at])
        {
            // what nodes say may hold anything
            let cell: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            line.push_str(&if at + 1 == N { cell } else { format!("{cell:width$}  ") });
        }
        line.trim_end().chars().take(screen.columns).collect::<String>()
    };
    let mut text = screen.paint(DIM, &line(&head.map(str::to_owned))) + "\n";
    for (colour, cells) in &rows {
        let line = line(cells);
        text.push_str(&if colour.is_empty() { line } else { screen.paint(colour, &line) });
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, stage: &str, trouble: Option<&str>) -> serde_json::Value {
        let trouble =
            trouble.map(|detail| json!({ "cause": "no-data", "detail": detail, "remedy": "wait" }));
        json!({ "id": "52:54:00:00:00:01", "name": name, "rack": null, "stage": stage, "percent": 99.99,
            "rate": 0, "peers": 3, "sources": { "admin": 0, "peers": 5, "web": 0 }, "revision": null,
            "trouble": trouble, "last_seen_ms": 14_400, "newer": 1 })
    }

    fn lines(all: serde_json::Value, columns: usize, rows: Option<usize>, colours: bool) -> String {
        let all = serde_json::from_value(all).unwrap();
        nodes(all, &Screen { columns, rows, colours })
    }

    #[test]
    fn trouble_comes_first_then_names_as_people_order_them() {
        let all = json!([
            node("n10", "seeding", None),
            node("n2", "fetch", None),
            node("n9", "fetch", Some("14 peers, none sends\u{1b}[2J")),
        ]);
        let text = lines(all, 200, None, false);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("1 of 3 up, 1 in trouble, 2 fetch; 0 bit/s together"));
        let head = lines.next().unwrap();
        assert!(head.starts_with("NODE  STAGE") && !head.contains("RACK"), "{head}");
        let order: Vec<_> = lines.map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(order, ["n9", "n2", "n10"]);
        assert!(text.contains("no-data: 14 peers, none sends [2J"), "{text}");
        assert!(text.contains("99.9 %") && text.contains("14 s") && !text.contains('\u{1b}'));
    }

    #[test]
    fn it_fits_the_screen() {
        let all: Vec<_> = (0..50).map(|n| node(&format!("n{n}"), "fetch", Some("x"))).collect();
        let text = lines(json!(all), 40, Some(12), true);
        assert_eq!(text.lines().count(), 11, "{text}");
        assert!(text.ends_with("… and 42 more\u{1b}[0m\n"), "{text}");
        for line in text.lines().skip(1) {
            let line = line.split("m").skip(1).collect::<Vec<_>>().join("m");
            assert!(line.trim_end_matches("\u{1b}[0m").chars().count() <= 40, "{line:?}");
        }
        assert!(text.contains("\u{1b}[31mn0"));
    }

    #[test]
    fn who_is_stuck_has_a_remedy() {
        let all = json!([{ "id": "52:54:00:00:00:01", "name": "n7", "stage": "absent", "cause": "not-asked",
            "detail": "told 400 s ago", "remedy": "switch it on", "last_seen_ms": null }]);
        let all: Vec<StalledLine> = serde_json::from_value(all).unwrap();
        let screen = Screen { columns: 200, rows: None, colours: false };
        let text = stalled(&all, &screen);
        assert!(text.starts_with("1 in trouble: 1 not-asked\n"), "{text}");
        assert!(text.contains("never  not-asked  told 400 s ago  switch it on"), "{text}");
        assert_eq!(stalled(&[], &screen), "nobody needs attention\n");
    }
}
