//! Fetching and handing on.

use proto::announce::AnnounceEvent;

use crate::support::{Mood, Tracker, image, leecher, seeder, torrent_of};

#[tokio::test]
async fn one_seeder_five_leechers() {
    let tracker = Tracker::start(Mood::Normal).await;
    let image = image(3_000_001, 1);
    let metainfo = torrent_of(&image, 32 * 1024, std::slice::from_ref(&tracker.url), &[]);
    let seeder = seeder(&metainfo, &image, true).await;
    let mut leechers = Vec::new();
    for _ in 0..5 {
        leechers.push(leecher(&metainfo).await);
    }
    for leecher in &leechers {
        let done = leecher.complete().await;
        assert_eq!(done.bytes, 3_000_001);
        assert_eq!(done.sources.total(), 3_000_001);
        assert_eq!(done.hash_failures, 0);
        assert!(leecher.storage.to_vec() == image);
    }
    let from_peers: u64 =
        leechers.iter().map(|l| l.torrent.progress().borrow().sources.peers).sum();
    assert!(from_peers > 2 * 3_000_001, "nodes fetched from each other: {from_peers}");
    for leecher in leechers {
        leecher.session.shutdown().await;
    }
    seeder.session.shutdown().await;
    let state = tracker.state.lock().unwrap();
    let count = |event| state.events.iter().filter(|(e, _)| *e == event).count();
    assert_eq!(count(AnnounceEvent::Started), 6);
    assert_eq!(count(AnnounceEvent::Completed), 5);
    assert_eq!(count(AnnounceEvent::Stopped), 6);
    assert!(state.peers.is_empty());
}

#[tokio::test]
async fn a_seeder_that_leaves_is_replaced_by_nodes() {
    let tracker = Tracker::start(Mood::Normal).await;
    let image = image(1_000_000, 2);
    let metainfo = torrent_of(&image, 16 * 1024, std::slice::from_ref(&tracker.url), &[]);
    let admin = seeder(&metainfo, &image, true).await;
    let first = leecher(&metainfo).await;
    assert_eq!(first.complete().await.sources.admin, 1_000_000);
    admin.session.shutdown().await;
    let late = leecher(&metainfo).await;
    assert_eq!(late.complete().await.sources.peers, 1_000_000);
    assert!(late.storage.to_vec() == image);
    late.session.shutdown().await;
    first.session.shutdown().await;
}
