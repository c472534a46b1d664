//! Tables and JSON of a benchmark.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use proto::units::ByteSize;
use serde_json::json;

use super::SwarmArgs;
use super::crowd::RunResult;

/// Prints a line about what is going on.
pub(crate) fn progress(line: &str) {
    // a closed terminal is no reason to end a measurement
    let _ = writeln!(std::io::stderr(), "bench: {line}");
}

impl RunResult {
    /// Last node's completion, divided by the ideal; `None` when one did not finish.
    fn ratio(&self) -> Option<f64> {
        let all = self.done_seconds.len() == usize::try_from(self.nodes).unwrap_or(usize::MAX);
        self.done_seconds.last().filter(|_| all).map(|last| last / self.ideal_seconds)
    }

    fn median_ratio(&self) -> Option<f64> {
        self.done_seconds.get(self.done_seconds.len() / 2).map(|s| s / self.ideal_seconds)
    }
}

/// One run in a line.
pub(crate) fn line(run: &RunResult) -> String {
    let number = |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{v:.2}"));
    format!(
        "{:<10} {:>3}/{:<3} done  ratio {:>5} (median node {})  admin sent {:.2} images  \
         {:.1} CPU s/GB  idle {:.0} %  memory {}{}",
        run.client,
        run.done_seconds.len(),
        run.nodes,
        number(run.ratio()),
        number(run.median_ratio()),
        run.seeder_images,
        run.cpu_seconds_per_gb,
        run.cpu_idle * 100.0,
        ByteSize(run.peak_anonymous),
        if run.wrong > 0 { format!("  {} WRONG", run.wrong) } else { String::new() },
    )
}

/// Prints the table, writes the JSON, and fails when one of ours did not finish or has wrong bytes.
pub(crate) fn finish(args: &SwarmArgs, runs: &[RunResult], file: &Path) -> anyhow::Result<()> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let document = json!({
        "scenario": "flash-crowd", "nodes": args.nodes, "link_bits_per_second": args.rate.bits(),
        "image_bytes": args.image.0, "piece_bytes": args.piece.0, "kernel": kernel.trim(),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from), "runs": runs,
    });
    fs::write(file, serde_json::to_vec_pretty(&document)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\nflash crowd: {} nodes, {} links, image {}, pieces {}\n(ratio: last node's completion ÷ \
         (image ÷ link rate), from the moment all are started)\n",
        args.nodes, args.rate, args.image, args.piece
    )?;
    for run in runs {
        writeln!(out, "{}", line(run))?;
    }
    let mut clients: Vec<&str> = runs.iter().map(|run| run.client.as_str()).collect();
    clients.sort_unstable();
    clients.dedup();
    for client in clients {
        let mut ratios: Vec<f64> =
            runs.iter().filter(|run| run.client == client).filter_map(RunResult::ratio).collect();
        ratios.sort_by(f64::total_cmp);
        if let Some(median) = ratios.get(ratios.len() / 2) {
            writeln!(out, "median of {} runs: {client:<10} {median:.2}", ratios.len())?;
        }
    }
    writeln!(out, "\nresults: {}", file.display())?;
    let ours_failed =
        runs.iter().any(|run| run.client == "beeswarm" && (run.ratio().is_none() || run.wrong > 0));
    if ours_failed {
        bail!("a node of ours did not finish, or has wrong bytes");
    }
    Ok(())
}
