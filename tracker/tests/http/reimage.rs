//! Nodes that are reimaged in batches: a real tracker, power by a program, by IPMI and by Redfish, and nodes that
//! are played by posts of events.

#[path = "reimage/cluster.rs"]
mod cluster;
#[path = "reimage/power.rs"]
mod power;
#[path = "reimage/sushy.rs"]
mod sushy;

use cluster::{Cluster, Fate};
use serde_json::json;
use std::fs;
use std::time::Duration;

const COMMAND: &str = "power = 'command'\ncommand = ['/bin/sh', 'DIR/reboot', '{name}', '{mac}']\n";

#[test]
fn batches_follow_each_other_also_when_the_tracker_is_killed() {
    let mut cluster = Cluster::new(12, COMMAND);
    cluster.up_with_the_old_one();
    let started = cluster.order(&json!({ "batch": "4", "max_failed": "0", "min_copies": 2 }));
    assert_eq!(
        (started.status, started.json()["batch"].clone()),
        (200, json!(4)),
        "{}",
        started.text()
    );
    let mut random = fastrand::Rng::new();
    println!("seed {}", random.get_seed());
    let mut kills = 0;
    while cluster.last()["phase"] == "running" {
        if kills < 6 {
            std::thread::sleep(Duration::from_millis(random.u64(0..1500)));
            cluster.kill();
            kills += 1;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(kills > 0);
    let last = cluster.last();
    assert_eq!(last["phase"], "done", "{last}");
    assert_eq!(cluster.states(), ["up"; 12]);
    let mut order = Vec::new();
    for name in cluster.reboots() {
        if !order.contains(&name) {
            order.push(name);
        }
    }
    assert_eq!(order.len(), 12, "each was rebooted: {order:?}");
    for (batch, names) in order.chunks(4).enumerate() {
        let expected: Vec<_> = (1..=4).map(|n| format!("n{:02}", batch * 4 + n)).collect();
        let mut names = names.to_vec();
        names.sort();
        assert_eq!(names, expected, "no batch before the last one is over");
    }
    assert!(cluster.page().contains("12 of 12 nodes are up"));
}

#[test]
fn too_many_failures_stop_it_with_names_and_it_can_be_resumed() {
    let mut cluster = Cluster::new(6, COMMAND);
    cluster.up_with_the_old_one();
    cluster.fate("n01", Fate::Fails);
    cluster.fate("n02", Fate::NoPower);
    assert_eq!(cluster.order(&json!({ "batch": "34%", "max_failed": "1" })).status, 200);
    let again = cluster.order(&json!({ "batch": "1", "max_failed": "1" }));
    assert_eq!(again.status, 409, "one at a time: {}", again.text());
    let fleet = cluster.get("/").text().to_owned();
    assert!(
        fleet.contains("<p class=\"note\"><a href=\"/reimage\">Rollout 1</a> of debian@"),
        "{fleet}"
    );
    let told = cluster.notice("rollout");
    assert_eq!((&told["phase"], &told["id"]), (&json!("stopped"), &json!(1)));
    assert!(told["reason"].as_str().unwrap().contains("no such outlet"), "{told}");
    cluster.wait_for("stopped");
    let fleet = cluster.get("/").text().to_owned();
    for text in ["is stopped: 1 of 6 nodes are up, 2 failed.", "<p class=\"note problem\">"] {
        assert!(
            fleet.contains(text) || fleet.contains(&text.replace("1 of", "0 of")),
            "{text} in {fleet}"
        );
    }
    let metrics = cluster.get("/metrics").text().to_owned();
    for sample in [
        "rollout{phase=\"stopped\"} 1\n",
        "rollout{phase=\"running\"} 0\n",
        "rollout_nodes{state=\"failed\"} 2\n",
    ] {
        assert!(metrics.contains(sample), "{sample}");
    }
    let last = cluster.last();
    let reason = last["reason"].as_str().unwrap();
    for part in [
        "2 of 6",
        "1 may",
        "n01: ",
        "the image has no squashfs",
        "n02: cannot be rebooted",
        "no such outlet",
    ] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    assert!(cluster.page().contains("no such outlet"));
    assert!(cluster.reboots().iter().all(|name| matches!(name.as_str(), "n01" | "n02" | "n03")));
    // the nodes of no other batch were touched, and still boot the old one
    let assigned = cluster.get("/api/v1/assignments").json();
    assert!(assigned.as_array().unwrap().iter().all(|row| row["name"] != "n06"), "{assigned}");
    cluster.kill();
    // what was not on disk yet is found out again
    cluster.wait_for("stopped");
    assert_eq!(cluster.last()["reason"], reason, "the same after a kill");
    cluster.fate("n01", Fate::ComesUp);
    cluster.fate("n02", Fate::ComesUp);
    assert_eq!(cluster.post("/last/resume", None, "{}").status, 401, "not without the token");
    assert_eq!(cluster.about("resume").status, 200);
    cluster.wait_for("done");
    assert!(!cluster.get("/").text().contains("Rollout 1"), "nobody has to look after it");
    assert_eq!(cluster.states(), ["up"; 6]);
    assert_eq!(cluster.about("stop").status, 409);
}

#[test]
fn a_stop_holds_and_an_audit_decides() {
    let settings = format!("{COMMAND}audit = ['/bin/sh', 'DIR/audit', '{{name}}']\n");
    let mut cluster = Cluster::new(4, &settings);
    cluster.fate("n02", Fate::Unsound);
    assert_eq!(cluster.order(&json!({ "batch": "2", "max_failed": "1" })).status, 200);
    cluster.wait_until("one was rebooted", |cluster| !cluster.reboots().is_empty());
    assert_eq!(cluster.about("stop").json()["phase"], "stopped");
    cluster.wait_until("who was on its way is up", |cluster| cluster.states()[0] == "up");
    cluster.wait_until("the audit failed", |cluster| cluster.states()[1] == "failed");
    assert_eq!(cluster.states()[2..], ["waiting", "waiting"]);
    let detail = cluster.last()["nodes"][1]["detail"].clone();
    assert!(
        detail.as_str().unwrap().contains("audit: ")
            && detail.as_str().unwrap().contains("3 of 4 modules")
    );
    assert_eq!(cluster.about("resume").status, 200);
    cluster.wait_for("done");
    assert_eq!(cluster.states(), ["up", "failed", "up", "up"]);
}

#[test]
fn nodes_can_say_themselves_that_they_are_sound() {
    let settings = format!("{COMMAND}audit = 'event'\naudit_timeout_secs = 4\n");
    let mut cluster = Cluster::new(4, &settings);
    cluster.fate("n02", Fate::Unsound);
    cluster.fate("n03", Fate::Unaudited);
    assert_eq!(cluster.order(&json!({ "batch": "3", "max_failed": "2" })).status, 200);
    let mut waited = false;
    cluster.wait_until("a node has to say something", |cluster| {
        let states = cluster.states();
        waited |= states[2] == "auditing";
        assert!(waited || states[2] != "up", "up without a verdict");
        states[2] == "failed"
    });
    assert!(waited, "it seeded, and was waited for");
    cluster.wait_for("done");
    assert_eq!(cluster.states(), ["up", "failed", "failed", "up"]);
    let detail = |at: usize| cluster.last()["nodes"][at]["detail"].as_str().unwrap().to_owned();
    assert_eq!(detail(1), "audit: no disk /dev/sdb");
    assert_eq!(detail(2), "audit: no verdict came within 4 s");
    assert!(cluster.page().contains("audit: no disk /dev/sdb"));
}

#[test]
fn settings_that_cannot_be_are_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("tracker.toml");
    fs::write(dir.path().join("password"), "secret\n").unwrap();
    let login = format!("user = 'a'\npassword_file = '{}/password'\n", dir.path().display());
    let ipmi = format!("power = 'ipmi'\n[reimage.ipmi]\nhost = '{{address}}'\n{login}");
    let url = "url = 'https://{address}:8443'";
    let redfish = format!("power = 'redfish'\n[reimage.redfish]\n{url}\n{login}");
    for (text, part) in [
        (format!("{COMMAND}audit = 'events'\n"), "or \"event\"; not \"events\""),
        (format!("{COMMAND}audit = ['x', '{{nme}}']\n"), "{nme}"),
        (ipmi, "[reimage.ipmi] host: {address}"),
        (redfish, "[reimage.redfish] url: {address}"),
    ] {
        fs::write(&settings, format!("[reimage]\n{text}")).unwrap();
        // one that takes them would run until it is ended
        let output = std::process::Command::new("timeout")
            .args(["60", env!("CARGO_BIN_EXE_bee-tracker"), "--listen", "127.0.0.1:0", "--config"])
            .arg(&settings)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn orders_that_cannot_be_are_refused() {
    let cluster = Cluster::new(3, COMMAND);
    let usual = json!({ "batch": "1", "max_failed": "0" });
    for (change, status, text) in [
        (json!({ "nodes": ["n77"] }), 400, "nor a name in the inventory"),
        (json!({ "nodes": [] }), 400, "no node"),
        // a word of a command, and an option of its program
        (
            json!({ "nodes": ["-Sx"], "addresses": { "-Sx": ["52:54:00:00:00:77"] } }),
            400,
            "begins with '-'",
        ),
        (
            json!({ "nodes": ["a b"], "addresses": { "a b": ["52:54:00:00:00:77"] } }),
            400,
            "letters, digits",
        ),
        (json!({ "batch": "many" }), 400, "10% or 12"),
        (json!({ "batch": "0" }), 400, "--batch 1"),
        (json!({ "batch": "0%" }), 400, "--batch 1"),
        (json!({ "min_copies": 2 }), 400, "--min-copies"),
        (json!({ "patience_s": 0 }), 400, "seconds"),
        (json!({ "channel": "gpu" }), 400, "n01 follows channel stable, not gpu"),
        (json!({ "revision": "debian@aaaaaaaaaaaa" }), 404, "not published"),
        (json!({ "revision": "../../etc/passwd" }), 400, "revision"),
        (json!({ "revision": null }), 400, "give a revision"),
        (json!({ "power": "command" }), 400, "power"),
    ] {
        let mut order = usual.clone();
        order.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let reply = cluster.order(&order);
        assert_eq!(reply.status, status, "{change}: {}", reply.text());
        assert!(reply.text().contains(text), "{change}: {}", reply.text());
    }
    let body = cluster.full(&usual).to_string();
    assert_eq!(cluster.post("", None, &body).status, 401);
    assert_eq!(cluster.get("/api/v1/rollouts").json(), json!([]));
    for which in ["last", "7"] {
        let none = cluster.get(&format!("/api/v1/rollouts/{which}"));
        assert!(none.status == 404 && none.text().contains("ordered yet"), "{}", none.text());
    }
    assert!(cluster.reboots().is_empty());
    // what the channel points to, for nodes that follow it
    let order = json!({ "batch": "1", "max_failed": "0", "revision": null, "channel": "stable" });
    assert_eq!(cluster.order(&order).json()["revision"], cluster.old.to_string());
    let none = cluster.get("/api/v1/rollouts/7");
    assert!(none.status == 404 && none.text().contains("no rollout 7"), "{}", none.text());
}

#[test]
fn a_revision_is_found_by_its_id_alone() {
    let cluster = Cluster::new(1, COMMAND);
    let order = json!({ "batch": "1", "max_failed": "0", "revision": cluster.old.id.as_str() });
    let reply = cluster.order(&order);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["revision"], cluster.old.to_string());
}
