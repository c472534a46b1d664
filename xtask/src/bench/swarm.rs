//! `cargo xtask bench swarm`: every case, every client in turn, then tables and pictures.

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::contender::Client;
use super::content;
use super::crowd::Played;
use super::facts::Facts;
use super::figures::figures;
use super::goals::{Goal, OURS, goals};
use super::member::Parts;
use super::options::SwarmArgs;
use super::outcome::{Case, RunResult};
use super::places::Places;
use super::report::{self, Skipped};
use super::stage::{ADMIN_IP, Run};
use super::summary::{Summary, summaries};
use super::{publish, scenario::Scenario};
use crate::interrupt::{CtrlC, Interrupt};
use crate::{rqbit, workspace};

/// The JSON document, beside facts.
#[derive(Debug, Serialize)]
struct Results<'a> {
    image_bytes: u64,
    piece_bytes: u64,
    summaries: &'a [Summary],
    goals: &'a [Goal],
    skipped: &'a [Skipped],
    runs: &'a [RunResult],
}

/// Measures what the arguments say.
pub(crate) fn run(args: &SwarmArgs) -> anyhow::Result<()> {
    let settings = args.settings()?;
    let places = Places::prepare(args.programs.as_deref(), &args.output, args.publish.as_deref())?;
    if settings.clients.contains(&Client::Librqbit) {
        rqbit::build()?;
    }
    let tracker = format!("http://{ADMIN_IP}:6969/announce");
    let content = content::make(&places.output, settings.image.0, settings.piece.0, &tracker)?;
    let parts = Parts { programs: &places.programs, content: &content };
    let interrupt = Interrupt::install(CtrlC::Ends)?;
    let mut facts = Facts::gather();
    let (mut runs, mut skipped) = (Vec::new(), Vec::new());
    for case in &settings.cases {
        report::progress(&report::heading(*case, &settings));
        for number in 1..=settings.runs {
            for client in &settings.clients {
                let name = client.name();
                if let Some(reason) = not_applicable(case.scenario, *client, settings.mixed_with) {
                    if number == 1 {
                        report::progress(&format!("{name}: not applicable: {reason}"));
                        let reason = reason.to_owned();
                        skipped.push(Skipped { client: name, case: *case, reason, failed: false });
                    }
                    continue;
                }
                if is_known(&runs, *case, &name, *client) {
                    continue;
                }
                let logs = places.output.join(logs_name(*case, &name, number));
                let run = Run {
                    settings: &settings,
                    case: *case,
                    client: *client,
                    parts,
                    logs: &logs,
                    interrupt: &interrupt,
                    recording: None,
                };
                // after a signal everything fails because the lab has gone
                let outcome = run.run().inspect_err(|_| interrupt.give_way());
                let Played { result, commands, .. } = match outcome {
                    Ok(done) => done,
                    // hours of other measurements are not thrown away for it
                    Err(error) if name != OURS => {
                        let reason = format!("run {number}: {error:#}");
                        report::progress(&format!("{name}: FAILED: {reason}"));
                        skipped.push(Skipped { client: name, case: *case, reason, failed: true });
                        continue;
                    }
                    Err(error) => {
                        return Err(error).with_context(|| format!("{name}, {}", case.scenario));
                    }
                };
                let result = RunResult { run: number, ..result };
                facts.programs.note(&name, &commands, &places.aliases());
                report::progress(&format!("run {number}: {}", report::lines(&result)));
                runs.push(result);
            }
        }
    }
    let clients: Vec<String> = settings.clients.iter().map(|client| client.name()).collect();
    let rows = summaries(&runs);
    let goals = goals(&rows);
    let figures = figures(&clients, &runs, &rows);
    let tables = report::markdown(&settings, &rows, &skipped, &goals);
    workspace::say(format_args!("\n{tables}"));
    let results = Results {
        image_bytes: settings.image.0,
        piece_bytes: settings.piece.0,
        summaries: &rows,
        goals: &goals,
        skipped: &skipped,
        runs: &runs,
    };
    for folder in places.results() {
        publish::write(folder, "Benchmark of the swarm", &facts, &results, &tables, &figures)?;
        workspace::say(format_args!("results: {}", folder.display()));
    }
    if let Some(Skipped { client, reason, .. }) = skipped.iter().find(|skip| skip.failed) {
        bail!("{client} could not be measured: {reason}");
    }
    if rows.iter().any(|row| row.client == OURS && !row.is_complete()) {
        bail!("a node of ours did not finish, or has wrong bytes");
    }
    Ok(())
}

/// Why a client cannot be measured in a case.
fn not_applicable(scenario: Scenario, client: Client, mixed_with: Client) -> Option<&'static str> {
    if !client.has_swarm() {
        return scenario.without_swarm();
    }
    let is_alone = client == mixed_with || !mixed_with.has_swarm();
    (scenario == Scenario::Mixed && is_alone).then_some("it would be mixed with nothing else")
}

/// Whether one more run could only say what the first one did: N images over one link take N ideals, and who had
/// nobody done in all that time would take all that time again.
fn is_known(runs: &[RunResult], case: Case, name: &str, client: Client) -> bool {
    let mut earlier = runs.iter().filter(|run| run.case == case && run.client == name);
    earlier.any(|run| !client.has_swarm() || run.done() == 0)
}

fn logs_name(case: Case, client: &str, number: u32) -> String {
    let Case { scenario, nodes, bits_per_second } = case;
    format!(
        "logs/{scenario}-{nodes}-{}-{client}-{number}",
        lab::BitRate::from_bits(bits_per_second)
    )
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::{case, run};
    use super::*;

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let reason = |scenario, client| not_applicable(scenario, client, Client::Ctorrent);
        assert_eq!(reason(Scenario::SeederDies, Client::Beeswarm), None);
        assert!(reason(Scenario::SeederDies, Client::Nginx).is_some());
        assert_eq!(reason(Scenario::FlashCrowd, Client::Nginx), None);
        assert!(reason(Scenario::Mixed, Client::Ctorrent).is_some());
        assert_eq!(reason(Scenario::Mixed, Client::Aria2), None);
        assert!(not_applicable(Scenario::Mixed, Client::Beeswarm, Client::Nginx).is_some());
    }

    #[test]
    fn what_is_known_is_not_measured_again() {
        let (case, other) = (case(Scenario::FlashCrowd, 1), case(Scenario::Trickle, 1));
        let mut runs = vec![
            run("nginx", case, &[9.0]),
            run("aria2", case, &[2.0]),
            run("librqbit", case, &[]),
        ];
        assert!(is_known(&runs, case, "nginx", Client::Nginx));
        assert!(!is_known(&runs, other, "nginx", Client::Nginx));
        assert!(!is_known(&runs, case, "aria2", Client::Aria2));
        assert!(is_known(&runs, case, "librqbit", Client::Librqbit));
        runs.clear();
        assert!(!is_known(&runs, case, "nginx", Client::Nginx), "the first one");
    }

    #[test]
    fn logs_of_two_runs_never_meet() {
        let name = logs_name(case(Scenario::FlashCrowd, 30), "aria2", 2);
        assert_eq!(name, "logs/flash-crowd-30-25Mbit-aria2-2");
    }
}
