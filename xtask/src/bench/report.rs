//! Results for people: lines while it runs, a table in Markdown at the end.

use std::fmt::Write as _;
use std::io::Write as _;

use lab::BitRate;
use proto::units::ByteSize;

use super::downlink::{self, BUSY, Seconds};
use super::goals::{Goal, Verdict};
use super::options::Settings;
use super::outcome::{Case, RunResult};
use super::summary::Summary;

/// Said of a run in which the processors were the limit.
pub(crate) const CPU_BOUND: &str = "CPU-bound: the links were not the limit";

/// A combination that was not measured.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Skipped {
    pub(crate) client: String,
    #[serde(flatten)]
    pub(crate) case: Case,
    /// Why it makes no sense, or why it could not be.
    pub(crate) reason: String,
    /// Whether it was tried.
    pub(crate) failed: bool,
}

/// Prints a line about what is going on.
pub(crate) fn progress(line: &str) {
    // a closed terminal is no reason to end a measurement
    let _ = writeln!(std::io::stderr(), "bench: {line}");
}

/// One run in a few lines.
pub(crate) fn lines(run: &RunResult) -> String {
    let mut text = format!(
        "{:<12} {}/{} done, ratio {} (median node {}), admin sent {:.2} images, \
         {:.1} CPU s/GB, idle {:.0} %",
        run.client,
        run.done(),
        run.members.len(),
        number(run.ratio()),
        number(run.median_ratio()),
        run.admin_images,
        run.cpu_per_gb(),
        run.machine.idle * 100.0,
    );
    let mut note = |line: &str| {
        // writing to a String cannot fail
        let _ = write!(text, "\n       {line}");
    };
    if run.wrong > 0 {
        note(&format!("{} nodes have WRONG bytes", run.wrong));
    }
    if run.machine.is_cpu_bound() {
        note(CPU_BOUND);
    }
    if let Some(overflows @ 1..) = run.neighbour_overflows {
        note(&format!("the machine's neighbour table was full {overflows} times: no result"));
    }
    if let Some(seconds) = run.downlink() {
        note(&format!("a downlink idled {}", idle(&seconds)));
    }
    run.notes.iter().for_each(|line| note(line));
    text
}

/// Seconds by cause, in a line.
fn idle(seconds: &Seconds) -> String {
    let ranked = downlink::ranked(seconds);
    let all: f64 = ranked.iter().map(|(_, spent)| spent).sum();
    let parts: Vec<String> =
        ranked.iter().map(|(cause, spent)| format!("{cause} {spent:.2}")).collect();
    format!("{all:.2} s: {}", parts.join(", "))
}

/// The circumstances of a case, for headings.
pub(crate) fn heading(case: Case, settings: &Settings) -> String {
    let mut text = format!(
        "{}: {} nodes, {} links, image {}, pieces {}",
        case.scenario,
        case.nodes,
        BitRate::from_bits(case.bits_per_second),
        settings.image,
        settings.piece
    );
    if !settings.delay.is_zero() {
        let _ = write!(text, ", delay {:?}", settings.delay);
    }
    if settings.loss != lab::Loss::NONE {
        let _ = write!(text, ", loss {}", settings.loss);
    }
    if !settings.jitter.is_zero() {
        let _ = write!(text, ", starts spread over {:?}", settings.jitter);
    }
    text
}

/// All tables, in Markdown.
pub(crate) fn markdown(
    settings: &Settings,
    rows: &[Summary],
    skipped: &[Skipped],
    goals: &[Goal],
) -> String {
    let mut text = String::from(
        "Ratio: from a node's start to its completion, divided by image ÷ link rate; of the last node \
         (median of the runs; best–worst run) and of the median node. Done: nodes of all runs; who has \
         no swarm, or had no node done, was run once. Admin: bytes that left the admin host, headers \
         included, in images. Duplicates: mean share of the image that a node \
         got twice or wrong; for clients that do not count it, all that its interface received less \
         one image, headers included, as an upper bound (≤).\n",
    );
    for case in &settings.cases {
        let _ = write!(
            text,
            "\n### {}\n\n\
             | client | done | ratio: last | median node | others | admin | duplicates | \
             CPU s/GB (user + system) | idle | memory | TCP again | remarks |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|\n",
            heading(*case, settings)
        );
        for row in rows.iter().filter(|row| row.case == *case) {
            let _ = writeln!(text, "{}", table_row(row));
        }
        for skip in skipped.iter().filter(|skip| skip.case == *case) {
            let dashes = " – |".repeat(10);
            let what = if skip.failed { "**failed**" } else { "not applicable" };
            let _ = writeln!(text, "| {} |{dashes} {what}: {} |", skip.client, skip.reason);
        }
        rows.iter().filter(|row| row.case == *case).for_each(|row| downlink_table(row, &mut text));
        let mut goals = goals.iter().filter(|goal| goal.case == *case).peekable();
        if goals.peek().is_some() {
            text.push_str("\n| goal | wanted | measured | |\n|---|---|---|---|\n");
        }
        for goal in goals {
            let verdict = match goal.verdict {
                Verdict::Met => "met",
                Verdict::Missed => "**missed**",
            };
            let _ =
                writeln!(text, "| {} | {} | {} | {verdict} |", goal.what, goal.wanted, goal.got);
        }
    }
    text
}

/// Where the time of a node's downlink went, for a client that tells.
fn downlink_table(row: &Summary, text: &mut String) {
    let Some(seconds) = &row.downlink else { return };
    let all: f64 = seconds.values().sum();
    let _ = write!(
        text,
        "\n| {}: downlink of a node until it is done, mean | s | share |\n|---|---|---|\n",
        row.client
    );
    let mut line = |what: &str, spent: f64| {
        // writing to a String cannot fail
        let _ = writeln!(text, "| {what} | {spent:.2} | {:.1} % |", 100.0 * spent / all);
    };
    line(BUSY, seconds.get(BUSY).copied().unwrap_or(0.0));
    for (cause, spent) in downlink::ranked(seconds) {
        line(cause, spent);
    }
    if let Some(waited) = row.cpu_wait {
        line("meanwhile: ready, and waiting for a processor", waited);
    }
}

fn table_row(row: &Summary) -> String {
    let mut remarks = Vec::new();
    if row.wrong > 0 {
        remarks.push(format!("**{} nodes with wrong bytes**", row.wrong));
    }
    match row.cpu_bound_runs {
        0 => {}
        all if all == row.runs => remarks.push(CPU_BOUND.to_owned()),
        some => remarks.push(format!("{CPU_BOUND} in {some} of {} runs", row.runs)),
    }
    if let Some(overflows @ 1..) = row.neighbour_overflows {
        remarks.push(format!("neighbour table full {overflows} times"));
    }
    if row.listen_overflows > 0.0 {
        remarks.push(format!("{:.0} listen overflows", row.listen_overflows));
    }
    let range = match row.range {
        Some((best, worst)) if row.runs > 1 => format!(" ({best:.2}–{worst:.2})"),
        _ => String::new(),
    };
    let special =
        row.special.map_or("–".to_owned(), |(role, ratio)| format!("{role} {}", number(ratio)));
    let duplicates = match (row.duplicates, row.received_images) {
        (Some(share), _) => format!("{:.2} %", share * 100.0),
        (None, Some(images)) => format!("≤ {:.1} %", (images - 1.0).max(0.0) * 100.0),
        (None, None) => "–".to_owned(),
    };
    format!(
        "| {} | {} | **{}**{range} | {} | {special} | {:.2} | {duplicates} | \
         {:.1} ({:.1} + {:.1}) | {:.0} % | {} | {:.0} | {} |",
        row.client,
        match row.unfinished {
            0 => format!("all {}", row.expected),
            some => format!("{some} of {} not", row.expected),
        },
        number(row.ratio),
        number(row.median_node),
        row.admin_images,
        row.cpu_per_gb(),
        row.cpu_user_per_gb,
        row.cpu_system_per_gb,
        row.idle * 100.0,
        ByteSize(row.anonymous),
        row.retransmits,
        remarks.join("; "),
    )
}

pub(crate) fn number(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.2}"))
}

#[cfg(test)]
mod tests {
    use super::super::goals::goals;
    use super::super::options::tests::settings;
    use super::super::outcome::tests::{case, node, run};
    use super::super::scenario::{Role, Scenario};
    use super::super::summary::summaries;
    use super::*;

    #[test]
    fn every_row_of_a_table_has_its_columns() {
        let settings =
            settings("--nodes 30 --rate 25Mbit --scenario slow-tenth,seeder-dies").unwrap();
        let mut one = run("beeswarm", case(Scenario::SlowTenth, 30), &[1.1, 1.2]);
        one.members.push(node(Role::Slow, Some(1.4)));
        one.machine.idle = 0.05;
        one.members[0].downlink =
            Some(Seconds::from([(BUSY.to_owned(), 4.5), ("choked".to_owned(), 0.5)]));
        assert!(lines(&one).contains("idled 0.50 s: choked 0.50"), "{}", lines(&one));
        let mut two = run("ctorrent", case(Scenario::SlowTenth, 30), &[3.0]);
        two.members.push(node(Role::Plain, None));
        two.members.iter_mut().for_each(|node| node.duplicates = None);
        let skipped = [Skipped {
            client: "nginx".to_owned(),
            case: case(Scenario::SeederDies, 30),
            reason: "no server, no image".to_owned(),
            failed: false,
        }];
        let rows = summaries(&[one, two]);
        let text = markdown(&settings, &rows, &skipped, &goals(&rows));
        for table in text.split("\n\n").filter(|part| part.starts_with('|')) {
            let columns: Vec<usize> = table.lines().map(|l| l.matches('|').count()).collect();
            assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{table}");
        }
        for part in [
            "slow-tenth: 30 nodes, 25Mbit links",
            "slow 1.40",
            CPU_BOUND,
            "≤ 5.0 %",
            "1 of 2 not",
            "not applicable: no server",
            "| met |",
            "| choked | 0.50 | 10.0 % |",
            "waiting for a processor | 0.25 | 5.0 % |",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_run_says_when_it_is_no_result() {
        let mut run = run("beeswarm", case(Scenario::FlashCrowd, 2), &[1.1, 1.2]);
        assert!(!lines(&run).contains('\n'), "nothing to remark");
        run.machine.idle = 0.1;
        run.neighbour_overflows = Some(3);
        run.wrong = 1;
        let text = lines(&run);
        for part in [CPU_BOUND, "full 3 times", "WRONG"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
