//! Peers found without a tracker: by peer exchange, and by multicast on the loopback interface.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::extension::ExtendedHandshake;
use proto::geometry::{Geometry, PieceIndex};
use proto::hash::{PeerId, PeerRole, PieceHash};
use proto::metainfo::{Info, Metainfo};
use proto::pex::{Contact, MAX_PEERS, NAME, PexMessage};
use proto::wire::{Features, HANDSHAKE_LEN, Handshake, Message};
use swarm::storage::MemoryStorage;
use swarm::{InitialHave, Role, Session, SessionConfig, Torrent, TorrentSpec, Verify};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Mood, PATIENCE, Tracker, config, image, torrent_of};

/// A torrent of an image without trackers.
fn torrent(image: &[u8], private: bool) -> Arc<Metainfo> {
    let geometry = Geometry::new(image.len() as u64, 16 * 1024).unwrap();
    let hashes = image.chunks(16 * 1024).map(PieceHash::of).collect();
    let info = Info::new("rootimg.sfs", geometry, private, hashes).unwrap();
    Arc::new(Metainfo::new(info, vec![], vec![], None).unwrap())
}

async fn start(
    config: SessionConfig,
    metainfo: &Arc<Metainfo>,
    image: Option<&[u8]>,
) -> (Session, Torrent, Arc<MemoryStorage>) {
    let length = usize::try_from(metainfo.info.geometry.total()).unwrap();
    let storage = Arc::new(match image {
        Some(image) => MemoryStorage::from(image.to_vec()),
        None => MemoryStorage::zeroed(length),
    });
    let session = Session::bind(config).await.unwrap();
    let have = match image {
        Some(_) => InitialHave::Everything { verify: Verify::OnFirstRead },
        None => InitialHave::Nothing,
    };
    let spec = TorrentSpec { have, ..TorrentSpec::new(metainfo.clone(), storage.clone()) };
    let torrent = session.add(spec).await.unwrap();
    (session, torrent, storage)
}

fn without_multicast(role: Role) -> SessionConfig {
    SessionConfig { local_discovery: false, ..config(role) }
}

async fn until(what: &str, torrent: &Torrent, mut test: impl FnMut(&Torrent) -> bool) {
    let look = async {
        while !test(torrent) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, look).await;
    assert!(waited.is_ok(), "{what} did not come: {:?}", torrent.peers());
}

/// The answers of the tracker go over the link that the image goes over.
#[tokio::test]
async fn who_has_enough_peers_wants_none_until_some_are_lost() {
    let tracker = Tracker::start(Mood::Normal).await;
    let image = image(100_000, 44);
    let metainfo = torrent_of(&image, 16 * 1024, std::slice::from_ref(&tracker.url), &[]);
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let few = SessionConfig { target_peers: 2, ..without_multicast(Role::Node) };
        nodes.push(start(few, &metainfo, None).await);
    }
    let (leaver, ..) = nodes.remove(2);
    let stayer = nodes[0].0.local_addr();
    let wanted = |peer: SocketAddr| tracker.state.lock().unwrap().wanted.get(&peer).copied();
    for (session, torrent, _) in &nodes {
        until("enough", torrent, |_| wanted(session.local_addr()) == Some(0)).await;
    }
    leaver.shutdown().await;
    until("another announce", &nodes[0].1, |_| wanted(stayer).is_some_and(|n| n > 0)).await;
    for (session, ..) in nodes {
        session.shutdown().await;
    }
}

#[tokio::test]
async fn peers_name_each_other() {
    let image = image(300_000, 40);
    let metainfo = torrent(&image, false);
    let (hub, hub_torrent, _) = start(without_multicast(Role::Node), &metainfo, None).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        let other = start(without_multicast(Role::Node), &metainfo, None).await;
        other.1.add_peer(hub.local_addr());
        others.push(other);
    }
    // each knows the hub alone, and hears of the two others from it
    for (_, torrent, _) in &others {
        until("the others", torrent, |torrent| torrent.peers().len() == 3).await;
    }
    until("all", &hub_torrent, |torrent| torrent.peers().len() == 3).await;
    for (session, ..) in others {
        session.shutdown().await;
    }
    hub.shutdown().await;
}

/// A hand-made peer that takes part in peer exchange, whether it is offered or not.
struct Gossip {
    stream: TcpStream,
    theirs: ExtendedHandshake,
}

impl Gossip {
    async fn connect(to: SocketAddr, metainfo: &Metainfo, id: u8) -> Self {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let features = Features { fast: true, extended: true, v2: false };
        let peer_id = PeerId::new(PeerRole::Node, [id; 12]);
        let hello = Handshake { info_hash: metainfo.info_hash, peer_id, features }.encode();
        stream.write_all(&hello).await.unwrap();
        stream.read_exact(&mut [0; HANDSHAKE_LEN]).await.unwrap();
        let extended =
            ExtendedHandshake { extensions: [(NAME.into(), 1)].into(), ..Default::default() };
        let mut out = Vec::new();
        Message::HaveNone.encode(&mut out);
        Message::Extended { id: 0, payload: &extended.encode().unwrap() }.encode(&mut out);
        stream.write_all(&out).await.unwrap();
        let mut buffer = Vec::new();
        loop {
            stream.read_buf(&mut buffer).await.unwrap();
            while let Some((message, length)) = Message::parse(&buffer).unwrap() {
                let theirs = match message {
                    Message::Extended { id: 0, payload } => ExtendedHandshake::parse(payload).ok(),
                    _ => None,
                };
                buffer.drain(..length);
                if let Some(theirs) = theirs {
                    return Self { stream, theirs };
                }
            }
        }
    }

    /// Names addresses, then says to have a piece, so that it shows when all this was read.
    async fn name(&mut self, addresses: impl Iterator<Item = SocketAddr>, piece: u32) {
        let contact = |address| Contact { address, complete: true, reachable: true };
        let message = PexMessage { added: addresses.map(contact).collect(), dropped: vec![] };
        let mut out = Vec::new();
        Message::Extended { id: 1, payload: &message.encode().unwrap() }.encode(&mut out);
        Message::Have(PieceIndex(piece)).encode(&mut out);
        self.stream.write_all(&out).await.unwrap();
    }
}

/// Addresses at which nobody listens.
fn nowhere(net: u8) -> impl Iterator<Item = SocketAddr> {
    (1..=250).map(move |n| SocketAddr::from(([127, 99, net, n], 9)))
}

#[tokio::test]
async fn a_private_torrent_neither_offers_nor_takes_it() {
    let image = image(300_000, 41);
    for private in [false, true] {
        let metainfo = torrent(&image, private);
        let (session, torrent, _) = start(without_multicast(Role::Node), &metainfo, None).await;
        let mut gossip = Gossip::connect(session.local_addr(), &metainfo, 1).await;
        assert_eq!(gossip.theirs.extensions.contains_key(NAME), !private);
        gossip.name(nowhere(1).take(7), 0).await;
        until("the have", &torrent, |t| t.peers().iter().any(|p| p.pieces_have == 1)).await;
        let known = known_to(&torrent).await;
        assert_eq!(known, if private { 0 } else { 7 });
        session.shutdown().await;
    }
}

/// Addresses in the book, as the next progress says.
async fn known_to(torrent: &Torrent) -> u32 {
    let mut progress = torrent.progress();
    progress.borrow_and_update();
    // published when it changes, every quarter of a second
    let _ = tokio::time::timeout(Duration::from_millis(600), progress.changed()).await;
    progress.borrow().peers_known
}

#[tokio::test]
async fn poison_is_bounded_and_does_not_keep_the_fetch_from_its_seeder() {
    let image = image(300_000, 42);
    let metainfo = torrent(&image, false);
    let (victim, torrent, storage) = start(without_multicast(Role::Node), &metainfo, None).await;
    let mut liars = Vec::new();
    for id in 1..=3 {
        let mut liar = Gossip::connect(victim.local_addr(), &metainfo, id).await;
        // all but the first message come too early
        for round in 0..5 {
            liar.name(nowhere(id * 5 + round).take(250), u32::from(round)).await;
        }
        liars.push(liar);
    }
    until("what the liars said", &torrent, |t| {
        t.peers().iter().filter(|p| p.pieces_have == 5).count() == 3
    })
    .await;
    // all of them at one address
    let known = known_to(&torrent).await;
    assert!(known as usize <= MAX_PEERS, "{known} addresses were taken");
    let (seeder, ..) = start(without_multicast(Role::Admin), &metainfo, Some(&image)).await;
    torrent.add_peer(seeder.local_addr());
    let done = tokio::time::timeout(PATIENCE, torrent.completed()).await.unwrap().unwrap();
    assert!(done.elapsed < Duration::from_secs(20), "{:?}", done.elapsed);
    assert!(storage.to_vec() == image);
    victim.shutdown().await;
    seeder.shutdown().await;
}

#[tokio::test]
async fn multicast_finds_a_seeder_without_any_tracker() {
    let image = image(300_000, 43);
    let metainfo = torrent(&image, false);
    let (seeder, ..) = start(config(Role::Admin), &metainfo, Some(&image)).await;
    let (node, torrent, storage) = start(config(Role::Node), &metainfo, None).await;
    let done = tokio::time::timeout(PATIENCE, torrent.completed()).await;
    assert!(done.is_ok(), "not found: {:?}", *torrent.progress().borrow());
    assert!(storage.to_vec() == image);
    // private torrents, and sessions that do not want it, stay unknown
    let private = self::torrent(&image, true);
    let (hidden, ..) = start(config(Role::Admin), &private, Some(&image)).await;
    let (alone, lonely, _) = start(config(Role::Node), &private, None).await;
    let (deaf, quiet, _) = start(without_multicast(Role::Node), &metainfo, None).await;
    let (late, found, _) = start(config(Role::Node), &metainfo, None).await;
    let done = tokio::time::timeout(PATIENCE, found.completed()).await;
    assert!(done.is_ok(), "the late one found nobody: {:?}", *found.progress().borrow());
    assert_eq!(lonely.progress().borrow().peers_known, 0);
    assert_eq!(quiet.progress().borrow().peers_known, 0);
    for session in [seeder, node, hidden, alone, deaf, late] {
        session.shutdown().await;
    }
}
