//! What a node reports beside the stages of its boot: the end of its console, and its hardware audit.

use std::path::Path;

use beeswarm_tracker::Config;
use beeswarm_tracker::config::EventsWithoutToken;
use proto::event::console::{MAX_LINE_LEN, MAX_LINES};
use proto::hash::InfoHash;
use serde_json::{Value, json};

use crate::bed::{Bed, empty_store, get, stable};
use crate::events::batch;
use crate::lasting::newer_revision;

const NODE: &str = "/api/v1/nodes/52:54:00:12:34:56";
const PAGE: &str = "/nodes/52:54:00:12:34:56";

fn config(state: &Path) -> Config {
    Config { state: Some(state.to_owned()), ..Config::default() }
}

fn post(bed: &Bed, boot: &str, events: &Value) -> u16 {
    bed.post(&format!("{NODE}/events"), &batch(boot, events.clone())).status
}

fn console(seq: u64, lines: &Value) -> Value {
    json!({ "seq": seq, "uptime_ms": seq * 1000, "stage": "console", "lines": lines })
}

fn failed(seq: u64) -> Value {
    json!({ "seq": seq, "uptime_ms": seq * 1000, "stage": "failed", "message": "no memory", "cause": "memory" })
}

#[test]
fn the_end_of_the_console_is_kept_with_the_boot() {
    let state = tempfile::tempdir().unwrap();
    let bed = Bed::start(config(state.path()));
    assert!(bed.get(NODE).status == 404);
    let fetch = json!({ "seq": 1, "uptime_ms": 1000, "stage": "fetch", "bytes": 1, "total": 4, "rate": 0,
        "upload_rate": 0, "peers": 0, "sources": { "admin": 1, "peers": 0, "web": 0 } });
    post(&bed, "b1", &json!([fetch, console(2, &json!(["[    2.000] first"]))]));
    let node = bed.get(NODE).json();
    assert_eq!(
        (&node["stage"], &node["console"]["lines"]),
        (&json!("fetch"), &json!(["[    2.000] first"]))
    );
    let evil = "[    3.000] <script>x</script>&\u{1b}[2J\u{202e}";
    let last = json!([failed(4), console(5, &json!([evil, "[    4.000] FAILED: no memory"]))]);
    // sent twice, and an older one late: the newest stays, once
    for events in [&last, &last, &json!([console(3, &json!(["[    3.000] late"]))])] {
        assert_eq!(post(&bed, "b1", events), 204);
    }
    let seen = |bed: &Bed| {
        let node = bed.get(NODE).json();
        let events = node["events"].as_array().unwrap().iter();
        assert_eq!(events.filter(|event| event["stage"] == "console").count(), 1);
        assert_eq!(
            (&node["stage"], &node["trouble"]["cause"]),
            (&json!("failed"), &json!("memory"))
        );
        assert_eq!(node["console"]["uptime_ms"], 5000);
        assert!(node["console"]["received_ms_ago"].as_u64().unwrap() < 60_000);
        assert!(!node["stage_times"].to_string().contains("console"), "it is no stage");
        node["console"]["lines"].clone()
    };
    let kept = json!(["[    3.000] <script>x</script>& [2J ", "[    4.000] FAILED: no memory"]);
    assert_eq!(seen(&bed), kept);
    let page = bed.get(PAGE);
    let text = "<pre>[    3.000] &lt;script&gt;x&lt;/script&gt;&amp; [2J \n[    4.000] FAILED: no memory</pre>";
    assert!(page.text().contains(text), "{}", page.text());
    bed.stop();

    let bed = Bed::start(config(state.path()));
    assert_eq!(seen(&bed), kept, "it outlives the tracker");
    // the next boot has none of its own, and that of the failed one is still to be seen
    post(&bed, "b2", &json!([{ "seq": 0, "uptime_ms": 9, "stage": "discover", "source": "x" }]));
    let node = bed.get(NODE).json();
    assert_eq!((&node["console"], &node["past_boots"][0]["console"]), (&Value::Null, &kept));
    let page = bed.get(PAGE);
    assert!(page.text().contains("Nothing came in this boot") && page.text().contains(text));
    // a boot that got on leaves none
    post(
        &bed,
        "b2",
        &json!([console(1, &json!(["x"])),
        { "seq": 2, "uptime_ms": 2000, "stage": "seeding", "device": "d", "user": "u", "uploaded": 0 }]),
    );
    post(&bed, "b3", &json!([{ "seq": 0, "uptime_ms": 9, "stage": "discover", "source": "x" }]));
    assert_eq!(bed.get(NODE).json()["past_boots"][0]["console"], Value::Null);
}

#[test]
fn a_console_is_bounded() {
    let bed = Bed::start(Config::default());
    let lines: Vec<_> = (0..50).map(|n| format!("{n} {}", "é".repeat(300))).collect();
    assert_eq!(post(&bed, "b", &json!([console(1, &json!(lines))])), 204);
    let kept = bed.get(NODE).json()["console"]["lines"].clone();
    let kept = kept.as_array().unwrap();
    assert_eq!(kept.len(), MAX_LINES);
    assert!(kept[0].as_str().unwrap().starts_with("20 "), "the last ones");
    assert!(kept.iter().all(|line| line.as_str().unwrap().chars().count() == MAX_LINE_LEN));
    assert_eq!(post(&bed, "b", &json!([console(2, &json!("no list"))])), 400);
}

fn audit(seq: u64, verdict: &str, text: &str) -> Value {
    let findings = json!([{ "name": "memory", "verdict": "pass" },
        { "name": "disk <sda>", "verdict": verdict, "detail": "4 & 3" }]);
    json!({ "seq": seq, "uptime_ms": seq * 1000, "stage": "audit", "verdict": verdict, "text": text,
        "findings": findings })
}

fn seeding(seq: u64) -> Value {
    json!({ "seq": seq, "uptime_ms": seq * 1000, "stage": "seeding", "device": "d", "user": "u", "uploaded": 0 })
}

#[test]
fn an_audit_is_kept_shown_and_counted() {
    let state = tempfile::tempdir().unwrap();
    let bed = Bed::start(config(state.path()));
    let metric = |bed: &Bed, verdict: &str| {
        let text = bed.get("/metrics").text().to_owned();
        let name = format!("beeswarm_tracker_nodes_audited{{verdict=\"{verdict}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().to_owned()
    };
    post(&bed, "b1", &json!([seeding(5)]));
    assert_eq!(bed.get(NODE).json()["audit"], Value::Null);
    // the seeder reported later already: who audits is another program
    assert_eq!(post(&bed, "b1", &json!([audit(4, "pass", "all <b>sound</b>")])), 204);
    let node = bed.get(NODE).json();
    assert_eq!(node["audit"], json!({ "verdict": "pass", "text": "all <b>sound</b>" }));
    assert_eq!(node["audit_findings"].as_array().unwrap().len(), 2);
    assert_eq!((&node["stage"], &node["trouble"]), (&json!("seeding"), &Value::Null));
    assert_eq!((metric(&bed, "pass"), metric(&bed, "fail")), ("1".into(), "0".into()));
    for (path, text) in [
        (PAGE, "passed</b>: all &lt;b&gt;sound&lt;/b&gt;"),
        (PAGE, "disk &lt;sda&gt;"),
        ("/nodes", "seeding · audit passed"),
        ("/", "seeding, audit passed\">✓</a>"),
    ] {
        let page = bed.get(path);
        assert!(page.text().contains(text), "{text} in {path}: {}", page.text());
    }
    for word in [json!("perhaps"), json!(null), json!("PASS")] {
        let mut event = audit(8, "pass", "x");
        event["verdict"] = word.clone();
        let reply = bed.post(&format!("{NODE}/events"), &batch("b1", json!([event])));
        assert_eq!(reply.status, 400, "{word}");
    }
    assert_eq!(
        bed.get(NODE).json()["audit"]["text"],
        "all <b>sound</b>",
        "no word of it was taken"
    );

    // the last verdict counts, and a bad one needs somebody's eye
    for _ in 0..2 {
        assert_eq!(post(&bed, "b1", &json!([audit(6, "fail", "3 of 4 modules")])), 204);
    }
    let failed = |bed: &Bed| {
        let node = bed.get(NODE).json();
        assert_eq!(node["audit"], json!({ "verdict": "fail", "text": "3 of 4 modules" }));
        assert_eq!(node["trouble"]["cause"], "audit-failed");
        assert_eq!(bed.get("/api/v1/stalled").json()[0]["detail"], "3 of 4 modules");
        assert_eq!((metric(bed, "pass"), metric(bed, "fail")), ("0".into(), "1".into()));
        for (path, text) in [
            (PAGE, "<b class=\"quiet\">failed</b>: 3 of 4 modules"),
            (PAGE, "4 &amp; 3"),
            ("/nodes", "seeding · audit failed"),
            ("/", "class=\"c seeding stuck\""),
            ("/", "seeding, hardware audit failed\">!</a>"),
            ("/", "<b>1</b> hardware audit failed"),
        ] {
            let page = bed.get(path);
            assert!(page.text().contains(text), "{text} in {path}: {}", page.text());
        }
    };
    failed(&bed);
    bed.stop();
    let bed = Bed::start(config(state.path()));
    failed(&bed);
    // another boot is not judged by it
    post(&bed, "b2", &json!([seeding(5)]));
    let node = bed.get(NODE).json();
    assert_eq!((&node["audit"], &node["trouble"]), (&Value::Null, &Value::Null));
    assert_eq!(node["past_boots"][0]["audit"], "fail");
    assert!(bed.get(PAGE).text().contains("audit failed</small>"));
}

#[test]
fn where_a_token_is_demanded_a_verdict_needs_one() {
    let (_dir, store) = empty_store();
    let revision = newer_revision(&store, InfoHash([1; 20]));
    store.publish(&revision, &stable()).unwrap();
    let bed = Bed::start(Config {
        store: Some(store.root().to_owned()),
        events_without_token: EventsWithoutToken::Refuse,
        ..Config::default()
    });
    assert_eq!(post(&bed, "b", &json!([audit(1, "pass", "x")])), 403);
    let script = get(bed.addr, "/boot/52-54-00-12-34-56.ipxe", "User-Agent: iPXE/1.21.1\r\n");
    assert_eq!(bed.get(NODE).json()["audit"], Value::Null);
    let (_, behind) = script.text().split_once(" beeswarm.token=").unwrap();
    let mut body: Value =
        serde_json::from_slice(&batch("b", json!([audit(1, "pass", "x")]))).unwrap();
    body["token"] = json!(behind.split(' ').next().unwrap());
    let reply = bed.post(&format!("{NODE}/events"), body.to_string().as_bytes());
    assert_eq!(reply.status, 204, "{}", reply.text());
    let node = bed.get(NODE).json();
    assert_eq!((&node["audit"]["verdict"], &node["authenticated"]), (&json!("pass"), &json!(true)));
}
