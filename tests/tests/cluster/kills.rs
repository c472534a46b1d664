//! Any daemon may be killed at any moment and come back; nobody ends with less than the image.

use std::thread::sleep;
use std::time::Duration;

use lab::BitRate;

use super::fixture::{Cluster, wait_complete, wait_for_event, wait_percent};
use super::page;

const IMAGE: usize = 12 << 20;

#[test]
fn tracker_seeder_and_a_node_are_killed_at_random_moments() {
    let seed = fastrand::u64(..);
    println!("random moments from seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let cluster = Cluster::start("kills", 5, BitRate::mbit(20));
    let revision = cluster.publish(4, IMAGE);
    let mut tracker = cluster.tracker();
    let mut seeder = cluster.seeder(&[]);
    cluster.wait_seeding(&mut seeder, &revision);
    let mut fetches: Vec<_> =
        cluster.nodes.iter().map(|node| cluster.fetch(node, &revision.url())).collect();
    let mut victims = [0, 1, 2];
    random.shuffle(&mut victims);
    for victim in victims {
        sleep(Duration::from_millis(random.u64(50..1500)));
        match victim {
            0 => {
                tracker.kill().unwrap();
                sleep(Duration::from_millis(random.u64(0..500)));
                tracker = cluster.tracker();
            }
            1 => {
                seeder.kill().unwrap();
                sleep(Duration::from_millis(random.u64(0..500)));
                seeder = cluster.seeder(&[]);
            }
            _ => {
                fetches[0].kill().unwrap();
                fetches[0] = cluster.fetch(&cluster.nodes[0], &revision.url());
            }
        }
    }
    for (fetch, node) in fetches.iter_mut().zip(&cluster.nodes) {
        wait_complete(fetch);
        assert!(cluster.image_on(node) == revision.image, "{} (seed {seed})", node.name());
    }
}

#[test]
fn a_killed_fetch_keeps_what_it_had() {
    let cluster = Cluster::start("resume", 1, BitRate::mbit(20));
    let revision = cluster.publish(5, IMAGE);
    let _tracker = cluster.tracker();
    let mut seeder = cluster.seeder(&[]);
    cluster.wait_seeding(&mut seeder, &revision);
    let node = &cluster.nodes[0];
    let mut first = cluster.fetch(node, &revision.url());
    wait_percent(&mut first, 40.0);
    first.kill().unwrap();
    let done = wait_complete(&mut cluster.fetch(node, &revision.url()));
    let fetched = done["sources"]["admin"].as_u64().unwrap();
    assert!(fetched < IMAGE as u64 * 7 / 10, "fetched {fetched} of {IMAGE} bytes again: {done}");
    assert!(cluster.image_on(node) == revision.image);
}

#[test]
fn a_tracker_that_comes_half_a_minute_late_is_waited_for_and_the_reason_is_shown() {
    let cluster = Cluster::start("late-tracker", 2, BitRate::mbit(100));
    let revision = cluster.publish(6, 1 << 20);
    let mut seeder = cluster.seeder(&[]);
    cluster.wait_seeding(&mut seeder, &revision);
    let mut fetches: Vec<_> =
        cluster.nodes.iter().map(|node| page::fetch(node, &revision.url(), &[])).collect();
    for fetch in &mut fetches {
        let told = wait_for_event(fetch, |e| e.to_string().contains("tracker-unreachable"));
        assert!(told.to_string().contains("10.87.1.1:6969"), "{told}");
    }
    sleep(Duration::from_secs(30));
    let _tracker = cluster.tracker();
    for (fetch, node) in fetches.iter_mut().zip(&cluster.nodes) {
        wait_complete(fetch);
        assert!(cluster.image_on(node) == revision.image);
        page::told(&cluster, node, "tracker unreachable", "10.87.1.1:6969");
    }
}
