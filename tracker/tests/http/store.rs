//! The store decides what is tracked and booted, and is followed while it changes.

use crate::bed::{Bed, add_revision, empty_store, stable, wait_until};
use beeswarm_tracker::{Config, Server};
use proto::announce::AnnounceResponse;
use proto::hash::InfoHash;
use proto::query;
use store::{Channel, Store};

fn refusal(bed: &Bed, hash: InfoHash) -> Option<String> {
    let hash = query::encode(hash.as_bytes());
    let id = query::encode(b"-XX0001-012345678901");
    let target = format!("/announce?info_hash={hash}&peer_id={id}&port=7001&left=1");
    match AnnounceResponse::parse(&bed.get(&target).body).unwrap() {
        AnnounceResponse::Failure(reason) => Some(reason),
        AnnounceResponse::Peers(_) => None,
    }
}

const OLD: InfoHash = InfoHash([1; 20]);
const NEW: InfoHash = InfoHash([2; 20]);

#[test]
fn only_published_torrents_are_tracked_and_changes_are_seen() {
    let (_dir, store) = empty_store();
    let old = add_revision(&store, "debian", OLD, true);
    store.publish(&old, &stable()).unwrap();
    let new = add_revision(&store, "debian", NEW, true);
    let bed = Bed::with_store(&store);
    assert_eq!(refusal(&bed, OLD), None);
    let reason = refusal(&bed, NEW).unwrap();
    assert!(reason.contains("not published here") && reason.contains(&NEW.to_string()), "{reason}");

    store.publish(&new, &stable()).unwrap();
    wait_until("the new revision is tracked", || refusal(&bed, NEW).is_none());
    assert_eq!(refusal(&bed, OLD), None, "a node that boots the old one goes on");
    let script = bed.get("/boot/52-54-00-12-34-56.ipxe");
    assert!(script.text().contains(&format!("/revisions/debian/{}\n", new.id)));

    store.unpublish(&old).unwrap();
    wait_until("the old revision is refused", || refusal(&bed, OLD).is_some());
    let swarm = bed.get("/api/v1/swarm").json();
    assert_eq!(swarm["torrents"].as_array().unwrap().len(), 1);
    assert_eq!(swarm["torrents"][0]["revision"], new.id.as_str());
}

#[test]
fn a_store_that_vanishes_for_a_while_changes_nothing() {
    let (dir, store) = empty_store();
    let old = add_revision(&store, "debian", OLD, true);
    store.publish(&old, &stable()).unwrap();
    let bed = Bed::with_store(&store);
    let away = dir.path().with_extension("away");
    std::fs::rename(dir.path(), &away).unwrap();
    wait_until("the trouble is told", || bed.get("/healthz").json()["status"] == "degraded");
    assert!(bed.get("/").text().contains("class=\"problem\""));
    assert_eq!(refusal(&bed, OLD), None);
    std::fs::rename(&away, dir.path()).unwrap();
    wait_until("the trouble is over", || bed.get("/healthz").json()["status"] == "ok");
}

#[test]
fn an_empty_directory_may_become_a_store_later() {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::start(Config { store: Some(dir.path().to_owned()), ..Config::default() });
    assert!(refusal(&bed, OLD).is_some());
    let script = bed.get("/boot/52-54-00-12-34-56.ipxe");
    assert!(script.text().contains("nothing is published in channel stable"));
    let store = Store::init(dir.path()).unwrap();
    let old = add_revision(&store, "debian", OLD, true);
    store.publish(&old, &stable()).unwrap();
    wait_until("the revision is tracked", || refusal(&bed, OLD).is_none());
}

#[test]
fn a_directory_that_is_no_store_is_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("holiday.jpg"), "x").unwrap();
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        let config = Config {
            store: Some(path.clone()),
            listen: "127.0.0.1:0".parse().unwrap(),
            ..Config::default()
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let error = anyhow::Error::from(runtime.block_on(Server::bind(config)).unwrap_err());
        let text = format!("{error:#}");
        assert!(text.contains("--store") && text.contains(path.to_str().unwrap()), "{text}");
    }
}

#[test]
fn a_broken_revision_is_named_and_the_others_work() {
    let (_dir, store) = empty_store();
    let good = add_revision(&store, "debian", OLD, true);
    let broken = add_revision(&store, "rocky", NEW, true);
    store.publish(&good, &stable()).unwrap();
    store.publish(&broken, &Channel::new("other").unwrap()).unwrap();
    let manifest = store.revision(&broken).unwrap().manifest_path();
    std::fs::remove_file(&manifest).unwrap();
    std::fs::write(&manifest, "<html>").unwrap();
    let bed = Bed::with_store(&store);
    assert_eq!(refusal(&bed, OLD), None);
    assert!(refusal(&bed, NEW).is_some());
    let problems = bed.get("/healthz").json()["problems"].to_string();
    assert!(problems.contains(broken.id.as_str()), "{problems}");
}
