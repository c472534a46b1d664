//! Many who want nothing good at once, and those who never say or read anything.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::geometry::{BLOCK_LEN, Block, PieceIndex};
use proto::hash::{InfoHash, PeerId, PeerRole};
use proto::metainfo::Metainfo;
use proto::units::ByteRate;
use proto::wire::{Features, HANDSHAKE_LEN, Handshake, Message};
use swarm::storage::MemoryStorage;
use swarm::{InitialHave, Role, Session, SessionConfig, Torrent, TorrentSpec, Verify};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Node, PATIENCE, config, image, leecher, torrent_of};

/// The address of those who behave badly; everybody else is at 127.0.0.1.
const BAD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

async fn seed(
    metainfo: &Arc<Metainfo>,
    image: &[u8],
    change: impl FnOnce(&mut SessionConfig),
) -> (Session, Torrent) {
    let mut config = config(Role::Admin);
    change(&mut config);
    let session = Session::bind(config).await.unwrap();
    let spec = TorrentSpec {
        have: InitialHave::Everything { verify: Verify::OnFirstRead },
        ..TorrentSpec::new(metainfo.clone(), Arc::new(MemoryStorage::from(image.to_vec())))
    };
    let torrent = session.add(spec).await.unwrap();
    (session, torrent)
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((IpAddr::V4(from), 0).into())?;
    socket.connect(to).await
}

fn hello(info_hash: InfoHash, id: u8) -> [u8; HANDSHAKE_LEN] {
    let features = Features { fast: true, extended: false, v2: false };
    Handshake { info_hash, peer_id: PeerId::new(PeerRole::Node, [id; 12]), features }.encode()
}

/// Whether the other side answers the handshake.
async fn is_answered(mut stream: TcpStream, hello: &[u8]) -> bool {
    let answer = async {
        stream.write_all(hello).await?;
        stream.read_exact(&mut [0; HANDSHAKE_LEN]).await
    };
    tokio::time::timeout(PATIENCE, answer).await.expect("an answer, or the end").is_ok()
}

async fn is_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "left open");
}

/// Resident memory of this process, in bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn ten_thousand_connections_from_one_address_keep_nobody_out() {
    let image = image(1_000_000, 60);
    let metainfo = torrent_of(&image, 32 * 1024, &[], &[]);
    let (session, torrent) = seed(&metainfo, &image, |_| {}).await;
    let to = session.local_addr();
    let before = memory();
    // they say nothing, and the first 600 stay: more than handshakes may be under way. A connection
    // that is turned away may be reset
    let mut held = Vec::new();
    let mut fine = None;
    for attempt in 0..10_000u32 {
        if let Ok(stream) = connect(BAD, to).await
            && held.len() < 600
        {
            held.push(stream);
        }
        if attempt == 5_000 {
            let node = leecher(&metainfo).await;
            node.torrent.add_peer(to);
            fine = Some(node);
        }
    }
    let node = fine.unwrap();
    let done = node.complete().await;
    // before the time of the first handshakes is up, which is 10 s
    assert!(done.elapsed < Duration::from_secs(4), "{:?}", done.elapsed);
    assert!(node.storage.to_vec() == image);
    let grown = memory().saturating_sub(before);
    assert!(grown < 48 << 20, "{} MiB more", grown >> 20);
    assert!(torrent.peers().iter().all(|peer| peer.address.ip() != BAD));
    drop(held);
    node.session.shutdown().await;
    session.shutdown().await;
}

#[tokio::test]
async fn a_limit_for_each_peer_is_not_shared_and_is_used_in_full() {
    let image = image(600_000, 64);
    let metainfo = torrent_of(&image, 32 * 1024, &[], &[]);
    let (session, _torrent) = seed(&metainfo, &image, |config| {
        config.upload_limit_per_peer = Some(ByteRate(200_000));
    })
    .await;
    let nodes = [leecher(&metainfo).await, leecher(&metainfo).await];
    let started = Instant::now();
    for node in &nodes {
        node.torrent.add_peer(session.local_addr());
    }
    for node in &nodes {
        node.complete().await;
    }
    let took = started.elapsed();
    // three seconds' worth for each; six if they shared it, or if requests came one by one
    assert!(took >= Duration::from_millis(2_500), "{took:?}");
    assert!(took < Duration::from_millis(5_500), "{took:?}");
    for node in nodes {
        node.session.shutdown().await;
    }
    session.shutdown().await;
}

#[tokio::test]
async fn what_is_received_is_limited_over_all_peers_and_the_limit_is_used_in_full() {
    let image = image(900_000, 65);
    let metainfo = torrent_of(&image, 32 * 1024, &[], &[]);
    let seeders = [seed(&metainfo, &image, |_| {}).await, seed(&metainfo, &image, |_| {}).await];
    let storage = Arc::new(MemoryStorage::zeroed(image.len()));
    let mut config = config(Role::Node);
    config.download_limit = Some(ByteRate(300_000));
    let session = Session::bind(config).await.unwrap();
    let torrent = session.add(TorrentSpec::new(metainfo.clone(), storage.clone())).await.unwrap();
    for (seeder, _) in &seeders {
        torrent.add_peer(seeder.local_addr());
    }
    let node = Node { session, torrent, storage };
    node.until("a half", |progress| progress.pieces_have >= 14).await;
    let peers = node.torrent.peers();
    assert!(peers.len() == 2 && peers.iter().all(|peer| peer.downloaded > 50_000), "{peers:?}");
    let done = node.complete().await;
    // three seconds' worth; more than one and a half would be what one request at a time costs
    assert!(done.elapsed >= Duration::from_millis(2_600), "{:?}", done.elapsed);
    assert!(done.elapsed < Duration::from_millis(4_500), "{:?}", done.elapsed);
    assert!(node.storage.to_vec() == image);
    node.session.shutdown().await;
    for (session, _) in seeders {
        session.shutdown().await;
    }
}

#[tokio::test]
async fn an_address_that_sends_garbage_is_put_off_and_others_are_not() {
    let image = image(200_000, 61);
    let metainfo = torrent_of(&image, 16 * 1024, &[], &[]);
    let (session, _torrent) = seed(&metainfo, &image, |_| {}).await;
    let to = session.local_addr();
    let good = hello(metainfo.info_hash, 1);
    assert!(is_answered(connect(BAD, to).await.unwrap(), &good).await);
    // half of it before the handshake, half behind it
    for round in 0..12 {
        let Ok(mut stream) = connect(BAD, to).await else { continue };
        let bytes = match round % 2 {
            0 => vec![b'x'; HANDSHAKE_LEN],
            _ => [&good[..], &[0xff; 64]].concat(),
        };
        let _ = stream.write_all(&bytes).await;
        is_closed(&mut stream).await;
    }
    assert!(!is_answered(connect(BAD, to).await.unwrap(), &good).await, "it is put off");
    let other = connect(Ipv4Addr::new(127, 0, 0, 67), to).await.unwrap();
    assert!(is_answered(other, &good).await, "but not its neighbour");
    // the pause ends
    let again = async {
        while !is_answered(connect(BAD, to).await.unwrap(), &good).await {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("pauses end");
    session.shutdown().await;
}

#[tokio::test]
async fn silence_ends_a_handshake_and_a_connection() {
    let image = image(200_000, 62);
    let metainfo = torrent_of(&image, 16 * 1024, &[], &[]);
    let (session, torrent) = seed(&metainfo, &image, |config| {
        config.connect_timeout = Duration::from_millis(300);
        config.peer_timeout = Duration::from_secs(2);
    })
    .await;
    let to = session.local_addr();
    let started = Instant::now();
    let mut mute = connect(BAD, to).await.unwrap();
    // half a handshake is none
    let mut slow = connect(BAD, to).await.unwrap();
    slow.write_all(&hello(metainfo.info_hash, 1)[..40]).await.unwrap();
    is_closed(&mut mute).await;
    is_closed(&mut slow).await;
    assert!(started.elapsed() >= Duration::from_millis(500), "it had its time");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let mut idle = connect(BAD, to).await.unwrap();
    idle.write_all(&hello(metainfo.info_hash, 2)).await.unwrap();
    idle.read_exact(&mut [0; HANDSHAKE_LEN]).await.unwrap();
    let started = Instant::now();
    is_closed(&mut idle).await;
    assert!(started.elapsed() >= Duration::from_millis(1_500), "it had its time");
    assert!(torrent.peers().is_empty());
    session.shutdown().await;
}

/// Requests for every block of the first `pieces` pieces of 256 KiB, by somebody who has nothing.
fn requests(pieces: u32) -> Vec<u8> {
    let mut out = Vec::new();
    Message::HaveNone.encode(&mut out);
    Message::Interested.encode(&mut out);
    for piece in (0..pieces).map(PieceIndex) {
        for begin in (0..256 * 1024).step_by(BLOCK_LEN as usize) {
            Message::Request(Block { piece, begin, length: BLOCK_LEN }).encode(&mut out);
        }
    }
    out
}

async fn until_alone(torrent: &Torrent) {
    let alone = async {
        while !torrent.peers().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), alone).await.expect("it is thrown out");
}

#[tokio::test]
async fn who_asks_and_never_reads_is_dropped_and_costs_little() {
    let image = image(64 << 20, 63);
    let metainfo = torrent_of(&image, 256 * 1024, &[], &[]);
    let (session, torrent) = seed(&metainfo, &image, |config| {
        config.write_timeout = Duration::from_secs(1);
    })
    .await;
    let to = session.local_addr();
    let before = memory();
    // as many as it may ask for; what it gets fills the buffers of the kernel, and stays there
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind((IpAddr::V4(BAD), 0).into()).unwrap();
    let mut deaf = socket.connect(to).await.unwrap();
    deaf.write_all(&hello(metainfo.info_hash, 1)).await.unwrap();
    deaf.write_all(&requests(15)).await.unwrap();
    // no reading, not even of the handshake: the end shows at the other side only
    let connected = async {
        while torrent.peers().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.expect("it is let in");
    until_alone(&torrent).await;
    // and another asks for everything, again and again
    let mut greedy = connect(BAD, to).await.unwrap();
    greedy.write_all(&hello(metainfo.info_hash, 2)).await.unwrap();
    let all = requests(256);
    let flood = async { while greedy.write_all(&all).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, flood).await.expect("it is thrown out");
    until_alone(&torrent).await;
    let grown = memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
    session.shutdown().await;
}
