//! `cargo xtask bench tracker`: announces per second and memory, beside opentracker and aquatic.
//!
//! Each tracker has processor 0 for itself, the load has the others, and all are measured in turn in one
//! run. What is compared is answers per second of the tracker's *own processor time*: that is what one core
//! could do, and it stays nearly the same when something else runs on the machine or the load is the
//! slower side; answers per second by the clock are told, too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Parser;
use proto::units::ByteSize;
use serde::Serialize;

use super::facts::Facts;
use super::places::Places;
use super::{publish, report, stats};
use crate::workspace;

mod contender;
mod crowd;
mod load;
mod tester;

use contender::{Contender, Running};
use crowd::{Crowded, Shape};
use load::{Crowd, Until, Way};
use tester::Tested;

/// Goals of the project.
const HTTP_GOAL: f64 = 0.5;
const UDP_GOAL: f64 = 0.5;

/// Arguments of `cargo xtask bench tracker`.
#[derive(Debug, Parser)]
pub(crate) struct TrackerArgs {
    /// Peers, all torrents together
    #[arg(long, default_value_t = 100_000)]
    peers: usize,
    /// Torrents, 1000 at most
    #[arg(long, default_value_t = 100)]
    torrents: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Measurements of each tracker, in turn; the result has the medians
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Only the crowds of nodes, without announces as fast as they are taken
    #[arg(long)]
    only_crowds: bool,
    /// Only announces as fast as they are taken, without the crowds of nodes
    #[arg(long, conflicts_with = "only_crowds")]
    without_crowds: bool,
    /// Leaves aquatic out, which is built by cargo the first time
    #[arg(long)]
    without_aquatic: bool,
    /// Where the programs of Beeswarm are; built in release mode when not given
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Folder for logs and results
    #[arg(long, default_value = "target/bench/tracker")]
    output: PathBuf,
    /// Keeps the results as docs/bench/NAME
    #[arg(long, value_name = "NAME")]
    publish: Option<String>,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
struct Run {
    tracker: Contender,
    way: Way,
    /// Answers per second by the clock.
    rate: f64,
    /// Answers per second of the tracker's processor time.
    per_core: f64,
    /// Share of a processor that the tracker used.
    busy: f64,
    /// Peers per answer.
    peers: f64,
    /// Questions without an answer, of a thousand.
    lost: f64,
    /// Resident memory after everybody has announced, and before anybody, in bytes.
    memory: u64,
    memory_before: u64,
}

impl Run {
    /// For people.
    fn line(&self) -> String {
        let Self { tracker, way, rate, per_core, busy, .. } = self;
        let (name, busy) = (tracker.name(), busy * 100.0);
        format!("{name:<12} {way:?}: {rate:.0}/s, {per_core:.0} per core second, {busy:.0} % busy")
    }
}

#[derive(Debug, Serialize)]
struct Results {
    runs: Vec<Run>,
    /// Trackers and ways that were not measured to the end, and why.
    failed: BTreeMap<String, String>,
    tested: Vec<Tested>,
    crowds: Vec<Crowded>,
    left_out: Vec<String>,
}

/// Measures.
pub(crate) fn run(args: &TrackerArgs) -> anyhow::Result<()> {
    ensure!(
        (1..=1000).contains(&args.torrents) && args.peers / args.torrents < 60_000,
        "--torrents is from 1 to 1000, and each has fewer than 60000 of the --peers: one per port"
    );
    ensure!(args.runs > 0 && args.seconds > 0.0, "--runs and --seconds must be more than 0");
    let places = Places::prepare(args.programs.as_deref(), &args.output, args.publish.as_deref())?;
    let mut facts = Facts::gather();
    let (mut programs, mut left_out) = (Vec::new(), Vec::new());
    for contender in Contender::ALL {
        let aquatic = !matches!(contender, Contender::Beeswarm | Contender::Opentracker);
        if aquatic && args.without_aquatic {
            left_out.push(format!("{}: --without-aquatic", contender.name()));
            continue;
        }
        match contender.program(&places.programs) {
            Ok(program) => programs.push((contender, program)),
            Err(error) => left_out.push(format!("{}: {error:#}", contender.name())),
        }
    }
    let rounds = if args.only_crowds { 0 } else { args.runs };
    let mut runs = Vec::new();
    let mut failed = BTreeMap::new();
    for number in 1..=rounds {
        for (contender, program) in &programs {
            for way in contender.ways() {
                let place = format!("{}, {}", contender.name(), way.title());
                if failed.contains_key(&place) {
                    continue;
                }
                let running = Running::start((*contender, *way), program, &places.output, &[])?;
                facts.programs.note(
                    contender.name(),
                    std::slice::from_ref(&running.command),
                    &places.aliases(),
                );
                match measure(args, *contender, &running, *way) {
                    Ok(run) => {
                        report::progress(&format!("{number} {}", run.line()));
                        runs.push(run);
                    }
                    // what others do not answer is a result, not the end of the run
                    Err(error) if *contender != Contender::Beeswarm => {
                        report::progress(&format!("{number} {place}: {error:#}"));
                        failed.insert(place, format!("{error:#}"));
                    }
                    Err(error) => return Err(error.context(place)),
                }
            }
        }
    }
    let mut tested = Vec::new();
    for (contender, way) in tester::PAIRS {
        let program = programs.iter().find(|(of, _)| *of == contender);
        let Some((_, program)) = program.filter(|_| rounds > 0 && !args.without_aquatic) else {
            continue;
        };
        let running = Running::start((contender, way), program, &places.output, &[])?;
        let crowd = Crowd { torrents: args.torrents, peers: args.peers };
        match tester::measure(contender, way, &running, &places.output, crowd) {
            Ok(run) => {
                report::progress(&format!("aquatic's tester: {run:?}"));
                tested.push(run);
            }
            Err(error) => {
                let place = format!("{}, {} (aquatic's tester)", contender.name(), way.title());
                failed.insert(place, format!("{error:#}"));
            }
        }
    }
    let mut crowds = Vec::new();
    for shape in Shape::ALL {
        if args.without_crowds {
            break;
        }
        let length = Duration::from_secs_f64(args.seconds * 3.0);
        let crowd = crowd::measure(shape, &programs[0].1, &places.output, length)?;
        report::progress(&crowd.line());
        crowds.push(crowd);
    }
    let results = Results { runs, failed, tested, crowds, left_out };
    let table = table(&results);
    workspace::say(format_args!("\n{table}"));
    for folder in places.results() {
        publish::write(folder, "The tracker", &facts, &results, &table, &[])?;
        workspace::say(format_args!("results: {}", folder.display()));
    }
    let missed = goals(&results).into_iter().filter(|goal| goal.reached == Some(false));
    let crowds = results.crowds.iter().filter(|crowd| !crowd.reached).map(Crowded::line);
    let missed: Vec<_> = missed.map(|goal| goal.line).chain(crowds).collect();
    ensure!(missed.is_empty(), "missed: {}", missed.join("; "));
    Ok(())
}

struct Goal {
    line: String,
    /// `None`: one of the two was not measured.
    reached: Option<bool>,
}

fn goals(results: &Results) -> Vec<Goal> {
    let of = |tracker, way| median(&results.runs, tracker, way, |run| run.per_core);
    [
        (Way::KeepAlive, Contender::Opentracker, HTTP_GOAL),
        (Way::Connection, Contender::Opentracker, HTTP_GOAL),
        (Way::Udp, Contender::AquaticUdp, UDP_GOAL),
        (Way::Udp, Contender::Opentracker, UDP_GOAL),
    ]
    .into_iter()
    .map(|(way, other, goal)| {
        let name = other.name();
        let ratio = of(Contender::Beeswarm, way).zip(of(other, way)).map(|(a, b)| a / b);
        let reached = ratio.map(|ratio| ratio >= goal);
        let verdict = match reached {
            Some(true) => "reached",
            Some(false) => "MISSED",
            None => "not measured",
        };
        let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        Goal { line: format!("{way:?}: {ratio} × {name}; goal {goal} {verdict}"), reached }
    })
    .collect()
}

fn measure(
    args: &TrackerArgs,
    tracker: Contender,
    running: &Running,
    way: Way,
) -> anyhow::Result<Run> {
    let crowd = Crowd { torrents: args.torrents, peers: args.peers };
    let memory_before = running.memory()?;
    // everybody once, the quickest way it has
    let fill = if tracker.ways().contains(&Way::Udp) { Way::Udp } else { way };
    load::flat_out(running.address, fill, crowd, Until::Once)?;
    let memory = running.memory()?;
    let (begin, used) = (Instant::now(), running.processor_time()?);
    let end = begin + Duration::from_secs_f64(args.seconds);
    let tally = load::flat_out(running.address, way, crowd, Until::Moment(end))?;
    let seconds = begin.elapsed().as_secs_f64();
    let used = running.processor_time()? - used;
    ensure!(tally.answers > 0, "{} answers nothing", tracker.name());
    let answers = tally.answers as f64;
    Ok(Run {
        tracker,
        way,
        rate: answers / seconds,
        per_core: answers / used.max(1e-9),
        busy: used / seconds,
        peers: tally.peers as f64 / answers,
        lost: tally.lost as f64 * 1000.0 / (answers + tally.lost as f64),
        memory,
        memory_before,
    })
}

/// The median of a figure of a tracker on a way.
fn median(runs: &[Run], tracker: Contender, way: Way, figure: impl Fn(&Run) -> f64) -> Option<f64> {
    let measured = runs.iter().filter(|run| run.tracker == tracker && run.way == way);
    stats::median(measured.map(figure))
}

fn table(results: &Results) -> String {
    let runs = &results.runs;
    let mut text = String::from(
        "Announces per second of the tracker's own processor time, medians; 30 peers wanted.\n\n\
         | tracker | way | per core second | by the clock | busy | peers | lost | memory |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for tracker in Contender::ALL {
        for way in tracker.ways() {
            let figure = |figure: fn(&Run) -> f64| median(runs, tracker, *way, figure);
            let Some(per_core) = figure(|run| run.per_core) else { continue };
            let other = |of: fn(&Run) -> f64| figure(of).unwrap_or(f64::NAN);
            // writing to a String cannot fail
            let _ = writeln!(
                text,
                "| {} | {} | {per_core:.0} | {:.0} | {:.0} % | {:.1} | {:.1} ‰ | {} (before: {}) |",
                tracker.name(),
                way.title(),
                other(|run| run.rate),
                other(|run| run.busy * 100.0),
                other(|run| run.peers),
                other(|run| run.lost),
                bytes(other(|run| run.memory as f64)),
                bytes(other(|run| run.memory_before as f64)),
            );
        }
    }
    for (place, error) in &results.failed {
        let (tracker, way) = place.split_once(", ").unwrap_or((place, ""));
        let error = error.replace(['|', '\n'], " ");
        let _ = writeln!(text, "| {tracker} | {way} | failed: {error} | | | | | |");
    }
    text.push('\n');
    if !results.tested.is_empty() {
        text.push_str(
            "The same trackers, asked by aquatic's own load testers (over UDP half of the requests are for connection \
             ids; over HTTP as many peers as the tracker gives by itself):\n\n\
             | tracker | way | answers per core second | by the clock | errors per second |\n|---|---|---|---|---|\n",
        );
        for Tested { tracker, way, rate, per_core, errors } in &results.tested {
            let (name, way) = (tracker.name(), way.title());
            let _ = writeln!(text, "| {name} | {way} | {per_core:.0} | {rate:.0} | {errors:.0} |");
        }
        text.push('\n');
    }
    for goal in goals(results) {
        let _ = writeln!(text, "- {}", goal.line);
    }
    for crowd in &results.crowds {
        let _ = writeln!(text, "- {}", crowd.line());
    }
    for reason in &results.left_out {
        let _ = writeln!(text, "- left out: {reason}");
    }
    text
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "of a process")]
fn bytes(count: f64) -> ByteSize {
    ByteSize(count as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_has_a_line_and_the_others_their_figures() {
        let run = |tracker, per_core| Run {
            tracker,
            way: Way::Connection,
            rate: per_core / 2.0,
            per_core,
            busy: 0.5,
            peers: 30.0,
            lost: 0.0,
            memory: 1 << 20,
            memory_before: 1 << 20,
        };
        let runs = vec![run(Contender::Beeswarm, 60_000.0), run(Contender::Opentracker, 50_000.0)];
        let place = "aquatic_http, HTTP, a connection each".to_owned();
        let failed = BTreeMap::from([(place, "no answer: a|b\nc".to_owned())]);
        let tested = vec![Tested {
            tracker: Contender::AquaticUdp,
            way: Way::Udp,
            rate: 100.4,
            per_core: 200.4,
            errors: 0.0,
        }];
        let (crowds, left_out) = (Vec::new(), Vec::new());
        let text = table(&Results { runs, failed, tested, crowds, left_out });
        let line =
            "| aquatic_http | HTTP, a connection each | failed: no answer: a b c | | | | | |";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("- Connection: 1.20 × opentracker; goal 0.5 reached"), "{text}");
        assert!(text.contains("- Udp: – × aquatic_udp; goal 0.5 not measured"), "{text}");
        assert!(text.contains("| aquatic_udp | UDP | 200 | 100 | 0 |"), "{text}");
    }
}
