//! Revisions come and go while nodes fetch.

use std::time::Duration;

use lab::BitRate;

use super::fixture::{ADMIN, Cluster, wait_complete, wait_for_event, wait_percent};
use super::page;

const IMAGE: usize = 8 << 20;

#[test]
fn two_revisions_published_during_a_boot_disturb_nobody() {
    let cluster = Cluster::start("publish", 3, BitRate::mbit(10));
    let first = cluster.publish(10, IMAGE);
    let _tracker = cluster.tracker();
    let mut seeder = cluster.seeder(&[]);
    cluster.wait_seeding(&mut seeder, &first);
    let current = format!("http://{ADMIN}:8080/channels/stable/demo/manifest.json");
    let mut early = cluster.fetch(&cluster.nodes[0], &first.url());
    let mut also_early = cluster.fetch(&cluster.nodes[1], &current);
    wait_percent(&mut early, 10.0);
    wait_percent(&mut also_early, 10.0);
    let second = cluster.publish(11, IMAGE);
    cluster.wait_seeding(&mut seeder, &second);
    let third = cluster.publish(12, IMAGE);
    cluster.wait_seeding(&mut seeder, &third);
    let mut late = cluster.fetch(&cluster.nodes[2], &current);
    for (fetch, node, revision) in [
        (&mut early, &cluster.nodes[0], &first),
        (&mut also_early, &cluster.nodes[1], &first),
        (&mut late, &cluster.nodes[2], &third),
    ] {
        wait_complete(fetch);
        assert!(cluster.image_on(node) == revision.image, "{}", node.name());
    }
}

#[test]
fn a_pruned_revision_is_seeded_no_more_and_the_tracker_refuses_it() {
    let cluster = Cluster::start("prune", 1, BitRate::mbit(100));
    let old = cluster.publish(13, 1 << 20);
    let torrent = std::fs::read(&old.torrent).unwrap();
    let _tracker = cluster.tracker();
    let mut seeder = cluster.seeder(&[]);
    cluster.wait_seeding(&mut seeder, &old);
    let new = cluster.publish(14, 1 << 20);
    cluster.wait_seeding(&mut seeder, &new);
    assert_eq!(
        cluster.store.prune(&cluster.name(), 1).unwrap(),
        std::slice::from_ref(&old.reference)
    );
    let name = old.reference.to_string();
    wait_for_event(&mut seeder, |e| e["event"] == "removed" && e["revision"] == name.as_str());
    // a node that still has the old torrent is told why nothing comes
    let node = &cluster.nodes[0];
    let kept = node.scratch().join("old.torrent");
    std::fs::write(cluster.outside(&kept), torrent).unwrap();
    let mut fetch = page::fetch(node, kept.to_str().unwrap(), &[]);
    let told = wait_for_event(&mut fetch, |e| e.to_string().contains("tracker-refuses"));
    assert!(told.to_string().contains("not published"), "{told}");
    page::troubled(&cluster, node, "tracker refuses", "not published");
    fetch.terminate(Duration::from_secs(5)).unwrap();
}
