//! `/healthz` and `/metrics`.

use std::collections::BTreeMap;

use proto::rollout::{MemberState, Phase};

use super::*;
use crate::app::lock;
use crate::fleet::Fleet;
use crate::metrics::{Counter, Exposition, Family, Format, Kind};
use crate::nodes::node::STAGES;
use crate::nodes::trouble::Cause;

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

/// `GET /metrics`: OpenMetrics for who asks for it, else Prometheus' text format.
pub(super) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response<Body> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept);
    draw(&app, move |app| all(app, format)).await.unwrap_or_else(|failed| failed)
}

fn all(app: &App, format: Format) -> Response<Body> {
    let mut out = Exposition::new(format);
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let build =
        Family { name: "beeswarm_tracker_build", kind: Kind::Info, unit: "", help: "Version." };
    out.family(build, &[(version, 1.0)]);
    let uptime = app.started.elapsed().as_secs_f64();
    gauge(&mut out, "uptime_seconds", "seconds", "Time since start.", &plain(uptime));
    counters(app, &mut out);
    swarms(app, &mut out);
    nodes(app, &mut out);
    rollout(app, &mut out);
    answer(StatusCode::OK, format.content_type(), out.finish())
}

fn gauge(out: &mut Exposition, name: &str, unit: &str, help: &str, values: &[(String, f64)]) {
    let name = format!("beeswarm_tracker_{name}");
    out.family(Family { name: &name, kind: Kind::Gauge, unit, help }, values);
}

fn plain(value: f64) -> [(String, f64); 1] {
    [(String::new(), value)]
}

fn counters(app: &App, out: &mut Exposition) {
    let m = &app.metrics;
    let all: [(&str, &str, &Counter); 11] = [
        ("announces", "Announces answered with peers.", &m.announces),
        ("announce_failures", "Announces answered with a failure.", &m.announce_failures),
        ("scrapes", "Scrapes.", &m.scrapes),
        ("datagrams", "Datagrams that came in over UDP.", &m.datagrams),
        ("datagrams_dropped", "Datagrams that were refused, or ignored.", &m.datagrams_dropped),
        ("boot_scripts", "Boot scripts handed to nodes.", &m.boot_scripts),
        ("events", "Boot events taken, repeated ones not counted.", &m.events),
        ("events_refused", "Batches of events without a token.", &m.events_refused),
        ("unauthorized", "Orders without the admin's token.", &m.unauthorized),
        ("connections", "Connections accepted.", &m.connections),
        ("connections_refused", "Connections over the limit.", &m.connections_refused),
    ];
    let mut counter = |name: &str, help: &str, values: &[(String, f64)]| {
        let name = format!("beeswarm_tracker_{name}");
        out.family(Family { name: &name, kind: Kind::Counter, unit: "", help }, values);
    };
    for (name, help, value) in all {
        counter(name, help, &plain(float(value.get())));
    }
    let responses: Vec<_> = m
        .responses()
        .into_iter()
        .map(|(status, count)| (format!("code=\"{status}\""), float(count)))
        .collect();
    counter("http_responses", "HTTP responses by status.", &responses);
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
    gauge(out, "peers", "", "Peers by state.", &peers);
    gauge(out, "torrents", "", "Announced torrents.", &plain(size(all.len())));
    let demoted = plain(size(app.torrents.demoted()));
    gauge(out, "peers_demoted", "", "Peers that several others could not reach.", &demoted);
    let published = size(app.catalog().images.len());
    gauge(out, "published", "", "Published revisions.", &plain(published));
}

fn nodes(app: &App, out: &mut Exposition) {
    let fleet = Fleet::of(app);
    let mut stages: BTreeMap<&str, usize> = STAGES.iter().map(|stage| (*stage, 0)).collect();
    stages.extend(fleet.stages.iter().copied());
    let mut causes: BTreeMap<&str, usize> = Cause::ALL.iter().map(|c| (c.word(), 0)).collect();
    for stalled in &fleet.stalled {
        *causes.entry(stalled.trouble.cause.word()).or_default() += 1;
    }
    let labelled = |label: &str, counts: BTreeMap<&str, usize>| -> Vec<(String, f64)> {
        let value = |(word, n)| (format!("{label}=\"{word}\""), size(n));
        counts.into_iter().map(value).collect()
    };
    gauge(out, "nodes", "", "Nodes by stage.", &labelled("stage", stages));
    let troubled = plain(size(fleet.stalled.len()));
    gauge(out, "nodes_troubled", "", "Nodes that need somebody's eye.", &troubled);
    let help = "Nodes that need somebody's eye, by cause.";
    gauge(out, "nodes_troubled_by_cause", "", help, &labelled("cause", causes));
    let audited = [("pass", fleet.audited.0), ("fail", fleet.audited.1)];
    let audited = audited.map(|(word, count)| (format!("verdict=\"{word}\""), size(count)));
    let help = "Nodes by the verdict of their hardware audit.";
    gauge(out, "nodes_audited", "", help, &audited);
    let unit = "bytes_per_second";
    let help = "Sum of the rates at which nodes say that they fetch.";
    gauge(out, "fetch_bytes_per_second", unit, help, &plain(float(fleet.rate)));
    let by_source = |sources: proto::event::Sources| {
        [("admin", sources.admin), ("peers", sources.peers), ("web", sources.web)]
            .map(|(source, bytes)| (format!("source=\"{source}\""), float(bytes)))
    };
    let rates = lock(&app.history).rates();
    let help = "What nodes received of late, by kind of source.";
    gauge(out, "received_bytes_per_second", unit, help, &by_source(rates));
    let help = "What nodes received in their present boots, by kind of source.";
    gauge(out, "received_bytes", "bytes", help, &by_source(fleet.sources));
    let help = "What nodes gave to others in their present boots.";
    gauge(out, "given_bytes", "bytes", help, &plain(float(fleet.sent)));
    if let Some(link) = &app.link {
        let help = "What the admin host's link carries: all that HTTP boot could have.";
        gauge(out, "admin_link_bytes_per_second", unit, help, &plain(float(link.rate)));
    }
}

/// The last rollout: a night's that has stopped is to alarm somebody.
fn rollout(app: &App, out: &mut Exposition) {
    let mut states: BTreeMap<_, usize> = MemberState::ALL.iter().map(|s| (s.word(), 0)).collect();
    let phase = {
        let rollouts = lock(&app.rollouts);
        let last = rollouts.all().last();
        for entry in last.iter().flat_map(|rollout| &rollout.members) {
            *states.entry(entry.member.state.word()).or_default() += 1;
        }
        last.map(|rollout| rollout.phase)
    };
    let phases = [("running", Phase::Running), ("stopped", Phase::Stopped), ("done", Phase::Done)];
    let is =
        phases.map(|(word, of)| (format!("phase=\"{word}\""), size((phase == Some(of)).into())));
    gauge(out, "rollout", "", "1 for what the last rollout does.", &is);
    let states: Vec<_> =
        states.into_iter().map(|(word, n)| (format!("state=\"{word}\""), size(n))).collect();
    gauge(out, "rollout_nodes", "", "Nodes of the last rollout by state.", &states);
}

#[expect(clippy::cast_precision_loss, reason = "the exposition format counts in floats")]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "the exposition format counts in floats")]
fn size(number: usize) -> f64 {
    number as f64
}
