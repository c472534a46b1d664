//! The load testers of aquatic, as its authors measure: a second load that nobody here wrote.
//!
//! They ask as they like: over UDP half of the requests are for connection ids, over HTTP no number of peers is
//! wanted. So their figures are compared with each other, and not with those of the other table.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;

use super::contender::{Contender, Running, aquatic};
use super::load::{Crowd, Way};
use crate::test::limited;

/// Seconds of each measurement; the testers look at their counters every five.
const SECONDS: u64 = 10;

/// Their ends take a moment.
const LIMIT: Duration = Duration::from_secs(SECONDS + 30);

/// What a tester measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Tested {
    pub(super) tracker: Contender,
    pub(super) way: Way,
    /// Answers of every kind per second, by the clock, as the tester says.
    pub(super) rate: f64,
    /// … per second of the tracker's processor time.
    pub(super) per_core: f64,
    /// Answers per second that are errors, where the tester says.
    pub(super) errors: f64,
}

/// Who is measured, and how.
pub(super) const PAIRS: [(Contender, Way); 6] = [
    (Contender::Beeswarm, Way::Udp),
    (Contender::AquaticUdp, Way::Udp),
    (Contender::Beeswarm, Way::KeepAlive),
    (Contender::AquaticHttp, Way::KeepAlive),
    (Contender::Beeswarm, Way::Connection),
    (Contender::AquaticHttp, Way::Connection),
];

/// The name of the program that asks that way.
fn tester(way: Way) -> &'static str {
    match way {
        Way::Udp => "aquatic_udp_load_test",
        Way::KeepAlive | Way::Connection => "aquatic_http_load_test",
    }
}

fn settings(way: Way, running: &Running, crowd: Crowd) -> String {
    let Crowd { torrents, peers } = crowd;
    let head = format!("server_address = \"{}\"\nduration = {SECONDS}\n", running.address);
    let rest = match way {
        Way::Udp => format!(
            "extra_statistics = false\n[requests]\nnumber_of_torrents = {torrents}\nnumber_of_peers = {peers}\n\
             announce_peers_wanted = 30\nweight_scrape = 0\n"
        ),
        Way::KeepAlive | Way::Connection => {
            let keeps = way == Way::KeepAlive;
            format!(
                "enable_tls = false\nkeep_alive = {keeps}\nconnection_creation_interval_ms = {}\n\
                 [torrents]\nnumber_of_torrents = {torrents}\n",
                if keeps { 10 } else { 0 }
            )
        }
    };
    head + &rest
}

/// Lets the tester ask a running tracker.
///
/// # Errors
/// When it cannot be built, fails, or gets no answer.
pub(super) fn measure(
    tracker: Contender,
    way: Way,
    running: &Running,
    folder: &Path,
    crowd: Crowd,
) -> anyhow::Result<Tested> {
    let program = aquatic(tester(way))?;
    let path = folder.join(format!("{}.toml", tester(way)));
    fs::write(&path, settings(way, running, crowd))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let mut command = Command::new("taskset");
    // processor 0 is the tracker's
    command.args(["--cpu-list", "1-1023"]).arg(program).arg("-c").arg(path);
    let log = folder.join(format!("{}.log", tester(way)));
    let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
    let (begin, used) = (Instant::now(), running.processor_time()?);
    let ended = limited::run(&mut command, LIMIT)?;
    let seconds = begin.elapsed().as_secs_f64();
    let used = running.processor_time()? - used;
    if let Some(problem) = ended.problem() {
        bail!("{}: {problem}; its log is {}", tester(way), log.display());
    }
    let report = fs::read_to_string(&log)?;
    let (_, report) =
        report.split_once("load test report").context("the tester gives no report")?;
    let rate = figure(report, "Average responses per second").context("no average")?;
    ensure!(rate > 0.0, "no answer");
    Ok(Tested {
        tracker,
        way,
        rate,
        per_core: rate * seconds / used.max(1e-9),
        errors: figure(report, "Error responses").unwrap_or(0.0),
    })
}

fn figure(report: &str, name: &str) -> Option<f64> {
    let (_, rest) = report.split_once(name)?;
    rest.trim_start_matches(':').lines().next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_understood() {
        let report = "\nTest ran for 10 seconds \nAverage responses per second: 190123.25\n  - Connect responses:  \
                      95000.00\n  - Error responses:    0.50\n\nConfig: x";
        assert_eq!(figure(report, "Average responses per second"), Some(190_123.25));
        assert_eq!(figure(report, "Error responses"), Some(0.5));
        assert_eq!(figure(report, "Scrape responses"), None);
    }
}
