//! The status page and `/metrics`.

use crate::bed::{Bed, add_revision, empty_store, get, stable};
use crate::events::batch;
use beeswarm_tracker::Config;
use proto::hash::InfoHash;
use serde_json::json;

#[test]
fn the_page_shows_nodes_torrents_and_images() {
    let (_dir, store) = empty_store();
    let revision = add_revision(&store, "debian", InfoHash([1; 20]), true);
    store.publish(&revision, &stable()).unwrap();
    let bed = Bed::with_store(&store);
    let empty = bed.get("/");
    assert_eq!(empty.status, 200);
    assert!(empty.text().contains("No node was heard yet"));
    assert!(empty.text().contains("<meta http-equiv=\"refresh\" content=\"2\">"));
    assert!(!empty.text().contains("<script"));
    assert!(empty.head.contains("content-security-policy: default-src 'none'"), "{}", empty.head);

    let fetch = json!([{ "seq": 0, "uptime_ms": 9, "stage": "fetch", "bytes": 250, "total": 1000,
        "rate": 12_500_000, "upload_rate": 0, "peers": 7,
        "sources": { "admin": 50, "peers": 200, "web": 0 } }]);
    bed.post("/api/v1/nodes/52:54:00:00:00:01/events", &batch("b", fetch));
    let page = bed.get("/").text().to_owned();
    for text in [
        "52:54:00:00:00:01",
        "fetch 25.0 %",
        "100 Mbit/s",
        "peers 200 B · admin 50 B",
        revision.id.as_str(),
        "01010101010101010101",
        "prefers-color-scheme: dark",
        "<title>0/1 up",
    ] {
        assert!(page.contains(text), "{text} in {page}");
    }
}

#[test]
fn nothing_from_outside_is_markup() {
    let (_dir, store) = empty_store();
    let revision = add_revision(&store, "debian", InfoHash([1; 20]), true);
    store.publish(&revision, &stable()).unwrap();
    let bed = Bed::with_store(&store);
    let evil = "<script>alert('x')</script>\"><img src=x onerror=y>&amp;\u{0}\u{7f}";
    let events = json!([
        { "seq": 0, "uptime_ms": 1, "stage": "discover", "source": evil },
        { "seq": 1, "uptime_ms": 2, "stage": "stalled", "cause": "storage", "detail": evil },
    ]);
    bed.post("/api/v1/nodes/52:54:00:00:00:01/events", &batch(evil, events));
    let failed = json!([{ "seq": 0, "uptime_ms": 1, "stage": "failed", "message": evil }]);
    bed.post("/api/v1/nodes/52:54:00:00:00:02/events", &batch("b", failed));
    let page = get(bed.addr, "/", "Host: <script>\"x\r\n");
    let page = if page.status == 200 { page } else { bed.get("/") };
    for markup in ["<script", "<img", "onerror=y>\""] {
        assert!(!page.text().contains(markup), "{markup}");
    }
    assert!(page.text().contains("storage: &lt;script&gt;alert(&#39;x&#39;)"));
    assert!(page.text().contains("6.1.0-&lt;b&gt;"), "the kernel release of the manifest");
}

#[test]
fn metrics_are_prometheus_text() {
    let bed = Bed::start(Config::default());
    bed.get("/nowhere");
    bed.get("/announce");
    let reply = bed.get("/metrics");
    assert!(reply.head.contains("text/plain; version=0.0.4"), "{}", reply.head);
    let text = reply.text();
    let mut declared = Vec::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(help.contains(' '), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(matches!(kind, "gauge" | "counter"), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            declared.push(name.to_owned());
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            assert_eq!(declared.last().map(String::as_str), Some(name), "{line}");
            assert!(value.parse::<f64>().unwrap() >= 0.0 && !value.starts_with('-'), "{line}");
        }
    }
    assert!(text.contains("http_responses_total{code=\"404\"} 1\n"), "{text}");
    assert!(text.contains("announce_failures_total 1\n"), "{text}");
}
