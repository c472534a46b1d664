//! Peers that lie, stall, or talk nonsense.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::event::StallCause;
use proto::geometry::Block;
use proto::hash::{InfoHash, PeerId, PeerRole};
use proto::metainfo::Metainfo;
use proto::wire::{Features, HANDSHAKE_LEN, Handshake, Message, piece_header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Mood, PATIENCE, Tracker, image, leecher, seeder, torrent_of};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Answers every request with wrong bytes.
    Lies,
    /// Answers the first request and never another one.
    Stops,
    /// Answers no request.
    Hoards,
    /// Lets nobody ask.
    Chokes,
}

/// A hand-made peer that says it has everything and unchokes everybody.
struct Fake {
    address: SocketAddr,
    served: Arc<AtomicUsize>,
    /// Who connected, in order.
    callers: Arc<Mutex<Vec<PeerId>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    async fn start(metainfo: Arc<Metainfo>, image: Vec<u8>, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (served, callers) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let (counter, book) = (served.clone(), Arc::clone(&callers));
        let task = tokio::spawn(async move {
            let image = Arc::new(image);
            while let Ok((stream, _)) = listener.accept().await {
                let count = counter.clone();
                let (metainfo, image) = (metainfo.clone(), image.clone());
                let callers = Arc::clone(&book);
                tokio::spawn(async move {
                    let _ = talk(stream, &metainfo, &image, manner, &count, &callers).await;
                });
            }
        });
        Self { address, served, callers, task }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn talk(
    mut stream: TcpStream,
    metainfo: &Metainfo,
    image: &[u8],
    manner: Manner,
    served: &AtomicUsize,
    callers: &Mutex<Vec<PeerId>>,
) -> std::io::Result<()> {
    let mut hello = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut hello).await?;
    callers.lock().unwrap().push(Handshake::parse(&hello).unwrap().peer_id);
    stream.write_all(&handshake(metainfo.info_hash, 7)).await?;
    let mut out = Vec::new();
    Message::HaveAll.encode(&mut out);
    if manner != Manner::Chokes {
        Message::Unchoke.encode(&mut out);
    }
    stream.write_all(&out).await?;
    let mut buffer = Vec::new();
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let mut used = 0;
        let mut out = Vec::new();
        while let Ok(Some((message, length))) = Message::parse(&buffer[used..]) {
            if let Message::Request(block) = message {
                let number = served.fetch_add(1, Ordering::SeqCst);
                if manner == Manner::Lies || manner == Manner::Stops && number == 0 {
                    answer(metainfo, image, block, manner, &mut out);
                }
            }
            used += length;
        }
        buffer.drain(..used);
        stream.write_all(&out).await?;
    }
}

fn answer(metainfo: &Metainfo, image: &[u8], block: Block, manner: Manner, out: &mut Vec<u8>) {
    let start = usize::try_from(metainfo.info.geometry.block_offset(block)).unwrap();
    let mut data = image[start..start + block.length as usize].to_vec();
    if manner == Manner::Lies {
        data[0] ^= 1;
    }
    out.extend(piece_header(block));
    out.extend(data);
}

fn handshake(info_hash: InfoHash, id: u8) -> [u8; HANDSHAKE_LEN] {
    let features = Features { fast: true, extended: false, v2: false };
    Handshake { info_hash, peer_id: PeerId::new(PeerRole::Node, [id; 12]), features }.encode()
}

#[tokio::test]
async fn a_liar_is_banned_and_its_bytes_are_never_stored() {
    let tracker = Tracker::start(Mood::Normal).await;
    let image = image(1_000_000, 3);
    let metainfo = torrent_of(&image, 32 * 1024, std::slice::from_ref(&tracker.url), &[]);
    let liar = Fake::start(metainfo.clone(), image.clone(), Manner::Lies).await;
    tracker.list(liar.address);
    let victim = leecher(&metainfo).await;
    let before = victim.until("a hash failure", |p| p.hash_failures >= 2).await;
    assert_eq!(before.bytes_verified, 0);
    assert!(victim.storage.to_vec().iter().all(|b| *b == 0), "nothing wrong reaches the storage");
    let seeder = seeder(&metainfo, &image, false).await;
    let done = victim.complete().await;
    assert!(done.hash_failures >= 2);
    assert_eq!(done.sources.admin, 1_000_000);
    assert!(victim.storage.to_vec() == image);
    assert!(victim.torrent.peers().iter().all(|p| p.address != liar.address), "the liar is out");
    let calls =
        liar.callers.lock().unwrap().iter().filter(|id| **id == victim.session.peer_id()).count();
    assert_eq!(calls, 1, "and was not dialled again");
    assert!(liar.served.load(Ordering::SeqCst) < 40);
    victim.session.shutdown().await;
    seeder.session.shutdown().await;
}

#[tokio::test]
async fn a_peer_that_stops_in_the_middle_of_a_piece_holds_nobody_up() {
    let tracker = Tracker::start(Mood::Normal).await;
    let image = image(1_000_000, 4);
    let metainfo = torrent_of(&image, 64 * 1024, std::slice::from_ref(&tracker.url), &[]);
    let fake = Fake::start(metainfo.clone(), image.clone(), Manner::Stops).await;
    tracker.list(fake.address);
    let victim = leecher(&metainfo).await;
    victim.until("the first block", |p| p.peers_connected == 1).await;
    let seeder = seeder(&metainfo, &image, true).await;
    let done = victim.complete().await;
    assert!(done.elapsed < Duration::from_secs(30), "{:?}", done.elapsed);
    assert!(victim.storage.to_vec() == image);
    victim.session.shutdown().await;
    seeder.session.shutdown().await;
}

#[tokio::test]
async fn peers_that_send_nothing_are_named_as_the_cause() {
    let image = image(1_000_000, 7);
    let metainfo = torrent_of(&image, 64 * 1024, &[], &[]);
    let others = leecher(&metainfo).await;
    for (manner, wanted) in [
        (Some(Manner::Hoards), "1 peers are connected, none sends for "),
        (Some(Manner::Chokes), "1 peers are connected, none sends for "),
        (None, "1 peers are connected, none has a piece that is missing here for "),
    ] {
        let fake = match manner {
            Some(manner) => Some(Fake::start(metainfo.clone(), image.clone(), manner).await),
            None => None,
        };
        let address = fake.as_ref().map_or(others.session.local_addr(), |fake| fake.address);
        let victim = leecher(&metainfo).await;
        victim.torrent.add_peer(address);
        let began = Instant::now();
        let of_this = |p: &swarm::Progress| {
            p.stall.as_ref().is_some_and(|stall| stall.cause == StallCause::NoData)
        };
        let progress = victim.until("a stall", of_this).await;
        let waited = began.elapsed();
        // after 5 s without a block, at the next look
        assert!((4..10).contains(&waited.as_secs()), "{manner:?}: {waited:?}");
        let stall = progress.stall.unwrap();
        assert!(stall.detail.starts_with(wanted), "{manner:?}: {}", stall.detail);
        assert_eq!((progress.peers_connected, progress.bytes_verified), (1, 0));
        if let Some(fake) = &fake {
            let asked = fake.served.load(Ordering::SeqCst);
            assert_eq!(asked > 0, manner == Some(Manner::Hoards), "{manner:?}: {asked}");
        }
        // over as soon as somebody sends
        let seeder = seeder(&metainfo, &image, false).await;
        victim.torrent.add_peer(seeder.session.local_addr());
        victim.complete().await;
        assert_eq!(victim.torrent.progress().borrow().stall, None);
        victim.session.shutdown().await;
        seeder.session.shutdown().await;
    }
    others.session.shutdown().await;
}

#[tokio::test]
async fn nonsense_ends_a_connection_and_nothing_else() {
    let image = image(200_000, 5);
    let metainfo = torrent_of(&image, 16 * 1024, &[], &[]);
    let seeder = seeder(&metainfo, &image, false).await;
    let mut bad: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(8),
        handshake(InfoHash([9; 20]), 1).to_vec(),
        [&handshake(metainfo.info_hash, 2)[..], &[0xff; 64]].concat(),
    ];
    for message in [
        Message::Have(proto::geometry::PieceIndex(1 << 30)),
        Message::Bitfield(&[0xff; 100]),
        Message::Request(Block {
            piece: proto::geometry::PieceIndex(0),
            begin: u32::MAX,
            length: 16384,
        }),
        Message::Piece { piece: proto::geometry::PieceIndex(99), begin: 3, data: &[0; 10] },
    ] {
        let mut bytes = handshake(metainfo.info_hash, 3).to_vec();
        message.encode(&mut bytes);
        bad.push(bytes);
    }
    for bytes in bad {
        let mut stream = TcpStream::connect(seeder.session.local_addr()).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let mut rest = Vec::new();
        let closed =
            tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "left open after {:?}", bytes.escape_ascii().to_string());
    }
    let fine = leecher(&metainfo).await;
    fine.torrent.add_peer(seeder.session.local_addr());
    fine.complete().await;
    fine.session.shutdown().await;
    seeder.session.shutdown().await;
}

#[tokio::test]
async fn two_connections_of_one_pair_become_one() {
    let image = image(200_000, 6);
    let metainfo = torrent_of(&image, 16 * 1024, &[], &[]);
    let (a, b) = (leecher(&metainfo).await, leecher(&metainfo).await);
    let itself = a.session.local_addr();
    a.torrent.add_peer(itself);
    a.torrent.add_peer(b.session.local_addr());
    b.torrent.add_peer(a.session.local_addr());
    a.until("the other one", |p| p.peers_connected == 1).await;
    b.until("the other one", |p| p.peers_connected == 1).await;
    // both dialled at the same moment: when the doubles are sorted out one connection is left, and
    // it is the same one on both sides
    let pair = async {
        loop {
            let (of_a, of_b) = (a.torrent.peers(), b.torrent.peers());
            if let ([one], [other]) = (&of_a[..], &of_b[..])
                && one.outgoing != other.outgoing
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, pair).await.expect("one connection stays");
    a.session.shutdown().await;
    b.session.shutdown().await;
}
