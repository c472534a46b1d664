//! `cargo xtask bench sim`: the real core of the engine in swarms of thousands, on simulated links.

mod crowd;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use proto::units::{ByteRate, ByteSize};
use sim::{Hop, Report, Setup, Spread, World};
use swarm::core::CoreConfig;

use self::crowd::{Crowd, Group};
use super::scenario::Scenario;

/// Arguments of `cargo xtask bench sim`.
#[derive(Debug, Parser)]
pub(crate) struct SimArgs {
    /// What happens while the nodes fetch
    #[arg(long, value_enum, default_value_t = Scenario::FlashCrowd)]
    scenario: Scenario,
    /// Nodes that fetch
    #[arg(long, default_value_t = 1000)]
    nodes: u32,
    /// Rate of every link, each direction
    #[arg(long, default_value = "50Mbit")]
    rate: ByteRate,
    /// Size of the image
    #[arg(long, default_value = "32MB")]
    image: ByteSize,
    /// Length of a piece, a power of two
    #[arg(long, default_value = "32KiB")]
    piece: ByteSize,
    /// Seed of the first run; each run takes the next one
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// Runs at once, each on a thread
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// The seeder shows all pieces to all from the start
    #[arg(long)]
    no_initial_seeding: bool,
    /// Upload slots of every node
    #[arg(long)]
    slots: Option<usize>,
    /// Bytes that a slot serves before it passes on
    #[arg(long)]
    quantum: Option<u32>,
    /// Milliseconds without a request after which a slot is taken away
    #[arg(long, value_name = "MS")]
    idle: Option<u64>,
    /// Milliseconds that Haves wait for data to ride on
    #[arg(long, value_name = "MS")]
    have_batch: Option<u64>,
    /// Pieces shown to a peer and not yet fetched, while seeding initially
    #[arg(long)]
    open_reveals: Option<usize>,
    /// Any policy of the core, by its field's name; times in milliseconds
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Policies of the seeder alone, besides those of all
    #[arg(long = "seeder-set", value_name = "NAME=VALUE")]
    seeder_set: Vec<String>,
    /// Connections that a node dials for
    #[arg(long)]
    target_peers: Option<usize>,
    /// Most connections of a node
    #[arg(long)]
    max_peers: Option<usize>,
    /// One-way delay between two nodes, in microseconds
    #[arg(long, default_value_t = 300)]
    latency: u64,
    /// Further one-way delay, another for each pair, up to this many microseconds
    #[arg(long, default_value_t = 0)]
    latency_spread: u64,
    /// Nodes start within this many milliseconds
    #[arg(long, default_value_t = 100)]
    start_spread: u64,
    /// Queue in front of a downlink, in milliseconds at its rate
    #[arg(long, default_value_t = 20)]
    queue: u64,
    /// Unsent bytes that the kernel takes per connection
    #[arg(long, default_value = "16KiB")]
    send_buffer: ByteSize,
    /// Most packets that a connection sends in a row; by the rate when not given
    #[arg(long)]
    burst: Option<u32>,
    /// Lost bursts in a million
    #[arg(long, default_value_t = 0)]
    loss: u32,
    /// Leave out packet headers and acknowledgements
    #[arg(long)]
    no_headers: bool,
    /// Uplinks are slower than downlinks, by this factor
    #[arg(long, default_value_t = 1)]
    slow_uplinks: u64,
    /// Rate of the link between two subnets, each way; as thin as a node's when not given
    #[arg(long)]
    trunk: Option<ByteRate>,
    /// Gives up on a run after this many times the ideal
    #[arg(long, default_value_t = 12)]
    patience: u32,
    /// Print one JSON object per run instead of text
    #[arg(long)]
    json: bool,
    /// Append the JSON of each run to this file
    #[arg(long)]
    output: Option<PathBuf>,
}

/// What one run gave.
struct Outcome {
    report: Report,
    groups: Vec<Group>,
    /// Bytes that left each part of the network, in images.
    crossed: Vec<f64>,
    wall: Duration,
}

/// Runs the simulation as often as asked.
pub(crate) fn run(args: &SimArgs) -> anyhow::Result<()> {
    ensure!(
        args.nodes > 0 && args.runs > 0 && args.threads > 0 && args.slow_uplinks > 0,
        "--nodes, --runs, --threads and --slow-uplinks must be at least 1"
    );
    let setup = setup(args)?;
    let seeds: Vec<u64> = (0..u64::from(args.runs)).map(|n| args.seed + n).collect();
    let mut ratios = Vec::new();
    let mut failed = 0;
    for group in seeds.chunks(args.threads as usize) {
        let results: Vec<anyhow::Result<Outcome>> = std::thread::scope(|scope| {
            let runs: Vec<_> = group
                .iter()
                .map(|seed| {
                    let setup = Setup { seed: *seed, ..setup.clone() };
                    scope.spawn(move || one(args, setup))
                })
                .collect();
            runs.into_iter()
                .map(|run| run.join().map_err(|_| anyhow::anyhow!("a run panicked"))?)
                .collect()
        });
        for result in results {
            let outcome = result?;
            let report = &outcome.report;
            failed += usize::from(report.ratio.is_none() || !report.faults.is_empty());
            ratios.extend(report.ratio);
            tell(args, &outcome)?;
        }
    }
    if ratios.len() > 1 && !args.json {
        ratios.sort_by(f64::total_cmp);
        let median = ratios[ratios.len() / 2];
        say(&format!("median ratio of {} runs: {median:.3}", ratios.len()))?;
    }
    ensure!(failed == 0, "{failed} of {} runs left a node behind or broke a rule", args.runs);
    Ok(())
}

fn setup(args: &SimArgs) -> anyhow::Result<Setup> {
    let mut core = CoreConfig::default();
    let millis = Duration::from_millis;
    core.upload_slots = args.slots.unwrap_or(core.upload_slots);
    core.quantum = args.quantum.unwrap_or(core.quantum);
    core.idle = args.idle.map_or(core.idle, millis);
    core.have_batch = args.have_batch.map_or(core.have_batch, millis);
    core.open_reveals = args.open_reveals.unwrap_or(core.open_reveals);
    apply(&mut core, &args.set).context("--set")?;
    let mut seeder = core.clone();
    apply(&mut seeder, &args.seeder_set).context("--seeder-set")?;
    let mut setup = Setup::new(args.seed, args.nodes, args.image.0, args.piece.0, args.rate.0);
    setup.seeder_core = (!args.seeder_set.is_empty()).then_some(seeder);
    setup.core = core;
    setup.initial_seeding = !args.no_initial_seeding;
    setup.samples = true;
    setup.target_peers = args.target_peers.unwrap_or(setup.target_peers);
    setup.max_peers = args.max_peers.unwrap_or(setup.max_peers);
    let network = &mut setup.network;
    network.latency = Duration::from_micros(args.latency);
    network.latency_spread = Duration::from_micros(args.latency_spread);
    network.queue = millis(args.queue);
    network.send_buffer = u32::try_from(args.send_buffer.0).context("--send-buffer")?;
    network.burst = args.burst;
    network.loss = args.loss;
    network.headers = !args.no_headers;
    Ok(setup)
}

fn apply(core: &mut CoreConfig, settings: &[String]) -> anyhow::Result<()> {
    for setting in settings {
        let (name, value) =
            setting.split_once('=').with_context(|| format!("{setting:?} is not NAME=VALUE"))?;
        sim::set(core, name, value)?;
    }
    Ok(())
}

fn one(args: &SimArgs, setup: Setup) -> anyhow::Result<Outcome> {
    let begin = Instant::now();
    let mut world = World::new(setup)?;
    if args.slow_uplinks > 1 {
        let up = args.rate.0 / args.slow_uplinks;
        (1..=args.nodes).for_each(|n| world.set_rates(sim::NodeId(n), up, args.rate.0));
    }
    let spread = Duration::from_millis(args.start_spread);
    let trunk = args.trunk.unwrap_or(args.rate).0;
    let crowd = Crowd::seat(args.scenario, &mut world, args.rate.0, trunk, spread)?;
    let slow = f64::from(args.patience) * args.slow_uplinks as f64;
    world.run(Duration::from_secs_f64(crowd.ideal(&world) * slow + 5.0));
    let crossed = world.crossed_bytes().iter().map(|b| *b as f64 / args.image.0 as f64).collect();
    let groups = crowd.groups(&world);
    Ok(Outcome { report: world.report(), groups, crossed, wall: begin.elapsed() })
}

fn tell(args: &SimArgs, outcome: &Outcome) -> anyhow::Result<()> {
    let Outcome { report, wall, .. } = outcome;
    let mut json = serde_json::to_value(report)?;
    json["groups"] = serde_json::to_value(&outcome.groups)?;
    json["crossed_images"] = serde_json::to_value(&outcome.crossed)?;
    json["wall_seconds"] = wall.as_secs_f64().into();
    json["peak_memory_bytes"] = peak_memory().into();
    if let Some(path) = &args.output {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path);
        let file = file.as_mut().map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
        writeln!(file, "{json}").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.json { say(&json.to_string()) } else { say(&text(outcome)) }
}

fn text(outcome: &Outcome) -> String {
    let Outcome { report, wall, .. } = outcome;
    let ratio = |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{v:.3}"));
    let mut text = format!(
        "seed {}: {}/{} complete, ratio {} (median node {}, first {}), ideal {:.2} s\n\
         \x20 admin sent {:.3} images ({:.3} of blocks), duplicates {:.2} %, wire {:.1} % of the image\n\
         \x20 per node: {:.0} messages ({:.0} Haves), {:.0} writes without and {:.0} with blocks, \
         {:.1} connections (least {})\n\
         \x20 first piece after {:.2} s (median), {:.2} s (last)\n",
        report.seed,
        report.complete,
        report.nodes,
        ratio(report.ratio),
        ratio(report.median_ratio),
        ratio(report.first_ratio),
        report.ideal_seconds,
        report.admin_images,
        report.admin_payload_images,
        report.duplicate_percent,
        report.wire_percent,
        report.messages,
        report.haves,
        report.control_writes,
        report.block_writes,
        report.connections_mean,
        report.connections_least,
        report.first_piece_median,
        report.first_piece_most,
    );
    for group in &outcome.groups {
        let (last, median) = (ratio(group.last), ratio(group.median));
        let Group { role, nodes, .. } = group;
        text += &format!("  {nodes} {role} nodes: ratio {last} (median node {median})\n");
    }
    if let [near, far] = outcome.crossed[..] {
        text += &format!("  between the subnets: {near:.3} images to the far one, {far:.3} back\n");
    }
    let links = [("downlink", &report.down), ("uplink", &report.up)];
    for (name, seconds) in links.into_iter().chain([("admin uplink", &report.admin_up)]) {
        let all: f64 = seconds.0.iter().flat_map(|(_, s)| s).sum();
        text += &format!("  {name}: {all:.2} s{:>45}\n", "first tenth, middle, last tenth");
        for (cause, phases) in seconds.0.iter().filter(|(_, s)| s.iter().any(|s| *s > 0.0)) {
            let spent: f64 = phases.iter().sum();
            let [first, middle, last] = phases;
            text += &format!(
                "    {cause:<34} {spent:>7.3} s {:>5.1} % {first:>9.3} {middle:>7.3} {last:>7.3}\n",
                100.0 * spent / all
            );
        }
    }
    text += &spreads(&report.spreads);
    for fault in &report.faults {
        text += &format!("  FAULT {fault}\n");
    }
    let mega = peak_memory() as f64 / 1e6;
    let millions = report.events as f64 / 1e6;
    text + &format!("  {:.1} s wall, {mega:.0} MB, {millions:.1} M events", wall.as_secs_f64())
}

/// How pieces spread: a row for each third of them, in the order in which they left the seeder.
fn spreads(of: &[Spread]) -> String {
    let mut text =
        String::from("  a copy waits, ms:      Have    ask  queue   sent   rest; had by\n");
    for (spread, name) in of.iter().zip(["first", "middle", "last"]) {
        let Hop { have, ask, queue, transfer, rest } = spread.hop;
        text += &format!(
            "    {name:<6} {:>4} pieces {have:>6.0} {ask:>6.0} {queue:>6.0} {transfer:>6.0} {rest:>6.0} ",
            spread.pieces
        );
        let reached = spread.reached.iter().map(|(nodes, after)| format!(" {nodes}:{after:.0}"));
        text += &reached.collect::<String>();
        text.push('\n');
    }
    text
}

/// Largest resident set of this process, in bytes (proc(5), `VmHWM`); 0 when it cannot be read.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
