//! What programs read: the API's description, the stream of events, metrics, who gave what to whom.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use beeswarm_tracker::Config;
use proto::hash::InfoHash;
use serde_json::{Value, json};

use crate::bed::{Bed, PATIENCE, Reply, add_revision, empty_store, exchange, get, stable};
use crate::events::batch;

const NODE: &str = "/api/v1/nodes/52:54:00:00:00:01/events";

fn linked() -> Config {
    Config { admin_link: Some("1Gbit".parse().unwrap()), ..Config::default() }
}

#[test]
fn the_api_is_described_and_its_errors_are_json() {
    let bed = Bed::start(Config::default());
    let document = bed.get("/api/v1/openapi.json");
    assert!(document.head.contains("content-type: application/json"), "{}", document.head);
    assert!(document.json()["openapi"].as_str().unwrap().starts_with("3.1"));
    let missing = bed.get("/api/v1/nowhere");
    assert_eq!(missing.status, 404);
    assert!(missing.json()["error"].as_str().unwrap().contains("openapi.json"));
    for (request, allowed) in [
        ("DELETE /api/v1/rollouts", ["GET", "POST"].as_slice()),
        ("POST /api/v1/nodes", &["GET"]),
        ("PUT /", &["GET"]),
    ] {
        let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let wrong = exchange(bed.addr, request.as_bytes());
        assert_eq!(wrong.status, 405, "{request}");
        assert!(wrong.json()["error"].as_str().unwrap().contains("does not take"), "{request}");
        let head = wrong.head.to_ascii_lowercase();
        for line in
            ["x-content-type-options: nosniff", "content-security-policy: default-src 'none'"]
        {
            assert!(head.contains(line), "{line} in {head}");
        }
        let allow = wrong.head.lines().find(|line| line.starts_with("allow: ")).unwrap();
        assert!(allowed.iter().all(|method| allow.contains(method)), "{allow}");
    }
}

/// Every sample in this form of the metrics.
fn samples(reply: &Reply) -> BTreeSet<String> {
    let lines = reply.text().lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[test]
fn openmetrics_has_the_samples_of_the_text_format_and_units() {
    let bed = Bed::start(linked());
    // so that responses are counted before
    bed.get("/healthz");
    let plain = bed.get("/metrics");
    let open = get(bed.addr, "/metrics", "Accept: application/openmetrics-text;version=1.0.0\r\n");
    assert!(open.head.contains("application/openmetrics-text; version=1.0.0"), "{}", open.head);
    assert_eq!(samples(&plain), samples(&open));
    let text = open.text();
    assert!(text.ends_with("\n# EOF\n"));
    let named = |kind: &str| -> Vec<(String, String)> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(kind));
        lines.map(|l| l.split_once(' ').unwrap()).map(|(a, b)| (a.into(), b.into())).collect()
    };
    let (types, helps, units) = (named("# TYPE "), named("# HELP "), named("# UNIT "));
    assert_eq!(types.len(), helps.len());
    assert!(units.iter().all(|(name, unit)| name.ends_with(&format!("_{unit}"))), "{units:?}");
    assert!(units.len() >= 6, "{units:?}");
    let causes = samples(&plain).into_iter().filter(|s| s.contains("cause=\"")).count();
    assert_eq!(causes, 31);
}

#[test]
fn every_metric_of_the_dashboard_is_there() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/grafana.json");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let bed = Bed::start(linked());
    bed.get("/healthz");
    let there: BTreeSet<String> = samples(&bed.get("/metrics"))
        .into_iter()
        .map(|sample| sample.split('{').next().unwrap().to_owned())
        .collect();
    let mut asked = BTreeSet::new();
    let mut note = |text: &str| {
        for (at, _) in text.match_indices("beeswarm_tracker_") {
            let name = text[at..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
            asked.insert(name.unwrap().to_owned());
        }
    };
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}", panel["title"]);
        targets.iter().for_each(|target| note(target["expr"].as_str().unwrap()));
    }
    dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .for_each(|variable| note(&variable["query"].to_string()));
    assert!(asked.len() > 15, "{asked:?}");
    let missing: Vec<_> = asked.difference(&there).collect();
    assert!(missing.is_empty(), "the dashboard asks for {missing:?}");
}

#[test]
fn events_come_as_lines_of_json() {
    let bed = Bed::start(Config::default());
    let stall = |seq: u64, cause: &str| json!([{ "seq": seq, "uptime_ms": seq, "stage": "stalled", "cause": cause, "detail": "x\ny" }]);
    bed.post(NODE, &batch("b", stall(1, "no-peers")));
    let mut stream = TcpStream::connect(bed.addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /api/v1/events HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let head: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(head.iter().any(|line| line.ends_with("application/x-ndjson")), "{head:?}");
    let mut next = |event: &str| -> Value {
        loop {
            let value: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
            if value["event"] == event {
                return value;
            }
        }
    };
    assert!(next("tick")["uptime_seconds"].is_u64());
    let stalled = next("stalled");
    assert_eq!(stalled["cause"], "no-peers", "who is stuck already");
    assert!(stalled["remedy"].as_str().unwrap().contains("bee-seeder"));
    bed.post(NODE, &batch("b", stall(2, "no-data")));
    while next("stalled")["cause"] != "no-data" {}
    let mount = json!([{ "seq": 3, "uptime_ms": 3, "stage": "mount", "root": "/sysroot" }]);
    bed.post(NODE, &batch("b", mount));
    assert_eq!(next("node")["stage"], "mount");
    assert_eq!(next("recovered")["node"], "52:54:00:00:00:01");
    bed.stop();
    next("end");
    assert_eq!(lines.next(), None);
}

#[test]
fn nodes_tell_who_gave_what_and_which_pieces_they_have() {
    let (_dir, store) = empty_store();
    let revision = add_revision(&store, "debian", InfoHash([1; 20]), true);
    store.publish(&revision, &stable()).unwrap();
    let bed = Bed::with_store(&store);
    let source = format!("http://h/revisions/{}/{}/manifest.json", revision.name, revision.id);
    let exchange = |seq: u64, bits: &str, bytes: u64| {
        json!([
            { "seq": 0, "uptime_ms": 1, "stage": "discover", "source": source },
            { "seq": seq, "uptime_ms": seq, "stage": "fetch", "bytes": 1, "total": 9, "rate": 1,
              "upload_rate": 0, "peers": 2, "sources": { "admin": 0, "peers": bytes, "web": 0 } },
            { "seq": seq + 1, "uptime_ms": seq + 1, "stage": "exchange", "others": 4,
              "from": [{ "from": "10.0.0.9", "bytes": bytes }],
              "holding": { "pieces": 6, "bits": bits } },
        ])
    };
    bed.post(NODE, &batch("b", exchange(10, "80", 100)));
    bed.post(NODE, &batch("b", exchange(20, "c0", 200)));
    let edges = bed.get("/api/v1/exchanges").json();
    let expected = json!([
        { "from": "host", "from_node": null, "from_address": "10.0.0.9", "to": "52:54:00:00:00:01", "bytes": 200 },
        { "from": "others", "from_node": null, "from_address": null, "to": "52:54:00:00:00:01", "bytes": 4 },
    ]);
    assert_eq!(edges, expected);
    let pieces = bed.get("/api/v1/swarm").json()["torrents"][0]["pieces"].clone();
    assert_eq!(pieces["by_copies"], json!({ "0": 4, "1": 2 }));
    assert_eq!((&pieces["rarest"], &pieces["at_least"]), (&json!(0), &json!(false)));
    let page = bed.get("/swarm");
    for text in ["the rarest piece is there nowhere (4 of 6 pieces are)", "10.0.0.9", "200 B"] {
        assert!(page.text().contains(text), "{text} in {}", page.text());
    }
    // a report is no stage: the node fetches, and its timeline has the newest one only
    let node = bed.get("/api/v1/nodes/52:54:00:00:00:01").json();
    assert_eq!(node["stage"], "fetch");
    let stages = node["events"].as_array().unwrap().iter().map(|e| e["stage"].clone());
    assert_eq!(stages.filter(|stage| stage == "exchange").count(), 1);
    assert!(!node["stage_times"].to_string().contains("exchange"));
}
