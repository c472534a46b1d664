//! The status page and `/metrics`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::time::{Duration, Instant};

use crate::bed::{Bed, PATIENCE, add_revision, empty_store, get, stable, wait_until};
use crate::events::batch;
use beeswarm_tracker::Config;
use proto::hash::InfoHash;
use serde_json::json;

fn fetch() -> serde_json::Value {
    json!([{ "seq": 0, "uptime_ms": 9, "stage": "fetch", "bytes": 250, "total": 1000,
        "rate": 12_500_000, "upload_rate": 0, "uploaded": 400, "peers": 7,
        "sources": { "admin": 50, "peers": 200, "web": 0 } }])
}

#[test]
fn the_pages_show_nodes_torrents_and_images() {
    let (dir, store) = empty_store();
    let revision = add_revision(&store, "debian", InfoHash([1; 20]), true);
    store.publish(&revision, &stable()).unwrap();
    let inventory = dir.path().join("nodes.csv");
    std::fs::write(&inventory, "mac,name,rack\n52:54:00:00:00:01,n1,r7\n02:00:00:00:00:09,n9,r7\n")
        .unwrap();
    let bed = Bed::start(Config {
        store: Some(store.root().to_owned()),
        inventory: Some(inventory),
        admin_link: Some("1Gbit".parse().unwrap()),
        ..Config::default()
    });
    let empty = bed.get("/");
    assert_eq!(empty.status, 200);
    assert!(empty.text().contains("<noscript><meta http-equiv=\"refresh\" content=\"5\">"));
    assert!(empty.head.contains("content-security-policy: default-src 'none'"), "{}", empty.head);

    bed.post("/api/v1/nodes/52:54:00:00:00:01/events", &batch("b", fetch()));
    let all = [
        ("/", "<title>0/1 up"),
        ("/", "<h3>rack r7 <small>2</small></h3>"),
        ("/", "class=\"c fetch\" style=\"--p:25%\" href=\"/nodes/52:54:00:00:00:01\""),
        ("/", "title=\"n1: fetch 25 %\">f</a>"),
        ("/", "title=\"n9: not heard yet\""),
        ("/", "100 Mbit/s"),
        ("/", "% of 1.0 Gbit/s"),
        ("/", "in 0 s"),
        ("/", "80 % from peers"),
        ("/", "Nodes by stage over time; now"),
        ("/", "prefers-color-scheme: dark"),
        ("/nodes", "fetch 25.0 %"),
        ("/nodes", "peers 200 B · admin 50 B"),
        ("/nodes/n1", "25.0 % of the image"),
        ("/nodes/52:54:00:00:00:01", "<h1>n1</h1>"),
        ("/swarm", "01010101010101010101"),
        ("/swarm", "1 from 20 %"),
        ("/swarm", "1.60"),
        ("/images", revision.id.as_str()),
        ("/images", "stable"),
        ("/images", "published"),
        ("/images", "nobody"),
    ];
    for (path, text) in all {
        let page = bed.get(path);
        assert_eq!(page.status, 200, "{path}");
        assert!(page.text().contains(text), "{text} in {path}: {}", page.text());
    }
    let missing = bed.get("/nodes/n7");
    assert!(missing.status == 404 && missing.text().contains("was heard yet"));
    assert!(bed.get("/page.js").head.contains("text/javascript"));
    assert!(bed.get("/icon.svg").head.contains("image/svg+xml"));
}

#[test]
fn a_stuck_node_is_named_with_cause_and_remedy() {
    let bed = Bed::start(Config::default());
    let cases = [
        (
            "01",
            json!({ "stage": "stalled", "cause": "no-carrier", "detail": "eth0" }),
            "no carrier",
        ),
        ("02", json!({ "stage": "stalled", "cause": "no-address", "detail": "x" }), "no DHCP"),
        ("03", json!({ "stage": "stalled", "cause": "no-route", "detail": "x" }), "no route"),
        (
            "04",
            json!({ "stage": "stalled", "cause": "tracker-unreachable", "detail": "x" }),
            "tracker unr",
        ),
        (
            "05",
            json!({ "stage": "stalled", "cause": "tracker-refuses", "detail": "x" }),
            "tracker ref",
        ),
        ("06", json!({ "stage": "stalled", "cause": "no-peers", "detail": "x" }), "no peers"),
        (
            "07",
            json!({ "stage": "stalled", "cause": "no-data", "detail": "x" }),
            "peers, but no data",
        ),
        (
            "08",
            json!({ "stage": "stalled", "cause": "hash-failures", "detail": "peer 10.0.0.7" }),
            "peer 10.0.0.7",
        ),
        (
            "09",
            json!({ "stage": "failed", "cause": "memory", "message": "x" }),
            "too little memory",
        ),
        ("10", json!({ "stage": "failed", "cause": "mount", "message": "x" }), "mount failed"),
        (
            "11",
            json!({ "stage": "failed", "refused": "unsigned", "message": "x" }),
            "content refused",
        ),
    ];
    for (n, event, _) in &cases {
        let mut event = event.clone();
        (event["seq"], event["uptime_ms"]) = (json!(0), json!(1));
        let reply = bed
            .post(&format!("/api/v1/nodes/52:54:00:00:00:{n}/events"), &batch("b", json!([event])));
        assert_eq!(reply.status, 204);
    }
    let page = bed.get("/").text().to_owned();
    let list = bed.get("/api/v1/nodes").json();
    for (n, _, text) in &cases {
        assert!(page.contains(text), "{text} in {page}");
        let id = format!("52:54:00:00:00:{n}");
        let node = list.as_array().unwrap().iter().find(|node| node["id"] == *id).unwrap();
        let remedy = node["trouble"]["remedy"].as_str().unwrap();
        assert!(page.contains(&format!("→ {remedy}")), "{remedy}");
        assert!(bed.get(&format!("/nodes/{id}")).text().contains(remedy));
    }
    assert!(
        page.contains(&format!("<dd>{}</dd><dd class=\"more\"><a href=\"#stalled\"", cases.len()))
    );
}

#[test]
fn a_node_whose_peers_send_nothing_is_stuck_until_data_come() {
    let bed = Bed::start(Config::default());
    let node = "/api/v1/nodes/52:54:00:00:00:01/events";
    let mut seq = 0;
    let mut say = |mut event: serde_json::Value| {
        seq += 1;
        (event["seq"], event["uptime_ms"]) = (json!(seq), json!(seq * 100));
        assert_eq!(bed.post(node, &batch("b", json!([event]))).status, 204);
    };
    let progress = |bytes: u64, rate: u64| {
        json!({ "stage": "fetch", "bytes": bytes, "total": 1000, "rate": rate, "upload_rate": 0, "peers": 14,
            "sources": { "admin": bytes, "peers": 0, "web": 0 } })
    };
    let stuck = || bed.get("/").text().contains("<td class=\"why\">peers, but no data</td>");
    say(progress(250, 9));
    assert!(!stuck());
    // as the client does: progress every two seconds, and every ten seconds that there is none
    for round in 0..3 {
        let detail = format!("14 peers are connected, none sends for {} s", 5 + round * 10);
        say(json!({ "stage": "stalled", "cause": "no-data", "detail": detail }));
        for _ in 0..5 {
            say(progress(250, 0));
            assert!(stuck(), "round {round}");
            std::thread::sleep(Duration::from_millis(30));
        }
        let page = bed.get("/nodes/52:54:00:00:00:01");
        assert!(
            page.text().contains(&format!("<b>peers, but no data</b>: {detail}")),
            "{}",
            page.text()
        );
    }
    assert_eq!(bed.get("/api/v1/stalled").json()[0]["cause"], "no-data");
    say(progress(500, 9));
    assert!(!stuck() && bed.get("/api/v1/stalled").json() == json!([]));
}

#[test]
fn a_node_whose_seeder_does_not_start_is_stuck_until_it_reports() {
    let state = tempfile::tempdir().unwrap();
    let config = || Config {
        state: Some(state.path().to_owned()),
        seeder_patience: Duration::from_secs(3),
        ..Config::default()
    };
    let bed = Bed::start(config());
    let path = "/api/v1/nodes/52:54:00:00:00:01/events";
    let say =
        |bed: &Bed, event| assert_eq!(bed.post(path, &batch("b", json!([event]))).status, 204);
    let cause = |bed: &Bed| bed.get("/api/v1/stalled").json()[0]["cause"].clone();
    let said = Instant::now();
    say(&bed, json!({ "seq": 1, "uptime_ms": 1, "stage": "handover", "peak_memory": 9 }));
    assert_eq!(cause(&bed), json!(null), "the system starts");
    wait_until("it is stuck", || cause(&bed) == "seeder-not-started");
    assert!(said.elapsed() > Duration::from_secs(3), "not before its time");
    let page = bed.get("/");
    for text in [
        "<td class=\"why\">seeder not started</td>",
        "it went over to its root ",
        "systemctl status beeswarm-node-seeder",
        "title=\"52:54:00:00:00:01: handover, seeder not started\">!</a>",
    ] {
        assert!(page.text().contains(text), "{text} in {}", page.text());
    }
    bed.stop();
    let bed = Bed::start(config());
    assert_eq!(cause(&bed), "seeder-not-started", "the patience holds for nodes from the disk");
    let seeding = json!({ "seq": 0, "uptime_ms": 9, "stage": "seeding", "device": "d", "user": "u", "uploaded": 0 });
    say(&bed, seeding);
    assert_eq!(cause(&bed), json!(null));
}

#[test]
fn the_stream_tells_what_changes_and_ends_with_the_server() {
    let bed = Bed::start(Config::default());
    bed.post("/api/v1/nodes/52:54:00:00:00:01/events", &batch("b", fetch()));
    let mut stream = std::net::TcpStream::connect(bed.addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut until = |name: &str| -> serde_json::Value {
        let event = format!("event: {name}");
        assert!(lines.any(|line| line == event), "{name}");
        let data = lines.next().unwrap();
        serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap()
    };
    assert!(until("tick").as_u64() > Some(1_700_000_000_000));
    assert!(until("map").as_str().unwrap().contains("52:54:00:00:00:01: fetch 25 %"));
    assert!(until("head").as_str().unwrap().contains("0 of 1"));
    assert!(until("charts").as_str().unwrap().contains("<svg"));
    // nothing was rendered before the first reader came: all of it is news once more
    until("map");
    let done = json!([{ "seq": 1, "uptime_ms": 10, "stage": "seeding", "device": "d", "user": "u",
        "uploaded": 0 }]);
    bed.post("/api/v1/nodes/52:54:00:00:00:01/events", &batch("b", done));
    let cells = until("cells");
    // on a machine that stood still meanwhile it is "c seeding old"
    assert!(cells[0][1].as_str().unwrap().starts_with("c seeding"), "{cells}");
    assert_eq!((&cells[0][0], &cells[0][2]), (&json!("n52:54:00:00:00:01"), &json!(100)));
    assert_eq!(cells.as_array().unwrap().len(), 1);
    assert!(until("head").as_str().unwrap().contains("1 of 1"));
    bed.post("/api/v1/nodes/52:54:00:00:00:02/events", &batch("b", fetch()));
    assert!(until("map").as_str().unwrap().contains("52:54:00:00:00:02"));
    let start = Instant::now();
    bed.stop();
    assert!(start.elapsed() < Duration::from_secs(4), "an open page holds up the end");
    assert_eq!(lines.last().as_deref(), Some(""), "it ended in order");
}

#[test]
fn a_node_that_is_only_known_has_a_page() {
    let (dir, store) = empty_store();
    let revision = add_revision(&store, "debian", InfoHash([1; 20]), true);
    store.publish(&revision, &stable()).unwrap();
    let other = add_revision(&store, "gpu", InfoHash([2; 20]), true);
    let assigned: proto::node_id::NodeId = "02:00:00:00:00:07".parse().unwrap();
    store.assign(&other, &[assigned]).unwrap();
    let inventory = dir.path().join("nodes.csv");
    std::fs::write(
        &inventory,
        "mac,name,rack,group,boot\n52:54:00:00:00:01,n1,r7,gpu,\n02:00:00:00:00:09,n9,,,disk\n",
    )
    .unwrap();
    let bed = Bed::start(Config {
        store: Some(store.root().to_owned()),
        inventory: Some(inventory),
        ..Config::default()
    });
    let listed = "no: it follows its channel</dd><dt>would boot now</dt><dd>";
    let n1 = [&format!("{listed}{revision}</dd>"), "<dt>rack</dt><dd>r7</dd>", "Not heard yet"];
    let n9 =
        [&format!("{listed}its disk: the inventory says so</dd>"), "<h1>n9</h1>", "Not heard yet"];
    let own = [
        &format!("<dt>assigned</dt><dd>{other}</dd>"),
        "<h1>02:00:00:00:00:07</h1>",
        "Not heard yet",
    ];
    for (id, texts) in
        [("52:54:00:00:00:01", &n1), ("n1", &n1), ("n9", &n9), ("02:00:00:00:00:07", &own)]
    {
        let page = bed.get(&format!("/nodes/{id}"));
        assert_eq!(page.status, 200, "{id}");
        for text in texts {
            assert!(page.text().contains(text), "{text} in {}", page.text());
        }
    }
    for nobody in ["02:00:00:00:00:01", "n2"] {
        assert_eq!(bed.get(&format!("/nodes/{nobody}")).status, 404, "{nobody}");
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
    for path in
        ["/", "/nodes", "/nodes/52:54:00:00:00:01", "/nodes/52:54:00:00:00:02", "/swarm", "/images"]
    {
        let page = get(bed.addr, path, "Host: <img src=\"x\r\n");
        let page = if page.status == 200 { page } else { bed.get(path) };
        for markup in ["<script>", "<img", "onerror=y>\""] {
            assert!(!page.text().contains(markup), "{markup} in {path}");
        }
        assert_eq!(page.text().matches("<script").count(), 1, "our own, in {path}");
        if path != "/swarm" && path != "/images" {
            assert!(page.text().contains("&lt;script&gt;alert('x')"), "{path}");
        }
    }
    let images = bed.get("/images");
    assert!(images.text().contains("6.1.0-&lt;b&gt;"), "the kernel release of the manifest");
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
