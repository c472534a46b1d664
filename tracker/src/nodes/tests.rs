//! The node table, with events as nodes send them.

use super::*;
use proto::event::{Event, EventKind, FetchProgress, Sources, Stall, StallCause};
use std::time::Duration;

fn nodes(nodes: usize, events_per_node: usize) -> Nodes {
    Nodes::new(Limits { nodes, events_per_node })
}

fn id(n: u8) -> NodeId {
    NodeId([0x52, 0x54, 0, 0, 0, n])
}

const ADDR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

fn fetch(bytes: u64) -> EventKind {
    let sources = Sources { admin: bytes / 2, peers: bytes - bytes / 2, web: 0 };
    let (total, rate) = (1000, 50);
    EventKind::Fetch(FetchProgress {
        bytes,
        total,
        rate,
        upload_rate: 5,
        uploaded: 7,
        peers: 3,
        sources,
    })
}

fn batch(boot: &str, events: Vec<(u64, u64, EventKind)>) -> EventBatch {
    let events =
        events.into_iter().map(|(seq, uptime_ms, kind)| Event { seq, uptime_ms, kind }).collect();
    EventBatch { events, ..EventBatch::new(boot.to_owned()) }
}

fn stalled() -> EventKind {
    EventKind::Stalled(Stall { cause: StallCause::NoPeers, detail: "tracker knows none".into() })
}

#[test]
fn a_batch_sent_twice_counts_once() {
    let mut table = nodes(10, 100);
    let now = Instant::now();
    let sent = batch("b1", vec![(0, 10, fetch(100)), (1, 20, fetch(400))]);
    let taken = table.take(id(1), ADDR, sent.clone(), now);
    assert_eq!(taken, Taken { events: 2, stage: Some("fetch") });
    assert_eq!(table.take(id(1), ADDR, sent, now), Taken::default());
    let node = table.get(id(1)).unwrap();
    assert_eq!(node.timeline.entries().len(), 2);
    assert_eq!((node.percent, node.sources.total(), node.rate(now)), (40.0, 400, 50));
}

#[test]
fn two_programs_of_one_boot_count_from_zero_each() {
    let mut table = nodes(10, 100);
    let now = Instant::now();
    let mount = EventKind::Mount { root: "/sysroot".into(), verity: None };
    table.take(id(1), ADDR, batch("b1", vec![(0, 10, fetch(1000)), (1, 20, mount)]), now);
    let seeding = EventKind::Seeding {
        device: "/dev/loop0".into(),
        user: "bee".into(),
        uploaded: 0,
        http: None,
    };
    let taken = table.take(id(1), ADDR, batch("b1", vec![(0, 9000, seeding)]), now);
    assert_eq!(taken, Taken { events: 1, stage: Some("seeding") });
    let node = table.get(id(1)).unwrap();
    assert_eq!(node.timeline.stage_times(), [("fetch", 10), ("mount", 20), ("seeding", 9000)]);
    assert_eq!((node.percent, node.boots), (100.0, 1));
}

#[test]
fn late_events_do_not_turn_a_node_back() {
    let mut table = nodes(10, 100);
    let now = Instant::now();
    let attach = EventKind::Attach { device: "/dev/loop0".into() };
    table.take(id(1), ADDR, batch("b1", vec![(5, 50, attach)]), now);
    let taken = table.take(id(1), ADDR, batch("b1", vec![(3, 30, fetch(500))]), now);
    assert_eq!(taken, Taken { events: 1, stage: None });
    let node = table.get(id(1)).unwrap();
    assert_eq!((node.stage, node.percent), ("attach", 100.0));
    assert_eq!(node.timeline.entries()[0].event.seq, 3);
}

#[test]
fn a_new_boot_starts_over_and_the_old_one_is_ignored() {
    let mut table = nodes(10, 100);
    let now = Instant::now();
    table.take(id(1), ADDR, batch("b1", vec![(0, 10, fetch(1000))]), now);
    table.take(id(1), ADDR, batch("b2", vec![(0, 5, fetch(10))]), now);
    assert_eq!(table.take(id(1), ADDR, batch("b1", vec![(1, 99, stalled())]), now).events, 0);
    let node = table.get(id(1)).unwrap();
    assert_eq!((node.boots, node.percent, node.stall.is_none()), (2, 1.0, true));
}

#[test]
fn a_stall_lasts_until_the_next_progress() {
    let mut table = nodes(10, 100);
    let now = Instant::now();
    table.take(id(1), ADDR, batch("b", vec![(0, 10, fetch(100)), (1, 20, stalled())]), now);
    let node = table.get(id(1)).unwrap();
    assert_eq!((node.stage, node.troubled(now), node.rate(now)), ("fetch", true, 0));
    assert_eq!(node.stall.as_ref().map(|s| s.cause), Some(StallCause::NoPeers));
    // clients report how far they are also when they are not getting on
    table.take(id(1), ADDR, batch("b", vec![(2, 25, fetch(100))]), now);
    assert!(table.get(id(1)).unwrap().troubled(now), "nothing came since");
    table.take(id(1), ADDR, batch("b", vec![(3, 30, fetch(200))]), now);
    assert!(!table.get(id(1)).unwrap().troubled(now));
    let failed = EventKind::Failed { message: "no memory".into(), refused: None, cause: None };
    table.take(id(1), ADDR, batch("b", vec![(4, 40, failed)]), now);
    let node = table.get(id(1)).unwrap();
    let trouble = node.trouble(now).unwrap();
    assert_eq!(
        (node.stage, trouble.cause.word(), &*trouble.detail),
        ("failed", "gave-up", "no memory")
    );
}

#[test]
fn firmware_comes_first() {
    let mut table = nodes(10, 100);
    let now = Instant::now();
    table.asked(id(1), ADDR, Told::Wait("nothing is published"), now);
    let node = table.get(id(1)).unwrap();
    assert_eq!((node.stage, node.waits.as_deref()), ("netboot", Some("nothing is published")));
    let revision: store::RevisionRef = "debian@0123456789ab".parse().unwrap();
    table.asked(id(1), ADDR, Told::Boot(&revision), now);
    let source = "http://a:8080/revisions/debian/0123456789ac/manifest.json".to_owned();
    table.take(id(1), ADDR, batch("b", vec![(0, 1, EventKind::Discover { source })]), now);
    let node = table.get(id(1)).unwrap();
    assert_eq!((node.stage, node.troubled(now), node.boots), ("discover", false, 1));
    assert_eq!(node.revision.as_ref().unwrap().to_string(), "debian@0123456789ac");
}

#[test]
fn memory_is_bounded_and_progress_goes_first() {
    let mut table = nodes(3, 10);
    let start = Instant::now();
    for n in 0..20 {
        let now = start + Duration::from_secs(u64::from(n));
        let mut events = vec![(0, 1, EventKind::Discover { source: "x".into() })];
        events.extend((1..50).map(|seq| (seq, seq * 10, fetch(seq))));
        table.take(id(n), ADDR, batch("b", events), now);
    }
    let kept: Vec<_> = table.all().iter().map(|node| node.id).collect();
    assert_eq!(kept, [id(17), id(18), id(19)]);
    let entries = table.get(id(19)).unwrap().timeline.entries();
    assert_eq!(entries.len(), 10);
    assert_eq!(entries[0].event.kind.stage(), "discover");
    assert_eq!(entries[9].event.seq, 49);
}

#[test]
fn silence_while_fetching_is_trouble_and_no_rate() {
    let mut table = nodes(10, 100);
    let now = Instant::now();
    table.take(id(1), ADDR, batch("b", vec![(0, 10, fetch(100))]), now);
    let node = table.get(id(1)).unwrap();
    let later = now + Duration::from_secs(16);
    assert_eq!((node.troubled(now), node.rate(now), node.silent(now)), (false, 50, None));
    assert_eq!((node.troubled(later), node.rate(later)), (true, 0));
    let seeding =
        EventKind::Seeding { device: "d".into(), user: "u".into(), uploaded: 0, http: None };
    table.take(id(1), ADDR, batch("b", vec![(0, 20, seeding)]), now);
    assert!(!table.get(id(1)).unwrap().troubled(now + Duration::from_secs(10_000)));
}
