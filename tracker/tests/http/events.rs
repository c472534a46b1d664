//! Boot events in, JSON out.

use crate::bed::Bed;
use beeswarm_tracker::Config;
use serde_json::{Value, json};

const URL: &str = "/api/v1/nodes/52-54-00-12-34-56/events";

pub(crate) fn batch(boot_id: &str, events: Value) -> Vec<u8> {
    json!({ "version": 1, "boot_id": boot_id, "events": events }).to_string().into_bytes()
}

fn fetch(seq: u64, bytes: u64) -> Value {
    json!({
        "seq": seq, "uptime_ms": 5000 + 2000 * seq, "stage": "fetch", "bytes": bytes, "total": 1000,
        "rate": 123, "upload_rate": 45, "peers": 6,
        "sources": { "admin": bytes / 4, "peers": bytes - bytes / 4, "web": 0 },
    })
}

#[test]
fn events_are_kept_once_and_shown() {
    let bed = Bed::start(Config::default());
    let discover = json!({ "seq": 0, "uptime_ms": 5000, "stage": "discover",
        "source": "http://a:8080/revisions/debian/0123456789ab/manifest.json" });
    let body = batch("boot-1", json!([discover, fetch(1, 400)]));
    for _ in 0..3 {
        let reply = bed.post(URL, &body);
        assert_eq!((reply.status, reply.body.len()), (204, 0));
    }
    let stalled = json!({ "seq": 2, "uptime_ms": 9500, "stage": "stalled",
        "cause": "no-peers", "detail": "tracker knows none" });
    assert_eq!(bed.post(URL, &batch("boot-1", json!([fetch(1, 400), stalled]))).status, 204);

    let nodes = bed.get("/api/v1/nodes").json();
    assert_eq!(nodes.as_array().unwrap().len(), 1);
    let node = &nodes[0];
    for (field, expected) in [
        ("id", json!("52:54:00:12:34:56")),
        ("address", json!("127.0.0.1")),
        ("boot_id", json!("boot-1")),
        ("stage", json!("fetch")),
        ("percent", json!(40.0)),
        ("peers", json!(6)),
        ("sources", json!({ "admin": 100, "peers": 300, "web": 0 })),
        ("stall", json!({ "cause": "no-peers", "detail": "tracker knows none" })),
        ("image", json!("debian")),
        ("revision", json!("0123456789ab")),
    ] {
        assert_eq!(node[field], expected, "{field}");
    }
    assert!(node["last_seen_ms"].as_u64().unwrap() < 20_000);
    assert_eq!(node["stage_times"][1], json!({ "stage": "fetch", "uptime_ms": 7000 }));

    let one = bed.get("/api/v1/nodes/52:54:00:12:34:56").json();
    let seqs: Vec<_> =
        one["events"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [0, 1, 2]);
    assert_eq!(one["events"][2]["cause"], "no-peers");
    assert!(bed.get("/metrics").text().contains("beeswarm_tracker_events_total 3\n"));
}

#[test]
fn a_restarted_tracker_takes_a_boot_from_its_middle() {
    let bed = Bed::start(Config::default());
    bed.post(URL, &batch("boot-1", json!([fetch(1, 100)])));
    let addr = bed.stop();
    let bed = Bed::start_on(&addr.to_string(), Config::default());
    assert_eq!(bed.get("/api/v1/nodes").json(), json!([]));
    assert_eq!(bed.post(URL, &batch("boot-1", json!([fetch(9, 900)]))).status, 204);
    assert_eq!(bed.get("/api/v1/nodes").json()[0]["percent"], 90.0);
}

#[test]
fn a_stage_of_a_later_version_is_taken() {
    let bed = Bed::start(Config::default());
    let later = json!([{ "seq": 1, "uptime_ms": 1, "stage": "levitate", "height": 3 }]);
    assert_eq!(bed.post(URL, &batch("b", later)).status, 204);
    assert_eq!(bed.get("/api/v1/nodes").json()[0]["stage"], "unknown");
}

#[test]
fn bad_batches_are_refused_with_a_reason() {
    let bed = Bed::start(Config::default());
    let huge = batch(
        "b",
        json!([{ "seq": 0, "uptime_ms": 0, "stage": "failed",
        "message": "x".repeat(70_000) }]),
    );
    let many: Vec<_> =
        (0..300).map(|seq| json!({ "seq": seq, "uptime_ms": 0, "stage": "x" })).collect();
    for (url, body, status) in [
        (URL, b"<html>".to_vec(), 400),
        (URL, b"".to_vec(), 400),
        (URL, b"{\"version\":1}".to_vec(), 400),
        (URL, b"{\"version\":2,\"boot_id\":\"b\",\"events\":[]}".to_vec(), 400),
        (URL, batch("", json!([])), 400),
        (URL, batch(&"x".repeat(65), json!([])), 400),
        (URL, "[".repeat(30_000).into_bytes(), 400),
        (URL, huge, 413),
        (URL, batch("b", json!(many)), 413),
        ("/api/v1/nodes/nonsense/events", batch("b", json!([])), 400),
    ] {
        let reply = bed.post(url, &body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!(reply.status, status, "{shown}");
        assert!(reply.json()["error"].as_str().is_some_and(|e| !e.is_empty()), "{shown}");
    }
    assert_eq!(bed.get("/api/v1/nodes").json(), json!([]), "none left a trace");
    assert_eq!(bed.get("/api/v1/nodes/52:54:00:12:34:56").status, 404);
    assert_eq!(bed.get("/api/v1/nodes/zz").status, 400);
}
