//! What the project wants of the figures, and whether they are that good.

use serde::Serialize;

use super::outcome::Case;
use super::scenario::{Role, Scenario};
use super::stats;
use super::summary::Summary;

/// The name of our client in results.
pub(crate) const OURS: &str = "beeswarm";

/// The contender that has no swarm.
const HTTP: &str = "nginx";

/// Most anonymous memory of a node, in bytes.
const MEMORY: f64 = 16.0 * 1024.0 * 1024.0;

/// One goal and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Goal {
    #[serde(flatten)]
    pub(crate) case: Case,
    /// What is wanted, in words.
    pub(crate) what: &'static str,
    /// The bound, as text.
    pub(crate) wanted: String,
    /// What was measured, as text.
    pub(crate) got: String,
    pub(crate) verdict: Verdict,
}

/// How a goal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Met,
    Missed,
}

/// Every goal that these rows say something about.
pub(crate) fn goals(rows: &[Summary]) -> Vec<Goal> {
    rows.iter().filter(|row| row.client == OURS).flat_map(|ours| of(ours, rows)).collect()
}

fn of(ours: &Summary, rows: &[Summary]) -> Vec<Goal> {
    let case = ours.case;
    let is_crowd = case.scenario == Scenario::FlashCrowd;
    let others: Vec<&Summary> =
        rows.iter().filter(|row| row.case == case && row.client != OURS).collect();
    let mut goals = Vec::new();
    let mut add = |what, wanted: String, got: String, is_met| {
        let verdict = if is_met { Verdict::Met } else { Verdict::Missed };
        goals.push(Goal { case, what, wanted, got, verdict });
    };
    add(
        "nodes unfinished or wrong",
        "0".to_owned(),
        format!("{}", ours.unfinished + ours.wrong as usize),
        ours.is_complete(),
    );
    if is_crowd {
        let limit = ratio_limit(case.nodes);
        add(
            "ratio of the last node",
            format!("≤ {limit:.2}"),
            ours.ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")),
            ours.ratio.is_some_and(|ratio| ratio <= limit),
        );
    }
    let limit = if is_crowd { 1.2 } else { 1.3 };
    add(
        "images leaving the admin host",
        format!("≤ {limit:.1}"),
        format!("{:.2}", ours.admin_images),
        ours.admin_images <= limit,
    );
    if let Some(duplicates) = ours.duplicates {
        add(
            "duplicate bytes per node",
            "≤ 1 %".to_owned(),
            format!("{:.2} %", duplicates * 100.0),
            duplicates <= 0.01,
        );
    }
    add(
        "anonymous memory of a node",
        "≤ 16 MiB".to_owned(),
        format!("{:.1} MiB", ours.anonymous as f64 / 1024.0 / 1024.0),
        ours.anonymous as f64 <= MEMORY,
    );
    // a client that left a node behind is beaten, by how much cannot be said
    let best = stats::smallest(others.iter().filter_map(|row| row.ratio));
    if case.nodes > 20
        && let Some(best) = best
    {
        let factor = ours.ratio.map_or(0.0, |ratio| best / ratio);
        add(
            "times as fast as the best other client",
            "≥ 1.5".to_owned(),
            format!("{factor:.2}"),
            factor >= 1.5,
        );
    }
    let swarms = others.iter().filter(|row| row.client != HTTP && row.unfinished == 0);
    if let Some(best) = stats::smallest(swarms.map(|row| row.cpu_per_gb())) {
        add(
            "CPU seconds per GB",
            format!("≤ {best:.1} (best other client)"),
            format!("{:.1}", ours.cpu_per_gb()),
            ours.cpu_per_gb() <= best,
        );
    }
    if case.scenario == Scenario::SlowTenth {
        let calm = Case { scenario: Scenario::FlashCrowd, ..case };
        let calm = rows.iter().find(|row| row.case == calm && row.client == OURS);
        if let Some(calm) = calm.and_then(|row| row.ratio) {
            let factor = ours.ratio.map_or(f64::INFINITY, |ratio| ratio / calm);
            add(
                "the others' ratio, against a crowd without slow nodes",
                "≤ 1.10".to_owned(),
                format!("{factor:.2}"),
                factor <= 1.1,
            );
        }
    }
    if let Some((role @ (Role::Late | Role::Rebooted), ratio)) = ours.special {
        let what = match role {
            Role::Late => "late nodes all done, with the seeder gone",
            _ => "restarted nodes all done",
        };
        let got = ratio.map_or("no".to_owned(), |ratio| format!("yes, ratio {ratio:.2}"));
        add(what, "yes".to_owned(), got, ratio.is_some());
    }
    goals
}

/// The largest ratio wanted of so many nodes.
pub(crate) fn ratio_limit(nodes: u32) -> f64 {
    match nodes {
        0..=60 => 1.15,
        61..=150 => 1.20,
        _ => 1.25,
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::RunResult;
    use super::super::outcome::tests::{case, node, run};
    use super::super::summary::summaries;
    use super::*;

    fn verdict(goals: &[Goal], what: &str) -> Option<Verdict> {
        goals.iter().find(|goal| goal.what.contains(what)).map(|goal| goal.verdict)
    }

    fn goals_of(runs: &[RunResult]) -> Vec<Goal> {
        goals(&summaries(runs))
    }

    #[test]
    fn goals_follow_the_number_of_nodes() {
        assert_eq!([30, 100, 200].map(ratio_limit), [1.15, 1.20, 1.25]);
        let case = case(Scenario::FlashCrowd, 30);
        let goals = goals_of(&[run(OURS, case, &[1.1, 1.14]), run("aria2", case, &[2.0])]);
        assert_eq!(verdict(&goals, "ratio of the last"), Some(Verdict::Met));
        assert_eq!(verdict(&goals, "times as fast"), Some(Verdict::Met));
        assert_eq!(verdict(&goals, "admin"), Some(Verdict::Met));
        assert_eq!(verdict(&goals, "CPU"), Some(Verdict::Met));
        let goals = goals_of(&[run(OURS, case, &[1.1, 1.16]), run("aria2", case, &[1.7])]);
        assert_eq!(verdict(&goals, "ratio of the last"), Some(Verdict::Missed));
        assert_eq!(verdict(&goals, "times as fast"), Some(Verdict::Missed));
    }

    #[test]
    fn a_node_left_behind_misses_the_goals() {
        let case = case(Scenario::FlashCrowd, 30);
        let mut bad = run(OURS, case, &[1.1]);
        bad.members.push(node(Role::Plain, None));
        let goals = goals_of(&[bad, run("aria2", case, &[2.0])]);
        for what in ["unfinished", "ratio of the last", "times as fast"] {
            assert_eq!(verdict(&goals, what), Some(Verdict::Missed), "{what}");
        }
    }

    #[test]
    fn few_nodes_need_not_beat_anybody() {
        let case = case(Scenario::FlashCrowd, 8);
        let goals = goals_of(&[run(OURS, case, &[1.1]), run("aria2", case, &[1.1])]);
        assert_eq!(verdict(&goals, "times as fast"), None);
        assert_eq!(goals_of(&[run("aria2", case, &[1.1])]), []);
    }

    #[test]
    fn slow_nodes_must_not_slow_the_others() {
        let (calm, slow) = (case(Scenario::FlashCrowd, 30), case(Scenario::SlowTenth, 30));
        let goals = goals_of(&[run(OURS, calm, &[1.1]), run(OURS, slow, &[1.3])]);
        assert_eq!(verdict(&goals, "without slow nodes"), Some(Verdict::Missed));
        let goals = goals_of(&[run(OURS, calm, &[1.1]), run(OURS, slow, &[1.2])]);
        assert_eq!(verdict(&goals, "without slow nodes"), Some(Verdict::Met));
        assert_eq!(verdict(&goals_of(&[run(OURS, slow, &[1.2])]), "without slow nodes"), None);
    }
}
