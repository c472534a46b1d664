//! `cargo xtask bench`: performance figures, always beside a peer in the same run.
//!
//! These machines are shared and noisy, so a figure alone says little: every run measures us and
//! another client on the same links with the same torrent, and prints ratios.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use lab::BitRate;
use proto::units::ByteSize;

mod contender;
mod content;
mod crowd;
mod report;
mod sim;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A flash crowd: N nodes start together and fetch one image from one seeder
    Swarm(SwarmArgs),
    /// The engine's core in a swarm of thousands, on simulated links
    Sim(Box<sim::SimArgs>),
}

/// Arguments of `cargo xtask bench swarm`.
#[derive(Debug, Parser)]
pub(crate) struct SwarmArgs {
    /// Nodes that fetch
    #[arg(long, default_value_t = 30)]
    pub(crate) nodes: u32,
    /// Rate of every link, each direction
    #[arg(long, default_value = "50Mbit")]
    pub(crate) rate: BitRate,
    /// Size of the image
    #[arg(long, default_value = "32MB")]
    pub(crate) image: ByteSize,
    /// Length of a piece
    #[arg(long, default_value = "32KiB")]
    pub(crate) piece: ByteSize,
    /// Runs of each client, in turn; the table shows each and the median
    #[arg(long, default_value_t = 1)]
    pub(crate) runs: u32,
    /// Who takes part
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["beeswarm", "ctorrent"])]
    pub(crate) clients: Vec<Client>,
    /// Where the programs of Beeswarm are; built in release mode when not given
    #[arg(long)]
    pub(crate) programs: Option<PathBuf>,
    /// Folder for logs and results
    #[arg(long, default_value = "target/bench/swarm")]
    pub(crate) output: PathBuf,
    /// Gives up on a run after this many times the ideal
    #[arg(long, default_value_t = 12)]
    pub(crate) patience: u32,
}

/// A BitTorrent client in the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Client {
    /// bee-tracker, bee-seeder and bee-initrd-client
    Beeswarm,
    /// opentracker and ctorrent, the system of 2015
    Ctorrent,
    /// opentracker and aria2
    Aria2,
}

/// Runs the benchmark.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.what {
        What::Swarm(args) => swarm(&args),
        What::Sim(args) => sim::run(&args),
    }
}

fn swarm(args: &SwarmArgs) -> anyhow::Result<()> {
    ensure!(args.nodes > 0 && args.runs > 0, "--nodes and --runs must be at least 1");
    let programs = match &args.programs {
        Some(folder) => {
            folder.canonicalize().with_context(|| format!("--programs {}", folder.display()))?
        }
        None => contender::build_programs()?,
    };
    fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot create {}", args.output.display()))?;
    let output = args.output.canonicalize()?;
    let tracker = format!("http://{}:6969/announce", crowd::ADMIN_IP);
    let content = content::make(&output, args.image.0, args.piece.0, &tracker)?;
    let mut results = Vec::new();
    for number in 1..=args.runs {
        for client in &args.clients {
            report::progress(&format!("run {number}: {client:?} …"));
            let logs = output.join(format!("{client:?}-{number}").to_lowercase());
            let result = crowd::run(args, *client, &programs, &content, &logs)?;
            report::progress(&format!("run {number}: {}", report::line(&result)));
            results.push(result);
        }
    }
    report::finish(args, &results, &output.join("result.json"))
}
