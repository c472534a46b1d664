//! Random swarms with random trouble: 1,000 seeds, and what must hold in each of them.
//!
//! A failure names its seed. `BEESWARM_SIM_SEED=N` runs that one alone and says what it is made of;
//! `BEESWARM_SIM_SEEDS=N` runs that many.

#![expect(clippy::print_stdout, reason = "a replayed seed says what happens in it")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use sim::{Conduct, NodeId, Setup, Stop, World};
use swarm::core::CoreConfig;

const SEEDS: u64 = 1_000;

/// Simulated time that a swarm may need beyond what its links do, with peers that must be given up
/// first (60 s each time they come back) and losses.
const PATIENCE: Duration = Duration::from_secs(900);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a seed is a whole number"))
}

#[test]
fn honest_nodes_complete_whatever_the_others_do() {
    let (first, count, loud) = match number("BEESWARM_SIM_SEED") {
        Some(seed) => (seed, 1, true),
        None => (0, number("BEESWARM_SIM_SEEDS").unwrap_or(SEEDS), false),
    };
    let next = AtomicU64::new(first);
    let failures = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let run = catch_unwind(AssertUnwindSafe(|| one(seed, loud)));
                    let problem = match run {
                        Ok(problem) => problem,
                        Err(_) => Some("panicked".to_owned()),
                    };
                    if let Some(problem) = problem {
                        let mut list = failures.lock().unwrap_or_else(PoisonError::into_inner);
                        list.push((seed, problem));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort();
    let list: Vec<String> =
        failures.iter().take(10).map(|(s, p)| format!("seed {s}: {p}")).collect();
    assert!(
        failures.is_empty(),
        "{} of {count} seeds fail; replay one with BEESWARM_SIM_SEED=N:\n{}",
        failures.len(),
        list.join("\n")
    );
}

/// A swarm made from a seed, and what happens to it.
fn build(seed: u64, rng: &mut Rng, loud: bool) -> World {
    let leechers = rng.u32(2..=14);
    let piece = 16_384 << rng.u64(0..4);
    let total = piece * rng.u64(2..=60) + rng.u64(1..=piece);
    // so that the image takes 0.3 to 20 seconds over a link, but no link is so slow that the requests
    // to 14 peers take longer than the engine's patience
    let rate = (total * 10 / rng.u64(3..=200)).max(200_000);
    let mut setup = Setup::new(seed, leechers, total, piece, rate);
    setup.target_peers = rng.usize(2..=20);
    setup.settled_peers = setup.target_peers;
    setup.max_peers = setup.target_peers * 2;
    setup.initial_seeding = rng.u32(..4) > 0;
    setup.core = CoreConfig {
        upload_slots: rng.usize(1..=6),
        min_patience: Duration::from_millis(rng.u64(500..=3000)),
        // half of the torrents are hybrid
        ask_hashes: seed.is_multiple_of(2),
        ..CoreConfig::default()
    };
    let network = &mut setup.network;
    network.latency = Duration::from_micros(rng.u64(50..=20_000));
    network.latency_spread = Duration::from_micros(rng.u64(0..=60_000));
    network.headers = rng.bool();
    network.loss = if rng.bool() { rng.u32(0..=30_000) } else { 0 };
    network.queue = Duration::from_millis(rng.u64(1..=200));
    if loud {
        println!("seed {seed}: {setup:?}");
    }
    let rate = setup.network.rate;
    let mut world = World::new(setup).expect("a swarm that can be simulated");
    let ideal = total as f64 / rate as f64;
    let moment = |rng: &mut Rng| Duration::from_secs_f64(rng.f64() * ideal * 2.0);
    world.start_at(Duration::ZERO, NodeId(0));
    let bad = rng.u32(0..=leechers / 2);
    for node in (1..=leechers).map(NodeId) {
        if rng.u32(..4) == 0 {
            world.set_rates(node, rate / rng.u64(1..=4), rate / rng.u64(1..=4));
        }
        let late = rng.u32(..4) == 0;
        let at = if late { moment(rng) } else { Duration::from_millis(rng.u64(0..=200)) };
        world.start_at(at, node);
        let conduct = Conduct::DISHONEST[rng.usize(..Conduct::DISHONEST.len())];
        let at = if rng.bool() { Duration::ZERO } else { moment(rng) };
        if node.0 <= bad {
            world.behave_at(at, node, conduct);
            if loud {
                println!("  node {} is {conduct:?} from {at:?} on", node.0);
            }
        }
    }
    for _ in 0..rng.u32(0..4) {
        let (node, at) = (NodeId(rng.u32(1..=leechers)), moment(rng));
        let stop = [Stop::Leave, Stop::Crash, Stop::Resume, Stop::Restart][rng.usize(..4)];
        world.stop_at(at, node, stop);
        if loud {
            println!("  node {}: {stop:?} at {at:?}", node.0);
        }
    }
    for _ in 0..rng.u32(0..3) {
        let (node, at) = (NodeId(rng.u32(0..=leechers)), moment(rng));
        let seconds = [1, 10, 70, 100_000][rng.usize(..4)];
        world.skew_at(at, node, seconds);
        if loud {
            println!("  the clock of node {} jumps {seconds} s at {at:?}", node.0);
        }
    }
    world
}

/// Runs a seed; what is wrong, if anything.
fn one(seed: u64, loud: bool) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut world = build(seed, &mut rng, loud);
    let done = world.run(PATIENCE);
    let report = world.report();
    if loud {
        println!("{report:?}");
        for (id, node) in world.nodes() {
            let (sent, received) = (node.wire_sent(), node.wire_received());
            let have = node.core().have().count();
            println!(
                "node {}: {:?}, {have} pieces, sent {sent}, received {received} bytes,",
                id.0,
                node.conduct()
            );
            println!("  complete at {:?}, {:?}", node.finished_at(), node.core().totals());
        }
    }
    if let Some(fault) = world.faults().first() {
        return Some(fault.clone());
    }
    if !done {
        let left: Vec<(u32, u32)> = world
            .nodes()
            .filter(|(_, n)| n.was_honest() && n.is_alive() && n.finished_at().is_none())
            .map(|(id, n)| (id.0, n.core().have().count()))
            .collect();
        return Some(format!("nodes with so many pieces only after {:?}: {left:?}", world.now()));
    }
    world.nodes().find_map(|(id, _)| check(&world, id))
}

/// What must hold for every node that was never anything but honest.
fn check(world: &World, id: NodeId) -> Option<String> {
    let node = world.node(id);
    if !node.was_honest() {
        return None;
    }
    let complain = |what: String| Some(format!("node {}: {what}", id.0));
    if !world.holds_what_it_claims(id) {
        return complain("says it has pieces that are not stored".to_owned());
    }
    let (totals, setup) = (node.core().totals(), world.setup());
    // what was thrown away and was not wrong: asked for twice, or given up and come after all
    let wrong = u64::from(totals.hash_failures) * setup.piece;
    let doubled = totals.wasted.saturating_sub(wrong);
    let bound = setup.total + 64 * 16_384;
    if doubled > bound {
        return complain(format!(
            "received {doubled} bytes in vain, of an image of {}",
            setup.total
        ));
    }
    let waiting = node.counts().most_waiting;
    // the driver's limit, and what one read of requests is answered with
    if waiting > 20_500 {
        return complain(format!("{waiting} messages waited for one peer"));
    }
    // the whole state in words, as a measure of its size: what grows without bound shows
    let state = format!("{:?}", node.core()).len();
    let pieces = setup.total.div_ceil(setup.piece);
    let bound =
        100_000 + usize::try_from(pieces * 400).unwrap_or(usize::MAX) + node.connections() * 60_000;
    if state > bound {
        return complain(format!(
            "its state takes {state} letters with {} peers",
            node.connections()
        ));
    }
    None
}
