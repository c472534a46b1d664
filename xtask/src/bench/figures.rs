//! The pictures of a benchmark: completion over time, ratio and admin egress over the number of nodes.

use lab::BitRate;

use super::goals::ratio_limit;
use super::outcome::{Case, RunResult};
use super::scenario::Scenario;
use super::summary::Summary;
use super::svg::{Axis, Chart, Mark, Series};

/// A picture and its file's name.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) file: String,
    pub(crate) svg: String,
}

/// Every picture that these results give, the clients in the order of `clients`.
pub(crate) fn figures(clients: &[String], runs: &[RunResult], rows: &[Summary]) -> Vec<Figure> {
    let mut cases: Vec<Case> = rows.iter().map(|row| row.case).collect();
    cases.dedup();
    let mut figures: Vec<Figure> =
        cases.iter().map(|case| completion(clients, *case, runs)).collect();
    let mut groups: Vec<(Scenario, u64)> =
        cases.iter().map(|case| (case.scenario, case.bits_per_second)).collect();
    groups.sort_unstable();
    groups.dedup();
    for (scenario, bits) in groups {
        let of = |row: &&Summary| row.case.scenario == scenario && row.case.bits_per_second == bits;
        let rows: Vec<&Summary> = rows.iter().filter(of).collect();
        let first = rows.first().map(|row| row.case.nodes);
        if rows.iter().any(|row| Some(row.case.nodes) != first) {
            figures.push(over_nodes(clients, scenario, bits, &rows, &RATIO));
            figures.push(over_nodes(clients, scenario, bits, &rows, &EGRESS));
        }
    }
    figures
}

/// Nodes done over time: of each client the run with the median ratio.
fn completion(clients: &[String], case: Case, runs: &[RunResult]) -> Figure {
    let mut series = Vec::new();
    for (colour, client) in clients.iter().enumerate() {
        let mut of: Vec<&RunResult> =
            runs.iter().filter(|run| run.case == case && run.client == *client).collect();
        // one that left a node behind is worse than any other
        let rank = |run: &RunResult| run.ratio().unwrap_or(f64::INFINITY);
        of.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
        if let Some(run) = of.get(of.len() / 2) {
            let points = steps(run);
            let (done, all) = (run.done(), run.members.len());
            let name = match done == all {
                true => client.clone(),
                false => format!("{client} ({done} of {all})"),
            };
            series.push(Series { name, colour, points, dots: false });
        }
    }
    let nodes = f64::from(case.nodes);
    let upright = |x: f64| vec![(x, 0.0), (x, 100.0)];
    let marks = vec![
        Mark { name: "ideal".to_owned(), points: upright(1.0) },
        Mark { name: "HTTP, one link".to_owned(), points: upright(nodes) },
    ];
    let times = series.iter().flat_map(|s| s.points.iter().map(|(x, _)| *x));
    let x = Axis::logarithmic("time ÷ (image ÷ link rate)", times.chain([1.0, nodes]));
    for Series { points, .. } in &mut series {
        // a line that does not reach the top goes on to the edge
        points.extend(points.last().filter(|(_, y)| *y < 100.0).map(|(_, y)| (x.to, *y)));
    }
    let chart = Chart {
        title: format!("{}: nodes that have the image", case.scenario),
        subtitle: format!(
            "{} nodes, {} links; of each client the run with the median ratio",
            case.nodes,
            BitRate::from_bits(case.bits_per_second)
        ),
        x,
        y: Axis {
            label: "nodes done".to_owned(),
            from: 0.0,
            to: 100.0,
            logarithmic: false,
            ticks: vec![0.0, 25.0, 50.0, 75.0, 100.0],
            unit: " %",
        },
        series,
        marks,
    };
    Figure { file: format!("completion-{}.svg", slug(case)), svg: chart.render() }
}

/// A staircase: time in ideals against the share of nodes that were done by then.
fn steps(run: &RunResult) -> Vec<(f64, f64)> {
    let done = run.members.iter().filter_map(|node| node.done);
    let mut points = Vec::new();
    let mut share = 0.0;
    for (number, time) in (1u32..).zip(super::stats::sorted(done)) {
        let x = time / run.ideal_seconds;
        points.push((x, share));
        share = 100.0 * f64::from(number) / run.members.len() as f64;
        points.push((x, share));
    }
    points
}

/// What is drawn over the number of nodes.
struct Quantity {
    file: &'static str,
    title: &'static str,
    axis: &'static str,
    of: fn(&Summary) -> Option<f64>,
    goal: fn(u32) -> f64,
}

const RATIO: Quantity = Quantity {
    file: "ratio",
    title: "time of the last node",
    axis: "last node ÷ (image ÷ link rate)",
    of: |row| row.ratio,
    goal: ratio_limit,
};

const EGRESS: Quantity = Quantity {
    file: "egress",
    title: "what the admin host sends",
    axis: "images sent by the admin host",
    of: |row| Some(row.admin_images),
    goal: |_| 1.2,
};

fn over_nodes(
    clients: &[String],
    scenario: Scenario,
    bits: u64,
    rows: &[&Summary],
    quantity: &Quantity,
) -> Figure {
    let mut nodes: Vec<u32> = rows.iter().map(|row| row.case.nodes).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let mut series = Vec::new();
    for (colour, client) in clients.iter().enumerate() {
        let point = |nodes: &u32| {
            let row = rows.iter().find(|row| row.client == *client && row.case.nodes == *nodes)?;
            Some((f64::from(*nodes), (quantity.of)(row)?))
        };
        let points: Vec<(f64, f64)> = nodes.iter().filter_map(point).collect();
        if !points.is_empty() {
            series.push(Series { name: client.clone(), colour, points, dots: true });
        }
    }
    let line = |value: fn(u32, &Quantity) -> f64| {
        nodes.iter().map(|n| (f64::from(*n), value(*n, quantity))).collect::<Vec<_>>()
    };
    let marks = vec![
        Mark { name: "goal".to_owned(), points: line(|nodes, quantity| (quantity.goal)(nodes)) },
        Mark { name: "HTTP, one link".to_owned(), points: line(|nodes, _| f64::from(nodes)) },
    ];
    let values = series.iter().map(|s| &s.points).chain(marks.iter().map(|m| &m.points));
    let values: Vec<f64> = values.flatten().map(|(_, y)| *y).chain([1.0]).collect();
    let mut x = Axis::logarithmic("nodes", nodes.iter().map(|n| f64::from(*n)));
    x.ticks = nodes.iter().map(|n| f64::from(*n)).collect();
    let rate = BitRate::from_bits(bits);
    let chart = Chart {
        title: format!("{scenario}: {}", quantity.title),
        subtitle: format!("{rate} links; medians; both axes logarithmic"),
        x,
        y: Axis::logarithmic(quantity.axis, values),
        series,
        marks,
    };
    Figure {
        file: format!("{}-over-nodes-{scenario}-{rate}.svg", quantity.file),
        svg: chart.render(),
    }
}

/// A case as part of a file's name.
fn slug(case: Case) -> String {
    format!("{}-{}-{}", case.scenario, case.nodes, BitRate::from_bits(case.bits_per_second))
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::{case, node, run};
    use super::super::scenario::Role;
    use super::super::summary::summaries;
    use super::super::svg::tests::assert_well_formed;
    use super::*;

    #[test]
    fn a_curve_climbs_with_each_node() {
        let mut run = run("a", case(Scenario::FlashCrowd, 4), &[1.2, 1.0]);
        run.members.push(node(Role::Plain, None));
        run.members.push(node(Role::Plain, Some(2.0)));
        let points = steps(&run);
        let shares: Vec<f64> = points.iter().map(|(_, y)| *y).collect();
        assert_eq!(shares, [0.0, 25.0, 25.0, 50.0, 50.0, 75.0], "one never gets there");
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    #[test]
    fn a_client_that_leaves_nodes_behind_is_seen_to() {
        let case = case(Scenario::FlashCrowd, 2);
        let mut run = run("a", case, &[1.2]);
        run.members.push(node(Role::Plain, None));
        let figure = completion(&["a".to_owned()], case, &[run]);
        assert!(figure.svg.contains(">a (1 of 2)<"), "{}", figure.svg);
    }

    #[test]
    fn several_numbers_of_nodes_give_the_figures_over_nodes() {
        let clients = ["beeswarm".to_owned(), "aria2".to_owned()];
        let mut runs = Vec::new();
        for nodes in [10, 30, 100] {
            for (client, ratio) in [("beeswarm", 1.1), ("aria2", 2.0)] {
                runs.push(run(client, case(Scenario::FlashCrowd, nodes), &[1.0, ratio]));
            }
        }
        runs.push(run("beeswarm", case(Scenario::Liars, 30), &[1.0, 1.3]));
        let figures = figures(&clients, &runs, &summaries(&runs));
        let names: Vec<&str> = figures.iter().map(|figure| figure.file.as_str()).collect();
        assert_eq!(
            names,
            [
                "completion-flash-crowd-10-25Mbit.svg",
                "completion-flash-crowd-30-25Mbit.svg",
                "completion-flash-crowd-100-25Mbit.svg",
                "completion-liars-30-25Mbit.svg",
                "ratio-over-nodes-flash-crowd-25Mbit.svg",
                "egress-over-nodes-flash-crowd-25Mbit.svg",
            ]
        );
        for figure in &figures {
            assert_well_formed(&figure.svg);
        }
        assert_eq!(figures[4].svg.matches("<circle").count(), 6);
        assert!(figures[0].svg.contains(">aria2<") && !figures[3].svg.contains(">aria2<"));
    }
}
