//! `cargo xtask api-test`: the tracker's API, as programs that know nothing of it see it.
//!
//! schemathesis reads the OpenAPI document from a running tracker, makes requests of it, good and bad ones,
//! and compares every answer with what the document says. Prometheus' own client library reads the metrics
//! in both formats.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;

use crate::page_test::crowd::Crowd;
use crate::page_test::{Tracker, site, tracker_program};
use crate::python;
use crate::test::limited;
use crate::workspace::say;

/// Nodes that have reported.
const NODES: u16 = 20;

/// Longest time for schemathesis.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// Streams have no end that a request could wait for; tests of the tracker read them.
const STREAMS: [&str; 2] = ["/api/v1/stream", "/api/v1/events"];

/// Reads what the tracker tells and says what is wrong with it.
const READ_METRICS: &str = r#"
import sys, urllib.request
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text
def read(accept):
    request = urllib.request.Request(sys.argv[1], headers={"Accept": accept})
    with urllib.request.urlopen(request) as answer:
        return answer.headers["Content-Type"], answer.read().decode()
kind, body = read("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
assert kind.startswith("application/openmetrics-text; version=1.0.0"), kind
families = list(openmetrics(body))
kind, plain = read("text/plain")
assert kind.startswith("text/plain; version=0.0.4"), kind
samples = {(s.name, tuple(s.labels.items())) for f in text(plain) for s in f.samples}
for family in families:
    assert family.documentation.endswith("."), family.name + " has no help"
    assert family.samples, family.name + " has no samples"
    assert family.type in ("counter", "gauge", "info"), family.type
    for unit in ("seconds", "bytes", "bytes_per_second"):
        if family.name.endswith("_" + unit):
            assert family.unit, family.name + " has no unit"
    for sample in family.samples:
        assert (sample.name, tuple(sample.labels.items())) in samples, sample
print(f"{len(families)} families, {len(samples)} samples in both formats")
"#;

/// Options of `cargo xtask api-test`.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Args {
    /// Requests per operation in the phase that makes them up
    #[arg(long, default_value_t = 30)]
    examples: u32,

    /// Where its random choices start
    #[arg(long, default_value_t = 1)]
    seed: u32,
}

impl Default for Args {
    fn default() -> Self {
        Self { examples: 30, seed: 1 }
    }
}

/// Runs it.
///
/// # Errors
/// When a tool is missing, or the API is not what it says that it is.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let schemathesis = python::program("schemathesis")?;
    let site = site::make(NODES)?;
    let program = tracker_program(true)?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let tracker = Tracker::start(&program, site.dir.path(), any)?;
    Crowd::new(tracker.address, &site, NODES).record()?;
    let mut metrics = Command::new(python::program("python3")?);
    metrics.args(["-c", READ_METRICS, &tracker.url("/metrics")]);
    finished(&mut metrics, "the metrics cannot be read")?;
    let token = site.dir.path().join("state/admin-token");
    let token = std::fs::read_to_string(&token)
        .with_context(|| format!("cannot read {}", token.display()))?;
    let mut command = Command::new(schemathesis);
    // its own folder for what it keeps
    command.current_dir(site.dir.path()).args(["run", "--checks", "all"]);
    command.args(["--phases", "examples,coverage,fuzzing", "--request-timeout", "20"]);
    command.args(["--max-examples", &args.examples.to_string()]);
    command.args(["--seed", &args.seed.to_string(), "--suppress-health-check", "all"]);
    for stream in STREAMS {
        command.args(["--exclude-path", stream]);
    }
    command.arg("--header").arg(format!("Authorization:Bearer {}", token.trim()));
    command.arg(tracker.url("/api/v1/openapi.json"));
    finished(&mut command, "the API is not what its description says")?;
    say(format_args!("schemathesis: all but {}", STREAMS.join(" and ")));
    Ok(())
}

fn finished(command: &mut Command, wrong: &str) -> anyhow::Result<()> {
    match limited::run(command, LIMIT)?.problem() {
        Some(problem) => bail!("{wrong}: {problem}"),
        None => Ok(()),
    }
}
