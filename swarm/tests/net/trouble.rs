//! Trackers that are down, wrong, or refuse, and the web seed that helps out.

use std::sync::Arc;

use proto::event::StallCause;
use proto::units::ByteRate;
use swarm::storage::MemoryStorage;
use swarm::{InitialHave, Role, Session, SessionConfig, TorrentSpec, Verify};
use tokio::net::TcpListener;

use crate::support::{Mood, Tracker, config, image, leecher, read_head, reply, seeder, torrent_of};

async fn stall_of(trackers: &[String]) -> proto::event::Stall {
    let image = image(100_000, 20);
    let metainfo = torrent_of(&image, 16 * 1024, trackers, &[]);
    let node = leecher(&metainfo).await;
    let progress = node.until("a stall", |p| p.stall.is_some()).await;
    node.session.shutdown().await;
    progress.stall.unwrap()
}

#[tokio::test]
async fn an_html_answer_is_named() {
    let tracker = Tracker::start(Mood::Html).await;
    let stall = stall_of(std::slice::from_ref(&tracker.url)).await;
    assert_eq!(stall.cause, StallCause::TrackerRefuses);
    assert!(
        stall.detail.contains("text/html") && stall.detail.contains(&tracker.url),
        "{}",
        stall.detail
    );
}

#[tokio::test]
async fn a_failure_reason_is_passed_on() {
    let tracker = Tracker::start(Mood::Refuse).await;
    let stall = stall_of(std::slice::from_ref(&tracker.url)).await;
    assert_eq!(stall.cause, StallCause::TrackerRefuses);
    assert!(stall.detail.contains("unknown info-hash"), "{}", stall.detail);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_named() {
    let stall = stall_of(&["http://tracker.invalid:6969/announce".to_owned()]).await;
    assert_eq!(stall.cause, StallCause::NameResolution);
    assert!(stall.detail.contains("tracker.invalid"), "{}", stall.detail);
}

#[tokio::test]
async fn a_tracker_without_peers_is_named() {
    let tracker = Tracker::start(Mood::Normal).await;
    assert_eq!(stall_of(std::slice::from_ref(&tracker.url)).await.cause, StallCause::NoPeers);
}

#[tokio::test]
async fn a_tracker_that_is_down_at_first_is_found_later() {
    // a port that was free a moment ago
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/announce");
    let image = image(100_000, 21);
    let metainfo = torrent_of(&image, 16 * 1024, &[url], &[]);
    let seeder = seeder(&metainfo, &image, true).await;
    let node = leecher(&metainfo).await;
    let stall = node.until("a stall", |p| p.stall.is_some()).await.stall.unwrap();
    assert_eq!(stall.cause, StallCause::TrackerUnreachable);
    assert!(stall.detail.contains("refused"), "{}", stall.detail);
    let tracker = Tracker::start_at(port, Mood::Normal).await;
    node.complete().await;
    assert!(tracker.state.lock().unwrap().announces >= 2);
    node.session.shutdown().await;
    seeder.session.shutdown().await;
}

#[tokio::test]
async fn a_fetch_that_breaks_off_half_way_says_so() {
    let image = image(2_000_000, 24);
    let metainfo = torrent_of(&image, 16 * 1024, &[], &[]);
    let slow = SessionConfig { upload_limit: Some(ByteRate(300_000)), ..config(Role::Admin) };
    let session = Session::bind(slow).await.unwrap();
    let spec = TorrentSpec {
        have: InitialHave::Everything { verify: Verify::OnFirstRead },
        ..TorrentSpec::new(metainfo.clone(), Arc::new(MemoryStorage::from(image)))
    };
    session.add(spec).await.unwrap();
    let node = leecher(&metainfo).await;
    node.torrent.add_peer(session.local_addr());
    node.until("a part of it", |p| p.bytes_verified > 300_000).await;
    session.shutdown().await;
    let stall = node.until("a stall", |p| p.stall.is_some()).await.stall.unwrap();
    assert_eq!(stall.cause, StallCause::TrackerUnreachable, "{}", stall.detail);
    node.session.shutdown().await;
}

#[tokio::test]
async fn the_second_tier_is_asked_when_the_first_fails() {
    let tracker = Tracker::start(Mood::Normal).await;
    let dead = "http://127.0.0.1:1/announce".to_owned();
    let image = image(100_000, 22);
    let metainfo = torrent_of(&image, 16 * 1024, &[dead, tracker.url.clone()], &[]);
    let seeder = seeder(&metainfo, &image, true).await;
    let node = leecher(&metainfo).await;
    node.complete().await;
    node.session.shutdown().await;
    seeder.session.shutdown().await;
}

/// An HTTP server with ranges over some bytes.
async fn web_server(bytes: Vec<u8>) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/rootimg.sfs", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(head) = read_head(&mut stream).await else { continue };
            let head = head.to_ascii_lowercase();
            let range = head.split("range: bytes=").nth(1).and_then(|r| r.split("\r\n").next());
            let (first, last) = range.and_then(|r| r.split_once('-')).unwrap();
            let body = &bytes[first.parse().unwrap()..=last.parse().unwrap()];
            reply(&mut stream, "206 Partial Content", "application/octet-stream", body).await;
        }
    });
    (url, task)
}

#[tokio::test]
async fn without_any_peer_the_web_seed_delivers() {
    let image = image(300_000, 23);
    let (url, server) = web_server(image.clone()).await;
    let metainfo = torrent_of(&image, 64 * 1024, &[], &[url]);
    let node = leecher(&metainfo).await;
    let done = node.complete().await;
    assert_eq!((done.sources.web, done.sources.total()), (300_000, 300_000));
    assert!(node.storage.to_vec() == image);
    // what came by HTTP is handed on
    let other = leecher(&torrent_of(&image, 64 * 1024, &[], &[])).await;
    other.torrent.add_peer(node.session.local_addr());
    assert_eq!(other.complete().await.sources.peers, 300_000);
    other.session.shutdown().await;
    node.session.shutdown().await;
    server.abort();
}

#[tokio::test]
async fn a_web_seed_with_wrong_data_is_left_alone() {
    let (right, wrong) = (image(100_000, 24), image(100_000, 25));
    let (url, server) = web_server(wrong).await;
    let metainfo = torrent_of(&right, 32 * 1024, &[], &[url]);
    let node = leecher(&metainfo).await;
    node.until("three failures", |p| p.hash_failures == 3).await;
    let seeder = seeder(&metainfo, &right, false).await;
    node.torrent.add_peer(seeder.session.local_addr());
    let done = node.complete().await;
    assert_eq!((done.hash_failures, done.sources.web), (3, 0));
    assert!(node.storage.to_vec() == right);
    node.session.shutdown().await;
    seeder.session.shutdown().await;
    server.abort();
}
