//! `cargo xtask bench`: performance figures, always beside a peer in the same run.
//!
//! These machines are shared and noisy, so a figure alone says little: every run measures us and
//! another client on the same links with the same torrent, and prints ratios.

use clap::{Parser, Subcommand};

mod barrier;
mod contender;
mod content;
mod crowd;
mod events;
mod facts;
mod figures;
mod goals;
mod liar;
mod member;
mod meter;
mod options;
mod outcome;
mod publish;
mod report;
mod scenario;
mod sim;
mod stage;
mod stats;
mod summary;
mod svg;
mod swarm;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// N nodes fetch one image from one seeder: a flash crowd, or something nastier
    Swarm(Box<options::SwarmArgs>),
    /// The engine's core in a swarm of thousands, on simulated links
    Sim(Box<sim::SimArgs>),
    /// A peer that sends wrong data, for the benchmark's own use
    #[command(hide = true)]
    Liar(liar::LiarArgs),
}

/// Runs the benchmark.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.what {
        What::Swarm(args) => swarm::run(&args),
        What::Sim(args) => sim::run(&args),
        What::Liar(args) => liar::run(&args),
    }
}
