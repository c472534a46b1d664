//! Several trackers: which are told, and how soon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::announce::AnnounceEvent;
use proto::metainfo::Metainfo;
use tokio::net::TcpListener;

use crate::support::{Mood, Node, PATIENCE, Tracker, image, leecher, seeder, torrent_of};

/// Takes connections and says nothing, as a host that hangs does.
async fn silent() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (format!("http://{}/announce", listener.local_addr().unwrap()), listener)
}

async fn until(what: &str, test: impl Fn() -> bool) {
    let start = Instant::now();
    while !test() {
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn peers(tracker: &Tracker) -> usize {
    tracker.state.lock().unwrap().peers.len()
}

async fn end(nodes: Vec<Node>) {
    for node in nodes {
        node.session.shutdown().await;
    }
}

/// The torrent's own list has a tracker per tier; this one has all in one.
fn one_tier(metainfo: &Arc<Metainfo>) -> Arc<Metainfo> {
    let mut flat = Metainfo::clone(metainfo);
    flat.trackers = vec![metainfo.trackers.concat()];
    Arc::new(flat)
}

/// BEP 12 alone would wait for the whole time-out of the first: 10 s of silence, or more.
#[tokio::test]
async fn the_second_tier_does_not_wait_for_the_first_to_time_out() {
    let (hangs, _listener) = silent().await;
    let tracker = Tracker::start(Mood::Normal).await;
    let image = image(100_000, 70);
    let metainfo = torrent_of(&image, 16 * 1024, &[hangs, tracker.url.clone()], &[]);
    let seeder = seeder(&metainfo, &image, true).await;
    let start = Instant::now();
    until("the second tier is told", || peers(&tracker) == 1).await;
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let node = leecher(&metainfo).await;
    node.complete().await;
    end(vec![node, seeder]).await;
}

#[tokio::test]
async fn the_second_tier_is_left_alone_while_the_first_answers() {
    let first = Tracker::start(Mood::Normal).await;
    let second = Tracker::start(Mood::Normal).await;
    let image = image(100_000, 71);
    let urls = [first.url.clone(), second.url.clone()];
    let metainfo = torrent_of(&image, 16 * 1024, &urls, &[]);
    let (seeder, node) = (seeder(&metainfo, &image, true).await, leecher(&metainfo).await);
    node.complete().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(second.state.lock().unwrap().announces, 0);
    end(vec![node, seeder]).await;
    assert_eq!(second.state.lock().unwrap().announces, 0);
}

/// Two trackers that do not know of each other would split the swarm, were only one of them told.
#[tokio::test]
async fn all_trackers_of_a_tier_are_told_everything() {
    let trackers = [Tracker::start(Mood::Normal).await, Tracker::start(Mood::Normal).await];
    let urls = [trackers[0].url.clone(), trackers[1].url.clone()];
    let image = image(100_000, 72);
    let metainfo = one_tier(&torrent_of(&image, 16 * 1024, &urls, &[]));
    let (seeder, node) = (seeder(&metainfo, &image, true).await, leecher(&metainfo).await);
    node.complete().await;
    for tracker in &trackers {
        until("both know both", || peers(tracker) == 2).await;
        let completed = |tracker: &Tracker| {
            let state = tracker.state.lock().unwrap();
            state.events.iter().any(|(event, _)| *event == AnnounceEvent::Completed)
        };
        until("both know of the end", || completed(tracker)).await;
    }
    end(vec![node, seeder]).await;
    assert_eq!(trackers.each_ref().map(peers), [0, 0], "both were told `stopped`");
}

/// One of two dies: who comes later finds the others by the other one.
#[tokio::test]
async fn who_loses_a_tracker_goes_on_with_the_other() {
    for tiers in [1, 2] {
        let first = Tracker::start(Mood::Normal).await;
        let second = Tracker::start(Mood::Normal).await;
        let urls = [first.url.clone(), second.url.clone()];
        let image = image(100_000, 73);
        let metainfo = torrent_of(&image, 16 * 1024, &urls, &[]);
        let metainfo = if tiers == 1 { one_tier(&metainfo) } else { metainfo };
        let seeder = seeder(&metainfo, &image, true).await;
        until("the first is told", || peers(&first) == 1).await;
        drop(first);
        until("the second is told", || peers(&second) == 1).await;
        let node = leecher(&metainfo).await;
        node.complete().await;
        let progress = node.torrent.progress().borrow().clone();
        assert!(progress.crowd.is_some(), "the size of the crowd is known");
        end(vec![node, seeder]).await;
    }
}
