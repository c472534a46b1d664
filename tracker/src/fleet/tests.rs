//! What the page shows of a fleet.

use super::*;
use crate::inventory::Format;
use crate::nodes::node::Node;
use proto::event::{FetchProgress, Stall, StallCause};

fn node(n: u8, stage: &'static str, bytes: u64, rate: u64, now: Instant) -> Node {
    let mut node = Node::new(NodeId([2, 0, 0, 0, 0, n]), [10, 0, n / 100, n].into(), now);
    node.stage = stage;
    node.progress = FetchProgress { bytes, total: 1000, rate, ..FetchProgress::default() };
    node.percent = node.progress.percent();
    node
}

fn gather(nodes: &[Node], inventory: &str, now: Instant) -> Fleet {
    let inventory = Inventory::parse(Format::Csv, inventory).unwrap();
    let told = Told::new();
    let rows = nodes.iter().map(|node| Row::of(node, &told, now)).collect();
    Fleet::gather(rows, &inventory, &told, now)
}

#[test]
fn racks_come_before_subnets_and_names_are_in_the_order_of_people() {
    let now = Instant::now();
    let nodes = [
        node(1, "fetch", 0, 1, now),
        node(2, "fetch", 0, 1, now),
        node(3, "seeding", 1000, 0, now),
        node(110, "netboot", 0, 0, now),
    ];
    let inventory = "mac,name,rack\n02:00:00:00:00:01,n10,r2\n02:00:00:00:00:02,n2,r2\n\
                     02:00:00:00:00:09,n9,r10\n02:00:00:00:00:0a,x,\n";
    let fleet = gather(&nodes, inventory, now);
    let shown: Vec<_> = fleet
        .groups
        .iter()
        .map(|group| {
            let cells: Vec<_> = group.cells.iter().map(|c| (c.name.as_str(), c.stage)).collect();
            (group.name.as_str(), cells)
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("rack r2", vec![("n2", "fetch"), ("n10", "fetch")]),
            ("rack r10", vec![("n9", ABSENT)]),
            ("10.0.0.0/24", vec![("02:00:00:00:00:03", "seeding")]),
            ("10.0.1.0/24", vec![("02:00:00:00:00:6e", "netboot")]),
            ("not heard yet", vec![("x", ABSENT)]),
        ]
    );
    assert_eq!((fleet.nodes, fleet.up()), (4, 1));
}

#[test]
fn the_last_node_decides_when_it_is_over() {
    let now = Instant::now();
    let fetching = |fleet: &Fleet| (fleet.completion.last.clone(), fleet.completion.stuck);
    assert_eq!(fetching(&gather(&[], "mac,name\n", now)), (Last::Nobody, 0));
    let mut nodes = vec![node(1, "fetch", 900, 10, now), node(2, "fetch", 0, 50, now)];
    let fleet = gather(&nodes, "mac,name\n02:00:00:00:00:02,slow\n", now);
    assert_eq!(fetching(&fleet), (Last::In(Duration::from_secs(20), "slow".into()), 0));
    assert_eq!(fleet.rate, 60);
    // who is stuck does not hide when the others are done
    nodes[0].stall = Some(Stall { cause: StallCause::NoPeers, detail: "none".into() });
    let fleet = gather(&nodes, "mac,name\n02:00:00:00:00:02,slow\n", now);
    assert_eq!(fetching(&fleet), (Last::In(Duration::from_secs(20), "slow".into()), 1));
    assert_eq!(fleet.stalled.len(), 1);
    let cell = &fleet.groups[0].cells[0];
    assert_eq!((cell.mark, cell.title.as_str()), (Mark::Trouble, "fetch 90 %, no peers"));
    assert_eq!(letter(cell.stage, cell.mark), "!");
    nodes[1].progress.rate = 0;
    assert_eq!(fetching(&gather(&nodes, "mac,name\n", now)), (Last::Nobody, 2));
}

#[test]
fn an_audit_is_told_and_a_failed_one_is_trouble() {
    let now = Instant::now();
    let mut nodes = [1, 2, 3].map(|n| node(n, "seeding", 1000, 0, now));
    for (node, verdict) in nodes.iter_mut().zip([Verdict::Pass, Verdict::Fail]) {
        let text = "3 of 4 modules".to_owned();
        node.audit = Some(proto::event::audit::Audit { verdict, text, findings: Vec::new() });
    }
    let fleet = gather(&nodes, "mac,name\n", now);
    let cells = &fleet.groups[0].cells;
    let shown: Vec<_> = cells.iter().map(|cell| (cell.mark, cell.title.as_str())).collect();
    assert_eq!(
        shown,
        [
            (Mark::None, "seeding, audit passed"),
            (Mark::Trouble, "seeding, hardware audit failed"),
            (Mark::None, "seeding"),
        ]
    );
    assert_eq!(fleet.audited, (1, 1));
    assert_eq!(
        (fleet.stalled.len(), fleet.stalled[0].trouble.detail.as_str()),
        (1, "3 of 4 modules")
    );
}

#[test]
fn a_seeder_that_fell_silent_is_old_and_no_trouble() {
    let start = Instant::now();
    let now = start + Duration::from_secs(600);
    let fleet = gather(&[node(1, "seeding", 1000, 0, start)], "mac,name\n", now);
    let cell = &fleet.groups[0].cells[0];
    assert_eq!((cell.mark, cell.title.as_str()), (Mark::Old, "seeding, no longer reports"));
    assert!(fleet.stalled.is_empty());
}

#[test]
fn stages_have_letters_of_their_own() {
    let mut letters: Vec<_> =
        crate::nodes::node::STAGES.iter().map(|stage| letter(stage, Mark::None)).collect();
    letters.push(letter(ABSENT, Mark::None));
    letters.extend([letter("fetch", Mark::Trouble), letter("seeding", Mark::Old)]);
    letters.sort_unstable();
    let count = letters.len();
    letters.dedup();
    assert_eq!(letters.len(), count);
}
