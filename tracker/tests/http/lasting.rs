//! What outlives the process, over HTTP.

use std::path::Path;

use crate::bed::{Bed, add_revision, empty_store, exchange, get, stable, wait_until};
use crate::events::batch;
use beeswarm_tracker::Config;
use beeswarm_tracker::config::{EventsWithoutToken, NothingToBoot};
use proto::hash::InfoHash;
use serde_json::{Value, json};
use store::{Channel, RevisionRef, Store};

const NODE: &str = "/api/v1/nodes/52:54:00:12:34:56";
const BOOT: &str = "/boot/52-54-00-12-34-56.ipxe";
const FIRMWARE: &str = "User-Agent: iPXE/1.21.1\r\n";

fn config(state: &Path) -> Config {
    Config { state: Some(state.to_owned()), ..Config::default() }
}

fn events(seqs: std::ops::Range<u64>) -> Value {
    let event = |seq| json!({ "seq": seq, "uptime_ms": seq, "stage": "attach", "device": "d" });
    seqs.map(event).collect()
}

fn order(bed: &Bed, path: &str, token: Option<&str>, order: &Value) -> crate::bed::Reply {
    let body = order.to_string();
    let token = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\n{token}Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    exchange(bed.addr, &[head.as_bytes(), body.as_bytes()].concat())
}

fn admin(state: &Path) -> String {
    std::fs::read_to_string(state.join("admin-token")).unwrap().trim().to_owned()
}

/// A store with two revisions; the first is what the channel boots.
fn two_revisions() -> (tempfile::TempDir, Store, RevisionRef, RevisionRef) {
    let (dir, store) = empty_store();
    let one = add_revision(&store, "debian", InfoHash([1; 20]), true);
    let two = add_revision(&store, "debian", InfoHash([2; 20]), true);
    store.publish(&two, &Channel::new("canary").unwrap()).unwrap();
    store.publish(&one, &stable()).unwrap();
    (dir, store, one, two)
}

#[test]
fn nodes_events_and_past_boots_are_there_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let bed = Bed::start(config(state.path()));
    get(bed.addr, BOOT, FIRMWARE);
    assert_eq!(bed.post(&format!("{NODE}/events"), &batch("b1", events(0..3))).status, 204);
    assert_eq!(bed.post(&format!("{NODE}/events"), &batch("b2", events(5..9))).status, 204);
    let seen = |bed: &Bed| {
        let mut node = bed.get(NODE).json();
        let events = node["events"].as_array_mut().unwrap();
        events.iter_mut().for_each(|e| drop(e.as_object_mut().unwrap().remove("received_ms_ago")));
        node["last_seen_ms"].take();
        node
    };
    let before = seen(&bed);
    assert_eq!(before["boots"], 2);
    assert_eq!(before["events"].as_array().unwrap().len(), 4);
    assert_eq!(before["past_boots"][0]["boot_id"], "b1");
    assert_eq!(
        before["past_boots"][0]["stage_times"],
        json!([{ "stage": "attach", "uptime_ms": 0 }])
    );
    bed.stop();
    let bed = Bed::start(config(state.path()));
    assert_eq!(seen(&bed), before);
    // what was acknowledged is still known
    assert_eq!(bed.post(&format!("{NODE}/events"), &batch("b2", events(5..9))).status, 204);
    assert_eq!(seen(&bed), before);
    assert!(bed.get("/metrics").text().contains("events_total 0\n"));
    assert!(bed.get(NODE).json()["last_seen_ms"].as_u64().unwrap() < 60_000);
}

#[test]
fn only_the_admin_assigns_and_what_was_assigned_lasts() {
    let (_dir, store, one, two) = two_revisions();
    let state = tempfile::tempdir().unwrap();
    let start =
        || Bed::start(Config { store: Some(store.root().to_owned()), ..config(state.path()) });
    let bed = start();
    let boots = |bed: &Bed, revision: &RevisionRef| {
        bed.get(BOOT).text().contains(&format!("/revisions/debian/{}\n", revision.id))
    };
    let told = json!({ "revision": two.to_string(), "nodes": ["52:54:00:12:34:56"],
        "kernel_args": "console=ttyS1" });
    for (token, status, text) in
        [(None, 401, "--token-file"), (Some("x"), 401, "not the admin's token")]
    {
        let reply = order(&bed, "/api/v1/assign", token, &told);
        assert_eq!(reply.status, status);
        assert!(reply.json()["error"].as_str().unwrap().contains(text), "{}", reply.text());
        assert_eq!(order(&bed, "/api/v1/unassign", token, &json!({ "nodes": null })).status, 401);
    }
    assert!(boots(&bed, &one));
    let token = admin(state.path());
    let reply = order(&bed, "/api/v1/assign", Some(&token), &told);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["nodes"], json!(["52:54:00:12:34:56"]));
    assert!(boots(&bed, &two));
    bed.stop();
    let bed = start();
    assert!(boots(&bed, &two) && bed.get(BOOT).text().contains(" console=ttyS1 ||"));
    assert_eq!(bed.get("/api/v1/assignments").json()[0]["revision"], two.to_string());
    let usage = proto::usage::Usage::parse(&bed.get(proto::usage::USAGE_PATH).body).unwrap();
    assert!(usage.revisions.iter().any(|row| row.assigned == 1 && row.in_use()));
    // what bee-packer writes into the store later counts more, and less again
    store.assign(&one, &["52:54:00:12:34:56".parse().unwrap()]).unwrap();
    wait_until("the store's word", || boots(&bed, &one));
    assert_eq!(order(&bed, "/api/v1/assign", Some(&token), &told).status, 200);
    assert!(boots(&bed, &two));
    let freed = order(&bed, "/api/v1/unassign", Some(&token), &json!({ "nodes": null }));
    assert_eq!(freed.json()["nodes"], json!(["52:54:00:12:34:56"]));
    assert!(boots(&bed, &one));
}

#[test]
fn orders_that_cannot_be_are_refused() {
    let (_dir, store, _, two) = two_revisions();
    let bare = add_revision(&store, "bare", InfoHash([3; 20]), false);
    store.publish(&bare, &stable()).unwrap();
    let state = tempfile::tempdir().unwrap();
    let bed = Bed::start(Config { store: Some(store.root().to_owned()), ..config(state.path()) });
    let token = admin(state.path());
    let node = "52:54:00:12:34:56";
    for (body, status, text) in [
        (json!({}), 400, "revision"),
        (json!({ "revision": two.to_string(), "nodes": [] }), 400, "no node"),
        (json!({ "revision": two.to_string(), "nodes": ["n01"] }), 400, "inventory"),
        (json!({ "revision": "debian", "nodes": [node] }), 400, "say which one"),
        (json!({ "revision": "debian@aaaaaaaaaaaa", "nodes": [node] }), 404, "not published"),
        (json!({ "revision": bare.to_string(), "nodes": [node] }), 409, "no kernel"),
        (
            json!({ "revision": two.to_string(), "nodes": [node], "kernel_args": "a\nb" }),
            400,
            "ASCII",
        ),
        (json!({ "revision": two.to_string(), "nodes": [node], "more": 1 }), 400, "more"),
    ] {
        let reply = order(&bed, "/api/v1/assign", Some(&token), &body);
        let error = reply.json()["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(reply.status, status, "{body}: {error}");
        assert!(error.contains(text), "{body}: {error}");
    }
    assert_eq!(bed.get("/api/v1/assignments").json(), json!([]));
    let memory = Bed::start(Config::default());
    let reply = order(&memory, "/api/v1/assign", Some(&token), &json!({}));
    assert_eq!((reply.status, reply.text().contains("--state")), (403, true));
}

/// A revision whose initrd knows tokens.
pub(crate) fn newer_revision(store: &Store, info_hash: InfoHash) -> RevisionRef {
    let plain = add_revision(store, "debian", info_hash, true);
    let mut manifest = store.revision(&plain).unwrap().manifest().unwrap();
    let fact = (proto::manifest::ARGUMENTS_FACT, proto::manifest::ARGUMENTS_KNOWN);
    manifest.build.insert(fact.0.to_owned(), fact.1.to_owned());
    let draft = store.begin().unwrap();
    for kind in proto::manifest::ArtefactKind::ALL {
        let from = store.revision(&plain).unwrap().manifest_path().with_file_name(kind.file_name());
        std::fs::copy(from, draft.dir().join(kind.file_name())).unwrap();
    }
    store.commit(draft, &manifest).unwrap().revision.reference().clone()
}

#[test]
fn a_boot_script_brings_a_token_and_events_without_it_are_told_apart() {
    let (_dir, store) = empty_store();
    let revision = newer_revision(&store, InfoHash([1; 20]));
    store.publish(&revision, &stable()).unwrap();
    let state = tempfile::tempdir().unwrap();
    let start = |policy| {
        Bed::start(Config {
            store: Some(store.root().to_owned()),
            events_without_token: policy,
            ..config(state.path())
        })
    };
    let bed = start(EventsWithoutToken::Accept);
    let token_of = |bed: &Bed| {
        let script = get(bed.addr, BOOT, FIRMWARE).text().to_owned();
        let line = script.lines().find(|line| line.starts_with("kernel ")).unwrap().to_owned();
        let token = line.split(' ').find_map(|word| word.strip_prefix("beeswarm.token="));
        token.unwrap().to_owned()
    };
    let send = |bed: &Bed, boot: &str, token: Option<&str>, seqs| {
        let mut body: Value = serde_json::from_slice(&batch(boot, events(seqs))).unwrap();
        body["token"] = json!(token);
        body["macs"] = json!(["52:54:00:12:34:56", "52:54:00:12:34:57"]);
        bed.post(&format!("{NODE}/events"), body.to_string().as_bytes()).status
    };
    let authenticated = |bed: &Bed| bed.get(NODE).json()["authenticated"].clone();
    let first = token_of(&bed);
    assert_eq!(authenticated(&bed), Value::Null);
    assert_eq!(send(&bed, "b1", Some(&first), 0..2), 204);
    assert_eq!(authenticated(&bed), json!(true));
    assert_eq!(bed.get("/api/v1/nodes/52:54:00:12:34:57").json()["id"], "52:54:00:12:34:56");
    // the same from somebody who does not have it
    assert_eq!(send(&bed, "b1", None, 2..3), 403);
    assert_eq!(authenticated(&bed), json!(true));
    // a boot by another script: taken, and seen
    assert_eq!(send(&bed, "unproven", None, 0..1), 204);
    assert_eq!(authenticated(&bed), json!(false));
    assert!(bed.get("/nodes").text().contains("not authenticated"));
    // but it was not that node's: the boot that has shown its token goes on
    assert_eq!(send(&bed, "b1", Some(&first), 2..4), 204);
    assert_eq!(authenticated(&bed), json!(true));
    assert_eq!(bed.get(NODE).json()["boot_id"], "b1");
    bed.stop();

    let bed = start(EventsWithoutToken::Refuse);
    let second = token_of(&bed);
    for (token, status) in [
        (None, 403),
        (Some("00"), 403),
        (Some(first.as_str()), 403), // of a former boot
        (Some(second.as_str()), 204),
    ] {
        assert_eq!(send(&bed, "b2", token, 0..2), status, "{token:?}");
    }
    bed.stop();
    let bed = start(EventsWithoutToken::Refuse);
    assert_eq!(send(&bed, "b2", Some(&second), 2..4), 204, "over a restart");
    assert_eq!(send(&bed, "b3", Some(&second), 0..2), 403, "another boot needs another token");
    assert_eq!(authenticated(&bed), json!(true));
    assert_eq!(bed.get(NODE).json()["events"].as_array().unwrap().len(), 4);
}

#[test]
fn another_machine_gets_no_token_and_changes_nothing() {
    let (_dir, store) = empty_store();
    let [old, new] = [1, 2].map(|n| newer_revision(&store, InfoHash([n; 20])));
    store.publish(&old, &stable()).unwrap();
    let files = tempfile::tempdir().unwrap();
    let table = files.path().join("arp");
    let behind = |mac: &str| {
        std::fs::write(&table, format!("127.0.0.1 0x1 0x2 {mac} * lo\n")).unwrap();
        // what was just read is good for a second
        std::thread::sleep(std::time::Duration::from_millis(1100));
    };
    let bed = Bed::start(Config {
        store: Some(store.root().to_owned()),
        neighbours: Some(table.clone()),
        ..config(files.path())
    });
    let script = || get(bed.addr, BOOT, FIRMWARE).text().to_owned();
    behind("52:54:00:12:34:56");
    let own = script();
    let (_, token) = own.split_once("beeswarm.token=").unwrap();
    let token = token.split_whitespace().next().unwrap();
    let seeds = |seq: u64| {
        let event = json!({ "seq": seq, "uptime_ms": 9000 + seq, "stage": "seeding",
                            "device": "/dev/loop0", "user": "x", "uploaded": 0 });
        let body = json!({ "version": 1, "boot_id": "b1", "token": token, "events": [event] });
        bed.post(&format!("{NODE}/events"), body.to_string().as_bytes()).status
    };
    let is = |bed: &Bed| {
        let node = bed.get(NODE).json();
        (node["stage"].clone(), node["authenticated"].clone(), node["revision"].clone())
    };
    assert_eq!(seeds(0), 204);
    let runs = (json!("seeding"), json!(true), json!(old.id.to_string()));
    let before = is(&bed);
    assert_eq!((&before.0, &before.1), (&runs.0, &runs.1));

    // another card is behind that address: it may read the script, and that is all
    store.publish(&new, &stable()).unwrap();
    behind("52:54:00:00:00:99");
    let theirs = script();
    assert!(theirs.contains("\nkernel ") && !theirs.contains("beeswarm.token="), "{theirs}");
    assert_eq!(is(&bed), before);

    // the node itself asks, in passing: its system runs on
    behind("52:54:00:12:34:56");
    wait_until("the new revision is offered", || script().contains(&new.id.to_string()));
    assert_eq!(is(&bed).0, "netboot");
    let used = bed.get("/api/v1/usage").json()["revisions"].clone();
    let used: Vec<_> = used.as_array().unwrap().iter().filter(|row| row["nodes"] == 1).collect();
    assert_eq!(used.len(), 2, "nobody knows yet which of both it runs: {used:?}");
    assert_eq!(seeds(1), 204);
    assert_eq!(is(&bed), before);
}

#[test]
fn the_inventory_names_nodes_and_says_what_they_boot() {
    let (_dir, store, one, two) = two_revisions();
    let files = tempfile::tempdir().unwrap();
    let (state, path) = (files.path().join("state"), files.path().join("nodes.csv"));
    let write = |rows: &str| {
        let new = files.path().join("new");
        std::fs::write(&new, format!("mac,name,rack,channel,kernel_args,boot\n{rows}")).unwrap();
        std::fs::rename(new, &path).unwrap();
    };
    write("52:54:00:12:34:56,n01,r1,canary,console=ttyS7,\n52:54:00:12:34:57,n02,r1,,,disk\n");
    let start = || {
        Bed::start(Config {
            store: Some(store.root().to_owned()),
            inventory: Some(path.clone()),
            kernel_args: "quiet".parse().unwrap(),
            ..config(&state)
        })
    };
    let bed = start();
    let script = get(bed.addr, BOOT, FIRMWARE).text().to_owned();
    assert!(script.contains(&format!("/revisions/debian/{}\n", two.id)), "{script}");
    assert!(script.contains(" quiet console=ttyS7 ||"), "{script}");
    let disk = get(bed.addr, "/boot/52-54-00-12-34-57.ipxe", FIRMWARE).text().to_owned();
    assert!(disk.ends_with("goes on to its disk: the inventory says so\nexit 1\n"), "{disk}");
    let nodes = bed.get("/api/v1/nodes").json();
    assert_eq!((&nodes[0]["name"], &nodes[0]["rack"]), (&json!("n01"), &json!("r1")));
    assert_eq!(nodes[1]["stage"], "disk");
    assert_eq!(bed.get("/api/v1/nodes/n01").json()["id"], "52:54:00:12:34:56");
    assert!(bed.get("/").text().contains("n01"));

    // wrong: told with its line, the former one stays, over a restart as well
    write("52:54:00:12:34:56,n01,r1,canary,a || shell,\n");
    let told = |bed: &Bed| bed.get("/healthz").text().contains("line 2: kernel_args");
    wait_until("the trouble is told", || told(&bed));
    assert!(bed.get(BOOT).text().contains(" quiet console=ttyS7 ||"));
    bed.stop();
    let bed = start();
    assert!(told(&bed) && bed.get(BOOT).text().contains(" quiet console=ttyS7 ||"));
    write("52:54:00:12:34:56,node1,,,,\n");
    wait_until("the new one", || bed.get("/api/v1/nodes").json()[0]["name"] == "node1");
    assert!(bed.get(BOOT).text().contains(&format!("/revisions/debian/{}\n", one.id)));
    assert!(!told(&bed));
}

#[test]
fn where_nothing_is_published_a_node_goes_to_its_disk_by_policy() {
    let (_dir, store) = empty_store();
    let config = Config {
        store: Some(store.root().to_owned()),
        nothing_to_boot: NothingToBoot::Disk,
        ..Config::default()
    };
    let bed = Bed::start(config);
    let script = bed.get(BOOT).text().to_owned();
    assert!(script.contains("disk: nothing is published in channel stable\n"), "{script}");
    assert!(script.ends_with("\nexit 1\n"), "{script}");
    let new = add_revision(&store, "debian", InfoHash([2; 20]), true);
    store.publish(&new, &stable()).unwrap();
    wait_until("an image", || bed.get(BOOT).text().contains("kernel ${what}"));
}

#[test]
fn how_channels_moved_is_remembered() {
    let (_dir, store, one, two) = two_revisions();
    let state = tempfile::tempdir().unwrap();
    let start =
        || Bed::start(Config { store: Some(store.root().to_owned()), ..config(state.path()) });
    let bed = start();
    let moves = |bed: &Bed| -> Vec<(String, Value)> {
        let all = bed.get("/api/v1/history").json();
        let all = all.as_array().unwrap().iter();
        all.map(|m| (m["channel"].as_str().unwrap().to_owned(), m["revision"].clone())).collect()
    };
    wait_until("what was there", || moves(&bed).len() == 2);
    store.publish(&two, &stable()).unwrap();
    wait_until("a change", || moves(&bed).len() == 3);
    assert_eq!(moves(&bed)[0], ("stable".to_owned(), json!(two)));
    bed.stop();
    store.publish(&one, &stable()).unwrap();
    let bed = start();
    wait_until("a change while it was down", || moves(&bed).len() == 4);
    let last = bed.get("/api/v1/history").json()[0].clone();
    assert_eq!((&last["revision"], &last["former"]), (&json!(one), &json!(two)));
    assert_eq!(Bed::start(Config::default()).get("/api/v1/history").status, 404);
}
