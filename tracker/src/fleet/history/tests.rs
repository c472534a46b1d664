//! Samples as nodes come, fetch, boot again and go.

use super::*;
use crate::nodes::node::Node;

fn node(n: u8, stage: &'static str, boot: u32, admin: u64, peers: u64, now: Instant) -> Node {
    let mut node = Node::new(NodeId([2, 0, 0, 0, 0, n]), [10, 0, 0, n].into(), now);
    (node.stage, node.boot) = (stage, boot);
    node.sources = Sources { admin, peers, web: 0 };
    node
}

#[test]
fn rates_are_what_came_since_the_sample_before() {
    let mut history = History::default();
    let start = Instant::now();
    let at = |n: u32| start + EVERY * n;
    let record = |history: &mut History, n, nodes: &[Node]| {
        history.record(nodes.iter().map(Seen::from).collect(), at(n))
    };
    // a tracker that starts in the middle of a boot
    record(&mut history, 0, &[node(1, "fetch", 1, 5000, 0, start)]);
    assert_eq!(history.rates(), Sources::default());
    record(&mut history, 1, &[node(1, "fetch", 1, 9000, 600, start)]);
    // two samples: 2000/s and 0/s
    assert_eq!(history.rates(), Sources { admin: 1000, peers: 150, web: 0 });
    record(&mut history, 2, &[node(1, "fetch", 1, 9000, 600, start)]);
    record(&mut history, 3, &[node(1, "seeding", 1, 9000, 600, start)]);
    // the next boot begins at zero, and a new node's bytes count from the first on
    let nodes = [node(1, "fetch", 2, 0, 6000, start), node(2, "fetch", 1, 600, 0, start)];
    record(&mut history, 4, &nodes);
    assert_eq!(history.rates(), Sources { admin: 100, peers: 1000, web: 0 });
    let samples = history.samples(Window::Short);
    assert_eq!(samples.len(), 5);
    assert_eq!(samples[4].phases, [0, 0, 2, 0, 0, 0]);
    assert_eq!(samples[3].phases, [1, 0, 0, 0, 0, 0]);
    // a node that is forgotten takes nothing away
    record(&mut history, 5, &[]);
    assert_eq!(history.samples(Window::Short)[5].phases, [0; 6]);
}

#[test]
fn memory_is_bounded() {
    let mut history = History::default();
    let start = Instant::now();
    for n in 0..50_000_u32 {
        let node = node(1, "fetch", 1, u64::from(n) * 200, 0, start);
        history.record(vec![Seen::from(&node)], start + EVERY * n);
    }
    assert_eq!(history.samples(Window::Short).len(), FINE);
    let day = history.samples(Window::Day);
    assert_eq!(day.len(), COARSE);
    assert!(day.iter().all(|sample| sample.rates.admin == 100), "means of a minute");
    assert_eq!(day[1].at - day[0].at, Duration::from_secs(60));
}
