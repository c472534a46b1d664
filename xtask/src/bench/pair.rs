//! `cargo xtask bench pair`: one seeder and one fetching node on links without a limit, beside what
//! the same links and one core can do.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use lab::Cmd;
use lab::tool::Tool;
use proto::hash::PieceHash;
use proto::units::ByteSize;
use serde::Serialize;
use serde_json::Value;

use super::bed::Bed;
use super::contender::Client;
use super::facts::Facts;
use super::places::Places;
use super::stage::ADMIN_IP;
use super::{content, publish, report, stats};
use crate::interrupt::{CtrlC, Interrupt};
use crate::workspace;

const IPERF3: Tool = Tool::new("iperf3", "what a link can carry", "iperf3", "iperf3");

/// Share of the slower of link and hash that is wanted.
const GOAL: f64 = 0.9;

/// How long hashing is measured.
const HASHING: Duration = Duration::from_secs(1);

/// Arguments of `cargo xtask bench pair`.
#[derive(Debug, Parser)]
pub(crate) struct PairArgs {
    /// Size of the image, which is held in memory four times
    #[arg(long, default_value = "1GB")]
    image: ByteSize,
    /// Length of a piece
    #[arg(long, default_value = "256KiB")]
    piece: ByteSize,
    /// Runs of each measurement, in turn; the result has the medians
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Where the programs of Beeswarm are; built in release mode when not given
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Folder for logs and results
    #[arg(long, default_value = "target/bench/pair")]
    output: PathBuf,
    /// Keeps the results as docs/bench/NAME
    #[arg(long, value_name = "NAME")]
    publish: Option<String>,
}

/// One run, in bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct PairRun {
    link: f64,
    hash: f64,
    fetch: f64,
    /// Processor seconds of the seeder per GB.
    seeder_cpu_per_gb: f64,
    /// Share of the machine that was idle while the image was fetched.
    idle: f64,
}

impl PairRun {
    /// Against the slower of link and hash.
    fn ratio(&self) -> f64 {
        self.fetch / self.link.min(self.hash)
    }
}

/// Measures.
pub(crate) fn run(args: &PairArgs) -> anyhow::Result<()> {
    ensure!(args.runs > 0, "--runs must be at least 1");
    let places = Places::prepare(args.programs.as_deref(), &args.output, args.publish.as_deref())?;
    let iperf3 = IPERF3.find()?;
    let tracker = format!("http://{ADMIN_IP}:6969/announce");
    let content = content::make(&places.output, args.image.0, args.piece.0, &tracker)?;
    let interrupt = Interrupt::install(CtrlC::Ends)?;
    let mut facts = Facts::gather();
    let measure = || -> anyhow::Result<(Vec<PairRun>, Vec<String>)> {
        let bed =
            Bed::start(1, args.image.0 * 2 + (64 << 20), &places.output.join("logs"), &interrupt)?;
        let services = Client::Beeswarm.services(&bed.admin, &places.programs, &content)?;
        let node = bed.nodes.first().context("the lab has a node")?;
        let target = node.scratch().join("image");
        let fetch = Cmd::new(places.programs.join("bee-initrd-client"))
            .args(["fetch", "--json", "--listen", "0.0.0.0:6881", "--torrent"])
            .arg(&content.offer.torrent)
            .arg("--output")
            .arg(&target);
        let commands = vec![services.seeder.to_string(), fetch.to_string()];
        let tracker = services.tracker.context("our client has a tracker")?;
        let _tracker = bed.server("tracker", tracker, 6969)?;
        let mut seeder = bed.server("seeder", services.seeder, 6881)?;
        // idle while the image is fetched
        let _iperf3 = bed.server("iperf3", Cmd::new(&iperf3).arg("-s"), 5201)?;
        let mut runs = Vec::new();
        for number in 1..=args.runs {
            let client = Cmd::new(&iperf3).args(["-c", ADMIN_IP, "-R", "-J", "-t", "3", "-O", "1"]);
            let link = iperf(&node.run(&client)?.stdout)?;
            let hash = hash_rate(usize::try_from(args.piece.0)?);
            let burst = bed.burst(&format!("fetch-{number}"), &mut seeder, |_| fetch.clone())?;
            let log = bed.lab.logs().join(format!("fetch-{number}-n1.out"));
            let seconds = fetch_seconds(&fs::read_to_string(&log)?)
                .with_context(|| format!("no completion in {}", log.display()))?;
            let outside = bed.lab.outside(&target);
            ensure!(fs::read(&outside)? == content.bytes, "the node's file is not the image");
            fs::remove_file(&outside)?;
            let length = content.bytes.len() as f64;
            let run = PairRun {
                link,
                hash,
                fetch: length / seconds,
                seeder_cpu_per_gb: burst.server_per_gb(length),
                idle: burst.machine.idle,
            };
            report::progress(&format!("run {number}: {}", line(&run)));
            runs.push(run);
        }
        bed.lab.stop();
        Ok((runs, commands))
    };
    let (runs, commands) = measure().inspect_err(|_| interrupt.give_way())?;
    facts.programs.note("beeswarm", &commands, &places.aliases());
    facts.programs.note("iperf3", &[iperf3.display().to_string()], &[]);
    let table = table(args, &runs);
    workspace::say(format_args!("\n{table}"));
    for folder in places.results() {
        publish::write(folder, "One seeder, one node", &facts, &runs, &table, &[])?;
        workspace::say(format_args!("results: {}", folder.display()));
    }
    Ok(())
}

/// SHA-1 on one core, in bytes per second.
fn hash_rate(piece: usize) -> f64 {
    let data = vec![0x5a; piece];
    let start = Instant::now();
    let mut bytes = 0.0;
    while start.elapsed() < HASHING {
        std::hint::black_box(PieceHash::of(std::hint::black_box(&data)));
        bytes += piece as f64;
    }
    bytes / start.elapsed().as_secs_f64()
}

/// Bytes per second that iperf3's receiver saw.
fn iperf(json: &[u8]) -> anyhow::Result<f64> {
    let report: Value = serde_json::from_slice(json).context("iperf3 printed no JSON")?;
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64();
    rate.map(|bits| bits / 8.0)
        .with_context(|| format!("iperf3 failed: {}", report["error"].as_str().unwrap_or("?")))
}

/// The seconds that our client says the fetch took.
fn fetch_seconds(lines: &str) -> Option<f64> {
    lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|event| event["event"] == "complete")?["fetch_seconds"]
        .as_f64()
}

fn line(run: &PairRun) -> String {
    format!(
        "fetch {:.0} MB/s, link {:.0} MB/s, SHA-1 {:.0} MB/s: {:.2} of the slower; seeder {:.2} CPU \
         s/GB, idle {:.0} %",
        run.fetch / 1e6,
        run.link / 1e6,
        run.hash / 1e6,
        run.ratio(),
        run.seeder_cpu_per_gb,
        run.idle * 100.0
    )
}

fn table(args: &PairArgs, runs: &[PairRun]) -> String {
    let middle = |of: fn(&PairRun) -> f64| stats::median(runs.iter().map(of)).unwrap_or(f64::NAN);
    let ratio = middle(PairRun::ratio);
    let verdict = if ratio >= GOAL { "met" } else { "**missed**" };
    format!(
        "One seeder, one node, links without a limit, memory to memory: image {}, pieces {}, medians \
         of {} runs.\n\n\
         | what | MB/s |\n|---|---|\n\
         | fetched and verified | {:.0} |\n\
         | iperf3, the same link | {:.0} |\n\
         | SHA-1, one core | {:.0} |\n\n\
         | goal | wanted | measured | |\n|---|---|---|---|\n\
         | share of the slower of link and hash | ≥ {GOAL} | {ratio:.2} | {verdict} |\n",
        args.image,
        args.piece,
        runs.len(),
        middle(|run| run.fetch) / 1e6,
        middle(|run| run.link) / 1e6,
        middle(|run| run.hash) / 1e6,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_programs_print_is_read() {
        let json = br#"{"end":{"sum_received":{"bits_per_second":8e9}}}"#;
        assert_eq!(iperf(json).unwrap(), 1e9);
        let error = iperf(br#"{"error":"unable to connect"}"#).unwrap_err().to_string();
        assert!(error.contains("unable to connect"), "{error}");
        assert!(iperf(b"iperf3: error").is_err());
        let lines = "{\"event\":\"progress\"}\n{\"event\":\"complete\",\"fetch_seconds\":1.5}\n";
        assert_eq!(fetch_seconds(lines), Some(1.5));
        assert_eq!(fetch_seconds("{\"event\":\"progress\"}\n"), None);
    }

    #[test]
    fn the_goal_is_against_the_slower_one() {
        let run =
            PairRun { link: 4e9, hash: 1e9, fetch: 0.95e9, seeder_cpu_per_gb: 0.5, idle: 0.3 };
        assert_eq!(run.ratio(), 0.95);
        let args = PairArgs::try_parse_from(["pair"]).unwrap();
        assert!(table(&args, &[run]).contains("| 0.95 | met |"));
        let slow = PairRun { fetch: 0.5e9, ..run };
        assert!(table(&args, &[slow, slow, run]).contains("| 0.50 | **missed** |"));
    }

    #[test]
    fn hashing_has_a_rate() {
        assert!(hash_rate(1 << 16) > 1e6);
    }
}
