//! `cargo xtask bench`: performance figures, always beside a peer in the same run.
//!
//! These machines are shared and noisy, so a figure alone says little: every run measures us and
//! another client on the same links with the same torrent, and prints ratios.

use clap::{Parser, Subcommand};

mod barrier;
mod bed;
mod contender;
mod content;
mod crowd;
mod downlink;
mod events;
mod facts;
mod figures;
mod flame;
mod goals;
mod leech;
mod liar;
mod member;
mod meter;
mod options;
mod outcome;
mod pack;
mod pair;
mod places;
mod publish;
mod recorder;
mod report;
mod scenario;
mod serve;
mod sim;
mod stage;
mod stats;
mod summary;
mod svg;
mod swarm;
mod tracker;
mod warm;

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
    /// One seeder and one node, beside iperf3 and the hash rate
    Pair(pair::PairArgs),
    /// One admin host to many nodes over HTTP and the peer protocol, beside nginx
    Serve(serve::ServeArgs),
    /// Announces per second and memory of the tracker, beside opentracker and aquatic
    Tracker(tracker::TrackerArgs),
    /// Packing an image, beside mksquashfs and tar2sqfs
    Pack(pack::PackArgs),
    /// Runs a program and tells what it used, for the benchmark's own use
    #[command(hide = true)]
    Measure(pack::MeasureArgs),
    /// Flame graphs of seeder and nodes while a crowd fetches (needs perf)
    Flame(flame::FlameArgs),
    /// A peer that takes an image and keeps nothing, for the benchmark's own use
    #[command(hide = true)]
    Leech(leech::LeechArgs),
    /// A peer that sends wrong data, for the benchmark's own use
    #[command(hide = true)]
    Liar(liar::LiarArgs),
}

/// Runs the benchmark.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.what {
        What::Swarm(args) => swarm::run(&args),
        What::Sim(args) => sim::run(&args),
        What::Pair(args) => pair::run(&args),
        What::Serve(args) => serve::run(&args),
        What::Tracker(args) => tracker::run(&args),
        What::Pack(args) => pack::run(&args),
        What::Measure(args) => pack::measure(&args),
        What::Flame(args) => flame::run(&args),
        What::Leech(args) => leech::run(&args),
        What::Liar(args) => liar::run(&args),
    }
}
