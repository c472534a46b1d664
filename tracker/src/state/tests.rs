//! The state directory: what is made, what is refused, and that memory comes back as it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use proto::event::{Event, EventBatch, EventKind, FetchProgress, Stall, StallCause};

use super::*;
use crate::nodes::node::Told;
use crate::nodes::{Limits, Nodes, Sender};

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn refused(dir: &Path) -> (StateError, String) {
    let error = State::open(dir).unwrap_err();
    let text = crate::catalog::describe(&error);
    (error, text)
}

#[test]
fn a_new_directory_is_for_its_owner_only_and_used_once() {
    let dir = dir();
    let at = dir.path().join("a/b");
    let (state, loaded) = State::open(&at).unwrap();
    assert!(loaded.nodes.is_empty());
    for file in ["", DATABASE, ADMIN_TOKEN, "lock"] {
        let mode = fs::metadata(at.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}: {mode:o}");
    }
    let token = fs::read_to_string(at.join(ADMIN_TOKEN)).unwrap();
    assert!(state.admin.is(token.trim()) && !state.admin.is("") && !state.admin.is(&token));
    let (error, text) = refused(&at);
    assert!(matches!(error, StateError::InUse { .. }), "{text}");
    let key = state.boot_key(&loaded).unwrap();
    drop(state);
    let (state, loaded) = State::open(&at).unwrap();
    assert_eq!(state.boot_key(&loaded).unwrap(), key, "tokens outlive the process");
    assert!(state.admin.is(token.trim()));
}

#[test]
fn what_cannot_be_used_is_told_with_its_remedy() {
    let holding = |file: &str, bytes: &[u8]| {
        let dir = dir();
        fs::write(dir.path().join(file), bytes).unwrap();
        dir
    };
    let (_, text) = refused(holding(DATABASE, &[b'x'; 4096]).path());
    assert!(text.contains("is damaged. Move it away"), "{text}");
    let (_, text) = refused(holding(ADMIN_TOKEN, b"short\n").path());
    assert!(text.contains("remove the file"), "{text}");
    let (_, text) = refused(&holding("file", b"").path().join("file"));
    assert!(text.contains("cannot create the directory"), "{text}");

    let foreign = dir();
    let other = Connection::open(foreign.path().join(DATABASE)).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(matches!(refused(foreign.path()).0, StateError::Foreign { .. }));

    let newer = dir();
    drop(State::open(newer.path()).unwrap());
    let later = Connection::open(newer.path().join(DATABASE)).unwrap();
    later.pragma_update(None, "user_version", 99).unwrap();
    let (_, text) = refused(newer.path());
    assert!(text.contains("newer bee-tracker (schema 99, this one knows 2)"), "{text}");

    let cannot = dir();
    fs::create_dir(cannot.path().join(DATABASE)).unwrap();
    let (_, text) = refused(cannot.path());
    assert!(text.contains("must belong to the user"), "{text}");
}

/// A page of the table of events overwritten, as a bad disk would.
#[test]
fn a_damaged_page_is_noticed_at_the_start() {
    let dir = dir();
    let path = dir.path().join(DATABASE);
    {
        let (state, _) = State::open(dir.path()).unwrap();
        let mut table = table(100);
        for n in 0..200 {
            let batch = batch("b", vec![(n, n, EventKind::Attach { device: "d".repeat(300) })]);
            table.take(id(1), ADDR, batch, Instant::now());
        }
        state.journal.push(table.log.drain()).unwrap();
    }
    let bytes = fs::read(&path).unwrap();
    let pages = bytes.len() / 4096;
    assert!(pages > 20, "{pages}");
    let mut bad = bytes;
    for page in pages / 2..pages {
        bad[page * 4096..page * 4096 + 64].fill(0xff);
    }
    fs::write(&path, bad).unwrap();
    let (_, text) = refused(dir.path());
    assert!(text.contains("is damaged"), "{text}");
}

const ADDR: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

fn id(n: u8) -> NodeId {
    NodeId([0x52, 0x54, 0, 0, 0, n])
}

fn batch(boot: &str, events: Vec<(u64, u64, EventKind)>) -> EventBatch {
    let event = |(seq, uptime_ms, kind)| Event { seq, uptime_ms, kind };
    let events = events.into_iter().map(event).collect();
    EventBatch { events, ..EventBatch::new(boot.to_owned()) }
}

fn table(events_per_node: usize) -> Nodes {
    let mut nodes = Nodes::new(Limits { nodes: 6, events_per_node });
    nodes.log.keep(3, 0);
    nodes
}

fn any_kind(random: &mut fastrand::Rng) -> EventKind {
    match random.u8(0..8) {
        0 => EventKind::Discover {
            source: "http://a/revisions/debian/0123456789ab/manifest.json".into(),
        },
        1 => EventKind::Attach { device: "/dev/loop0".into() },
        2 => EventKind::Stalled(Stall { cause: StallCause::NoPeers, detail: "none".into() }),
        3 => EventKind::Failed { message: "no room".into(), refused: None, cause: None },
        _ => {
            let bytes = random.u64(0..1000);
            EventKind::Fetch(FetchProgress { bytes, total: 1000, ..FetchProgress::default() })
        }
    }
}

/// One random thing that happens to a table.
fn happens(nodes: &mut Nodes, random: &mut fastrand::Rng, clock: &mut u64) {
    let now = Instant::now();
    *clock += random.u64(1..50);
    let node = id(random.u8(1..10));
    if random.u8(0..5) == 0 {
        let revision = "debian@0123456789ab".parse().unwrap();
        let told = match random.u8(0..3) {
            0 => Told::Boot(&revision),
            1 => Told::Wait("nothing"),
            _ => Told::Disk,
        };
        return nodes.asked(node, ADDR, told, now);
    }
    let count = random.u64(1..6);
    let events = (0..count).map(|n| (*clock + n, *clock * 10 + n, any_kind(random))).collect();
    let mut batch = batch(&format!("boot{}", random.u8(0..3)), events);
    *clock += count;
    let token = random.bool().then_some(*clock);
    batch.macs = vec![node, id(random.u8(1..10))];
    batch.uuid = random.bool().then(|| "03000200-0400-0500-0006-000700080009".to_owned());
    nodes.take(node, Sender { addr: ADDR, token }, batch, now);
}

/// Everything that a reader of the API can see, and what decides about later events.
fn visible(nodes: &Nodes) -> BTreeMap<NodeId, String> {
    let show = |node: &crate::nodes::node::Node| {
        let events: Vec<_> = node.timeline.entries().iter().map(|e| (e.row, &e.event)).collect();
        format!(
            "{:?} {} {} {:?} {:?} {:?} {:?} {events:?}",
            NodeRow::of(node),
            node.stage,
            node.percent,
            node.stall,
            node.failed,
            node.progress,
            node.revision
        )
    };
    nodes.all().into_iter().map(|node| (node.id, show(node))).collect()
}

/// Random boots, merges, evictions and restarts at random moments: what is read back is what was there.
#[test]
fn memory_comes_back_as_it_was() {
    let seed = std::env::var("BEESWARM_STATE_SEED").ok().and_then(|s| s.parse().ok());
    for seed in seed.map_or(0..40, |seed: u64| seed..seed + 1) {
        let mut random = fastrand::Rng::with_seed(seed);
        let dir = dir();
        let mut clock = 0;
        let (mut state, mut loaded) = State::open(dir.path()).unwrap();
        let mut nodes = table(8);
        for _ in 0..4 {
            let row = loaded.last_row;
            nodes = Nodes::new(Limits { nodes: 6, events_per_node: 8 });
            nodes.restore(loaded.nodes, loaded.events, 3, row);
            for _ in 0..random.usize(0..80) {
                happens(&mut nodes, &mut random, &mut clock);
                state.journal.push(nodes.log.drain()).unwrap();
            }
            drop(state);
            (state, loaded) = State::open(dir.path()).unwrap();
            let mut again = Nodes::new(Limits { nodes: 6, events_per_node: 8 });
            let (rows, events) = (loaded.nodes.clone(), std::mem::take(&mut loaded.events));
            again.restore(rows, events, 3, loaded.last_row);
            assert_eq!(visible(&again), visible(&nodes), "BEESWARM_STATE_SEED={seed}");
            for node in nodes.all() {
                let past = state.past_boots(node.id).unwrap();
                assert!(past.len() <= 3, "{past:?}");
            }
            drop(state);
            (state, loaded) = State::open(dir.path()).unwrap();
        }
        drop(nodes);
    }
}

/// What is bounded in memory is bounded on disk.
#[test]
fn the_database_does_not_grow_without_end() {
    let dir = dir();
    let (state, _) = State::open(dir.path()).unwrap();
    let mut table = table(10);
    for n in 0..20_000 {
        let boot = format!("boot{}", n / 500);
        let kind = EventKind::Fetch(FetchProgress { bytes: n, total: 1, ..Default::default() });
        table.take(id(1), ADDR, batch(&boot, vec![(n, n, kind)]), Instant::now());
        state.journal.push(table.log.drain()).unwrap();
    }
    drop(state);
    let length = fs::metadata(dir.path().join(DATABASE)).unwrap().len();
    assert!(length < 1 << 20, "{length}");
    let (_, loaded) = State::open(dir.path()).unwrap();
    assert!(loaded.events.len() < 10 + 2 * 512, "{}", loaded.events.len());
}

#[test]
fn a_locked_database_is_told_of_and_written_when_it_is_free() {
    let dir = dir();
    let (state, _) = State::open(dir.path()).unwrap();
    let other = Connection::open(dir.path().join(DATABASE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let op = || Op::PutMeta { key: "x", value: vec![1] };
    let place = state.journal.push([op()]).unwrap();
    let error = runtime.block_on(state.journal.stored(place)).unwrap_err();
    assert!(error.to_string().contains("locked by another program"), "{error}");
    assert_eq!(state.journal.trouble(), Some(error));
    other.execute_batch("COMMIT").unwrap();
    let stored = || runtime.block_on(state.journal.stored(place)).is_ok();
    let start = Instant::now();
    while !stored() {
        assert!(start.elapsed().as_secs() < 60, "not written");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(state.journal.trouble(), None);
}
