//! UDP trackers that answer, refuse, forget, stay silent at first, or are played by somebody else.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::announce::AnnounceEvent;
use proto::event::StallCause;
use swarm::storage::MemoryStorage;
use swarm::{InitialHave, Role, Session, SessionConfig, TorrentSpec, Verify};
use tokio::net::UdpSocket;

use crate::support::{Mood, Node, PATIENCE, Tracker, image, leecher, seeder, torrent_of};

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;

/// What a tracker does besides answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Normal,
    /// Drops the first request, and surrounds each answer with wrong ones, its own and foreign.
    Hostile,
    /// Refuses announces.
    Refuses,
    /// Knows each connection id for one announce only.
    Forgets,
}

#[derive(Debug, Default)]
struct Seen {
    connects: usize,
    announces: usize,
    refused: usize,
    events: Vec<AnnounceEvent>,
    /// What follows the fixed part of the last announce.
    options: Vec<u8>,
    peers: Vec<SocketAddr>,
}

struct UdpTracker {
    url: String,
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for UdpTracker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl UdpTracker {
    async fn start(bind: &str, manner: Manner) -> Self {
        let socket = UdpSocket::bind(bind).await.unwrap();
        let url = format!("udp://{}/announce?pass=1", socket.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(serve(socket, manner, seen.clone()));
        Self { url, seen, task }
    }

    /// Waits until it was announced to so many times.
    async fn announced(&self, times: usize) {
        let enough = async {
            while self.seen.lock().unwrap().announces < times {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.unwrap();
    }
}

async fn serve(socket: UdpSocket, manner: Manner, seen: Arc<Mutex<Seen>>) {
    let stranger = UdpSocket::bind((socket.local_addr().unwrap().ip(), 0)).await.unwrap();
    let (mut buffer, mut dropped) = ([0; 2048], false);
    let (mut valid, mut next) = (BTreeSet::new(), 0u64);
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let request = &buffer[..length];
        if manner == Manner::Hostile && !dropped {
            dropped = true;
            continue;
        }
        let number = |at: usize| u32::from_be_bytes(request[at..at + 4].try_into().unwrap());
        let transaction = number(12);
        let head = |action: u32, transaction: u32| {
            [action.to_be_bytes(), transaction.to_be_bytes()].concat()
        };
        let reply = if number(8) == CONNECT {
            assert_eq!(request.len(), 16);
            assert_eq!(request[..8], 0x0417_2710_1980u64.to_be_bytes());
            next += 1;
            valid.insert(next.to_be_bytes());
            seen.lock().unwrap().connects += 1;
            [head(CONNECT, transaction), next.to_be_bytes().to_vec()].concat()
        } else {
            assert_eq!(number(8), ANNOUNCE);
            let known = valid.contains(&request[..8]);
            if manner == Manner::Refuses {
                [head(3, transaction), b"no such image here".to_vec()].concat()
            } else if !known {
                seen.lock().unwrap().refused += 1;
                [head(3, transaction), b"unknown connection id".to_vec()].concat()
            } else {
                if manner == Manner::Forgets {
                    valid.clear();
                }
                answer(&mut seen.lock().unwrap(), request, from, head(ANNOUNCE, transaction))
            }
        };
        if manner == Manner::Hostile {
            for nonsense in [
                vec![],
                b"\0\0\0".to_vec(),
                head(reply[3].into(), transaction ^ 1),
                head(3, transaction ^ 1),
                head(9, transaction),
                [&reply[..], b"?"].concat()[..reply.len().min(9)].to_vec(),
            ] {
                socket.send_to(&nonsense, from).await.unwrap();
            }
            // whoever sees or guesses the id still has another address
            let foreign = [head(3, transaction), b"forged".to_vec()].concat();
            stranger.send_to(&foreign, from).await.unwrap();
        }
        socket.send_to(&reply, from).await.unwrap();
    }
}

fn answer(seen: &mut Seen, request: &[u8], from: SocketAddr, head: Vec<u8>) -> Vec<u8> {
    seen.announces += 1;
    seen.options = request[98..].to_vec();
    match request[83] {
        1 => seen.events.push(AnnounceEvent::Completed),
        2 => seen.events.push(AnnounceEvent::Started),
        3 => seen.events.push(AnnounceEvent::Stopped),
        _ => {}
    }
    let port = u16::from_be_bytes([request[96], request[97]]);
    let itself = SocketAddr::new(from.ip(), port);
    let others = seen.peers.iter().filter(|peer| **peer != itself).copied();
    let (v4, v6) = proto::peers::encode(&others.collect::<Vec<_>>());
    if request[83] != 3 && !seen.peers.contains(&itself) {
        seen.peers.push(itself);
    }
    let numbers = [2u32, 0, 0].map(u32::to_be_bytes).concat();
    [head, numbers, if from.is_ipv4() { v4 } else { v6 }].concat()
}

async fn pair(trackers: &[String]) -> (Node, Node) {
    let image = image(200_000, 50);
    let metainfo = torrent_of(&image, 16 * 1024, trackers, &[]);
    let seeder = seeder(&metainfo, &image, true).await;
    let node = leecher(&metainfo).await;
    (seeder, node)
}

#[tokio::test]
async fn announces_with_its_path_and_keeps_its_connection_id() {
    let tracker = UdpTracker::start("127.0.0.1:0", Manner::Normal).await;
    let (seeder, node) = pair(std::slice::from_ref(&tracker.url)).await;
    node.complete().await;
    // until both have announced again
    tracker.announced(6).await;
    node.session.shutdown().await;
    seeder.session.shutdown().await;
    let seen = tracker.seen.lock().unwrap();
    assert_eq!(seen.options, b"\x02\x10/announce?pass=1");
    assert_eq!((seen.connects, seen.refused), (2, 0), "one connect for each, within a minute");
    let count = |event| seen.events.iter().filter(|e| **e == event).count();
    assert_eq!(count(AnnounceEvent::Started), 2);
    assert_eq!(count(AnnounceEvent::Completed), 1);
    assert_eq!(count(AnnounceEvent::Stopped), 2);
}

#[tokio::test]
async fn wrong_and_foreign_answers_are_ignored_and_requests_repeated() {
    let tracker = UdpTracker::start("127.0.0.1:0", Manner::Hostile).await;
    let (seeder, node) = pair(std::slice::from_ref(&tracker.url)).await;
    let done = node.complete().await;
    assert_eq!(done.sources.admin, 200_000);
    // nothing of what the others said got anywhere
    assert_eq!(node.torrent.progress().borrow().stall, None);
    node.session.shutdown().await;
    seeder.session.shutdown().await;
}

#[tokio::test]
async fn a_tracker_that_forgot_the_connection_is_connected_anew() {
    let tracker = UdpTracker::start("127.0.0.1:0", Manner::Forgets).await;
    let (seeder, node) = pair(std::slice::from_ref(&tracker.url)).await;
    node.complete().await;
    tracker.announced(6).await;
    assert!(tracker.seen.lock().unwrap().refused >= 1, "it did forget");
    node.session.shutdown().await;
    seeder.session.shutdown().await;
    let events = tracker.seen.lock().unwrap().events.clone();
    assert_eq!(events.iter().filter(|e| **e == AnnounceEvent::Stopped).count(), 2);
}

#[tokio::test]
async fn its_error_text_is_shown() {
    let tracker = UdpTracker::start("127.0.0.1:0", Manner::Refuses).await;
    let (seeder, node) = pair(std::slice::from_ref(&tracker.url)).await;
    let stall = node.until("a stall", |p| p.stall.is_some()).await.stall.unwrap();
    assert_eq!(stall.cause, StallCause::TrackerRefuses);
    assert!(stall.detail.contains("no such image here"), "{}", stall.detail);
    assert!(stall.detail.contains(&tracker.url), "{}", stall.detail);
    node.session.shutdown().await;
    seeder.session.shutdown().await;
}

#[tokio::test]
async fn a_closed_port_and_a_silent_host_are_named() {
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (seeder, node) = pair(&[format!("udp://{closed}/announce")]).await;
    let stall = node.until("a stall", |p| p.stall.is_some()).await.stall.unwrap();
    assert_eq!(stall.cause, StallCause::TrackerUnreachable);
    assert!(stall.detail.contains("refused"), "{}", stall.detail);
    node.session.shutdown().await;
    seeder.session.shutdown().await;
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (seeder, node) = pair(&[format!("udp://{}", silent.local_addr().unwrap())]).await;
    let told = |p: &swarm::Progress| p.stall.as_ref().is_some_and(|s| s.detail.contains("within"));
    let stall = node.until("a stall", told).await.stall.unwrap();
    assert_eq!(stall.cause, StallCause::TrackerUnreachable);
    node.session.shutdown().await;
    seeder.session.shutdown().await;
}

#[tokio::test]
async fn tiers_mix_both_kinds() {
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let http = Tracker::start(Mood::Normal).await;
    let (seeder, node) = pair(&[format!("udp://{closed}/announce"), http.url.clone()]).await;
    node.complete().await;
    node.session.shutdown().await;
    seeder.session.shutdown().await;
    let udp = UdpTracker::start("127.0.0.1:0", Manner::Normal).await;
    let dead = "http://127.0.0.1:1/announce".to_owned();
    let (seeder, node) = pair(&[dead, udp.url.clone()]).await;
    node.complete().await;
    node.session.shutdown().await;
    seeder.session.shutdown().await;
}

#[tokio::test]
async fn ipv6_is_spoken_to_ipv6_trackers() {
    let tracker = UdpTracker::start("[::1]:0", Manner::Normal).await;
    let image = image(200_000, 51);
    let metainfo = torrent_of(&image, 16 * 1024, std::slice::from_ref(&tracker.url), &[]);
    let any =
        |role| SessionConfig { listen: "[::1]:0".parse().unwrap(), ..SessionConfig::new(role) };
    let mut sessions = Vec::new();
    let mut last = None;
    for (role, bytes) in [(Role::Admin, image.clone()), (Role::Node, vec![0; image.len()])] {
        let session = Session::bind(any(role)).await.unwrap();
        let storage = Arc::new(MemoryStorage::from(bytes));
        let have = match role {
            Role::Admin => InitialHave::Everything { verify: Verify::OnFirstRead },
            Role::Node => InitialHave::Nothing,
        };
        let spec = TorrentSpec { have, ..TorrentSpec::new(metainfo.clone(), storage) };
        last = Some(session.add(spec).await.unwrap());
        sessions.push(session);
    }
    let fetch = last.unwrap();
    tokio::time::timeout(PATIENCE, fetch.completed()).await.unwrap().unwrap();
    for session in sessions {
        session.shutdown().await;
    }
}
