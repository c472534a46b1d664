//! Every parser of outside bytes, on mutated valid inputs and on noise.
//!
//! The inputs are the same on every run; a failure prints the target, the round and the input, so
//! that it can become a regression test. The open-ended search is `fuzz/` (see its README).

#![expect(clippy::unwrap_used, reason = "the helpers of a test")]

// inside its own tests the crate has its package's name; elsewhere it is `proto`
extern crate beeswarm_proto as proto;

#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/seeds.rs"]
mod seeds;
#[path = "fuzz/targets.rs"]
mod targets;

use std::panic::catch_unwind;

/// Mutated inputs per target.
const ROUNDS: u64 = 20_000;

#[test]
fn every_seed_is_accepted_and_every_prefix_survived() {
    for (name, target) in targets::ALL {
        for seed in seeds::of(name) {
            assert!(run(name, target, 0, &seed), "{name} refuses its seed {}", seed.escape_ascii());
            for end in 0..seed.len() {
                run(name, target, 0, &seed[..end]);
            }
        }
    }
}

#[test]
fn mutations_are_survived() {
    for (at, (name, target)) in (1u64..).zip(targets::ALL) {
        let seeds = seeds::of(name);
        let mut random = mutate::Random::new(at);
        let mut accepted = 0;
        for round in 1..=ROUNDS {
            let input = mutate::mutate(&seeds, &mut random);
            accepted += u64::from(run(name, target, round, &input));
        }
        // a mutator that always breaks its input would not get past the first check
        assert!(
            (ROUNDS / 1000..ROUNDS).contains(&accepted),
            "{name}: {accepted} of {ROUNDS} inputs accepted; the mutations are too rough or too tame"
        );
    }
}

fn run(name: &str, target: targets::Target, round: u64, input: &[u8]) -> bool {
    match catch_unwind(|| target(input)) {
        Ok(accepted) => accepted,
        Err(_) => panic!("{name}, round {round}: failed on b\"{}\"", input.escape_ascii()),
    }
}
