//! Whole swarms of real cores under a simulated clock; see [`world`]. Each failure names its seed.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends at the first surprise and may say what it measured"
)]

mod world;

use std::time::Duration;

use swarm::core::CoreConfig;
use world::{Conduct, NodeId, Setup, World};

const MBIT: u64 = 125_000;
const MIB: u64 = 1024 * 1024;

fn setup(seed: u64) -> Setup {
    Setup {
        seed,
        leechers: 30,
        total: 8 * MIB,
        piece: 32 * 1024,
        rate: 25 * MBIT,
        degree: 20,
        initial_seeding: true,
        config: CoreConfig::default(),
    }
}

fn start_all(world: &mut World) {
    for node in 0..world.nodes.len() {
        world.start_at(Duration::from_millis(node as u64), NodeId(node));
    }
}

fn report(name: &str, seed: u64, world: &World) {
    let wasted: u64 = world.nodes.iter().map(|n| n.core.totals().wasted).sum();
    let received: u64 = world.nodes.iter().map(|n| n.core.totals().downloaded).sum();
    println!(
        "{name} seed={seed}: ratio {:.3}, seeder sent {:.3} images, wasted {:.2} %",
        world.ratio(),
        world.images_sent(NodeId(0)),
        wasted as f64 * 100.0 / received as f64
    );
}

fn explain(name: &str, seed: u64, world: &World) -> String {
    let left: Vec<String> = world
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, n)| n.finished_at.is_none() && n.alive)
        .map(|(id, n)| format!("{id}: {}", n.core.have().count()))
        .collect();
    format!("{name} seed={seed} at {:?}: incomplete {left:?}", world.now)
}

#[test]
fn thirty_nodes_complete_near_the_bound() {
    for seed in 0..3 {
        let mut world = World::new(setup(seed));
        start_all(&mut world);
        assert!(world.run(Duration::from_secs(30)), "{}", explain("crowd", seed, &world));
        report("crowd", seed, &world);
        assert!(world.images_sent(NodeId(0)) <= 1.5, "seed={seed}");
        assert!(world.ratio() <= 1.5, "seed={seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut world = World::new(setup(7));
        start_all(&mut world);
        assert!(world.run(Duration::from_secs(30)));
        world.nodes.iter().map(|n| (n.finished_at, n.sent)).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn slow_links_finish_too() {
    // where constant timers of a prototype finished none
    let mut world =
        World::new(Setup { leechers: 60, total: 4 * MIB, rate: 5 * MBIT / 2, ..setup(1) });
    start_all(&mut world);
    assert!(world.run(Duration::from_secs(120)), "{}", explain("slow", 1, &world));
    report("slow", 1, &world);
    assert!(world.ratio() <= 2.0);
}

#[test]
fn plain_seeding_works_and_costs_more_of_the_seeder() {
    let mut world = World::new(Setup { initial_seeding: false, ..setup(2) });
    start_all(&mut world);
    assert!(world.run(Duration::from_secs(60)), "{}", explain("plain", 2, &world));
    report("plain", 2, &world);
}

#[test]
fn a_single_leecher_is_not_slowed_by_initial_seeding() {
    let mut world = World::new(Setup { leechers: 1, ..setup(3) });
    start_all(&mut world);
    assert!(world.run(Duration::from_secs(30)), "{}", explain("single", 3, &world));
    report("single", 3, &world);
    assert!(world.ratio() <= 1.1);
}

#[test]
fn a_late_joiner_is_not_slowed() {
    let mut world = World::new(setup(4));
    let late = NodeId(30);
    for node in 0..30 {
        world.start_at(Duration::ZERO, NodeId(node));
    }
    let at = Duration::from_secs(10);
    world.start_at(at, late);
    assert!(world.run(Duration::from_secs(60)), "{}", explain("late", 4, &world));
    let took = world.nodes[late.0].finished_at.unwrap() - at;
    println!("late joiner took {took:?}");
    assert!(took.as_secs_f64() < 1.3 * 8.0 * MIB as f64 / (25.0 * MBIT as f64));
}

#[test]
fn nodes_complete_when_the_seeder_leaves_after_one_copy() {
    for seed in 0..3 {
        let mut world = World::new(setup(seed));
        start_all(&mut world);
        while world.images_sent(NodeId(0)) < 1.3 {
            let next = world.now + Duration::from_millis(100);
            if world.run(next) {
                break;
            }
        }
        world.leave_at(world.now, NodeId(0));
        assert!(world.run(Duration::from_secs(60)), "{}", explain("orphans", seed, &world));
    }
}

#[test]
fn churn_does_not_stop_the_others() {
    for seed in 0..5 {
        let mut world = World::new(setup(100 + seed));
        start_all(&mut world);
        let mut rng = fastrand::Rng::with_seed(seed);
        for node in 20..=30 {
            world.leave_at(Duration::from_millis(rng.u64(100..4000)), NodeId(node));
        }
        assert!(world.run(Duration::from_secs(60)), "{}", explain("churn", seed, &world));
        report("churn", seed, &world);
    }
}

#[test]
fn liars_are_banned_and_honest_nodes_get_good_data() {
    for seed in 0..5 {
        let mut world = World::new(Setup { piece: 64 * 1024, ..setup(200 + seed) });
        for liar in 28..=30 {
            world.nodes[liar].conduct = Conduct::Liar(50);
        }
        start_all(&mut world);
        assert!(world.run(Duration::from_secs(60)), "{}", explain("liars", seed, &world));
        report("liars", seed, &world);
        assert!(!world.nodes.iter().any(|n| n.stored_wrong));
        assert!(!world.bans.is_empty(), "seed={seed}");
        let liars: Vec<_> = (28..=30).map(NodeId).map(World::identity).collect();
        assert!(
            world.bans.iter().all(|b| liars.contains(b)),
            "seed={seed}: an honest node was banned"
        );
    }
}

#[test]
fn silent_peers_hold_nobody_up() {
    for seed in 0..3 {
        let mut world = World::new(setup(300 + seed));
        for silent in 26..=30 {
            world.nodes[silent].conduct = Conduct::Silent;
        }
        start_all(&mut world);
        assert!(world.run(Duration::from_secs(60)), "{}", explain("silent", seed, &world));
        report("silent", seed, &world);
    }
}
