//! `/healthz` and `/metrics`.

use std::collections::BTreeMap;
use std::time::Instant;

use super::*;
use crate::app::lock;
use crate::metrics::{Counter, Exposition};
use crate::nodes::node::STAGES;

/// `GET /healthz`: the process answers. Trouble with the store is told, but is no reason to restart it.
pub(super) async fn healthz(State(app): State<Arc<App>>) -> Response<Body> {
    let problems = app.problems();
    json(&serde_json::json!({
        "status": if problems.is_empty() { "ok" } else { "degraded" },
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": app.started.elapsed().as_secs(),
        "problems": problems,
    }))
}

/// `GET /metrics`: Prometheus text format 0.0.4.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response<Body> {
    let mut out = Exposition::default();
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let gauge = "gauge";
    out.metric("beeswarm_tracker_build_info", gauge, "Version.", &[(version, 1.0)]);
    let uptime = app.started.elapsed().as_secs_f64();
    out.metric("beeswarm_tracker_uptime_seconds", gauge, "Time since start.", &plain(uptime));
    counters(&app, &mut out);
    swarms(&app, &mut out);
    nodes(&app, &mut out);
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", out.finish())
}

fn plain(value: f64) -> [(String, f64); 1] {
    [(String::new(), value)]
}

fn counters(app: &App, out: &mut Exposition) {
    let m = &app.metrics;
    let all: [(&str, &str, &Counter); 11] = [
        ("announces_total", "Announces answered with peers.", &m.announces),
        ("announce_failures_total", "Announces answered with a failure.", &m.announce_failures),
        ("scrapes_total", "Scrapes.", &m.scrapes),
        ("datagrams_total", "Datagrams that came in over UDP.", &m.datagrams),
        ("datagrams_dropped_total", "Datagrams without an answer.", &m.datagrams_dropped),
        ("boot_scripts_total", "Boot scripts handed to nodes.", &m.boot_scripts),
        ("events_total", "Boot events taken, repeated ones not counted.", &m.events),
        ("events_refused_total", "Batches of events without a token.", &m.events_refused),
        ("unauthorized_total", "Orders without the admin's token.", &m.unauthorized),
        ("connections_total", "Connections accepted.", &m.connections),
        ("connections_refused_total", "Connections over the limit.", &m.connections_refused),
    ];
    for (name, help, counter) in all {
        let name = format!("beeswarm_tracker_{name}");
        out.metric(&name, "counter", help, &plain(float(counter.get())));
    }
    let responses: Vec<_> = m
        .responses()
        .into_iter()
        .map(|(status, count)| (format!("code=\"{status}\""), float(count)))
        .collect();
    let name = "beeswarm_tracker_http_responses_total";
    out.metric(name, "counter", "HTTP responses by status.", &responses);
}

fn swarms(app: &App, out: &mut Exposition) {
    let all = app.torrents.all();
    let sum = |count: fn(&crate::torrents::Counts) -> usize| -> f64 {
        size(all.iter().map(|(_, counts)| count(counts)).sum())
    };
    let peers = [
        ("state=\"seed\"".to_owned(), sum(|c| c.seeds)),
        ("state=\"leecher\"".to_owned(), sum(|c| c.leechers)),
    ];
    out.metric("beeswarm_tracker_peers", "gauge", "Peers by state.", &peers);
    out.metric(
        "beeswarm_tracker_torrents",
        "gauge",
        "Announced torrents.",
        &plain(size(all.len())),
    );
    let help = "Peers that several others could not reach.";
    let demoted = plain(size(app.torrents.demoted()));
    out.metric("beeswarm_tracker_peers_demoted", "gauge", help, &demoted);
    let published = size(app.catalog().images.len());
    out.metric("beeswarm_tracker_published", "gauge", "Published revisions.", &plain(published));
}

fn nodes(app: &App, out: &mut Exposition) {
    let mut stages: BTreeMap<&str, usize> = STAGES.iter().map(|stage| (*stage, 0)).collect();
    let now = Instant::now();
    let (mut troubled, mut rate) = (0, 0.0);
    for node in lock(&app.nodes).all() {
        *stages.entry(node.stage).or_default() += 1;
        troubled += usize::from(node.troubled(now));
        rate += float(node.rate(now));
    }
    let stages: Vec<_> =
        stages.into_iter().map(|(s, n)| (format!("stage=\"{s}\""), size(n))).collect();
    out.metric("beeswarm_tracker_nodes", "gauge", "Nodes by stage.", &stages);
    let help = "Nodes that are stalled, silent, waiting or failed.";
    out.metric("beeswarm_tracker_nodes_troubled", "gauge", help, &plain(size(troubled)));
    let help = "Sum of the rates that nodes report, in bytes per second.";
    out.metric("beeswarm_tracker_fetch_rate_bytes", "gauge", help, &plain(rate));
}

#[expect(clippy::cast_precision_loss, reason = "the exposition format counts in floats")]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "the exposition format counts in floats")]
fn size(number: usize) -> f64 {
    number as f64
}
