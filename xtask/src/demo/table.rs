//! The live table as text. Pure: rows in, lines out.

use proto::event::Sources;

/// One node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) name: String,
    /// Where it is on its way.
    pub(crate) stage: String,
    /// Verified share of the image, once it fetches.
    pub(crate) percent: Option<f64>,
    /// Bytes per second received.
    pub(crate) rate: u64,
    /// Connected peers.
    pub(crate) peers: u32,
    /// Where its bytes came from.
    pub(crate) sources: Sources,
    /// Why nothing moves.
    pub(crate) trouble: Option<String>,
}

const HEAD: &str =
    "node    stage        image                    rate     peers  from admin  peers   web";

/// The table, no higher than the screen (`rows`) leaves room for and no wider than `columns`.
/// Machines come first; process nodes that find no room are counted in one line.
pub(crate) fn table(machines: &[Row], joined: &[Row], rows: usize, columns: usize) -> Vec<String> {
    // the head, the line of the rest, and one line for what is typed below
    let room = rows.saturating_sub(3 + machines.len());
    let shown = if joined.len() <= room + 1 { joined.len() } else { room };
    let mut lines = vec![HEAD.to_owned()];
    lines.extend(machines.iter().chain(&joined[..shown]).map(text));
    if shown < joined.len() {
        lines.push(format!("and {}", crowd(&joined[shown..])));
    }
    lines.into_iter().map(|line| line.chars().take(columns.max(1) - 1).collect()).collect()
}

/// Everything in one line, for logs.
pub(crate) fn line(machines: &[Row], joined: &[Row]) -> String {
    let mut parts: Vec<String> = machines
        .iter()
        .map(|row| match row.percent {
            Some(percent) if percent < 100.0 => {
                format!("{} {} {percent:.0} %", row.name, row.stage)
            }
            _ => format!("{} {}", row.name, row.stage),
        })
        .collect();
    if !joined.is_empty() {
        parts.push(crowd(joined));
    }
    parts.extend(
        machines.iter().chain(joined).filter_map(|row| {
            row.trouble.as_ref().map(|trouble| format!("{}: {trouble}", row.name))
        }),
    );
    parts.join(" | ")
}

fn text(row: &Row) -> String {
    let percent = row.percent.map_or_else(String::new, |p| format!("{} {p:>3.0} %", bar(p)));
    let rate = if row.rate > 0 { megabits(row.rate) } else { String::new() };
    let peers = if row.peers > 0 { row.peers.to_string() } else { String::new() };
    let share = |bytes| if bytes > 0 { megabytes(bytes) } else { "-".to_owned() };
    let sources = if row.sources.total() > 0 {
        let Sources { admin, peers, web } = row.sources;
        format!("{:>8}{:>8}{:>6}", share(admin), share(peers), share(web))
    } else {
        String::new()
    };
    let trouble = row.trouble.as_ref().map_or_else(String::new, |trouble| format!("  ! {trouble}"));
    let line = format!(
        "{:<7} {:<12} {percent:<21} {rate:>11} {peers:>6}  {sources}{trouble}",
        row.name, row.stage
    );
    line.trim_end().to_owned()
}

fn bar(percent: f64) -> String {
    const WIDTH: u32 = 15;
    let full = (0..WIDTH).filter(|cell| f64::from(cell + 1) * 100.0 <= percent * f64::from(WIDTH));
    let full = full.count();
    let empty = usize::try_from(WIDTH).unwrap_or_default() - full;
    format!("{}{}", "#".repeat(full), ".".repeat(empty))
}

/// How a number of nodes is doing, in a few words.
fn crowd(rows: &[Row]) -> String {
    let done = rows.iter().filter(|row| row.percent.is_some_and(|p| p >= 100.0)).count();
    let mut text = format!("{done} of {} nodes have the image", rows.len());
    if done < rows.len() {
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let sum = rows.iter().filter_map(|row| row.percent).fold(0.0, |sum, one| sum + one);
        let mean = sum / f64::from(count);
        let rate: u64 = rows.iter().map(|row| row.rate).sum();
        text.push_str(&format!(", {mean:.0} % on average, {} together", megabits(rate)));
    }
    text
}

/// Bytes per second as megabits per second.
fn megabits(rate: u64) -> String {
    format!("{} Mbit/s", rate.saturating_mul(8) / 1_000_000)
}

/// Bytes as megabytes.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{} MB", (bytes + 500_000) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, percent: f64) -> Row {
        Row { name: name.into(), stage: "fetch".into(), percent: Some(percent), ..Row::default() }
    }

    #[test]
    fn a_row_says_it_all() {
        let row = Row {
            rate: 12_500_000,
            peers: 7,
            sources: Sources { admin: 3_000_000, peers: 40_000_000, web: 0 },
            trouble: Some("no peers".into()),
            ..row("vm1", 50.0)
        };
        let text = text(&row);
        for part in ["vm1", "fetch", "#######........", "50 %", "100 Mbit/s", "3 MB", "no peers"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn the_table_fits_the_screen() {
        let machines = [row("vm1", 1.0), row("vm2", 2.0)];
        let joined: Vec<_> = (0..30).map(|n| row(&format!("node{n}"), 100.0)).collect();
        for rows in 1..60 {
            let lines = table(&machines, &joined, rows, 60);
            assert!(lines.len() <= rows.max(4), "{} lines on {rows} rows", lines.len());
            assert!(lines.iter().all(|line| line.chars().count() < 60));
        }
        assert_eq!(table(&machines, &joined, 40, 200).len(), 33);
        let short = table(&machines, &joined, 10, 200);
        assert!(short.last().unwrap().contains("25 of 25 nodes have the image"), "{short:?}");
    }

    #[test]
    fn a_log_line_names_troubles() {
        let stalled = Row { trouble: Some("tracker silent".into()), ..row("node1", 10.0) };
        let text = line(&[row("vm1", 99.4)], &[stalled, row("node2", 100.0)]);
        assert!(text.contains("vm1 fetch 99 %"), "{text}");
        assert!(text.contains("1 of 2 nodes") && text.contains("node1: tracker silent"), "{text}");
    }
}
