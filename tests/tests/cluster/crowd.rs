//! A flash crowd: everybody gets the image, the admin host sends hardly more than one.

use lab::BitRate;

use super::fixture::{Cluster, LIMIT, events, wait_complete, wait_percent};

const IMAGE: usize = 12 << 20;

/// Ends the seeder; the bytes of images that it has sent.
fn sent(mut seeder: lab::Proc) -> u64 {
    seeder.terminate(LIMIT).unwrap();
    let all = events(&seeder);
    let last = all.iter().find(|e| e["event"] == "stopped").expect("its last word");
    last["image_bytes"].as_u64().unwrap()
}

#[test]
fn twenty_nodes_take_little_more_than_one_image_from_the_admin_host() {
    let cluster = Cluster::start("crowd", 20, BitRate::mbit(20));
    let revision = cluster.publish(1, IMAGE);
    let _tracker = cluster.tracker();
    let mut seeder = cluster.seeder(&[]);
    cluster.wait_seeding(&mut seeder, &revision);
    let mut fetches: Vec<_> =
        cluster.nodes.iter().map(|node| cluster.fetch(node, &revision.url())).collect();
    for (fetch, node) in fetches.iter_mut().zip(&cluster.nodes) {
        let done = wait_complete(fetch);
        assert_eq!(done["bytes"].as_u64(), Some(IMAGE as u64));
        assert_eq!(done["hash_failures"].as_u64(), Some(0));
        assert!(cluster.image_on(node) == revision.image, "{}", node.name());
    }
    let images = sent(seeder) as f64 / IMAGE as f64;
    // every node has it all, so at least one image has left; without steering it is about two
    assert!((1.0..1.8).contains(&images), "{images} images left the admin host");
}

#[test]
fn the_seeder_dies_when_everything_was_sent_once_and_all_complete() {
    let cluster = Cluster::start("seeder-dies", 12, BitRate::mbit(20));
    let revision = cluster.publish(2, IMAGE);
    let _tracker = cluster.tracker();
    let mut seeder = cluster.seeder(&[]);
    cluster.wait_seeding(&mut seeder, &revision);
    let mut fetches: Vec<_> =
        cluster.nodes.iter().map(|node| cluster.fetch(node, &revision.url())).collect();
    // somebody has it all, so all of it is out
    let (first, rest) = fetches.split_first_mut().unwrap();
    wait_complete(first);
    seeder.kill().unwrap();
    // and even this one leaves as soon as the others have the greater part
    for fetch in &mut *rest {
        wait_percent(fetch, 60.0);
    }
    for fetch in &mut *rest {
        wait_complete(fetch);
    }
    for node in &cluster.nodes {
        assert!(cluster.image_on(node) == revision.image, "{}", node.name());
    }
}

#[test]
fn a_late_node_completes_from_nodes_alone() {
    let cluster = Cluster::start("late", 4, BitRate::mbit(100));
    let revision = cluster.publish(3, IMAGE);
    let _tracker = cluster.tracker();
    let mut seeder = cluster.seeder(&[]);
    cluster.wait_seeding(&mut seeder, &revision);
    let (late, early) = cluster.nodes.split_last().unwrap();
    let mut fetches: Vec<_> =
        early.iter().map(|node| cluster.fetch(node, &revision.url())).collect();
    fetches.iter_mut().for_each(|fetch| drop(wait_complete(fetch)));
    // the admin host still serves kernel, initrd, manifest and torrent, but not the image
    seeder.terminate(std::time::Duration::from_secs(5)).unwrap();
    let _http = cluster.seeder(&["--no-swarm", "--http-exclude-image"]);
    let done = wait_complete(&mut cluster.fetch(late, &revision.url()));
    assert_eq!(done["sources"]["admin"].as_u64(), Some(0), "{done}");
    assert_eq!(done["sources"]["web"].as_u64(), Some(0), "{done}");
    assert_eq!(done["sources"]["peers"].as_u64(), Some(IMAGE as u64), "{done}");
    assert!(cluster.image_on(late) == revision.image);
}

#[test]
fn without_any_peer_the_image_comes_over_http() {
    let cluster = Cluster::start("web-seed", 1, BitRate::mbit(100));
    let revision = cluster.publish(4, IMAGE);
    let _tracker = cluster.tracker();
    let _http = cluster.seeder(&["--no-swarm"]);
    let node = &cluster.nodes[0];
    let done = wait_complete(&mut cluster.fetch(node, &revision.url()));
    assert_eq!(done["sources"]["web"].as_u64(), Some(IMAGE as u64), "{done}");
    assert!(cluster.image_on(node) == revision.image);
}
