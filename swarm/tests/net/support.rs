//! Images, sessions and a tiny tracker.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::announce::{AnnounceEvent, AnnouncePeers, AnnounceRequest, AnnounceResponse, PeerEntry};
use proto::geometry::Geometry;
use proto::hash::PieceHash;
use proto::metainfo::{Info, Metainfo};
use swarm::storage::{MemoryStorage, Storage};
use swarm::{InitialHave, Role, Session, SessionConfig, Torrent, TorrentSpec, Verify};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Nothing in these tests takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Random bytes that differ with the seed.
pub(crate) fn image(length: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes);
    bytes
}

pub(crate) fn torrent_of(
    image: &[u8],
    piece: u64,
    trackers: &[String],
    web: &[String],
) -> Arc<Metainfo> {
    let geometry = Geometry::new(image.len() as u64, piece).unwrap();
    let hashes = image.chunks(usize::try_from(piece).unwrap()).map(PieceHash::of).collect();
    let info = Info::new("rootimg.sfs", geometry, true, hashes).unwrap();
    let tiers = trackers.iter().map(|url| vec![url.clone()]).collect();
    Arc::new(Metainfo::new(info, tiers, web.to_vec(), None).unwrap())
}

pub(crate) fn config(role: Role) -> SessionConfig {
    SessionConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..SessionConfig::new(role) }
}

/// A session with one torrent.
pub(crate) struct Node {
    pub(crate) session: Session,
    pub(crate) torrent: Torrent,
    pub(crate) storage: Arc<MemoryStorage>,
}

pub(crate) async fn seeder(metainfo: &Arc<Metainfo>, image: &[u8], initial_seeding: bool) -> Node {
    let storage = Arc::new(MemoryStorage::from(image.to_vec()));
    let session = Session::bind(config(Role::Admin)).await.unwrap();
    let spec = TorrentSpec {
        have: InitialHave::Everything { verify: Verify::OnFirstRead },
        initial_seeding,
        ..TorrentSpec::new(metainfo.clone(), storage.clone())
    };
    let torrent = session.add(spec).await.unwrap();
    Node { session, torrent, storage }
}

pub(crate) async fn leecher(metainfo: &Arc<Metainfo>) -> Node {
    let length = usize::try_from(metainfo.info.geometry.total()).unwrap();
    let storage = Arc::new(MemoryStorage::zeroed(length));
    leecher_with(metainfo, storage.clone(), InitialHave::Nothing, storage).await
}

pub(crate) async fn leecher_with(
    metainfo: &Arc<Metainfo>,
    storage: Arc<dyn Storage>,
    have: InitialHave,
    memory: Arc<MemoryStorage>,
) -> Node {
    let session = Session::bind(config(Role::Node)).await.unwrap();
    let spec = TorrentSpec { have, ..TorrentSpec::new(metainfo.clone(), storage) };
    let torrent = session.add(spec).await.unwrap();
    Node { session, torrent, storage: memory }
}

impl Node {
    pub(crate) async fn complete(&self) -> swarm::Completed {
        match tokio::time::timeout(PATIENCE, self.torrent.completed()).await {
            Ok(result) => result.unwrap(),
            Err(_) => panic!(
                "not complete: {:?}\n{:?}",
                *self.torrent.progress().borrow(),
                self.torrent.peers()
            ),
        }
    }

    /// Waits until the progress looks as wanted.
    pub(crate) async fn until(
        &self,
        what: &str,
        mut test: impl FnMut(&swarm::Progress) -> bool,
    ) -> swarm::Progress {
        let mut progress = self.torrent.progress();
        match tokio::time::timeout(PATIENCE, progress.wait_for(|p| test(p))).await {
            Ok(found) => found.unwrap().clone(),
            Err(_) => panic!("{what} did not come: {:?}", *self.torrent.progress().borrow()),
        }
    }
}

/// How the tracker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Normal,
    Html,
    Refuse,
}

/// A tracker of one torrent.
pub(crate) struct Tracker {
    pub(crate) url: String,
    pub(crate) state: Arc<Mutex<TrackerState>>,
    task: tokio::task::JoinHandle<()>,
}

pub(crate) struct TrackerState {
    pub(crate) mood: Mood,
    pub(crate) peers: BTreeMap<SocketAddr, u64>,
    pub(crate) events: Vec<(AnnounceEvent, u64)>,
    pub(crate) announces: usize,
    /// What each peer wanted in its last announce.
    pub(crate) wanted: BTreeMap<SocketAddr, u32>,
}

impl Tracker {
    pub(crate) async fn start(mood: Mood) -> Self {
        Self::start_at(0, mood).await
    }

    pub(crate) async fn start_at(port: u16, mood: Mood) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let url = format!("http://{}/announce", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(TrackerState {
            mood,
            peers: BTreeMap::new(),
            events: Vec::new(),
            announces: 0,
            wanted: BTreeMap::new(),
        }));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, address)) = listener.accept().await {
                tokio::spawn(serve(stream, address, shared.clone()));
            }
        });
        Self { url, state, task }
    }

    /// Lists a peer that does not announce itself.
    pub(crate) fn list(&self, address: SocketAddr) {
        self.state.lock().unwrap().peers.insert(address, 1);
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, from: SocketAddr, state: Arc<Mutex<TrackerState>>) {
    let Some(head) = read_head(&mut stream).await else { return };
    let query =
        head.split_whitespace().nth(1).and_then(|path| path.split_once('?')).map_or("", |(_, q)| q);
    let (kind, body) = answer(query, from, &mut state.lock().unwrap());
    reply(&mut stream, "200 OK", kind, &body).await;
}

pub(crate) async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

pub(crate) async fn reply(stream: &mut TcpStream, status: &str, kind: &str, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body).await;
}

fn answer(query: &str, from: SocketAddr, state: &mut TrackerState) -> (&'static str, Vec<u8>) {
    state.announces += 1;
    match state.mood {
        Mood::Html => return ("text/html", b"<html>It works!</html>".to_vec()),
        Mood::Refuse => {
            let reply = AnnounceResponse::Failure("unknown info-hash".to_owned());
            return ("text/plain", reply.encode(true).unwrap());
        }
        Mood::Normal => {}
    }
    let request = AnnounceRequest::parse(query).unwrap();
    let address = SocketAddr::new(from.ip(), request.port);
    if let Some(event) = request.event {
        state.events.push((event, request.left));
    }
    if request.event == Some(AnnounceEvent::Stopped) {
        state.peers.remove(&address);
    } else {
        state.peers.insert(address, request.left);
    }
    let wanted = request.numwant.unwrap_or(30);
    state.wanted.insert(address, wanted);
    let peers = state.peers.keys().filter(|peer| **peer != address);
    let peers = peers.map(|address| PeerEntry { address: *address, peer_id: None }).collect();
    // who has enough peers need not come soon
    let interval = if wanted == 0 { 600 } else { 2 };
    let reply = AnnouncePeers { interval, peers, ..AnnouncePeers::default() };
    ("text/plain", AnnounceResponse::Peers(reply).encode(true).unwrap())
}
