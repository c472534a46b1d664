//! Crowds that are not alike: slow nodes, two subnets, newcomers. Each failure names its seed.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use sim::{Conduct, NodeId, Setup, Stop, World};

const MBIT: u64 = 125_000;
const MIB: u64 = 1024 * 1024;
const RATE: u64 = 25 * MBIT;

fn world(seed: u64) -> World {
    World::new(Setup::new(seed, 30, 16 * MIB, 32 * 1024, RATE)).unwrap()
}

fn complete(name: &str, world: &mut World, seconds: u64) {
    let done = world.run(Duration::from_secs(seconds));
    let seed = world.setup().seed;
    let left: Vec<(u32, u32)> = world
        .nodes()
        .filter(|(_, n)| n.is_alive() && n.conduct() == Conduct::Honest)
        .filter(|(_, n)| n.finished_at().is_none())
        .map(|(id, n)| (id.0, n.core().have().count()))
        .collect();
    assert!(done, "{name} seed={seed} at {:?}: incomplete {left:?}", world.now());
    assert!(world.faults().is_empty(), "{name} seed={seed}: {:?}", world.faults());
}

/// Completion from a node's own start, against the time over its link.
fn ratio(world: &World, node: u32) -> f64 {
    let node = world.node(NodeId(node));
    let took = node.finished_at().unwrap() - node.started_at();
    took.as_secs_f64() * RATE as f64 / (16 * MIB) as f64
}

fn images(world: &World) -> f64 {
    world.report().admin_payload_images
}

#[test]
fn slow_nodes_do_not_hold_up_the_others() {
    let last = |seed: u64, piece: u64, slow: &[u32]| {
        let mut world = World::new(Setup::new(seed, 30, 16 * MIB, piece, RATE)).unwrap();
        for node in slow {
            world.set_rates(NodeId(*node), RATE / 10, RATE / 10);
        }
        world.start_all(Duration::from_millis(100));
        complete("slow", &mut world, 120);
        assert!(images(&world) <= 1.3, "seed={seed}");
        (1..30).filter(|n| n % 10 != 0).map(|n| ratio(&world, n)).fold(0.0, f64::max)
    };
    for piece in [16 * 1024, 32 * 1024] {
        let without = last(0, piece, &[]);
        for seed in 0..4 {
            let others = last(seed, piece, &[10, 20, 30]);
            println!(
                "slow piece={piece} seed={seed}: the others {others:.3}, without {without:.3}"
            );
            assert!(others <= without * 1.1, "seed={seed}: {others}, without slow ones {without}");
        }
    }
}

fn two_subnets(seed: u64) -> World {
    let mut world = world(seed);
    let far: Vec<NodeId> = (16..=30).map(NodeId).collect();
    world.set_segments(RATE, &far);
    world
}

#[test]
fn a_thin_link_is_crossed_about_once() {
    for seed in 0..4 {
        let mut world = two_subnets(seed);
        world.start_all(Duration::from_millis(100));
        complete("subnets", &mut world, 60);
        let crossed: Vec<f64> =
            world.crossed_bytes().iter().map(|b| *b as f64 / (16 * MIB) as f64).collect();
        let last = world.report().ratio.unwrap();
        println!("subnets seed={seed}: {last:.3}, crossed {crossed:?}");
        assert!(crossed.iter().all(|images| *images <= 1.5), "seed={seed}: {crossed:?}");
        assert!(last <= 1.6, "seed={seed}: {last}");
    }
}

#[test]
fn who_lies_here_keeps_nobody_from_asking_there() {
    for seed in 0..4 {
        let mut world = two_subnets(seed);
        // claims everything, or takes requests and answers none
        world.set_conduct(NodeId(20), Conduct::FalseHaves);
        world.set_conduct(NodeId(25), Conduct::Silent);
        world.start_all(Duration::from_millis(100));
        complete("liars here", &mut world, 120);
    }
}

#[test]
fn newcomers_are_left_to_the_nodes() {
    for seed in 0..4 {
        let mut world = world(seed);
        world.start_at(Duration::ZERO, NodeId(0));
        for node in 1..=30 {
            world.start_at(Duration::from_millis(200) * node, NodeId(node));
        }
        complete("trickle", &mut world, 60);
        println!("trickle seed={seed}: {:.3} images", images(&world));
        assert!(images(&world) <= 1.15, "seed={seed}: {}", images(&world));
    }
}

#[test]
fn a_newcomer_with_the_seeder_alone_does_not_starve() {
    for seed in 0..4 {
        let mut world = world(seed);
        world.start_at(Duration::ZERO, NodeId(0));
        for node in 1..30 {
            world.start_at(Duration::from_millis(10), NodeId(node));
            // the seeder takes them for sources, and they are gone
            world.stop_at(Duration::from_secs(9), NodeId(node), Stop::Crash);
        }
        world.start_at(Duration::from_millis(9_100), NodeId(30));
        complete("alone", &mut world, 60);
        // two seconds to find out, a second for the dead
        let took = ratio(&world, 30);
        println!("alone seed={seed}: {took:.3}");
        assert!(took <= 1.1 + 3.0 * RATE as f64 / (16 * MIB) as f64, "seed={seed}: {took}");
    }
}
