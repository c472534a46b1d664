//! `bee-seeder watch`: follows the store.

use std::fs;
use std::net::SocketAddr;

use serde_json::Value;
use store::{RevisionRef, Store};
use tempfile::TempDir;

use crate::client::get;
use crate::leecher::fetch;
use crate::program::Program;
use crate::support::{image, pack, publish, tamper, torrent, wait_for};

fn new_store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::init(dir.path().join("store")).unwrap();
    (dir, store)
}

fn watch(store: &Store, more: &[&str]) -> Program {
    let root = store.root().to_str().unwrap();
    let ports = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    Program::start(&[&["watch", "--store", root], &ports[..], more].concat(), &[])
}

fn is(reference: &RevisionRef) -> impl Fn(&Value) -> bool {
    let text = reference.to_string();
    move |event| event["revision"] == text
}

fn status(address: SocketAddr, reference: &RevisionRef, file: &str) -> u16 {
    get(address, &format!("/revisions/{}/{}/{file}", reference.name, reference.id)).status
}

#[test]
fn follows_publishing_and_pruning_without_a_restart() {
    let (_dir, store) = new_store();
    let seeder = watch(&store, &[]);
    let http = seeder.address("http");
    seeder.event("uploaded", |event| event["torrents"] == 0);
    let first = publish(&store, "debian", &image(100_000, 1), &[]);
    let event = seeder.event("seeding", is(&first));
    assert_eq!(event["bytes"], 100_000);
    assert_eq!(status(http, &first, "rootimg.sfs"), 200);
    let second = publish(&store, "debian", &image(90_000, 2), &[]);
    seeder.event("seeding", is(&second));
    seeder
        .event("uploaded", |event| event["torrents"] == 2 && event["http_image_bytes"] == 100_000);
    // The older one stays until it is pruned: a node may be booting it.
    assert_eq!(status(http, &first, "vmlinuz"), 200);
    assert_eq!(store.prune(&first.name, 1).unwrap(), std::slice::from_ref(&first));
    seeder.event("removed", is(&first));
    assert_eq!(status(http, &first, "vmlinuz"), 404);
    assert_eq!(status(http, &second, "vmlinuz"), 200);
    seeder.event("uploaded", |event| event["torrents"] == 1);
    let events = seeder.stop();
    assert_eq!(events.last().unwrap()["image_bytes"], 100_000);
}

#[test]
fn damaged_revisions_are_refused_and_tried_again() {
    let (_dir, store) = new_store();
    let whole = image(200_000, 1);
    let reference = pack(&store, "debian", &whole, &[]);
    let path = store.revision(&reference).unwrap().image();
    tamper(&path, |bytes| bytes.truncate(100_000));
    store.publish(&reference, &Default::default()).unwrap();
    let seeder = watch(&store, &[]);
    let http = seeder.address("http");
    let refused = seeder.event("refused", is(&reference));
    let reason = refused["reason"].as_str().unwrap();
    assert!(reason.contains("100000") && reason.contains("re-publish"), "{reason}");
    assert_eq!(status(http, &reference, "rootimg.sfs"), 500);
    // Restored: seeded.
    tamper(&path, |bytes| *bytes = whole.clone());
    seeder.event("seeding", is(&reference));
    // Cut off under the running seeder: given up.
    tamper(&path, |bytes| bytes.truncate(50_000));
    seeder.event("removed", is(&reference));
    seeder.event("refused", is(&reference));
    seeder.event("uploaded", |event| event["torrents"] == 0);
    seeder.stop();
}

#[test]
fn a_torrent_that_does_not_belong_to_the_revision_is_refused() {
    let (_dir, store) = new_store();
    let bad = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let reference = pack(&store, name, &image(100_000, 0), &[]);
        tamper(&store.revision(&reference).unwrap().torrent(), change);
        store.publish(&reference, &Default::default()).unwrap();
    };
    let other = torrent(&image(100_000, 9), &[]).to_bytes().unwrap();
    bad("other", &|bytes| bytes.clone_from(&other));
    let altered = torrent(&image(100_000, 0), &["http://evil/"]).to_bytes().unwrap();
    bad("altered", &|bytes| bytes.clone_from(&altered));
    bad("broken", &|bytes| bytes.truncate(20));
    let good = publish(&store, "good", &image(100_000, 5), &[]);
    let seeder = watch(&store, &[]);
    // In the order of their names.
    for (name, word) in [("altered", "altered"), ("broken", "not usable")] {
        let event =
            seeder.event("refused", |event| event["revision"].as_str().unwrap().starts_with(name));
        assert!(event["reason"].as_str().unwrap().contains(word), "{event}");
    }
    // One bad revision does not keep the others from being seeded.
    seeder.event("seeding", is(&good));
    let event =
        seeder.event("refused", |event| event["revision"].as_str().unwrap().starts_with("other"));
    assert!(event["reason"].as_str().unwrap().contains("info-hash"), "{event}");
    seeder.stop();
}

#[test]
fn the_same_image_under_two_names_is_one_torrent() {
    let (_dir, store) = new_store();
    let bytes = image(100_000, 1);
    let (one, two) = (publish(&store, "one", &bytes, &[]), publish(&store, "two", &bytes, &[]));
    let seeder = watch(&store, &[]);
    seeder.event("seeding", is(&one));
    seeder.event("seeding", is(&two));
    seeder.event("uploaded", |event| event["torrents"] == 1);
    fs::remove_file(store.root().join("published/one").join(one.id.as_str())).unwrap();
    seeder.event("removed", is(&one));
    seeder.event("uploaded", |event| event["torrents"] == 1);
    seeder.stop();
}

#[test]
fn a_store_that_vanishes_changes_nothing_until_it_is_back() {
    let (dir, store) = new_store();
    let reference = publish(&store, "debian", &image(100_000, 1), &[]);
    let seeder = watch(&store, &[]);
    let http = seeder.address("http");
    seeder.event("seeding", is(&reference));
    let away = dir.path().join("away");
    fs::rename(store.root(), &away).unwrap();
    for _ in 0..2 {
        seeder.event("uploaded", |event| event["torrents"] == 1);
    }
    fs::rename(&away, store.root()).unwrap();
    wait_for("served again", || status(http, &reference, "vmlinuz") == 200);
    let next = publish(&store, "debian", &image(100_000, 2), &[]);
    seeder.event("seeding", is(&next));
    let events = seeder.stop();
    assert!(!events.iter().any(|event| event["event"] == "removed"), "{events:?}");
}

#[test]
fn a_host_out_of_the_image_path_serves_what_boots() {
    let (_dir, store) = new_store();
    let reference = publish(&store, "debian", &image(100_000, 1), &[]);
    let seeder = watch(&store, &["--no-swarm", "--http-exclude-image"]);
    let http = seeder.address("http");
    seeder.event("uploaded", |event| event["torrents"] == 1);
    for (file, wanted) in
        [("vmlinuz", 200), ("initrd.img", 200), ("manifest.json", 200), ("rootimg.torrent", 200)]
    {
        assert_eq!(status(http, &reference, file), wanted, "{file}");
    }
    assert_eq!(status(http, &reference, "rootimg.sfs"), 403);
    let events = seeder.stop();
    assert!(!events.iter().any(|event| event["service"] == "swarm"), "{events:?}");
    assert_eq!(events.last().unwrap()["image_bytes"], 0);
}

#[test]
fn killed_at_any_moment_it_starts_again() {
    let (_dir, store) = new_store();
    let mut reference = publish(&store, "debian", &image(100_000, 0), &[]);
    let mut ports = ["127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()];
    for round in 0..3 {
        // Killed before it has done anything.
        drop(watch(&store, &[]));
        let root = store.root().to_str().unwrap();
        let [listen, http] = &ports;
        let args = ["watch", "--store", root, "--listen", listen, "--http", http];
        let seeder = Program::start(&args, &[]);
        let (http, swarm) = (seeder.address("http"), seeder.address("swarm"));
        seeder.event("seeding", is(&reference));
        assert_eq!(status(http, &reference, "vmlinuz"), 200);
        // The same ports again in the next round, while old connections are still known.
        ports = [swarm.to_string(), http.to_string()];
        let next = publish(&store, "debian", &image(100_000, round + 1), &[]);
        seeder.signal("-KILL");
        let (status, ..) = seeder.end();
        assert_eq!(status.code(), None);
        reference = next;
    }
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let (dir, store) = new_store();
    let nowhere = dir.path().join("nowhere");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let config = dir.path().join("seeder.toml");
    fs::write(&config, "http = 'somewhere'\n").unwrap();
    let root = store.root().to_str().unwrap();
    let cases: [(&[&str], i32, &str); 5] = [
        (&["watch", "--store", nowhere.to_str().unwrap()], 3, "store.json"),
        (&["watch", "--no-http"], 2, "--store is missing"),
        (&["watch", "--store", root, "--no-swarm", "--no-http"], 2, "nothing to do"),
        (&["watch", "--store", root, "--http", &taken], 5, "another program uses this port"),
        (&["watch", "--config", config.to_str().unwrap()], 2, "seeder.toml"),
    ];
    for (args, code, text) in cases {
        let (status, events, log) = Program::start(args, &[]).end();
        assert_eq!(status.code(), Some(code), "{args:?}: {log}");
        assert!(log.contains(text), "{args:?}: {log}");
        assert!(events.is_empty(), "{args:?}: {events:?}");
    }
}

#[test]
fn settings_come_from_flag_environment_and_file() {
    let (dir, store) = new_store();
    let config = dir.path().join("seeder.toml");
    let text =
        format!("store = '{}'\nhttp = '127.0.0.1:1'\nno_swarm = true\n", store.root().display());
    fs::write(&config, text).unwrap();
    let args = ["watch", "--config", config.to_str().unwrap()];
    let seeder = Program::start(&args, &[("BEESWARM_SEEDER_HTTP", "127.0.0.1:0")]);
    assert_ne!(seeder.address("http").port(), 1);
    seeder.stop();
}

#[test]
fn peers_get_the_image_until_it_is_pruned() {
    let (_dir, store) = new_store();
    let bytes = image(1 << 20, 1);
    let old = publish(&store, "debian", &bytes, &[]);
    let metainfo = torrent(&bytes, &[]);
    let seeder = watch(&store, &[]);
    let swarm = seeder.address("swarm");
    seeder.event("seeding", is(&old));
    assert!(fetch(&metainfo, swarm, || false).unwrap() == bytes);
    let event = seeder.event("uploaded", |event| event["swarm_bytes"] == 1 << 20);
    assert_eq!(event["image_bytes"], 1 << 20);

    let newer = publish(&store, "debian", &image(1 << 20, 2), &[]);
    seeder.event("seeding", is(&newer));
    store.prune(&old.name, 1).unwrap();
    seeder.event("removed", is(&old));
    // Nobody serves it any more: the connection is refused by the one who knows it not.
    let mut rounds = 0;
    let nothing = fetch(&metainfo, swarm, || {
        rounds += 1;
        rounds > 50
    });
    assert_eq!(nothing, Err(0));
    assert!(fetch(&torrent(&image(1 << 20, 2), &[]), swarm, || false).is_ok());
    // What the pruned one had sent still counts.
    seeder.event("uploaded", |event| event["swarm_bytes"] == 2 << 20);
    seeder.stop();
}

#[test]
fn wrong_bytes_of_the_right_length_are_never_sent() {
    let (_dir, store) = new_store();
    let bytes = image(1 << 20, 1);
    let reference = publish(&store, "debian", &bytes, &[]);
    let path = store.revision(&reference).unwrap().image();
    // Nothing about the file tells: only hashing the piece does.
    tamper(&path, |bytes| bytes[500_000] ^= 1);
    let seeder = watch(&store, &[]);
    let swarm = seeder.address("swarm");
    seeder.event("seeding", is(&reference));
    let mut refused = None;
    let got = fetch(&torrent(&bytes, &[]), swarm, || {
        refused = refused.take().or_else(|| seeder.poll("refused"));
        refused.is_some()
    });
    assert!(got.unwrap_err() < 1 << 20);
    let reason = refused.unwrap()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("piece 15"), "{reason}");
    // Restored: seeded again without a restart.
    tamper(&path, |changed| changed.clone_from(&bytes));
    seeder.event("seeding", is(&reference));
    assert!(fetch(&torrent(&bytes, &[]), swarm, || false).unwrap() == bytes);
    seeder.stop();
}
