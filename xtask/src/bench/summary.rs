//! Several runs of one client in one case, as one row of the table.

use serde::Serialize;

use super::downlink::{self, Seconds};
use super::outcome::{Case, RunResult};
use super::scenario::Role;
use super::stats;

/// Medians over the runs of one client in one case.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) client: String,
    #[serde(flatten)]
    pub(crate) case: Case,
    pub(crate) runs: usize,
    /// Runs in which every node ended with the image.
    pub(crate) complete_runs: usize,
    /// Nodes that were to finish, all runs together.
    pub(crate) expected: usize,
    /// Those that did not.
    pub(crate) unfinished: usize,
    /// Nodes with wrong bytes, all runs together.
    pub(crate) wrong: u32,
    /// Ratio of the last node; `None` unless every run has one.
    pub(crate) ratio: Option<f64>,
    /// The best and the worst run's.
    pub(crate) range: Option<(f64, f64)>,
    pub(crate) median_node: Option<f64>,
    /// Ratio of the last node with a special role, where a role is worth a column.
    pub(crate) special: Option<(Role, Option<f64>)>,
    pub(crate) admin_images: f64,
    pub(crate) duplicates: Option<f64>,
    pub(crate) most_duplicates: Option<f64>,
    pub(crate) received_images: Option<f64>,
    pub(crate) cpu_user_per_gb: f64,
    pub(crate) cpu_system_per_gb: f64,
    pub(crate) idle: f64,
    /// Runs in which the processors were the limit.
    pub(crate) cpu_bound_runs: usize,
    pub(crate) anonymous: u64,
    /// Seconds of a node's downlink by cause, mean of nodes and runs.
    pub(crate) downlink: Option<Seconds>,
    /// Seconds that a node waited for a processor, likewise.
    pub(crate) cpu_wait: Option<f64>,
    pub(crate) retransmits: f64,
    pub(crate) listen_overflows: f64,
    pub(crate) neighbour_overflows: Option<u64>,
}

impl Summary {
    /// Of runs of one client in one case; `None` without runs.
    fn of(runs: &[&RunResult]) -> Option<Summary> {
        let first = runs.first()?;
        let middle = |value: fn(&RunResult) -> f64| stats::median(runs.iter().map(|r| value(r)));
        let ratios: Option<Vec<f64>> = runs.iter().map(|run| run.ratio()).collect();
        let ratios = ratios.unwrap_or_default();
        let role = [Role::Slow, Role::Late, Role::Rebooted, Role::Guest, Role::Far]
            .into_iter()
            .find(|role| first.members.iter().any(|node| node.role == *role));
        let special = role.map(|role| {
            let ratios: Option<Vec<f64>> = runs.iter().map(|run| run.ratio_of(role)).collect();
            (role, ratios.and_then(stats::median))
        });
        let overflows: Vec<u64> = runs.iter().filter_map(|run| run.neighbour_overflows).collect();
        Some(Summary {
            client: first.client.clone(),
            case: first.case,
            runs: runs.len(),
            complete_runs: runs.iter().filter(|run| run.is_complete()).count(),
            expected: runs.iter().map(|run| run.members.len()).sum(),
            unfinished: runs.iter().map(|run| run.members.len() - run.done()).sum(),
            wrong: runs.iter().map(|run| run.wrong).sum(),
            ratio: stats::median(ratios.clone()),
            range: stats::smallest(ratios.clone()).zip(stats::largest(ratios)),
            median_node: stats::median(runs.iter().filter_map(|run| run.median_ratio())),
            special,
            admin_images: middle(|run| run.admin_images)?,
            duplicates: stats::median(runs.iter().filter_map(|run| run.duplicates())),
            most_duplicates: stats::largest(runs.iter().filter_map(|run| run.most_duplicates())),
            received_images: stats::median(runs.iter().filter_map(|run| run.received_images())),
            cpu_user_per_gb: middle(|run| run.cpu_user_per_gb)?,
            cpu_system_per_gb: middle(|run| run.cpu_system_per_gb)?,
            idle: middle(|run| run.machine.idle)?,
            cpu_bound_runs: runs.iter().filter(|run| run.machine.is_cpu_bound()).count(),
            downlink: {
                let told: Vec<Seconds> = runs.iter().filter_map(|run| run.downlink()).collect();
                downlink::mean(told.iter())
            },
            cpu_wait: stats::mean(runs.iter().filter_map(|run| run.cpu_wait())),
            anonymous: runs.iter().map(|run| run.anonymous()).max()?,
            retransmits: middle(|run| run.retransmits as f64)?,
            listen_overflows: middle(|run| run.listen_overflows as f64)?,
            neighbour_overflows: overflows.into_iter().max(),
        })
    }

    /// Processor seconds per GB delivered.
    pub(crate) fn cpu_per_gb(&self) -> f64 {
        self.cpu_user_per_gb + self.cpu_system_per_gb
    }

    /// Whether every node of every run has the image.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete_runs == self.runs
    }
}

/// The rows of a table: one per case and client, in the order in which they were first run.
pub(crate) fn summaries(runs: &[RunResult]) -> Vec<Summary> {
    let mut keys: Vec<(Case, &str)> = Vec::new();
    for run in runs {
        if !keys.contains(&(run.case, &run.client)) {
            keys.push((run.case, &run.client));
        }
    }
    let of = |(case, client): (Case, &str)| {
        let runs: Vec<&RunResult> =
            runs.iter().filter(|run| run.case == case && run.client == client).collect();
        Summary::of(&runs)
    };
    keys.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::{case, node, run};
    use super::super::scenario::Scenario;
    use super::*;

    #[test]
    fn runs_of_a_client_become_a_row() {
        let case = case(Scenario::FlashCrowd, 2);
        let runs: Vec<RunResult> = [("a", 1.4), ("b", 2.0), ("a", 1.1), ("b", 3.0), ("a", 1.2)]
            .into_iter()
            .map(|(client, ratio)| run(client, case, &[1.0, ratio]))
            .collect();
        let rows = summaries(&runs);
        assert_eq!(rows.iter().map(|row| row.client.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let a = &rows[0];
        assert_eq!((a.runs, a.complete_runs, a.unfinished), (3, 3, 0));
        assert_eq!((a.ratio, a.range), (Some(1.2), Some((1.1, 1.4))));
        assert_eq!(a.special, None);
        assert_eq!(a.cpu_per_gb(), 8.0);
    }

    #[test]
    fn one_run_with_a_node_left_behind_takes_the_ratio_away() {
        let case = case(Scenario::FlashCrowd, 2);
        let mut bad = run("a", case, &[1.0]);
        bad.members.push(node(Role::Plain, None));
        let rows = summaries(&[run("a", case, &[1.0, 1.1]), bad]);
        assert_eq!((rows[0].ratio, rows[0].range, rows[0].unfinished), (None, None, 1));
        assert!(!rows[0].is_complete());
    }

    #[test]
    fn special_nodes_have_a_figure_of_their_own() {
        let case = case(Scenario::SlowTenth, 3);
        let mut run = run("a", case, &[1.0, 1.1]);
        run.members.push(node(Role::Slow, Some(1.5)));
        assert_eq!(summaries(&[run])[0].special, Some((Role::Slow, Some(1.5))));
    }
}
